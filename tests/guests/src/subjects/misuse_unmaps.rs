//! Misuse of grant handles: unmapped twice, in part, at the wrong address, while the page goes away. Each operation begins with its row
//! of the catalogue (G15, G17, G24).

use super::granter::{Granter, map, unmap};
use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe, probe::Outcome};
use crate::verdict::{Status, Test};
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::{DOMID_SELF, hypercall::GRANT_TABLE_OP};

/// Where grants are mapped.
const TARGET: u64 = 0x3_8c00;

pub fn run(test: &mut Test) {
    let Some(granter) = Granter::new() else { return test.error("table", "not mapped") };
    unmaps(test, &granter);
    moves(test, &granter);
    test.rc("audit.pages", hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF }));
}

fn unmaps(test: &mut Test, granter: &Granter) {
    let page = Page::take();
    granter.grant(24, page);
    // G24: the same handle again; nothing to unmap; wrong, then right.
    let op = map(GNTMAP_HOST_MAP, 24, granter.own, TARGET << 12);
    let three = [0; 3].map(|_: i32| unmap(op.handle, TARGET << 12, 0));
    test.answer("G24.thrice", format_args!("map={} unmap={three:?} flags={:#x}", op.status, granter.flags(24)));
    let op = map(GNTMAP_HOST_MAP, 24, granter.own, TARGET << 12);
    let nothing = [0; 2].map(|_: i32| unmap(op.handle, 0, 0));
    let right = unmap(op.handle, TARGET << 12, 0);
    test.answer("G24.nothing", format_args!("unmap={nothing:?} then={right} flags={:#x}", granter.flags(24)));
    super::memory::populate(TARGET);
    let op = map(GNTMAP_HOST_MAP, 24, granter.own, (TARGET + 2) << 12);
    let wrong = [(TARGET + 3) << 12, (TARGET + 2) << 12 | 1].map(|at| unmap(op.handle, at, 0));
    let right = unmap(op.handle, (TARGET + 2) << 12, 0);
    test.answer("G24.wrong", format_args!("unmap={wrong:?} then={right} flags={:#x}", granter.flags(24)));
    test.answer("G24.page", Outcome(probe::read(page.address(), 3)));
    for new_addr in [0, 0x3900_0000, 1] {
        let op = map(GNTMAP_HOST_MAP, 24, granter.own, TARGET << 12);
        let replace = Page::take();
        replace.write64(0, TARGET << 12);
        replace.write64(8, new_addr);
        replace.write32(16, op.handle);
        replace.write16(20, 0x77);
        let rc = hypercall::raw(GRANT_TABLE_OP, [GNTTABOP_UNMAP_AND_REPLACE.into(), replace.address(), 1, 0, 0]);
        let status = replace.read16(20).cast_signed();
        test.answer(
            format_args!("G24.replace({new_addr:#x})"),
            format_args!("{} then={}", Status(rc, status), unmap(op.handle, TARGET << 12, 0)),
        );
    }
    granter.entry(24, 0, 0, 0);
}

/// G15: the mapping at an address is another than the handle's.
fn moves(test: &mut Test, granter: &Granter) {
    let (a, b) = (Page::take(), Page::take());
    a.write64(0, 0xa);
    b.write64(0, 0xb);
    granter.grant(25, a);
    granter.grant(26, b);
    let first = map(GNTMAP_HOST_MAP, 25, granter.own, TARGET << 12);
    let remove =
        hypercall::memory(XENMEM_REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn: TARGET, ..Default::default() });
    let second = map(GNTMAP_HOST_MAP, 26, granter.own, TARGET << 12);
    test.answer(
        "G15.over",
        format_args!("first={} remove={remove} second={} seen={}", first.status, second.status, Outcome(probe::read(TARGET << 12, 3))),
    );
    let gone = unmap(first.handle, TARGET << 12, 0);
    test.answer(
        "G15.unmap first",
        format_args!(
            "status={gone} seen={} flags={:#x},{:#x}",
            Outcome(probe::read(TARGET << 12, 3)),
            granter.flags(25),
            granter.flags(26)
        ),
    );
    let gone = unmap(second.handle, TARGET << 12, 0);
    test.answer(
        "G15.unmap second",
        format_args!(
            "status={gone} seen={} flags={:#x},{:#x}",
            Outcome(probe::read(TARGET << 12, 3)),
            granter.flags(25),
            granter.flags(26)
        ),
    );
    let gone = unmap(first.handle, TARGET << 12, 0);
    test.answer("G15.unmap first again", format_args!("status={gone} flags={:#x}", granter.flags(25)));
    // Two mappings of one grant, and of one page at two places.
    let ops = [0, 1, 2].map(|n| map(GNTMAP_HOST_MAP, 26, granter.own, (TARGET + n) << 12));
    let answer = ops.map(|op| op.status);
    let handles = ops[0].handle != ops[1].handle && ops[1].handle != ops[2].handle;
    test.answer("G15.three", format_args!("status={answer:?} differ={handles}"));
    let crossed = unmap(ops[0].handle, (TARGET + 1) << 12, 0);
    let rest = [0, 1, 2].map(|n| unmap(ops[n as usize].handle, (TARGET + n) << 12, 0));
    test.answer("G15.three.unmap", format_args!("crossed={crossed} status={rest:?} flags={:#x}", granter.flags(26)));
    // Give a page away that is granted and mapped: it lives on until the mapping is gone.
    granter.grant(25, a);
    let op = map(GNTMAP_HOST_MAP, 25, granter.own, TARGET << 12);
    let rc = super::memory::decrease(a.gfn());
    test.answer("G17.decrease granted", format_args!("map={} rc={rc} seen={}", op.status, Outcome(probe::read(TARGET << 12, 3))));
    test.answer("G17.unmap", format_args!("status={} flags={:#x}", unmap(op.handle, TARGET << 12, 0), granter.flags(25)));
    test.rc("G17.populate", super::memory::populate(a.gfn()));
    let op = map(GNTMAP_HOST_MAP, 25, granter.own, TARGET << 12);
    test.answer("G17.map again", format_args!("status={}", op.status));
    unmap(op.handle, TARGET << 12, 0);
    granter.entry(25, 0, 0, 0);
    granter.entry(26, 0, 0, 0);
}
