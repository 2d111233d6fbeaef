//! The maptrack: what a domain has mapped of others' grants, by handle.
//!
//! A handle is free, reserved (a map is under way), mapped, or claimed (an unmap is under way). Every change happens under one lock, so a
//! handle that several vCPUs unmap at once is claimed by exactly one of them, and is handed out again only after its owner let go of it.

use super::GrantError;
use crate::addr::{Gfn, Mfn, Vmid};
use alloc::vec::Vec;

/// Handles per maptrack frame, as in Xen, so that `max_maptrack_frames` means the same number of mappings.
pub const HANDLES_PER_FRAME: u32 = 256;

/// Names a mapping, `grant_handle_t`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle(pub u32);

/// One mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// Where it is mapped in the mapper's space.
    pub gfn: Gfn,
    /// The frame that is mapped.
    pub mfn: Mfn,
    /// The reference in the granter's table.
    pub reference: u32,
    /// The granter.
    pub granter: Vmid,
    /// Whether it is mapped for writing.
    pub write: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Reserved,
    Mapped,
    Claimed,
}

/// What is known of a handle; an enum with two kinds of mapping would take a third more memory.
#[derive(Clone, Copy)]
struct Slot {
    gfn: Gfn,
    mfn: Mfn,
    /// The reference; of a free slot, the next free one.
    reference: u32,
    granter: Vmid,
    write: bool,
    state: State,
}

impl Slot {
    const fn free(next: u32) -> Self {
        Self { gfn: Gfn(0), mfn: Mfn(0), reference: next, granter: Vmid(0), write: false, state: State::Free }
    }

    fn entry(&self) -> MapEntry {
        MapEntry { gfn: self.gfn, mfn: self.mfn, reference: self.reference, granter: self.granter, write: self.write }
    }
}

/// Ends the free list.
const NONE: u32 = u32::MAX;

/// The handles of one domain.
pub(super) struct Maptrack {
    blocks: Vec<Vec<Slot>>,
    max_frames: u32,
    free: u32,
    /// Slots that are not free.
    used: u32,
    /// Where [`Maptrack::drain`] goes on.
    cursor: u32,
}

/// What [`Maptrack::drain`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// A mapping, which is the caller's to undo now.
    Entry(MapEntry),
    /// The budget is used up.
    Again,
    /// Nothing is mapped any more.
    Done,
}

impl Maptrack {
    pub fn new(max_frames: u32) -> Self {
        Self { blocks: Vec::new(), max_frames, free: NONE, used: 0, cursor: 0 }
    }

    /// Takes a free handle.
    ///
    /// # Errors
    /// [`GrantError::NoHandle`] when all are taken, or memory is.
    pub fn reserve(&mut self) -> Result<Handle, GrantError> {
        if self.free == NONE {
            self.grow()?;
        }
        let handle = self.free;
        let slot = self.slot_in(handle, &[State::Free]).ok_or(GrantError::NoHandle)?;
        slot.state = State::Reserved;
        self.free = slot.reference;
        self.used += 1;
        Ok(Handle(handle))
    }

    /// Makes a reserved handle name `entry`.
    pub fn commit(&mut self, handle: Handle, entry: MapEntry) {
        if let Some(slot) = self.slot_in(handle.0, &[State::Reserved]) {
            let MapEntry { gfn, mfn, reference, granter, write } = entry;
            *slot = Slot { gfn, mfn, reference, granter, write, state: State::Mapped };
        }
    }

    /// Gives back a reserved or claimed handle.
    pub fn release(&mut self, handle: Handle) {
        let next = self.free;
        if let Some(slot) = self.slot_in(handle.0, &[State::Reserved, State::Claimed]) {
            *slot = Slot::free(next);
            self.free = handle.0;
            self.used -= 1;
        }
    }

    /// The mapping that `handle` names, if no unmap is under way.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`].
    pub fn get(&mut self, handle: Handle) -> Result<MapEntry, GrantError> {
        self.slot_in(handle.0, &[State::Mapped]).map(|slot| slot.entry()).ok_or(GrantError::BadHandle)
    }

    /// Claims a mapping for its unmap.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`] if it names no mapping or another one claimed it.
    pub fn claim(&mut self, handle: Handle) -> Result<MapEntry, GrantError> {
        let slot = self.slot_in(handle.0, &[State::Mapped]).ok_or(GrantError::BadHandle)?;
        slot.state = State::Claimed;
        Ok(slot.entry())
    }

    /// A claimed mapping stays after all.
    pub fn unclaim(&mut self, handle: Handle) {
        if let Some(slot) = self.slot_in(handle.0, &[State::Claimed]) {
            slot.state = State::Mapped;
        }
    }

    /// Removes the next mapping of a dying domain, looking at no more than `budget` slots, which it counts down.
    pub fn drain(&mut self, budget: &mut u32) -> Drained {
        while self.used != 0 {
            let Some(left) = budget.checked_sub(1) else { return Drained::Again };
            *budget = left;
            let handle = Handle(self.cursor);
            // Past the end, start over: a slot may have been reserved when the cursor passed it.
            self.cursor = if self.slot(handle.0).is_some() { handle.0 + 1 } else { 0 };
            if let Ok(entry) = self.claim(handle) {
                self.release(handle);
                return Drained::Entry(entry);
            }
        }
        Drained::Done
    }

    /// All mappings.
    pub fn mapped(&self) -> impl Iterator<Item = MapEntry> {
        let slots = self.blocks.iter().flatten();
        slots.filter(|slot| matches!(slot.state, State::Mapped | State::Claimed)).map(Slot::entry)
    }

    /// Whether no map or unmap is under way, the handles in use are as many as are counted, and all others are in the list of free ones.
    pub fn is_sound(&self) -> bool {
        let slots = || self.blocks.iter().flatten();
        let used = slots().filter(|slot| slot.state == State::Mapped).count();
        let unused = slots().filter(|slot| slot.state == State::Free).count();
        let (mut listed, mut at) = (0, self.free);
        while at != NONE && listed <= unused {
            let block = self.blocks.get((at / HANDLES_PER_FRAME) as usize);
            let Some(slot) = block.and_then(|b| b.get((at % HANDLES_PER_FRAME) as usize)).filter(|slot| slot.state == State::Free) else {
                return false;
            };
            (listed, at) = (listed + 1, slot.reference);
        }
        used == self.used as usize && used + unused == slots().count() && listed == unused
    }

    fn slot(&mut self, handle: u32) -> Option<&mut Slot> {
        self.blocks.get_mut((handle / HANDLES_PER_FRAME) as usize)?.get_mut((handle % HANDLES_PER_FRAME) as usize)
    }

    fn slot_in(&mut self, handle: u32, states: &[State]) -> Option<&mut Slot> {
        self.slot(handle).filter(|slot| states.contains(&slot.state))
    }

    fn grow(&mut self) -> Result<(), GrantError> {
        let frames = u32::try_from(self.blocks.len()).map_err(|_| GrantError::NoHandle)?;
        let first = frames.checked_mul(HANDLES_PER_FRAME).ok_or(GrantError::NoHandle)?;
        if frames >= self.max_frames || first.checked_add(HANDLES_PER_FRAME).is_none() {
            return Err(GrantError::NoHandle);
        }
        self.blocks.try_reserve(1).map_err(|_| GrantError::NoHandle)?;
        let mut block = Vec::new();
        block.try_reserve_exact(HANDLES_PER_FRAME as usize).map_err(|_| GrantError::NoHandle)?;
        let last = HANDLES_PER_FRAME - 1;
        block.extend((0..=last).map(|i| Slot::free(if i == last { self.free } else { first + i + 1 })));
        self.blocks.push(block);
        self.free = first;
        Ok(())
    }
}

const _: () = assert!(core::mem::size_of::<Slot>() == 24);
