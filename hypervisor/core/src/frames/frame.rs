//! One entry of the frame table, and the table's index by machine frame number.

use super::FrameInfo;
use crate::addr::{Gfn, Mfn, Vmid};
use crate::atomic::{AtomicU32, AtomicU64};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// What a page is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// The hypervisor's own: its image, heap, and whatever was never given to the allocator.
    Hypervisor = 0,
    /// In the allocator.
    Free = 1,
    /// RAM of a domain, counted in its `tot_pages`.
    Ram = 2,
    /// A page of the hypervisor that is shared with a domain: shared_info, a grant table frame. Xen's "xenheap page".
    Xen = 3,
    /// A stage-2 table of a domain.
    Table = 4,
}

/// An entry of the frame table: all zeroes is a page of the hypervisor's own.
#[derive(Default)]
#[repr(C)]
pub struct Frame {
    state: AtomicU64,
    /// Links of the free list or of the owner's list of orphans: 1 + index, 0 is the end. Together, for a page of kind `Xen`, 1 + the
    /// frame number at which its owner has it mapped, or 0.
    next: AtomicU32,
    prev: AtomicU32,
}

impl Frame {
    pub(super) fn state(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// Sets state and links of a page that nobody else can be looking at.
    pub(super) fn reset(&self, state: State) {
        self.next.store(0, Ordering::Relaxed);
        self.prev.store(0, Ordering::Relaxed);
        self.state.store(state.0, Ordering::Release);
    }

    /// Changes the state from `old` to `new`; false if it was not `old`.
    pub(super) fn replace(&self, old: State, new: State) -> bool {
        self.state.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Changes the state atomically by `f`, unless that is `None`; the state before.
    pub(super) fn update(&self, f: impl Fn(State) -> Option<State>) -> Option<State> {
        let change = |s| f(State(s)).map(|s| s.0);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).ok().map(State)
    }

    /// Drops a reference; the state before. Without one the state is spoilt, which the caller reports.
    #[inline]
    pub(super) fn drop_reference(&self) -> State {
        State(self.state.fetch_sub(1, Ordering::AcqRel))
    }

    pub(super) fn next(&self) -> Option<u32> {
        self.next.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(super) fn prev(&self) -> Option<u32> {
        self.prev.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(super) fn set_next(&self, index: Option<u32>) {
        self.next.store(index.map_or(0, |i| i + 1), Ordering::Relaxed);
    }

    pub(super) fn set_prev(&self, index: Option<u32>) {
        self.prev.store(index.map_or(0, |i| i + 1), Ordering::Relaxed);
    }

    /// The recorded guest frame of a page of kind `Xen`.
    pub(super) fn gfn(&self) -> Option<Gfn> {
        let high = u64::from(self.prev.load(Ordering::Acquire)) << 32;
        (high | u64::from(self.next.load(Ordering::Acquire))).checked_sub(1).map(Gfn)
    }

    pub(super) fn set_gfn(&self, gfn: Option<Gfn>) {
        let value = gfn.map_or(0, |g| g.0 + 1);
        self.prev.store((value >> 32) as u32, Ordering::Release);
        self.next.store(value as u32, Ordering::Release);
    }
}

/// The state word: references, owner, kind, order of a free block, and two flags. One word, so that one compare-and-swap decides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(u64);

const OWNER_SHIFT: u32 = 32;
const KIND_SHIFT: u32 = 40;
const ORDER_SHIFT: u32 = 48;
/// Domain RAM whose allocation reference has not been given up.
const ALLOCATED: u64 = 1 << 60;
/// On the owner's list of orphans.
const ORPHAN: u64 = 1 << 61;
/// No more references than this: far from wrapping, whatever the number of CPUs trying at once.
const MAX_REFERENCES: u32 = 1 << 30;

impl State {
    pub(super) const HYPERVISOR: Self = Self(0);
    /// Free, but not the head of a block in a free list.
    pub(super) const FREE: Self = Self((FrameKind::Free as u64) << KIND_SHIFT);

    /// The head of a free block of 2^`order` pages.
    pub(super) const fn free_block(order: u32) -> Self {
        Self(Self::FREE.0 | ((order as u64 + 1) << ORDER_SHIFT))
    }

    /// A page just allocated: one reference.
    pub(super) fn live(owner: Vmid, kind: FrameKind) -> Self {
        let flags = if kind == FrameKind::Ram { ALLOCATED } else { 0 };
        Self(1 | (u64::from(owner.0) << OWNER_SHIFT) | ((kind as u64) << KIND_SHIFT) | flags)
    }

    pub(super) fn references(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn owner(self) -> Vmid {
        Vmid((self.0 >> OWNER_SHIFT) as u8)
    }

    pub(super) fn kind(self) -> FrameKind {
        match (self.0 >> KIND_SHIFT) & 0xf {
            1 => FrameKind::Free,
            2 => FrameKind::Ram,
            3 => FrameKind::Xen,
            4 => FrameKind::Table,
            _ => FrameKind::Hypervisor,
        }
    }

    /// RAM of `owner`: both fields in one comparison, since each packet of tx copy asks it twice.
    pub(super) fn is_ram_of(self, owner: Vmid) -> bool {
        const FIELDS: u64 = 0xfff;
        (self.0 >> OWNER_SHIFT) & FIELDS == u64::from(owner.0) | (FrameKind::Ram as u64) << (KIND_SHIFT - OWNER_SHIFT)
    }

    pub(super) fn info(self) -> FrameInfo {
        FrameInfo {
            owner: self.owner(),
            kind: self.kind(),
            references: self.references(),
            allocated: self.is_allocated(),
            orphan: self.is_orphan(),
        }
    }

    pub(super) fn is_allocated(self) -> bool {
        self.0 & ALLOCATED != 0
    }

    pub(super) fn is_orphan(self) -> bool {
        self.0 & ORPHAN != 0
    }

    /// RAM of `owner` that it has not given up.
    pub(super) fn owns_allocation(self, owner: Vmid) -> bool {
        self.is_allocated() && self.owner() == owner
    }

    /// With one more reference; `None` for a page without any (it is being freed) or with too many.
    pub(super) fn one_more(self) -> Option<Self> {
        (1..MAX_REFERENCES).contains(&self.references()).then(|| Self(self.0 + 1))
    }

    /// The allocation given up (its reference is still counted).
    pub(super) fn released(self) -> Self {
        Self(self.0 & !ALLOCATED)
    }

    pub(super) fn with_orphan(self, orphan: bool) -> Self {
        Self(if orphan { self.0 | ORPHAN } else { self.0 & !ORPHAN })
    }
}

/// A run of RAM, its frames, and the index of the first of them in the table.
struct Bank {
    start: u64,
    frames: &'static [Frame],
    first: u32,
}

/// The table: frames by machine frame number, without entries for the holes between banks.
pub(super) struct FrameMap {
    banks: Vec<Bank>,
    frames: &'static [Frame],
}

impl FrameMap {
    /// Sorted, without overlaps, adjoining ranges joined (so that buddies lie in one bank).
    fn normalize(banks: &[Range<Mfn>]) -> Vec<Range<u64>> {
        let mut sorted: Vec<_> = banks.iter().map(|b| b.start.0..b.end.0).filter(|b| !b.is_empty()).collect();
        sorted.sort_unstable_by_key(|b| b.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for bank in sorted {
            match joined.last_mut() {
                Some(last) if bank.start <= last.end => last.end = last.end.max(bank.end),
                _ => joined.push(bank),
            }
        }
        joined
    }

    pub(super) fn pages(banks: &[Range<Mfn>]) -> u64 {
        Self::normalize(banks).iter().map(|b| b.end - b.start).sum()
    }

    pub(super) fn new(banks: &[Range<Mfn>], frames: &'static [Frame]) -> Self {
        let mut first = 0;
        let mut indexed = Vec::new();
        for bank in Self::normalize(banks) {
            let rest = usize::try_from(first).ok().and_then(|first| frames.get(first..)).unwrap_or_default();
            let pages = rest.len().min(usize::try_from(bank.end - bank.start).unwrap_or(usize::MAX));
            indexed.push(Bank { start: bank.start, frames: rest.get(..pages).unwrap_or_default(), first });
            first = first.saturating_add(u32::try_from(pages).unwrap_or(u32::MAX));
        }
        Self { banks: indexed, frames }
    }

    pub(super) fn index(&self, mfn: Mfn) -> Option<u32> {
        let bank = self.banks.iter().find(|bank| mfn.0.wrapping_sub(bank.start) < bank.frames.len() as u64)?;
        Some(bank.first + (mfn.0 - bank.start) as u32)
    }

    #[inline]
    pub(super) fn frame(&self, mfn: Mfn) -> Option<&'static Frame> {
        self.banks.iter().find_map(|bank| bank.frames.get(mfn.0.wrapping_sub(bank.start) as usize))
    }

    pub(super) fn at(&self, index: u32) -> Option<&'static Frame> {
        self.frames.get(index as usize)
    }

    /// The inverse of [`Self::index`].
    pub(super) fn mfn(&self, index: u32) -> Option<Mfn> {
        let bank = self.banks.iter().find(|b| (index.wrapping_sub(b.first) as usize) < b.frames.len())?;
        Some(Mfn(bank.start + u64::from(index - bank.first)))
    }

    pub(super) fn len(&self) -> u64 {
        self.banks.iter().map(|b| b.frames.len() as u64).sum()
    }

    pub(super) fn last(&self) -> Mfn {
        Mfn(self.banks.iter().map(|b| (b.start + b.frames.len() as u64).saturating_sub(1)).max().unwrap_or(0))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Mfn, &'static Frame)> + '_ {
        let mfns = self.banks.iter().flat_map(|b| (b.start..b.start + b.frames.len() as u64).map(Mfn));
        mfns.zip(self.frames)
    }
}
