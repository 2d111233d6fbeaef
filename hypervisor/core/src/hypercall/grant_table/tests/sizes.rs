//! Size, version, cache maintenance.

use super::*;

fn setup(dom: u16, nr_frames: u32, frame_list: u64) -> SetupTable {
    SetupTable { dom, nr_frames, status: 0x77, frame_list, ..Default::default() }
}

fn query(w: &World, caller: &Arc<Domain>, dom: u16) -> (i16, u32, u32) {
    let op = w.op(caller, GNTTABOP_QUERY_SIZE, QuerySize { dom, ..Default::default() });
    (op.status, op.nr_frames, op.max_nr_frames)
}

#[test]
fn the_table_grows_and_tells_where_it_is() {
    let w = World::new();
    let list = Testbed::va(3, 0);
    w.bed.poke(&w.a, list, &[0xa5a5_a5a5_a5a5_a5a5_u64; 5]);
    assert_eq!(query(&w, &w.a, DOMID_SELF), (GNTST_OKAY, 1, 4));
    assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(DOMID_SELF, 1, list)).status, GNTST_OKAY);
    assert_eq!(w.bed.peek::<u64>(&w.a, list, 2), [u64::MAX, 0xa5a5_a5a5_a5a5_a5a5], "XSA-101: mapped nowhere yet");
    let frame = w.a.grants.frame(0).unwrap();
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE), frame, 0, P2mType::RamRw).unwrap();
    assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(1, 3, list)).status, GNTST_OKAY);
    assert_eq!(w.bed.peek::<u64>(&w.a, list, 3), [HOLE, u64::MAX, u64::MAX]);
    assert_eq!(query(&w, &w.a, 1), (GNTST_OKAY, 3, 4));
    assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(1, 0, 0)).status, GNTST_OKAY);
    w.assert_idle();
}

#[test]
fn the_table_does_not_grow_beyond_its_limit() {
    let w = World::new();
    let before = w.bed.hv.frames.free_pages();
    for frames in [5, 0x8000_0000, u32::MAX] {
        assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(DOMID_SELF, frames, Testbed::va(3, 0))).status, GNTST_GENERAL_ERROR);
    }
    assert_eq!(w.bed.hv.frames.free_pages(), before, "XSA-26");
    for list in [0, u64::MAX - 7, HOLE << 12] {
        assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(DOMID_SELF, 2, list)).status, GNTST_BAD_VIRT_ADDR);
    }
    assert_eq!(query(&w, &w.a, DOMID_SELF), (GNTST_OKAY, 2, 4));
}

#[test]
fn a_table_that_cannot_grow_stays() {
    let w = World::new();
    let hoard: Vec<_> = core::iter::from_fn(|| w.bed.hv.frames.allocate(Vmid(0), 0, crate::frames::FrameKind::Hypervisor).ok()).collect();
    for (spare, page) in hoard.into_iter().enumerate().take(3) {
        assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(DOMID_SELF, 4, 0)).status, GNTST_GENERAL_ERROR);
        assert_eq!((query(&w, &w.a, DOMID_SELF).1, w.bed.hv.frames.free_pages()), (1, spare as u64));
        w.bed.hv.frames.put(page);
    }
    let op = w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(DOMID_SELF, 4, Testbed::va(3, 0)));
    assert_eq!((op.status, query(&w, &w.a, DOMID_SELF).1), (GNTST_OKAY, 4));
}

#[test]
fn only_the_control_domain_sizes_others() {
    let w = World::new();
    assert_eq!(query(&w, &w.a, 2).0, GNTST_PERMISSION_DENIED);
    assert_eq!(query(&w, &w.a, 9).0, GNTST_BAD_DOMAIN);
    assert_eq!(query(&w, &w.dom0, 1), (GNTST_OKAY, 1, 4));
    assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(2, 1, 0)).status, GNTST_PERMISSION_DENIED);
    assert_eq!(w.op(&w.a, GNTTABOP_SETUP_TABLE, setup(9, 1, 0)).status, GNTST_BAD_DOMAIN);
    assert_eq!(w.op(&w.dom0, GNTTABOP_SETUP_TABLE, setup(1, 2, Testbed::va(3, 0))).status, GNTST_OKAY);
    assert_eq!(query(&w, &w.a, DOMID_SELF).1, 2);
}

#[test]
fn version_1_is_the_only_one() {
    let w = World::new();
    for (version, expected) in [(1, 0), (2, -38), (0, EINVAL), (3, EINVAL), (u32::MAX, EINVAL)] {
        let (result, ops) = w.ops(&w.a, GNTTABOP_SET_VERSION, &[SetVersion { version }]);
        assert_eq!((result, ops[0].version), (expected, 1));
    }
    let version = |caller: &Arc<Domain>, dom| {
        let (result, ops) = w.ops(caller, GNTTABOP_GET_VERSION, &[GetVersion { dom, _pad: 7, version: 9 }]);
        (result, ops[0].version)
    };
    assert_eq!([version(&w.a, DOMID_SELF), version(&w.dom0, 1)], [(0, 1); 2]);
    assert_eq!([version(&w.a, 9), version(&w.a, 2)], [(-3, 9), (-1, 9)]);
    let frames = |nr_frames, dom| {
        w.op(&w.a, GNTTABOP_GET_STATUS_FRAMES, GetStatusFrames { nr_frames, dom, status: 0x77, frame_list: Testbed::va(3, 0) }).status
    };
    assert_eq!([frames(1, DOMID_SELF), frames(u32::MAX, 1)], [GNTST_GENERAL_ERROR; 2]);
    assert_eq!([frames(1, 9), frames(1, 2)], [GNTST_BAD_DOMAIN, GNTST_PERMISSION_DENIED]);
}

#[test]
fn caches_are_maintained_for_pages_in_use() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let flush = |caller: &Arc<Domain>, mfn: Mfn, offset, length, op| {
        w.ops(caller, GNTTABOP_CACHE_FLUSH, &[CacheFlush { dev_bus_addr: mfn.address().0 + 5, offset, length, op }]).0
    };
    let (own, foreign) = (w.bed.ram(&w.dom0, 1), w.bed.ram(&w.a, 1));
    assert_eq!(flush(&w.dom0, own, 0, 4096, GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL), 0);
    assert_eq!(flush(&w.dom0, own, 4095, 1, GNTTAB_CACHE_INVAL), 0);
    assert_eq!(flush(&w.dom0, foreign, 0, 1, GNTTAB_CACHE_CLEAN), EINVAL, "not mapped");
    let op = w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP));
    assert_eq!(flush(&w.dom0, foreign, 0, 1, GNTTAB_CACHE_CLEAN), 0);
    assert_eq!(flush(&w.b, foreign, 0, 1, GNTTAB_CACHE_CLEAN), EINVAL);
    assert_eq!(w.unmap(&w.dom0, op.handle, HOLE << 12), GNTST_OKAY);
    // XSA-232: pages that belong to nobody, and numbers that are no pages.
    assert_eq!(flush(&w.dom0, Mfn(0x8_0000 + 1023), 0, 1, GNTTAB_CACHE_CLEAN), -1);
    for mfn in [Mfn(0), Mfn(0x8_0000 - 1), Mfn(0x8_0000 + 1024), Mfn(u64::MAX >> 13)] {
        assert_eq!(flush(&w.dom0, mfn, 0, 1, GNTTAB_CACHE_CLEAN), EINVAL);
    }
    for (offset, length, op) in [(4096, 0, 1), (0, 4097, 1), (1, 4096, 1), (0xffff, 0xffff, 1), (0, 1, 4), (0, 1, 1 << 31 | 1)] {
        assert_eq!(flush(&w.dom0, own, offset, length, op), EINVAL);
    }
    assert_eq!([flush(&w.dom0, Mfn(0), 0, 0, 1), flush(&w.dom0, Mfn(0), 4095, 1, 0)], [0; 2], "nothing to do");
    w.assert_idle();
}

#[test]
fn a_made_up_place_to_go_on_from_is_harmless() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    assert_eq!(w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP)).status, GNTST_OKAY);
    let list = Testbed::va(LIST, 0);
    let op = |length| CacheFlush { dev_bus_addr: w.bed.ram(&w.a, 1).address().0, offset: 0, length, op: GNTTAB_CACHE_CLEAN };
    for place in [1_u64 << 12, 0x7fff_f000, 0xffff_f000] {
        let args = [u64::from(GNTTABOP_CACHE_FLUSH) | place, list, 1, 0, 0];
        w.bed.poke(&w.dom0, list, &[op(1)]);
        assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, args), (EINVAL, 1), "the grant lies before it");
        w.bed.poke(&w.dom0, list, &[op(0)]);
        assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, args), (-84, 1));
    }
}
