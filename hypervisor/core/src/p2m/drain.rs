//! Teardown of a stage 2, in steps: everything it maps is handed to the caller page by page, then the tables are freed.
//!
//! One entry of the root at a time is detached (cleared, TLB flushed); what hangs below it can then be reached by no walker and is taken
//! apart at leisure. The domain's vCPUs do not run any more and no CPU has its VTTBR loaded.

use super::entry::{Entry, Meaning, PAGE_LEVEL, pages_at};
use super::table::{ENTRIES, Slot, Tables};
use super::{Mapping, P2m};
use crate::addr::{Gfn, MachineAddr, Mfn};
use crate::frames::FrameTable;
use core::sync::atomic::Ordering;

/// How far a [`P2m::drain`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// The budget is used up; call again.
    More,
    /// Nothing is mapped, and no table is left.
    All,
}

/// Where teardown is.
pub(super) struct Drain {
    /// The next guest frame to look at.
    pub(super) at: u64,
    /// The root entry of `at`, when it has been detached.
    pub(super) detached: Option<Entry>,
    pub(super) finished: bool,
}

impl P2m {
    /// Takes the address space apart, `budget` steps (a step is a mapped page or a scan of an empty stretch of a table) at a time.
    ///
    /// `each` gets every mapped page once, as a mapping of order 0 that is in no table and no TLB any more, and drops what it held
    /// ([`Mapping::release`]). It must not use this p2m. From the first call on, lookups find nothing and edits fail.
    pub fn drain(&self, frames: &FrameTable, budget: u64, mut each: impl FnMut(Gfn, Mapping)) -> Drained {
        let mut state = self.state.lock();
        // For good: nothing is noted or found any more.
        self.recent.forget();
        let drain = state.get_or_insert(Drain { at: 0, detached: None, finished: false });
        let top = pages_at(self.tables.geometry.start_level);
        let end = self.mapped_limit.load(Ordering::Relaxed).next_multiple_of(top);
        for _ in 0..budget {
            if drain.finished {
                return Drained::All;
            }
            drain.step(&self.tables, end, frames, &mut each);
        }
        if drain.finished { Drained::All } else { Drained::More }
    }
}

impl Drain {
    /// `end`: nothing was ever mapped from this frame on; whole entries of the root.
    fn step(&mut self, tables: &Tables, end: u64, frames: &FrameTable, each: &mut impl FnMut(Gfn, Mapping)) {
        let geometry = tables.geometry;
        if self.at >= end {
            for page in 0..1u64 << geometry.root_order {
                frames.put(Mfn(Mfn::containing(tables.root).0 + page));
            }
            self.finished = true;
            return;
        }
        let root = match self.detached {
            Some(entry) => entry,
            None => {
                let slot = tables.slot(tables.root, Gfn(self.at), geometry.start_level);
                if slot.entry == Entry::EMPTY {
                    self.at += pages_at(geometry.start_level);
                    return;
                }
                tables.store(slot.at, Entry::EMPTY);
                tables.machine.flush_tlb(tables.vmid);
                self.detached = Some(slot.entry);
                slot.entry
            }
        };

        let mut path = [None; PAGE_LEVEL as usize];
        let slot = walk_detached(tables, root, Gfn(self.at), &mut path);
        let next = match slot.meaning() {
            Meaning::Leaf(mfn, kind) => {
                let offset = self.at & (pages_at(slot.level) - 1);
                let mfn = Mfn(mfn.0 + offset);
                if kind.is_ram() {
                    frames.set_xen_gfn(mfn, None);
                }
                each(Gfn(self.at), Mapping { mfn, kind, order: 0 });
                self.at + 1
            }
            _ => next_used(tables, slot, self.at),
        };
        // A table is done with when the next frame lies beyond what it covers.
        for (level, table) in path.iter().enumerate().rev() {
            let span = pages_at(level as u8);
            if let Some(table) = table
                && next / span != self.at / span
            {
                tables.free(frames, *table);
            }
        }
        if next / pages_at(geometry.start_level) != self.at / pages_at(geometry.start_level) {
            self.detached = None;
        }
        self.at = next;
    }
}

/// Walks from a detached root entry to the leaf or empty entry of `gfn`; `path[l]` is the table that an entry of level `l` points to.
fn walk_detached(tables: &Tables, root: Entry, gfn: Gfn, path: &mut [Option<MachineAddr>; PAGE_LEVEL as usize]) -> Slot {
    let mut slot = Slot { at: MachineAddr(0), level: tables.geometry.start_level, entry: root };
    while let Meaning::Table(table) = slot.meaning() {
        if let Some(step) = path.get_mut(usize::from(slot.level)) {
            *step = Some(table);
        }
        slot = tables.slot(table, gfn, slot.level + 1);
    }
    slot
}

/// The frame of the next entry in use after the empty `slot` of `at`, or of the end of its table.
fn next_used(tables: &Tables, slot: Slot, at: u64) -> u64 {
    let span = pages_at(slot.level);
    let mut next = (at | (span - 1)) + 1;
    let mut entry = slot.at.0;
    while !next.is_multiple_of(span * ENTRIES) && slot.at.0 != 0 {
        entry += 8;
        if tables.load(MachineAddr(entry)) != Entry::EMPTY {
            break;
        }
        next += span;
    }
    next
}
