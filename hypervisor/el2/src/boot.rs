//! From the boot loader's device tree to a machine that EL2 drives: console, RAM, heap, interrupt controller.
//!
//! The order is that of `xenolith_core::boot`. Whatever is wrong is one line on the console and a halt; what comes before the console is known
//! looks for any PL011 to say it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use log::{info, warn};
use xenolith_core::addr::{MachineAddr, PAGE_SIZE};
use xenolith_core::boot::cmdline::Options;
use xenolith_core::boot::host_tree::{BootModule, CommandLines, ModuleKind, Uart, UartKind, V2mFrame};
use xenolith_core::boot::{BootError, HostInfo, HostTree, Region};

use crate::efi::{File, Handoff};
use crate::{console, fault, gic, gic_v3, heap, mm, psci, smp, uart};

/// Bytes of the heap. The frame table is not in it.
const HEAP_SIZE: u64 = 16 << 20;
/// The heap is whole blocks, so that the direct map needs no small pages for its sake.
const BLOCK: u64 = 2 << 20;

/// A console from the start, for a board on which nothing is printed: `UartKind::early` has the form.
const EARLY_UART: Option<&str> = option_env!("XENOLITH_EARLY_UART");

/// The machine, ready to run guests on the boot CPU.
pub struct Host {
    /// The device tree.
    pub tree: HostTree<'static>,
    /// What it says.
    pub info: HostInfo,
    /// Whose command line is which.
    pub command_lines: CommandLines,
    /// Ours, read.
    pub options: Options,
    /// The console.
    pub uart: Uart,
    /// The hypervisor's memory: image, heap, device tree. For [`HostInfo::free_ram`].
    pub taken: Vec<Region>,
}

impl Host {
    /// RAM that is free.
    pub fn free_ram(&self) -> Vec<Region> {
        self.info.free_ram(&self.taken)
    }

    /// The image, for good the hypervisor's.
    pub fn image(&self) -> Option<Region> {
        let (start, size) = mm::image_range();
        Region::new(start.0, size)
    }

    /// Takes `size` bytes of free RAM for good, at a multiple of `align` (a power of two, whole pages): as high as possible, so that low memory
    /// stays for Dom0's devices. The frame table is such memory.
    pub fn take(&mut self, size: u64, align: u64) -> Option<MachineAddr> {
        let size = size.checked_next_multiple_of(PAGE_SIZE)?;
        let start = highest(&self.free_ram(), size, align)?;
        self.taken.extend(Region::new(start, size));
        Some(MachineAddr(start))
    }

    /// Starts the other CPUs, as many as the command line allows; each calls `entry`. Returns how many are online.
    pub fn start_secondaries(&self, entry: fn(xenolith_core::addr::CpuId) -> !) -> u8 {
        let most = self.options.maxcpus.unwrap_or(u32::MAX).max(1) as usize;
        let boot = smp::boot_mpidr();
        let others = self.info.cpus.iter().filter(|cpu| cpu.mpidr != boot).take(most - 1);
        smp::start_secondaries(others, entry)
    }
}

fn highest(free: &[Region], size: u64, align: u64) -> Option<u64> {
    free.iter().rev().find_map(|region| {
        let start = region.end().0.checked_sub(size)? & !(align - 1);
        (start >= region.start().0).then_some(start)
    })
}

/// Why the machine cannot be used.
enum Trouble {
    Boot(BootError),
    Gic(gic::GicError),
    NoDriver(String),
    Other(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot(why) => why.fmt(f),
            Self::Gic(why) => why.fmt(f),
            Self::NoDriver(node) => write!(f, "the console's UART {node} is of a kind for which there is no driver"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<BootError> for Trouble {
    fn from(why: BootError) -> Self {
        Self::Boot(why)
    }
}

impl From<gic::GicError> for Trouble {
    fn from(why: gic::GicError) -> Self {
        Self::Gic(why)
    }
}

/// Does all of it. `device_tree`: where it is mapped, and its machine address; `efi`: what the firmware said, if it was UEFI.
pub fn start(device_tree: (u64, MachineAddr), efi: Option<&Handoff>) -> Host {
    if let Some((kind, registers)) = EARLY_UART.and_then(UartKind::early) {
        start_console(kind, registers);
        info!("Early console; entered at EL2, device tree at {:?}{}", device_tree.1, if efi.is_some() { ", by UEFI" } else { "" });
    }
    // Without device tree and early console nothing is known to print on.
    let Some(blob) = mm::device_tree(device_tree.0) else { die(&"there is no device tree: its address belongs into x0") };
    let host = host(blob, device_tree.1, efi).and_then(|mut host| {
        prepare(&mut host)?;
        Ok(host)
    });
    host.unwrap_or_else(|why| die(&why))
}

/// Reads the tree as far as the console, starts that, and reads the rest.
fn host(blob: &'static [u8], at: MachineAddr, efi: Option<&Handoff>) -> Result<Host, Trouble> {
    let no_console = |_: &BootError| any_console(blob);
    let size = HostTree::blob_size(blob).inspect_err(no_console)?;
    let tree = HostTree::parse(blob).inspect_err(no_console)?;
    let mut command_lines = tree.command_lines();
    if let Some(efi) = efi {
        override_command_lines(&mut command_lines, efi);
    }
    let (options, warnings) = Options::parse(&command_lines.xen);
    let uart = tree.uart(options.dtuart.as_deref()).inspect_err(no_console)?;
    if !start_console(uart.kind, uart.registers) {
        any_console(blob);
        return Err(Trouble::NoDriver(uart.node));
    }
    info!("Xenolith {} at {:?}", env!("CARGO_PKG_VERSION"), mm::image_range().0);
    warnings.iter().for_each(|warning| warn!("{warning}"));
    fault::set_reboot(!options.noreboot);
    let info = match efi {
        None => HostInfo::read(&tree)?,
        Some(efi) => HostInfo::with(&tree, xenolith_core::boot::efi::ram(efi.map(), efi.descriptor_size)?, efi_modules(efi))?,
    };
    if info.psci.is_none() {
        psci::set_absent();
    }
    let mut host = Host { tree, info, command_lines, options, uart, taken: Vec::new() };
    host.taken.extend(host.image());
    host.taken.extend(Region::new(at.0, size as u64));
    Ok(host)
}

fn override_command_lines(lines: &mut CommandLines, efi: &Handoff) {
    if !efi.options.text().is_empty() {
        lines.xen = efi.options.text().into();
    }
    if efi.kernel.size != 0 {
        lines.dom0 = Some(efi.kernel_options.text().into());
    }
}

/// The files that the EFI stub has loaded.
fn efi_modules(efi: &Handoff) -> Vec<BootModule> {
    let files = [(ModuleKind::Kernel, efi.kernel), (ModuleKind::Ramdisk, efi.ramdisk)];
    let module = |(kind, file): (_, File)| {
        let region = Region::new(file.start, file.size)?;
        Some(BootModule { kind, region, bootargs: None, node: "xen.cfg".into(), for_domu: false })
    };
    files.into_iter().filter_map(module).collect()
}

/// RAM, heap, and what the boot CPU needs to run guests.
fn prepare(host: &mut Host) -> Result<(), Trouble> {
    for ram in usable_ram(&host.info) {
        info!("RAM: {ram}");
        mm::map_ram(ram);
    }
    let heap = host.take(HEAP_SIZE, BLOCK).ok_or(Trouble::Other("there is too little memory: no free RAM for the hypervisor's heap"))?;
    // SAFETY: mapped just now, and taken: nobody else gets it.
    unsafe { heap::claim(heap, HEAP_SIZE) };
    // SAFETY: the device tree says that it is there, and no domain has it.
    unsafe { gic::init(&host.info.gic.kind) }?;
    host.info.v2m.iter_mut().for_each(complete_v2m);
    if let Some(its) = host.info.its.take() {
        let cpus = host.info.cpus.len().min(smp::MAX_CPUS);
        // SAFETY: the device tree says that it is there, and no domain has it.
        match unsafe { gic_v3::its::init(its.registers, cpus, |size, align| host.take(size, align)) } {
            Ok(()) => host.info.its = Some(its),
            Err(why) => warn!("{}: {why}: Dom0 has no MSIs", its.node),
        }
    }
    smp::init_this_cpu()?;
    Ok(())
}

/// Asks a frame that turns MSIs into SPIs which ones.
fn complete_v2m(frame: &mut V2mFrame) {
    let registers = mm::map_device(frame.registers.start(), V2mFrame::MSI_TYPER + 4);
    // SAFETY: the device tree says that the frame is there; the register has no side effect.
    let typer = unsafe { registers.add(V2mFrame::MSI_TYPER as usize).cast::<u32>().read_volatile() };
    frame.set_typer(typer);
}

/// RAM that may be mapped: reserved memory is not, save where a boot module lies in it (loaders reserve them, too).
fn usable_ram(info: &HostInfo) -> Vec<Region> {
    let mut regions = info.free_ram(&[]);
    regions.extend(info.modules.iter().map(|module| module.region.pages_outward()));
    regions.sort_unstable();
    let mut merged: Vec<Region> = Vec::new();
    for region in regions {
        match merged.last_mut() {
            Some(last) if region.start() <= last.end() => {
                let end = last.end().max(region.end());
                *last = Region::between(last.start().0, end.0).unwrap_or(*last);
            }
            _ => merged.push(region),
        }
    }
    merged
}

/// `false`: there is no driver for it.
fn start_console(kind: UartKind, registers: Region) -> bool {
    // SAFETY: the device tree, or who built the image, says that it is there, and no domain has it.
    let uart = unsafe { uart::start(kind, registers) };
    uart.map(console::init).is_some()
}

/// A console to say that there is none as it should be: the first node of the blob, whole or not, that is named as a PL011 is.
fn any_console(blob: &[u8]) {
    const NAME: &[u8] = b"pl011@";
    let address = blob.windows(NAME.len()).position(|bytes| bytes == NAME).and_then(|at| {
        let digits = blob[at + NAME.len()..].split(|byte| *byte == 0).next()?;
        u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    });
    if let Some(registers) = address.and_then(|at| Region::new(at, PAGE_SIZE)) {
        start_console(UartKind::Pl011, registers);
    }
}

/// One line on the console that says why there is nothing to run, and a halt.
pub fn die(why: &dyn fmt::Display) -> ! {
    log::error!("{why}. Halted.");
    fault::stop()
}
