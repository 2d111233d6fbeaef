//! Which nodes and properties of the host's tree Dom0 gets.

use crate::boot::fdt::Node;
use crate::boot::host_tree::Uart;
use crate::boot::host_tree::{GIC_V2, GIC_V3, MODULE, TIMER};
use crate::boot::{BootError, HostTree, Region};

/// What becomes of a node.
pub(super) enum Fate {
    /// It is copied; its device is Dom0's.
    Keep,
    /// It and all below is left out.
    Drop,
    /// Left out because its device cannot be described.
    Broken(BootError),
    /// It is the interrupt controller: replaced by the virtual one.
    Gic,
    /// It is the architected timer: replaced by the virtual one.
    Timer,
}

/// Nodes about the hypervisor and its domains, firmware that is not Dom0's to call, and devices that cannot be shared.
const DROPPED: &[&str] = &[
    "xen,domain",
    "xen,domain-shared-memory-v1",
    "xen,evtchn-v1",
    "xen,xen",
    "arm,psci",
    "arm,psci-0.2",
    "arm,psci-1.0",
    "arm,cortex-a7-pmu",
    "arm,cortex-a15-pmu",
    "arm,cortex-a53-edac",
    "arm,armv8-pmuv3",
    "arm,armv7-timer-mem",
];
/// IOMMUs that Debian's Xen has a driver for: never Dom0's, whether they are used or not.
const IOMMU: &[&str] = &["arm,smmu-v1", "arm,smmu-v2", "arm,mmu-400", "arm,mmu-401", "arm,mmu-500"];
/// Names below the root that we use ourselves.
const RESERVED_NAMES: &[&str] = &["cpus", "psci", "memory", "hypervisor"];

/// Decides node by node.
pub(super) struct Policy<'t> {
    /// The interrupt controller.
    pub gic: Node<'t>,
    uart: Option<Node<'t>>,
    uart_pages: Region,
}

impl<'t> Policy<'t> {
    /// For a machine whose UART, this one, is ours.
    pub fn new(tree: &'t HostTree<'t>, uart: &Uart) -> Result<Self, BootError> {
        let gic = tree.gic_node().ok_or(BootError::NoGic)?;
        Ok(Self { gic, uart: tree.find(&uart.node), uart_pages: uart.registers.pages_outward() })
    }

    /// What becomes of `node`, given that its parent is kept.
    pub fn fate(&self, node: Node<'t>) -> Fate {
        if node.parent().is_none() {
            return Fate::Keep;
        }
        if node == self.gic {
            return Fate::Gic;
        }
        if node.is_any_of(TIMER) {
            return Fate::Timer;
        }
        let is_reserved = node.depth() == 1 && RESERVED_NAMES.contains(&node.name());
        let is_known = [DROPPED, MODULE, IOMMU, GIC_V2, GIC_V3].iter().any(|list| node.is_any_of(list));
        if is_reserved || is_known || node.text("device_type") == Some("memory") || self.uart == Some(node) {
            return Fate::Drop;
        }
        match node.reg().and_then(|registers| Ok((registers, node.interrupts(self.gic)?))) {
            // It could not be mapped without our UART, as the clock gates beside the mini UART of a Raspberry Pi 4.
            Ok((registers, _)) if registers.iter().any(|registers| self.is_beside_uart(*registers)) => Fate::Drop,
            // A PPI cannot be given to a domain.
            Ok((_, lines)) if lines.iter().any(|line| line.is_private()) => Fate::Drop,
            Ok(_) => Fate::Keep,
            Err(error) => Fate::Broken(error),
        }
    }

    /// Whether the registers are in pages of our UART alone.
    fn is_beside_uart(&self, registers: Region) -> bool {
        let (here, uart) = (registers.pages_outward(), self.uart_pages);
        here.size() != 0 && uart.start() <= here.start() && here.end() <= uart.end()
    }
}

/// Whether the node's device is to be passed to a domain: Dom0 knows of it, disabled, and does not get it.
pub(super) fn is_passed_through(node: Node<'_>) -> bool {
    node.has("xen,passthrough")
}

/// Whether a property of a copied node is left out: references to IOMMUs, which Dom0 has not, notes to us, and what is written anew.
pub(super) fn is_dropped_property(node: Node<'_>, property: &str) -> bool {
    let (name, cell) = match property {
        "xen,passthrough" => return true,
        "status" => return is_passed_through(node),
        "iommus" => ("iommus", 0),
        "iommu-map" | "iommu-map-mask" => ("iommu-map", 1),
        _ => return false,
    };
    node.phandle_in(name, cell).is_some_and(|iommu| iommu.is_any_of(IOMMU))
}
