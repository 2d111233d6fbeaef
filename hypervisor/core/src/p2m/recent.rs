//! Where lookups came by lately: a walk of four levels for each page of a packet would be most of its cost. Remembered is the entry that
//! covers the guest frame's 2 MiB, a block or the last table, or a leaf above it.
//!
//! They are written under the p2m lock and read without it, as a sequence lock: `turn` is odd while they are written, and all the time that
//! an edit is under way. A reader that finds `turn` even, and the same after it has what it wanted, looked between two edits.
//!
//! What a reader wants is a reference to the page. No stale entry can give it one: an edit makes `turn` odd before it changes an entry, and
//! references of pages that it unmaps are dropped after that, by read-modify-writes of the state words of frames. If such a change came
//! before the reader's own, then that has acquired it, and `turn` with it: the reader sees that `turn` has moved on, and drops what it took.
//! If it came after, the page was still allocated, and is until the reader drops it.

use super::entry::{Entry, order_at};
use crate::addr::Gfn;
use crate::atomic::{AtomicU64, fence};
use core::sync::atomic::Ordering;

/// Entries that are remembered, each at the place that its guest frame's 2 MiB have.
const PLACES: usize = 8;
/// log2 of the pages of 2 MiB.
const BLOCK_ORDER: u32 = 9;
/// Bits of a level.
const LEVEL_BITS: u32 = 2;
/// A tag that no guest frame has: of level 0, where a number has few bits. All ones would be that of the last frame at the level of pages.
const NONE: u64 = u64::MAX << LEVEL_BITS;

pub(super) struct Recent {
    turn: AtomicU64,
    places: [Place; PLACES],
}

struct Place {
    /// Number of the entry at its level, and the level.
    tag: AtomicU64,
    entry: AtomicU64,
}

/// An entry on the way to that of a guest frame, or one that was: [`Recent::is_current`] says which.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) level: u8,
    turn: u64,
}

impl Recent {
    pub(super) fn new() -> Self {
        let places = core::array::from_fn(|_| Place { tag: AtomicU64::new(NONE), entry: AtomicU64::new(0) });
        Self { turn: AtomicU64::new(0), places }
    }

    /// The entry that covers `gfn`, without the p2m lock.
    #[inline]
    pub(super) fn find(&self, gfn: Gfn) -> Option<Found> {
        let turn = self.turn.load(Ordering::Acquire);
        let place = self.place(gfn)?;
        let tag = place.tag.load(Ordering::Relaxed);
        let entry = Entry(place.entry.load(Ordering::Relaxed));
        let level = tag as u8 & ((1 << LEVEL_BITS) - 1);
        (turn & 1 == 0 && tag == self::tag(gfn, level)).then_some(Found { entry, level, turn })
    }

    /// Whether none was written, and no edit begun, since it was found.
    #[inline]
    pub(super) fn is_current(&self, found: &Found) -> bool {
        fence(Ordering::Acquire);
        self.turn.load(Ordering::Relaxed) == found.turn
    }

    /// Remembers an entry of a level above that of pages. Under the p2m lock, outside an edit.
    pub(super) fn note(&self, gfn: Gfn, entry: Entry, level: u8) {
        let Some(place) = self.place(gfn) else { return };
        self.begin();
        place.tag.store(tag(gfn, level), Ordering::Relaxed);
        place.entry.store(entry.0, Ordering::Relaxed);
        self.end();
    }

    /// From here on entries of the stage 2 may change: forgets all, and nothing is found before [`Self::end`]. Under the p2m lock.
    pub(super) fn forget(&self) {
        self.begin();
        self.places.iter().for_each(|place| place.tag.store(NONE, Ordering::Relaxed));
    }

    fn begin(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// What is remembered is true again.
    pub(super) fn end(&self) {
        self.turn.store((self.turn.load(Ordering::Relaxed) | 1) + 1, Ordering::Release);
    }

    fn place(&self, gfn: Gfn) -> Option<&Place> {
        self.places.get((gfn.0 >> BLOCK_ORDER) as usize % PLACES)
    }
}

fn tag(gfn: Gfn, level: u8) -> u64 {
    (gfn.0 >> order_at(level)) << LEVEL_BITS | u64::from(level)
}
