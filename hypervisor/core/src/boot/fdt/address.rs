//! Addresses in a node: `reg`, and its translation through the `ranges` of the buses above (devicetree specification 2.3.6, 2.3.8).

use alloc::vec::Vec;

use super::{Node, be32};
use crate::boot::{BootError, Region};

/// Takes the next `count` cells off `cells` as one number; `None` if there are not so many or the number has more than 64 bits.
pub(in crate::boot) fn take_cells(cells: &mut &[u8], count: u32) -> Option<u64> {
    let (mut number, bytes) = (0_u64, (count as usize).checked_mul(4)?);
    let (taken, rest) = cells.split_at_checked(bytes)?;
    for at in (0..bytes).step_by(4) {
        if number >> 32 != 0 {
            return None;
        }
        number = number << 32 | u64::from(be32(taken, at)?);
    }
    *cells = rest;
    Some(number)
}

impl<'t> Node<'t> {
    /// `#address-cells`: cells of an address in this node's children.
    pub fn address_cells(self) -> u32 {
        self.u32("#address-cells").unwrap_or(2)
    }

    /// `#size-cells`: cells of a size in this node's children.
    pub fn size_cells(self) -> u32 {
        self.u32("#size-cells").unwrap_or(1)
    }

    /// The machine address ranges of `reg`, empty ones left out. Nothing if there is no `reg`, or if it does not describe machine
    /// addresses (a device on a bus that is not memory mapped).
    pub fn reg(self) -> Result<Vec<Region>, BootError> {
        let mut regions = Vec::new();
        let Some(bus) = self.parent() else { return Ok(regions) };
        for region in self.reg_of_cells(bus.address_cells(), bus.size_cells())? {
            regions.extend(bus.translate(region)?);
        }
        Ok(regions)
    }

    /// The ranges of `reg` of a node that is no device but tells of memory (boot modules, reserved memory): always machine addresses, and
    /// the parent may leave `#address-cells` and `#size-cells` to the nodes above it, as loaders do.
    pub fn memory_reg(self) -> Result<Vec<Region>, BootError> {
        let cells = |name| core::iter::successors(self.parent(), |node| node.parent()).find_map(|node| node.u32(name));
        self.reg_of_cells(cells("#address-cells").unwrap_or(2), cells("#size-cells").unwrap_or(1))
    }

    fn reg_of_cells(self, address_cells: u32, size_cells: u32) -> Result<Vec<Region>, BootError> {
        let mut regions = Vec::new();
        let Some(mut value) = self.property("reg") else { return Ok(regions) };
        if !matches!(address_cells, 1 | 2) || !matches!(size_cells, 1 | 2) {
            return Ok(regions);
        }
        while !value.is_empty() {
            let address = take_cells(&mut value, address_cells);
            let (start, size) = address.zip(take_cells(&mut value, size_cells)).ok_or_else(|| self.bad("reg", "is cut short"))?;
            if size != 0 {
                regions.push(Region::new(start, size).ok_or_else(|| self.bad("reg", "wraps the address space"))?);
            }
        }
        Ok(regions)
    }

    /// Translates an address range of this bus into machine addresses; `None` if the bus does not map it.
    pub fn translate(self, region: Region) -> Result<Option<Region>, BootError> {
        let (mut bus, mut region) = (self, region);
        while let Some(above) = bus.parent() {
            match bus.property("ranges") {
                None => return Ok(None),
                Some([]) => {}
                Some(_) => {
                    let mapped = bus.ranges()?.into_iter().find_map(|range| range.map(region));
                    match mapped {
                        Some(mapped) => region = mapped,
                        None => return Ok(None),
                    }
                }
            }
            bus = above;
        }
        Ok(Some(region))
    }

    /// The windows of a bus: its `ranges` property, windows of buses other than memory mapped ones included. Empty if the property is.
    pub fn ranges(self) -> Result<Vec<BusRange>, BootError> {
        let mut ranges = Vec::new();
        let (Some(mut value), Some(above)) = (self.property("ranges"), self.parent()) else { return Ok(ranges) };
        let child_cells = self.address_cells();
        // A PCI address is three cells, the first of which names the space.
        let space_cells = child_cells.saturating_sub(2);
        while !value.is_empty() {
            let range = (|| {
                take_cells(&mut value, space_cells)?;
                let child = take_cells(&mut value, child_cells - space_cells)?;
                let parent = take_cells(&mut value, above.address_cells())?;
                let size = take_cells(&mut value, self.size_cells())?;
                Some((child, parent, size))
            })();
            let (child, parent, size) = range.ok_or_else(|| self.bad("ranges", "is cut short or has numbers of more than 64 bits"))?;
            if size != 0 {
                let parent = Region::new(parent, size).ok_or_else(|| self.bad("ranges", "wraps the address space"))?;
                ranges.push(BusRange { child, parent });
            }
        }
        Ok(ranges)
    }
}

/// One window of a bus.
pub struct BusRange {
    /// The first address on the bus.
    child: u64,
    /// Where the window lies on the bus above.
    pub parent: Region,
}

impl BusRange {
    fn map(&self, region: Region) -> Option<Region> {
        let offset = region.start().0.checked_sub(self.child)?;
        let inside = offset.checked_add(region.size())? <= self.parent.size();
        inside.then(|| Region::new(self.parent.start().0.checked_add(offset)?, region.size())).flatten()
    }
}
