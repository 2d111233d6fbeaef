use super::*;
use crate::frames::{Frame, FrameInfo};
use crate::machine::Machine;
use crate::machine::fake::FakeMachine;
use core::sync::atomic::AtomicBool;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

mod watcher;
use watcher::Watcher;

const BASE: u64 = 0x4_0000;
const PAGES: u64 = 96;
const GUEST: Vmid = Vmid(1);
/// A machine frame that is not RAM.
const DEVICE: Mfn = Mfn(1 << 20);
const GIB: u64 = 1 << 18;

fn frames() -> FrameTable {
    let table: Vec<Frame> = (0..PAGES).map(|_| Frame::default()).collect();
    let ram = Mfn(BASE)..Mfn(BASE + PAGES);
    let frames = FrameTable::new(Watcher::leak(BASE << 12, PAGES as usize), core::slice::from_ref(&ram), table.leak());
    frames.give(ram, false);
    frames.account(GUEST).set_max_pages(1000);
    frames.account(Vmid(2)).set_max_pages(1000);
    frames
}

fn p2m(frames: &FrameTable) -> P2m {
    P2m::new(GUEST, 40, frames, 1000).unwrap()
}

fn ram(frames: &FrameTable) -> Mfn {
    frames.allocate(GUEST, 0, FrameKind::Ram).unwrap()
}

/// The bytes of all tables, to prove that nothing changed.
fn tables(frames: &FrameTable) -> Vec<(Mfn, Vec<u8>)> {
    let is_table = |(_, info): &(Mfn, FrameInfo)| info.kind == FrameKind::Table;
    let read = |(mfn, _): (Mfn, FrameInfo)| {
        let mut bytes = std::vec![0; 4096];
        frames.machine().read(mfn.address(), &mut bytes);
        (mfn, bytes)
    };
    frames.iter().filter(is_table).map(read).collect()
}

fn drain_all(p2m: &P2m, frames: &FrameTable, budget: u64) -> Vec<(Gfn, Mapping)> {
    let mut found = Vec::new();
    while p2m.drain(frames, budget, |gfn, m| found.push((gfn, m))) == Drained::More {}
    found
}

#[test]
fn walks_start_where_the_architecture_says() {
    let frames = frames();
    for (bits, level, order) in [(32, 1, 0), (39, 1, 0), (40, 1, 1), (42, 1, 3), (43, 1, 4), (44, 0, 0), (48, 0, 0)] {
        let before = frames.free_pages();
        let p2m = P2m::new(GUEST, bits, &frames, 10).unwrap();
        assert_eq!((p2m.start_level(), p2m.t0sz(), before - frames.free_pages()), (level, 64 - bits, 1 << order));
        assert!(p2m.root().is_aligned(4096 << order));
        assert_eq!(p2m.vttbr(), p2m.root().0 | 1 << 48);
        let top = Gfn((1 << (bits - 12)) - 1);
        p2m.edit(&frames).map(top, DEVICE, 0, P2mType::MmioDirectC).unwrap();
        assert_eq!(p2m.lookup(top).map(|m| m.mfn), Some(DEVICE));
        assert_eq!(p2m.lookup(Gfn(top.0 + 1)), None);
        assert_eq!(p2m.edit(&frames).map(Gfn(top.0 + 1), DEVICE, 0, P2mType::MmioDirectC), Err(P2mError::BadFrame));
        assert_eq!(p2m.max_gfn(), top);
        assert_eq!(drain_all(&p2m, &frames, 1000).len(), 1);
        assert_eq!(frames.free_pages(), before);
    }
    assert!(P2m::new(GUEST, 31, &frames, 0).is_err() && P2m::new(GUEST, 49, &frames, 0).is_err());
}

#[test]
fn descriptors_are_as_xen_has_them() {
    use entry::Entry;
    let page = |kind| Entry::leaf(Mfn(0x12345), kind, 3).0;
    // Address | type << 55 | XN << 54 | AF | SH | S2AP | MemAttr | page, valid.
    let xn = 1 << 54;
    let inner = 0x1234_5000 | 1 << 10 | 3 << 8 | 0xf << 2 | 3;
    let outer = 0x1234_5000 | 1 << 10 | 2 << 8 | 3 << 6 | 3;
    assert_eq!(page(P2mType::RamRw), 1 << 55 | inner | 3 << 6);
    assert_eq!(page(P2mType::RamRo), 2 << 55 | inner | 1 << 6);
    assert_eq!(page(P2mType::MmioDirectDev), 3 << 55 | xn | outer | 1 << 2);
    assert_eq!(page(P2mType::MmioDirectNc), 4 << 55 | xn | outer | 5 << 2);
    assert_eq!(page(P2mType::MmioDirectC), 5 << 55 | xn | outer | 0xf << 2);
    assert_eq!(page(P2mType::MapForeignRw), 6 << 55 | xn | inner | 3 << 6);
    assert_eq!(page(P2mType::MapForeignRo), 7 << 55 | xn | inner | 1 << 6);
    assert_eq!(page(P2mType::GrantMapRw), 8 << 55 | xn | inner | 3 << 6);
    assert_eq!(page(P2mType::GrantMapRo), 9 << 55 | xn | inner | 1 << 6);
    assert_eq!(Entry::leaf(Mfn(0x200), P2mType::RamRw, 2).0 & 3, 1, "a block");
}

#[test]
fn a_single_page_replaces_what_was_there() {
    let frames = frames();
    let p2m = p2m(&frames);
    let (a, b) = (ram(&frames), ram(&frames));
    let mut edit = p2m.edit(&frames);
    assert_eq!(edit.map(Gfn(5), a, 0, P2mType::RamRw), Ok(None));
    let was = edit.map(Gfn(5), b, 0, P2mType::GrantMapRo).unwrap().unwrap();
    assert_eq!(was, Mapping { mfn: a, kind: P2mType::RamRw, order: 0 });
    drop(edit);
    was.displace(&frames, GUEST);
    assert_eq!(frames.pop_orphan(GUEST), Some(a));
    assert_eq!(p2m.lookup(Gfn(5)), Some(Mapping { mfn: b, kind: P2mType::GrantMapRo, order: 0 }));
    assert_eq!(p2m.edit(&frames).unmap(Gfn(5)).unwrap().map(|m| m.mfn), Some(b));
    assert_eq!(p2m.edit(&frames).unmap(Gfn(5)), Ok(None));
    assert_eq!(p2m.lookup(Gfn(5)), None);
}

#[test]
fn the_tlb_is_flushed_once_per_edit_and_only_for_live_entries() {
    let frames = frames();
    let p2m = p2m(&frames);
    let watcher = Watcher::of(&frames);
    let mut edit = p2m.edit(&frames);
    edit.map_range(Gfn(0), DEVICE, 40, P2mType::MmioDirectC).unwrap();
    drop(edit);
    assert_eq!((watcher.flushes(), watcher.syncs()), (0, 1));
    let mut edit = p2m.edit(&frames);
    for n in 0..32 {
        edit.unmap(Gfn(n)).unwrap();
    }
    assert_eq!(watcher.flushes(), 0);
    drop(edit);
    assert_eq!(watcher.flushes(), 1);
    drop(p2m.edit(&frames));
    assert_eq!((watcher.flushes(), watcher.syncs()), (0, 0), "nothing changed");
    let mut edit = p2m.edit(&frames);
    edit.unmap(Gfn(32)).unwrap();
    edit.map(Gfn(32), DEVICE, 0, P2mType::MmioDirectDev).unwrap();
    drop(edit);
    assert_eq!(watcher.flushes(), 1, "between break and make, even when these are two calls");
}

#[test]
fn blocks_need_an_empty_place_and_are_split_on_demand() {
    let frames = frames();
    let p2m = p2m(&frames);
    let kind = P2mType::MmioDirectC;
    let mut edit = p2m.edit(&frames);
    edit.map(Gfn(GIB), Mfn(GIB * 5), 18, kind).unwrap();
    for (gfn, order) in [(GIB, 0), (GIB + 512, 9), (GIB, 18)] {
        let result = edit.map(Gfn(gfn), DEVICE, order, kind);
        assert_eq!(result, if order == 0 { Ok(Some(Mapping { mfn: Mfn(GIB * 5), kind, order: 0 })) } else { Err(P2mError::Occupied) });
    }
    for bad in [1, 8, 10, 17, 19, 63, u32::MAX] {
        assert_eq!(edit.map(Gfn(0), Mfn(0), bad, kind), Err(P2mError::BadFrame));
    }
    assert_eq!(edit.map(Gfn(1), Mfn(0), 9, kind), Err(P2mError::BadFrame));
    assert_eq!(edit.map(Gfn(0), Mfn(1), 9, kind), Err(P2mError::BadFrame));
    assert_eq!(edit.map(Gfn(0), Mfn(1 << 36), 0, kind), Err(P2mError::BadFrame));
    assert_eq!(edit.map(Gfn(0), Mfn(u64::MAX), 0, kind), Err(P2mError::BadFrame));
    drop(edit);
    let at = |n| p2m.lookup(Gfn(GIB + n)).map(|m| (m.mfn.0, m.order));
    assert_eq!(at(0), Some((DEVICE.0, 0)));
    assert_eq!(at(511), Some((GIB * 5 + 511, 0)));
    assert_eq!(at(512), Some((GIB * 5 + 512, 9)));
    assert_eq!(at(GIB - 1), Some((GIB * 6 - 1, 9)));
    assert_eq!(p2m.pool_used(), 2);
}

#[test]
fn splitting_fails_without_a_trace() {
    for spare in 0..2 {
        for starve_machine in [false, true] {
            let frames = frames();
            let p2m = p2m(&frames);
            p2m.edit(&frames).map(Gfn(0), Mfn(0), 18, P2mType::MmioDirectC).unwrap();
            if starve_machine {
                while frames.free_pages() > spare {
                    ram(&frames);
                }
            } else {
                p2m.set_pool(p2m.pool_used() + spare).unwrap();
            }
            let before = (tables(&frames), p2m.pool_used(), frames.free_pages());
            assert_eq!(p2m.edit(&frames).unmap(Gfn(77)), Err(P2mError::NoMemory));
            assert_eq!(p2m.edit(&frames).map(Gfn(77), DEVICE, 0, P2mType::RamRw), Err(P2mError::NoMemory));
            assert_eq!(before, (tables(&frames), p2m.pool_used(), frames.free_pages()));
            assert_eq!(p2m.lookup(Gfn(77)).map(|m| m.mfn), Some(Mfn(77)), "still mapped");
            frames.audit().unwrap();
        }
    }
}

#[test]
fn a_range_is_mapped_whole_or_not_at_all() {
    let frames = frames();
    let p2m = p2m(&frames);
    let kind = P2mType::MmioDirectC;
    let end = GIB + 512;
    // Pages, then blocks of 2 MiB, one of 1 GiB, a block, pages.
    let (start, pages) = (512 * 511 - 3, end + 5 - (512 * 511 - 3) + GIB);
    for pool in 0.. {
        p2m.set_pool(pool).unwrap();
        let mapped = |gfn| p2m.lookup(Gfn(gfn)).is_some();
        match p2m.edit(&frames).map_range(Gfn(start), Mfn(start), pages, kind) {
            Ok(()) => break,
            Err(e) => assert_eq!((e, pool < 10), (P2mError::NoMemory, true)),
        }
        for gfn in [start, start + 2, start + 3, GIB, 2 * GIB, start + pages - 1] {
            assert!(!mapped(gfn), "{gfn:#x} after failing with a pool of {pool}");
        }
        assert!(p2m.edit(&frames).is_empty(Gfn(0), 4 * GIB));
    }
    assert_eq!(p2m.lookup(Gfn(start - 1)), None);
    assert_eq!(p2m.lookup(Gfn(start + pages)), None);
    for gfn in [start, start + 3, GIB, GIB + 12345, 2 * GIB, start + pages - 1] {
        assert_eq!(p2m.lookup(Gfn(gfn)).map(|m| m.mfn), Some(Mfn(gfn)));
    }
    let before = tables(&frames);
    assert_eq!(p2m.edit(&frames).map_range(Gfn(start - 8), Mfn(0), 9, kind), Err(P2mError::Occupied));
    assert_eq!(p2m.edit(&frames).map_range(Gfn(u64::MAX), Mfn(0), 9, kind), Err(P2mError::BadFrame));
    assert_eq!(p2m.edit(&frames).map_range(Gfn(0), Mfn(0), u64::MAX, kind), Err(P2mError::BadFrame));
    assert!(before == tables(&frames));
}

#[test]
fn a_page_of_the_hypervisor_is_mapped_once() {
    let frames = frames();
    let p2m = p2m(&frames);
    let shared = frames.allocate(GUEST, 0, FrameKind::Xen).unwrap();
    p2m.edit(&frames).map(Gfn(1), shared, 0, P2mType::RamRw).unwrap();
    assert_eq!(frames.xen_gfn(shared), Some(Gfn(1)));
    assert_eq!(p2m.edit(&frames).map(Gfn(2), shared, 0, P2mType::RamRw), Err(P2mError::Busy));
    assert_eq!(p2m.lookup(Gfn(2)), None);
    let was = p2m.edit(&frames).unmap(Gfn(1)).unwrap().unwrap();
    was.release(&frames, GUEST);
    assert_eq!((frames.xen_gfn(shared), frames.info(shared).unwrap().references), (None, 1));
    p2m.edit(&frames).map(Gfn(2), shared, 0, P2mType::RamRw).unwrap();
    let was = p2m.edit(&frames).map(Gfn(2), DEVICE, 0, P2mType::MmioDirectC).unwrap().unwrap();
    was.displace(&frames, GUEST);
    assert_eq!((frames.xen_gfn(shared), frames.pop_orphan(GUEST)), (None, None));
    p2m.edit(&frames).map(Gfn(3), shared, 0, P2mType::RamRw).unwrap();
    drain_all(&p2m, &frames, 7);
    assert_eq!(frames.xen_gfn(shared), None);
}

#[test]
fn get_ram_takes_a_reference_to_own_ram_only() {
    let frames = frames();
    let p2m = p2m(&frames);
    let own = ram(&frames);
    let other = frames.allocate(Vmid(2), 0, FrameKind::Ram).unwrap();
    let shared = frames.allocate(GUEST, 0, FrameKind::Xen).unwrap();
    let mut edit = p2m.edit(&frames);
    for (gfn, mfn, kind) in [
        (1, own, P2mType::RamRw),
        (2, own, P2mType::RamRo),
        (3, own, P2mType::GrantMapRw),
        (4, other, P2mType::MapForeignRw),
        (5, other, P2mType::RamRw),
        (6, shared, P2mType::RamRw),
        (7, DEVICE, P2mType::MmioDirectC),
        (8, DEVICE, P2mType::RamRw),
    ] {
        edit.map(Gfn(gfn), mfn, 0, kind).unwrap();
    }
    drop(edit);
    let take = |gfn, write| p2m.get_ram(&frames, Gfn(gfn), write);
    assert_eq!((take(1, true), take(2, true), take(2, false)), (Some(own), None, Some(own)));
    assert!([0, 3, 4, 5, 6, 7, 8, u64::MAX].into_iter().all(|gfn| take(gfn, false).is_none()));
    assert_eq!(frames.info(own).unwrap().references, 3);
}

#[test]
fn a_dying_address_space_takes_nothing_in() {
    let frames = frames();
    let p2m = p2m(&frames);
    p2m.edit(&frames).map(Gfn(1), DEVICE, 0, P2mType::MmioDirectC).unwrap();
    assert_eq!(p2m.drain(&frames, 0, |_, _| panic!("no budget")), Drained::More);
    assert_eq!(p2m.lookup(Gfn(1)), None);
    assert_eq!(p2m.edit(&frames).lookup(Gfn(1)), None);
    assert_eq!(p2m.edit(&frames).map(Gfn(2), DEVICE, 0, P2mType::MmioDirectC), Err(P2mError::Dying));
    assert_eq!(p2m.edit(&frames).unmap(Gfn(1)), Err(P2mError::Dying));
    assert_eq!(p2m.edit(&frames).map_range(Gfn(2), DEVICE, 1, P2mType::MmioDirectC), Err(P2mError::Dying));
    assert_eq!(drain_all(&p2m, &frames, 1).len(), 1);
    assert_eq!(p2m.drain(&frames, 1, |_, _| panic!("all gone")), Drained::All);
    assert_eq!((p2m.pool_used(), frames.account(GUEST).count(FrameKind::Table)), (0, 0));
}

#[test]
fn teardown_gives_everything_back() {
    let frames = frames();
    let free = frames.free_pages();
    let p2m = P2m::new(GUEST, 44, &frames, 20).unwrap();
    let foreign = frames.allocate(Vmid(2), 0, FrameKind::Ram).unwrap();
    for n in [0, 511, 512, GIB - 1, GIB, 700 * GIB] {
        p2m.edit(&frames).map(Gfn(n), ram(&frames), 0, P2mType::RamRw).unwrap();
    }
    assert!(frames.get(foreign, Vmid(2)));
    p2m.edit(&frames).map(Gfn(9), foreign, 0, P2mType::MapForeignRw).unwrap();
    let again = ram(&frames);
    p2m.edit(&frames).map(Gfn(9), again, 0, P2mType::RamRw).unwrap().unwrap().displace(&frames, GUEST);
    p2m.edit(&frames).map(Gfn(10), DEVICE, 0, P2mType::GrantMapRw).unwrap();
    p2m.edit(&frames).map(Gfn(9), DEVICE, 0, P2mType::GrantMapRw).unwrap().unwrap().displace(&frames, GUEST);
    while p2m.drain(&frames, 1, |_, m| m.release(&frames, GUEST)) == Drained::More {}
    while let Some(orphan) = frames.pop_orphan(GUEST) {
        assert!(frames.release(orphan, GUEST));
    }
    assert!(frames.account(GUEST).is_empty());
    assert_eq!(frames.info(foreign).unwrap().references, 1);
    assert_eq!(frames.free_pages(), free - 1);
    frames.audit().unwrap();
}

#[derive(Clone, Debug)]
enum Action {
    Map { gfn: u64, order: u32, mfn: u64 },
    MapRange { gfn: u64, mfn: u64, pages: u64 },
    Unmap { gfn: u64 },
    Pool { spare: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    // Around the borders of blocks, so that runs meet.
    let near = (prop::sample::select(std::vec![0u64, 512, 1024, GIB - 512, GIB, 512 * GIB]), -2i64..3)
        .prop_map(|(at, d)| at.saturating_add_signed(d));
    let order = prop::sample::select(std::vec![0u32, 0, 0, 9, 9, 18]);
    let mfn = prop::sample::select(std::vec![0x100_0000u64, 0x100_0200, 0x140_0000]);
    prop_oneof![
        4 => (near.clone(), order, mfn.clone(), any::<bool>()).prop_map(|(gfn, order, mfn, align)| {
            let gfn = if align { gfn & !((1 << order) - 1) } else { gfn };
            Action::Map { gfn, order, mfn: mfn + if align { 0 } else { gfn % 512 } }
        }),
        2 => (near.clone(), mfn, 0..1600u64).prop_map(|(gfn, mfn, pages)| Action::MapRange { gfn, mfn: mfn + gfn % 512, pages }),
        4 => near.prop_map(|gfn| Action::Unmap { gfn }),
        1 => (0..4u64).prop_map(|spare| Action::Pool { spare }),
    ]
}

/// The model: runs of consecutively mapped pages, by first guest frame: length and first machine frame.
#[derive(Default)]
struct Runs(BTreeMap<u64, (u64, u64)>);

impl Runs {
    fn get(&self, gfn: u64) -> Option<u64> {
        let (start, (len, mfn)) = self.0.range(..=gfn).next_back()?;
        (gfn - start < *len).then(|| mfn + gfn - start)
    }
    fn overlaps(&self, gfn: u64, pages: u64) -> bool {
        pages > 0 && (self.get(gfn).is_some() || self.0.range(gfn..gfn + pages).next().is_some())
    }
    fn remove(&mut self, gfn: u64) -> Option<u64> {
        let mfn = self.get(gfn)?;
        let (start, (len, first)) = self.0.range(..=gfn).next_back().map(|(s, r)| (*s, *r)).unwrap();
        self.0.remove(&start);
        self.insert(start, gfn - start, first);
        self.insert(gfn + 1, start + len - gfn - 1, mfn + 1);
        Some(mfn)
    }
    fn insert(&mut self, gfn: u64, pages: u64, mfn: u64) {
        if pages > 0 {
            self.0.insert(gfn, (pages, mfn));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Against runs of pages: same answers, refusals without a trace, and teardown finds exactly what is mapped.
    #[test]
    fn behaves_as_runs_of_pages(actions in prop::collection::vec(action(), 1..60), ipa_bits in prop::sample::select(std::vec![42u32, 44])) {
        let kind = P2mType::MmioDirectC;
        let frames = frames();
        let free = frames.free_pages();
        let p2m = P2m::new(GUEST, ipa_bits, &frames, 30).unwrap();
        let mut model = Runs::default();
        for action in actions {
            let before = tables(&frames);
            let mut edit = p2m.edit(&frames);
            let refused = match action.clone() {
                Action::Map { gfn, order, mfn } => {
                    let aligned = (gfn | mfn) % (1 << order) == 0;
                    let result = edit.map(Gfn(gfn), Mfn(mfn), order, kind);
                    match result {
                        Ok(was) => {
                            prop_assert!(aligned);
                            prop_assert_eq!(was.map(|m| m.mfn.0), if order == 0 { model.remove(gfn) } else { None });
                            prop_assert!(!model.overlaps(gfn, 1 << order));
                            model.insert(gfn, 1 << order, mfn);
                        }
                        Err(P2mError::BadFrame) => prop_assert!(!aligned),
                        Err(P2mError::Occupied) => prop_assert!(order > 0),
                        Err(e) => prop_assert_eq!(e, P2mError::NoMemory),
                    }
                    result.is_err()
                }
                Action::MapRange { gfn, mfn, pages } => {
                    let result = edit.map_range(Gfn(gfn), Mfn(mfn), pages, kind);
                    match result {
                        Ok(()) => {
                            prop_assert!(!model.overlaps(gfn, pages));
                            model.insert(gfn, pages, mfn);
                        }
                        Err(P2mError::Occupied) => prop_assert!(model.overlaps(gfn, pages)),
                        Err(e) => prop_assert_eq!(e, P2mError::NoMemory),
                    }
                    // A range that ran out of memory may leave empty tables.
                    result == Err(P2mError::Occupied)
                }
                Action::Unmap { gfn } => {
                    let result = edit.unmap(Gfn(gfn));
                    match result {
                        Ok(was) => prop_assert_eq!(was.map(|m| m.mfn.0), model.remove(gfn)),
                        Err(e) => prop_assert_eq!(e, P2mError::NoMemory),
                    }
                    result.is_err()
                }
                Action::Pool { spare } => {
                    drop(edit);
                    p2m.set_pool(p2m.pool_used() + spare).unwrap();
                    continue;
                }
            };
            drop(edit);
            if refused {
                prop_assert!(before == tables(&frames), "{:?} left a trace", action);
            }
            let borders = model.0.iter().flat_map(|(start, (len, _))| [*start, start + len - 1, start + len, start.wrapping_sub(1)]);
            for gfn in borders.chain([0, 511, 512, GIB - 1, GIB, 512 * GIB]) {
                prop_assert_eq!(p2m.lookup(Gfn(gfn)).map(|m| m.mfn.0), model.get(gfn), "{:#x} after {:?}", gfn, action);
            }
            prop_assert_eq!(frames.account(GUEST).count(FrameKind::Table), p2m.pool_used() + (1 << if ipa_bits == 42 { 3 } else { 0 }));
        }
        let mut expected = model.0.iter().flat_map(|(start, (len, mfn))| (0..*len).map(move |n| (start + n, mfn + n)));
        for (gfn, mapping) in drain_all(&p2m, &frames, 1000) {
            prop_assert_eq!(Some((gfn.0, mapping.mfn.0)), expected.next());
        }
        prop_assert_eq!(expected.next(), None);
        prop_assert_eq!(frames.free_pages(), free);
        frames.audit().unwrap();
    }
}

/// A page that was unmapped and given to another guest frame is not found where it was, however fast both happen.
#[test]
fn what_lookups_remember_is_never_stale() {
    const FIRST: u64 = 0x100;
    let machine = FakeMachine::leak(BASE << 12, PAGES as usize);
    let range = Mfn(BASE)..Mfn(BASE + PAGES);
    let table: Vec<Frame> = (0..PAGES).map(|_| Frame::default()).collect();
    let frames = FrameTable::new(machine, core::slice::from_ref(&range), table.leak());
    frames.give(range, false);
    frames.account(GUEST).set_max_pages(1000);
    let p2m = p2m(&frames);
    let done = AtomicBool::new(false);
    let mut found = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..4000 {
                // The page that the last turn freed becomes that of the other guest frame; each says whose it is.
                let gfn = Gfn(FIRST + n % 2);
                let mfn = ram(&frames);
                machine.store_u64(mfn.address(), gfn.0);
                p2m.edit(&frames).map(gfn, mfn, 0, P2mType::RamRw).unwrap();
                std::thread::yield_now();
                let was = p2m.edit(&frames).unmap(gfn).unwrap().unwrap();
                was.release(&frames, GUEST);
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            for gfn in [Gfn(FIRST), Gfn(FIRST + 1)] {
                if let Some(mfn) = p2m.get_ram(&frames, gfn, true) {
                    assert_eq!(machine.load_u64(mfn.address()), gfn.0, "a page of another guest frame");
                    frames.put(mfn);
                    found += 1;
                }
            }
        }
    });
    assert!(found > 0);
    frames.audit().unwrap();
}

#[test]
fn nothing_is_remembered_during_an_edit_and_after_the_end() {
    let frames = frames();
    let p2m = p2m(&frames);
    let mfn = ram(&frames);
    p2m.edit(&frames).map(Gfn(5), mfn, 0, P2mType::RamRw).unwrap();
    assert!(p2m.lookup(Gfn(5)).is_some() && p2m.recent.find(Gfn(5)).is_some());
    let found = p2m.recent.find(Gfn(5)).unwrap();
    assert!(p2m.recent.is_current(&found));
    let edit = p2m.edit(&frames);
    assert!(p2m.recent.find(Gfn(5)).is_none() && !p2m.recent.is_current(&found));
    drop(edit);
    assert!(p2m.recent.find(Gfn(5)).is_none() && !p2m.recent.is_current(&found));
    assert!(p2m.lookup(Gfn(5)).is_some() && p2m.recent.find(Gfn(5)).is_some());
    p2m.drain(&frames, 0, |_, _| {});
    assert!(p2m.recent.find(Gfn(5)).is_none());
    assert_eq!(p2m.get_ram(&frames, Gfn(5), false), None);
    drop(p2m.edit(&frames));
    assert!(p2m.lookup(Gfn(5)).is_none() && p2m.recent.find(Gfn(5)).is_none());
}

#[test]
fn the_last_frame_number_is_not_found_in_an_empty_memory_of_lookups() {
    let frames = frames();
    let p2m = p2m(&frames);
    let take = |gfn| p2m.get_ram(&frames, Gfn(gfn), true);
    assert_eq!(take(u64::MAX), None);
    // Where a lookup of it is remembered there was another entry, which is forgotten.
    let (near, mfn) = (7 << 9, Mfn(BASE));
    frames.allocate_at(GUEST, mfn, 0, FrameKind::Ram).unwrap();
    p2m.edit(&frames).map(Gfn(near), mfn, 9, P2mType::RamRw).unwrap();
    assert_eq!(take(near), Some(mfn));
    frames.put(mfn);
    drop(p2m.edit(&frames));
    assert_eq!([take(u64::MAX), take(u64::MAX - 1)], [None, None]);
}

#[test]
fn all_that_is_there_is_told_also_while_it_is_taken_apart() {
    let bed = crate::testbed::Testbed::new(crate::policy::Policy::Silo);
    let domain = bed.domain(1, 5);
    assert_eq!(bed.hv.audit(), Ok(()));
    domain.p2m.tables.pool_used.fetch_add(1, Ordering::Relaxed);
    assert_eq!(bed.hv.audit(), Err(crate::audit::Imbalance::Pool(domain.id)));
    domain.p2m.tables.pool_used.fetch_sub(1, Ordering::Relaxed);
    let leaves = || {
        let mut leaves = Vec::new();
        domain.p2m.for_each(|content| {
            if let Content::Leaf(gfn, mapping) = content {
                leaves.push((gfn, mapping.mfn));
            }
        });
        leaves
    };
    let mut all = leaves();
    assert_eq!(all.len(), 5);
    let frames = &bed.hv.frames;
    while domain.p2m.drain(frames, 1, |gfn, mapping| {
        assert_eq!(all.remove(0), (gfn, mapping.mfn));
        mapping.release(frames, domain.vmid);
    }) == Drained::More
    {
        assert_eq!(leaves(), all);
        assert_eq!(bed.hv.audit(), Ok(()));
    }
    assert_eq!((leaves(), bed.hv.audit()), (Vec::new(), Ok(())));
}

#[test]
fn of_a_block_taken_apart_the_rest_is_told() {
    let frames = frames();
    let p2m = p2m(&frames);
    p2m.edit(&frames).map(Gfn(0x200), DEVICE, 9, P2mType::MmioDirectDev).unwrap();
    let leaves = || {
        let mut leaves = Vec::new();
        p2m.for_each(|content| leaves.extend(if let Content::Leaf(gfn, m) = content { Some((gfn, m.mfn, m.order)) } else { None }));
        leaves
    };
    assert_eq!(leaves(), [(Gfn(0x200), DEVICE, 9)]);
    let mut seen = 0;
    while seen < 3 {
        p2m.drain(&frames, 1, |_, _| seen += 1);
    }
    let rest: Vec<_> = (3..512).map(|n| (Gfn(0x200 + n), Mfn(DEVICE.0 + n), 0)).collect();
    assert_eq!(leaves(), rest);
}
