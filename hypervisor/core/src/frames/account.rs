//! The books of one owner: how many pages it has, how many it may have, and those of its pages that have left its stage 2.

use super::frame::FrameMap;
use super::{AllocError, Frame, FrameKind};
use crate::addr::{Mfn, Vmid};
use crate::lock::Lock;
use core::sync::atomic::{AtomicU64, Ordering};

/// Page counts of one owner. Changed by the frame table alone, except for `max_pages`.
#[derive(Default)]
pub struct Account {
    max_pages: AtomicU64,
    claimed: AtomicU64,
    /// Ram, Xen, Table: see [`column`].
    pages: [AtomicU64; 3],
    /// First of the orphans, by index in the frame table.
    orphans: Lock<Option<u32>>,
}

/// Which counter a kind of page has; only those of domains are counted.
pub(super) fn column(kind: FrameKind) -> Option<usize> {
    match kind {
        FrameKind::Ram => Some(0),
        FrameKind::Xen => Some(1),
        FrameKind::Table => Some(2),
        FrameKind::Free | FrameKind::Hypervisor => None,
    }
}

impl Account {
    /// Pages of RAM the domain has: Xen's `tot_pages`.
    pub fn tot_pages(&self) -> u64 {
        self.count(FrameKind::Ram)
    }

    /// Pages of RAM the domain may have: Xen's `max_pages`.
    pub fn max_pages(&self) -> u64 {
        self.max_pages.load(Ordering::Relaxed)
    }

    /// Sets how many pages of RAM the domain may have. Pages beyond it that it has already stay.
    pub fn set_max_pages(&self, pages: u64) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }

    /// Pages put aside for the domain: Xen's `outstanding_pages`.
    pub fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Pages of the given kind.
    pub fn count(&self, kind: FrameKind) -> u64 {
        column(kind).and_then(|c| self.pages.get(c)).map_or(0, |n| n.load(Ordering::Acquire))
    }

    /// Whether no page has this owner any more, so that its VMID may be given to another domain.
    pub fn is_empty(&self) -> bool {
        self.columns() == [0; 3]
    }

    pub(super) fn columns(&self) -> [u64; 3] {
        self.pages.each_ref().map(|n| n.load(Ordering::Acquire))
    }

    /// Under the allocator's lock.
    pub(super) fn set_claimed(&self, pages: u64) {
        self.claimed.store(pages, Ordering::Relaxed);
    }

    pub(super) fn charge(&self, kind: FrameKind, pages: u64) -> Result<(), AllocError> {
        let limit = if kind == FrameKind::Ram { self.max_pages() } else { u64::MAX };
        let more = |have: u64| have.checked_add(pages).filter(|sum| *sum <= limit);
        let Some(counter) = column(kind).and_then(|c| self.pages.get(c)) else { return Ok(()) };
        counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map(|_| ()).map_err(|_| AllocError::TooMany)
    }

    pub(super) fn uncharge(&self, kind: FrameKind, pages: u64) {
        if let Some(counter) = column(kind).and_then(|c| self.pages.get(c)) {
            counter.fetch_sub(pages, Ordering::AcqRel);
        }
    }

    /// Puts a page on the list, if it is allocated RAM of `owner` (whose account this is) and not there yet.
    pub(super) fn link_orphan(&self, map: &FrameMap, mfn: Mfn, owner: Vmid) {
        let mut head = self.orphans.lock();
        let Some((index, frame)) = map.index(mfn).and_then(|i| Some((i, map.at(i)?))) else { return };
        // The flag is set in the same step that proves the allocation: whoever releases it from now on sees the flag and waits for the lock.
        let eligible = |s: super::State| (s.owns_allocation(owner) && !s.is_orphan()).then(|| s.with_orphan(true));
        if frame.update(eligible).is_none() {
            return;
        }
        frame.set_prev(None);
        frame.set_next(*head);
        if let Some(second) = head.and_then(|h| map.at(h)) {
            second.set_prev(Some(index));
        }
        *head = Some(index);
    }

    /// Takes a page off the list if it is on it.
    pub(super) fn unlink_orphan(&self, map: &FrameMap, mfn: Mfn) {
        let mut head = self.orphans.lock();
        if let Some(frame) = map.frame(mfn) {
            unlink(&mut head, map, frame);
        }
    }

    /// Whether the list holds exactly `count` pages, all orphans of `owner`.
    pub(super) fn orphans_are(&self, map: &FrameMap, owner: Vmid, count: u64) -> bool {
        let head = self.orphans.lock();
        let (mut seen, mut before, mut at) = (0, None, *head);
        while let Some(index) = at {
            let Some(frame) = map.at(index) else { return false };
            let state = frame.state();
            seen += 1;
            if seen > count || !state.is_orphan() || !state.owns_allocation(owner) || frame.prev() != before {
                return false;
            }
            (before, at) = (at, frame.next());
        }
        seen == count
    }

    /// Takes the first page off the list.
    pub(super) fn pop_orphan(&self, map: &FrameMap) -> Option<Mfn> {
        let mut head = self.orphans.lock();
        let index = (*head)?;
        unlink(&mut head, map, map.at(index)?);
        map.mfn(index)
    }
}

fn unlink(head: &mut Option<u32>, map: &FrameMap, frame: &Frame) {
    if !frame.state().is_orphan() {
        return;
    }
    let (prev, next) = (frame.prev(), frame.next());
    if let Some(next) = next.and_then(|n| map.at(n)) {
        next.set_prev(prev);
    }
    match prev.and_then(|p| map.at(p)) {
        Some(prev) => prev.set_next(next),
        None => *head = next,
    }
    frame.update(|s| Some(s.with_orphan(false)));
}
