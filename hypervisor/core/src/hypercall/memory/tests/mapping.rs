//! Pages of the hypervisor and of other domains.

use super::*;

#[test]
fn a_page_of_the_hypervisor_is_mapped_at_one_place() {
    let w = World::new();
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
    assert_eq!(w.at(&w.a, HOLE), Some((w.a.shared_info, P2mType::RamRw)));
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_SHARED_INFO, 0, HOLE + 1), EBUSY);
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_SHARED_INFO, 1, HOLE + 1), EINVAL);
    assert_eq!(w.remove(&w.a, DOMID_SELF, HOLE), 0);
    assert_eq!(w.remove(&w.a, DOMID_SELF, HOLE), ENOENT);
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_SHARED_INFO, 0, HOLE + 1), 0);
    assert_eq!(w.bed.pages_in_use(), []);
}

#[test]
fn a_shared_page_may_take_the_place_of_ram() {
    let w = World::new();
    assert_eq!(w.add(&w.a, 1, XENMAPSPACE_SHARED_INFO, 0, RAM + 5), 0);
    assert_eq!(w.pages(&w.a), 8, "the page replaced is still the domain's");
    assert!(w.bed.hv.frames.pop_orphan(w.a.vmid).is_some());
}

#[test]
fn the_grant_table_grows_as_it_is_mapped() {
    let w = World::new();
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_GRANT_TABLE, 2, HOLE), 0);
    assert_eq!(w.a.grants.frame_count(), 3);
    assert_eq!(w.at(&w.a, HOLE), Some((w.a.grants.frame(2).unwrap(), P2mType::RamRw)));
    let before = w.snapshot();
    for idx in [4, 64, XENMAPIDX_GRANT_TABLE_STATUS, u32::MAX.into(), u64::MAX] {
        assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_GRANT_TABLE, idx, HOLE + 1), EINVAL, "{idx:#x}");
    }
    assert!(before == w.snapshot());
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_GRANT_TABLE, 1 << 32 | 2, HOLE + 1), EBUSY, "32 bits count");
}

#[test]
fn spaces_and_places_are_checked() {
    let w = World::new();
    let before = w.snapshot();
    let add = |space, gpfn| w.add(&w.a, DOMID_SELF, space, 0, gpfn);
    for space in [XENMAPSPACE_GMFN, XENMAPSPACE_GMFN_FOREIGN, 6, u32::MAX] {
        assert_eq!(add(space, HOLE), ENOSYS, "{space}");
    }
    assert_eq!(add(XENMAPSPACE_SHARED_INFO, u64::MAX), EINVAL);
    for gpfn in [1 << 28, (1 << 36) - 1, 1 << 36, 1 << 51, u64::MAX - 1] {
        assert_eq!(add(XENMAPSPACE_SHARED_INFO, gpfn), EINVAL, "{gpfn:#x}");
    }
    assert_eq!(add(XENMAPSPACE_DEV_MMIO, HOLE), EACCES);
    let range = |size, idx, gpfn, done: u64| {
        let args = AddToPhysmap { domid: DOMID_SELF, size, space: XENMAPSPACE_GMFN_RANGE, idx, gpfn };
        w.op(&w.a, XENMEM_ADD_TO_PHYSMAP | done << 6, args)
    };
    assert_eq!((range(0, 0, HOLE, 0), range(1, 0, HOLE, 0), range(1, 0, HOLE, 2)), (0, ENOSYS, EILSEQ));
    assert_eq!((range(16, u64::MAX - 3, HOLE, 0), range(16, 0, u64::MAX - 3, 0)), (EOVERFLOW, EOVERFLOW));
    assert_eq!(w.add(&w.a, 2, XENMAPSPACE_SHARED_INFO, 0, HOLE), EPERM);
    assert_eq!(w.add(&w.a, 99, XENMAPSPACE_SHARED_INFO, 0, HOLE), ESRCH);
    assert_eq!(w.remove(&w.a, 2, RAM), EPERM);
    assert!(before == w.snapshot() && w.at(&w.a, HOLE).is_none());
    // The toolstack may do it for a domain it builds.
    assert_eq!(w.add(&w.dom0, 1, XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
}

#[test]
fn dom0_maps_devices_but_not_ram() {
    let w = World::new();
    assert_eq!(w.add(&w.dom0, DOMID_SELF, XENMAPSPACE_DEV_MMIO, 0x9000, HOLE), 0);
    assert_eq!(w.at(&w.dom0, HOLE), Some((Mfn(0x9000), P2mType::MmioDirectC)));
    assert_eq!(w.add(&w.dom0, DOMID_SELF, XENMAPSPACE_DEV_MMIO, w.bed.ram(&w.a, 0).0, HOLE + 1), 0);
    assert_eq!(w.at(&w.dom0, HOLE + 1), None);
    assert_eq!(w.remove(&w.dom0, DOMID_SELF, HOLE), ENOENT, "devices are not removed so");
}

#[test]
fn dom0_maps_foreign_pages_and_holds_them() {
    let w = World::new();
    let (ram, shared) = (w.bed.ram(&w.a, 0), w.a.shared_info);
    assert_eq!(w.add(&w.a, DOMID_SELF, XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
    let read_only = w.bed.ram(&w.a, 1);
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE + 1), read_only, 0, P2mType::RamRo).unwrap();
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE + 2), w.bed.ram(&w.b, 1), 0, P2mType::GrantMapRw).unwrap();
    w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(HOLE + 3), Mfn(1), 0, P2mType::MmioDirectC).unwrap();
    let from = [RAM, HOLE, HOLE + 1, HOLE + 2, HOLE + 3, HOLE + 4, u64::MAX, RAM, RAM];
    let to = [HOLE, HOLE + 1, HOLE + 2, HOLE + 3, HOLE + 4, HOLE + 5, HOLE + 6, u64::MAX, 1 << 40];
    let (result, errors) = w.foreign(&w.dom0, 1, &from, &to);
    assert_eq!((result, errors), (0, vec![0, 0, 0, -22, -22, -22, -22, -22, -22]));
    assert_eq!(w.at(&w.dom0, HOLE), Some((ram, P2mType::MapForeignRw)));
    assert_eq!(w.at(&w.dom0, HOLE + 1), Some((shared, P2mType::MapForeignRw)));
    assert_eq!(w.at(&w.dom0, HOLE + 2).unwrap().1, P2mType::MapForeignRo);
    assert_eq!((w.bed.references(ram), w.bed.references(shared)), (2, 2));
    // Mapping something else over it drops the reference, and so does removing it.
    assert_eq!(w.foreign(&w.dom0, 2, &[RAM], &[HOLE]).1, [0]);
    assert_eq!(w.bed.references(ram), 1);
    for gfn in [HOLE, HOLE + 1, HOLE + 2] {
        assert_eq!(w.remove(&w.dom0, DOMID_SELF, gfn), 0);
    }
    assert_eq!(w.bed.pages_in_use(), []);
}

#[test]
fn foreign_mapping_is_a_privilege() {
    let w = World::new();
    let refusals = [
        (&w.a, 0, -1),
        (&w.a, 2, -1),
        (&w.a, 9, -3),
        (&w.a, 1, -3),
        (&w.a, DOMID_SELF, -3),
        (&w.a, DOMID_XEN, -1),
        (&w.dom0, 0, -3),
        (&w.dom0, DOMID_SELF, -3),
    ];
    for (caller, owner, error) in refusals {
        assert_eq!(w.foreign(caller, owner, &[RAM], &[HOLE]), (0, vec![error]), "{owner:#x}");
    }
    assert_eq!(w.bed.pages_in_use(), []);
}

#[test]
fn a_batch_stops_only_where_it_cannot_answer() {
    let w = World::new();
    let args = |size, errs| AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GMFN_FOREIGN as u16,
        size,
        foreign_domid: 1,
        idxs: w.list(&w.dom0, 1, &[RAM, RAM + 1]),
        gpfns: w.list(&w.dom0, 2, &[HOLE, HOLE + 1]),
        errs,
    };
    let call = |args| w.op(&w.dom0, XENMEM_ADD_TO_PHYSMAP_BATCH, args);
    // The second error would lie beyond RAM: the second page is not mapped.
    assert_eq!(call(args(2, Testbed::va(8, 0) - 4)), EFAULT);
    assert_eq!((w.at(&w.dom0, HOLE).is_some(), w.at(&w.dom0, HOLE + 1)), (true, None));
    assert_eq!(call(args(0, 0)), 0);
    let space = |space: u32, res0| AddToPhysmapBatch { space: space as u16, foreign_domid: res0, ..args(1, Testbed::va(3, 0)) };
    assert_eq!(call(space(XENMAPSPACE_GMFN_RANGE, 0)), EOPNOTSUPP);
    assert_eq!(call(space(XENMAPSPACE_DEV_MMIO, 1)), EOPNOTSUPP);
    assert_eq!(call(space(XENMAPSPACE_GMFN, 0)), 0);
    assert_eq!(w.bed.peek::<i32>(&w.dom0, Testbed::va(3, 0), 1), [-38]);
    assert_eq!(call(AddToPhysmapBatch { domid: 9, ..args(1, 0) }), ESRCH);
    assert_eq!(w.op(&w.dom0, XENMEM_ADD_TO_PHYSMAP_BATCH | 3 << 6, args(2, 0)), EILSEQ);
    assert_eq!(w.op(&w.dom0, XENMEM_ADD_TO_PHYSMAP_BATCH | 2 << 6, args(2, 0)), EILSEQ);
}

#[test]
fn a_large_batch_is_continued() {
    let w = World::new();
    let (from, to): (Vec<u64>, Vec<u64>) = (0..200).map(|n| (RAM + n % 8, HOLE + n)).unzip();
    assert_eq!(w.foreign(&w.dom0, 1, &from, &to), (0, vec![0; 200]));
    assert_eq!(w.bed.references(w.bed.ram(&w.a, 0)), 26);
}

#[test]
fn the_builder_seeds_the_grant_table() {
    let w = World::new();
    let size = AcquireResource { domid: 1, kind: XENMEM_RESOURCE_GRANT_TABLE, ..Default::default() };
    assert_eq!(w.op(&w.dom0, XENMEM_ACQUIRE_RESOURCE, size), 0);
    assert_eq!(w.result::<AcquireResource>(&w.dom0).nr_frames, 4);
    assert_eq!(w.acquire(&w.dom0, 1, 0, &[HOLE, HOLE + 1]), 0);
    for i in 0..2 {
        assert_eq!(w.at(&w.dom0, HOLE + u64::from(i)), Some((w.a.grants.frame(i).unwrap(), P2mType::MapForeignRw)));
    }
    assert_eq!(w.bed.references(w.a.grants.frame(0).unwrap()), 2);
    assert_eq!(w.remove(&w.dom0, DOMID_SELF, HOLE), 0);
    assert_eq!(w.remove(&w.dom0, DOMID_SELF, HOLE + 1), 0);
    assert_eq!(w.bed.pages_in_use(), []);
}

#[test]
fn resources_are_checked() {
    let w = World::new();
    let before = w.snapshot();
    let list = w.list(&w.dom0, 1, &[HOLE]);
    let good = AcquireResource { domid: 1, kind: XENMEM_RESOURCE_GRANT_TABLE, nr_frames: 1, frame_list: list, ..Default::default() };
    for (bad, error) in [
        (AcquireResource { pad: 1, ..good }, EINVAL),
        (AcquireResource { frame: 1 << 32, ..good }, EINVAL),
        (AcquireResource { frame: u64::MAX, ..good }, EINVAL),
        (AcquireResource { frame: 4, ..good }, EINVAL),
        (AcquireResource { nr_frames: 1 << 31, ..good }, EINVAL),
        (AcquireResource { nr_frames: u32::MAX, ..good }, EINVAL),
        (AcquireResource { nr_frames: 0, ..good }, EINVAL),
        (AcquireResource { frame_list: 0, ..good }, EINVAL),
        (AcquireResource { kind: XENMEM_RESOURCE_IOREQ_SERVER, ..good }, EINVAL),
        (AcquireResource { kind: XENMEM_RESOURCE_VMTRACE_BUF, ..good }, EINVAL),
        (AcquireResource { kind: 99, ..good }, EINVAL),
        (AcquireResource { id: XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS, ..good }, EINVAL),
        (AcquireResource { domid: 9, ..good }, ESRCH),
        (AcquireResource { domid: DOMID_SELF, ..good }, ESRCH),
        (AcquireResource { domid: 0, ..good }, EPERM),
        (AcquireResource { frame_list: 8, ..good }, EFAULT),
    ] {
        assert_eq!(w.op(&w.dom0, XENMEM_ACQUIRE_RESOURCE, bad), error, "{bad:?}");
    }
    assert_eq!(w.acquire(&w.a, 2, 0, &[HOLE]), EPERM);
    assert!(before == w.snapshot());
    assert_eq!(w.acquire(&w.dom0, 1, 0, &[1 << 40]), EINVAL);
    assert_eq!(w.acquire(&w.dom0, 1, 0, &[HOLE, 1 << 40]), EIO, "not the first");
}

#[test]
fn no_device_has_reserved_memory() {
    let w = World::new();
    let ask = |flags| {
        let args = ReservedDeviceMemoryMap { flags, nr_entries: 5, ..Default::default() };
        let rc = w.op(&w.a, XENMEM_RESERVED_DEVICE_MEMORY_MAP, args);
        let [map]: [ReservedDeviceMemoryMap; 1] = w.bed.peek(&w.a, Testbed::va(ARG, 0), 1).try_into().unwrap();
        (rc, map.nr_entries)
    };
    assert_eq!(ask(XENMEM_RDM_ALL), (0, 0));
    assert_eq!(ask(0), (0, 0));
    assert_eq!(ask(2), (EINVAL, 5));
}
