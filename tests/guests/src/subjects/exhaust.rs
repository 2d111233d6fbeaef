//! What a domain uses up, last of all: pages, and tables of stage 2 (misuse M06, M15, M18).

use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe, probe::Outcome};
use crate::verdict::Test;
use guest_abi::memory::*;
use guest_abi::xen::DOMID_SELF;

pub fn run(test: &mut Test) {
    let pages = || hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF });
    let most = hypercall::memory(XENMEM_MAXIMUM_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF });
    let first = pages();
    // M15: until there is no more, in the unused space behind the RAM; ten times more it stays so.
    let mut gfn = 0x4_8000;
    while gfn < 0x5_0000 && super::memory::populate(gfn) == 1 {
        gfn += 1;
    }
    let refused = (0..10).filter(|n| super::memory::populate(gfn + n) == 0).count();
    test.answer("M15.populate all", format_args!("all={} refused={refused} got={}", pages() == most, most - first));
    let list = Page::take();
    (0..8).for_each(|n| list.write64(n * 8, gfn + n));
    let mut args = MemoryReservation { extent_start: list.address(), nr_extents: 8, domid: DOMID_SELF, ..Default::default() };
    test.rc("M15.populate 8 more", hypercall::memory(XENMEM_POPULATE_PHYSMAP, &mut args));
    let mut args =
        MemoryReservation { extent_start: list.address(), nr_extents: 1, extent_order: 9, domid: DOMID_SELF, ..Default::default() };
    test.rc("M15.populate 2 MiB", hypercall::memory(XENMEM_POPULATE_PHYSMAP, &mut args));
    let given = (0x4_8000..gfn).filter(|gfn| super::memory::decrease(*gfn) == 1).count() as i64;
    test.answer("M15.given back", format_args!("all={} same={}", given == most - first, pages() == first));
    // M18: one page in each GiB needs two tables each time; the limit is the domain's own, and what it has stays usable.
    let own = Page::take_aligned(1024);
    let (mut moved, mut refused) = (0_u64, 0);
    for n in 0..1024_u64 {
        super::memory::decrease(own.gfn() + n);
        let sparse = 0x10_0000 + n % 200 * 0x4_0000 + n / 200 * 0x200;
        if super::memory::populate(sparse) == 1 {
            moved += 1;
        } else {
            refused += 1;
            super::memory::populate(own.gfn() + n);
        }
    }
    test.answer("M18.sparse pages", format_args!("some={} refused={}", moved > 100, refused > 0));
    let gone = (0..1024_u64).filter(|n| super::memory::decrease(0x10_0000 + n % 200 * 0x4_0000 + n / 200 * 0x200) == 1).count() as u64;
    test.answer("M18.given back", gone == moved);
    let back =
        (0..1024).filter(|n| probe::read(own.offset(*n).address(), 3).is_ok() || super::memory::populate(own.gfn() + n) == 1).count();
    test.answer(
        "M18.back",
        format_args!("{back} {}", Outcome(probe::write(own.offset(1023).address(), 3, 5).map(|()| own.offset(1023).read64(0)))),
    );
    split(test);
}

/// M06: with no table left for it, a page of a larger block is taken away or not at all: what remains is usable.
fn split(test: &mut Test) {
    // What a block of 2 MiB may have become: whole ones, filled so that each page is known.
    let block = Page::take_aligned(512);
    (0..512).for_each(|n| block.offset(n).write64(0, 0x4d06_0000 | n));
    // Single pages far from each other, until no table is left for one more.
    let spare = Page::take_aligned(1024);
    let sparse = |n: u64| 0x10_0000 + n % 200 * 0x4_0000 + n / 200 * 0x200;
    let moved =
        (0..1024).take_while(|n| super::memory::decrease(spare.gfn() + n) == 1 && super::memory::populate(sparse(*n)) == 1).count() as u64;
    test.answer("M06.tables used up", moved < 1024);
    let (mut kept, mut gone, mut odd) = (0, 0, 0);
    for n in (0..512).step_by(37) {
        let page = block.offset(n);
        match (super::memory::decrease(page.gfn()), probe::read(page.address(), 3)) {
            (1, Err(_)) => gone += 1,
            (0, Ok(value)) if value == 0x4d06_0000 | n => kept += 1,
            _ => odd += 1,
        }
    }
    test.answer("M06.decrease", format_args!("all={} odd={odd}", kept + gone == 14));
    let rest = (0..512).filter(|n| n % 37 != 0).filter(|n| block.offset(*n).read64(0) == 0x4d06_0000 | n).count();
    test.answer("M06.rest", rest);
    let back = (0..512)
        .step_by(37)
        .filter(|n| probe::read(block.offset(*n).address(), 3).is_ok() || super::memory::populate(block.offset(*n).gfn()) == 1)
        .count();
    test.answer("M06.back", back);
    let gone = (0..moved).filter(|n| super::memory::decrease(sparse(*n)) == 1).count() as u64;
    test.answer("M06.given back", gone == moved);
}
