//! Boot: from the flattened device tree that the firmware hands over to typed values, and from those to Dom0's own device tree.
//!
//! Pure functions; nothing here touches the machine. The order in which `el2` calls them:
//!
//! 1. [`HostTree::parse`] checks and indexes the blob;
//! 2. [`HostTree::command_lines`] says whose command line is which, [`cmdline::Options::parse`] reads ours;
//! 3. [`HostTree::uart`] finds the console, so that everything after this can be told to somebody;
//! 4. [`HostInfo::read`] collects RAM, modules, CPUs, interrupt controller and timer;
//! 5. [`dom0::plan`] places Dom0's memory, kernel, ramdisk and device tree;
//! 6. [`domu::domains`] lists the domains that the tree describes, [`domu::plan`] does the same for each.
//!
//! Values are heap allocated: `el2` serves the steps before its page allocator from a small static early heap (1 MiB is ample: the index
//! costs about 40 bytes a node, a tree of a large board has some 2000). A [`BootError`] prints as one line that names the node or option.

pub mod cmdline;
pub mod dom0;
pub mod dom0_tree;
pub mod domu;
pub mod domu_tree;
pub mod efi;
mod error;
mod fdt;
pub mod gzip;
pub mod host_tree;
pub mod image;
pub mod placement;
mod region;

pub use error::BootError;
pub use fdt::{HostTree, Interrupt};
pub use host_tree::HostInfo;
pub use region::Region;

#[cfg(test)]
mod tests;
