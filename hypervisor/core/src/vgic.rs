//! The virtual interrupt controller of a domain: a GICv3, with LPIs for the hardware domain alone, or a GICv2; without security states.
//!
//! Interrupts are pending here until a list register takes them ([`Vgic::fill`]); then the guest acknowledges and completes them without a
//! trap. The run loop fills list registers before it enters the guest, and only when [`Vgic::dirty`] says that something changed or a
//! maintenance interrupt came. `bank` holds the state of 32 interrupts, `cpu` the part of one vCPU, `distributor` the shared interrupts,
//! `lpi` what LPIs add to them, `mmio` the registers; only `config`, `mmio` and `send_sgi` know of versions. List registers have the format of version 3; the
//! driver of a GICv2 translates.
//!
//! As in Xen, interrupts are edge-like: a falling line is ignored, the level of a PPI is not followed. Those of the hardware domain's
//! devices are linked: the physical interrupt stays active, hence quiet, until the guest completes the virtual one.
//!
//! Locks: each vCPU has one, the distributor has one. Order: vCPU, then distributor; never two vCPUs.
//!
//! Source: GICv3 specification IHI 0069H, GICv2 specification IHI 0048B; register behaviour of Xen 4.20's vgic-v3 and vgic-v2.

mod bank;
mod config;
mod cpu;
mod distributor;
pub mod list_register;
mod lpi;
mod mmio;
mod redistributor;
#[cfg(test)]
mod tests;

pub use config::{CpuInterface, HardwareGic, Interface, Version, VgicConfig};
pub use cpu::Filled;
pub use list_register::{GicCpuContext, ListRegisters};
pub use lpi::{FIRST_LPI, LPI_BITS, LPIS, Properties};
pub use mmio::Abort;
pub use redistributor::{RedistributorRegion, Redistributors};

use crate::lock::Lock;
use crate::machine::Machine;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::ops::{BitOr, BitOrAssign};
use core::sync::atomic::AtomicBool;
use cpu::{BANK, VcpuGic};
use distributor::Distributor;
use lpi::Lpis;

/// The first INTID of an SPI.
pub const FIRST_SPI: u32 = 32;
/// The most SPIs: INTIDs 32 to 1019.
pub const MAX_SPIS: u32 = 988;

/// A set of vCPUs of one domain, 0 to 127.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuSet(pub u128);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: Self = Self(0);

    /// One vCPU; none if the number is out of range.
    pub const fn of(vcpu: u32) -> Self {
        Self(if vcpu < u128::BITS { 1 << vcpu } else { 0 })
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let first = (left != 0).then(|| left.trailing_zeros())?;
            left &= left - 1;
            Some(first)
        })
    }
}

impl BitOr for VcpuSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for VcpuSet {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// There is no such SPI, or it is not linked: the caller deactivates the physical interrupt itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotLinked;

/// The interrupt controller of a domain.
pub struct Vgic {
    config: VgicConfig,
    vcpus: Vec<VcpuGic>,
    spis: u32,
    distributor: Lock<Distributor>,
}

impl Vgic {
    /// Everything disabled, SPIs routed to vCPU 0. More than [`MAX_SPIS`] are cut off.
    pub fn new(config: &VgicConfig, vcpus: u32, spis: u32) -> Result<Self, TryReserveError> {
        let spis = spis.min(MAX_SPIS);
        let mut all = Vec::new();
        all.try_reserve_exact(vcpus as usize)?;
        all.resize_with(vcpus as usize, VcpuGic::new);
        let mut distributor = Distributor::new(spis)?;
        if config.has_lpis() {
            distributor.lpis = Some(Lpis::new(vcpus)?);
        }
        Ok(Self { config: config.try_clone()?, vcpus: all, spis, distributor: Lock::new(distributor) })
    }

    /// Makes a private interrupt (SGI, PPI: INTID below 32) pending for `vcpu`: whether the vCPU should now be noticed (woken, or kicked
    /// out of the guest). Callable on any CPU.
    ///
    /// Interrupts raised for a vCPU that is off are dropped when it is turned on, by [`Self::reset_vcpu`].
    #[must_use]
    pub fn raise(&self, vcpu: u32, intid: u32) -> bool {
        intid < BANK && self.vcpus.get(vcpu as usize).is_some_and(|v| v.raise(1 << intid))
    }

    /// Makes an SPI pending: who should be noticed. Callable on any CPU.
    #[must_use]
    pub fn raise_spi(&self, intid: u32) -> VcpuSet {
        let set = self.distributor.lock().raise(intid, false).unwrap_or_default();
        self.mark(set)
    }

    /// A physical SPI came in for this domain and is active now; it stays so until the guest completes it. Who should be noticed.
    pub fn raise_physical_spi(&self, intid: u32) -> Result<VcpuSet, NotLinked> {
        let set = self.distributor.lock().raise(intid, true).ok_or(NotLinked)?;
        Ok(self.mark(set))
    }

    /// Connects an SPI to the physical one of the same number (`true`), or disconnects it. `false` if there is no such SPI.
    ///
    /// From then on the guest's enable bit and trigger are forwarded to the hardware.
    pub fn link_spi(&self, intid: u32, linked: bool) -> bool {
        self.distributor.lock().link(intid, linked)
    }

    /// Connects an SPI that the guest has not touched yet to the physical one of the same number, whose trigger stays as it is. `false` if
    /// there is no such SPI, or it is connected, enabled, pending or active.
    pub fn give_spi(&self, intid: u32) -> bool {
        self.distributor.lock().give(intid)
    }

    /// Whether an SPI is connected to the physical one.
    pub fn is_linked(&self, intid: u32) -> bool {
        self.distributor.lock().is_linked(intid)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.config.version()
    }

    /// A write of ICC_SGI1R_EL1 by vCPU `from`: who should be noticed. Targets that do not exist are ignored.
    ///
    /// As in Xen only Aff1 and the target list count: vCPUs are numbered Aff1 * 16 + Aff0.
    #[must_use]
    pub fn send_sgi(&self, from: u32, value: u64) -> VcpuSet {
        const ALL_BUT_SELF: u64 = 1 << 40;
        let intid = (value >> 24 & 0xf) as u32;
        let targets = if value & ALL_BUT_SELF != 0 {
            VcpuSet(!VcpuSet::of(from).0)
        } else {
            // Aff1 above 7 shifts the list past the last vCPU.
            VcpuSet(u128::from(value as u16).checked_shl((value >> 16 & 0xff) as u32 * 16).unwrap_or(0))
        };
        self.raise_sgi(targets, intid)
    }

    /// A write of GICD_SGIR by vCPU `from`: who should be noticed; `None` if the filter is none. As in Xen an SGI has no source: those of
    /// two vCPUs are one.
    fn send_sgi_v2(&self, from: u32, value: u32) -> Option<VcpuSet> {
        let targets = match value >> 24 & 3 {
            0 => VcpuSet((value >> 16 & 0xff).into()),
            1 => VcpuSet(!VcpuSet::of(from).0),
            2 => VcpuSet::of(from),
            _ => return None,
        };
        Some(self.raise_sgi(targets, value & 0xf))
    }

    fn raise_sgi(&self, targets: VcpuSet, intid: u32) -> VcpuSet {
        let existing = targets.iter().take_while(|vcpu| (*vcpu as usize) < self.vcpus.len());
        existing.filter(|vcpu| self.raise(*vcpu, intid)).fold(VcpuSet::EMPTY, |set, vcpu| set | VcpuSet::of(vcpu))
    }

    /// Says whether [`Self::fill`] has work for `vcpu`. To be read only.
    pub fn dirty(&self, vcpu: u32) -> Option<&AtomicBool> {
        Some(&self.vcpus.get(vcpu as usize)?.dirty)
    }

    /// Whether an interrupt may wait outside the list registers, so that the vCPU should not block, even if PSTATE masks interrupts.
    /// May be wrong once after a change; exact after [`Self::fill`]. Those inside: [`list_register::any_pending`].
    pub fn has_deliverable(&self, vcpu: u32) -> bool {
        self.vcpus.get(vcpu as usize).is_some_and(VcpuGic::has_deliverable)
    }

    /// Bit n: list register n of `vcpu` may hold something, and is saved and restored with it. The others hold nothing.
    pub fn used_list_registers(&self, vcpu: u32) -> u32 {
        self.vcpus.get(vcpu as usize).map_or(0, VcpuGic::used)
    }

    /// Sees to it that the list registers of `vcpu` hold its most urgent interrupts.
    ///
    /// Called where the vCPU is loaded, between two runs of it: when it is dirty, and at every maintenance interrupt.
    pub fn fill(&self, machine: &dyn Machine, vcpu: u32, lrs: &mut dyn ListRegisters) -> Filled {
        let Some(gic) = self.vcpus.get(vcpu as usize) else { return Filled::default() };
        let filled = gic.fill(machine, &self.distributor, vcpu, lrs);
        if !filled.notice.is_empty() {
            self.mark(filled.notice);
        }
        filled
    }

    /// Before `vcpu` is turned on (and, if wished, when it is turned off): nothing is pending or active for it any more, its list
    /// registers are empty. SPIs that were pending stay so; who should be noticed of them.
    pub fn reset_vcpu(&self, machine: &dyn Machine, vcpu: u32, lrs: &mut dyn ListRegisters) -> VcpuSet {
        let Some(gic) = self.vcpus.get(vcpu as usize) else { return VcpuSet::EMPTY };
        self.mark(gic.reset(machine, &self.distributor, lrs))
    }

    /// Lets the vCPUs of `set` look at their SPIs.
    fn mark(&self, set: VcpuSet) -> VcpuSet {
        set.iter().filter_map(|vcpu| self.vcpus.get(vcpu as usize)).for_each(|gic| gic.mark(true));
        set
    }
}
