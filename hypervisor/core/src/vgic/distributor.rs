//! Interrupts that no vCPU has for itself, SPIs and LPIs: state, and the vCPU each goes to.

use super::VcpuSet;
use super::bank::{Bank, bit, ones};
use super::cpu::BANK;
use super::list_register::ListRegister;
use super::lpi::{FIRST_LPI, Lpis};
use crate::machine::{Machine, Trigger};
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// What the lock of the distributor protects.
pub(super) struct Distributor {
    /// `GICD_CTLR.EnableGrp1A`. Kept for the guest to read; as in Xen nothing depends on it.
    pub enabled: bool,
    banks: Vec<SpiBank>,
    /// LPIs, where there are any.
    pub lpis: Option<Lpis>,
}

/// 32 SPIs, or LPIs.
#[derive(Clone, Default)]
pub(super) struct SpiBank {
    pub state: Bank,
    /// Connected to the physical interrupt of the same number.
    pub linked: u32,
    /// Its trigger is not the guest's to choose.
    fixed: u32,
    /// The vCPU each goes to.
    target: [u8; 32],
    /// The vCPU whose list register holds it, where `loaded`.
    holder: [u8; 32],
}

impl Distributor {
    /// `spis` interrupts from INTID 32, disabled, for vCPU 0.
    pub fn new(spis: u32) -> Result<Self, TryReserveError> {
        let mut banks = Vec::new();
        let count = spis.div_ceil(BANK) as usize;
        banks.try_reserve_exact(count)?;
        banks.resize(count, SpiBank::default());
        Ok(Self { enabled: false, banks, lpis: None })
    }

    /// Bank `n`, INTIDs 32n to 32n+31; 0 holds none: those are private.
    pub fn bank(&self, n: u32) -> Option<&SpiBank> {
        match n.checked_sub(FIRST_LPI / BANK) {
            None => self.banks.get((n as usize).checked_sub(1)?),
            Some(n) => self.lpis.as_ref()?.bank(n),
        }
    }

    fn spi_bank_mut(&mut self, n: u32) -> Option<&mut SpiBank> {
        match n.checked_sub(FIRST_LPI / BANK) {
            None => self.banks.get_mut((n as usize).checked_sub(1)?),
            Some(n) => self.lpis.as_mut()?.bank_mut(n),
        }
    }

    /// The bank of SPI `intid`, and its place there.
    pub fn bank_mut(&mut self, intid: u32) -> Option<(&mut Bank, u32)> {
        self.spi_bank_mut(intid / BANK).map(|b| (&mut b.state, intid % BANK))
    }

    /// The vCPU that SPI `intid` goes to.
    pub fn target(&self, intid: u32) -> Option<u32> {
        self.bank(intid / BANK)?.target.get((intid % BANK) as usize).map(|v| u32::from(*v))
    }

    /// Who has to look at SPI `intid`: the vCPU that holds it, else its target if it is ready.
    pub fn attention(&self, intid: u32) -> VcpuSet {
        let n = intid % BANK;
        let Some(bank) = self.bank(intid / BANK) else { return VcpuSet::EMPTY };
        let of = |who: &[u8; 32]| who.get(n as usize).map_or(VcpuSet::EMPTY, |v| VcpuSet::of(u32::from(*v)));
        if bank.state.loaded & bit(n) != 0 {
            of(&bank.holder)
        } else if bank.state.ready() & bit(n) != 0 {
            of(&bank.target)
        } else {
            VcpuSet::EMPTY
        }
    }

    fn attention_of_all(&self, bank: u32, bits: u32) -> VcpuSet {
        ones(bits).fold(VcpuSet::EMPTY, |set, n| set | self.attention(bank * BANK + n))
    }

    /// The most urgent SPI or LPI that is ready for `vcpu`: priority and number.
    pub fn best(&mut self, vcpu: u32) -> Option<(u8, u32)> {
        let spi = (1..).zip(&self.banks).filter_map(|(b, bank)| bank.best(vcpu).map(|(priority, n)| (priority, b * BANK + n))).min();
        match &mut self.lpis {
            None => spi,
            Some(lpis) => spi.into_iter().chain(lpis.best(vcpu)).min(),
        }
    }

    /// Moves SPI `intid` into a list register of `vcpu`.
    pub fn load(&mut self, intid: u32, vcpu: u32) -> Option<ListRegister> {
        let n = intid % BANK;
        let bank = self.spi_bank_mut(intid / BANK)?;
        *bank.holder.get_mut(n as usize)? = u8::try_from(vcpu).ok()?;
        Some(bank.state.load(n, intid))
    }

    /// Raises SPI `intid`; `physical`: it is active on the hardware. Who has to look, `None` if there is no such SPI (or no such link).
    pub fn raise(&mut self, intid: u32, physical: bool) -> Option<VcpuSet> {
        let n = intid % BANK;
        let bank = self.spi_bank_mut(intid / BANK)?;
        if physical {
            if bank.linked & bit(n) == 0 {
                return None;
            }
            bank.state.physical |= bit(n);
        }
        bank.state.pending |= bit(n);
        Some(if bank.state.enabled & bit(n) != 0 { self.attention(intid) } else { VcpuSet::EMPTY })
    }

    /// Connects SPI `intid` to the physical interrupt of the same number, or takes it off: whether there is such an SPI.
    pub fn link(&mut self, intid: u32, linked: bool) -> bool {
        let Some(bank) = self.spi_bank_mut(intid / BANK) else { return false };
        bank.linked = bank.linked & !bit(intid) | u32::from(linked) << (intid % BANK);
        bank.fixed &= !bit(intid);
        true
    }

    /// Connects SPI `intid`, with the trigger that the physical interrupt has, if it is idle and not connected: whether it was.
    pub fn give(&mut self, intid: u32) -> bool {
        let Some(bank) = self.spi_bank_mut(intid / BANK) else { return false };
        let used = bank.linked | bank.state.enabled | bank.state.pending | bank.state.loaded;
        if used & bit(intid) != 0 {
            return false;
        }
        bank.linked |= bit(intid);
        bank.fixed |= bit(intid);
        true
    }

    /// Whether SPI `intid` is connected to the physical interrupt.
    pub fn is_linked(&self, intid: u32) -> bool {
        self.bank(intid / BANK).is_some_and(|bank| bank.linked & bit(intid) != 0)
    }

    /// Routes SPI `intid` to `vcpu`.
    pub fn route(&mut self, intid: u32, vcpu: u8) -> VcpuSet {
        let Some(target) = self.spi_bank_mut(intid / BANK).and_then(|b| b.target.get_mut((intid % BANK) as usize)) else {
            return VcpuSet::EMPTY;
        };
        *target = vcpu;
        self.attention(intid)
    }

    /// Enables SPIs of bank `b`, the linked ones also on the hardware.
    pub fn enable(&mut self, machine: &dyn Machine, b: u32, bits: u32) -> VcpuSet {
        let Some(bank) = self.spi_bank_mut(b) else { return VcpuSet::EMPTY };
        let new = bits & !bank.state.enabled;
        bank.state.enabled |= new;
        for n in ones(new & bank.linked) {
            if bank.fixed & bit(n) == 0 {
                machine.spi_set_trigger(b * BANK + n, if bank.state.is_edge(n) { Trigger::Edge } else { Trigger::Level });
            }
            machine.spi_set_enabled(b * BANK + n, true);
        }
        let raised = new & bank.state.pending;
        self.attention_of_all(b, raised)
    }

    /// Disables SPIs of bank `b`, the linked ones also on the hardware.
    pub fn disable(&mut self, machine: &dyn Machine, b: u32, bits: u32) -> VcpuSet {
        let Some(bank) = self.spi_bank_mut(b) else { return VcpuSet::EMPTY };
        let gone = bits & bank.state.enabled;
        bank.state.enabled &= !gone;
        ones(gone & bank.linked).for_each(|n| machine.spi_set_enabled(b * BANK + n, false));
        let held = gone & bank.state.loaded;
        self.attention_of_all(b, held)
    }

    /// Makes SPIs of bank `b` pending.
    pub fn set_pending(&mut self, b: u32, bits: u32) -> VcpuSet {
        let Some(bank) = self.spi_bank_mut(b) else { return VcpuSet::EMPTY };
        bank.state.pending |= bits;
        let raised = bits & bank.state.enabled;
        self.attention_of_all(b, raised)
    }

    /// Makes SPIs of bank `b` not pending.
    pub fn clear_pending(&mut self, machine: &dyn Machine, b: u32, bits: u32) -> VcpuSet {
        let Some(bank) = self.spi_bank_mut(b) else { return VcpuSet::EMPTY };
        bank.state.clear_pending(machine, bits, b * BANK);
        let held = bits & bank.state.loaded;
        self.attention_of_all(b, held)
    }
}

impl SpiBank {
    /// The most urgent one that is ready for `vcpu`: priority, and number in the bank.
    pub fn best(&self, vcpu: u32) -> Option<(u8, u32)> {
        ones(self.state.ready())
            .filter(|n| self.target.get(*n as usize).is_some_and(|v| u32::from(*v) == vcpu))
            .map(|n| (self.state.priority(n), n))
            .min()
    }
}
