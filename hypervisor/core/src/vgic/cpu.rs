//! The part of a vCPU: its private interrupts, and which interrupt sits in which of its list registers.
//!
//! List registers are looked at only in [`fill`], which runs where the vCPU is loaded and only when something changed. In between the
//! bookkeeping is a guess: what it calls loaded may be long completed.

use super::VcpuSet;
use super::bank::{Bank, ones};
use super::distributor::Distributor;
use super::list_register::{ListRegister, ListRegisters, MAX_LIST_REGISTERS};
use crate::lock::Lock;
use crate::machine::Machine;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Interrupts of a bank.
pub(super) const BANK: u32 = 32;

/// One vCPU's part of the interrupt controller.
#[derive(Default)]
pub(super) struct VcpuGic {
    pub state: Lock<CpuState>,
    /// Something changed that [`fill`] has to look at.
    pub dirty: AtomicBool,
    /// An SPI became ready for this vCPU, or one in its list registers changed.
    spi_work: AtomicBool,
    /// Interrupts are ready that did not fit into the list registers.
    overflow: AtomicBool,
    /// [`CpuState::used`], for those without the lock.
    used: AtomicU32,
}

/// What the lock of a vCPU protects.
#[derive(Default)]
pub(super) struct CpuState {
    /// SGIs and PPIs, INTID 0 to 31.
    pub private: Bank,
    /// Which interrupt is in each list register that is in use.
    slots: [u32; MAX_LIST_REGISTERS],
    /// Which list registers are in use.
    used: u32,
}

/// What came of filling list registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Interrupts did not fit: set `ICH_HCR_EL2.UIE`, and fill again at the maintenance interrupt. Otherwise clear it.
    pub underflow: bool,
    /// Other vCPUs for which an SPI became free here; to be noticed.
    pub notice: VcpuSet,
}

impl VcpuGic {
    /// Makes the next look at the vCPU see what changed. After the change, before the vCPU is noticed.
    pub fn mark(&self, spi: bool) {
        if spi {
            self.spi_work.store(true, Ordering::SeqCst);
        }
        self.dirty.store(true, Ordering::SeqCst);
    }

    pub fn has_deliverable(&self) -> bool {
        self.dirty.load(Ordering::SeqCst) || self.overflow.load(Ordering::SeqCst)
    }

    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Raises private interrupts; whether one became ready.
    pub fn raise(&self, bits: u32) -> bool {
        let mut state = self.state.lock();
        let new = bits & !state.private.pending;
        state.private.pending |= new;
        if new & state.private.enabled == 0 {
            return false;
        }
        self.mark(false);
        true
    }

    /// Sees to it that the list registers hold the most urgent interrupts.
    pub fn fill(&self, machine: &dyn Machine, distributor: &Lock<Distributor>, me: u32, lrs: &mut dyn ListRegisters) -> Filled {
        // First, so that what changes from here on is seen next time.
        self.dirty.store(false, Ordering::SeqCst);
        let mut state = self.state.lock();
        let state = &mut *state;
        let spi_work = self.spi_work.load(Ordering::SeqCst) && self.spi_work.swap(false, Ordering::SeqCst);
        let spis = spi_work || state.holds_spi();
        let mut distributor = spis.then(|| distributor.lock());
        let mut filling = Filling { machine, me, state, spis: distributor.as_deref_mut(), notice: VcpuSet::EMPTY };
        filling.settle(lrs);
        let left = filling.load(lrs);
        let notice = filling.notice;
        self.used.store(state.used, Ordering::Relaxed);
        self.overflow.store(left.is_some(), Ordering::SeqCst);
        if left.is_some() && spis {
            self.spi_work.store(true, Ordering::SeqCst);
        }
        Filled { underflow: left.is_some(), notice }
    }

    /// Empties the list registers and forgets private interrupts that are pending or active. SPIs that were pending stay so, active ones are
    /// completed. The vCPUs that SPIs are for now are returned.
    pub fn reset(&self, machine: &dyn Machine, distributor: &Lock<Distributor>, lrs: &mut dyn ListRegisters) -> VcpuSet {
        let mut state = self.state.lock();
        let mut distributor = distributor.lock();
        let mut notice = VcpuSet::EMPTY;
        let used = core::mem::take(&mut state.used);
        for n in 0..lrs.count().min(MAX_LIST_REGISTERS) {
            let lr = ListRegister(lrs.read(n));
            lrs.write(n, 0);
            if used & 1 << n != 0
                && let Some((bank, bit)) = distributor.bank_mut(state.slot(n))
            {
                let intid = state.slot(n);
                if lr.is_active() && lr.is_hardware() {
                    machine.spi_deactivate(intid);
                }
                let cancelled = bank.cancelled & 1 << bit != 0;
                if cancelled && lr.is_pending() && !lr.is_active() && lr.is_hardware() {
                    machine.spi_deactivate(intid);
                }
                bank.cancelled &= !(1 << bit);
                bank.loaded &= !(1 << bit);
                if lr.is_pending() && !cancelled {
                    bank.pending |= 1 << bit;
                    bank.physical |= u32::from(lr.is_hardware() && !lr.is_active()) << bit;
                }
                notice |= distributor.attention(intid);
            }
        }
        state.private.pending = 0;
        state.private.loaded = 0;
        state.private.cancelled = 0;
        self.used.store(0, Ordering::Relaxed);
        self.overflow.store(false, Ordering::SeqCst);
        self.mark(true);
        notice
    }
}

impl CpuState {
    fn slot(&self, n: usize) -> u32 {
        self.slots.get(n).copied().unwrap_or(0)
    }

    fn holds_spi(&self) -> bool {
        ones(self.used).any(|n| self.slot(n as usize) >= BANK)
    }
}

/// One run of [`VcpuGic::fill`].
struct Filling<'a> {
    machine: &'a dyn Machine,
    me: u32,
    state: &'a mut CpuState,
    spis: Option<&'a mut Distributor>,
    notice: VcpuSet,
}

/// An interrupt that wants a list register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u8,
    intid: u32,
}

impl Filling<'_> {
    /// Looks at what the list registers in use hold now.
    fn settle(&mut self, lrs: &mut dyn ListRegisters) {
        if self.state.used == 0 {
            return;
        }
        let empty = lrs.empty();
        for n in ones(self.state.used) {
            let is_empty = empty & 1 << n != 0;
            let old = ListRegister(if is_empty { 0 } else { lrs.read(n as usize) });
            let new = self.settle_one(self.state.slot(n as usize), old);
            if new != Some(old) && !is_empty {
                lrs.write(n as usize, new.map_or(0, |lr| lr.0));
            }
            if new.is_none() {
                self.state.used &= !(1 << n);
            }
        }
    }

    fn settle_one(&mut self, intid: u32, lr: ListRegister) -> Option<ListRegister> {
        if intid < BANK {
            return self.state.private.settle(self.machine, intid, intid, lr, true);
        }
        let spis = self.spis.as_deref_mut()?;
        let here = spis.target(intid) == Some(self.me);
        let (bank, n) = spis.bank_mut(intid)?;
        let new = bank.settle(self.machine, n, intid, lr, here);
        if new.is_none() && !here {
            self.notice |= spis.attention(intid);
        }
        new
    }

    /// Puts the most urgent interrupts into list registers: the most urgent one that found no place.
    fn load(&mut self, lrs: &mut dyn ListRegisters) -> Option<Candidate> {
        // Each turn fills a free register or replaces what a register holds by something more urgent.
        for _ in 0..2 * MAX_LIST_REGISTERS {
            if self.spis.is_none() && self.state.private.ready() == 0 {
                return None;
            }
            let best = self.best()?;
            let Some(n) = self.place(best, lrs) else { return Some(best) };
            if self.state.used & 1 << n != 0 {
                self.unload(self.state.slot(n), ListRegister(lrs.read(n)));
            }
            let lr = self.take(best.intid)?;
            lrs.write(n, lr.0);
            if let Some(slot) = self.state.slots.get_mut(n) {
                *slot = best.intid;
                self.state.used |= 1 << n;
            }
        }
        self.best()
    }

    /// A free list register, or the one that holds the least urgent interrupt that may be taken out for `candidate`.
    fn place(&self, candidate: Candidate, lrs: &dyn ListRegisters) -> Option<usize> {
        let used = self.state.used;
        let free = used.trailing_ones() as usize;
        if free < lrs.count().min(MAX_LIST_REGISTERS) {
            return Some(free);
        }
        let taken = ones(used).map(|n| (n as usize, ListRegister(lrs.read(n as usize))));
        let less_urgent = taken.filter(|(_, lr)| lr.is_pending() && !lr.is_active() && lr.priority() > candidate.priority);
        less_urgent.max_by_key(|(_, lr)| lr.priority()).map(|(n, _)| n)
    }

    /// The most urgent interrupt that is ready: the lowest priority value, then the lowest number.
    fn best(&mut self) -> Option<Candidate> {
        let private = ones(self.state.private.ready()).map(|n| Candidate { priority: self.state.private.priority(n), intid: n }).min();
        let spi = self.spis.as_deref_mut().and_then(|spis| spis.best(self.me)).map(|(priority, intid)| Candidate { priority, intid });
        private.into_iter().chain(spi).min()
    }

    fn take(&mut self, intid: u32) -> Option<ListRegister> {
        if intid < BANK {
            return Some(self.state.private.load(intid, intid));
        }
        self.spis.as_deref_mut()?.load(intid, self.me)
    }

    fn unload(&mut self, intid: u32, lr: ListRegister) {
        if intid < BANK {
            self.state.private.unload(intid, lr);
        } else if let Some((bank, n)) = self.spis.as_deref_mut().and_then(|spis| spis.bank_mut(intid)) {
            bank.unload(n, lr);
        }
    }
}
