use super::*;
use crate::machine::fake::FakeMachine;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const BASE: u64 = 0x4_0000;
const D1: Vmid = Vmid(1);
const D2: Vmid = Vmid(2);

fn mfn(n: u64) -> Mfn {
    Mfn(BASE + n)
}

/// A machine with `pages` pages of RAM, all given to the allocator, where domains may have 1000 pages.
fn table(pages: usize) -> FrameTable {
    let frames = empty_table(pages);
    assert_eq!(frames.give(mfn(0)..mfn(pages as u64), true), pages as u64);
    for n in 1..=3 {
        frames.account(Vmid(n)).set_max_pages(1000);
    }
    frames
}

fn empty_table(pages: usize) -> FrameTable {
    let machine = FakeMachine::leak(BASE << 12, pages);
    let table: Vec<Frame> = (0..pages).map(|_| Frame::default()).collect();
    FrameTable::new(machine, &[mfn(0)..mfn(pages as u64)], table.leak())
}

fn first_byte(frames: &FrameTable, mfn: Mfn) -> u8 {
    let mut byte = [0];
    frames.machine().read(mfn.address(), &mut byte);
    byte[0]
}

#[test]
fn a_frame_is_16_bytes() {
    assert_eq!(size_of::<Frame>(), 16);
}

#[test]
fn boot_memory_is_scrubbed_before_it_is_free() {
    let frames = empty_table(4);
    frames.machine().write(mfn(2).address(), b"secret of a boot module");
    assert_eq!(frames.give(mfn(1)..mfn(9), true), 3);
    assert_eq!(frames.free_pages(), 3);
    assert_eq!(first_byte(&frames, mfn(2)), 0);
    assert_eq!(frames.give(mfn(0)..mfn(4), true), 1, "pages are given once");
    frames.audit().unwrap();
}

#[test]
fn what_boot_does_not_scrub_is_scrubbed_when_it_is_given_out() {
    let frames = empty_table(4);
    frames.machine().write(mfn(2).address(), b"what the firmware left");
    assert_eq!(frames.give(mfn(0)..mfn(4), false), 4);
    frames.account(D1).set_max_pages(4);
    let first = frames.allocate(D1, 2, FrameKind::Ram).unwrap();
    assert_eq!(first_byte(&frames, mfn(2)), 0);
    frames.machine().write(mfn(2).address(), b"mine");
    assert!(frames.release(Mfn(first.0 + 2), D1));
    assert_eq!(first_byte(&frames, mfn(2)), 0);
}

#[test]
fn allocation_counts_ram_only_and_stops_at_max_pages() {
    let frames = table(64);
    frames.account(D1).set_max_pages(5);
    let four = frames.allocate(D1, 2, FrameKind::Ram).unwrap();
    assert!(four.is_aligned(2));
    assert_eq!(frames.allocate(D1, 1, FrameKind::Ram), Err(AllocError::TooMany));
    frames.allocate(D1, 0, FrameKind::Xen).unwrap();
    frames.allocate(D1, 0, FrameKind::Table).unwrap();
    frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    assert_eq!(frames.account(D1).tot_pages(), 5);
    assert_eq!(frames.account(D1).count(FrameKind::Xen), 1);
    assert_eq!(frames.free_pages(), 64 - 7);
    frames.audit().unwrap();
}

#[test]
fn max_pages_near_the_end_of_numbers_does_not_wrap() {
    let frames = table(64);
    frames.account(D1).set_max_pages(u64::MAX);
    frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    assert_eq!(frames.allocate(D1, MAX_ORDER, FrameKind::Ram), Err(AllocError::NoMemory));
    for order in [MAX_ORDER + 1, 31, 32, 63, 64, u32::MAX] {
        assert_eq!(frames.allocate(D1, order, FrameKind::Ram), Err(AllocError::NoMemory));
    }
    assert_eq!(frames.account(D1).tot_pages(), 1);
}

#[test]
fn a_refused_allocation_leaves_no_trace() {
    let frames = table(4);
    frames.allocate(D1, 2, FrameKind::Ram).unwrap();
    assert_eq!(frames.allocate(D1, 0, FrameKind::Ram), Err(AllocError::NoMemory));
    assert_eq!(frames.account(D1).tot_pages(), 4);
    frames.audit().unwrap();
}

#[test]
fn references_go_to_the_owner_alone() {
    let frames = table(16);
    let page = frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    assert!(!frames.get(page, D2));
    assert!(!frames.get(mfn(15), D1), "a free page");
    assert!(!frames.get(mfn(16), D1), "beyond RAM");
    assert!(!frames.get(Mfn(0), D1));
    assert!(!frames.get(Mfn(u64::MAX), D1));
    assert!(frames.get(page, D1));
    assert_eq!(frames.info(page).unwrap().references, 2);
    frames.put(page);

    let shared = frames.allocate(D1, 0, FrameKind::Xen).unwrap();
    assert!(frames.get(shared, D1));
    assert!(!frames.get_ram(shared, D1));
    let tables = frames.allocate(D1, 0, FrameKind::Table).unwrap();
    assert!(!frames.get(tables, D1));
}

#[test]
fn the_last_reference_out_scrubs_and_frees() {
    let frames = table(16);
    let page = frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    assert!(frames.get(page, D1));
    frames.machine().write(page.address(), b"secret");
    assert!(frames.release(page, D1));
    assert!(!frames.release(page, D1), "released once");
    assert_eq!(first_byte(&frames, page), b's', "still referenced");
    assert_eq!((frames.account(D1).tot_pages(), frames.free_pages()), (1, 15));
    frames.put(page);
    assert_eq!(first_byte(&frames, page), 0);
    assert_eq!((frames.account(D1).tot_pages(), frames.free_pages()), (0, 16));
    assert!(!frames.get(page, D1));
    frames.audit().unwrap();
}

#[test]
fn release_is_refused_to_others_and_for_other_kinds() {
    let frames = table(16);
    let page = frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    let shared = frames.allocate(D1, 0, FrameKind::Xen).unwrap();
    for (page, owner) in [(page, D2), (shared, D1), (mfn(15), D1), (mfn(99), D1), (Mfn(u64::MAX), D1)] {
        assert!(!frames.release(page, owner));
    }
    frames.put(shared);
    assert_eq!(frames.account(D1).count(FrameKind::Xen), 0);
}

#[test]
#[should_panic(expected = "put without a reference")]
fn put_of_a_free_page_is_our_own_bug() {
    table(2).put(mfn(0));
}

#[test]
#[should_panic(expected = "last put of allocated RAM")]
fn one_put_too_many_is_our_own_bug() {
    let frames = table(2);
    frames.put(frames.allocate(D1, 0, FrameKind::Ram).unwrap());
}

#[test]
fn orphans_are_found_once_and_may_come_back() {
    let frames = table(16);
    let page = || frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    let (a, b, c, d) = (page(), page(), page(), page());
    for p in [a, b, b, c, d] {
        frames.orphan(p, D1);
    }
    frames.orphan(a, D2);
    assert!(frames.adopt(b, D1), "mapped again");
    assert!(frames.adopt(b, D1), "was no orphan, but is the domain's own");
    assert!(!frames.adopt(a, D2));
    assert!(frames.release(c, D1));
    assert!(!frames.adopt(c, D1));
    frames.orphan(c, D1);
    let found: BTreeSet<_> = core::iter::from_fn(|| frames.pop_orphan(D1)).collect();
    assert_eq!(found, BTreeSet::from([a, d]));
    assert_eq!(frames.pop_orphan(D2), None);
    frames.audit().unwrap();
}

#[test]
fn a_shared_page_remembers_where_it_is_mapped() {
    let frames = table(4);
    let shared = frames.allocate(D1, 0, FrameKind::Xen).unwrap();
    let ram = frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    for gfn in [0, 1, 0xf_ffff_ffff, 0xffff_ffff] {
        frames.set_xen_gfn(shared, Some(Gfn(gfn)));
        assert_eq!(frames.xen_gfn(shared), Some(Gfn(gfn)));
    }
    frames.set_xen_gfn(shared, None);
    frames.set_xen_gfn(ram, Some(Gfn(1)));
    assert_eq!((frames.xen_gfn(shared), frames.xen_gfn(ram)), (None, None));
}

#[test]
fn exact_and_windowed_allocation() {
    let frames = table(64);
    frames.allocate_at(D1, mfn(20), 2, FrameKind::Ram).unwrap();
    assert_eq!(frames.allocate_at(D1, mfn(20), 0, FrameKind::Ram), Err(AllocError::NoMemory));
    assert_eq!(frames.allocate_at(D1, mfn(16), 3, FrameKind::Ram), Err(AllocError::NoMemory));
    assert_eq!(frames.allocate_at(D1, mfn(1), 1, FrameKind::Ram), Err(AllocError::NoMemory), "not aligned");
    assert_eq!(frames.allocate_at(D1, mfn(64), 0, FrameKind::Ram), Err(AllocError::NoMemory), "beyond RAM");
    assert_eq!(frames.allocate_within(D1, 2, FrameKind::Ram, mfn(17)..mfn(29)), Ok(mfn(24)));
    assert_eq!(frames.allocate_within(D1, 2, FrameKind::Ram, mfn(17)..mfn(28)), Err(AllocError::NoMemory));
    assert_eq!(frames.allocate_within(D1, 4, FrameKind::Ram, Mfn(0)..Mfn(u64::MAX)), Ok(mfn(0)));
    assert_eq!(frames.free_pages(), 64 - 4 - 4 - 16);
    frames.audit().unwrap();
}

#[test]
fn banks_may_be_apart_and_unsorted() {
    let machine = FakeMachine::leak(0, 64);
    let table: Vec<Frame> = (0..40).map(|_| Frame::default()).collect();
    let banks = [Mfn(32)..Mfn(48), Mfn(4)..Mfn(12), Mfn(12)..Mfn(16), Mfn(20)..Mfn(20)];
    assert_eq!(FrameTable::frames_needed(&banks), 28);
    let frames = FrameTable::new(machine, &banks, table.leak());
    assert_eq!((frames.total_pages(), frames.max_mfn()), (28, Mfn(47)));
    frames.give(Mfn(0)..Mfn(64), false);
    assert_eq!(frames.free_pages(), 28);
    frames.account(D1).set_max_pages(100);
    assert_eq!(frames.allocate_at(D1, Mfn(8), 3, FrameKind::Ram), Ok(()), "joined over adjoining banks");
    assert_eq!(frames.allocate(D1, 4, FrameKind::Ram), Ok(Mfn(32)));
    assert_eq!(frames.info(Mfn(16)), None);
    frames.audit().unwrap();
}

#[test]
fn claims_put_pages_aside() {
    let frames = table(16);
    assert_eq!(frames.claim(D1, 17), Err(ClaimError::NoMemory));
    frames.claim(D1, 10).unwrap();
    assert_eq!(frames.claim(D1, 11), Err(ClaimError::Invalid), "one claim at a time");
    assert_eq!(frames.claim(D2, 7), Err(ClaimError::NoMemory));
    assert_eq!(frames.allocate(D2, 3, FrameKind::Ram), Err(AllocError::NoMemory), "8 are free but only 6 unclaimed");
    frames.allocate(D1, 2, FrameKind::Ram).unwrap();
    frames.allocate(D1, 0, FrameKind::Table).unwrap();
    assert_eq!((frames.account(D1).claimed(), frames.claimed_pages()), (6, 6), "RAM alone is claimed");
    frames.claim(D1, 0).unwrap();
    assert_eq!((frames.account(D1).claimed(), frames.claimed_pages()), (0, 0));
    assert_eq!(frames.claim(D1, 4), Err(ClaimError::Invalid), "it has as many already");
    assert_eq!(frames.claim(D1, 1001), Err(ClaimError::Invalid), "more than it may have");
    frames.allocate(D2, 3, FrameKind::Ram).unwrap();
}

#[derive(Clone, Debug)]
enum Action {
    Allocate { owner: u8, order: u32 },
    AllocateAt { owner: u8, at: u64, order: u32 },
    Get { owner: u8, at: u64 },
    Put { nth: usize },
    Release { owner: u8, at: u64 },
    Orphan { owner: u8, at: u64 },
    Adopt { owner: u8, at: u64 },
    PopOrphan { owner: u8 },
}

fn action() -> impl Strategy<Value = Action> {
    let owner = 1..3u8;
    let at = 0..70u64;
    prop_oneof![
        (owner.clone(), 0..5u32).prop_map(|(owner, order)| Action::Allocate { owner, order }),
        (owner.clone(), at.clone(), 0..3u32).prop_map(|(owner, at, order)| Action::AllocateAt { owner, at, order }),
        (owner.clone(), at.clone()).prop_map(|(owner, at)| Action::Get { owner, at }),
        (0..100usize).prop_map(|nth| Action::Put { nth }),
        (owner.clone(), at.clone()).prop_map(|(owner, at)| Action::Release { owner, at }),
        (owner.clone(), at.clone()).prop_map(|(owner, at)| Action::Orphan { owner, at }),
        (owner.clone(), at).prop_map(|(owner, at)| Action::Adopt { owner, at }),
        owner.prop_map(|owner| Action::PopOrphan { owner }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Page {
    owner: u8,
    allocated: bool,
    gets: u32,
    orphan: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Against a map of live pages: nothing is handed out twice, freed early or lost, and free pages read as zero.
    #[test]
    fn behaves_as_a_map_of_pages(actions in prop::collection::vec(action(), 1..200)) {
        const PAGES: u64 = 61;
        let frames = table(PAGES as usize);
        frames.account(D1).set_max_pages(40);
        let mut model: BTreeMap<u64, Page> = BTreeMap::new();
        for action in actions {
            let have = |model: &BTreeMap<u64, Page>, owner| model.values().filter(|p| p.owner == owner).count() as u64;
            match action {
                Action::Allocate { owner, order } => {
                    let limit = if owner == 1 { 40 } else { 1000 };
                    let over = have(&model, owner) + (1 << order) > limit;
                    match frames.allocate(Vmid(owner), order, FrameKind::Ram) {
                        Ok(first) => {
                            prop_assert!(!over && first.is_aligned(order));
                            for n in first.0..first.0 + (1 << order) {
                                prop_assert!(first_byte(&frames, Mfn(n)) == 0);
                                frames.machine().write(Mfn(n).address(), &[owner]);
                                let was = model.insert(n - BASE, Page { owner, allocated: true, gets: 0, orphan: false });
                                prop_assert!(was.is_none());
                            }
                        }
                        Err(AllocError::TooMany) => prop_assert!(over),
                        Err(AllocError::NoMemory) => {
                            // No naturally aligned run of that size is free.
                            let free = |n: u64| n < PAGES && !model.contains_key(&n);
                            let fits = (0..PAGES).step_by(1 << order).any(|s| (s..s + (1 << order)).all(free));
                            prop_assert!(!over && !fits);
                        }
                    }
                }
                Action::AllocateAt { owner, at, order } => {
                    let range = at..at + (1 << order);
                    let aligned = at % (1 << order) == 0;
                    let free = range.clone().all(|n| n < PAGES && !model.contains_key(&n));
                    let over = owner == 1 && have(&model, 1) + (1 << order) > 40;
                    let done = frames.allocate_at(Vmid(owner), mfn(at), order, FrameKind::Ram).is_ok();
                    prop_assert_eq!(done, aligned && free && !over);
                    if done {
                        model.extend(range.map(|n| (n, Page { owner, allocated: true, gets: 0, orphan: false })));
                    }
                }
                Action::Get { owner, at } => {
                    let page = model.get_mut(&at).filter(|p| p.owner == owner);
                    prop_assert_eq!(frames.get(mfn(at), Vmid(owner)), page.is_some());
                    if let Some(page) = page { page.gets += 1; }
                }
                Action::Put { nth } => {
                    let held: Vec<u64> = model.iter().filter(|(_, p)| p.gets > 0).map(|(n, _)| *n).collect();
                    if let Some(n) = held.get(nth % held.len().max(1)) {
                        frames.put(mfn(*n));
                        let page = model.get_mut(n).unwrap();
                        page.gets -= 1;
                        if page.gets == 0 && !page.allocated { model.remove(n); }
                    }
                }
                Action::Release { owner, at } => {
                    let page = model.get_mut(&at).filter(|p| p.owner == owner && p.allocated);
                    prop_assert_eq!(frames.release(mfn(at), Vmid(owner)), page.is_some());
                    if let Some(page) = page {
                        (page.allocated, page.orphan) = (false, false);
                        if page.gets == 0 { model.remove(&at); }
                    }
                }
                Action::Orphan { owner, at } => {
                    frames.orphan(mfn(at), Vmid(owner));
                    if let Some(page) = model.get_mut(&at).filter(|p| p.owner == owner && p.allocated) { page.orphan = true; }
                }
                Action::Adopt { owner, at } => {
                    let page = model.get_mut(&at).filter(|p| p.owner == owner && p.allocated);
                    prop_assert_eq!(frames.adopt(mfn(at), Vmid(owner)), page.is_some());
                    if let Some(page) = page { page.orphan = false; }
                }
                Action::PopOrphan { owner } => match frames.pop_orphan(Vmid(owner)) {
                    Some(m) => {
                        let page = model.get_mut(&(m.0 - BASE)).unwrap();
                        prop_assert!(page.orphan && page.owner == owner);
                        page.orphan = false;
                    }
                    None => prop_assert!(!model.values().any(|p| p.orphan && p.owner == owner)),
                },
            }
            prop_assert_eq!(frames.free_pages(), PAGES - model.len() as u64);
            for (mfn, info) in frames.iter() {
                let expected = model.get(&(mfn.0 - BASE)).map(|p| (Vmid(p.owner), p.gets + u32::from(p.allocated)));
                prop_assert_eq!(expected.unwrap_or((Vmid(0), 0)), (info.owner, info.references));
                prop_assert_eq!(info.kind == FrameKind::Free, expected.is_none());
            }
            frames.audit().unwrap();
        }
    }
}

#[test]
fn many_cpus_at_once_lose_nothing() {
    let frames: &'static FrameTable = std::boxed::Box::leak(std::boxed::Box::new(table(256)));
    let shared = frames.allocate(D2, 0, FrameKind::Ram).unwrap();
    std::thread::scope(|s| {
        for n in 0..4 {
            s.spawn(move || {
                for i in 0..500u32 {
                    if let Ok(page) = frames.allocate(D1, (i + n) % 4, FrameKind::Ram) {
                        for k in 0..1 << ((i + n) % 4) {
                            frames.orphan(Mfn(page.0 + k), D1);
                            assert!(frames.release(Mfn(page.0 + k), D1));
                        }
                    }
                    assert!(frames.get(shared, D2));
                    frames.put(shared);
                }
            });
        }
    });
    assert_eq!((frames.free_pages(), frames.account(D1).tot_pages()), (255, 0));
    assert!(frames.allocate(D1, 7, FrameKind::Ram).is_ok(), "free blocks were joined again");
    frames.audit().unwrap();
}

/// Books that do not balance, each of which is to be named.
#[test]
fn the_audit_names_what_is_wrong() {
    let frames = table(64);
    let page = frames.allocate(D1, 0, FrameKind::Ram).unwrap();
    let (orphan, second) = (frames.allocate(D1, 0, FrameKind::Ram).unwrap(), frames.allocate(D1, 0, FrameKind::Ram).unwrap());
    frames.orphan(orphan, D1);
    frames.orphan(second, D1);
    frames.claim(D2, 4).unwrap();
    assert_eq!(frames.audit(), Ok(()));

    frames.account(D1).charge(FrameKind::Table, 1).unwrap();
    assert_eq!(frames.audit(), Err(AuditError::Account(D1)));
    frames.account(D1).uncharge(FrameKind::Table, 1);
    frames.account(D2).set_claimed(3);
    assert_eq!(frames.audit(), Err(AuditError::Claims));
    frames.account(D2).set_claimed(4);

    let frame = frames.map.frame(page).unwrap();
    let state = frame.state();
    for wrong in [State::FREE, State::free_block(0)] {
        frame.reset(wrong);
        assert_eq!(frames.audit(), Err(AuditError::Free), "a free page that is in no list");
    }
    frame.reset(State::live(Vmid(0), FrameKind::Ram));
    assert_eq!(frames.audit(), Err(AuditError::State(page)), "nobody's RAM");
    frame.reset(State::live(D1, FrameKind::Xen));
    assert_eq!(frames.audit(), Err(AuditError::Account(D1)), "another kind");
    frame.reset(state.with_orphan(true));
    assert_eq!(frames.audit(), Err(AuditError::Orphans(D1)), "an orphan that is in no list");
    frame.reset(state);

    let last = frames.map.frame(orphan).unwrap();
    last.set_next(frames.map.index(second));
    assert_eq!(frames.audit(), Err(AuditError::Orphans(D1)), "a list that is a ring");
    last.set_next(None);
    last.set_prev(None);
    assert_eq!(frames.audit(), Err(AuditError::Orphans(D1)), "a link back");
    last.set_prev(frames.map.index(second));

    let free = frames.iter().find(|(_, info)| info.kind == FrameKind::Free).unwrap().0;
    let state = frames.map.frame(free).unwrap().state();
    frames.map.frame(free).unwrap().reset(State::FREE);
    assert_eq!(frames.audit(), Err(AuditError::Free), "a list of what is no block");
    frames.map.frame(free).unwrap().reset(state);
    assert_eq!(frames.audit(), Ok(()));
}
