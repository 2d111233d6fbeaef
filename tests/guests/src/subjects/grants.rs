//! `grant_table_op` of a domain on its own table: grants to itself, and the refusals of misuse G01, G02, G05, G09 to G11, G15, G21,
//! G24, G27, G28.

use super::granter::{Granter, TABLE};
use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe, probe::Outcome, unmapped};
use crate::verdict::{Rc, Status, Test};
use guest_abi::grant_table::*;
use guest_abi::memory::{AddToPhysmap, XENMAPSPACE_GRANT_TABLE, XENMEM_ADD_TO_PHYSMAP};
use guest_abi::xen::{DOMID_SELF, hypercall::GRANT_TABLE_OP};

/// Where grants are mapped.
const TARGET: u64 = 0x3_8800;

pub fn run(test: &mut Test) {
    before_the_table(test);
    let mut args = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx: 0, gpfn: TABLE };
    expect_eq!(test, "table", hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args), 0);
    let Some(granter) = Granter::new() else { return test.error("table", "gone") };
    if granter.own == 0 || granter.own >= 0x7ff0 {
        return test.error("own_id", granter.own);
    }
    sizes(test);
    versions(test);
    swaps(test);
    copies(test, &granter);
    maps(test, &granter);
    flushes(test);
}

fn before_the_table(test: &mut Test) {
    for cmd in (0..=15).chain([31, 0x1000, u64::from(u32::MAX)]) {
        for (name, at, count) in
            [("null,0", 0, 0), ("null,1", 0, 1), ("unmapped,1", unmapped(), 1), ("unmapped,-1", unmapped(), 0xffff_ffff)]
        {
            // Progress of a cache flush is kept in the high bits of its command; transfer to nobody is refused first.
            test.rc(format_args!("op{cmd:#x}({name})"), hypercall::raw(GRANT_TABLE_OP, [cmd, at, count, 0, 0]));
        }
    }
}

fn sizes(test: &mut Test) {
    for dom in [DOMID_SELF, 0, 1000, 0x7ff1, 0xffff] {
        let mut size = QuerySize { dom, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_QUERY_SIZE, &mut size);
        test.answer(
            format_args!("query_size(dom={dom:#x})"),
            format_args!("{} nr={} max={}", Status(rc, size.status), size.nr_frames, size.max_nr_frames),
        );
        let list = Page::take();
        list.fill(0xa5);
        for nr_frames in [0, 1, 64, 65, u32::MAX] {
            let mut setup = SetupTable { dom, nr_frames, status: 0x77, frame_list: list.address(), ..Default::default() };
            let rc = hypercall::grant(GNTTABOP_SETUP_TABLE, &mut setup);
            let first = if list.read64(0) == TABLE {
                "table"
            } else if list.read64(0) == u64::from_ne_bytes([0xa5; 8]) {
                "untouched"
            } else {
                "other"
            };
            test.answer(
                format_args!("setup_table(dom={dom:#x},{nr_frames})"),
                format_args!("{} list={first} second={:#x}", Status(rc, setup.status), list.read64(8)),
            );
        }
    }
    let mut size = [QuerySize { dom: DOMID_SELF, ..Default::default() }; 2];
    test.rc("query_size(count=2)", hypercall::raw(GRANT_TABLE_OP, [GNTTABOP_QUERY_SIZE.into(), hypercall::address(&mut size), 2, 0, 0]));
}

fn versions(test: &mut Test) {
    for dom in [DOMID_SELF, 0, 1000] {
        let mut version = GetVersion { dom, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_GET_VERSION, &mut version);
        test.answer(format_args!("get_version(dom={dom:#x})"), format_args!("rc={rc} version={}", version.version));
    }
    for wanted in [1, 0, 2, 3, u32::MAX] {
        let mut version = SetVersion { version: wanted };
        let rc = hypercall::grant(GNTTABOP_SET_VERSION, &mut version);
        test.answer(format_args!("set_version({wanted})"), format_args!("rc={rc} version={}", version.version));
    }
    for nr_frames in [0, 1, u32::MAX] {
        let mut frames = GetStatusFrames { nr_frames, dom: DOMID_SELF, status: 0x77, frame_list: Page::take().address() };
        let rc = hypercall::grant(GNTTABOP_GET_STATUS_FRAMES, &mut frames);
        test.answer(format_args!("get_status_frames({nr_frames})"), Status(rc, frames.status));
    }
}

fn swaps(test: &mut Test) {
    for (ref_a, ref_b) in [(8, 9), (8, 8), (0, 32767), (0, 32768), (0, u32::MAX), (u32::MAX, 0), (u32::MAX, u32::MAX), (511, 512)] {
        let mut swap = SwapGrantRef { ref_a, ref_b, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_SWAP_GRANT_REF, &mut swap);
        test.answer(format_args!("swap({ref_a},{ref_b})"), Status(rc, swap.status));
    }
}

fn copy(mut op: Copy) -> Status {
    op.status = 0x77;
    let rc = hypercall::grant(GNTTABOP_COPY, &mut op);
    Status(rc, op.status)
}

/// Whether copies of all kinds of lengths and alignments write the right bytes, and no others.
fn every_length_is_copied(from: Page, to: Page) -> bool {
    let pattern = |n: u64| (n * 7 + 3) as u8;
    (0..1024).for_each(|n| from.write8(n, pattern(n)));
    let mut right = true;
    for len in [1, 7, 8, 9, 15, 16, 31, 33, 63, 64, 65, 127, 128, 129, 200, 255, 257, 1000] {
        for (source, dest) in [(0, 0), (1, 8), (8, 1), (13, 5)] {
            to.fill(0xee);
            let at = |page: Page, offset| CopyPtr { u: page.gfn(), domid: DOMID_SELF, offset, ..Default::default() };
            copy(Copy { source: at(from, source), dest: at(to, dest), len, ..Default::default() });
            let (source, dest, len) = (u64::from(source), u64::from(dest), u64::from(len));
            right &= (0..1100).all(|n| {
                let expected = if n < dest || n >= dest + len { 0xee } else { pattern(n - dest + source) };
                to.read8(n) == expected
            });
        }
    }
    right
}

fn copies(test: &mut Test, granter: &Granter) {
    let (from, to) = (Page::take(), Page::take());
    from.fill(0x5a);
    let frame = |page: Page, offset| CopyPtr { u: page.gfn(), domid: DOMID_SELF, offset, ..Default::default() };
    let op = |source, dest, len, flags| Copy { source, dest, len, flags, ..Default::default() };
    test.answer("copy(own,own)", copy(op(frame(from, 0), frame(to, 0), 4096, 0)));
    test.answer("copy(own,own).data", to.is_filled(0x5a));
    test.answer("copy(own,own).bytes", every_length_is_copied(from, to));
    from.fill(0x5a);
    test.answer("copy(same)", copy(op(frame(from, 0), frame(from, 2048), 2048, 0)));
    for (source, dest, len) in
        [(4095, 0, 1), (4095, 0, 2), (0, 4095, 2), (0, 0, 4097), (0xffff, 0, 0xffff), (0, 0xffff, 1), (4096, 0, 0), (0xffff, 0xffff, 0)]
    {
        let answer = copy(op(frame(from, source), frame(to, dest), len, 0));
        test.answer(format_args!("copy({source},{dest},{len})"), answer);
    }
    for domid in [0, granter.own, 1000, 0x7ff1, 0x7ff2, 0xffff] {
        let name = if domid == granter.own { "own" } else { "other" };
        let other = CopyPtr { u: from.gfn(), domid, ..Default::default() };
        for len in [0, 8] {
            test.answer(
                format_args!("copy(gfn,{name} {},{len})", if name == "own" { 0 } else { domid }),
                copy(op(other, frame(to, 0), len, 0)),
            );
        }
    }
    for gfn in [TARGET, 0x3001, TABLE, 1 << 36, u64::MAX] {
        let other = CopyPtr { u: gfn, domid: DOMID_SELF, ..Default::default() };
        test.answer(format_args!("copy(from gfn {gfn:#x})"), copy(op(other, frame(to, 0), 8, 0)));
        test.answer(format_args!("copy(to gfn {gfn:#x})"), copy(op(frame(from, 0), other, 8, 0)));
    }
    for flags in [4, 8, 0x8000, 0xffff] {
        test.answer(format_args!("copy(flags={flags:#x})"), copy(op(frame(from, 0), frame(to, 0), 8, flags)));
    }
    // By reference to itself: every flag a v1 entry may hold.
    let by_ref = |reference: u32, domid| CopyPtr { u: reference.into(), domid, ..Default::default() };
    for bit in 0..16 {
        for kind in [0, GTF_PERMIT_ACCESS] {
            let flags = kind | 1 << bit;
            granter.entry(10, flags, granter.own, from.gfn());
            let read = copy(op(by_ref(10, DOMID_SELF), frame(to, 0), 8, GNTCOPY_SOURCE_GREF));
            test.answer(format_args!("copy(from ref flags={flags:#x})"), format_args!("{read} flags={:#x}", granter.flags(10)));
            granter.entry(10, flags, granter.own, from.gfn());
            let write = copy(op(frame(to, 0), by_ref(10, DOMID_SELF), 8, GNTCOPY_DEST_GREF));
            test.answer(format_args!("copy(to ref flags={flags:#x})"), format_args!("{write} flags={:#x}", granter.flags(10)));
        }
    }
    granter.entry(10, GTF_PERMIT_ACCESS, 0, from.gfn());
    test.answer("copy(ref for dom0)", copy(op(by_ref(10, DOMID_SELF), frame(to, 0), 8, GNTCOPY_SOURCE_GREF)));
    for gfn in [TARGET, 0x3001, TABLE, 0xffff_ffff] {
        granter.entry(10, GTF_PERMIT_ACCESS, granter.own, gfn);
        let answer = copy(op(by_ref(10, DOMID_SELF), frame(to, 0), 8, GNTCOPY_SOURCE_GREF));
        test.answer(format_args!("copy(ref to gfn {gfn:#x})"), format_args!("{answer} flags={:#x}", granter.flags(10)));
    }
    granter.entry(10, 0, 0, 0);
    for (reference, domid) in [(32768, DOMID_SELF), (u32::MAX, DOMID_SELF), (8, 0), (0, 1000), (0, 0x7ff1), (0, 0xffff)] {
        for len in [0, 8] {
            let answer = copy(op(by_ref(reference, domid), frame(to, 0), len, GNTCOPY_SOURCE_GREF));
            test.answer(format_args!("copy(ref {reference:#x} of {domid:#x},{len})"), answer);
        }
    }
    // A batch with a wrong one in the middle: all are answered.
    let mut batch =
        [op(frame(from, 0), frame(to, 0), 8, 0), op(frame(from, 4095), frame(to, 0), 8, 0), op(frame(from, 0), frame(to, 8), 8, 0)];
    batch.iter_mut().for_each(|op| op.status = 0x77);
    let rc = hypercall::raw(GRANT_TABLE_OP, [GNTTABOP_COPY.into(), hypercall::address(&mut batch), 3, 0, 0]);
    test.answer("copy(batch)", format_args!("rc={rc} status={:?}", batch.map(|op| op.status)));
}

fn maps(test: &mut Test, granter: &Granter) {
    let page = Page::take();
    let target = Page::window(TARGET);
    page.write64(0, 0xcafe);
    let map = |flags, reference, dom, host_addr| {
        let mut op = MapGrantRef { host_addr, flags, grant_ref: reference, dom, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_MAP_GRANT_REF, &mut op);
        (Status(rc, op.status), op)
    };
    let unmap = |handle, host_addr, dev_bus_addr| {
        let mut op = UnmapGrantRef { host_addr, dev_bus_addr, handle, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_UNMAP_GRANT_REF, &mut op);
        Status(rc, op.status)
    };
    granter.entry(11, GTF_PERMIT_ACCESS, granter.own, page.gfn());
    // G09, G11: kinds of map, one bit and some pairs.
    for flags in [0, 1, 2, 3, 4, 5, 6, 8, 0x10, 0x12, 0x20, 0x40, 0x80, 0x102, 0x1_0002, 0x8000_0002] {
        let (answer, op) = map(flags, 11, DOMID_SELF, target.address());
        test.answer(format_args!("map(flags={flags:#x})"), format_args!("{answer} flags={:#x}", granter.flags(11)));
        if answer.0 == 0 && answer.1 == 0 {
            test.answer(format_args!("map(flags={flags:#x}).handle"), op.handle);
            test.answer(format_args!("map(flags={flags:#x}).dev_bus_addr"), if op.dev_bus_addr == 0 { "none" } else { "given" });
            test.answer(format_args!("map(flags={flags:#x}).read"), Outcome(probe::read(target.address(), 3)));
            test.answer(format_args!("map(flags={flags:#x}).write"), Outcome(probe::write(target.address(), 3, 0xcafe).map(|()| 0)));
            test.answer(format_args!("map(flags={flags:#x}).execute"), Outcome(probe::read(target.address() + 8, 0)));
            test.answer(format_args!("map(flags={flags:#x}).unmap(wrong)"), unmap(op.handle, target.address() + 4096, 0));
            test.answer(
                format_args!("map(flags={flags:#x}).unmap(0)"),
                format_args!("{} flags={:#x}", unmap(op.handle, 0, 0), granter.flags(11)),
            );
            test.answer(
                format_args!("map(flags={flags:#x}).unmap"),
                format_args!("{} flags={:#x}", unmap(op.handle, target.address(), 0), granter.flags(11)),
            );
            test.answer(format_args!("map(flags={flags:#x}).again"), unmap(op.handle, target.address(), 0));
            test.answer(format_args!("map(flags={flags:#x}).gone"), Outcome(probe::read(target.address(), 3)));
        }
    }
    for host_addr in [1, TARGET << 12 | 1, TARGET << 12 | 0xfff, 1 << 47, 1 << 52, u64::MAX, u64::MAX << 12] {
        let (answer, op) = map(GNTMAP_HOST_MAP, 11, DOMID_SELF, host_addr);
        test.answer(format_args!("map(at {host_addr:#x})"), format_args!("{answer} flags={:#x}", granter.flags(11)));
        if answer.0 == 0 && answer.1 == 0 {
            test.answer(format_args!("map(at {host_addr:#x}).unmap"), unmap(op.handle, host_addr, 0));
        }
    }
    for (reference, dom) in [
        (0, 0),
        (8, 0),
        (0, 1000),
        (0, 0x7ff1),
        (0, 0x7ff2),
        (0, 0xffff),
        (32767, DOMID_SELF),
        (32768, DOMID_SELF),
        (u32::MAX, DOMID_SELF),
        (12, DOMID_SELF),
    ] {
        let (answer, _) = map(GNTMAP_HOST_MAP, reference, dom, target.address());
        test.answer(format_args!("map(ref {reference:#x} of {dom:#x})"), answer);
    }
    // Read only by entry, mapped for writing and for reading.
    granter.entry(11, GTF_PERMIT_ACCESS | GTF_READONLY, granter.own, page.gfn());
    test.answer("map(readonly,write)", map(GNTMAP_HOST_MAP, 11, DOMID_SELF, target.address()).0);
    let (answer, op) = map(GNTMAP_HOST_MAP | GNTMAP_READONLY, 11, DOMID_SELF, target.address());
    test.answer("map(readonly,read)", answer);
    test.answer("map(readonly).write", Outcome(probe::write(target.address(), 3, 1).map(|()| 0)));
    test.answer("map(readonly).unmap", unmap(op.handle, target.address(), 0));
    for handle in [0, 1, 0xffff, u32::MAX] {
        test.answer(format_args!("unmap(handle={handle:#x})"), unmap(handle, target.address(), 0));
    }
    // A swap of a mapped entry.
    granter.entry(11, GTF_PERMIT_ACCESS, granter.own, page.gfn());
    let (answer, op) = map(GNTMAP_HOST_MAP, 11, DOMID_SELF, target.address());
    test.answer("map(for swap)", answer);
    let mut swap = SwapGrantRef { ref_a: 11, ref_b: 12, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_SWAP_GRANT_REF, &mut swap);
    test.answer("swap(mapped)", Status(rc, swap.status));
    test.answer("set_version(mapped)", Rc(hypercall::grant(GNTTABOP_SET_VERSION, &mut SetVersion { version: 2 })));
    test.answer("unmap(after swap)", unmap(op.handle, target.address(), 0));
    granter.entry(11, 0, 0, 0);
}

fn flushes(test: &mut Test) {
    for op in [0, 1, 2, 3, 4, GNTTAB_CACHE_SOURCE_GREF, u32::MAX] {
        for (offset, length) in [(0, 0), (0, 4096), (0, 4097), (4095, 2), (0xffff, 1)] {
            for address in [0, 0x900_0000, 1 << 47, u64::MAX] {
                let mut flush = CacheFlush { dev_bus_addr: address, offset, length, op };
                let rc = hypercall::grant(GNTTABOP_CACHE_FLUSH, &mut flush);
                test.rc(format_args!("cache_flush({op:#x},{address:#x},{offset},{length})"), rc);
            }
        }
    }
}
