//! Plans Dom0: everything that `el2` and the domain builder need to make it, as values.

use alloc::string::String;
use alloc::vec::Vec;

use super::cmdline::Options;
use super::dom0_tree::{self, TreeInput};
use super::fdt::Interrupt;
use super::host_tree::{HostInfo, ModuleKind, Timer, Uart};
use super::image::KernelImage;
use super::placement::{extended_regions, grant_window, place_boot_files, place_dom0};
use super::{BootError, HostTree, Region};
use crate::addr::MachineAddr;

/// What [`plan`] works from.
pub struct Dom0Input<'a> {
    /// The host's device tree.
    pub tree: &'a HostTree<'a>,
    /// What it says.
    pub info: &'a HostInfo,
    /// The command line.
    pub options: &'a Options,
    /// The UART that stays with us.
    pub uart: &'a Uart,
    /// Dom0's command line, if it has one.
    pub command_line: Option<&'a str>,
    /// The first bytes of the kernel module, at least [`super::image::HEADER_SIZE`] if it is so long.
    pub kernel_start: &'a [u8],
    /// RAM that can be given away, [`HostInfo::free_ram`].
    pub free: &'a [Region],
    /// Memory that is the hypervisor's for good (its image); lends its addresses to the grant table window.
    pub own: &'a [Region],
    /// vCPUs of Dom0, at least 1.
    pub vcpus: u32,
}

/// How Dom0 is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dom0Plan {
    /// Dom0's memory, mapped 1:1.
    pub banks: Vec<Region>,
    /// The kernel: a file to copy. It is entered at its first byte, with [`Dom0Plan::tree_at`] in x0.
    pub kernel: CopyFile,
    /// The ramdisk: a file to copy.
    pub ramdisk: Option<CopyFile>,
    /// Where [`Dom0Plan::tree`] goes.
    pub tree_at: MachineAddr,
    /// Dom0's device tree, a blob.
    pub tree: Vec<u8>,
    /// Guest physical addresses that Dom0 maps its grant table at.
    pub grant_window: Region,
    /// Guest physical address space for foreign pages.
    pub extended: Vec<Region>,
    /// The PPI (INTID, 16..32) of the event channel interrupt.
    pub event_ppi: u32,
    /// Device registers to map 1:1, as normal memory whose attributes Dom0's stage 1 decides: whole pages, sorted, merged. The interrupt
    /// controller is not among them; a GICv2's v2m frames are.
    pub mmio: Vec<Region>,
    /// SPIs to route to Dom0, each once, sorted.
    pub interrupts: Vec<Interrupt>,
    /// Registers that Dom0 may give to domains and has not itself (`xen,passthrough`): whole pages, sorted, merged.
    pub offered_mmio: Vec<Region>,
    /// SPIs of that kind, each once, sorted.
    pub offered_interrupts: Vec<Interrupt>,
    /// Lines for the console: devices that Dom0 does not get because their nodes cannot be used, a default for its memory.
    pub warnings: Vec<String>,
}

/// A file to copy into Dom0's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyFile {
    /// Where the boot loader put it.
    pub from: Region,
    /// Where it goes.
    pub to: MachineAddr,
}

/// The affinity (MPIDR_EL1 fields, device tree `reg`) of vCPU `vcpu` of any domain: 16 to a cluster, as one SGI's target list holds.
pub const fn vcpu_affinity(vcpu: u32) -> u32 {
    (vcpu & 0xf) | (vcpu >> 4 & 0xff) << 8
}

/// Plans Dom0.
pub fn plan(input: &Dom0Input<'_>) -> Result<Dom0Plan, BootError> {
    let module = |kind| input.info.module(kind).map(|module| module.region);
    let kernel_file = module(ModuleKind::Kernel).ok_or(BootError::NoKernel)?;
    let kernel = KernelImage::parse(input.kernel_start, kernel_file.size())?;
    let ramdisk_file = module(ModuleKind::Ramdisk);

    let mut warnings = Vec::new();
    if input.options.dom0_mem.is_none() {
        warnings.push("dom0_mem is not set: Dom0 gets 512 MiB".into());
    }
    let banks = place_dom0(input.free, input.options.dom0_bytes())?;
    let first_bank = *banks.first().ok_or(BootError::TooLittleMemory { asked: input.options.dom0_bytes(), placed: 0 })?;
    let grant_window = grant_window(input.own, input.options.gnttab_max_frames)?;
    let extended = if input.options.ext_regions { extended(input, &banks, grant_window) } else { Vec::new() };
    let event_ppi = event_ppi(&input.info.timer)?;

    let mut tree = TreeInput {
        tree: input.tree,
        info: input.info,
        uart: input.uart,
        command_line: input.command_line,
        // Not known yet; its size in the tree does not depend on it.
        ramdisk: ramdisk_file,
        vcpus: input.vcpus,
        banks: &banks,
        grant_window,
        extended: &extended,
        event_ppi,
    };
    let tree_size = dom0_tree::build(&tree)?.len() as u64;
    let files = place_boot_files(first_bank, kernel, tree_size, ramdisk_file.map_or(0, Region::size))?;
    tree.ramdisk = ramdisk_file.and_then(|file| Region::new(files.ramdisk.0, file.size()));
    let blob = dom0_tree::build(&tree)?;
    let devices = dom0_tree::devices(input.tree, input.info, input.uart)?;
    warnings.extend(devices.warnings);

    Ok(Dom0Plan {
        kernel: CopyFile { from: kernel_file, to: files.kernel },
        ramdisk: ramdisk_file.map(|from| CopyFile { from, to: files.ramdisk }),
        tree_at: files.tree,
        tree: blob,
        grant_window,
        extended,
        event_ppi,
        mmio: devices.mmio,
        interrupts: devices.interrupts,
        offered_mmio: devices.offered_mmio,
        offered_interrupts: devices.offered_interrupts,
        warnings,
        banks,
    })
}

fn extended(input: &Dom0Input<'_>, banks: &[Region], grant_window: Region) -> Vec<Region> {
    let mut taken = banks.to_vec();
    taken.extend_from_slice(&input.info.reserved);
    taken.push(grant_window);
    extended_regions(&input.info.ram, &taken)
}

/// The lowest PPI that is not one of the timers that Dom0 knows of.
fn event_ppi(timer: &Timer) -> Result<u32, BootError> {
    let taken = [timer.secure_physical, timer.physical, timer.virtual_];
    (16..32).find(|ppi| !taken.contains(ppi)).ok_or(BootError::NoFreePpi)
}

#[cfg(test)]
mod tests;
