//! Misuse of grants by two vCPUs at once. Each operation begins with its row of the catalogue (G03, G07, G20, G25).

use super::granter::{Granter, TABLE, map, unmap};
use super::race;
use crate::pair::books::is_xenolith;
use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe};
use crate::verdict::Test;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::DOMID_SELF;

/// Where grants are mapped.
const TARGET: u64 = 0x3_8c00;

static HANDLE: AtomicU32 = AtomicU32::new(0);
static STATUS: AtomicI32 = AtomicI32::new(0);
static SHARED: AtomicU64 = AtomicU64::new(0);
static OUTCOME: AtomicU32 = AtomicU32::new(0);
const ROUNDS: u32 = 300;

pub fn run(test: &mut Test) {
    let Some(granter) = Granter::new() else { return test.error("table", "not mapped") };
    if !race::ready() {
        return test.skip("races", "one vCPU");
    }
    by_two(test, &granter);
    in_motion(test, &granter);
    frames(test);
    test.rc("audit.pages", hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF }));
}

fn add_frame(gpfn: u64) -> i64 {
    let mut args = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx: 3, gpfn };
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args)
}

fn by_two(test: &mut Test, granter: &Granter) {
    let page = Page::take();
    granter.grant(28, page);
    granter.grant(29, page);
    // G07: one handle, unmapped by both at once: one of them has it, and it is free once.
    let (mut once, mut differ, mut met, mut rounds) = (0, 0, 0, 0);
    let ended = race::beside(
        || {
            for round in 0..ROUNDS {
                if !race::meet(round * 2 + 1) {
                    return;
                }
                STATUS.store(unmap(HANDLE.load(SeqCst), TARGET << 12, 0).into(), SeqCst);
                race::meet(round * 2 + 2);
            }
        },
        || {
            for round in 0..ROUNDS {
                HANDLE.store(map(GNTMAP_HOST_MAP, 28, granter.own, TARGET << 12).handle, SeqCst);
                if !race::meet(round * 2 + 1) {
                    return;
                }
                let mine = i32::from(unmap(HANDLE.load(SeqCst), TARGET << 12, 0));
                if !race::meet(round * 2 + 2) {
                    return;
                }
                met += 1;
                let both = [mine, STATUS.load(SeqCst)];
                once += u32::from(both.contains(&0) && both.iter().any(|status| *status < 0));
                let two = [0, 1].map(|n| map(GNTMAP_HOST_MAP, 28 + n, granter.own, (TARGET + 1 + u64::from(n)) << 12));
                differ += u32::from(two[0].handle != two[1].handle);
                rounds += 1;
                (0..2).for_each(|n| {
                    unmap(two[n].handle, (TARGET + 1 + n as u64) << 12, 0);
                });
            }
        },
    );
    let answer =
        format_args!("ended={ended} met={} once={} differ={} flags={:#x}", met > 0, once == met, differ == rounds, granter.flags(28));
    test.answer("G07.unmap by two", answer);
    granter.entry(28, 0, 0, 0);
    granter.entry(29, 0, 0, 0);
}

fn in_motion(test: &mut Test, granter: &Granter) {
    let page = Page::take();
    granter.grant(28, page);
    // G20: the entry's word changes all the time: each call returns, and what it says is true.
    SHARED.store(page.gfn() << 32 | u64::from(granter.own) << 16, SeqCst);
    let mut odd = 0;
    let ended = race::beside(
        || {
            // Flags, domain and frame in one word, as the entry has them.
            let word = |flags: u16| u64::from(flags) | SHARED.load(SeqCst);
            while !race::stopped() {
                for flags in [GTF_PERMIT_ACCESS, 0, GTF_PERMIT_ACCESS | GTF_READONLY] {
                    let _ = probe::write((TABLE << 12) + 30 * 8, 3, word(flags));
                }
            }
        },
        || {
            for _ in 0..2000 {
                let op = map(GNTMAP_HOST_MAP, 30, granter.own, TARGET << 12);
                odd += u32::from(!matches!(op.status, 0 | -1));
                if op.status == 0 {
                    odd += u32::from(unmap(op.handle, TARGET << 12, 0) != 0);
                }
            }
        },
    );
    granter.entry(30, 0, 0, 0);
    test.answer("G20.entry in motion", format_args!("ended={ended} odd={odd}"));
    // G03: maps beside a page that comes and goes.
    SHARED.store(page.gfn(), SeqCst);
    let odd = AtomicU32::new(0);
    let ended = race::beside(
        || {
            while !race::stopped() {
                super::memory::decrease(SHARED.load(SeqCst));
                super::memory::populate(SHARED.load(SeqCst));
            }
        },
        || {
            for _ in 0..500 {
                let op = map(GNTMAP_HOST_MAP, 28, granter.own, TARGET << 12);
                let fine = if op.status == 0 { unmap(op.handle, TARGET << 12, 0) == 0 } else { op.status == GNTST_BAD_PAGE };
                odd.fetch_add(u32::from(!fine), SeqCst);
            }
        },
    );
    super::memory::populate(page.gfn());
    test.answer("G03.page comes and goes", format_args!("ended={ended} odd={} flags={:#x}", odd.load(SeqCst), granter.flags(28)));
    granter.entry(28, 0, 0, 0);
}

fn frames(test: &mut Test) {
    // G25: one grant frame, to two places at once: one of them has it. On Xen both may have it.
    let (mut none, mut two) = (0, 0);
    let take =
        |gpfn| hypercall::memory(XENMEM_REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn, ..Default::default() });
    let ended = race::beside(
        || {
            for round in 0..ROUNDS {
                if !race::meet(round * 2 + 1) {
                    return;
                }
                OUTCOME.store(add_frame(TARGET) as u32, SeqCst);
                race::meet(round * 2 + 2);
            }
        },
        || {
            for round in 0..ROUNDS {
                if !race::meet(round * 2 + 1) {
                    return;
                }
                let mine = add_frame(TARGET + 1);
                if !race::meet(round * 2 + 2) {
                    return;
                }
                match (mine, i64::from(OUTCOME.load(SeqCst).cast_signed())) {
                    (0, -16) | (-16, 0) => {}
                    (0, 0) => two += 1,
                    _ => none += 1,
                }
                take(TARGET);
                take(TARGET + 1);
            }
        },
    );
    if two > 0 && is_xenolith() {
        test.fail("G25.frame by two", format_args!("{two} times both had it"));
    }
    test.answer("G25.frame by two", format_args!("ended={ended} none={none}"));
}
