//! The buddy allocator: free blocks of 2^n pages, naturally aligned, in one list per order.
//!
//! The head of a free block says so in its state; the other pages of the block are free and no heads. Under the frame table's lock.

use super::frame::{FrameMap, State};
use super::{Frame, MAX_ORDER};
use crate::addr::Mfn;
use core::ops::Range;

pub(super) struct Buddy {
    /// First block of each order, by index in the frame table.
    heads: [Option<u32>; MAX_ORDER as usize + 1],
    free: u64,
    /// Of the free pages, those put aside for domains.
    claimed: u64,
}

impl Buddy {
    pub(super) fn new() -> Self {
        Self { heads: [None; MAX_ORDER as usize + 1], free: 0, claimed: 0 }
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Whether an owner with `own_claim` pages put aside may take `pages`.
    pub(super) fn may_take(&self, pages: u64, own_claim: u64) -> bool {
        own_claim >= pages || self.claimed.saturating_add(pages) <= self.free
    }

    /// Uses up to `pages` of an owner's claim; what is left of it.
    pub(super) fn use_claim(&mut self, own_claim: u64, pages: u64) -> u64 {
        let used = own_claim.min(pages);
        self.claimed = self.claimed.saturating_sub(used);
        own_claim - used
    }

    /// Puts `pages` aside; false if there are not as many.
    pub(super) fn claim(&mut self, pages: u64) -> bool {
        let enough = self.claimed.saturating_add(pages) <= self.free;
        if enough {
            self.claimed += pages;
        }
        enough
    }

    /// Frees a block whose pages are in state [`State::FREE`] and in no list, joining it with its free buddies.
    pub(super) fn insert(&mut self, map: &FrameMap, mfn: Mfn, order: u32) {
        let (mut mfn, mut order) = (mfn, order);
        self.free += 1 << order;
        while order < MAX_ORDER {
            let buddy = Mfn(mfn.0 ^ (1 << order));
            if !self.unlink(map, buddy, order) {
                break;
            }
            mfn = Mfn(mfn.0.min(buddy.0));
            order += 1;
        }
        self.link(map, mfn, order);
    }

    /// Takes a block of 2^`order` pages from the smallest list that has one. Its pages are left in state [`State::FREE`].
    pub(super) fn take(&mut self, map: &FrameMap, order: u32) -> Option<Mfn> {
        let mut from = order;
        let head = loop {
            match self.heads.get(from as usize)? {
                Some(head) => break *head,
                None => from += 1,
            }
        };
        let mfn = map.mfn(head)?;
        self.carve(map, mfn, from, mfn, order);
        Some(mfn)
    }

    /// Takes exactly the block of 2^`order` pages at `mfn`; false if it is not aligned or not all free.
    pub(super) fn take_at(&mut self, map: &FrameMap, mfn: Mfn, order: u32) -> bool {
        if !mfn.is_aligned(order) {
            return false;
        }
        // Free blocks are joined as far as possible, so a wholly free block is one block or part of a larger one.
        for from in order..=MAX_ORDER {
            let block = Mfn(mfn.0 & !((1 << from) - 1));
            if is_block(map, block, from) {
                self.carve(map, block, from, mfn, order);
                return true;
            }
        }
        false
    }

    /// The lowest free block of 2^`order` pages inside `window`.
    pub(super) fn lowest_within(&self, map: &FrameMap, order: u32, window: &Range<Mfn>) -> Option<Mfn> {
        let pages = 1u64 << order;
        let mut best: Option<Mfn> = None;
        for from in order..=MAX_ORDER {
            let mut at = self.heads.get(from as usize).copied().flatten();
            while let Some(index) = at {
                let block = map.mfn(index)?.0;
                let start = block.max(window.start.0.checked_next_multiple_of(pages)?);
                let end = window.end.0.min(block + (1 << from));
                if start.checked_add(pages)? <= end && best.is_none_or(|b| start < b.0) {
                    best = Some(Mfn(start));
                }
                at = map.at(index).and_then(Frame::next);
            }
        }
        best
    }

    /// Takes the 2^`order` pages at `mfn` out of the free block of 2^`from` pages at `block`; the rest stays free.
    fn carve(&mut self, map: &FrameMap, block: Mfn, from: u32, mfn: Mfn, order: u32) {
        self.unlink(map, block, from);
        for half in (order..from).rev() {
            // The half that does not hold `mfn`.
            let other = (mfn.0 & !((1 << half) - 1)) ^ (1 << half);
            self.link(map, Mfn(other), half);
        }
        self.free -= 1 << order;
    }

    /// Whether the lists hold every free page once, and no other.
    ///
    /// `free_pages` are those whose state says so: blocks that are all free and of which no page is in two blocks, as heads are aligned and
    /// no page inside a block is a head, make up all of them if their sizes do.
    pub(super) fn is_sound(&self, map: &FrameMap, free_pages: u64) -> bool {
        let mut sum = 0;
        for (order, head) in (0..).zip(&self.heads) {
            let (mut before, mut at) = (None, *head);
            while let Some(index) = at {
                let (Some(frame), Some(mfn)) = (map.at(index), map.mfn(index)) else { return false };
                let inside = |n| map.frame(Mfn(mfn.0 + n)).is_some_and(|f| f.state() == State::FREE);
                let sound = frame.state() == State::free_block(order) && mfn.is_aligned(order) && frame.prev() == before;
                sum += 1 << order;
                // A list that is a ring adds up to more than there is.
                if !sound || sum > free_pages || !(1..1 << order).all(inside) {
                    return false;
                }
                (before, at) = (at, frame.next());
            }
        }
        sum == free_pages && self.free == free_pages && self.claimed <= self.free
    }

    fn link(&mut self, map: &FrameMap, mfn: Mfn, order: u32) {
        let (Some(index), Some(head)) = (map.index(mfn), self.heads.get_mut(order as usize)) else { return };
        if let Some(frame) = map.at(index) {
            frame.reset(State::free_block(order));
            frame.set_next(*head);
        }
        if let Some(second) = head.and_then(|h| map.at(h)) {
            second.set_prev(Some(index));
        }
        *head = Some(index);
    }

    /// Takes the block out of its list, if it is one; its first page becomes an ordinary free page.
    fn unlink(&mut self, map: &FrameMap, mfn: Mfn, order: u32) -> bool {
        let Some(frame) = map.frame(mfn).filter(|f| f.state() == State::free_block(order)) else { return false };
        let (prev, next) = (frame.prev(), frame.next());
        if let Some(next) = next.and_then(|n| map.at(n)) {
            next.set_prev(prev);
        }
        match prev.and_then(|p| map.at(p)) {
            Some(prev) => prev.set_next(next),
            None => {
                if let Some(head) = self.heads.get_mut(order as usize) {
                    *head = next;
                }
            }
        }
        frame.reset(State::FREE);
        true
    }
}

fn is_block(map: &FrameMap, mfn: Mfn, order: u32) -> bool {
    map.frame(mfn).is_some_and(|f| f.state() == State::free_block(order))
}
