//! RAM banks and reserved memory.

use alloc::vec::Vec;

use crate::addr::PAGE_SIZE;
use crate::boot::region::merge;
use crate::boot::{BootError, HostTree, Region};

/// Xen's NR_MEM_BANKS.
const MAX_BANKS: usize = 256;

/// RAM: the nodes of depth 1 with device_type "memory". Partial pages at the edges are left out.
pub(super) fn ram(tree: &HostTree<'_>) -> Result<Vec<Region>, BootError> {
    let mut banks = Vec::new();
    for node in tree.root().children().filter(|node| node.text("device_type") == Some("memory") && node.is_enabled()) {
        if !node.has("reg") {
            return Err(node.missing("reg"));
        }
        banks.extend(node.memory_reg()?.into_iter().filter_map(|bank| bank.shrink_to(PAGE_SIZE)));
        if banks.len() > MAX_BANKS {
            return Err(BootError::TooMany { what: "RAM banks", limit: MAX_BANKS });
        }
    }
    if banks.is_empty() { Err(BootError::NoRam) } else { Ok(merge(banks)) }
}

/// The memory reservation map and the static regions of `/reserved-memory`.
pub(super) fn reserved(tree: &HostTree<'_>) -> Result<Vec<Region>, BootError> {
    let mut banks: Vec<Region> = tree.reservations().iter().map(|bank| bank.pages_outward()).collect();
    for node in tree.root().child("reserved-memory").iter().flat_map(|parent| parent.children()).filter(|node| node.is_enabled()) {
        banks.extend(node.memory_reg()?.into_iter().map(Region::pages_outward));
        if banks.len() > MAX_BANKS {
            return Err(BootError::TooMany { what: "reserved regions", limit: MAX_BANKS });
        }
    }
    Ok(merge(banks))
}
