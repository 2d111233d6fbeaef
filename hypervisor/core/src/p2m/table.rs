//! The tables themselves: where the entry of a guest frame is, and how a missing or too coarse path to it is made.

use super::P2mError;
use super::entry::{Entry, Meaning, PAGE_LEVEL, order_at, pages_at};
use crate::addr::{Gfn, MachineAddr, Mfn, Vmid};
use crate::frames::{FrameKind, FrameTable};
use crate::machine::Machine;
use core::sync::atomic::{AtomicU64, Ordering};

/// Entries in one table page.
pub(super) const ENTRIES: u64 = 512;
/// Bytes of an entry.
const ENTRY_SIZE: u64 = 8;

/// The shape of an address space: where its walk starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) ipa_bits: u32,
    pub(super) start_level: u8,
    /// log2 of the pages of the root: more than one when tables are concatenated (Arm ARM D8.2.2).
    pub(super) root_order: u32,
}

impl Geometry {
    /// 32 to 48 bits; up to 43 the walk starts at level 1 with up to 16 concatenated tables.
    pub(super) fn new(ipa_bits: u32) -> Option<Self> {
        let (start_level, root_order) = match ipa_bits {
            32..=38 => (1, 0),
            39..=43 => (1, ipa_bits - 39),
            44..=48 => (0, 0),
            _ => return None,
        };
        Some(Self { ipa_bits, start_level, root_order })
    }

    /// The first frame number beyond the address space.
    pub(super) fn limit(self) -> u64 {
        1 << (self.ipa_bits - 12)
    }
}

/// An entry that a walk came to.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) at: MachineAddr,
    pub(super) level: u8,
    pub(super) entry: Entry,
}

impl Slot {
    pub(super) fn meaning(&self) -> Meaning {
        self.entry.meaning(self.level)
    }
}

/// The tables of one domain.
pub(super) struct Tables {
    pub(super) machine: &'static dyn Machine,
    pub(super) vmid: Vmid,
    pub(super) geometry: Geometry,
    pub(super) root: MachineAddr,
    pub(super) pool_limit: AtomicU64,
    pub(super) pool_used: AtomicU64,
}

impl Tables {
    pub(super) fn load(&self, at: MachineAddr) -> Entry {
        Entry(self.machine.load_u64(at))
    }

    pub(super) fn store(&self, at: MachineAddr, entry: Entry) {
        self.machine.store_u64(at, entry.0);
    }

    /// The entry of `gfn` in the table of `level` at `table`.
    pub(super) fn slot(&self, table: MachineAddr, gfn: Gfn, level: u8) -> Slot {
        let number = gfn.0 >> order_at(level);
        // The root may be several tables in a row.
        let index = if level == self.geometry.start_level { number } else { number % ENTRIES };
        let at = MachineAddr(table.0 + index * ENTRY_SIZE);
        Slot { at, level, entry: self.load(at) }
    }

    /// Walks towards the entry of `gfn` at level `target`; stops early at an entry that is no table.
    pub(super) fn walk(&self, gfn: Gfn, target: u8) -> Slot {
        let mut slot = self.slot(self.root, gfn, self.geometry.start_level);
        while slot.level < target
            && let Meaning::Table(table) = slot.meaning()
        {
            slot = self.slot(table, gfn, slot.level + 1);
        }
        slot
    }

    /// The entry of `gfn` at level `target` itself: allocates missing tables, splits blocks that are in the way.
    ///
    /// On failure nothing has changed. `flushed` is set when a live block was replaced, which flushes the TLB.
    pub(super) fn reach(&self, frames: &FrameTable, gfn: Gfn, target: u8, flushed: &mut bool) -> Result<Slot, P2mError> {
        let top = self.walk(gfn, target);
        if top.level >= target {
            return Ok(top);
        }
        let made = self.allocate(frames, usize::from(target - top.level))?;
        let (Some(first), mut slot) = (made.first().copied().flatten(), top) else { return Ok(top) };
        for (i, table) in made.into_iter().flatten().enumerate() {
            let next = made.get(i + 1).copied().flatten();
            slot = self.fill(table, slot, gfn, next);
        }
        if top.entry != Entry::EMPTY {
            self.store(top.at, Entry::EMPTY);
            self.machine.flush_tlb(self.vmid);
            *flushed = true;
        }
        self.store(top.at, Entry::table(first));
        Ok(slot)
    }

    /// Makes an empty table map what the entry `above` maps, except that the entry of `gfn` points to the table `next` if there is one.
    /// The slot of `gfn` in it, with what it maps.
    fn fill(&self, table: MachineAddr, above: Slot, gfn: Gfn, next: Option<MachineAddr>) -> Slot {
        let level = above.level + 1;
        let own = (gfn.0 >> order_at(level)) % ENTRIES;
        let at = |i: u64| MachineAddr(table.0 + i * ENTRY_SIZE);
        let part = |i: u64| match above.meaning() {
            Meaning::Leaf(mfn, kind) => Entry::leaf(Mfn(mfn.0 + i * pages_at(level)), kind, level),
            _ => Entry::EMPTY,
        };
        for i in 0..ENTRIES {
            let entry = next.filter(|_| i == own).map_or_else(|| part(i), Entry::table);
            if entry != Entry::EMPTY {
                self.store(at(i), entry);
            }
        }
        Slot { at: at(own), level, entry: part(own) }
    }

    /// Allocates up to three tables from the domain's pool: all or none.
    fn allocate(&self, frames: &FrameTable, count: usize) -> Result<[Option<MachineAddr>; PAGE_LEVEL as usize], P2mError> {
        let mut made = [None; PAGE_LEVEL as usize];
        for i in 0..count {
            let table = self.allocate_one(frames);
            if let (Some(slot), Some(table)) = (made.get_mut(i), table) {
                *slot = Some(table);
            } else {
                made.into_iter().flatten().for_each(|t| self.free(frames, t));
                return Err(P2mError::NoMemory);
            }
        }
        Ok(made)
    }

    fn allocate_one(&self, frames: &FrameTable) -> Option<MachineAddr> {
        let limit = self.pool_limit.load(Ordering::Relaxed);
        self.pool_used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then(|| used + 1)).ok()?;
        let page = frames.allocate(self.vmid, 0, FrameKind::Table);
        if page.is_err() {
            self.pool_used.fetch_sub(1, Ordering::Relaxed);
        }
        page.ok().map(|mfn| mfn.address())
    }

    /// Gives a table page back to the pool. No walker can come to it any more.
    pub(super) fn free(&self, frames: &FrameTable, table: MachineAddr) {
        frames.put(Mfn::containing(table));
        self.pool_used.fetch_sub(1, Ordering::Relaxed);
    }
}
