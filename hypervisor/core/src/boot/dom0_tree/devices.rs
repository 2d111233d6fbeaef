//! The devices that Dom0 gets with its tree: registers to map and interrupts to route.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::policy::{Fate, Policy, is_passed_through};
use crate::boot::fdt::{Interrupt, Node};
use crate::boot::host_tree::{GicKind, HostInfo, Uart};
use crate::boot::region::{merge, subtract};
use crate::boot::{BootError, HostTree, Region};
use crate::machine::Trigger;

/// The devices that Dom0 gets.
#[derive(Default)]
pub struct Devices {
    /// Registers: whole pages, sorted, merged; nothing of the GIC (v2m frames aside), of our UART or of RAM that is not reserved.
    pub mmio: Vec<Region>,
    /// SPIs, each once, sorted.
    pub interrupts: Vec<Interrupt>,
    /// Registers of the devices that are marked to be passed to domains: Dom0 gives them away, and has them not.
    pub offered_mmio: Vec<Region>,
    /// SPIs of these, but for those of Dom0's own devices.
    pub offered_interrupts: Vec<Interrupt>,
    /// One line for each node that cannot be used.
    pub warnings: Vec<String>,
}

/// Collects what the nodes of Dom0's tree need.
pub fn devices(tree: &HostTree<'_>, info: &HostInfo, uart: &Uart) -> Result<Devices, BootError> {
    let policy = Policy::new(tree, uart)?;
    let mut found = Devices::default();
    collect(tree.root(), &policy, &mut found);
    let ours = not_for_domains(info, uart);
    found.mmio = subtract(&found.mmio, &ours);
    found.offered_mmio = subtract(&found.offered_mmio, &ours);
    for frame in &info.v2m {
        found.mmio.push(frame.registers.pages_outward());
        let (first, count) = frame.spis.unwrap_or_default();
        found.interrupts.extend((first..first.saturating_add(count)).map(|intid| Interrupt { intid, trigger: Trigger::Edge }));
    }
    found.mmio = merge(found.mmio);
    tidy(&mut found.interrupts, uart);
    tidy(&mut found.offered_interrupts, uart);
    let own = &found.interrupts;
    found.offered_interrupts.retain(|line| own.binary_search_by_key(&line.intid, |own| own.intid).is_err());
    Ok(found)
}

/// Leaves the SPIs that are not our UART's, each once, sorted.
fn tidy(lines: &mut Vec<Interrupt>, uart: &Uart) {
    lines.retain(|line| !line.is_private() && uart.interrupt.is_none_or(|ours| ours.intid != line.intid));
    // Stable: of two devices on one line the first in the tree decides the trigger.
    lines.sort_by_key(|line| line.intid);
    lines.dedup_by_key(|line| line.intid);
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
    let (mmio, interrupts) = match is_passed_through(node) {
        true => (&mut found.offered_mmio, &mut found.offered_interrupts),
        false => (&mut found.mmio, &mut found.interrupts),
    };
    mmio.extend(node.reg()?.into_iter().map(Region::pages_outward));
    interrupts.extend(node.interrupts(gic)?);
    if node.text("device_type") == Some("pci") {
        // The functions behind a host bridge are found by probing: Dom0 gets the bridge's windows and lines.
        for window in node.ranges()? {
            let on_cpu_bus = node.parent().map_or(Ok(None), |bus| bus.translate(window.parent))?;
            mmio.extend(on_cpu_bus.map(Region::pages_outward));
        }
        interrupts.extend(node.mapped_interrupts(gic)?);
    }
    Ok(())
}

/// What no domain must reach through a device node: our UART, the physical GIC, and RAM other than that reserved for devices.
pub(in crate::boot) fn not_for_domains(info: &HostInfo, uart: &Uart) -> Vec<Region> {
    let mut ours = subtract(&info.ram, &info.reserved);
    ours.push(uart.registers);
    ours.extend(info.its.iter().map(|its| its.registers));
    match &info.gic.kind {
        GicKind::V2 { gicd, gicc, gich, gicv } => ours.extend([*gicd, *gicc, *gich, *gicv]),
        GicKind::V3 { gicd, redistributors, .. } => {
            ours.push(*gicd);
            ours.extend_from_slice(redistributors);
        }
    }
    ours.into_iter().map(Region::pages_outward).collect()
}
