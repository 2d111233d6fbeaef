//! The leaves that lookups found lately: a walk of four levels for each packet that a domain sends would be most of its cost.
//!
//! All of it happens under the p2m lock; the atomics only make that possible through a shared reference.

use super::entry::{Entry, order_at};
use crate::addr::Gfn;
use core::sync::atomic::{AtomicU64, Ordering};

/// Leaves that are remembered, each at the place that its guest frame's 2 MiB have.
const PLACES: usize = 8;
/// log2 of the pages of 2 MiB.
const BLOCK_ORDER: u32 = 9;
/// Bits of a level.
const LEVEL_BITS: u32 = 2;
/// No guest frame has this number.
const NONE: u64 = u64::MAX;

pub(super) struct Recent([Place; PLACES]);

struct Place {
    /// Number of the entry at its level, and the level.
    tag: AtomicU64,
    entry: AtomicU64,
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self([const { Place { tag: AtomicU64::new(NONE), entry: AtomicU64::new(0) } }; PLACES])
    }

    /// The leaf that maps `gfn`, and its level.
    pub(super) fn find(&self, gfn: Gfn) -> Option<(Entry, u8)> {
        let place = self.place(gfn)?;
        let tag = place.tag.load(Ordering::Relaxed);
        let level = tag as u8 & ((1 << LEVEL_BITS) - 1);
        (tag == self::tag(gfn, level)).then(|| (Entry(place.entry.load(Ordering::Relaxed)), level))
    }

    pub(super) fn note(&self, gfn: Gfn, entry: Entry, level: u8) {
        if let Some(place) = self.place(gfn) {
            place.tag.store(tag(gfn, level), Ordering::Relaxed);
            place.entry.store(entry.0, Ordering::Relaxed);
        }
    }

    pub(super) fn forget(&self) {
        self.0.iter().for_each(|place| place.tag.store(NONE, Ordering::Relaxed));
    }

    fn place(&self, gfn: Gfn) -> Option<&Place> {
        self.0.get((gfn.0 >> BLOCK_ORDER) as usize % PLACES)
    }
}

fn tag(gfn: Gfn, level: u8) -> u64 {
    (gfn.0 >> order_at(level)) << LEVEL_BITS | u64::from(level)
}
