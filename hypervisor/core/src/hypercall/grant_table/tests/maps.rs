//! Mapping and unmapping.

use super::*;

#[test]
fn map_and_unmap() {
    let w = World::new();
    w.grant(&w.a, 9, GTF_PERMIT_ACCESS, 0, 1);
    let page = w.bed.ram(&w.a, 1);
    let op = w.map(&w.dom0, map_op(1, 9, HOLE, GNTMAP_HOST_MAP));
    assert_eq!((op.status, op.dev_bus_addr), (GNTST_OKAY, page.address().0));
    assert_eq!(w.mapped(&w.dom0, HOLE), Some((page, P2mType::GrantMapRw)));
    assert_eq!(w.flags(&w.a, 9), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    assert_eq!(w.bed.references(page), 2);

    let again = w.map(&w.dom0, map_op(1, 9, HOLE + 1, GNTMAP_HOST_MAP | GNTMAP_READONLY));
    assert_eq!(w.mapped(&w.dom0, HOLE + 1), Some((page, P2mType::GrantMapRo)));
    assert_eq!(w.bed.references(page), 2, "one reference for the entry, however often it is mapped");

    w.bed.machine.take_asked();
    assert_eq!(w.unmap(&w.dom0, op.handle, HOLE << 12), GNTST_OKAY);
    assert_eq!(w.mapped(&w.dom0, HOLE), None);
    assert_eq!(w.flags(&w.a, 9), GTF_PERMIT_ACCESS | GTF_READING);
    assert_eq!(w.unmap(&w.dom0, again.handle, (HOLE + 1) << 12), GNTST_OKAY);
    assert_eq!(w.flags(&w.a, 9), GTF_PERMIT_ACCESS);
    assert_eq!(w.bed.machine.take_asked(), vec![Asked::FlushTlb(w.dom0.vmid); 2]);
    w.assert_idle();
}

#[test]
fn a_batch_of_unmaps_flushes_once() {
    let w = World::new();
    let ops: Vec<_> = (0..40).map(|i| map_op(1, i, HOLE + u64::from(i), GNTMAP_HOST_MAP)).collect();
    (0..40).for_each(|i| w.grant(&w.a, i, GTF_PERMIT_ACCESS, 0, u64::from(i % 8)));
    w.bed.machine.take_asked();
    let (result, mapped) = w.ops(&w.dom0, GNTTABOP_MAP_GRANT_REF, &ops);
    assert!(result == 0 && mapped.iter().all(|op| op.status == GNTST_OKAY));
    assert_eq!(w.bed.machine.take_asked(), [], "empty places need no flush");
    let ops: Vec<_> =
        mapped.iter().map(|op| UnmapGrantRef { host_addr: op.host_addr, handle: op.handle, status: 0x77, ..Default::default() }).collect();
    let (result, unmapped) = w.ops(&w.dom0, GNTTABOP_UNMAP_GRANT_REF, &ops);
    assert!(result == 0 && unmapped.iter().all(|op| op.status == GNTST_OKAY));
    assert_eq!(w.bed.machine.take_asked(), vec![Asked::FlushTlb(w.dom0.vmid); 2], "one for each 32");
    w.assert_idle();
}

#[test]
fn long_lists_are_done_in_steps() {
    let w = World::new();
    let ops = vec![map_op(1, 9, HOLE, 0); 150];
    let list = Testbed::va(LIST, 0);
    w.bed.poke(&w.a, list, &ops);
    assert_eq!(w.bed.hypercall(&w.a, GRANT_TABLE_OP, [0, list, 150, 0, 0]), (0, 3));
    assert!(w.bed.peek::<MapGrantRef>(&w.a, list, 150).iter().all(|op| op.status == GNTST_BAD_GNTREF));
}

#[test]
fn maps_are_refused_without_a_trace() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS | GTF_READONLY, 0, 1);
    w.grant(&w.a, 3, GTF_PERMIT_ACCESS, 2, 1);
    w.grant(&w.a, 4, GTF_PERMIT_ACCESS, 0, 0x1000);
    w.grant(&w.a, 5, GTF_TRANSITIVE, 0, 1);
    w.grant(&w.a, 6, GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 0, 1);
    let host = GNTMAP_HOST_MAP;
    let cases = [
        // XSA-224: a map without a mapping.
        (map_op(1, 1, HOLE, 0), GNTST_BAD_GNTREF),
        (map_op(1, 1, HOLE, GNTMAP_READONLY), GNTST_BAD_GNTREF),
        (map_op(1, 1, HOLE, GNTMAP_APPLICATION_MAP), GNTST_BAD_GNTREF),
        (map_op(1, 1, HOLE, GNTMAP_DEVICE_MAP), GNTST_GENERAL_ERROR),
        (map_op(1, 1, HOLE, host | GNTMAP_DEVICE_MAP), GNTST_GENERAL_ERROR),
        (map_op(1, 1, HOLE, host | GNTMAP_APPLICATION_MAP), GNTST_GENERAL_ERROR),
        // XSA-227.
        (map_op(1, 1, HOLE, host | GNTMAP_CONTAINS_PTE), GNTST_GENERAL_ERROR),
        (map_op(1, 1, HOLE, host | 1 << 16), GNTST_GENERAL_ERROR),
        (map_op(1, 1, HOLE, host | 1 << 31), GNTST_GENERAL_ERROR),
        (map_op(7, 1, HOLE, host), GNTST_BAD_DOMAIN),
        (map_op(DOMID_SELF, 1, HOLE, host), GNTST_BAD_DOMAIN),
        (map_op(0, 1, HOLE, host), GNTST_GENERAL_ERROR),
        (map_op(1, 512, HOLE, host), GNTST_BAD_GNTREF),
        (map_op(1, u32::MAX, HOLE, host), GNTST_BAD_GNTREF),
        (map_op(1, 0, HOLE, host), GNTST_GENERAL_ERROR),
        (map_op(1, 2, HOLE, host), GNTST_GENERAL_ERROR),
        (map_op(1, 3, HOLE, host), GNTST_GENERAL_ERROR),
        (map_op(1, 4, HOLE, host), GNTST_BAD_PAGE),
        (map_op(1, 5, HOLE, host), GNTST_GENERAL_ERROR),
        (map_op(1, 6, HOLE, host), GNTST_GENERAL_ERROR),
        (map_op(1, 1, 1 << 28, host), GNTST_GENERAL_ERROR),
        (map_op(1, 1, (1 << 52) - 1, host), GNTST_GENERAL_ERROR),
    ];
    let before: Vec<_> = (0..8).map(|r| w.flags(&w.a, r)).collect();
    for (op, expected) in cases {
        let after = w.map(&w.dom0, op);
        assert_eq!(after, MapGrantRef { status: expected, ..op }, "XSA-316: {op:x?}");
        assert_eq!(w.mapped(&w.dom0, HOLE), None);
        assert_eq!((0..8).map(|r| w.flags(&w.a, r)).collect::<Vec<_>>(), before);
        w.assert_idle();
    }
}

#[test]
fn silo_keeps_domains_apart() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 2, 1);
    w.grant(&w.dom0, 1, GTF_PERMIT_ACCESS, 2, 1);
    assert_eq!(w.map(&w.b, map_op(1, 1, HOLE, GNTMAP_HOST_MAP)).status, GNTST_PERMISSION_DENIED);
    w.assert_idle();
    assert_eq!(w.map(&w.b, map_op(0, 1, HOLE, GNTMAP_HOST_MAP)).status, GNTST_OKAY, "with Dom0 they may");
    let w = World::with(Policy::Dummy);
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 2, 1);
    assert_eq!(w.map(&w.b, map_op(1, 1, HOLE, GNTMAP_HOST_MAP)).status, GNTST_OKAY);
}

#[test]
fn only_ram_of_the_granter_can_be_granted() {
    let w = World::new();
    let host = GNTMAP_HOST_MAP;
    // A page that is itself mapped from a grant.
    w.grant(&w.dom0, 1, GTF_PERMIT_ACCESS, 1, 1);
    assert_eq!(w.map(&w.a, map_op(0, 1, RAM + 0x20, host)).status, GNTST_OKAY);
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 0x20);
    assert_eq!(w.map(&w.dom0, map_op(1, 1, HOLE, host)).status, GNTST_BAD_PAGE);
    // The table itself, which is RAM to it.
    let frame = w.a.grants.frame(0).unwrap();
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(RAM + 0x21), frame, 0, P2mType::RamRw).unwrap();
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS, 0, 0x21);
    let op = w.map(&w.dom0, map_op(1, 2, HOLE, host));
    assert_eq!((op.status, w.bed.references(frame)), (GNTST_OKAY, 2));
    assert_eq!(w.unmap(&w.dom0, op.handle, HOLE << 12), GNTST_OKAY);
    assert_eq!(w.bed.references(frame), 1);
    // A read-only page, for writing.
    let ro = w.bed.ram(&w.a, 5);
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(RAM + 5), ro, 0, P2mType::RamRo).unwrap();
    w.grant(&w.a, 3, GTF_PERMIT_ACCESS, 0, 5);
    assert_eq!(w.map(&w.dom0, map_op(1, 3, HOLE, host)).status, GNTST_BAD_PAGE);
    assert_eq!(w.map(&w.dom0, map_op(1, 3, HOLE, host | GNTMAP_READONLY)).status, GNTST_OKAY);
}

#[test]
fn a_grant_takes_the_place_of_ram() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let (displaced, page) = (w.bed.ram(&w.dom0, 4), w.bed.ram(&w.a, 1));
    w.bed.machine.take_asked();
    let op = w.map(&w.dom0, map_op(1, 1, RAM + 4, GNTMAP_HOST_MAP));
    assert_eq!((op.status, w.mapped(&w.dom0, RAM + 4)), (GNTST_OKAY, Some((page, P2mType::GrantMapRw))));
    assert_eq!(w.bed.machine.take_asked(), [Asked::FlushTlb(w.dom0.vmid)]);
    assert_eq!(w.bed.references(displaced), 1, "the page still belongs to the domain");
    assert_eq!(w.bed.hv.frames.pop_orphan(w.dom0.vmid), Some(displaced), "and is found at its death");
    assert_eq!(w.unmap(&w.dom0, op.handle, (RAM + 4) << 12), GNTST_OKAY);
    assert_eq!(w.mapped(&w.dom0, RAM + 4), None);
}

#[test]
fn the_address_within_the_page_does_not_matter() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let op = w.map(&w.dom0, MapGrantRef { host_addr: (HOLE << 12) + 0x123, ..map_op(1, 1, 0, GNTMAP_HOST_MAP) });
    assert_eq!(op.status, GNTST_OKAY);
    assert!(w.mapped(&w.dom0, HOLE).is_some() && w.mapped(&w.dom0, HOLE + 1).is_none());
    assert_eq!(w.unmap(&w.dom0, op.handle, (HOLE << 12) + 0xfff), GNTST_OKAY);
    w.assert_idle();
}

#[test]
fn a_handle_is_unmapped_once() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let op = w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP));
    let at = HOLE << 12;
    for bad in [op.handle + 1, 256, 511, 512, u32::MAX] {
        assert_eq!(w.unmap(&w.dom0, bad, at), GNTST_BAD_HANDLE);
    }
    assert_eq!(w.unmap(&w.a, op.handle, at), GNTST_BAD_HANDLE, "someone else's");
    // XSA-394, XSA-224: no address, a wrong one, then the right one.
    assert_eq!(w.unmap(&w.dom0, op.handle, 0), GNTST_OKAY);
    assert!(w.mapped(&w.dom0, HOLE).is_some(), "no address is nothing to do");
    for wrong in [at + 0x1000, at - 1, RAM << 12, u64::MAX] {
        assert_eq!(w.unmap(&w.dom0, op.handle, wrong), GNTST_GENERAL_ERROR);
        assert!(w.mapped(&w.dom0, HOLE).is_some() && w.flags(&w.a, 1) & GTF_READING != 0);
    }
    let twice = vec![UnmapGrantRef { host_addr: at, dev_bus_addr: 0xfff, handle: op.handle, ..Default::default() }; 3];
    let (_, done) = w.ops(&w.dom0, GNTTABOP_UNMAP_GRANT_REF, &twice);
    assert_eq!(done.iter().map(|op| op.status).collect::<Vec<_>>(), [GNTST_OKAY, GNTST_BAD_HANDLE, GNTST_BAD_HANDLE]);
    assert_eq!(w.unmap(&w.dom0, op.handle, at), GNTST_BAD_HANDLE);
    assert_eq!(w.unmap(&w.dom0, op.handle, 0), GNTST_BAD_HANDLE);
    w.assert_idle();
}

#[test]
fn nothing_replaces_a_mapping() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let op = w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP));
    let replace = |new_addr| {
        let op = UnmapGrantRef { host_addr: HOLE << 12, dev_bus_addr: new_addr, handle: op.handle, ..Default::default() };
        w.op(&w.dom0, GNTTABOP_UNMAP_AND_REPLACE, op).status
    };
    assert_eq!(replace(RAM << 12), GNTST_GENERAL_ERROR);
    assert!(w.mapped(&w.dom0, HOLE).is_some());
    assert_eq!(replace(0), GNTST_OKAY);
    w.assert_idle();
}

/// XSA-234: what lies at the address is another mapping.
#[test]
fn a_stolen_place_is_not_unmapped() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS, 0, 2);
    let a = w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP));
    w.dom0.p2m.edit(&w.bed.hv.frames).unmap(Gfn(HOLE)).unwrap();
    let b = w.map(&w.dom0, map_op(1, 2, HOLE, GNTMAP_HOST_MAP));
    assert_eq!(w.unmap(&w.dom0, a.handle, HOLE << 12), GNTST_GENERAL_ERROR);
    assert_eq!(w.mapped(&w.dom0, HOLE).map(|m| m.0), Some(w.bed.ram(&w.a, 2)));
    assert_eq!(w.unmap(&w.dom0, b.handle, HOLE << 12), GNTST_OKAY);
    assert_eq!(w.unmap(&w.dom0, a.handle, HOLE << 12), GNTST_OKAY, "the place is empty: only the pin is left");
    w.assert_idle();
}

#[test]
fn handles_run_out_without_a_trace() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    (2..6).for_each(|r| w.grant(&w.a, r, GTF_PERMIT_ACCESS, 0, 1));
    let mut handles = std::collections::HashSet::new();
    for i in 0..512 {
        let op = w.map(&w.dom0, map_op(1, 1 + i / 128, HOLE + u64::from(i), GNTMAP_HOST_MAP));
        assert_eq!(op.status, GNTST_OKAY);
        assert!(handles.insert(op.handle));
    }
    assert_eq!(w.map(&w.dom0, map_op(1, 5, HOLE, GNTMAP_HOST_MAP)).status, GNTST_NO_SPACE);
    assert_eq!(w.flags(&w.a, 5), GTF_PERMIT_ACCESS);
}

#[test]
fn a_mapping_outlives_its_granter() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let op = w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP));
    let (page, vmid) = (w.bed.ram(&w.a, 1), w.a.vmid);
    while w.bed.hv.destroy(&w.a) == crate::domain::destroy::Progress::More {}
    assert_eq!(w.bed.references(page), 1, "the mapping's");
    assert!(w.bed.hv.domain_of(vmid).is_some(), "it waits for its page");
    assert_eq!(w.unmap(&w.dom0, op.handle, HOLE << 12), GNTST_OKAY);
    assert!(w.bed.hv.domain_of(vmid).is_none());
    w.bed.hv.audit().unwrap();
    assert_eq!(w.bed.pages_in_use(), []);
}

/// A page that the hypervisor shares with a domain is none of its `tot_pages`.
#[test]
fn a_mapping_of_a_shared_page_outlives_its_granter_too() {
    let w = World::new();
    let pages = || w.bed.hv.frames.free_pages() + w.dom0.p2m.pool_used();
    let before = pages();
    let a = w.bed.domain(3, 8);
    a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE), a.shared_info, 0, P2mType::RamRw).unwrap();
    w.grant(&a, 1, GTF_PERMIT_ACCESS, 0, HOLE - RAM);
    let op = w.map(&w.dom0, map_op(3, 1, HOLE, GNTMAP_HOST_MAP));
    assert_eq!((op.status, w.mapped(&w.dom0, HOLE)), (GNTST_OKAY, Some((a.shared_info, P2mType::GrantMapRw))));
    while w.bed.hv.destroy(&a) == crate::domain::destroy::Progress::More {}
    w.bed.hv.audit().unwrap();
    assert_eq!(w.unmap(&w.dom0, op.handle, HOLE << 12), GNTST_OKAY);
    assert!(w.bed.hv.domain_of(a.vmid).is_none());
    w.assert_idle();
    assert!(w.bed.hv.frames.account(a.vmid).is_empty(), "its VMID is free again");
    assert_eq!(pages(), before);
}

#[test]
fn a_dead_mapper_lets_go() {
    let w = World::new();
    w.grant(&w.dom0, 1, GTF_PERMIT_ACCESS, 1, 1);
    assert_eq!(w.map(&w.a, map_op(0, 1, HOLE, GNTMAP_HOST_MAP)).status, GNTST_OKAY);
    assert_eq!(w.map(&w.a, map_op(0, 1, HOLE + 1, GNTMAP_HOST_MAP | GNTMAP_READONLY)).status, GNTST_OKAY);
    while w.bed.hv.destroy(&w.a) == crate::domain::destroy::Progress::More {}
    assert_eq!(w.flags(&w.dom0, 1), GTF_PERMIT_ACCESS);
    w.assert_idle();
    assert!(w.bed.hv.domains.get(DomainId(1)).is_none());
}

/// What can fail is done before anything is done: the last operation of a list lies half in a hole.
#[test]
fn an_operation_that_cannot_be_answered_is_not_done() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let list = Testbed::va(8, 0) - 32 - 16;
    w.bed.poke(&w.dom0, list, &[map_op(1, 1, HOLE, GNTMAP_HOST_MAP)]);
    w.bed.poke(&w.dom0, list + 32, &[HOLE << 12, u64::from(GNTMAP_HOST_MAP) | 1 << 32]);
    assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, [0, list, 2, 0, 0]).0, EFAULT);
    let done = w.bed.peek::<MapGrantRef>(&w.dom0, list, 1)[0];
    assert_eq!(done.status, GNTST_OKAY);
    let mut mappings = 0;
    w.dom0.grants.for_each_mapping(|_| mappings += 1);
    assert_eq!(mappings, 1);
    let list = Testbed::va(8, 0) - 24 - 16;
    w.bed.poke(&w.dom0, list, &[UnmapGrantRef { host_addr: HOLE << 12, handle: done.handle, ..Default::default() }]);
    assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, [1, list, 2, 0, 0]).0, EFAULT);
    assert_eq!(w.bed.peek::<UnmapGrantRef>(&w.dom0, list, 1)[0].status, GNTST_OKAY);
    w.assert_idle();
}
