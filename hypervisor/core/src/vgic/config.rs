//! Which interrupt controller a guest has, and where.

use super::redistributor::{FRAME, RedistributorRegion, Redistributors};
use crate::addr::{Ipa, MachineAddr};
use alloc::collections::TryReserveError;
use alloc::vec;
use alloc::vec::Vec;
use guest_abi::arch_arm as arch;

/// Version of the architecture that an interrupt controller follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// GICv2: the CPU interface is in memory, where the guest finds the hardware's virtual one (GICV).
    V2,
    /// GICv3: the CPU interface is in system registers.
    V3,
}

impl Version {
    /// vCPUs that a domain can have at most: a GICv2 has eight CPU interfaces, a GICv3 as many as Xen allows.
    pub const fn max_vcpus(self) -> u32 {
        match self {
            Self::V2 => 8,
            Self::V3 => crate::domain::MAX_VCPUS,
        }
    }
}

/// The interrupt controller of a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VgicConfig {
    /// The distributor: 4 KiB for version 2, 64 KiB for version 3.
    pub distributor: Ipa,
    /// What each vCPU has for itself.
    pub interface: Interface,
}

/// What each vCPU has for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Interface {
    /// Version 2: the CPU interface.
    V2(CpuInterface),
    /// Version 3: redistributors.
    V3(Redistributors),
}

/// The CPU interface of a GICv2, which needs no emulation: the guest drives the hardware's virtual one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuInterface {
    /// Where the guest has it, whole pages.
    pub at: Ipa,
    /// The hardware's virtual CPU interface.
    pub gicv: MachineAddr,
    /// Bytes of both.
    pub size: u64,
}

/// What the hardware can give to guests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareGic {
    /// Its own version.
    pub version: Version,
    /// 8 KiB of virtual CPU interface for guests with a GICv2: a GICv2 has it, a GICv3 only if it is compatible.
    pub gicv: Option<MachineAddr>,
}

impl HardwareGic {
    /// What a guest of the toolstack gets; `None` if the hardware cannot. The addresses are those that the toolstack writes into the guest's
    /// device tree (xen/include/public/arch-arm.h).
    pub fn guest(&self, version: Version) -> Option<VgicConfig> {
        match version {
            Version::V2 => self.gicv.map(VgicConfig::guest_v2),
            Version::V3 => (self.version == Version::V3).then(VgicConfig::guest_v3),
        }
    }
}

impl VgicConfig {
    fn guest_v2(gicv: MachineAddr) -> Self {
        Self::v2(Ipa(arch::GUEST_GICD_BASE), CpuInterface { at: Ipa(arch::GUEST_GICC_BASE), gicv, size: arch::GUEST_GICC_SIZE })
    }

    /// `GUEST_GICV3_*`.
    pub fn guest_v3() -> Self {
        let regions = vec![RedistributorRegion { base: Ipa(arch::GUEST_GICV3_GICR0_BASE), size: arch::GUEST_GICV3_GICR0_SIZE }];
        Self::v3(Ipa(arch::GUEST_GICV3_GICD_BASE), regions, None, 10)
    }

    /// The same again.
    pub(super) fn try_clone(&self) -> Result<Self, TryReserveError> {
        let interface = match &self.interface {
            Interface::V2(interface) => Interface::V2(*interface),
            Interface::V3(Redistributors { regions, stride, intid_bits, has_lpis }) => {
                let mut copy = Vec::new();
                copy.try_reserve_exact(regions.len())?;
                copy.extend_from_slice(regions);
                Interface::V3(Redistributors { regions: copy, stride: *stride, intid_bits: *intid_bits, has_lpis: *has_lpis })
            }
        };
        Ok(Self { distributor: self.distributor, interface })
    }

    /// A GICv2.
    pub fn v2(distributor: Ipa, interface: CpuInterface) -> Self {
        Self { distributor, interface: Interface::V2(interface) }
    }

    /// A GICv3. `stride`: bytes from one redistributor to the next, at least 128 KiB, which is also the default; `intid_bits`: width of
    /// interrupt numbers, `GICD_TYPER.IDbits + 1`.
    pub fn v3(distributor: Ipa, regions: Vec<RedistributorRegion>, stride: Option<u64>, intid_bits: u32) -> Self {
        let redistributors = Redistributors { regions, stride: stride.unwrap_or(0).max(2 * FRAME), intid_bits, has_lpis: false };
        Self { distributor, interface: Interface::V3(redistributors) }
    }

    /// The same with LPIs, [`super::LPIS`] of them; for a GICv3.
    pub fn with_lpis(mut self) -> Self {
        if let Interface::V3(redistributors) = &mut self.interface {
            redistributors.has_lpis = true;
            redistributors.intid_bits = super::LPI_BITS;
        }
        self
    }

    /// Whether it has LPIs.
    pub(super) fn has_lpis(&self) -> bool {
        matches!(&self.interface, Interface::V3(redistributors) if redistributors.has_lpis)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        match self.interface {
            Interface::V2(_) => Version::V2,
            Interface::V3(_) => Version::V3,
        }
    }
}
