//! The interrupt controller (bindings arm,gic and arm,gic-v3).

use alloc::string::String;
use alloc::vec::Vec;

use crate::boot::fdt::Node;
use crate::boot::{BootError, HostTree, Region};

/// Compatibles of a GICv3 (or a GICv4 used as one).
pub(in crate::boot) const GIC_V3: &[&str] = &["arm,gic-v3"];
/// Compatibles of a GICv2 with the virtualization extensions.
pub(in crate::boot) const GIC_V2: &[&str] = &["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"];

/// Xen's MAX_RDIST_COUNT is 4; boards with one region a CPU exist.
const MAX_REDISTRIBUTOR_REGIONS: usize = 128;
const PAGE_64K: u64 = 0x1_0000;

/// The interrupt controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gic {
    /// Path of its node.
    pub node: String,
    /// Architecture version and registers.
    pub kind: GicKind,
    /// The PPI of the virtual interface's maintenance interrupt (an INTID, 16..32).
    pub maintenance: u32,
}

/// Version and registers of the interrupt controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GicKind {
    /// GICv2.
    V2 {
        /// Distributor.
        gicd: Region,
        /// CPU interface. Boards list 4 or 8 KiB, or 128 KiB where each 4 KiB page is repeated 16 times.
        gicc: Region,
        /// Hypervisor's interface to the list registers.
        gich: Region,
        /// Virtual CPU interface, mapped to guests in place of `gicc`.
        gicv: Region,
    },
    /// GICv3 or later.
    V3 {
        /// Distributor.
        gicd: Region,
        /// Redistributors, one behind the other in each region.
        redistributors: Vec<Region>,
        /// Bytes from one redistributor to the next; `None`: as GICR_TYPER.VLPIS tells (two or four 64 KiB frames).
        stride: Option<u64>,
    },
}

/// A GICv2's frame that turns a write (an MSI) into an SPI (binding arm,gic-v2m-frame).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct V2mFrame {
    /// Path of its node.
    pub node: String,
    /// Its registers.
    pub registers: Region,
    /// First SPI (an INTID, 32 or more) and number of SPIs: as the tree overrides them, else `None` until [`V2mFrame::set_typer`].
    pub spis: Option<(u32, u32)>,
}

impl V2mFrame {
    /// Offset of the register MSI_TYPER, which [`V2mFrame::set_typer`] wants to know.
    pub const MSI_TYPER: u64 = 8;

    /// Takes the SPIs from the hardware's word if the tree does not say.
    pub fn set_typer(&mut self, msi_typer: u32) {
        if self.spis.is_none() {
            self.spis = spi_range(msi_typer >> 16 & 0x3ff, msi_typer & 0x3ff);
        }
    }
}

fn spi_range(first: u32, count: u32) -> Option<(u32, u32)> {
    let end = first.checked_add(count)?;
    (first >= 32 && count != 0 && end <= 1020).then_some((first, count))
}

/// A GICv3's ITS, which turns a write (an MSI) into an LPI (binding arm,gic-v3-its).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItsNode {
    /// Path of its node.
    pub node: String,
    /// Its registers, two 64 KiB frames.
    pub registers: Region,
}

/// The first ITS of a GICv3. Devices of others have no MSIs.
pub(super) fn its(tree: &HostTree<'_>) -> Result<Option<ItsNode>, BootError> {
    let gic = tree.gic_node().filter(|node| node.is_any_of(GIC_V3));
    let mut all = gic.into_iter().flat_map(|gic| gic.children()).filter(|node| node.is_compatible("arm,gic-v3-its") && node.is_enabled());
    let Some(node) = all.next() else { return Ok(None) };
    let registers = *node.reg()?.first().ok_or_else(|| node.missing("reg"))?;
    let is_whole = registers.start().is_aligned(PAGE_64K) && registers.size() >= 2 * PAGE_64K;
    Ok(is_whole.then(|| ItsNode { node: node.path(), registers }))
}

/// The v2m frames of a GICv2; a GICv3 has its ITS.
pub(super) fn v2m_frames(tree: &HostTree<'_>) -> Result<Vec<V2mFrame>, BootError> {
    let mut frames = Vec::new();
    let gic = tree.gic_node().filter(|node| node.is_any_of(GIC_V2));
    for node in gic.into_iter().flat_map(|gic| gic.children()).filter(|node| node.is_compatible("arm,gic-v2m-frame")) {
        let registers = *node.reg()?.first().ok_or_else(|| node.missing("reg"))?;
        let stated = node.u32("arm,msi-base-spi").zip(node.u32("arm,msi-num-spis"));
        frames.push(V2mFrame { node: node.path(), registers, spis: stated.and_then(|(first, count)| spi_range(first, count)) });
    }
    Ok(frames)
}

/// Reads the node of the interrupt controller.
pub(super) fn gic(tree: &HostTree<'_>) -> Result<Gic, BootError> {
    let node = tree.gic_node().ok_or(BootError::NoGic)?;
    let kind = if node.is_any_of(GIC_V3) { v3(node)? } else { v2(node)? };
    let unsupported = |why| BootError::UnsupportedGic { node: node.path(), why };
    if node.u32("#interrupt-cells").is_none_or(|cells| cells < 3) {
        return Err(node.bad("#interrupt-cells", "is not at least 3"));
    }
    // The maintenance interrupt is the controller's own: its specifier is in its own cells, whatever its interrupt-parent says.
    let maintenance = node.own_interrupt()?.ok_or_else(|| unsupported("it has no maintenance interrupt (no virtualization extensions)"))?;
    if !maintenance.is_private() {
        return Err(unsupported("its maintenance interrupt is not a PPI"));
    }
    Ok(Gic { node: node.path(), kind, maintenance: maintenance.intid })
}

fn v2(node: Node<'_>) -> Result<GicKind, BootError> {
    match *node.reg()? {
        [gicd, gicc, gich, gicv, ..] => Ok(GicKind::V2 { gicd, gicc, gich, gicv }),
        _ => Err(BootError::UnsupportedGic { node: node.path(), why: "its reg lacks GICH or GICV (no virtualization extensions)" }),
    }
}

fn v3(node: Node<'_>) -> Result<GicKind, BootError> {
    let count = node.u32("#redistributor-regions").unwrap_or(1) as usize;
    if count == 0 || count > MAX_REDISTRIBUTOR_REGIONS {
        return Err(node.bad("#redistributor-regions", "is not between 1 and 128"));
    }
    let stride = match node.has("redistributor-stride") {
        true => Some(node.number("redistributor-stride").unwrap_or(0)),
        false => None,
    };
    if stride.is_some_and(|stride| stride < 2 * PAGE_64K || stride % PAGE_64K != 0) {
        return Err(node.bad("redistributor-stride", "is not a multiple of 64 KiB of at least 128 KiB"));
    }
    let reg = node.reg()?;
    let mut regions = reg.into_iter();
    let gicd = regions.next().ok_or_else(|| node.missing("reg"))?;
    let redistributors: Vec<Region> = regions.take(count).collect();
    if redistributors.len() != count {
        return Err(node.bad("reg", "lists fewer redistributor regions than #redistributor-regions"));
    }
    Ok(GicKind::V3 { gicd, redistributors, stride })
}
