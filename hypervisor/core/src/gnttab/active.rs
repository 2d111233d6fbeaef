//! What the hypervisor itself remembers of each entry in use: for whom, how often, and the machine frame.
//!
//! The granter can write the shared entry at any time; nothing that matters while a grant is in use is read from there again.

use super::GrantError;
use crate::addr::{DomainId, Mfn};
use alloc::vec::Vec;

/// Entries in one frame of the shared table.
pub(super) const ENTRIES_PER_FRAME: usize = 512;

/// Pins of one kind (reading or writing) that an entry may have, as in Xen.
const MAX_PINS: u16 = 128;

/// The state of one entry.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Active {
    /// The frame, while pinned.
    pub mfn: Mfn,
    /// Who uses it, while pinned.
    pub grantee: DomainId,
    readers: u16,
    writers: u16,
}

impl Active {
    /// Whether the entry is in use.
    pub fn is_pinned(&self) -> bool {
        self.readers != 0 || self.writers != 0
    }

    /// Whether the entry is in use for writing.
    pub fn is_written(&self) -> bool {
        self.writers != 0
    }

    /// Pins for reading and for writing.
    pub fn pins(&self) -> (u16, u16) {
        (self.readers, self.writers)
    }

    /// Whether `grantee` may pin it once more.
    pub fn check(&self, grantee: DomainId, write: bool) -> Result<(), GrantError> {
        if self.is_pinned() && self.grantee != grantee {
            return Err(GrantError::NotGranted);
        }
        if (if write { self.writers } else { self.readers }) >= MAX_PINS {
            return Err(GrantError::TooManyPins);
        }
        Ok(())
    }

    /// Counts a pin that [`Active::check`] allowed.
    pub fn add(&mut self, write: bool) {
        let count = if write { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_add(1);
    }

    /// Takes a pin back; false if there is none, which would be our own bug.
    pub fn remove(&mut self, write: bool) -> bool {
        let count = if write { &mut self.writers } else { &mut self.readers };
        match count.checked_sub(1) {
            Some(left) => {
                *count = left;
                true
            }
            None => false,
        }
    }
}

/// The states of all entries of a table, one block per frame.
#[derive(Default)]
pub(super) struct ActiveEntries {
    blocks: Vec<Vec<Active>>,
}

impl ActiveEntries {
    /// Makes room for `frames` frames.
    ///
    /// # Errors
    /// [`GrantError::OutOfMemory`]; what was there before stays.
    pub fn grow(&mut self, frames: usize) -> Result<(), GrantError> {
        let more = frames.saturating_sub(self.blocks.len());
        self.blocks.try_reserve_exact(more).map_err(|_| GrantError::OutOfMemory)?;
        while self.blocks.len() < frames {
            let mut block = Vec::new();
            block.try_reserve_exact(ENTRIES_PER_FRAME).map_err(|_| GrantError::OutOfMemory)?;
            block.resize(ENTRIES_PER_FRAME, Active::default());
            self.blocks.push(block);
        }
        Ok(())
    }

    /// The state of an entry.
    pub fn get(&self, reference: u32) -> Option<&Active> {
        let index = reference as usize;
        self.blocks.get(index / ENTRIES_PER_FRAME)?.get(index % ENTRIES_PER_FRAME)
    }

    /// The state of an entry, to change it.
    pub fn get_mut(&mut self, reference: u32) -> Option<&mut Active> {
        let index = reference as usize;
        self.blocks.get_mut(index / ENTRIES_PER_FRAME)?.get_mut(index % ENTRIES_PER_FRAME)
    }

    /// Entries in use, with their references.
    pub fn pinned(&self) -> impl Iterator<Item = (u32, &Active)> {
        (0u32..).zip(self.blocks.iter().flatten()).filter(|(_, active)| active.is_pinned())
    }
}
