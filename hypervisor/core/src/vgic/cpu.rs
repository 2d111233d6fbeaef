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
    dirty: AtomicBool,
    /// An SPI became ready for this vCPU, or one in its list registers changed.
    spi_work: AtomicBool,
    /// Interrupts are ready that did not fit into the list registers.
    overflow: AtomicBool,
    /// Which list registers are in use.
    used: AtomicU32,
}

/// What the lock of a vCPU protects.
#[derive(Default)]
pub(super) struct CpuState {
    /// SGIs and PPIs, INTID 0 to 31.
    pub private: Bank,
    /// What each list register holds.
    slots: [Option<u32>; MAX_LIST_REGISTERS],
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

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    pub fn has_deliverable(&self) -> bool {
        self.is_dirty() || self.overflow.load(Ordering::SeqCst)
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
        let registers = lrs.count().min(MAX_LIST_REGISTERS);
        let slots = state.slots.get_mut(..registers).unwrap_or_default();
        let spi_work = self.spi_work.load(Ordering::SeqCst) && self.spi_work.swap(false, Ordering::SeqCst);
        let spis = spi_work || slots.iter().flatten().any(|intid| *intid >= BANK);
        let mut distributor = spis.then(|| distributor.lock());
        let mut filling = Filling { machine, me, private: &mut state.private, spis: distributor.as_deref_mut(), notice: VcpuSet::EMPTY };
        let mut held = [None; MAX_LIST_REGISTERS];
        let held = held.get_mut(..registers).unwrap_or_default();
        filling.settle(slots, held, lrs);
        let left = filling.load(slots, held, lrs);
        let notice = filling.notice;
        let mut used = 0;
        for (n, (slot, held)) in slots.iter_mut().zip(held).enumerate() {
            if held.is_none() {
                *slot = None;
            } else {
                used |= 1 << n;
            }
        }
        self.used.store(used, Ordering::Relaxed);
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
        for n in 0..lrs.count().min(MAX_LIST_REGISTERS) {
            let lr = ListRegister(lrs.read(n));
            lrs.write(n, 0);
            if let Some(intid) = state.slots.get_mut(n).and_then(Option::take)
                && let Some((bank, bit)) = distributor.bank_mut(intid)
            {
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

/// One run of [`VcpuGic::fill`].
struct Filling<'a> {
    machine: &'a dyn Machine,
    me: u32,
    private: &'a mut Bank,
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
    fn settle(&mut self, slots: &[Option<u32>], held: &mut [Option<ListRegister>], lrs: &mut dyn ListRegisters) {
        let empty = lrs.empty();
        for (n, (slot, held)) in slots.iter().zip(held).enumerate() {
            let Some(intid) = *slot else { continue };
            let old = if empty & 1 << n != 0 { ListRegister(0) } else { ListRegister(lrs.read(n)) };
            let new = self.settle_one(intid, old);
            if new != Some(old) && empty & 1 << n == 0 {
                lrs.write(n, new.map_or(0, |lr| lr.0));
            }
            *held = new;
        }
    }

    fn settle_one(&mut self, intid: u32, lr: ListRegister) -> Option<ListRegister> {
        if intid < BANK {
            return self.private.settle(self.machine, intid, intid, lr, true);
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
    fn load(&mut self, slots: &mut [Option<u32>], held: &mut [Option<ListRegister>], lrs: &mut dyn ListRegisters) -> Option<Candidate> {
        // Each turn fills a free register or replaces what a register holds by something more urgent.
        for _ in 0..2 * MAX_LIST_REGISTERS {
            let best = self.best()?;
            let Some(n) = place(best, held) else { return Some(best) };
            if let (Some(intid), Some(lr)) = (slots.get(n).copied().flatten(), held.get(n).copied().flatten()) {
                self.unload(intid, lr);
            }
            let lr = self.take(best.intid)?;
            lrs.write(n, lr.0);
            if let (Some(slot), Some(held)) = (slots.get_mut(n), held.get_mut(n)) {
                (*slot, *held) = (Some(best.intid), Some(lr));
            }
        }
        self.best()
    }

    /// The most urgent interrupt that is ready: the lowest priority value, then the lowest number.
    fn best(&self) -> Option<Candidate> {
        let private = ones(self.private.ready()).map(|n| Candidate { priority: self.private.priority(n), intid: n }).min();
        let spi = self.spis.as_deref().and_then(|spis| spis.best(self.me)).map(|(priority, intid)| Candidate { priority, intid });
        private.into_iter().chain(spi).min()
    }

    fn take(&mut self, intid: u32) -> Option<ListRegister> {
        if intid < BANK {
            return Some(self.private.load(intid, intid));
        }
        self.spis.as_deref_mut()?.load(intid, self.me)
    }

    fn unload(&mut self, intid: u32, lr: ListRegister) {
        if intid < BANK {
            self.private.unload(intid, lr);
        } else if let Some((bank, n)) = self.spis.as_deref_mut().and_then(|spis| spis.bank_mut(intid)) {
            bank.unload(n, lr);
        }
    }
}

/// A free register, or the one that holds the least urgent interrupt that may be taken out for `candidate`.
fn place(candidate: Candidate, held: &[Option<ListRegister>]) -> Option<usize> {
    held.iter().position(Option::is_none).or_else(|| {
        let taken = held.iter().enumerate().filter_map(|(n, lr)| lr.map(|lr| (n, lr)));
        let less_urgent = taken.filter(|(_, lr)| lr.is_pending() && !lr.is_active() && lr.priority() > candidate.priority);
        less_urgent.max_by_key(|(_, lr)| lr.priority()).map(|(n, _)| n)
    })
}
