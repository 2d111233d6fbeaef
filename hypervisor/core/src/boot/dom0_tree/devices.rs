//! The devices that Dom0 gets with its tree: registers to map and interrupts to route.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::policy::{Fate, Policy};
use crate::boot::fdt::{Interrupt, Node};
use crate::boot::host_tree::{GicKind, HostInfo, Uart};
use crate::boot::region::{merge, subtract};
use crate::boot::{BootError, HostTree, Region};
use crate::machine::Trigger;

/// The devices that Dom0 gets.
pub struct Devices {
    /// Registers: whole pages, sorted, merged; nothing of the GIC (v2m frames aside), of our UART or of RAM that is not reserved.
    pub mmio: Vec<Region>,
    /// SPIs, each once, sorted.
    pub interrupts: Vec<Interrupt>,
    /// One line for each node that cannot be used.
    pub warnings: Vec<String>,
}

/// Collects what the nodes of Dom0's tree need.
pub fn devices(tree: &HostTree<'_>, info: &HostInfo, uart: &Uart) -> Result<Devices, BootError> {
    let policy = Policy::new(tree, &uart.node)?;
    let mut found = Devices { mmio: Vec::new(), interrupts: Vec::new(), warnings: Vec::new() };
    collect(tree.root(), &policy, &mut found);
    found.mmio = subtract(&found.mmio, &not_for_dom0(info, uart));
    for frame in &info.v2m {
        found.mmio.push(frame.registers.pages_outward());
        let (first, count) = frame.spis.unwrap_or_default();
        found.interrupts.extend((first..first.saturating_add(count)).map(|intid| Interrupt { intid, trigger: Trigger::Edge }));
    }
    found.mmio = merge(found.mmio);
    found.interrupts.retain(|line| !line.is_private() && uart.interrupt.is_none_or(|ours| ours.intid != line.intid));
    // Stable: of two devices on one line the first in the tree decides the trigger.
    found.interrupts.sort_by_key(|line| line.intid);
    found.interrupts.dedup_by_key(|line| line.intid);
    Ok(found)
}

fn collect<'t>(node: Node<'t>, policy: &Policy<'t>, found: &mut Devices) {
    match policy.fate(node) {
        Fate::Keep => {}
        Fate::Broken(error) => return found.warnings.push(format!("{error}: Dom0 does not get it")),
        Fate::Drop | Fate::Gic | Fate::Timer => return,
    }
    if let Err(error) = collect_one(node, policy.gic, found) {
        found.warnings.push(format!("{error}: part of it is not mapped to Dom0"));
    }
    for child in node.children() {
        collect(child, policy, found);
    }
}

fn collect_one<'t>(node: Node<'t>, gic: Node<'t>, found: &mut Devices) -> Result<(), BootError> {
    found.mmio.extend(node.reg()?.into_iter().map(Region::pages_outward));
    found.interrupts.extend(node.interrupts(gic)?);
    if node.text("device_type") == Some("pci") {
        // The functions behind a host bridge are found by probing: Dom0 gets the bridge's windows and lines.
        for window in node.ranges()? {
            let on_cpu_bus = node.parent().map_or(Ok(None), |bus| bus.translate(window.parent))?;
            found.mmio.extend(on_cpu_bus.map(Region::pages_outward));
        }
        found.interrupts.extend(node.mapped_interrupts(gic)?);
    }
    Ok(())
}

/// What Dom0 must not reach through a device node: our UART, the physical GIC, and RAM other than that reserved for devices.
fn not_for_dom0(info: &HostInfo, uart: &Uart) -> Vec<Region> {
    let mut ours = subtract(&info.ram, &info.reserved);
    ours.push(uart.registers);
    match &info.gic.kind {
        GicKind::V2 { gicd, gicc, gich, gicv } => ours.extend([*gicd, *gicc, *gich, *gicv]),
        GicKind::V3 { gicd, redistributors, .. } => {
            ours.push(*gicd);
            ours.extend_from_slice(redistributors);
        }
    }
    ours.into_iter().map(Region::pages_outward).collect()
}
