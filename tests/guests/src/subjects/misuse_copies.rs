//! Misuse of what takes a list: copies, counts, cache maintenance. Each operation begins with its row of the catalogue (G14, G22, G27,
//! G28, H08).

use super::granter::{Granter, own_page};
use crate::runtime::page::Page;
use crate::runtime::{cpu, gic, hypercall, timer, unmapped};
use crate::verdict::{Rc, Status, Test};
use guest_abi::arch_arm::GUEST_TIMER_VIRT_PPI;
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::{DOMID_SELF, hypercall::GRANT_TABLE_OP};

pub fn run(test: &mut Test) {
    let Some(granter) = Granter::new() else { return test.error("table", "not mapped") };
    batches(test, &granter);
    flushes(test);
    test.rc("audit.pages", hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF }));
}

fn batches(test: &mut Test, granter: &Granter) {
    let (a, b, c) = (Page::take(), Page::take(), Page::take());
    // G27, G28: lengths and offsets.
    let op = |source: CopyPtr, dest, len, flags| {
        let mut op = Copy { source, dest, len, flags, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_COPY, &mut op);
        Status(rc, op.status)
    };
    for domid in [DOMID_SELF, 0, 1000, 0xffff] {
        for reference in [0, 8, u64::from(u32::MAX)] {
            let source = CopyPtr { u: reference, domid, offset: 0xffff, ..Default::default() };
            test.answer(
                format_args!("G27.empty(ref {reference:#x} of {domid:#x})"),
                op(source, own_page(b, 0xffff), 0, GNTCOPY_SOURCE_GREF),
            );
        }
    }
    granter.grant(27, a);
    let by_ref = |offset| CopyPtr { u: 27, domid: DOMID_SELF, offset, ..Default::default() };
    for (from, to, len) in [
        (0, 0, 4096),
        (0, 0, 4097),
        (1, 0, 4096),
        (0, 1, 4096),
        (4095, 4095, 1),
        (4095, 0, 2),
        (4096, 0, 1),
        (0xffff, 0xffff, 0xffff),
        (0, 0, 0xffff),
    ] {
        let answer = op(by_ref(from), own_page(b, to), len, GNTCOPY_SOURCE_GREF);
        test.answer(format_args!("G28.copy({from},{to},{len})"), format_args!("{answer} flags={:#x}", granter.flags(27)));
    }
    granter.entry(27, 0, 0, 0);
    // G22: a list that takes long, while interrupts come: each is done once, in order.
    const OPS: u64 = 4096;
    let list = Page::take_aligned(64);
    a.fill(1);
    let fields = |n: u64| {
        let at = n * 40;
        (list.offset(at / 4096), at % 4096)
    };
    // Word n of page a to word n of b, then of b to c; every eighth is refused.
    let put = |n: u64, field: u64, value: u16| {
        let (page, at) = fields(n);
        let at = at + field;
        page.offset(at / 4096).write16(at % 4096, value);
    };
    let get = |n: u64, field: u64| {
        let (page, at) = fields(n);
        let at = at + field;
        page.offset(at / 4096).read16(at % 4096)
    };
    (0..512).for_each(|n| a.write64(n * 8, n + 1));
    for n in 0..OPS {
        let (from, to) = if n % 2 == 0 { (a, b) } else { (b, c) };
        let offset = (n / 2 % 512 * 8) as u16;
        for (field, gfn) in [(0, from.gfn()), (16, to.gfn())] {
            (0..4).for_each(|part| put(n, field + part * 2, (gfn >> (part * 16)) as u16));
            put(n, field + 8, DOMID_SELF);
            put(n, field + 10, offset);
        }
        put(n, 32, if n % 8 == 7 { 5000 } else { 8 });
        put(n, 34, 0);
        put(n, 36, 0x7777);
    }
    gic::enable(GUEST_TIMER_VIRT_PPI);
    cpu::interrupts(true);
    timer::arm_virtual(200);
    let rc = hypercall::raw(GRANT_TABLE_OP, [GNTTABOP_COPY.into(), list.address(), OPS, 0, 0]);
    cpu::interrupts(false);
    timer::stop();
    let okay = (0..OPS).filter(|n| get(*n, 36) == 0).count();
    let refused = (0..OPS).filter(|n| get(*n, 36).cast_signed() == GNTST_BAD_COPY_ARG).count();
    let arrived = (0..512).filter(|n| c.read64(n * 8) == n + 1).count();
    test.answer("G22.copy(4096)", format_args!("rc={rc} okay={okay} refused={refused} arrived={arrived}"));
    // H08: counts.
    for cmd in
        [GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GNTTABOP_COPY, GNTTABOP_SWAP_GRANT_REF, GNTTABOP_TRANSFER, GNTTABOP_CACHE_FLUSH]
    {
        for count in [0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32] {
            let rc = hypercall::raw(GRANT_TABLE_OP, [cmd.into(), unmapped(), count, 0, 0]);
            test.rc(format_args!("H08.grant_table_op({cmd},count={count:#x})"), rc);
        }
    }
}

/// G14: machine addresses that are nobody's, the hypervisor's, a device's.
fn flushes(test: &mut Test) {
    let mut worst = 0;
    for mebibyte in 0..8192_u64 {
        let mut flush = CacheFlush { dev_bus_addr: mebibyte << 20, offset: 0, length: 4096, op: GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL };
        let rc = hypercall::grant(GNTTABOP_CACHE_FLUSH, &mut flush);
        // Its own pages may be among them.
        if !matches!(rc, 0 | -1 | -22) {
            worst = rc;
        }
    }
    test.answer("G14.cache_flush(everywhere)", Rc(worst));
    for (offset, length) in [(0, 4096), (1, 4096), (4095, 1), (4096, 1), (0xffff, 0xffff)] {
        for op in [1, 2, 3, 4, 1 << 30] {
            let mut flush = CacheFlush { dev_bus_addr: 1 << 52, offset, length, op };
            test.rc(format_args!("G14.cache_flush({offset},{length},{op:#x})"), hypercall::grant(GNTTABOP_CACHE_FLUSH, &mut flush));
        }
    }
}
