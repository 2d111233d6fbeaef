//! What is remembered of a stage 2, read without its lock under every order of memory: see [`super::recent`].

use super::entry::Entry;
use super::recent::Recent;
use crate::addr::Gfn;
use crate::frames::memory_order::Page;
use core::sync::atomic::Ordering;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::{model, thread};

const GFN: Gfn = Gfn(5);
/// The level of last tables' entries.
const LEVEL: u8 = 2;
const MAPPED: u64 = 1;

/// One page, and the entry of the last table that maps it.
struct World {
    recent: Recent,
    leaf: AtomicU64,
    page: Page,
}

impl World {
    fn new() -> Arc<Self> {
        let world = Self { recent: Recent::new(), leaf: AtomicU64::new(MAPPED), page: Page::new() };
        world.recent.note(GFN, Entry(7), LEVEL);
        Arc::new(world)
    }

    /// As [`super::P2m::get_ram`] without the lock: whether it has a reference.
    fn get(&self) -> bool {
        let Some(found) = self.recent.find(GFN) else { return false };
        if self.leaf.load(Ordering::Acquire) != MAPPED || !self.page.get() {
            return false;
        }
        let current = self.recent.is_current(&found);
        if !current {
            self.page.put();
        }
        current
    }

    /// An edit that unmaps the page.
    fn unmap(&self) {
        self.recent.forget();
        self.leaf.store(0, Ordering::Release);
        self.recent.end();
    }
}

#[test]
fn a_reference_is_to_the_page_that_was_mapped() {
    model(|| {
        let w = World::new();
        let other = w.clone();
        let reader = thread::spawn(move || other.get());
        w.unmap();
        // The domain gets the page again, for another place.
        let reused = w.page.release();
        if reused {
            w.page.allocate();
        }
        let held = reader.join().unwrap();
        assert!(!(held && reused), "a reference to what came after");
    });
}

#[test]
fn what_is_noted_is_found_whole() {
    model(|| {
        let w = World::new();
        let other = w.clone();
        // Another entry for the same place, 16 MiB further on.
        let (far, entry) = (Gfn(GFN.0 + (8 << 9)), Entry(9));
        let reader = thread::spawn(move || {
            for (gfn, expected) in [(GFN, Entry(7)), (far, entry)] {
                if let Some(found) = other.recent.find(gfn)
                    && other.recent.is_current(&found)
                {
                    assert_eq!(found.entry, expected);
                }
            }
        });
        w.recent.note(far, entry, LEVEL);
        reader.join().unwrap();
    });
}
