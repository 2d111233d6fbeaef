//! What the host's device tree says about the machine: RAM, boot modules, CPUs, interrupt controller, timer, firmware.
//!
//! Everything is checked here, so that `el2` can take the values at their word. Source of the rules: Xen's `docs/misc/arm/device-tree`
//! and the bindings of the devices.

use alloc::vec::Vec;

use super::{BootError, HostTree, Region};

mod cpus;
mod gic;
mod memory;
mod modules;
mod timer;
mod uart;

pub(super) use cpus::cpu_nodes;
pub use cpus::{Conduit, EnableMethod, HostCpu, Psci};
pub(super) use gic::{GIC_V2, GIC_V3};
pub use gic::{Gic, GicKind, ItsNode, V2mFrame};
pub(super) use modules::MODULE;
pub use modules::{BootModule, CommandLines, ModuleKind};
pub(super) use timer::TIMER;
pub use timer::Timer;
pub use uart::{Uart, UartKind};

/// What the host's device tree says about the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostInfo {
    /// RAM banks: whole pages, sorted, merged.
    pub ram: Vec<Region>,
    /// What firmware keeps for itself or for devices (memory reservation map, `/reserved-memory`): whole pages, sorted, merged.
    pub reserved: Vec<Region>,
    /// Boot modules in the order of the tree.
    pub modules: Vec<BootModule>,
    /// CPUs that are not disabled, in the order of the tree.
    pub cpus: Vec<HostCpu>,
    /// The PSCI firmware, if there is any.
    pub psci: Option<Psci>,
    /// The interrupt controller.
    pub gic: Gic,
    /// A GICv2's v2m frames. `el2` completes each with [`V2mFrame::set_typer`]; one that stays without SPIs is not given to Dom0.
    pub v2m: Vec<V2mFrame>,
    /// A GICv3's first ITS. `el2` takes it away if it cannot be used; Dom0 then has none.
    pub its: Option<ItsNode>,
    /// The architected timer.
    pub timer: Timer,
}

impl HostInfo {
    /// Reads and checks all of it.
    pub fn read(tree: &HostTree<'_>) -> Result<Self, BootError> {
        Self::with(tree, memory::ram(tree)?, Vec::new())
    }

    /// The same where the firmware says what is RAM, and has loaded modules that the tree does not tell of.
    pub fn with(tree: &HostTree<'_>, ram: Vec<Region>, loaded: Vec<BootModule>) -> Result<Self, BootError> {
        let mut modules = modules::modules(tree)?;
        modules.extend(loaded);
        modules::check_placement(&modules, &ram)?;
        Ok(Self {
            reserved: memory::reserved(tree)?,
            cpus: cpus::cpus(tree)?,
            psci: cpus::psci(tree)?,
            gic: gic::gic(tree)?,
            v2m: gic::v2m_frames(tree)?,
            its: gic::its(tree)?,
            timer: timer::timer(tree)?,
            ram,
            modules,
        })
    }

    /// RAM that nobody uses: without reserved memory, boot modules, and `taken` (the hypervisor's image and heap, the device tree blob).
    /// Whole pages, sorted.
    pub fn free_ram(&self, taken: &[Region]) -> Vec<Region> {
        let mut holes = self.reserved.clone();
        holes.extend(self.modules.iter().map(|module| module.region.pages_outward()));
        holes.extend(taken.iter().map(|region| region.pages_outward()));
        super::region::subtract(&self.ram, &holes)
    }

    /// Checks that no boot module overlaps what lies at `region` (`what`, for the message: "the hypervisor").
    pub fn check_apart(&self, what: &str, region: Region) -> Result<(), BootError> {
        let clash = self.modules.iter().find(|module| module.region.overlaps(region));
        clash.map_or(Ok(()), |module| Err(BootError::Overlap { what: what.into(), a: region, with: module.node.clone(), b: module.region }))
    }

    /// Dom0's first module of this kind.
    pub fn module(&self, kind: ModuleKind) -> Option<&BootModule> {
        self.modules.iter().find(|module| module.kind == kind && !module.for_domu)
    }
}

#[cfg(test)]
pub(super) mod tests;
