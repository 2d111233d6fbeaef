//! Changes to a stage 2: mapping and unmapping under the lock, one TLB flush at the end.

use super::entry::{Entry, Meaning, PAGE_LEVEL, order_at, pages_at};
use super::table::Slot;
use super::{Drain, Mapping, P2m, P2mError, P2mType};
use crate::addr::{Gfn, MachineAddr, Mfn};
use crate::frames::{FrameKind, FrameTable};
use crate::lock::Guard;
use core::sync::atomic::Ordering;

/// Machine frames that a descriptor can hold: 48 bits of address.
const MFN_LIMIT: u64 = 1 << 36;

/// A change in progress. Dropping it completes it: the TLB is flushed if need be, then the lock released.
pub struct Edit<'a> {
    p2m: &'a P2m,
    frames: &'a FrameTable,
    state: Guard<'a, Option<Drain>>,
    /// A live entry was removed and the TLB not flushed since.
    stale: bool,
    /// Some entry was written.
    changed: bool,
}

impl<'a> Edit<'a> {
    pub(super) fn new(p2m: &'a P2m, frames: &'a FrameTable) -> Self {
        let state = p2m.state.lock();
        p2m.recent.forget();
        Self { p2m, frames, state, stale: false, changed: false }
    }

    /// What `gfn` is mapped to now.
    pub fn lookup(&self, gfn: Gfn) -> Option<Mapping> {
        let known = gfn.0 < self.p2m.tables.geometry.limit() && self.state.is_none();
        known.then(|| self.p2m.find(gfn)).flatten()
    }

    /// Maps 2^`order` pages (order 0, 9 or 18, naturally aligned). Order 0 replaces what was there and returns it; larger blocks need an
    /// empty place without tables, else [`P2mError::Occupied`].
    ///
    /// The caller has the reference that the mapping will hold, if its kind holds one.
    pub fn map(&mut self, gfn: Gfn, mfn: Mfn, order: u32, kind: P2mType) -> Result<Option<Mapping>, P2mError> {
        let level = match order {
            0 => 3,
            9 => 2,
            18 => 1,
            _ => return Err(P2mError::BadFrame),
        };
        let shared = kind.is_ram() && self.frames.kind(mfn) == Some(FrameKind::Xen);
        if shared && (order != 0 || self.frames.xen_gfn(mfn).is_some()) {
            return Err(P2mError::Busy);
        }
        self.check(gfn, mfn, 1 << order)?;
        if !gfn.is_aligned(order) || !mfn.is_aligned(order) {
            return Err(P2mError::BadFrame);
        }
        if order != 0 && self.p2m.tables.walk(gfn, level).meaning() != Meaning::Empty {
            return Err(P2mError::Occupied);
        }

        if self.stale {
            // The place may be one that this edit has emptied.
            self.flush();
        }
        let slot = self.reach(gfn, level)?;
        let displaced = self.remove(slot.at, slot.meaning());
        if displaced.is_some() {
            // Break before make: the new entry may not become visible while a TLB holds the old one.
            self.flush();
        }
        self.p2m.tables.store(slot.at, Entry::leaf(mfn, kind, level));
        self.changed = true;
        if shared {
            self.frames.set_xen_gfn(mfn, Some(gfn));
        }
        self.p2m.mapped_limit.fetch_max(gfn.0 + (1 << order), Ordering::Relaxed);
        Ok(displaced)
    }

    /// Maps `pages` pages to an empty range, in blocks where numbers and tables allow: all of it or, on error, nothing.
    pub fn map_range(&mut self, gfn: Gfn, mfn: Mfn, pages: u64, kind: P2mType) -> Result<(), P2mError> {
        self.check(gfn, mfn, pages)?;
        if !self.is_empty(gfn, pages) {
            return Err(P2mError::Occupied);
        }
        let mut done = 0;
        while done < pages {
            let (to, from) = (Gfn(gfn.0 + done), Mfn(mfn.0 + done));
            let fits = |order: &u32| to.is_aligned(*order) && from.is_aligned(*order) && pages - done >= 1 << order;
            // An empty table where a block would fit refuses the block but not smaller ones.
            let mapped = [18, 9, 0].into_iter().filter(fits).find_map(|order| match self.map(to, from, order, kind) {
                Err(P2mError::Occupied) if order > 0 => None,
                result => Some(result.map(|_| 1 << order)),
            });
            match mapped.unwrap_or(Err(P2mError::Occupied)) {
                Ok(n) => done += n,
                Err(e) => {
                    self.clear(gfn, done);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Unmaps one page, splitting the block it is part of; returns what was there.
    pub fn unmap(&mut self, gfn: Gfn) -> Result<Option<Mapping>, P2mError> {
        self.check(gfn, Mfn(0), 1)?;
        if self.p2m.find(gfn).is_none() {
            return Ok(None);
        }
        let slot = self.reach(gfn, PAGE_LEVEL)?;
        Ok(self.remove(slot.at, slot.meaning()))
    }

    /// Whether none of the `pages` pages from `gfn` is mapped.
    pub(super) fn is_empty(&self, gfn: Gfn, pages: u64) -> bool {
        let end = gfn.0.saturating_add(pages);
        let mut at = gfn.0;
        while at < end {
            let slot = self.p2m.tables.walk(Gfn(at), PAGE_LEVEL);
            if slot.meaning() != Meaning::Empty {
                return false;
            }
            at = (at | (pages_at(slot.level) - 1)) + 1;
        }
        true
    }

    /// Unmaps what [`Self::map_range`] has just mapped: whole entries.
    fn clear(&mut self, gfn: Gfn, pages: u64) {
        let mut at = gfn.0;
        while at < gfn.0 + pages {
            let slot = self.p2m.tables.walk(Gfn(at), PAGE_LEVEL);
            self.remove(slot.at, slot.meaning());
            at = (at | (pages_at(slot.level) - 1)) + 1;
        }
    }

    fn check(&self, gfn: Gfn, mfn: Mfn, pages: u64) -> Result<(), P2mError> {
        if self.state.is_some() {
            return Err(P2mError::Dying);
        }
        let within = |start: u64, limit: u64| start.checked_add(pages).is_some_and(|end| end <= limit);
        if within(gfn.0, self.p2m.tables.geometry.limit()) && within(mfn.0, MFN_LIMIT) { Ok(()) } else { Err(P2mError::BadFrame) }
    }

    fn reach(&mut self, gfn: Gfn, level: u8) -> Result<Slot, P2mError> {
        let mut flushed = false;
        let slot = self.p2m.tables.reach(self.frames, gfn, level, &mut flushed)?;
        self.changed = true;
        if flushed {
            self.stale = false;
        }
        Ok(slot)
    }

    /// Empties an entry that holds a page or block.
    fn remove(&mut self, at: MachineAddr, was: Meaning) -> Option<Mapping> {
        let Meaning::Leaf(mfn, kind) = was else { return None };
        self.p2m.tables.store(at, Entry::EMPTY);
        self.stale = true;
        self.changed = true;
        if kind.is_ram() {
            self.frames.set_xen_gfn(mfn, None);
        }
        Some(Mapping { mfn, kind, order: order_at(PAGE_LEVEL) })
    }

    fn flush(&mut self) {
        self.p2m.tables.machine.flush_tlb(self.p2m.tables.vmid);
        self.stale = false;
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        if self.stale {
            self.flush();
        } else if self.changed {
            self.p2m.tables.machine.sync_tables();
        }
        if self.state.is_none() {
            self.p2m.recent.end();
        }
    }
}
