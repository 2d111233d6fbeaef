//! Misuse of a domain's own grant table: its size, its entries, and what is mapped by them. Each operation begins with its row of the
//! catalogue (G01 to G21).

use super::granter::{Granter, map, own_page, unmap};
use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe, probe::Outcome, unmapped};
use crate::verdict::{Status, Test};
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::DOMID_SELF;

/// Where grants are mapped.
const TARGET: u64 = 0x3_8c00;

pub fn run(test: &mut Test) {
    let Some(granter) = Granter::new() else { return test.error("table", "not mapped") };
    bounds(test);
    flags_and_addresses(test, &granter);
    pins(test, &granter);
    test.rc("audit.pages", hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF }));
}

fn bounds(test: &mut Test) {
    for (ref_a, ref_b) in [(0, 512), (512, 0), (0, 1 << 15), (1 << 15, 1 << 15), (0, 1 << 31), (u32::MAX, u32::MAX - 1)] {
        let mut swap = SwapGrantRef { ref_a, ref_b, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_SWAP_GRANT_REF, &mut swap);
        test.answer(format_args!("G01.swap({ref_a:#x},{ref_b:#x})"), Status(rc, swap.status));
    }
    for version in [1, 2, 0, 3, 0x8000_0001] {
        test.rc(format_args!("G02.set_version({version:#x})"), hypercall::grant(GNTTABOP_SET_VERSION, &mut SetVersion { version }));
    }
    for nr_frames in [1, 2, 63, 64, 65] {
        let list = Page::take();
        list.fill(0xa5);
        let mut setup = SetupTable { dom: DOMID_SELF, nr_frames, status: 0x77, frame_list: list.address(), ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_SETUP_TABLE, &mut setup);
        // An entry that is not mapped is a defined value; nothing is written beyond the list.
        let beyond = list.read64(u64::from(nr_frames.min(64)) * 8);
        let last = list.read64(u64::from(nr_frames.min(64)) * 8 - 8);
        let answer = format_args!("{} last={last:#x} beyond={beyond:#x}", Status(rc, setup.status));
        test.answer(format_args!("G04.setup_table({nr_frames})"), answer);
    }
    for nr_frames in [0, 1, 2, u32::MAX] {
        for dom in [DOMID_SELF, 0] {
            let mut frames = GetStatusFrames { nr_frames, dom, status: 0x77, frame_list: unmapped() };
            let rc = hypercall::grant(GNTTABOP_GET_STATUS_FRAMES, &mut frames);
            test.answer(format_args!("G18.get_status_frames({nr_frames:#x},{dom:#x})"), Status(rc, frames.status));
        }
    }
    for idx in [XENMAPIDX_GRANT_TABLE_STATUS, XENMAPIDX_GRANT_TABLE_STATUS | 1, 0xffff_ffff, 0x7fff_ffff, 1 << 32, 1 << 32 | 1, u64::MAX] {
        let mut args = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx, gpfn: TARGET };
        test.rc(format_args!("G18.add_to_physmap({idx:#x})"), hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args));
    }
    // G16: the lock is free again, however often that failed.
    let mut failed = 0;
    for _ in 0..1000 {
        let mut args = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx: 0x7fff_ffff, gpfn: TARGET };
        failed += u32::from(hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args) == -22);
    }
    let mut size = QuerySize { dom: DOMID_SELF, ..Default::default() };
    test.answer("G16.locks", format_args!("failed={failed} rc={}", hypercall::grant(GNTTABOP_QUERY_SIZE, &mut size)));
    let page = Page::take();
    for (mfn, domid, grant_ref) in
        [(page.gfn(), DOMID_SELF, 20), (page.gfn(), 0, 0), (page.gfn(), 1000, 0), (0x3001, 0, 0), (1 << 40, 0, u32::MAX), (u64::MAX, 0, 0)]
    {
        let mut op = Transfer { mfn, domid, grant_ref, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_TRANSFER, &mut op);
        let name = if mfn == page.gfn() { 0 } else { mfn };
        test.answer(format_args!("G19.transfer({name:#x},{domid:#x},{grant_ref:#x})"), Status(rc, op.status));
    }
    test.answer("G19.page", Outcome(probe::write(page.address(), 3, 1).map(|()| page.read64(0))));
}

fn flags_and_addresses(test: &mut Test, granter: &Granter) {
    let page = Page::take();
    granter.grant(20, page);
    // G09: each kind of map again and again, with each wrong bus address; no page is lost.
    let before = hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF });
    for flags in [0, GNTMAP_READONLY, GNTMAP_DEVICE_MAP, GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP, GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE] {
        let (mut first, mut same) = (0, true);
        for n in 0..200 {
            let status = map(flags, 20, granter.own, TARGET << 12).status;
            first = if n == 0 { status } else { first };
            same &= status == first;
        }
        test.answer(format_args!("G09.map({flags:#x})"), format_args!("status={first} always={same} flags={:#x}", granter.flags(20)));
    }
    for bus in [1, 0xfff, 0x4000_0000, u64::MAX] {
        let op = map(GNTMAP_HOST_MAP, 20, granter.own, TARGET << 12);
        let wrong = unmap(op.handle, TARGET << 12, bus);
        let answer = format_args!("map={} unmap={wrong} again={}", op.status, unmap(op.handle, TARGET << 12, 0));
        test.answer(format_args!("G09.unmap(bus={bus:#x})"), answer);
    }
    let op = map(GNTMAP_HOST_MAP, 20, granter.own, TARGET << 12);
    let answer = format_args!("map={} unmap={}", op.status, unmap(op.handle, TARGET << 12, op.dev_bus_addr));
    test.answer("G09.unmap(bus=as given)", answer);
    let mut okay = 0;
    for _ in 0..2000 {
        let op = map(GNTMAP_HOST_MAP, 20, granter.own, TARGET << 12);
        okay += u32::from(op.status == 0 && unmap(op.handle, TARGET << 12, 0) == 0);
    }
    let after = hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF });
    test.answer("G09.repeat", format_args!("okay={okay} pages={} flags={:#x}", after - before, granter.flags(20)));
    // G10: every value of the flags' low bits; v1 knows neither transitive nor sub-page grants.
    for flags in 0..32_u16 {
        granter.entry(21, flags, granter.own, page.gfn());
        let op = map(GNTMAP_HOST_MAP, 21, granter.own, TARGET << 12);
        let during = granter.flags(21);
        let gone = if op.status == 0 { unmap(op.handle, TARGET << 12, 0) } else { 0 };
        let answer = format_args!("status={} flags={during:#x},{:#x} unmap={gone}", op.status, granter.flags(21));
        test.answer(format_args!("G10.flags({flags:#x})"), answer);
    }
    granter.entry(21, 0, 0, 0);
    // G11: where a mapping may be asked for. The page before and behind stay what they are.
    let around = Page::take_aligned(4);
    (0..4).for_each(|n| around.offset(n).write64(0, n));
    for low in [0, 1, 8, 0x7ff, 0xfff] {
        let host_addr = around.offset(1).address() + low;
        let op = map(GNTMAP_HOST_MAP, 20, granter.own, host_addr);
        page.write64(0, 0x77);
        let seen = [0, 1, 2, 3].map(|n| probe::read(around.offset(n).address(), 3).unwrap_or(99));
        let unmapped = unmap(op.handle, host_addr, 0);
        test.answer(format_args!("G11.map(low bits {low:#x})"), format_args!("status={} seen={seen:x?} unmap={unmapped}", op.status));
        // RAM was there before: put it back.
        super::memory::populate(around.offset(1).gfn());
    }
    // G21: a status is never positive. Entries for somebody else, free ones, frames that are no RAM.
    for (name, domid, frame) in
        [("dom0", 0, page.gfn()), ("nobody", 1000, page.gfn()), ("hole", granter.own, 0x8_0000), ("gic", granter.own, 0x3001)]
    {
        granter.entry(22, GTF_PERMIT_ACCESS, domid, frame);
        for dom in [DOMID_SELF, granter.own, 0] {
            let who = if dom == granter.own {
                "own"
            } else if dom == 0 {
                "dom0"
            } else {
                "self"
            };
            let op = map(GNTMAP_HOST_MAP, 22, dom, TARGET << 12);
            test.answer(format_args!("G21.map({name},of {who})"), format_args!("status={} flags={:#x}", op.status, granter.flags(22)));
        }
    }
    granter.entry(22, 0, 0, 0);
}

/// Who reads and who writes is in the entry's flags, until the last of them is gone.
fn pins(test: &mut Test, granter: &Granter) {
    let (page, to) = (Page::take(), Page::take());
    granter.grant(23, page);
    let write = map(GNTMAP_HOST_MAP, 23, granter.own, TARGET << 12);
    test.answer("G13.mapped", format_args!("status={} flags={:#x}", write.status, granter.flags(23)));
    let source = CopyPtr { u: 23, domid: DOMID_SELF, ..Default::default() };
    let mut op = Copy { source, dest: own_page(to, 0), len: 8, flags: GNTCOPY_SOURCE_GREF, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_COPY, &mut op);
    test.answer("G13.copied", format_args!("{} flags={:#x}", Status(rc, op.status), granter.flags(23)));
    let mut op = Copy { source: own_page(to, 0), dest: source, len: 8, flags: GNTCOPY_DEST_GREF, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_COPY, &mut op);
    test.answer("G13.copied to", format_args!("{} flags={:#x}", Status(rc, op.status), granter.flags(23)));
    let read = map(GNTMAP_HOST_MAP | GNTMAP_READONLY, 23, granter.own, (TARGET + 1) << 12);
    test.answer("G13.mapped to read", format_args!("status={} flags={:#x}", read.status, granter.flags(23)));
    test.answer("G13.unmapped writer", format_args!("status={} flags={:#x}", unmap(write.handle, TARGET << 12, 0), granter.flags(23)));
    test.answer("G13.unmapped reader", format_args!("status={} flags={:#x}", unmap(read.handle, (TARGET + 1) << 12, 0), granter.flags(23)));
    // A frame that changes while the entry is in use is the first one still.
    let other = Page::take();
    page.write64(0, 1);
    other.write64(0, 2);
    let first = map(GNTMAP_HOST_MAP, 23, granter.own, TARGET << 12);
    granter.grant(23, other);
    let second = map(GNTMAP_HOST_MAP, 23, granter.own, (TARGET + 1) << 12);
    let seen = [TARGET, TARGET + 1].map(|gfn| probe::read(gfn << 12, 3).unwrap_or(99));
    test.answer("G13.frame changed", format_args!("status={},{} seen={seen:?}", first.status, second.status));
    test.answer(
        "G13.frame changed.unmap",
        format_args!("{} {}", unmap(first.handle, TARGET << 12, 0), unmap(second.handle, (TARGET + 1) << 12, 0)),
    );
    granter.entry(23, 0, 0, 0);
}
