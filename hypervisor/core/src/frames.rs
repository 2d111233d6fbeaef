//! The frame table: who owns each page of RAM, what it is, and who still refers to it.
//!
//! A page has one owner, one kind and a reference count. Allocation is one reference; every other user (a foreign stage-2 entry, a grant
//! pin, a page the hypervisor reads or writes for a guest) holds one more. A page is freed in exactly one place, [`FrameTable::put`] of the
//! last reference: it is scrubbed, cleaned to the point of coherency and only then free. So **a free page is always zero**, and whoever
//! takes a stage-2 entry away flushes the TLB before it drops the reference.
//!
//! Only *domain RAM* counts against a domain's `max_pages`; its allocation reference is dropped by [`FrameTable::release`], which can
//! happen once only. All other kinds are given back with [`FrameTable::put`].

mod account;
mod audit;
mod buddy;
mod frame;
#[cfg(all(test, loom))]
pub(crate) mod memory_order;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use audit::AuditError;
pub use frame::{Frame, FrameKind};

use crate::addr::{Gfn, Mfn, PAGE_SIZE, Vmid};
use crate::lock::Lock;
use crate::machine::Machine;
use alloc::boxed::Box;
use alloc::vec::Vec;
use buddy::Buddy;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use frame::{FrameMap, State};

/// The largest allocation, as log2 of pages: 1 GiB.
pub const MAX_ORDER: u32 = 18;

/// Why pages could not be allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocError {
    /// The owner would exceed its `max_pages`.
    TooMany,
    /// No free block of that size is left (or it is claimed by other domains).
    NoMemory,
}

/// Why a claim (`XENMEM_claim_pages`) was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// There is a claim already, or it asks for no more than the domain has, or for more than it may have.
    Invalid,
    /// Not enough unclaimed free memory.
    NoMemory,
}

/// What the frame table knows of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameInfo {
    /// The domain it belongs to; `Vmid(0)` for free and hypervisor pages.
    pub owner: Vmid,
    /// What it is used for.
    pub kind: FrameKind,
    /// References held, the allocation included.
    pub references: u32,
    /// Domain RAM that its owner has not given up.
    pub allocated: bool,
    /// On its owner's list of orphans.
    pub orphan: bool,
}

/// Ownership, references and allocation of all RAM of the machine.
pub struct FrameTable {
    machine: &'static dyn Machine,
    map: FrameMap,
    buddy: Lock<Buddy>,
    /// A bit for each frame: free, and not known to be zero. It is scrubbed when it is allocated.
    unscrubbed: Vec<AtomicU64>,
    hypervisor: Account,
    /// Account of VMID n + 1 at n.
    domains: Box<[Account]>,
}

impl FrameTable {
    /// How many [`Frame`]s a machine with these RAM banks needs.
    pub fn frames_needed(banks: &[Range<Mfn>]) -> usize {
        FrameMap::pages(banks) as usize
    }

    /// A table over the RAM banks, all pages being the hypervisor's own until [given](Self::give).
    ///
    /// `frames` are zeroed and at least [`Self::frames_needed`] long; pages beyond its end are not known and never used.
    pub fn new(machine: &'static dyn Machine, banks: &[Range<Mfn>], frames: &'static [Frame]) -> Self {
        Self {
            machine,
            map: FrameMap::new(banks, frames),
            buddy: Lock::new(Buddy::new()),
            unscrubbed: (0..frames.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            hypervisor: Account::default(),
            domains: (1..=u8::MAX).map(|_| Account::default()).collect(),
        }
    }

    /// The machine whose RAM this is.
    pub fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    /// The books of one owner.
    pub fn account(&self, owner: Vmid) -> &Account {
        usize::from(owner.0).checked_sub(1).and_then(|n| self.domains.get(n)).unwrap_or(&self.hypervisor)
    }

    /// Hands the hypervisor's own pages of `range` to the allocator; returns how many it took.
    ///
    /// Pages that are not RAM or already given are skipped. Without `scrub` they are scrubbed when they are first allocated.
    pub fn give(&self, range: Range<Mfn>, scrub: bool) -> u64 {
        let mut given = 0;
        let mut run = range.start.0..range.start.0;
        for mfn in range.start.0..range.end.0 {
            if self.map.frame(Mfn(mfn)).is_some_and(|frame| frame.replace(State::HYPERVISOR, State::FREE)) {
                run.end = mfn + 1;
                given += 1;
            } else {
                self.give_run(run, scrub);
                run = mfn + 1..mfn + 1;
            }
        }
        self.give_run(run, scrub);
        given
    }

    fn give_run(&self, mut run: Range<u64>, scrub: bool) {
        while !run.is_empty() {
            let order = run.start.trailing_zeros().min((run.end - run.start).ilog2()).min(MAX_ORDER);
            if scrub {
                self.scrub(Mfn(run.start), 1 << order);
            } else {
                (run.start..run.start + (1 << order)).for_each(|mfn| self.set_unscrubbed(Mfn(mfn)));
            }
            self.buddy.lock().insert(&self.map, Mfn(run.start), order);
            run.start += 1 << order;
        }
    }

    /// Allocates 2^`order` pages, naturally aligned and zero, each with one reference of its own.
    ///
    /// Of [`FrameKind::Ram`] they count against the owner's `max_pages`. A caller that gives them to a guest to execute from invalidates the
    /// instruction caches first.
    pub fn allocate(&self, owner: Vmid, order: u32, kind: FrameKind) -> Result<Mfn, AllocError> {
        self.allocate_with(owner, order, kind, |buddy, map| buddy.take(map, order))
    }

    /// Like [`Self::allocate`], but at the lowest suitable machine address inside `window`. Slow: it looks at every free block.
    pub fn allocate_within(&self, owner: Vmid, order: u32, kind: FrameKind, window: Range<Mfn>) -> Result<Mfn, AllocError> {
        self.allocate_with(owner, order, kind, |buddy, map| {
            let mfn = buddy.lowest_within(map, order, &window)?;
            buddy.take_at(map, mfn, order).then_some(mfn)
        })
    }

    /// Allocates exactly the 2^`order` pages from `mfn` (aligned), if all are free.
    pub fn allocate_at(&self, owner: Vmid, mfn: Mfn, order: u32, kind: FrameKind) -> Result<(), AllocError> {
        self.allocate_with(owner, order, kind, |buddy, map| buddy.take_at(map, mfn, order).then_some(mfn)).map(|_| ())
    }

    fn allocate_with(
        &self,
        owner: Vmid,
        order: u32,
        kind: FrameKind,
        take: impl FnOnce(&mut Buddy, &FrameMap) -> Option<Mfn>,
    ) -> Result<Mfn, AllocError> {
        if order > MAX_ORDER || kind == FrameKind::Free {
            return Err(AllocError::NoMemory);
        }
        let pages = 1 << order;
        let account = self.account(owner);
        account.charge(kind, pages)?;
        let taken = {
            let mut buddy = self.buddy.lock();
            let claimed = if kind == FrameKind::Ram { account.claimed() } else { 0 };
            let taken = if buddy.may_take(pages, claimed) { take(&mut buddy, &self.map) } else { None };
            if taken.is_some() && claimed > 0 {
                account.set_claimed(buddy.use_claim(claimed, pages));
            }
            taken
        };
        let Some(first) = taken else {
            account.uncharge(kind, pages);
            return Err(AllocError::NoMemory);
        };
        let state = State::live(owner, kind);
        for mfn in (first.0..first.0 + pages).map(Mfn) {
            if self.take_unscrubbed(mfn) {
                self.scrub(mfn, 1);
            }
            if let Some(frame) = self.map.frame(mfn) {
                frame.reset(state);
            }
        }
        Ok(first)
    }

    fn unscrubbed_bit(&self, mfn: Mfn) -> Option<(&AtomicU64, u64)> {
        let index = self.map.index(mfn)?;
        Some((self.unscrubbed.get(index as usize / 64)?, 1 << (index % 64)))
    }

    fn set_unscrubbed(&self, mfn: Mfn) {
        if let Some((word, bit)) = self.unscrubbed_bit(mfn) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether a page, just allocated, has to be scrubbed; its bit is cleared.
    fn take_unscrubbed(&self, mfn: Mfn) -> bool {
        self.unscrubbed_bit(mfn)
            .is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::Relaxed) & bit != 0)
    }

    /// Takes a reference if the page is live, belongs to `owner` and is RAM of it or a page shared with it.
    pub fn get(&self, mfn: Mfn, owner: Vmid) -> bool {
        self.get_if(mfn, |s| s.owner() == owner && matches!(s.kind(), FrameKind::Ram | FrameKind::Xen))
    }

    /// Takes a reference if the page is live RAM of `owner`.
    pub fn get_ram(&self, mfn: Mfn, owner: Vmid) -> bool {
        self.get_if(mfn, |s| s.is_ram_of(owner))
    }

    /// One attempt per change by another CPU; only the hypervisor writes these words.
    #[inline]
    fn get_if(&self, mfn: Mfn, accept: impl Fn(State) -> bool) -> bool {
        self.map.frame(mfn).is_some_and(|frame| frame.update(|s| if accept(s) { s.one_more() } else { None }).is_some())
    }

    /// Drops a reference. The last one scrubs the page, cleans it to the point of coherency and frees it.
    ///
    /// The caller holds the reference, and no TLB translates to the page on its behalf any more. The allocation reference of domain RAM is
    /// dropped by [`Self::release`], not by this.
    #[inline]
    pub fn put(&self, mfn: Mfn) {
        let before = self.map.frame(mfn).map_or(State::HYPERVISOR, Frame::drop_reference);
        if before.references() <= 1 {
            self.put_last(mfn, before);
        }
    }

    #[inline(never)]
    fn put_last(&self, mfn: Mfn, before: State) {
        assert!(before.references() == 1, "put without a reference: frame {mfn:?}");
        assert!(!before.is_allocated(), "last put of allocated RAM: frame {mfn:?}");
        self.free(mfn, before);
    }

    fn free(&self, mfn: Mfn, was: State) {
        self.scrub(mfn, 1);
        if let Some(frame) = self.map.frame(mfn) {
            frame.reset(State::FREE);
            self.buddy.lock().insert(&self.map, mfn, 0);
        }
        self.account(was.owner()).uncharge(was.kind(), 1);
    }

    fn scrub(&self, mfn: Mfn, pages: u64) {
        let len = (pages * PAGE_SIZE) as usize;
        self.machine.zero(mfn.address(), len);
        self.machine.clean_invalidate(mfn.address(), len);
    }

    /// Gives up the allocation of a RAM page of `owner`: it is freed as soon as nobody else refers to it.
    ///
    /// False, and nothing done, if the page is not RAM of `owner` or was released before.
    pub fn release(&self, mfn: Mfn, owner: Vmid) -> bool {
        let Some(frame) = self.map.frame(mfn) else { return false };
        let Some(before) = frame.update(|s| s.owns_allocation(owner).then(|| s.released())) else { return false };
        if before.is_orphan() {
            self.account(owner).unlink_orphan(&self.map, mfn);
        }
        self.put(mfn);
        true
    }

    /// Notes that a RAM page of `owner` has left its stage 2 but still belongs to it (something else was mapped in its place, or a
    /// direct-mapped domain gave it back); [`Self::pop_orphan`] finds it at teardown.
    pub fn orphan(&self, mfn: Mfn, owner: Vmid) {
        self.account(owner).link_orphan(&self.map, mfn, owner);
    }

    /// Whether the page is RAM still allocated to `owner`; if it was an orphan it is one no longer. For mapping it again.
    pub fn adopt(&self, mfn: Mfn, owner: Vmid) -> bool {
        let Some(state) = self.map.frame(mfn).map(Frame::state) else { return false };
        if !state.owns_allocation(owner) {
            return false;
        }
        if state.is_orphan() {
            self.account(owner).unlink_orphan(&self.map, mfn);
        }
        true
    }

    /// Takes one page from the owner's list of orphans. It is still allocated: the caller [releases](Self::release) it.
    pub fn pop_orphan(&self, owner: Vmid) -> Option<Mfn> {
        self.account(owner).pop_orphan(&self.map)
    }

    /// Where in its owner's stage 2 a page shared by the hypervisor (`FrameKind::Xen`) is mapped; such a page is mapped once at most.
    pub fn xen_gfn(&self, mfn: Mfn) -> Option<Gfn> {
        self.xen_frame(mfn)?.gfn()
    }

    /// Notes where a page shared by the hypervisor is mapped. Called by the p2m, under its lock.
    pub(crate) fn set_xen_gfn(&self, mfn: Mfn, gfn: Option<Gfn>) {
        if let Some(frame) = self.xen_frame(mfn) {
            frame.set_gfn(gfn);
        }
    }

    fn xen_frame(&self, mfn: Mfn) -> Option<&Frame> {
        self.map.frame(mfn).filter(|f| f.state().kind() == FrameKind::Xen)
    }

    /// What is known of a page; `None` outside RAM.
    pub fn info(&self, mfn: Mfn) -> Option<FrameInfo> {
        self.map.frame(mfn).map(|f| f.state().info())
    }

    /// What a page is used for; `None` outside RAM.
    pub fn kind(&self, mfn: Mfn) -> Option<FrameKind> {
        self.map.frame(mfn).map(|f| f.state().kind())
    }

    /// Pages that can still be allocated, claimed ones included.
    pub fn free_pages(&self) -> u64 {
        self.buddy.lock().free()
    }

    /// Pages claimed by domains and not allocated yet.
    pub fn claimed_pages(&self) -> u64 {
        self.buddy.lock().claimed()
    }

    /// Pages of RAM in the machine.
    pub fn total_pages(&self) -> u64 {
        self.map.len()
    }

    /// The highest frame of RAM.
    pub fn max_mfn(&self) -> Mfn {
        self.map.last()
    }

    /// Sets how many pages, of those it may still get, are put aside for `owner`; 0 cancels. As `XENMEM_claim_pages`.
    ///
    /// `pages` counts the pages it has already.
    pub fn claim(&self, owner: Vmid, pages: u64) -> Result<(), ClaimError> {
        let account = self.account(owner);
        let mut buddy = self.buddy.lock();
        if pages == 0 {
            buddy.use_claim(account.claimed(), account.claimed());
            account.set_claimed(0);
            return Ok(());
        }
        let have = account.tot_pages();
        if account.claimed() != 0 || pages <= have || pages > account.max_pages() {
            return Err(ClaimError::Invalid);
        }
        if !buddy.claim(pages - have) {
            return Err(ClaimError::NoMemory);
        }
        account.set_claimed(pages - have);
        Ok(())
    }

    /// The number of a page among all pages of RAM, in the order of [`Self::iter`].
    pub(crate) fn index(&self, mfn: Mfn) -> Option<usize> {
        self.map.index(mfn).map(|index| index as usize)
    }

    /// Every page of RAM and what is known of it, for the audit.
    pub fn iter(&self) -> impl Iterator<Item = (Mfn, FrameInfo)> + '_ {
        self.map.iter().map(|(mfn, frame)| (mfn, frame.state().info()))
    }
}
