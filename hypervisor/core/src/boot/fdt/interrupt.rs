//! Interrupts of a node, as far as the GIC delivers them (devicetree specification 2.4; bindings of arm,gic and arm,gic-v3).

use alloc::vec::Vec;

use super::address::take_cells;
use super::{HostTree, Node, be32};
use crate::boot::BootError;
use crate::boot::host_tree::{GIC_V2, GIC_V3};
use crate::machine::Trigger;

/// A line into the GIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// The GIC's number: 16..32 is a PPI, 32.. an SPI.
    pub intid: u32,
    /// How it signals.
    pub trigger: Trigger,
}

impl Interrupt {
    /// Whether each CPU has its own line of this number.
    pub const fn is_private(self) -> bool {
        self.intid < 32
    }

    /// Decodes an interrupt specifier of the GIC: type, number, flags. `None` for what is not an SPI or PPI.
    pub fn from_gic_cells(kind: u32, number: u32, flags: u32) -> Option<Self> {
        // IRQ_TYPE_EDGE_RISING and _FALLING; everything else (0 included) is level.
        let trigger = if flags & 0b11 != 0 { Trigger::Edge } else { Trigger::Level };
        let intid = match (kind, number) {
            (0, 0..988) => number + 32,
            (1, 0..16) => number + 16,
            _ => return None,
        };
        Some(Self { intid, trigger })
    }
}

/// A node that interrupts can go to: a controller, or a nexus with an interrupt-map.
fn controller<'t>(node: Node<'t>) -> Option<Node<'t>> {
    let mut at = node;
    // A node's controller is the nearest interrupt-parent named at or above it.
    let bound = node.depth() + 1;
    for _ in 0..bound {
        if let Some(phandle) = at.u32("interrupt-parent") {
            return at.tree.by_phandle(phandle);
        }
        at = at.parent()?;
        if at.has("#interrupt-cells") {
            return Some(at);
        }
    }
    None
}

fn gic_specifier(cells: &[u8]) -> Option<Interrupt> {
    Interrupt::from_gic_cells(be32(cells, 0)?, be32(cells, 4)?, be32(cells, 8)?)
}

impl<'t> Node<'t> {
    /// The interrupts of this node that go to the controller `gic` directly (`interrupts` or `interrupts-extended`), in order. Lines to
    /// other controllers are left out.
    pub fn interrupts(self, gic: Node<'t>) -> Result<Vec<Interrupt>, BootError> {
        if let Some(value) = self.property("interrupts-extended") {
            return self.interrupts_extended(value, gic);
        }
        let Some(value) = self.property("interrupts") else { return Ok(Vec::new()) };
        if controller(self) != Some(gic) {
            return Ok(Vec::new());
        }
        let cells = gic.u32("#interrupt-cells").filter(|&cells| matches!(cells, 3..=8));
        let cells = cells.ok_or_else(|| gic.bad("#interrupt-cells", "is not at least 3"))?;
        let chunks = value.chunks_exact(cells as usize * 4);
        if !chunks.remainder().is_empty() {
            return Err(self.bad("interrupts", "is cut short"));
        }
        chunks.map(|cells| gic_specifier(cells).ok_or_else(|| self.bad("interrupts", "names a line that the GIC does not have"))).collect()
    }

    /// The first interrupt of the GIC's own node, which is in its own cells: the maintenance interrupt.
    pub(in crate::boot) fn own_interrupt(self) -> Result<Option<Interrupt>, BootError> {
        let Some(cells) = self.property("interrupts") else { return Ok(None) };
        gic_specifier(cells).map(Some).ok_or_else(|| self.bad("interrupts", "names a line that the GIC does not have"))
    }

    fn interrupts_extended(self, mut value: &[u8], gic: Node<'t>) -> Result<Vec<Interrupt>, BootError> {
        const NAME: &str = "interrupts-extended";
        let mut interrupts = Vec::new();
        while !value.is_empty() {
            let phandle = take_cells(&mut value, 1).ok_or_else(|| self.bad(NAME, "is cut short"))? as u32;
            let parent = self.tree.by_phandle(phandle).ok_or_else(|| self.bad(NAME, "names a controller that does not exist"))?;
            let cells = parent.u32("#interrupt-cells").ok_or_else(|| parent.missing("#interrupt-cells"))?;
            let specifier = value.split_at_checked((cells as usize).saturating_mul(4));
            let (specifier, rest) = specifier.ok_or_else(|| self.bad(NAME, "is cut short"))?;
            value = rest;
            if parent == gic {
                let line = gic_specifier(specifier);
                interrupts.push(line.ok_or_else(|| self.bad(NAME, "names a line that the GIC does not have"))?);
            }
        }
        Ok(interrupts)
    }

    /// The lines of `interrupt-map` (of a PCI host bridge) that end at `gic`, each once.
    pub fn mapped_interrupts(self, gic: Node<'t>) -> Result<Vec<Interrupt>, BootError> {
        const NAME: &str = "interrupt-map";
        let cut = || self.bad(NAME, "is cut short");
        let mut lines: Vec<Interrupt> = Vec::new();
        let Some(mut value) = self.property(NAME) else { return Ok(lines) };
        let skip = self.address_cells().saturating_add(self.u32("#interrupt-cells").unwrap_or(1));
        while !value.is_empty() {
            value = value.get((skip as usize).saturating_mul(4)..).ok_or_else(cut)?;
            let phandle = take_cells(&mut value, 1).ok_or_else(cut)? as u32;
            let parent = self.tree.by_phandle(phandle).ok_or_else(|| self.bad(NAME, "names a controller that does not exist"))?;
            // An absent #address-cells counts as 0 here, not as the 2 of `reg` (devicetree specification 2.4.3).
            let unit = parent.u32("#address-cells").unwrap_or(0);
            let cells = parent.u32("#interrupt-cells").ok_or_else(|| parent.missing("#interrupt-cells"))?;
            value = value.get((unit as usize).saturating_mul(4)..).ok_or_else(cut)?;
            let (specifier, rest) = value.split_at_checked((cells as usize).saturating_mul(4)).ok_or_else(cut)?;
            value = rest;
            if parent == gic {
                let line = gic_specifier(specifier).ok_or_else(|| self.bad(NAME, "names a line that the GIC does not have"))?;
                if !lines.iter().any(|known| known.intid == line.intid) {
                    lines.push(line);
                }
            }
        }
        Ok(lines)
    }
}

impl HostTree<'_> {
    /// The GIC: the first enabled interrupt controller of a supported kind.
    pub(in crate::boot) fn gic_node(&self) -> Option<Node<'_>> {
        let supported = |node: &Node<'_>| node.is_any_of(GIC_V3) || node.is_any_of(GIC_V2);
        self.nodes().find(|node| supported(node) && node.has("interrupt-controller") && node.is_enabled())
    }
}
