//! What the host's device tree says about the hardware that EL2 itself drives.

use alloc::vec::Vec;
use core::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

/// The hardware.
#[derive(Debug, Default)]
pub struct Platform {
    /// Banks of RAM, machine addresses.
    pub ram: Vec<Range<u64>>,
    /// Affinity (MPIDR bits) of each CPU.
    pub cpus: Vec<u64>,
    /// The console's PL011: registers and interrupt.
    pub uart: Option<(u64, u32)>,
    /// GICD.
    pub distributor: Option<Range<u64>>,
    /// GICR regions.
    pub redistributors: Vec<Range<u64>>,
}

fn cells(node: FdtNode<'_>, property: &str) -> Vec<u32> {
    let Some(property) = node.property(property) else { return Vec::new() };
    property.value().chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn ranges(node: FdtNode<'_>) -> Vec<Range<u64>> {
    let Ok(Some(reg)) = node.reg() else { return Vec::new() };
    reg.filter_map(|r| {
        let start: u64 = r.address().ok()?;
        let size: u64 = r.size().ok()?;
        Some(start..start.checked_add(size)?)
    })
    .collect()
}

/// The interrupt number of the `n`th interrupt of a node whose parent is a GIC.
fn intid(node: FdtNode<'_>, n: usize) -> Option<u32> {
    let cells = cells(node, "interrupts");
    let interrupt = cells.chunks_exact(3).nth(n)?;
    interrupt[1].checked_add(if interrupt[0] == 1 { 16 } else { 32 })
}

fn walk<'a>(node: FdtNode<'a>, visit: &mut dyn FnMut(FdtNode<'a>)) {
    visit(node);
    for child in node.children() {
        walk(child, visit);
    }
}

/// Reads the tree.
pub fn parse(fdt: Fdt<'_>) -> Platform {
    let mut platform = Platform::default();
    walk(fdt.root(), &mut |node| {
        let device_type = node.property("device_type");
        let is_type = |name: &[u8]| device_type.as_ref().is_some_and(|p| p.value() == name);
        if is_type(b"memory\0") {
            platform.ram.extend(ranges(node));
        } else if is_type(b"cpu\0") {
            let reg = cells(node, "reg");
            platform.cpus.push(reg.iter().fold(0, |id, cell| id << 32 | u64::from(*cell)));
        } else if node.is_compatible("arm,gic-v3") {
            let mut regions = ranges(node).into_iter();
            platform.distributor = regions.next();
            let count = cells(node, "#redistributor-regions").first().copied().unwrap_or(1);
            platform.redistributors.extend(regions.take(count as usize));
        } else if node.is_compatible("arm,pl011") && platform.uart.is_none() {
            platform.uart = ranges(node).first().map(|r| (r.start, intid(node, 0).unwrap_or(0)));
        }
    });
    platform
}
