//! Populate, decrease, increase.

use super::*;

#[test]
fn populated_pages_are_zero_and_the_domains_own() {
    let w = World::new();
    assert_eq!(w.populate(&w.a, DOMID_SELF, 0, &[HOLE, HOLE + 5]), 2);
    let (mfn, kind) = w.at(&w.a, HOLE + 5).unwrap();
    assert_eq!(kind, P2mType::RamRw);
    assert_eq!(w.bed.machine.load_u64(mfn.address()), 0);
    assert_eq!(w.pages(&w.a), 10);
    assert_eq!(w.decrease(&w.a, 1, 0, &[HOLE, HOLE + 5]), 2);
    assert_eq!((w.pages(&w.a), w.at(&w.a, HOLE)), (8, None));
    w.bed.hv.audit().unwrap();
}

#[test]
fn the_toolstack_builds_a_domain_in_blocks() {
    let w = World::new();
    assert_eq!(w.populate(&w.dom0, 1, 9, &[HOLE]), 1);
    assert_eq!(w.a.p2m.lookup(Gfn(HOLE + 77)).unwrap().order, 9);
    assert_eq!(w.populate(&w.dom0, 1, 2, &[HOLE + 512, HOLE + 517]), 2, "not aligned");
    assert_eq!(w.pages(&w.a), 8 + 512 + 8);
    // A balloon takes single pages out of the block.
    assert_eq!(w.decrease(&w.a, DOMID_SELF, 0, &[HOLE + 77]), 1);
    assert_eq!((w.at(&w.a, HOLE + 77), w.at(&w.a, HOLE + 78).is_some()), (None, true));
    assert_eq!(w.decrease(&w.a, DOMID_SELF, 6, &[HOLE + 128]), 1);
    assert_eq!(w.pages(&w.a), 8 + 512 + 8 - 1 - 64);
}

#[test]
fn max_pages_stops_a_domain_but_not_others() {
    let w = World::new();
    w.bed.hv.frames.account(w.a.vmid).set_max_pages(10);
    let gfns: Vec<u64> = (HOLE..HOLE + 5).collect();
    assert_eq!(w.populate(&w.a, DOMID_SELF, 0, &gfns), 2);
    assert_eq!(w.pages(&w.a), 10);
    assert_eq!(w.populate(&w.b, DOMID_SELF, 0, &gfns), 5);
    assert_eq!(w.populate(&w.a, DOMID_SELF, 9, &[HOLE + 512]), 0);
    w.bed.hv.audit().unwrap();
}

#[test]
fn a_long_list_is_continued() {
    let w = World::new();
    let gfns: Vec<u64> = (0..512).map(|n| HOLE + n).collect();
    let list = w.list(&w.a, 1, &gfns);
    let arg = MemoryReservation { extent_start: list - 800, nr_extents: 612, domid: DOMID_SELF, ..Default::default() };
    w.bed.poke(&w.a, list - 800, &(0..100).map(|n| HOLE + 512 + n).collect::<Vec<u64>>());
    for op in [XENMEM_POPULATE_PHYSMAP, XENMEM_DECREASE_RESERVATION] {
        w.bed.poke(&w.a, Testbed::va(ARG, 0), &[arg]);
        assert_eq!(w.bed.hypercall(&w.a, MEMORY_OP, [op, Testbed::va(ARG, 0), 0, 0, 0]), (612, 2));
        assert_eq!(w.pages(&w.a), if op == XENMEM_POPULATE_PHYSMAP { 620 } else { 8 });
    }
}

#[test]
fn bad_arguments_are_none_done() {
    let w = World::new();
    let before = w.snapshot();
    let good = w.reservation(&w.a, DOMID_SELF, 0, &[HOLE]);
    let flags = |mem_flags| MemoryReservation { mem_flags, ..good };
    for (what, bad) in [
        ("order", MemoryReservation { extent_order: 10, ..good }),
        ("order", MemoryReservation { extent_order: 64, ..good }),
        ("order", MemoryReservation { extent_order: u32::MAX, ..good }),
        ("count", MemoryReservation { nr_extents: 0, ..good }),
        ("count", MemoryReservation { nr_extents: (1 << 26) + 1, ..good }),
        ("count", MemoryReservation { nr_extents: u64::MAX, ..good }),
        ("somebody else", MemoryReservation { domid: 2, ..good }),
        ("the control domain", MemoryReservation { domid: 0, ..good }),
        ("nobody", MemoryReservation { domid: 99, ..good }),
        ("nobody", MemoryReservation { domid: 0x7ff2, ..good }),
        ("list", MemoryReservation { extent_start: 0, ..good }),
        ("list", MemoryReservation { extent_start: u64::MAX, ..good }),
        ("list", MemoryReservation { extent_start: Testbed::va(8, 0) - 7, ..good }),
        ("address bits", flags(12)),
        ("address bits", flags(13)),
    ] {
        for op in [XENMEM_POPULATE_PHYSMAP, XENMEM_DECREASE_RESERVATION] {
            assert_eq!(w.op(&w.a, op, bad), 0, "{what} {op}");
        }
    }
    for bad in [flags(XENMEMF_POPULATE_ON_DEMAND), flags(XENMEMF_EXACT_NODE_REQUEST | 1 << 8), flags(XENMEMF_EXACT_NODE_REQUEST | 3 << 8)] {
        assert_eq!(w.op(&w.a, XENMEM_POPULATE_PHYSMAP, bad), 0);
    }
    for gfn in [1 << 28, (1 << 36) - 1, 1 << 36, 1 << 51, 1 << 52, u64::MAX - 1, u64::MAX] {
        assert_eq!(w.populate(&w.a, DOMID_SELF, 0, &[gfn]), 0, "{gfn:#x}");
        assert_eq!(w.decrease(&w.a, DOMID_SELF, 0, &[gfn]), 0, "{gfn:#x}");
        assert_eq!(w.decrease(&w.a, DOMID_SELF, 9, &[gfn]), 0, "{gfn:#x}");
    }
    assert!(before == w.snapshot());
    w.list(&w.a, 1, &[HOLE]);
    assert_eq!(w.op(&w.a, XENMEM_POPULATE_PHYSMAP, flags(3 << 8)), 1, "a wish for a node is no demand");
}

#[test]
fn no_table_means_no_page() {
    let w = World::new();
    w.a.p2m.set_pool(w.a.p2m.pool_used()).unwrap();
    let before = w.snapshot();
    assert_eq!(w.populate(&w.a, DOMID_SELF, 0, &[HOLE << 9]), 0);
    assert_eq!(w.populate(&w.dom0, 1, 4, &[HOLE << 9]), 0);
    assert!(before == w.snapshot());
}

#[test]
fn a_block_that_cannot_be_split_stays() {
    let w = World::new();
    assert_eq!(w.populate(&w.dom0, 1, 9, &[HOLE]), 1);
    w.a.p2m.set_pool(w.a.p2m.pool_used()).unwrap();
    let before = w.snapshot();
    assert_eq!(w.decrease(&w.a, DOMID_SELF, 0, &[HOLE + 3]), 0);
    assert!(before == w.snapshot() && w.at(&w.a, HOLE + 3).is_some());
}

#[test]
fn only_own_ram_can_be_given_up() {
    let w = World::new();
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
    assert_eq!(w.foreign(&w.dom0, 1, &[RAM + 4], &[HOLE]), (0, vec![0]));
    let granted = w.bed.ram(&w.b, 3);
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE + 1), granted, 0, P2mType::GrantMapRw).unwrap();
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE + 2), Mfn(1), 0, P2mType::MmioDirectC).unwrap();
    let before = w.snapshot();
    for gfn in [HOLE + 1, HOLE + 2, HOLE + 3] {
        assert_eq!(w.decrease(&w.a, DOMID_SELF, 0, &[gfn]), 0);
    }
    assert_eq!(w.decrease(&w.dom0, 0, 0, &[HOLE]), 0, "a foreign mapping");
    // A page of the hypervisor leaves the address space but stays the hypervisor's.
    assert_eq!(w.decrease(&w.a, DOMID_SELF, 0, &[HOLE]), 1);
    assert!(before == w.snapshot() && w.at(&w.a, HOLE).is_none());
    // A page that Dom0 has mapped survives until Dom0 lets go.
    let mfn = w.bed.ram(&w.a, 4);
    assert_eq!(w.decrease(&w.a, DOMID_SELF, 0, &[RAM + 4]), 1);
    assert_eq!((w.bed.references(mfn), w.pages(&w.a)), (1, 8));
    assert_eq!(w.remove(&w.dom0, DOMID_SELF, HOLE), 0);
    assert_eq!((w.bed.references(mfn), w.pages(&w.a)), (0, 7));
}

#[test]
fn populating_over_something_replaces_it() {
    let w = World::new();
    let old = w.bed.ram(&w.a, 5);
    assert_eq!(w.populate(&w.a, DOMID_SELF, 1, &[RAM + 5]), 1);
    assert_ne!(w.bed.ram(&w.a, 5), old);
    assert_eq!(w.pages(&w.a), 10, "the old page still belongs to the domain");
    assert!(w.bed.hv.frames.pop_orphan(w.a.vmid).is_some());
}

#[test]
fn increase_gives_pages_without_a_place() {
    let w = World::new();
    let args = MemoryReservation { nr_extents: 3, extent_order: 1, domid: 1, ..Default::default() };
    assert_eq!(w.op(&w.dom0, XENMEM_INCREASE_RESERVATION, args), 3);
    assert_eq!(w.pages(&w.a), 14);
    let orphans = core::iter::from_fn(|| w.bed.hv.frames.pop_orphan(w.a.vmid)).count();
    assert_eq!(orphans, 6);
}

#[test]
fn a_direct_mapped_domain_gets_the_same_page_back() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, first) = direct_dom0(&bed, 16);
    let other = bed.domain(1, 1);
    let list = first << 12;
    let call = |op, gfn: u64, order| {
        bed.poke(&dom0, list, &[gfn]);
        let args = MemoryReservation { extent_start: list, nr_extents: 1, extent_order: order, domid: DOMID_SELF, ..Default::default() };
        bed.poke(&dom0, list + 64, &[args]);
        bed.hypercall(&dom0, MEMORY_OP, [op, list + 64, 0, 0, 0]).0
    };
    bed.machine.write(Mfn(first + 4).address(), b"mine");
    let free = bed.hv.frames.free_pages();
    assert_eq!(call(XENMEM_DECREASE_RESERVATION, first + 4, 1), 1);
    assert_eq!(dom0.p2m.lookup(Gfn(first + 4)), None);
    assert_eq!((bed.hv.frames.account(dom0.vmid).tot_pages(), bed.hv.frames.free_pages()), (16, free), "kept");
    assert_eq!(call(XENMEM_POPULATE_PHYSMAP, first + 4, 0), 1);
    assert_eq!(dom0.p2m.lookup(Gfn(first + 4)).unwrap().mfn, Mfn(first + 4));
    assert_eq!(call(XENMEM_POPULATE_PHYSMAP, first + 4, 1), 1, "one of the two is there already");
    assert_eq!(bed.hv.frames.pop_orphan(dom0.vmid), None);
    for gfn in [bed.ram(&other, 0).0, dom0.shared_info.0, 1, u64::MAX, first + 16] {
        assert_eq!(call(XENMEM_POPULATE_PHYSMAP, gfn, 0), 0, "{gfn:#x} is no RAM of its own");
    }
    assert_eq!(call(XENMEM_POPULATE_PHYSMAP, first + 14, 2), 0, "only half of it");
    assert_eq!(bed.hv.frames.account(dom0.vmid).tot_pages(), 16);
}

#[test]
fn a_dying_domain_gets_nothing() {
    let w = World::new();
    w.a.life.lock().dying = crate::domain::Dying::Dying;
    let before = w.snapshot();
    assert_eq!(w.populate(&w.dom0, 1, 0, &[HOLE]), 0);
    assert_eq!(w.decrease(&w.dom0, 1, 0, &[RAM]), 0);
    assert_eq!(w.acquire(&w.dom0, 1, 0, &[HOLE]), EINVAL);
    assert!(before == w.snapshot());
}
