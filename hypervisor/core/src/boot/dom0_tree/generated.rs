//! Nodes that describe the virtual machine: interrupt controller, timer, hypervisor, firmware, CPUs, memory.

use alloc::format;
use alloc::vec::Vec;

use super::TreeInput;
use crate::boot::dom0::vcpu_affinity;
use crate::boot::fdt::{Node, TreeWriter};
use crate::boot::host_tree::{GicKind, HostInfo, cpu_nodes};
use crate::boot::{BootError, HostTree, Region};

/// Flags of a PPI in the binding arm,gic: all of 4 (or more) CPUs, active low.
const PPI_FLAGS: u32 = 0xf08;
const PPI: u32 = 1;
/// Properties of the host's interrupt controller that the virtual one keeps.
const GIC_KEPT: &[&str] = &["phandle", "linux,phandle", "#address-cells", "#size-cells", "#interrupt-cells"];

fn ppi(intid: u32) -> [u32; 3] {
    [PPI, intid.saturating_sub(16), PPI_FLAGS]
}

/// The virtual interrupt controller: same version and addresses as the host's, without what a guest has not.
pub(super) fn gic(writer: &mut TreeWriter, node: Node<'_>, info: &HostInfo) -> Result<(), BootError> {
    writer.begin("interrupt-controller");
    for (name, value) in GIC_KEPT.iter().filter_map(|name| Some((name, node.property(name)?))) {
        writer.property(name, value);
    }
    writer.property("interrupt-controller", &[]);
    writer.property("compatible", node.property("compatible").unwrap_or_default());
    match &info.gic.kind {
        GicKind::V2 { .. } => {
            writer.property("reg", leading_reg(node, 2)?);
            v2m_frames(writer, node, info)?;
        }
        GicKind::V3 { redistributors, stride, .. } => {
            writer.cells("#redistributor-regions", &[redistributors.len() as u32]);
            if stride.is_some() {
                writer.property("redistributor-stride", node.property("redistributor-stride").unwrap_or_default());
            }
            writer.property("reg", leading_reg(node, 1 + redistributors.len())?);
            its(writer, node, info)?;
        }
    }
    writer.end();
    Ok(())
}

/// The first `count` entries of `reg`, as the host has them.
fn leading_reg(node: Node<'_>, count: usize) -> Result<&[u8], BootError> {
    let cells = node.parent().map_or(0, |bus| bus.address_cells().saturating_add(bus.size_cells()));
    let reg = node.property("reg").and_then(|reg| reg.get(..(cells as usize).saturating_mul(4).saturating_mul(count)));
    reg.ok_or_else(|| node.bad("reg", "is cut short"))
}

/// The ITS, emulated where the host's is.
fn its(writer: &mut TreeWriter, gic: Node<'_>, info: &HostInfo) -> Result<(), BootError> {
    let Some(its) = &info.its else { return Ok(()) };
    let Some(node) = gic.children().find(|child| child.path() == its.node) else { return Ok(()) };
    writer.property("ranges", gic.property("ranges").unwrap_or_default());
    writer.begin(node.name());
    writer.text("compatible", "arm,gic-v3-its");
    writer.property("msi-controller", &[]);
    writer.cells("#msi-cells", &[1]);
    if let Some(phandle) = node.phandle() {
        writer.cells("phandle", &[phandle]);
    }
    writer.property("reg", leading_reg(node, 1)?);
    writer.end();
    Ok(())
}

/// The frames that turn MSIs into SPIs: Dom0 has them directly.
fn v2m_frames(writer: &mut TreeWriter, gic: Node<'_>, info: &HostInfo) -> Result<(), BootError> {
    let usable = || info.v2m.iter().filter_map(|frame| Some((frame, frame.spis?)));
    if usable().next().is_none() {
        return Ok(());
    }
    writer.property("ranges", gic.property("ranges").unwrap_or_default());
    for (number, (frame, (first, count))) in usable().enumerate() {
        let Some(node) = gic.children().find(|child| child.path() == frame.node) else { continue };
        if number == 0 {
            writer.begin("v2m")
        } else {
            writer.begin(&format!("v2m-{number}"))
        }
        writer.text("compatible", "arm,gic-v2m-frame");
        writer.property("msi-controller", &[]);
        if let Some(phandle) = node.phandle() {
            writer.cells("phandle", &[phandle]);
        }
        writer.property("reg", leading_reg(node, 1)?);
        writer.cells("arm,msi-base-spi", &[first]);
        writer.cells("arm,msi-num-spis", &[count]);
        writer.end();
    }
    Ok(())
}

/// The architected timer, without the hypervisor's.
pub(super) fn timer(writer: &mut TreeWriter, node: Node<'_>, input: &TreeInput<'_>) -> Result<(), BootError> {
    let timer = &input.info.timer;
    writer.begin("timer");
    writer.text("compatible", "arm,armv8-timer");
    writer.cells("interrupts", &[ppi(timer.secure_physical), ppi(timer.physical), ppi(timer.virtual_)].concat());
    interrupt_parent(writer, input);
    if let Some(frequency) = node.property("clock-frequency") {
        writer.property("clock-frequency", frequency);
    }
    writer.end();
    Ok(())
}

fn interrupt_parent(writer: &mut TreeWriter, input: &TreeInput<'_>) {
    if let Some(phandle) = input.tree.gic_node().and_then(Node::phandle) {
        writer.cells("interrupt-parent", &[phandle]);
    }
}

/// What every guest's root has: hypervisor, firmware, CPUs, memory.
pub(super) fn virtual_machine(writer: &mut TreeWriter, root: Node<'_>, input: &TreeInput<'_>) -> Result<(), BootError> {
    hypervisor(writer, root, input)?;
    psci(writer);
    cpus(writer, input.tree, input.vcpus);
    memory(writer, root, input.banks)?;
    let reserved = reserved_memory(root)?;
    if reserved.is_empty() { Ok(()) } else { memory(writer, root, &reserved) }
}

/// Linux knows Xen by this node: its name, the string `xen,xen` and a first string of `xen,xen-<version>`.
fn hypervisor(writer: &mut TreeWriter, root: Node<'_>, input: &TreeInput<'_>) -> Result<(), BootError> {
    let mut regions = Vec::from([input.grant_window]);
    regions.extend_from_slice(input.extended);
    writer.begin("hypervisor");
    writer.texts("compatible", &["xen,xen-4.20", "xen,xen"]);
    writer.cells("reg", &reg_cells(root, &regions)?);
    writer.cells("interrupts", &ppi(input.event_ppi));
    interrupt_parent(writer, input);
    writer.end();
    Ok(())
}

/// The firmware that guests call.
pub(in crate::boot) fn psci(writer: &mut TreeWriter) {
    writer.begin("psci");
    writer.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
    writer.text("method", "hvc");
    // Of PSCI 0.1, for kernels that know no later one.
    writer.cells("cpu_off", &[1]);
    writer.cells("cpu_on", &[2]);
    writer.end();
}

/// A guest's CPUs, of the kind that the host has.
pub(in crate::boot) fn cpus(writer: &mut TreeWriter, host: &HostTree<'_>, vcpus: u32) {
    let host = cpu_nodes(host).next();
    writer.begin("cpus");
    writer.cells("#address-cells", &[1]);
    writer.cells("#size-cells", &[0]);
    for vcpu in 0..vcpus {
        let affinity = vcpu_affinity(vcpu);
        writer.begin(&format!("cpu@{affinity:x}"));
        if let Some(compatible) = host.and_then(|host| host.property("compatible")) {
            writer.property("compatible", compatible);
        }
        writer.text("device_type", "cpu");
        writer.cells("reg", &[affinity]);
        writer.text("enable-method", "psci");
        if let Some(frequency) = host.and_then(|host| host.property("clock-frequency")) {
            writer.property("clock-frequency", frequency);
        }
        writer.end();
    }
    writer.end();
}

fn memory(writer: &mut TreeWriter, root: Node<'_>, banks: &[Region]) -> Result<(), BootError> {
    let Some(first) = banks.first() else { return Ok(()) };
    writer.begin(&format!("memory@{:x}", first.start().0));
    writer.text("device_type", "memory");
    writer.cells("reg", &reg_cells(root, banks)?);
    writer.end();
    Ok(())
}

/// RAM that `/reserved-memory` sets aside for Dom0's devices: a kernel wants to see that it is RAM.
fn reserved_memory(root: Node<'_>) -> Result<Vec<Region>, BootError> {
    let mut regions = Vec::new();
    for node in root.child("reserved-memory").iter().flat_map(|parent| parent.children()).filter(|node| node.is_enabled()) {
        regions.extend(node.memory_reg()?);
    }
    Ok(crate::boot::region::merge(regions))
}

/// `reg` of a node below the root.
fn reg_cells(root: Node<'_>, regions: &[Region]) -> Result<Vec<u32>, BootError> {
    let mut cells = Vec::new();
    for region in regions {
        push_number(&mut cells, region.start().0, root.address_cells(), || root.bad("#address-cells", "cannot express Dom0's memory"))?;
        push_number(&mut cells, region.size(), root.size_cells(), || root.bad("#size-cells", "cannot express Dom0's memory"))?;
    }
    Ok(cells)
}

fn push_number(cells: &mut Vec<u32>, number: u64, count: u32, error: impl Fn() -> BootError) -> Result<(), BootError> {
    let (high, low) = ((number >> 32) as u32, number as u32);
    match count {
        1 if high == 0 => cells.push(low),
        2 => cells.extend([high, low]),
        _ => return Err(error()),
    }
    Ok(())
}
