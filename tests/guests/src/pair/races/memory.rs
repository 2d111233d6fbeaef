//! Memory: taken away, given back, mapped by others and moved at the same time (misuse M03, M19, M20, M26).

use super::arena::Place::{Dom0, Peer, Second};
use super::arena::*;
use super::grants::{balloon, dom0_page};
use crate::pair::books::is_xenolith;
use crate::pair::jobs::{self, args};
use crate::pair::{ops, peer};
use crate::runtime::peer::{BASE, MAILBOX_GFN, MEMORY};
use crate::runtime::{control, hypercall, page::Page, probe};
use guest_abi::domctl::*;
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::version::XENVER_GET_FEATURES;
use guest_abi::xen::{DOMID_SELF, hypercall as nr};

/// Where things are mapped in the window.
const AT: u64 = 0x110;
/// The first frame behind the peer's memory.
const BEHIND: u64 = (BASE + MEMORY) / 4096;

pub const ALL: &[Race] = &[
    Race { name: "M03.populate_beside_death", sides: &[(Dom0, populate_until_dead), (Second, kill)], ..DYING },
    Race {
        name: "M03.populate_itself_beside_death",
        sides: &[(Peer(0), populate_for_ever), (Peer(1), populate_for_ever), (Second, kill)],
        ..DYING
    },
    Race { name: "M19.foreign_map_beside_death", sides: &[(Dom0, map_until_dead), (Second, kill)], ..DYING },
    Race { name: "M22.resource_beside_death", sides: &[(Dom0, acquire_until_dead), (Second, kill)], ..DYING },
    Race { name: "M23.cacheflush_beside_death", sides: &[(Dom0, flush_until_dead), (Second, kill)], ..DYING },
    Race { name: "M29.claim_beside_death", sides: &[(Dom0, claim_until_dead), (Second, kill)], ..DYING },
    Race { name: "M20.foreign_map_beside_balloon", setup: page, sides: &[(Dom0, map_and_look), (Peer(0), balloon)], ..LIVING },
    Race {
        name: "M26.read_beside_reuse",
        rounds: 6,
        setup: |on| [on.page(0, 0x5a), other(), 0, 0],
        sides: &[(Peer(1), read_on), (Peer(0), balloon), (Dom0, churn_other)],
        check: |_, a, results| all_well(results).and(end_other(a)),
        ..LIVING
    },
    Race {
        name: "M05.page_taken_away_by_two",
        rounds: 40,
        setup: page,
        sides: &[(Peer(0), |a| jobs::decrease(args([a[1]]))), (Peer(1), |a| jobs::decrease(args([a[1]])))],
        check: |on, a, [x, y, _]| {
            // Xen frees it once, but tells both so if both have found it before.
            must(matches!((x, y), (1, 0) | (0, 1)) || (x, y) == (1, 1) && !is_xenolith(), "a page was not taken away once")?;
            must(on.peer.rc(jobs::populate, args([a[1]])) == 1, "it does not come back")
        },
        ..LIVING
    },
    Race {
        name: "M15.place_filled_by_two",
        rounds: 4,
        world: World::Fresh,
        setup: |on| [on.page(0, 0), on.peer.call(0, |a| jobs::decrease(args([a[0]])), args([on.page(0, 0)])), 0, 0],
        sides: &[(Peer(0), |a| jobs::populate(args([a[1]]))), (Peer(1), |a| jobs::populate(args([a[1]])))],
        check: |_, _, [x, y, _]| must(x <= 1 && y <= 1 && x + y > 0, "a place was not filled"),
        ..LIVING
    },
    Race {
        name: "M14.shared_page_moved_by_two",
        setup: |on| [on.peer.call(0, remove_shared, args([])), 0, 0, 0],
        sides: &[(Peer(0), move_shared), (Peer(1), move_shared), (Dom0, info_on)],
        check: |on, _, results| {
            all_well(results)?;
            on.peer.call(0, remove_shared, args([]));
            must(on.peer.rc(jobs::map_shared, args([])) == 0, "the shared page is lost")
        },
        ..LIVING
    },
    Race {
        name: "M15.limit_beside_populate",
        sides: &[(Dom0, limit_on), (Peer(0), populate_behind), (Peer(1), populate_behind)],
        check: |on, _, results| {
            all_well(results)?;
            must(pages_of(on.peer.id) == MEMORY / 4096, "pages are not counted right")
        },
        ..LIVING
    },
    Race { name: "M28.foreign_map_over_grant", setup: |on| [on.page(0, 0x5a), offer(on, 1), 0, 0], ..FOREIGN_OVER_GRANT },
    Race {
        name: "M28.foreign_map_over_grant_of_the_same_page",
        setup: |on| [offer(on, 0), 0, 0, 0],
        not_on_xen: Some("Xen loses the reference of a foreign mapping that a grant of the same page takes the place of"),
        ..FOREIGN_OVER_GRANT
    },
    Race { name: "A27.results_written_beside_balloon", setup: page, sides: &[(Peer(0), ask_into), (Peer(1), balloon)], ..LIVING },
    Race { name: "A27.arguments_read_beside_balloon", setup: page, sides: &[(Peer(0), ask_from), (Peer(1), balloon)], ..LIVING },
    Race {
        name: "M25.results_written_beside_unmap",
        setup: offer_dom0,
        sides: &[(Peer(0), ask_into_window), (Peer(1), map_and_unmap)],
        ..LIVING
    },
    Race { name: "M17.foreign_maps_by_two", setup: |on| [on.page(0, 0x5a), on.page(1, 0x5b), 0, 0], ..FOREIGN_BY_TWO },
    Race {
        name: "M17.foreign_maps_of_one_page_by_two",
        setup: |on| [on.page(0, 0x5a), on.page(0, 0x5a), 0, 0],
        not_on_xen: Some("Xen loses the reference of a foreign mapping that another of the same page takes the place of"),
        ..FOREIGN_BY_TWO
    },
    Race { name: "M13.batch_beside_balloon", setup: page, sides: &[(Dom0, map_batch), (Peer(0), balloon)], ..LIVING },
];

/// Dom0 maps a page of the peer, and another, or the same, by reference 9 at one place.
const FOREIGN_OVER_GRANT: Race = Race {
    sides: &[(Dom0, map_foreign_on), (Second, map_grant_on)],
    check: |on, _, results| {
        ops::remove(Page::hole(AT).gfn());
        all_well(results)?;
        must(on.peer.call(0, jobs::flags, args([9])) == u64::from(GTF_PERMIT_ACCESS), "the grant is still in use")
    },
    ..LIVING
};

/// Both vCPUs of Dom0 map a page of the peer at one place, the first while it comes and goes.
const FOREIGN_BY_TWO: Race = Race {
    sides: &[(Dom0, map_foreign_on), (Second, |a| map_foreign_on(args([a[0], a[2]]))), (Peer(0), balloon)],
    check: |_, _, results| {
        ops::remove(Page::hole(AT).gfn());
        all_well(results)
    },
    ..LIVING
};

/// A page of the peer, which Dom0 may map by reference 9.
fn offer(on: &Ground, slot: usize) -> u64 {
    let gfn = on.page(slot, 0x5a);
    on.peer.call(0, jobs::grant, args([9, GTF_PERMIT_ACCESS.into(), 0, gfn]));
    gfn
}

fn page(on: &Ground) -> [u64; 4] {
    [on.page(0, 0x5a), 0, 0, 0]
}

fn hole() -> u64 {
    Page::hole(AT).gfn()
}

fn reserve(cmd: u64, gfn: u64, domid: u16) -> i64 {
    ops::reserve(cmd, &[gfn], 0, domid)
}

/// How many were done, or an error.
fn few(rc: i64) -> u64 {
    if rc == 1 { 0 } else { answered(rc) }
}

fn populate_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|n| {
        let gfn = BEHIND + n % 64;
        few(reserve(XENMEM_POPULATE_PHYSMAP, gfn, a[0] as u16)) | few(reserve(XENMEM_DECREASE_RESERVATION, gfn - n % 3, a[0] as u16))
    })
}

fn populate_for_ever(_: [u64; 6]) -> u64 {
    for n in 0.. {
        reserve(XENMEM_POPULATE_PHYSMAP, BEHIND + n % 128, DOMID_SELF);
        reserve(XENMEM_DECREASE_RESERVATION, BEHIND + n * 7 % 128, DOMID_SELF);
    }
    0
}

/// Maps a page of the peer's and takes it away again.
fn map_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|n| {
        let rc = ops::map_foreign(a[0] as u16, MAILBOX_GFN - 1 - n % 32, hole());
        if rc == 0 { among(ops::remove(hole()), &[0]) } else { answered(rc) }
    })
}

fn acquire_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|_| {
        let mut list = [hole()];
        let frame_list = hypercall::address(&mut list);
        let kind = XENMEM_RESOURCE_GRANT_TABLE;
        let mut op = AcquireResource { domid: a[0] as u16, kind, nr_frames: 1, frame_list, ..Default::default() };
        let rc = hypercall::memory(XENMEM_ACQUIRE_RESOURCE, &mut op);
        if rc == 0 { among(ops::remove(hole()), &[0]) } else { answered(rc) }
    })
}

fn flush_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|_| {
        let mut op = guest_abi::domctl::CacheFlush { start_pfn: BASE / 4096, nr_pfns: 512 };
        answered(control::domctl(XEN_DOMCTL_CACHEFLUSH, &mut { a[0] as u16 }, &mut op))
    })
}

fn claim_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|n| {
        let op = &mut MemoryReservation { nr_extents: 2100 + n % 32, domid: a[0] as u16, ..Default::default() };
        answered(hypercall::memory(XENMEM_CLAIM_PAGES, op))
    })
}

/// What is seen through a foreign mapping has been in the page.
fn map_and_look(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let rc = ops::map_foreign(a[0] as u16, a[1], hole());
        if rc != 0 {
            return answered(rc);
        }
        let byte = Page::hole(AT).read8(64);
        among(ops::remove(hole()), &[0]) | among(byte.into(), &[0, 0x5a])
    })
}

/// A domain with no memory yet; its number.
fn other() -> u64 {
    match peer::create(peer::config(1)) {
        Ok(id) => id.into(),
        Err(_) => 0,
    }
}

fn end_other(a: [u64; 6]) -> Verdict {
    let id = a[2] as u16;
    control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, id);
    must(id != 0 && ops::within(5_000_000, || !peer::exists(id)), "something of the third domain is left")
}

/// Gives pages to the third domain, fills them with 0xee and takes them away.
fn churn_other(a: [u64; 6]) -> u64 {
    let id = a[2] as u16;
    a_while(|_| {
        if reserve(XENMEM_POPULATE_PHYSMAP, BASE / 4096, id) != 1 {
            return odd(1);
        }
        let mapped = ops::map_foreign(id, BASE / 4096, hole());
        let byte = Page::hole(AT).read8(8);
        Page::hole(AT).fill(0xee);
        // Its pages may come from the peer, but not with what that wrote, and the other way round. Xen does not clean what a domain gives
        // back by itself.
        let clean = byte == 0 || !is_xenolith();
        if !is_xenolith() {
            Page::hole(AT).fill(0);
        }
        let taken = (mapped, ops::remove(hole()), reserve(XENMEM_DECREASE_RESERVATION, BASE / 4096, id));
        if taken == (0, 0, 1) && clean { 0 } else { odd(2) }
    })
}

/// Reads a page that comes and goes: its own words, or an abort.
fn read_on(a: [u64; 6]) -> u64 {
    a_while(|_| match probe::read(a[1] * 4096 + 1024, 3) {
        Ok(0 | 0x5a5a_5a5a_5a5a_5a5a) | Err(_) => 0,
        Ok(word) => odd(word.cast_signed()),
    })
}

/// Maps the shared page, which can be at one place only, somewhere.
fn move_shared(_: [u64; 6]) -> u64 {
    a_while(|n| {
        let gpfn = Page::hole(AT + n % 3).gfn();
        let mut op = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_SHARED_INFO, idx: 0, gpfn };
        let rc = hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut op);
        among(rc, &[0, -16]) | answered(ops::remove(gpfn))
    })
}

/// Takes the shared page away from where it may be.
fn remove_shared(_: [u64; 6]) -> u64 {
    [0x40, AT, AT + 1, AT + 2].into_iter().for_each(|n| {
        ops::remove(Page::hole(n).gfn());
    });
    0
}

fn info(id: u16) -> (i64, GetDomainInfo) {
    let mut info = GetDomainInfo::default();
    (control::domctl(XEN_DOMCTL_GETDOMAININFO, &mut { id }, &mut info), info)
}

fn info_on(a: [u64; 6]) -> u64 {
    a_while(|_| among(info(a[0] as u16).0, &[0]))
}

/// Pages that belong to a domain.
fn pages_of(id: u16) -> u64 {
    info(id).1.tot_pages
}

fn limit_on(a: [u64; 6]) -> u64 {
    let set = |more| control::domctl(XEN_DOMCTL_MAX_MEM, &mut { a[0] as u16 }, &mut MaxMem { max_memkb: MEMORY / 1024 + more });
    a_while(|n| among(set(n % 5 * 4), &[0]) | among(set(1024), &[0]))
}

/// Fills places behind the memory, each vCPU its own, and empties them.
fn populate_behind(_: [u64; 6]) -> u64 {
    let first = BEHIND + 64 * crate::runtime::cpu::index() as u64;
    a_while(|n| {
        let (done, gfn) = (reserve(XENMEM_POPULATE_PHYSMAP, first + n % 8, DOMID_SELF), first + n % 8);
        if done == 1 { among(reserve(XENMEM_DECREASE_RESERVATION, gfn, DOMID_SELF), &[1]) } else { answered(done) }
    })
}

fn map_foreign_on(a: [u64; 6]) -> u64 {
    a_while(|_| answered(ops::map_foreign(a[0] as u16, a[1], hole())) | answered(ops::remove(hole())))
}

/// A mapping that something else has taken the place of can still be unmapped.
fn map_grant_on(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let (status, handle) = ops::map_grant(a[0] as u16, 9, GNTMAP_HOST_MAP, hole());
        if status != 0 {
            return answered(status);
        }
        u64::from(!ops::within(5_000_000, || ops::unmap_grant(handle, hole()) == 0))
    })
}

/// Has results written into a page that comes and goes.
fn ask_into(a: [u64; 6]) -> u64 {
    a_while(|n| answer_into(a[1] * 4096, n))
}

fn answer_into(address: u64, n: u64) -> u64 {
    let rc = match n % 3 {
        0 => hypercall::raw(nr::XEN_VERSION, [XENVER_GET_FEATURES.into(), address + 256, 0, 0, 0]),
        1 => hypercall::raw(nr::GRANT_TABLE_OP, [GNTTABOP_QUERY_SIZE.into(), address, 1, 0, 0]),
        _ => hypercall::raw(nr::MEMORY_OP, [XENMEM_MEMORY_MAP, address, 0, 0, 0]),
    };
    if rc == 1 { 0 } else { answered(rc) }
}

/// Has a list of frames read from a page that comes and goes: zeros and 0x5a5a… are no frames that one could map.
fn ask_from(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let (extent_start, nr_extents) = (a[1] * 4096 + 4096 - 64, 8);
        let mut op = MemoryReservation { extent_start, nr_extents, extent_order: 0, domid: DOMID_SELF, ..Default::default() };
        among(hypercall::memory(XENMEM_DECREASE_RESERVATION, &mut op), &[0, -14])
    })
}

fn offer_dom0(on: &Ground) -> [u64; 4] {
    dom0_page(3).fill(0x77);
    ops::grant(14, GTF_PERMIT_ACCESS, on.peer.id, dom0_page(3).gfn());
    [0; 4]
}

/// A page of another domain is no place for results, be it there or not.
fn ask_into_window(_: [u64; 6]) -> u64 {
    a_while(|_| among(hypercall::raw(nr::XEN_VERSION, [XENVER_GET_FEATURES.into(), Page::hole(AT).address(), 0, 0, 0]), &[-14]))
}

fn map_and_unmap(_: [u64; 6]) -> u64 {
    a_while(|_| {
        let (status, handle) = ops::map_grant(0, 14, GNTMAP_HOST_MAP, hole());
        among(status, &[0]) | among(ops::unmap_grant(handle, hole()), &[0])
    })
}

/// Maps a batch of frames, one of which comes and goes.
fn map_batch(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let mut gfns = [MAILBOX_GFN - 1, a[1], MAILBOX_GFN - 2, a[1]];
        let mut places: [u64; 4] = core::array::from_fn(|n| Page::hole(AT + n as u64).gfn());
        let mut errors = [0x77_i32; 4];
        let mut op = AddToPhysmapBatch {
            domid: DOMID_SELF,
            space: XENMAPSPACE_GMFN_FOREIGN as u16,
            size: 4,
            foreign_domid: a[0] as u16,
            idxs: hypercall::address(&mut gfns),
            gpfns: hypercall::address(&mut places),
            errs: hypercall::address(&mut errors),
        };
        let rc = hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut op);
        let mut result = answered(rc);
        for (place, error) in places.into_iter().zip(errors) {
            result |= if error == 0 { among(ops::remove(place), &[0]) } else { answered(error.into()) };
        }
        result
    })
}
