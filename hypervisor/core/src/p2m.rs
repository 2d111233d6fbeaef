//! The stage-2 address space of a domain: Xen's "physical to machine" map.
//!
//! Lookups and edits take the domain's p2m lock. An [`Edit`] collects changes; dropping it makes them visible to every walker, flushing the
//! TLB once if a live entry went away. Only **after** that may the caller drop references to pages that an edit displaced. Tables that become
//! empty stay until [`P2m::drain`]. A block is split on demand by break-before-make, so a vCPU of the domain may take a stage-2 fault on an
//! address that is mapped: the abort handler looks it up (which waits for the edit) and re-enters when the access is permitted.

mod audit;
mod drain;
mod edit;
mod entry;
#[cfg(all(test, loom))]
mod memory_order;
mod recent;
mod table;
#[cfg(test)]
mod tests;

pub use audit::Content;
pub use drain::Drained;
pub use edit::Edit;
pub use entry::P2mType;

use crate::addr::{Gfn, MachineAddr, Mfn, Vmid};
use crate::frames::{FrameKind, FrameTable};
use crate::lock::Lock;
use core::sync::atomic::{AtomicU64, Ordering};
use drain::Drain;
use entry::{Entry, Meaning, order_at, pages_at};
use recent::Recent;
use table::{Geometry, Tables};

/// Why a stage-2 change was refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum P2mError {
    /// No page for a table: the domain's pool or the machine is exhausted.
    NoMemory,
    /// A frame number outside its address space, not aligned to the order, or an order other than 0, 9, 18.
    BadFrame,
    /// Part of the range is mapped already (ranges and orders above 0), or has tables where a block was asked for.
    Occupied,
    /// The page is one of the hypervisor's that is mapped elsewhere already: it may be mapped once.
    Busy,
    /// The address space is being torn down.
    Dying,
}

/// A guest frame's mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The machine frame of the guest frame asked for.
    pub mfn: Mfn,
    /// How it is mapped.
    pub kind: P2mType,
    /// log2 of the pages of the entry it comes from: 0, 9 or 18.
    pub order: u32,
}

impl Mapping {
    /// The page's only mapping in its owner's stage 2 was given up for good: drops what the mapping held. RAM of `domain` is released.
    ///
    /// After the edit that removed it has been dropped.
    pub fn release(&self, frames: &FrameTable, domain: Vmid) {
        if self.kind.is_foreign() {
            frames.put(self.mfn);
        } else if self.kind.is_ram() {
            frames.release(self.mfn, domain);
        }
    }

    /// Another mapping took this one's place: drops what the mapping held. RAM of `domain` stays its own, as an orphan.
    ///
    /// After the edit that replaced it has been dropped.
    pub fn displace(&self, frames: &FrameTable, domain: Vmid) {
        if self.kind.is_foreign() {
            frames.put(self.mfn);
        } else if self.kind.is_ram() {
            frames.orphan(self.mfn, domain);
        }
    }
}

/// The stage-2 tables of one domain.
pub struct P2m {
    tables: Tables,
    /// Highest guest frame ever mapped + 1.
    mapped_limit: AtomicU64,
    /// Entries found lately. Written under the lock; an edit forgets them.
    recent: Recent,
    state: Lock<Option<Drain>>,
}

impl P2m {
    /// An empty address space of `ipa_bits` (32 to 48) for the domain `vmid`, whose tables below the root may use `pool` pages.
    pub fn new(vmid: Vmid, ipa_bits: u32, frames: &FrameTable, pool: u64) -> Result<Self, P2mError> {
        let geometry = Geometry::new(ipa_bits).ok_or(P2mError::BadFrame)?;
        let root = frames.allocate(vmid, geometry.root_order, FrameKind::Table).map_err(|_| P2mError::NoMemory)?;
        let tables = Tables {
            machine: frames.machine(),
            vmid,
            geometry,
            root: root.address(),
            pool_limit: AtomicU64::new(pool),
            pool_used: AtomicU64::new(0),
        };
        Ok(Self { tables, mapped_limit: AtomicU64::new(0), recent: Recent::new(), state: Lock::new(None) })
    }

    /// The base of the root table, for `VTTBR_EL2.BADDR`.
    pub fn root(&self) -> MachineAddr {
        self.tables.root
    }

    /// `VTTBR_EL2`: root and VMID.
    pub fn vttbr(&self) -> u64 {
        self.tables.root.0 | (u64::from(self.tables.vmid.0) << 48)
    }

    /// The level at which walks start, 0 or 1: what `VTCR_EL2.SL0` encodes.
    pub fn start_level(&self) -> u8 {
        self.tables.geometry.start_level
    }

    /// `VTCR_EL2.T0SZ`: 64 less the bits of a guest physical address.
    pub fn t0sz(&self) -> u32 {
        64 - self.tables.geometry.ipa_bits
    }

    /// Bits of a guest physical address.
    pub fn ipa_bits(&self) -> u32 {
        self.tables.geometry.ipa_bits
    }

    /// The domain.
    pub fn vmid(&self) -> Vmid {
        self.tables.vmid
    }

    /// What `gfn` is mapped to; nothing once teardown has begun.
    pub fn lookup(&self, gfn: Gfn) -> Option<Mapping> {
        self.with(gfn, Some)
    }

    /// Calls `f` with what `gfn` is mapped to, which stays so meanwhile.
    fn with<R>(&self, gfn: Gfn, f: impl FnOnce(Mapping) -> Option<R>) -> Option<R> {
        if gfn.0 >= self.tables.geometry.limit() {
            return None;
        }
        let state = self.state.lock();
        if state.is_some() {
            return None;
        }
        // Nobody writes them but under the lock.
        if let Some(found) = self.recent.find(gfn) {
            return f(self.below(gfn, found.entry, found.level)?);
        }
        let slot = self.tables.walk(gfn, entry::PAGE_LEVEL - 1);
        let found = self.below(gfn, slot.entry, slot.level)?;
        self.recent.note(gfn, slot.entry, slot.level);
        f(found)
    }

    /// What `gfn` is mapped to, below the entry of a level above that of pages.
    #[inline]
    fn below(&self, gfn: Gfn, entry: Entry, level: u8) -> Option<Mapping> {
        match entry.meaning(level) {
            Meaning::Table(table) => mapping(gfn, self.tables.slot(table, gfn, level + 1).entry, level + 1),
            _ => mapping(gfn, entry, level),
        }
    }

    fn find(&self, gfn: Gfn) -> Option<Mapping> {
        let slot = self.tables.walk(gfn, entry::PAGE_LEVEL);
        mapping(gfn, slot.entry, slot.level)
    }

    /// The machine page of the domain's own RAM at `gfn`, referenced; the caller puts it. `write`: only if the domain may write it.
    ///
    /// Accepts pages of kind `Ram` alone: no shared pages of the hypervisor, no foreign mappings, no grants, no devices.
    pub fn get_ram(&self, frames: &FrameTable, gfn: Gfn, write: bool) -> Option<Mfn> {
        match self.get_recent(frames, gfn, write) {
            None => self.get_ram_locked(frames, gfn, write),
            mfn => mfn,
        }
    }

    /// As [`Self::get_ram`], but also a page that the hypervisor shares with the domain: for grants and event channels it is RAM, as in Xen.
    pub fn get_own(&self, frames: &FrameTable, gfn: Gfn, write: bool) -> Option<Mfn> {
        match self.get_recent(frames, gfn, write) {
            None => self.get_own_locked(frames, gfn, write),
            mfn => mfn,
        }
    }

    /// RAM whose place is remembered, without the lock.
    #[inline(always)]
    fn get_recent(&self, frames: &FrameTable, gfn: Gfn, write: bool) -> Option<Mfn> {
        let found = self.recent.find(gfn)?;
        let mapping = self.below(gfn, found.entry, found.level)?;
        let mfn = self.get(frames, mapping, write)?;
        if self.recent.is_current(&found) {
            return Some(mfn);
        }
        frames.put(mfn);
        None
    }

    // These are apart for the registers that they need.
    #[inline(never)]
    fn get_ram_locked(&self, frames: &FrameTable, gfn: Gfn, write: bool) -> Option<Mfn> {
        self.with(gfn, |mapping| self.get(frames, mapping, write))
    }

    #[inline(never)]
    fn get_own_locked(&self, frames: &FrameTable, gfn: Gfn, write: bool) -> Option<Mfn> {
        self.with(gfn, |mapping| usable(mapping, write).filter(|mfn| frames.get(*mfn, self.tables.vmid)))
    }

    /// Takes the reference to what was found.
    #[inline]
    fn get(&self, frames: &FrameTable, found: Mapping, write: bool) -> Option<Mfn> {
        usable(found, write).filter(|mfn| frames.get_ram(*mfn, self.tables.vmid))
    }

    /// Begins a change. Holds the p2m lock until dropped.
    pub fn edit<'a>(&'a self, frames: &'a FrameTable) -> Edit<'a> {
        Edit::new(self, frames)
    }

    /// The highest guest frame that was ever mapped: `XENMEM_maximum_gpfn`.
    pub fn max_gfn(&self) -> Gfn {
        Gfn(self.mapped_limit.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// Pages the tables may use, the root not counted.
    pub fn pool(&self) -> u64 {
        self.tables.pool_limit.load(Ordering::Relaxed)
    }

    /// Pages the tables use, the root not counted.
    pub fn pool_used(&self) -> u64 {
        self.tables.pool_used.load(Ordering::Relaxed)
    }

    /// Sets how many pages the tables may use; refused if they use more already. `u64::MAX`: no limit but the machine's.
    pub fn set_pool(&self, pages: u64) -> Result<(), P2mError> {
        let _state = self.state.lock();
        if pages < self.pool_used() {
            return Err(P2mError::NoMemory);
        }
        self.tables.pool_limit.store(pages, Ordering::Relaxed);
        Ok(())
    }
}

/// The page, if it is mapped as the domain's own memory that it may access so.
fn usable(found: Mapping, write: bool) -> Option<Mfn> {
    (found.kind.is_ram() && (found.kind.write_permitted() || !write)).then_some(found.mfn)
}

/// What a leaf at `level` maps `gfn` to.
fn mapping(gfn: Gfn, entry: Entry, level: u8) -> Option<Mapping> {
    let Meaning::Leaf(mfn, kind) = entry.meaning(level) else { return None };
    let offset = gfn.0 & (pages_at(level) - 1);
    Some(Mapping { mfn: mfn.checked_add(offset)?, kind, order: order_at(level) })
}
