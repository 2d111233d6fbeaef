//! `memory_op` of a domain on itself: reservations, maps of its grant table and shared page, and every refusal (misuse M12 to M15).

use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe, probe::Outcome, unmapped};
use crate::verdict::Test;
use guest_abi::memory::*;
use guest_abi::xen::{DOMID_SELF, hypercall::MEMORY_OP};

/// Guest frames of the grant window, where these tests map.
const WINDOW: u64 = 0x3_8100;

pub fn run(test: &mut Test) {
    queries(test);
    reservations(test);
    add_to_physmap(test);
    batches(test);
    resources(test);
}

fn queries(test: &mut Test) {
    for cmd in 0..=31 {
        test.rc(format_args!("{cmd}(null)"), hypercall::raw(MEMORY_OP, [cmd, 0, 0, 0, 0]));
        test.rc(format_args!("{cmd}(unmapped)"), hypercall::raw(MEMORY_OP, [cmd, unmapped(), 0, 0, 0]));
    }
    for cmd in [XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_RESERVATION, XENMEM_MAXIMUM_GPFN] {
        for domid in [DOMID_SELF, 0, 1000, 0x7ff1, 0xffff] {
            test.rc(format_args!("{cmd}(dom={domid:#x})"), hypercall::memory(cmd, &mut MemoryDomain { domid }));
        }
    }
    for cmd in [63, 64, 1 << 20, u64::from(u32::MAX), u64::MAX] {
        test.rc(format_args!("{cmd:#x}"), hypercall::raw(MEMORY_OP, [cmd, 0, 0, 0, 0]));
    }
}

/// `cmd` on the list of `gfns`; tells how many extents were done.
fn reserve(cmd: u64, gfns: &[u64], order: u32, flags: u32, domid: u16) -> i64 {
    let list = Page::take();
    gfns.iter().zip(0..).for_each(|(gfn, n)| list.write64(n * 8, *gfn));
    let mut args = MemoryReservation {
        extent_start: list.address(),
        nr_extents: gfns.len() as u64,
        extent_order: order,
        mem_flags: flags,
        domid,
        ..Default::default()
    };
    hypercall::memory(cmd, &mut args)
}

/// Gives the domain a page at `gfn`; how many that were.
pub(super) fn populate(gfn: u64) -> i64 {
    one(XENMEM_POPULATE_PHYSMAP, gfn)
}

/// Gives the page at `gfn` back; how many that were.
pub(super) fn decrease(gfn: u64) -> i64 {
    one(XENMEM_DECREASE_RESERVATION, gfn)
}

fn one(cmd: u64, gfn: u64) -> i64 {
    let mut list = [gfn];
    let extent_start = hypercall::address(&mut list);
    hypercall::memory(cmd, &mut MemoryReservation { extent_start, nr_extents: 1, domid: DOMID_SELF, ..Default::default() })
}

fn reservations(test: &mut Test) {
    let own = Page::take_aligned(4);
    let (decrease, populate) = (XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP);
    own.write64(0, 0x1234_5678);
    test.rc("decrease(own)", reserve(decrease, &[own.gfn()], 0, 0, DOMID_SELF));
    test.answer("decrease(own).read", Outcome(probe::read(own.address(), 3)));
    test.answer("decrease(own).write", Outcome(probe::write(own.address(), 3, 1).map(|()| 0)));
    test.rc("decrease(again)", reserve(decrease, &[own.gfn()], 0, 0, DOMID_SELF));
    test.rc("hypercall(hole)", hypercall::raw(MEMORY_OP, [XENMEM_MAXIMUM_GPFN, own.address(), 0, 0, 0]));
    test.rc("populate(own)", reserve(populate, &[own.gfn()], 0, 0, DOMID_SELF));
    test.answer("populate(own).read", Outcome(probe::read(own.address(), 3)));
    test.rc("populate(mapped)", reserve(populate, &[own.gfn()], 0, 0, DOMID_SELF));
    test.rc("decrease(after)", reserve(decrease, &[own.gfn()], 0, 0, DOMID_SELF));
    test.rc("populate(after)", reserve(populate, &[own.gfn()], 0, 0, DOMID_SELF));
    // The domain may not have more than it was given.
    test.rc("populate(beyond)", reserve(populate, &[0x8_0000], 0, 0, DOMID_SELF));
    test.rc("increase", reserve(XENMEM_INCREASE_RESERVATION, &[0], 0, 0, DOMID_SELF));
    for gfn in [0x3001, 0x3_8000, 0x1_0000_0000, 1 << 36, 1 << 52, u64::MAX] {
        test.rc(format_args!("decrease(gfn={gfn:#x})"), reserve(decrease, &[gfn], 0, 0, DOMID_SELF));
        test.rc(format_args!("populate(gfn={gfn:#x})"), reserve(populate, &[gfn], 0, 0, DOMID_SELF));
    }
    // The second of three is wrong: how many are done.
    let (a, b) = (own.gfn(), own.gfn() + 1);
    test.rc("decrease(a,hole,b)", reserve(decrease, &[a, 0x8_0000, b], 0, 0, DOMID_SELF));
    test.rc("populate(a,b)", reserve(populate, &[a, b], 0, 0, DOMID_SELF));
    test.answer("populate(a,b).read", Outcome(probe::read(own.offset(1).address(), 3)));
    for order in [1, 2, 9, 10, 18, 19, 20, 31, 63, 64, u32::MAX] {
        test.rc(format_args!("populate(order={order})"), reserve(populate, &[0x10_0000], order, 0, DOMID_SELF));
    }
    test.rc("decrease(order=2)", reserve(decrease, &[own.gfn()], 2, 0, DOMID_SELF));
    test.rc("populate(order=2)", reserve(populate, &[own.gfn()], 2, 0, DOMID_SELF));
    test.answer("populate(order=2).read", Outcome(probe::read(own.offset(3).address(), 3)));
    for flags in [1, XENMEMF_POPULATE_ON_DEMAND, XENMEMF_EXACT_NODE_REQUEST, XENMEMF_VNODE, 1 << 20, u32::MAX] {
        test.rc(format_args!("populate(flags={flags:#x})"), reserve(populate, &[0x10_0000], 0, flags, DOMID_SELF));
    }
    for domid in [0, 1000, 0x7ff1, 0x7ff2, 0xffff] {
        test.rc(format_args!("populate(dom={domid:#x})"), reserve(populate, &[own.gfn()], 0, 0, domid));
        test.rc(format_args!("decrease(dom={domid:#x})"), reserve(decrease, &[own.gfn()], 0, 0, domid));
    }
    for (name, nr_extents) in [("0", 0), ("2^63", 1 << 63), ("~0>>6", u64::MAX >> 6), ("(~0>>6)+1", (u64::MAX >> 6) + 1), ("~0", u64::MAX)]
    {
        for cmd in [decrease, populate] {
            let mut args = MemoryReservation { extent_start: unmapped(), nr_extents, domid: DOMID_SELF, ..Default::default() };
            test.rc(format_args!("{cmd}(extents={name},unmapped)"), hypercall::memory(cmd, &mut args));
        }
    }
    let mut args = MemoryReservation { extent_start: unmapped(), nr_extents: 3, domid: DOMID_SELF, ..Default::default() };
    // Progress in the command that exceeds the list.
    for start in [1, 3, 4] {
        let cmd = populate | start << MEMOP_EXTENT_SHIFT;
        test.rc(format_args!("populate(start={start}/3)"), hypercall::memory(cmd, &mut args));
    }
}

fn add(space: u32, idx: u64, gpfn: u64, domid: u16) -> i64 {
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut AddToPhysmap { domid, size: 0, space, idx, gpfn })
}

fn remove(gpfn: u64) -> i64 {
    hypercall::memory(XENMEM_REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn, ..Default::default() })
}

fn add_to_physmap(test: &mut Test) {
    let own = Page::take();
    for space in 0..=7 {
        test.rc(format_args!("add({space},0xfff0,hole)"), add(space, 0xfff0, WINDOW, DOMID_SELF));
        test.rc(format_args!("add({space},~0,hole)"), add(space, u64::MAX, WINDOW, DOMID_SELF));
    }
    test.rc("add(space=~0)", add(u32::MAX, 0, WINDOW, DOMID_SELF));
    for domid in [0, 1000, 0x7ff1, 0x7ff2, 0xffff] {
        test.rc(format_args!("add(shared_info,dom={domid:#x})"), add(XENMAPSPACE_SHARED_INFO, 0, WINDOW, domid));
    }
    for gfn in [0x3001, 1 << 28, 1 << 36, 1 << 52, u64::MAX] {
        test.rc(format_args!("add(shared_info,gfn={gfn:#x})"), add(XENMAPSPACE_SHARED_INFO, 0, gfn, DOMID_SELF));
        test.rc(format_args!("remove(gfn={gfn:#x})"), remove(gfn));
    }
    test.rc("add(shared_info,1)", add(XENMAPSPACE_SHARED_INFO, 1, WINDOW, DOMID_SELF));
    test.rc("remove(hole)", remove(WINDOW));
    // Grant frames: once each, and again after they were removed; from the last on, which makes the table grow.
    for idx in [0, 1, 63, 64, 0x7fff_ffff, XENMAPIDX_GRANT_TABLE_STATUS, 0xffff_ffff] {
        test.rc(format_args!("add(grant,{idx:#x})"), add(XENMAPSPACE_GRANT_TABLE, idx, WINDOW + (idx & 0x3f), DOMID_SELF));
    }
    test.rc("add(grant,0,again)", add(XENMAPSPACE_GRANT_TABLE, 0, WINDOW + 0x80, DOMID_SELF));
    test.rc("add(grant,0,same)", add(XENMAPSPACE_GRANT_TABLE, 0, WINDOW, DOMID_SELF));
    test.rc("add(grant,1,on frame 0)", add(XENMAPSPACE_GRANT_TABLE, 2, WINDOW, DOMID_SELF));
    for gfn in [WINDOW, WINDOW + 1, WINDOW + 0x3f, WINDOW + 0x80] {
        test.rc(format_args!("remove(grant {:#x})", gfn - WINDOW), remove(gfn));
    }
    test.rc("remove(grant 0,again)", remove(WINDOW));
    test.answer("remove(grant 0).read", Outcome(probe::read(WINDOW << 12, 3)));
    test.rc("add(grant,0,after)", add(XENMAPSPACE_GRANT_TABLE, 0, WINDOW, DOMID_SELF));
    test.rc("remove(grant,after)", remove(WINDOW));
    // Own RAM.
    test.rc("remove(ram)", remove(own.gfn()));
    test.answer("remove(ram).read", Outcome(probe::read(own.address(), 3)));
    for (name, space) in [
        ("gmfn", XENMAPSPACE_GMFN),
        ("range", XENMAPSPACE_GMFN_RANGE),
        ("foreign", XENMAPSPACE_GMFN_FOREIGN),
        ("mmio", XENMAPSPACE_DEV_MMIO),
    ] {
        test.rc(format_args!("add({name},ram)"), add(space, Page::take().gfn(), WINDOW, DOMID_SELF));
    }
    // On a page of RAM: what was there is lost to the domain but stays its own.
    test.rc("add(shared_info,ram)", add(XENMAPSPACE_SHARED_INFO, 0, own.gfn(), DOMID_SELF));
    test.rc("add(shared_info,twice)", add(XENMAPSPACE_SHARED_INFO, 0, WINDOW, DOMID_SELF));
    test.answer("shared_info.read", Outcome(probe::read(own.address() + 48, 3)));
    test.rc("decrease(shared_info)", reserve(XENMEM_DECREASE_RESERVATION, &[own.gfn()], 0, 0, DOMID_SELF));
    test.rc("remove(shared_info)", remove(own.gfn()));
    test.rc("remove(shared_info,again)", remove(own.gfn()));
}

fn batches(test: &mut Test) {
    let (idxs, gpfns, errs) = (Page::take(), Page::take(), Page::take());
    let target = Page::take();
    gpfns.write64(0, WINDOW);
    gpfns.write64(8, WINDOW + 1);
    for space in 0..=6 {
        for foreign_domid in [0, 1000, DOMID_SELF, 0x7ff1, 0x7ff2] {
            errs.fill(0x77);
            idxs.write64(0, target.gfn());
            idxs.write64(8, 0xfff0);
            let mut args = AddToPhysmapBatch {
                domid: DOMID_SELF,
                space,
                size: 2,
                foreign_domid,
                idxs: idxs.address(),
                gpfns: gpfns.address(),
                errs: errs.address(),
            };
            let rc = hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut args);
            let errs = [errs.read32(0).cast_signed(), errs.read32(4).cast_signed()];
            test.answer(format_args!("batch({space},dom={foreign_domid:#x})"), format_args!("rc={rc} errs={errs:?}"));
        }
    }
    for domid in [0, 1000, 0xffff] {
        let mut args = AddToPhysmapBatch {
            domid,
            space: 4,
            size: 1,
            foreign_domid: 0,
            idxs: idxs.address(),
            gpfns: gpfns.address(),
            errs: errs.address(),
        };
        test.rc(format_args!("batch(target={domid:#x})"), hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut args));
    }
    let mut args = AddToPhysmapBatch { domid: DOMID_SELF, space: 4, size: 0, foreign_domid: 0, idxs: 0, gpfns: 0, errs: 0 };
    test.rc("batch(size=0)", hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut args));
    args.size = 1;
    args.idxs = unmapped();
    test.rc("batch(unmapped)", hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut args));
}

fn resources(test: &mut Test) {
    let list = Page::take();
    for kind in 0..=3 {
        for domid in [DOMID_SELF, 0, 1000] {
            for (nr_frames, frame_list, pad) in [(0, 0, 0), (1, list.address(), 0), (1, list.address(), 1), (0, list.address(), 0)] {
                let mut args = AcquireResource { domid, kind, id: 0, nr_frames, pad, frame: 0, frame_list };
                let rc = hypercall::memory(XENMEM_ACQUIRE_RESOURCE, &mut args);
                let list = u32::from(frame_list != 0);
                test.answer(
                    format_args!("acquire({kind},dom={domid:#x},{nr_frames},{list},{pad})"),
                    format_args!("rc={rc} nr={}", args.nr_frames),
                );
            }
        }
    }
}
