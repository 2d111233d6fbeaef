//! Dom0's device tree: the host's, without what stays with us, with the nodes that describe the virtual machine, and the list of the
//! devices that Dom0 thereby gets.
//!
//! As Xen's `construct_dom0` does it, so that a kernel sees the same tree on both. `policy` decides node by node, for the tree and
//! for the list of devices alike.

use alloc::vec::Vec;

use super::fdt::{Node, TreeWriter};
use super::host_tree::{HostInfo, Uart};
use super::{BootError, HostTree, Region};

mod chosen;
mod devices;
mod generated;
mod policy;

pub(super) use devices::not_for_domains;
pub use devices::{Devices, devices};
pub(super) use generated::{cpus, psci};
use policy::{Fate, Policy};

/// What Dom0's tree is made from.
#[derive(Clone, Copy)]
pub struct TreeInput<'a> {
    /// The host's tree.
    pub tree: &'a HostTree<'a>,
    /// What it says.
    pub info: &'a HostInfo,
    /// The UART that stays with us.
    pub uart: &'a Uart,
    /// Dom0's command line.
    pub command_line: Option<&'a str>,
    /// Where Dom0 finds its ramdisk.
    pub ramdisk: Option<Region>,
    /// vCPUs of Dom0.
    pub vcpus: u32,
    /// Dom0's memory.
    pub banks: &'a [Region],
    /// Where Dom0 maps its grant table.
    pub grant_window: Region,
    /// Address space for foreign pages.
    pub extended: &'a [Region],
    /// INTID of the event channel PPI.
    pub event_ppi: u32,
}

/// Makes Dom0's tree, a flattened blob.
pub fn build(input: &TreeInput<'_>) -> Result<Vec<u8>, BootError> {
    let mut writer = TreeWriter::default();
    let policy = Policy::new(input.tree, input.uart)?;
    write_node(&mut writer, input.tree.root(), &policy, input)?;
    Ok(writer.finish())
}

/// Writes a node and what is below it. The depth of the host's tree is limited, and so is the recursion.
fn write_node<'t>(writer: &mut TreeWriter, node: Node<'t>, policy: &Policy<'t>, input: &TreeInput<'_>) -> Result<(), BootError> {
    match policy.fate(node) {
        Fate::Drop | Fate::Broken(_) => return Ok(()),
        Fate::Gic => return generated::gic(writer, node, input.info),
        Fate::Timer => return generated::timer(writer, node, input),
        Fate::Keep => {}
    }
    writer.begin(node.name());
    let is_chosen = chosen::is_chosen(node);
    for (name, value) in node.properties() {
        let dropped = if is_chosen { chosen::is_dropped(name) } else { policy::is_dropped_property(node, name) };
        if !dropped {
            writer.property(name, value);
        }
    }
    if policy::is_passed_through(node) {
        writer.text("status", "disabled");
    }
    if is_chosen {
        chosen::add(writer, input);
    }
    for child in node.children() {
        write_node(writer, child, policy, input)?;
    }
    if node.parent().is_none() {
        generated::virtual_machine(writer, node, input)?;
    }
    writer.end();
    Ok(())
}

#[cfg(test)]
mod tests;
