//! Boot modules (kernel, ramdisk, …) under `/chosen`, and whose command line is which.
//!
//! Source: Xen's docs/misc/arm/device-tree/booting.txt. GRUB and QEMU's guest-loader write such nodes; U-Boot scripts do by hand.

use alloc::string::String;
use alloc::vec::Vec;

use crate::boot::fdt::Node;
use crate::boot::{BootError, HostTree, Region};

/// Xen's MAX_MODULES.
const MAX_MODULES: usize = 32;

/// What a boot module is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleKind {
    /// A kernel.
    Kernel,
    /// An initial ramdisk.
    Ramdisk,
    /// An XSM policy: accepted, not used.
    Policy,
    /// A partial device tree for a domain.
    DeviceTree,
    /// Nothing that we know.
    Unknown,
}

/// A file that the boot loader put into RAM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootModule {
    /// What it is, by `compatible` or by its place among modules that do not say.
    pub kind: ModuleKind,
    /// Where it lies.
    pub region: Region,
    /// Its command line.
    pub bootargs: Option<String>,
    /// Path of its node, for messages.
    pub node: String,
    /// Whether it is for a domain other than Dom0: its parent is a `xen,domain` node.
    pub for_domu: bool,
}

/// Who gets which command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandLines {
    /// Ours.
    pub xen: String,
    /// Dom0's; `None` if there is none at all.
    pub dom0: Option<String>,
}

/// Node compatibles that mark a boot module.
pub(in crate::boot) const MODULE: &[&str] = &["xen,multiboot-module", "multiboot,module"];

/// All boot modules: marked nodes down to depth 3 below `/chosen`, then the ramdisk of `linux,initrd-start`.
pub(super) fn modules(tree: &HostTree<'_>) -> Result<Vec<BootModule>, BootError> {
    let mut modules = Vec::new();
    let mut unknown = 0;
    for node in module_nodes(tree) {
        let region = *node.memory_reg()?.first().ok_or_else(|| node.missing("reg"))?;
        let for_domu = node.parent().is_some_and(|parent| parent.is_compatible("xen,domain"));
        let kind = stated_kind(node).unwrap_or_else(|| {
            unknown += 1;
            // Loaders that state no kind (GRUB) load the kernel first, then the ramdisk.
            match unknown {
                1 => ModuleKind::Kernel,
                2 => ModuleKind::Ramdisk,
                _ => ModuleKind::Unknown,
            }
        });
        let bootargs = node.text("bootargs").map(Into::into);
        modules.push(BootModule { kind, region, bootargs, node: node.path(), for_domu });
    }
    modules.extend(initrd(tree)?);
    if modules.len() > MAX_MODULES { Err(BootError::TooMany { what: "boot modules", limit: MAX_MODULES }) } else { Ok(modules) }
}

fn module_nodes<'t>(tree: &'t HostTree<'t>) -> impl Iterator<Item = Node<'t>> {
    let chosen = tree.root().child("chosen");
    let below = chosen.into_iter().flat_map(|chosen| chosen.children().flat_map(|child| core::iter::once(child).chain(child.children())));
    below.filter(|node| node.is_any_of(MODULE) && node.is_enabled())
}

fn stated_kind(node: Node<'_>) -> Option<ModuleKind> {
    node.texts("compatible").find_map(|compatible| match compatible {
        "xen,linux-zimage" | "multiboot,kernel" => Some(ModuleKind::Kernel),
        "xen,linux-initrd" | "multiboot,ramdisk" => Some(ModuleKind::Ramdisk),
        "xen,xsm-policy" => Some(ModuleKind::Policy),
        "multiboot,device-tree" => Some(ModuleKind::DeviceTree),
        _ => None,
    })
}

/// The ramdisk as Linux' own boot protocol names it.
fn initrd(tree: &HostTree<'_>) -> Result<Option<BootModule>, BootError> {
    let Some(chosen) = tree.root().child("chosen") else { return Ok(None) };
    if !chosen.has("linux,initrd-start") {
        return Ok(None);
    }
    let start = chosen.number("linux,initrd-start").ok_or_else(|| chosen.bad("linux,initrd-start", "is not one or two cells"))?;
    let end = chosen.number("linux,initrd-end").ok_or_else(|| chosen.missing("linux,initrd-end"))?;
    let region = Region::between(start, end).ok_or_else(|| chosen.bad("linux,initrd-end", "is not after linux,initrd-start"))?;
    Ok(Some(BootModule { kind: ModuleKind::Ramdisk, region, bootargs: None, node: chosen.path(), for_domu: false }))
}

/// Refuses modules that are not in RAM or lie on each other.
pub(super) fn check_placement(modules: &[BootModule], ram: &[Region]) -> Result<(), BootError> {
    for (index, module) in modules.iter().enumerate() {
        if !ram.iter().any(|bank| bank.intersection(module.region) == Some(module.region)) {
            return Err(BootError::ModuleOutsideRam { node: module.node.clone(), region: module.region });
        }
        // One file may be for several domains.
        let is_same = |other: &BootModule| other.region == module.region && other.kind == module.kind;
        if let Some(other) = modules.iter().take(index).find(|other| other.region.overlaps(module.region) && !is_same(other)) {
            let (what, with) = (other.node.clone(), module.node.clone());
            return Err(BootError::Overlap { what, a: other.region, with, b: module.region });
        }
    }
    Ok(())
}

impl HostTree<'_> {
    /// Whose command line is which (Xen's docs/misc/arm/device-tree/booting.txt, "Command lines").
    pub fn command_lines(&self) -> CommandLines {
        let chosen = self.root().child("chosen");
        let text = |name: &str| chosen.and_then(|chosen| chosen.text(name));
        let kernel_args = module_nodes(self)
            .find(|node| node.parent() == chosen && stated_kind(*node).is_none_or(|kind| kind == ModuleKind::Kernel))
            .and_then(|node| node.text("bootargs"));
        let (bootargs, for_xen, for_dom0) = (text("bootargs"), text("xen,xen-bootargs"), text("xen,dom0-bootargs"));
        let bootargs_are_ours = for_xen.is_none() && (for_dom0.is_some() || kernel_args.is_some());
        let xen = for_xen.or(bootargs.filter(|_| bootargs_are_ours)).unwrap_or_default();
        let dom0 = for_dom0.or(kernel_args).or(bootargs.filter(|_| !bootargs_are_ours));
        CommandLines { xen: xen.into(), dom0: dom0.map(Into::into) }
    }
}
