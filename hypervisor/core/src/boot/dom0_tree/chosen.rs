//! `/chosen`: Dom0's command line and ramdisk in place of ours.

use super::TreeInput;
use crate::boot::fdt::{Node, TreeWriter};

/// What is ours, or is replaced.
const DROPPED: &[&str] = &["bootargs", "xen,static-heap", "xen,xen-bootargs", "xen,dom0-bootargs", "stdout-path", "linux,stdout-path"];
const DROPPED_PREFIXES: &[&str] = &["linux,initrd-", "linux,uefi-"];

pub(super) fn is_chosen(node: Node<'_>) -> bool {
    node.name() == "chosen" && node.depth() == 1
}

pub(super) fn is_dropped(property: &str) -> bool {
    DROPPED.contains(&property) || DROPPED_PREFIXES.iter().any(|prefix| property.starts_with(prefix))
}

pub(super) fn add(writer: &mut TreeWriter, input: &TreeInput<'_>) {
    if let Some(command_line) = input.command_line {
        writer.text("bootargs", command_line);
    }
    if let Some(ramdisk) = input.ramdisk {
        writer.property("linux,initrd-start", &ramdisk.start().0.to_be_bytes());
        writer.property("linux,initrd-end", &ramdisk.end().0.to_be_bytes());
    }
}
