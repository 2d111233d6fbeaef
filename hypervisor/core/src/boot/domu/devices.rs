//! The devices of a domain of the device tree: a tree of its own (`multiboot,device-tree`) that says what the guest is told of them, and which of
//! the machine's they are.
//!
//! Of that tree `/aliases` and `/passthrough` are copied, and `/gic` says by which phandle its nodes know the interrupt controller. Source: Xen's
//! docs/misc/arm/passthrough.txt and passthrough-noiommu.txt. There is no IOMMU: each device must say `xen,force-assign-without-iommu`.

use alloc::string::String;
use alloc::vec::Vec;

use crate::addr::{Gfn, Mfn, PAGE_SHIFT, PAGE_SIZE};
use crate::boot::dom0_tree::not_for_domains;
use crate::boot::fdt::{Node, TreeWriter, take_cells};
use crate::boot::host_tree::{BootModule, HostInfo, Uart};
use crate::boot::{BootError, HostTree, Interrupt, Region};
use guest_abi::arch_arm::GUEST_PHANDLE_GIC;

/// Nodes of the tree that are copied; below the second are devices.
const COPIED: [&str; 2] = ["aliases", "passthrough"];
const REG: &str = "xen,reg";
const PATH: &str = "xen,path";
const FORCE: &str = "xen,force-assign-without-iommu";

/// What a domain gets of the machine's devices.
pub struct DomuDevices<'a> {
    tree: HostTree<'a>,
    /// Registers.
    pub mmio: Vec<Mapping>,
    /// Interrupts.
    pub interrupts: Vec<Line>,
}

/// Registers of the machine in a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The first page.
    pub from: Mfn,
    /// Where the guest has it.
    pub to: Gfn,
    /// How many.
    pub pages: u64,
}

/// An interrupt of the machine in a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The interrupt.
    pub interrupt: Interrupt,
    /// Path of its device in the machine's tree, for messages.
    pub node: String,
}

impl<'a> DomuDevices<'a> {
    /// Reads the tree in `blob`, which is the module `module`.
    pub fn read(module: &BootModule, blob: &'a [u8], host: &HostTree<'_>, info: &HostInfo, uart: &Uart) -> Result<Self, BootError> {
        let damaged = |_| BootError::DomainModule { node: module.node.clone(), why: "it is no device tree, or a damaged one" };
        let mut devices = Self { tree: HostTree::parse(blob).map_err(damaged)?, mmio: Vec::new(), interrupts: Vec::new() };
        let (mut mmio, mut interrupts) = (Vec::new(), Vec::new());
        let ours = not_for_domains(info, uart);
        let below = devices.tree.nodes().filter(|node| top(*node).name() == COPIED[1]);
        for node in below {
            if !assigned(node)? {
                continue;
            }
            for (mapping, region) in mappings(node)? {
                if ours.iter().any(|ours| ours.overlaps(region)) {
                    return Err(node.bad(REG, "names memory, the interrupt controller or the console's UART"));
                }
                mmio.push(mapping);
            }
            if let Some(path) = node.text(PATH) {
                let device = host.find(path).ok_or_else(|| node.bad(PATH, "names no node of the machine's device tree"))?;
                let gic = host.gic_node().ok_or(BootError::NoGic)?;
                for interrupt in device.interrupts(gic)? {
                    if interrupt.is_private() || uart.interrupt.is_some_and(|ours| ours.intid == interrupt.intid) {
                        return Err(device.bad("interrupts", "cannot be given to a domain"));
                    }
                    interrupts.push(Line { interrupt, node: device.path() });
                }
            }
        }
        (devices.mmio, devices.interrupts) = (mmio, interrupts);
        Ok(devices)
    }

    /// The phandle of the guest's interrupt controller.
    pub fn gic_phandle(&self) -> u32 {
        self.tree.root().child("gic").and_then(Node::phandle).unwrap_or(GUEST_PHANDLE_GIC)
    }

    /// Writes what the guest is told.
    pub fn write(&self, writer: &mut TreeWriter) {
        self.tree.root().children().filter(|node| COPIED.contains(&node.name())).for_each(|node| copy(writer, node));
    }
}

/// The node below the root that `node` is or is below; the root itself.
fn top(node: Node<'_>) -> Node<'_> {
    let mut top = node;
    while let Some(parent) = top.parent().filter(|parent| parent.parent().is_some()) {
        top = parent;
    }
    top
}

/// Whether a node names a device of the machine.
fn assigned(node: Node<'_>) -> Result<bool, BootError> {
    let has = [REG, PATH, FORCE].map(|name| node.has(name));
    match has {
        [true, _, true] => Ok(true),
        [true, true, false] => Err(node.bad(PATH, "names a device without xen,force-assign-without-iommu, and there is no IOMMU")),
        [true, false, false] => Err(node.missing(PATH)),
        [false, true, _] => Err(node.missing(REG)),
        [false, false, _] => Ok(false),
    }
}

/// `xen,reg`: machine address, size, guest address, in the cells of the bus.
fn mappings(node: Node<'_>) -> Result<Vec<(Mapping, Region)>, BootError> {
    let mut mappings = Vec::new();
    let (mut value, Some(bus)) = (node.property(REG).unwrap_or_default(), node.parent()) else { return Ok(mappings) };
    let (address, size) = (bus.address_cells(), bus.size_cells());
    if !matches!((address, size), (1 | 2, 1 | 2)) {
        return Err(node.bad(REG, "is on a bus whose addresses are not one or two cells"));
    }
    while !value.is_empty() {
        let mut next = |cells| take_cells(&mut value, cells);
        let words = next(address).zip(next(size)).zip(next(address));
        let ((from, size), to) = words.ok_or_else(|| node.bad(REG, "is cut short"))?;
        if (from | size | to) & (PAGE_SIZE - 1) != 0 || size == 0 {
            return Err(node.bad(REG, "is not whole pages"));
        }
        let region = Region::new(from, size).filter(|_| Region::new(to, size).is_some());
        let region = region.ok_or_else(|| node.bad(REG, "wraps the address space"))?;
        let page = |address: u64| address >> PAGE_SHIFT;
        mappings.push((Mapping { from: Mfn(page(from)), to: Gfn(page(to)), pages: page(size) }, region));
    }
    Ok(mappings)
}

/// Writes a node and what is below it, without what was meant for us. The depth of trees is limited, and so is the recursion.
fn copy(writer: &mut TreeWriter, node: Node<'_>) {
    writer.begin(node.name());
    let kept = node.properties().filter(|(name, _)| ![REG, PATH, FORCE].contains(name));
    kept.for_each(|(name, value)| writer.property(name, value));
    node.children().for_each(|child| copy(writer, child));
    writer.end();
}
