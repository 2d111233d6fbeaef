//! LPIs: message-signalled interrupts, which an ITS makes pending. Edge-triggered, and as many as a table holds that is searched quickly.
//!
//! What the guest keeps in memory is its configuration table, read when it asks the ITS to look ([`super::Vgic::lpi_properties`] says where);
//! its pending tables are never touched. A configuration in force is a bank's `enabled` and `priority`, as of SPIs.

use super::bank::bit;
use super::cpu::BANK;
use super::distributor::SpiBank;
use super::{VcpuSet, Vgic};
use crate::addr::Ipa;
use crate::machine::Machine;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// The first INTID of an LPI.
pub const FIRST_LPI: u32 = 8192;
/// How many LPIs a guest has that has any: one page of configuration.
pub const LPIS: u32 = 4096;
/// Width of interrupt numbers of such a guest.
pub const LPI_BITS: u32 = 14;
/// Of `GICD_TYPER`: there are LPIs, and that there are 2^(11+1) of them.
pub(super) const TYPER: u64 = 1 << 17 | (LPIS.ilog2() as u64 - 1) << 11;
const BANKS: u32 = LPIS / BANK;
const _: () = assert!(BANKS == u128::BITS);

/// What of `GICR_PROPBASER` is kept: OuterCache, Physical_Address, Shareability, InnerCache, IDbits.
const PROPERTIES: u64 = 7 << 56 | ADDRESS | 3 << 10 | 7 << 7 | ID_BITS;
/// What of `GICR_PENDBASER` is kept: OuterCache, Physical_Address, Shareability, InnerCache.
const PENDING: u64 = 7 << 56 | 0x000f_ffff_ffff_0000 | 3 << 10 | 7 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ID_BITS: u64 = 0x1f;

/// Where a guest has its configuration table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Properties {
    /// A page; the byte of INTID 8192+n is at n.
    pub at: Ipa,
    /// Bytes of it that count.
    pub len: u32,
}

/// All LPIs of a guest.
pub(super) struct Lpis {
    banks: Vec<SpiBank>,
    /// Banks in which something may be ready.
    busy: u128,
    /// `GICR_PROPBASER`, one for all vCPUs.
    properties: u64,
    vcpus: Vec<Redistributor>,
}

/// What a vCPU has for itself.
#[derive(Clone, Copy, Default)]
struct Redistributor {
    /// `GICR_CTLR.EnableLPIs`.
    enabled: bool,
    /// `GICR_PENDBASER`.
    pending: u64,
}

impl Lpis {
    pub fn new(vcpus: u32) -> Result<Self, TryReserveError> {
        let (mut banks, mut all) = (Vec::new(), Vec::new());
        banks.try_reserve_exact(BANKS as usize)?;
        banks.resize(BANKS as usize, SpiBank::default());
        all.try_reserve_exact(vcpus as usize)?;
        all.resize(vcpus as usize, Redistributor::default());
        Ok(Self { banks, busy: 0, properties: 0, vcpus: all })
    }

    pub fn bank(&self, n: u32) -> Option<&SpiBank> {
        self.banks.get(n as usize)
    }

    /// A bank to change: whatever becomes ready there is found by [`Self::best`].
    pub fn bank_mut(&mut self, n: u32) -> Option<&mut SpiBank> {
        let bank = self.banks.get_mut(n as usize)?;
        self.busy |= 1 << n;
        Some(bank)
    }

    /// The most urgent LPI that is ready for `vcpu`: priority and number.
    pub fn best(&mut self, vcpu: u32) -> Option<(u8, u32)> {
        let (mut left, mut best) = (self.busy, None);
        while left != 0 {
            let n = left.trailing_zeros();
            left &= left - 1;
            let Some(bank) = self.banks.get(n as usize) else { continue };
            if bank.state.ready() == 0 {
                self.busy &= !(1 << n);
            }
            let here = bank.best(vcpu).map(|(priority, bit)| (priority, FIRST_LPI + n * BANK + bit));
            best = best.into_iter().chain(here).min();
        }
        best
    }

    pub fn is_enabled(&self, vcpu: u32) -> bool {
        self.vcpus.get(vcpu as usize).is_some_and(|redistributor| redistributor.enabled)
    }

    pub fn set_enabled(&mut self, vcpu: u32, enabled: bool) {
        if let Some(redistributor) = self.vcpus.get_mut(vcpu as usize) {
            redistributor.enabled = enabled;
        }
    }

    pub fn properties_register(&self) -> u64 {
        self.properties
    }

    /// Ignored while any vCPU uses the table.
    pub fn set_properties_register(&mut self, value: u64) {
        if !self.is_any_enabled() {
            self.properties = value & PROPERTIES;
        }
    }

    pub fn pending_register(&self, vcpu: u32) -> u64 {
        self.vcpus.get(vcpu as usize).map_or(0, |redistributor| redistributor.pending)
    }

    /// Ignored while the vCPU uses the table.
    pub fn set_pending_register(&mut self, vcpu: u32, value: u64) {
        if let Some(redistributor) = self.vcpus.get_mut(vcpu as usize).filter(|redistributor| !redistributor.enabled) {
            redistributor.pending = value & PENDING;
        }
    }

    fn is_any_enabled(&self) -> bool {
        self.vcpus.iter().any(|redistributor| redistributor.enabled)
    }
}

/// LPIs, by INTID; who should be noticed. Those that do not exist are ignored.
impl Vgic {
    /// Where the guest has its configuration table; `None` if it has not enabled LPIs.
    pub fn lpi_properties(&self) -> Option<Properties> {
        let distributor = self.distributor.lock();
        let lpis = distributor.lpis.as_ref().filter(|lpis| lpis.is_any_enabled())?;
        let interrupts = 1_u64 << ((lpis.properties & ID_BITS) + 1);
        let len = interrupts.saturating_sub(FIRST_LPI.into()).min(LPIS.into()) as u32;
        Some(Properties { at: Ipa(lpis.properties & ADDRESS), len })
    }

    /// Sends it to `vcpu` from now on, also if it is pending.
    #[must_use]
    pub fn route_lpi(&self, intid: u32, vcpu: u8) -> VcpuSet {
        let exists = intid >= FIRST_LPI && usize::from(vcpu) < self.vcpus.len();
        self.mark(if exists { self.distributor.lock().route(intid, vcpu) } else { VcpuSet::EMPTY })
    }

    /// Takes over its configuration.
    #[must_use]
    pub fn configure_lpi(&self, machine: &dyn Machine, intid: u32, enabled: bool, priority: u8) -> VcpuSet {
        let mut distributor = self.distributor.lock();
        if intid < FIRST_LPI {
            return VcpuSet::EMPTY;
        }
        if let Some((bank, n)) = distributor.bank_mut(intid)
            && let Some(old) = bank.priority.get_mut(n as usize)
        {
            *old = priority;
        }
        let set = match enabled {
            true => distributor.enable(machine, intid / BANK, bit(intid)),
            false => distributor.disable(machine, intid / BANK, bit(intid)),
        };
        drop(distributor);
        self.mark(set)
    }

    /// Makes it pending.
    #[must_use]
    pub fn raise_lpi(&self, intid: u32) -> VcpuSet {
        let raised = (intid >= FIRST_LPI).then(|| self.distributor.lock().raise(intid, false)).flatten();
        self.mark(raised.unwrap_or_default())
    }

    /// Makes it not pending.
    #[must_use]
    pub fn clear_lpi(&self, machine: &dyn Machine, intid: u32) -> VcpuSet {
        if intid < FIRST_LPI {
            return VcpuSet::EMPTY;
        }
        let set = self.distributor.lock().clear_pending(machine, intid / BANK, bit(intid));
        self.mark(set)
    }
}
