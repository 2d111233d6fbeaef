//! Domains that the device tree describes (`xen,domain` below `/chosen`), built without a toolstack: what their nodes ask for, and how each
//! is made, as values.
//!
//! Source: Xen's docs/misc/arm/device-tree/booting.txt, "Creating Multiple Domains directly from Xen"; addresses: public/arch-arm.h.

use alloc::string::String;
use alloc::vec::Vec;

use super::domu_tree::{self, TreeInput};
use super::fdt::Node;
use super::host_tree::{BootModule, HostInfo, ModuleKind};
use super::image::KernelImage;
use super::placement::place_boot_files;
use super::{BootError, HostTree, Region};
use crate::addr::{Ipa, PAGE_SHIFT, PAGE_SIZE};
use crate::vgic::{MAX_SPIS, Version};
use guest_abi::arch_arm as arch;

mod devices;
pub use devices::{DomuDevices, Line, Mapping};

/// What a domain is told of Xen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enhanced {
    /// Nothing.
    No,
    /// The hypervisor, but it has no store.
    WithoutStore,
    /// The hypervisor, and the store that the control domain gives it later (`init-dom0less`).
    Full,
}

/// A domain as its node asks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomuConfig {
    /// Path of its node, for messages.
    pub node: String,
    /// Bytes of memory.
    pub memory: u64,
    /// vCPUs.
    pub vcpus: u32,
    /// Whether it has an emulated UART.
    pub vpl011: bool,
    /// What it is told of Xen.
    pub enhanced: Enhanced,
    /// SPIs of its interrupt controller; default: as many as the machine's.
    pub spis: Option<u32>,
    /// Grant table frames at most.
    pub max_grant_frames: Option<u32>,
    /// Maptrack frames at most.
    pub max_maptrack_frames: Option<u32>,
    /// Pages of the pool for its page tables; default: see [`DomuConfig::pool`].
    pool: Option<u64>,
    /// Its kernel.
    pub kernel: BootModule,
    /// Its ramdisk.
    pub ramdisk: Option<Region>,
    /// The tree of its devices.
    pub devices: Option<BootModule>,
}

/// What is not there, but would change what the domain is: better refused than left out.
const UNSUPPORTED: &[&str] = &["direct-map", "xen,static-mem", "domain-cpupool", "llc-colors", "sve"];
/// vCPUs and SPIs of a GICv2, as text.
const TOO_MANY_V2: &str = "is more than 8, which is all that a GICv2 serves";
const TOO_MANY_V3: &str = "is more than 128, which is all that a domain can have";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// All domains that the device tree describes, in the order of the tree. `version`: of the interrupt controller that they get.
pub fn domains(tree: &HostTree<'_>, info: &HostInfo, version: Version) -> Result<Vec<DomuConfig>, BootError> {
    let chosen = tree.root().child("chosen");
    let nodes = chosen.iter().flat_map(|chosen| chosen.children()).filter(|node| node.is_compatible("xen,domain") && node.is_enabled());
    nodes.map(|node| config(node, info, version)).collect()
}

fn config(node: Node<'_>, info: &HostInfo, version: Version) -> Result<DomuConfig, BootError> {
    if let Some(property) = UNSUPPORTED.iter().find(|property| node.has(property)) {
        return Err(node.bad(property, "is not supported"));
    }
    let path = node.path();
    let module = |kind| {
        let own = |module: &&BootModule| module.kind == kind && module.for_domu && is_below(&module.node, &path);
        info.modules.iter().find(own)
    };
    let vpl011 = node.has("vpl011");
    Ok(DomuConfig {
        memory: memory(node)?,
        vcpus: vcpus(node, version)?,
        vpl011,
        enhanced: enhanced(node, info)?,
        spis: spis(node, vpl011)?,
        max_grant_frames: limit(node, "max_grant_frames")?,
        max_maptrack_frames: limit(node, "max_maptrack_frames")?,
        pool: optional(node, "xen,domain-p2m-mem-mb")?.map(|mib| u64::from(mib) * MIB / PAGE_SIZE),
        kernel: module(ModuleKind::Kernel).cloned().ok_or_else(|| BootError::NoDomainKernel { node: path.clone() })?,
        ramdisk: module(ModuleKind::Ramdisk).map(|module| module.region),
        devices: module(ModuleKind::DeviceTree).cloned(),
        node: path.clone(),
    })
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// A property that is one cell, if it is there.
fn optional(node: Node<'_>, name: &'static str) -> Result<Option<u32>, BootError> {
    if !node.has(name) {
        return Ok(None);
    }
    node.u32(name).map(Some).ok_or_else(|| node.bad(name, "is not one cell"))
}

fn memory(node: Node<'_>) -> Result<u64, BootError> {
    const NAME: &str = "memory";
    if !node.has(NAME) {
        return Err(node.missing(NAME));
    }
    let kib = node.number(NAME).filter(|_| node.u32(NAME).is_none()).ok_or_else(|| node.bad(NAME, "is not two cells, a number of KiB"))?;
    if kib == 0 {
        return Err(node.bad(NAME, "is 0"));
    }
    let bytes = kib.checked_mul(KIB).and_then(|bytes| bytes.checked_next_multiple_of(PAGE_SIZE));
    bytes
        .filter(|bytes| *bytes <= arch::GUEST_RAM0_SIZE + arch::GUEST_RAM1_SIZE)
        .ok_or_else(|| node.bad(NAME, "is more than a domain can have"))
}

fn vcpus(node: Node<'_>, version: Version) -> Result<u32, BootError> {
    const NAME: &str = "cpus";
    match optional(node, NAME)? {
        None => Err(node.missing(NAME)),
        Some(0) => Err(node.bad(NAME, "is 0")),
        Some(count) if count > version.max_vcpus() => Err(node.bad(NAME, if version == Version::V2 { TOO_MANY_V2 } else { TOO_MANY_V3 })),
        Some(count) => Ok(count),
    }
}

fn enhanced(node: Node<'_>, info: &HostInfo) -> Result<Enhanced, BootError> {
    const NAME: &str = "xen,enhanced";
    let enhanced = match node.property(NAME) {
        None => return Ok(Enhanced::No),
        Some([]) => Enhanced::Full,
        Some(_) => match node.text(NAME) {
            Some("enabled") => Enhanced::Full,
            Some("no-xenstore") => Enhanced::WithoutStore,
            Some("disabled") => Enhanced::No,
            _ => return Err(node.bad(NAME, "is none of \"enabled\", \"no-xenstore\" and \"disabled\"")),
        },
    };
    if enhanced == Enhanced::Full && info.module(ModuleKind::Kernel).is_none() {
        return Err(node.bad(NAME, "asks for the store of a Dom0, and there is no Dom0; \"no-xenstore\" asks for the rest"));
    }
    Ok(enhanced)
}

fn spis(node: Node<'_>, vpl011: bool) -> Result<Option<u32>, BootError> {
    const NAME: &str = "nr_spis";
    match optional(node, NAME)? {
        Some(0) if vpl011 => Err(node.bad(NAME, "is 0, and vpl011 needs one")),
        Some(count) if count > MAX_SPIS => Err(node.bad(NAME, "is more than 988")),
        count => Ok(count),
    }
}

fn limit(node: Node<'_>, name: &'static str) -> Result<Option<u32>, BootError> {
    let limit = optional(node, name)?;
    if limit.is_some_and(|limit| limit > i32::MAX as u32) { Err(node.bad(name, "overflows")) } else { Ok(limit) }
}

impl DomuConfig {
    /// Pages that its page tables may use. Without a property for it: a MiB for each vCPU, two pages for each MiB, and one for address space
    /// in which it maps others' pages, as Xen reckons.
    pub fn pool(&self) -> u64 {
        self.pool.unwrap_or_else(|| (MIB * (u64::from(self.vcpus) + 1)) / PAGE_SIZE + 2 * self.memory.div_ceil(MIB))
    }

    #[cfg(test)]
    pub(crate) fn for_tests(node: &str, memory: u64, enhanced: Enhanced, kernel: BootModule) -> Self {
        let (spis, max_grant_frames, max_maptrack_frames, pool) = (None, None, None, Some(1 << 20));
        let (node, vcpus, vpl011, ramdisk, devices) = (node.into(), 1, true, None, None);
        Self { node, memory, vcpus, vpl011, enhanced, spis, max_grant_frames, max_maptrack_frames, pool, kernel, ramdisk, devices }
    }

    /// Where the guest has its memory.
    pub fn banks(&self) -> Vec<Region> {
        let first = self.memory.min(arch::GUEST_RAM0_SIZE);
        let banks = [(arch::GUEST_RAM0_BASE, first), (arch::GUEST_RAM1_BASE, self.memory - first)];
        banks.into_iter().filter(|(_, size)| *size != 0).filter_map(|(start, size)| Region::new(start, size)).collect()
    }
}

/// How a domain is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomuPlan {
    /// Its memory, guest physical.
    pub banks: Vec<Region>,
    /// The kernel: a file to copy. It is entered at its first byte, with [`DomuPlan::tree_at`] in x0.
    pub kernel: GuestFile,
    /// The ramdisk: a file to copy.
    pub ramdisk: Option<GuestFile>,
    /// Where [`DomuPlan::tree`] goes.
    pub tree_at: Ipa,
    /// The device tree, a blob.
    pub tree: Vec<u8>,
    /// Guest physical address space for foreign pages.
    pub extended: Vec<Region>,
    /// Registers of the machine that it gets.
    pub mmio: Vec<Mapping>,
    /// Interrupts of the machine that it gets.
    pub interrupts: Vec<Line>,
}

/// A file to copy into a guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestFile {
    /// Where the boot loader put it.
    pub from: Region,
    /// Where it goes.
    pub to: Ipa,
}

/// Plans a domain. `kernel_start`: the first bytes of its kernel, at least [`super::image::HEADER_SIZE`] if it is so long; `ipa_bits`: width
/// of guest physical addresses; `devices`: what its tree of devices says.
pub fn plan(
    config: &DomuConfig,
    host: &HostTree<'_>,
    kernel_start: &[u8],
    devices: Option<&DomuDevices<'_>>,
    version: Version,
    ipa_bits: u8,
) -> Result<DomuPlan, BootError> {
    let kernel = KernelImage::parse(kernel_start, config.kernel.region.size()).map_err(|why| match why {
        BootError::BadKernel(why) => BootError::DomainModule { node: config.kernel.node.clone(), why },
        other => other,
    })?;
    let banks = config.banks();
    let none = || BootError::DomainMemory { node: config.node.clone(), asked: config.memory, free: 0 };
    let first = *banks.first().ok_or_else(none)?;
    if banks.iter().any(|bank| bank.end().0 > 1 << ipa_bits) {
        return Err(none());
    }
    let mmio = devices.map_or(Vec::new(), |devices| devices.mmio.clone());
    // What the guest has there already, memory and on a GICv2 the hardware's CPU interface, is not mapped over.
    let own = Region::new(arch::GUEST_GICC_BASE, arch::GUEST_GICC_SIZE).into_iter().chain(banks.iter().copied());
    let is_taken = |at: Region| own.clone().any(|own| own.overlaps(at)) || at.end().0 > 1 << ipa_bits;
    if mmio.iter().any(|device| Region::new(device.to.0 << PAGE_SHIFT, device.pages << PAGE_SHIFT).is_none_or(is_taken)) {
        const WHY: &str = "it puts a device where the domain has memory or cannot address it";
        return Err(BootError::DomainModule {
            node: config.devices.as_ref().map_or_else(String::new, |module| module.node.clone()),
            why: WHY,
        });
    }
    let extended = if config.enhanced == Enhanced::No { Vec::new() } else { extended(&banks, ipa_bits) };
    let mut input = TreeInput { host, config, version, banks: &banks, extended: &extended, ramdisk: config.ramdisk, devices };
    // The ramdisk's address is not known yet; the size of the tree does not depend on it.
    let size = domu_tree::build(&input).len() as u64;
    let files = place_boot_files(first, kernel, size, config.ramdisk.map_or(0, Region::size)).map_err(|why| match why {
        BootError::BootFilesDoNotFit { needed, bank } => BootError::DomainFiles { node: config.node.clone(), needed, bank },
        other => other,
    })?;
    input.ramdisk = config.ramdisk.and_then(|file| Region::new(files.ramdisk.0, file.size()));
    let tree = domu_tree::build(&input);
    Ok(DomuPlan {
        kernel: GuestFile { from: config.kernel.region, to: Ipa(files.kernel.0) },
        ramdisk: config.ramdisk.map(|from| GuestFile { from, to: Ipa(files.ramdisk.0) }),
        tree_at: Ipa(files.tree.0),
        tree,
        extended,
        mmio,
        interrupts: devices.map_or(Vec::new(), |devices| devices.interrupts.clone()),
        banks,
    })
}

/// What of the guest's RAM banks has no RAM: address space for foreign pages, in pieces of at least 64 MiB.
fn extended(banks: &[Region], ipa_bits: u8) -> Vec<Region> {
    let all = [(arch::GUEST_RAM0_BASE, arch::GUEST_RAM0_SIZE), (arch::GUEST_RAM1_BASE, arch::GUEST_RAM1_SIZE)];
    let free = |(base, size): (u64, u64)| {
        let used = banks.iter().find(|bank| bank.start().0 == base).map_or(0, |bank| bank.size());
        let start = base.checked_add(used)?.checked_next_multiple_of(2 * MIB)?;
        let end = (base + size).min(1_u64.checked_shl(ipa_bits.into()).unwrap_or(u64::MAX));
        Region::between(start, end).filter(|region| region.size() >= 64 * MIB)
    };
    all.into_iter().filter_map(free).collect()
}

#[cfg(test)]
mod tests;
