//! Thirty-two interrupts: the unit in which the registers of the GIC address them, and what they share whoever they belong to.

use super::list_register::ListRegister;
use crate::machine::Machine;

/// State of 32 interrupts; bit n, or element n, is interrupt n of the bank.
#[derive(Clone, Debug, Default)]
pub(super) struct Bank {
    /// Enabled by the guest.
    pub enabled: u32,
    /// Raised and not yet in a list register.
    pub pending: u32,
    /// Held by a list register, or was when it was last looked at: the guest completes interrupts without telling.
    pub loaded: u32,
    /// The guest withdrew what the list register says is pending.
    pub cancelled: u32,
    /// Pending because the physical interrupt is active, which must be deactivated once and only once.
    pub physical: u32,
    /// `GICD_IPRIORITYR`.
    pub priority: [u8; 32],
    /// `GICD_ICFGR`, two bits an interrupt.
    pub config: [u32; 2],
}

impl Bank {
    /// What could be put into a list register.
    pub fn ready(&self) -> u32 {
        self.pending & self.enabled & !self.loaded
    }

    /// The priority of interrupt `n`.
    pub fn priority(&self, n: u32) -> u8 {
        self.priority.get(n as usize).copied().unwrap_or(u8::MAX)
    }

    /// Whether interrupt `n` is edge-triggered.
    pub fn is_edge(&self, n: u32) -> bool {
        self.config.get(n as usize / 16).is_some_and(|c| c & 2 << (n % 16 * 2) != 0)
    }

    /// Moves interrupt `n` from pending into a list register: its value.
    pub fn load(&mut self, n: u32, intid: u32) -> ListRegister {
        let bit = bit(n);
        let lr = ListRegister::pending(intid, self.priority(n), self.physical & bit != 0);
        self.pending &= !bit;
        self.physical &= !bit;
        self.cancelled &= !bit;
        self.loaded |= bit;
        lr
    }

    /// Takes interrupt `n`, pending and not active in `lr`, back out of it.
    pub fn unload(&mut self, n: u32, lr: ListRegister) {
        let bit = bit(n);
        self.pending |= bit;
        self.loaded &= !bit;
        if lr.is_hardware() {
            self.physical |= bit;
        }
    }

    /// Forgets that interrupts are pending, as writing `GICD_ICPENDR` does. Those in a list register follow when it is looked at.
    pub fn clear_pending(&mut self, machine: &dyn Machine, bits: u32, first: u32) {
        for n in ones(self.physical & bits) {
            machine.spi_deactivate(first + n);
        }
        self.physical &= !bits;
        self.pending &= !bits;
        self.cancelled |= bits & self.loaded;
    }

    /// Brings interrupt `n` and its list register together after the guest and other CPUs acted on them: the new value of the register,
    /// `None` if it is free now.
    ///
    /// `here`: the interrupt still belongs to the vCPU of the list register.
    pub fn settle(&mut self, machine: &dyn Machine, n: u32, intid: u32, lr: ListRegister, here: bool) -> Option<ListRegister> {
        let bit = bit(n);
        let mut lr = lr;
        if self.cancelled & bit != 0 {
            self.cancelled &= !bit;
            if lr.is_pending() && !lr.is_active() && lr.is_hardware() {
                machine.spi_deactivate(intid);
            }
            lr = lr.not_pending();
        }
        if lr.is_pending() && !(here && self.enabled & bit != 0) {
            if !lr.is_active() {
                self.unload(n, lr);
                return None;
            }
            self.pending |= bit;
            lr = lr.not_pending();
        }
        if lr.is_done() {
            self.loaded &= !bit;
            return None;
        }
        if self.pending & self.enabled & bit != 0 {
            lr = self.raise_again(machine, bit, intid, lr, here);
        }
        Some(lr)
    }

    /// An interrupt that the guest has not completed yet was raised again.
    fn raise_again(&mut self, machine: &dyn Machine, bit: u32, intid: u32, lr: ListRegister, here: bool) -> ListRegister {
        let physical = self.physical & bit != 0;
        if !lr.is_active() {
            // Not seen yet: one delivery serves both.
            self.pending &= !bit;
            self.physical &= !bit;
            return if physical { lr.linked() } else { lr };
        }
        if lr.is_hardware() && !physical {
            // A linked list register cannot be active and pending, nor tell when it is completed.
            machine.spi_deactivate(intid);
        }
        if here && !physical {
            self.pending &= !bit;
            lr.unlinked().and_pending()
        } else {
            // It goes into another list register, when this one is free.
            lr.unlinked().not_pending().notify_completion()
        }
    }
}

/// Bit `n` of a bank.
pub(super) fn bit(n: u32) -> u32 {
    1 << (n % 32)
}

/// The numbers of the set bits, ascending.
pub(super) fn ones(bits: u32) -> impl Iterator<Item = u32> {
    let mut left = bits;
    core::iter::from_fn(move || {
        let first = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(first)
    })
}
