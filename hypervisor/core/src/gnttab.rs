//! Grant tables: the pages a domain lets others use, and the pages of others that it uses.
//!
//! A [`GrantTable`] has two sides with a lock each. The *table* is what the domain grants: frames shared with the guest, in which it writes
//! entries, and for each entry in use the hypervisor's own record ([`active`]). The *maptrack* is what the domain has mapped of others' grants.
//! One operation touches the table of the granter and the maptrack of the mapper, each for a moment and never both at once:
//!
//! ```text
//! map:    mapper.reserve → granter.pin → (stage 2 of the mapper) → mapper.commit
//! unmap:  mapper.claim → (stage 2, TLB flush) → granter.unpin → mapper.release
//! copy:   granter.pin … copy … granter.unpin
//! ```
//!
//! The first pin of an entry takes one reference on its frame, through the callback that resolves the frame; the last unpin hands that
//! reference back to the caller. The callback runs under the table's lock, which therefore comes before those of stage 2 and the frame table.
//! Frames are [`Mfn`]s here; who owns them is the caller's business. Version 1 only, as on Arm. Source: xen/include/public/grant_table.h.

mod active;
mod entry;
mod maptrack;
#[cfg(test)]
mod tests;

pub use maptrack::{Drained, HANDLES_PER_FRAME, Handle, MapEntry};

use crate::addr::{DomainId, Gfn, MachineAddr, Mfn};
use crate::lock::Lock;
use crate::machine::Machine;
use active::{ActiveEntries, ENTRIES_PER_FRAME};
use alloc::vec::Vec;
use entry::{Claim, Entry};
use guest_abi::grant_table as abi;

/// Why an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantError {
    /// The reference lies beyond the table.
    BadRef,
    /// The entry does not grant access to this domain.
    NotGranted,
    /// The entry grants reading only.
    ReadOnly,
    /// The granter kept changing the entry.
    Unstable,
    /// The entry is in use too often.
    TooManyPins,
    /// The entry is in use.
    Pinned,
    /// The granted frame is not plain RAM of the granter.
    BadFrame,
    /// All handles are taken.
    NoHandle,
    /// The handle names no mapping.
    BadHandle,
    /// Something else than the mapping lies where the caller says it is.
    WrongAddress,
    /// The address or the flags cannot be mapped.
    Unmappable,
    /// The table may not have that many frames.
    TooManyFrames,
    /// The hypervisor has no memory for it.
    OutOfMemory,
}

impl GrantError {
    /// The `GNTST_*` that tells the guest.
    pub const fn status(self) -> i16 {
        match self {
            Self::BadRef => abi::GNTST_BAD_GNTREF,
            Self::BadFrame => abi::GNTST_BAD_PAGE,
            Self::NoHandle => abi::GNTST_NO_SPACE,
            Self::BadHandle => abi::GNTST_BAD_HANDLE,
            Self::Pinned => abi::GNTST_EAGAIN,
            Self::NotGranted
            | Self::ReadOnly
            | Self::Unstable
            | Self::TooManyPins
            | Self::WrongAddress
            | Self::Unmappable
            | Self::TooManyFrames
            | Self::OutOfMemory => abi::GNTST_GENERAL_ERROR,
        }
    }
}

/// What a grant is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// To map it.
    Map,
    /// To copy from or to it.
    Copy,
}

/// Which grant is wanted, by whom and what for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The reference in the granter's table.
    pub reference: u32,
    /// Who asks: must be the grantee.
    pub grantee: DomainId,
    /// Whether it will be written.
    pub write: bool,
    /// What for.
    pub purpose: Use,
}

/// An entry in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// The reference in the granter's table.
    pub reference: u32,
    /// Who uses it.
    pub grantee: DomainId,
    /// The frame, to which the entry holds one reference.
    pub mfn: Mfn,
    /// Pins for reading.
    pub readers: u16,
    /// Pins for writing.
    pub writers: u16,
}

#[derive(Default)]
struct Table {
    frames: Vec<Mfn>,
    active: ActiveEntries,
    /// Entries that are pinned.
    in_use: usize,
}

/// Both sides of one domain.
pub struct GrantTable {
    table: Lock<Table>,
    maptrack: Lock<maptrack::Maptrack>,
    max_frames: u32,
}

impl GrantTable {
    /// A table of one frame, `first` (a zeroed page of the hypervisor's own), that may grow to `max_frames`; a maptrack of up to
    /// `max_maptrack_frames`.
    ///
    /// # Errors
    /// [`GrantError::TooManyFrames`] if not even one frame is allowed, [`GrantError::OutOfMemory`]; `first` is still the caller's.
    pub fn new(max_frames: u32, max_maptrack_frames: u32, first: Mfn) -> Result<Self, GrantError> {
        let mut table = Table::default();
        if max_frames == 0 {
            return Err(GrantError::TooManyFrames);
        }
        table.reserve(1)?;
        table.frames.push(first);
        let maptrack = Lock::new(maptrack::Maptrack::new(max_maptrack_frames));
        Ok(Self { table: Lock::new(table), maptrack, max_frames })
    }

    // The table: what this domain grants.

    /// Marks a grant of this domain in use and returns its frame.
    ///
    /// On the first pin of an entry, `hold` is given the granted frame number; it resolves it and takes a reference on the machine frame,
    /// which lasts until [`GrantTable::unpin`] returns it. It may take the locks of this domain's stage 2 and of the frame table.
    ///
    /// # Errors
    /// [`GrantError::BadRef`], [`GrantError::NotGranted`], [`GrantError::ReadOnly`], [`GrantError::Unstable`],
    /// [`GrantError::TooManyPins`], or that of `hold`. The entry is then as it was.
    pub fn pin(
        &self,
        machine: &dyn Machine,
        request: Request,
        hold: impl FnOnce(Gfn) -> Result<Mfn, GrantError>,
    ) -> Result<Mfn, GrantError> {
        let mut table = self.table.lock();
        let entry = table.entry(request.reference)?;
        let active = table.active.get_mut(request.reference).ok_or(GrantError::BadRef)?;
        active.check(request.grantee, request.write)?;
        let pinned = active.is_pinned();
        if !pinned || request.write && !active.is_written() {
            let grantee = (!pinned).then_some(request.grantee);
            entry.mark_in_use(machine, &Claim { grantee, write: request.write, map: request.purpose == Use::Map })?;
        }
        if !pinned {
            match hold(entry.frame(machine)) {
                Ok(mfn) => (active.mfn, active.grantee) = (mfn, request.grantee),
                Err(error) => {
                    entry.unmark(machine, true, request.write);
                    return Err(error);
                }
            }
        }
        active.add(request.write);
        let mfn = active.mfn;
        table.in_use += usize::from(!pinned);
        Ok(mfn)
    }

    /// Takes back one pin. When it was the last, returns the frame, whose reference is the caller's to put.
    ///
    /// Whatever reached the frame through this pin must be gone before (TLB flushed), for the granter sees that its page is free.
    pub fn unpin(&self, machine: &dyn Machine, reference: u32, write: bool) -> Option<Mfn> {
        let mut table = self.table.lock();
        let entry = table.entry(reference);
        let active = table.active.get_mut(reference)?;
        let removed = active.remove(write);
        debug_assert!(removed, "unpin of a grant that is not pinned");
        if !removed {
            return None;
        }
        let last = !active.is_pinned();
        // A dead granter has no shared table any more.
        if let Ok(entry) = entry {
            entry.unmark(machine, last, write && !active.is_written());
        }
        let mfn = active.mfn;
        table.in_use -= usize::from(last);
        last.then_some(mfn)
    }

    /// Exchanges two entries of the shared table.
    ///
    /// # Errors
    /// [`GrantError::BadRef`], [`GrantError::Pinned`].
    pub fn swap(&self, machine: &dyn Machine, a: u32, b: u32) -> Result<(), GrantError> {
        let table = self.table.lock();
        let (entry_a, entry_b) = (table.entry(a)?, table.entry(b)?);
        if a == b {
            return Ok(());
        }
        if table.pinned(a) || table.pinned(b) {
            return Err(GrantError::Pinned);
        }
        entry_a.swap(entry_b, machine);
        Ok(())
    }

    /// Whether `grantee` uses a grant of `mfn`: looks at entries from `*from` on, at most `budget` of them.
    /// `None` says that there are more, from the new `*from` on.
    pub fn is_granted(&self, mfn: Mfn, grantee: DomainId, from: &mut u32, budget: u32) -> Option<bool> {
        let table = self.table.lock();
        let end = from.saturating_add(budget);
        for reference in *from..end {
            let Some(active) = table.active.get(reference) else { break };
            if active.is_pinned() && active.mfn == mfn && active.grantee == grantee {
                return Some(true);
            }
        }
        *from = end;
        if table.active.get(end).is_some() { None } else { Some(false) }
    }

    /// Entries in use, for the audit.
    pub fn for_each_pinned(&self, mut each: impl FnMut(Pinned)) {
        for (reference, active) in self.table.lock().active.pinned() {
            let (readers, writers) = active.pins();
            each(Pinned { reference, grantee: active.grantee, mfn: active.mfn, readers, writers });
        }
    }

    // The frames of the table.

    /// Frames the table has.
    pub fn frame_count(&self) -> u32 {
        self.table.lock().frame_count()
    }

    /// Frames the table may have.
    pub fn max_frames(&self) -> u32 {
        self.max_frames
    }

    /// Pages that [`GrantTable::grow`] needs for the table to have `frames` frames.
    ///
    /// # Errors
    /// [`GrantError::TooManyFrames`].
    pub fn missing(&self, frames: u32) -> Result<u32, GrantError> {
        if frames > self.max_frames {
            return Err(GrantError::TooManyFrames);
        }
        Ok(frames.saturating_sub(self.frame_count()))
    }

    /// Grows the table to `frames` frames out of `pages`: zeroed pages of the hypervisor's own. What is left in `pages` was not needed, since
    /// another vCPU may have grown the table meanwhile, and is the caller's to free.
    ///
    /// # Errors
    /// [`GrantError::TooManyFrames`]; [`GrantError::OutOfMemory`], also when `pages` are too few. The table is then as it was.
    pub fn grow(&self, frames: u32, pages: &mut Vec<Mfn>) -> Result<(), GrantError> {
        let missing = self.missing(frames)? as usize;
        let mut table = self.table.lock();
        let missing = missing.min((frames as usize).saturating_sub(table.frames.len()));
        if missing > pages.len() {
            return Err(GrantError::OutOfMemory);
        }
        table.reserve(missing)?;
        for _ in 0..missing {
            if let Some(mfn) = pages.pop() {
                table.frames.push(mfn);
            }
        }
        Ok(())
    }

    /// The machine frame in which frame `index` of the table lies.
    pub fn frame(&self, index: u32) -> Option<Mfn> {
        self.table.lock().frames.get(index as usize).copied()
    }

    /// Whether some entry is in use.
    pub fn is_in_use(&self) -> bool {
        self.table.lock().in_use != 0
    }

    /// Ends the table of a dead domain: nothing can be pinned any more. Returns its frames, which are the caller's to put.
    /// Entries still in use stay counted until their users let go.
    pub fn retire(&self) -> Vec<Mfn> {
        core::mem::take(&mut self.table.lock().frames)
    }

    // The maptrack: what this domain has mapped.

    /// Takes a free handle for a map.
    ///
    /// # Errors
    /// [`GrantError::NoHandle`].
    pub fn reserve(&self) -> Result<Handle, GrantError> {
        self.maptrack.lock().reserve()
    }

    /// Makes a reserved handle name a mapping: from now on it can be unmapped.
    pub fn commit(&self, handle: Handle, entry: MapEntry) {
        self.maptrack.lock().commit(handle, entry);
    }

    /// The mapping that `handle` names.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`].
    pub fn mapping(&self, handle: Handle) -> Result<MapEntry, GrantError> {
        self.maptrack.lock().get(handle)
    }

    /// Claims a mapping for its unmap: exactly one of several claimants succeeds.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`].
    pub fn claim(&self, handle: Handle) -> Result<MapEntry, GrantError> {
        self.maptrack.lock().claim(handle)
    }

    /// The unmap of a claimed mapping was refused: it stays.
    pub fn unclaim(&self, handle: Handle) {
        self.maptrack.lock().unclaim(handle);
    }

    /// Frees a handle: a reserved one whose map was refused, or a claimed one that is unmapped.
    pub fn release(&self, handle: Handle) {
        self.maptrack.lock().release(handle);
    }

    /// Takes the next mapping out of the maptrack of a dying domain, whose vCPUs no longer run; looks at no more than `budget` slots and
    /// counts them down. The caller unpins it at its granter.
    pub fn drain(&self, budget: &mut u32) -> Drained {
        self.maptrack.lock().drain(budget)
    }

    /// All mappings, for the audit.
    pub fn for_each_mapping(&self, each: impl FnMut(MapEntry)) {
        self.maptrack.lock().mapped().for_each(each);
    }

    /// Whether the counts and lists of both sides are what their entries say, and no map or unmap is under way.
    pub fn is_sound(&self) -> bool {
        let counted = {
            let table = self.table.lock();
            table.in_use == table.active.pinned().count()
        };
        counted && self.maptrack.lock().is_sound()
    }
}

impl Table {
    fn frame_count(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    /// Allocates what the hypervisor needs for `more` frames.
    fn reserve(&mut self, more: usize) -> Result<(), GrantError> {
        self.frames.try_reserve_exact(more).map_err(|_| GrantError::OutOfMemory)?;
        self.active.grow(self.frames.len() + more)
    }

    fn pinned(&self, reference: u32) -> bool {
        self.active.get(reference).is_some_and(active::Active::is_pinned)
    }

    fn entry(&self, reference: u32) -> Result<Entry, GrantError> {
        let index = reference as usize;
        let frame = self.frames.get(index / ENTRIES_PER_FRAME).ok_or(GrantError::BadRef)?;
        let offset = (index % ENTRIES_PER_FRAME) * core::mem::size_of::<abi::GrantEntryV1>();
        Ok(Entry(MachineAddr(frame.address().0 + offset as u64)))
    }
}
