//! Trees for the tests of boot, and the fuzzing of everything that reads one.
//!
//! The stored blobs are QEMU 7.2's `virt` (`virtualization=on,dumpdtb=`, 2 CPUs, 3 GiB, kernel and ramdisk by guest-loader), and what
//! Debian's Xen 4.20 made of them for Dom0 (`/sys/firmware/fdt` there).

use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::cmdline::Options;
use super::dom0::{Dom0Input, Dom0Plan, plan};
use super::fdt::TreeWriter;
use super::*;

pub(super) const VIRT_V2: &[u8] = include_bytes!("../../tests/data/virt-gicv2.dtb");
pub(super) const VIRT_V3: &[u8] = include_bytes!("../../tests/data/virt-gicv3.dtb");
pub(super) const VIRT_V2_DOM0: &[u8] = include_bytes!("../../tests/data/virt-gicv2-dom0.dtb");
pub(super) const VIRT_V3_DOM0: &[u8] = include_bytes!("../../tests/data/virt-gicv3-dom0.dtb");

/// The header of Debian's kernel.
pub(super) fn kernel_header() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[16..24].copy_from_slice(&0x2b0_0000_u64.to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes
}

pub(super) fn region(start: u64, end: u64) -> Region {
    Region::between(start, end).unwrap()
}

/// Xen's image as QEMU loads it.
pub(super) fn image() -> Region {
    region(0x4020_0000, 0x4034_4000)
}

/// All that boot does with a blob, on a machine whose ITS cannot be used: as Xen, which has none.
pub(super) fn boot(blob: &[u8]) -> Result<Dom0Plan, BootError> {
    boot_with(blob, false)
}

/// The same; `its`: whether it can.
pub(super) fn boot_with(blob: &[u8], its: bool) -> Result<Dom0Plan, BootError> {
    let tree = HostTree::parse(blob)?;
    let lines = tree.command_lines();
    let (options, _) = Options::parse(&lines.xen);
    let uart = tree.uart(options.dtuart.as_deref())?;
    let mut info = HostInfo::read(&tree)?;
    for frame in &mut info.v2m {
        frame.set_typer(80 << 16 | 64);
    }
    if !its {
        info.its = None;
    }
    let free = info.free_ram(&[image(), region(0x4a00_0000, 0x4a20_0000)]);
    let kernel_start = &kernel_header();
    let lines = tree.command_lines();
    let command_line = lines.dom0.as_deref();
    plan(&Dom0Input {
        command_line,
        tree: &tree,
        info: &info,
        options: &options,
        uart: &uart,
        kernel_start,
        free: &free,
        own: &[image()],
        vcpus: 2,
    })
}

fn is_one_line(error: &BootError) -> bool {
    !std::format!("{error}").contains('\n')
}

/// A line of a device tree in the making, for [`tree`].
pub(super) enum Part<'a> {
    Node(&'a str, Vec<Part<'a>>),
    Cells(&'a str, Vec<u32>),
    Text(&'a str, &'a [&'a str]),
}

pub(super) fn tree(parts: &[Part<'_>]) -> Vec<u8> {
    fn write(writer: &mut TreeWriter, parts: &[Part<'_>]) {
        for part in parts {
            match part {
                Part::Cells(name, cells) => writer.cells(name, cells),
                Part::Text(name, texts) => writer.texts(name, texts),
                Part::Node(name, parts) => {
                    writer.begin(name);
                    write(writer, parts);
                    writer.end();
                }
            }
        }
    }
    let mut writer = TreeWriter::default();
    writer.begin("");
    write(&mut writer, parts);
    writer.end();
    writer.finish()
}

/// Every node and property as a line, in order.
pub(super) fn lines(blob: &[u8]) -> Vec<String> {
    let tree = HostTree::parse(blob).unwrap();
    let mut lines = vec![];
    for node in tree.nodes() {
        lines.push(node.path());
        lines.extend(node.properties().map(|(name, value)| std::format!("{} {name} {value:02x?}", node.path())));
    }
    lines
}

#[test]
fn the_writer_writes_what_the_parser_reads() {
    let mut writer = TreeWriter::default();
    let tree = HostTree::parse(VIRT_V3).unwrap();
    fn copy(writer: &mut TreeWriter, node: fdt::Node<'_>) {
        writer.begin(node.name());
        node.properties().for_each(|(name, value)| writer.property(name, value));
        node.children().for_each(|child| copy(writer, child));
        writer.end();
    }
    copy(&mut writer, tree.root());
    assert_eq!(lines(&writer.finish()), lines(VIRT_V3));
}

#[test]
fn a_damaged_blob_is_told_in_one_line() {
    let told = |blob: &[u8]| HostTree::parse(blob).err().map(|error| std::format!("{error}")).unwrap_or_default();
    let with = |at: usize, word: u32| {
        let mut blob = VIRT_V3.to_vec();
        blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        told(&blob)
    };
    assert!(told(&[]).contains("magic"));
    assert!(told(&VIRT_V3[..100]).contains("cut short"));
    assert!(with(0, 1).contains("magic"));
    assert!(with(8, 0xffff_fff0).contains("structure block lies outside"));
    assert!(with(12, 0xffff_fff0).contains("strings block lies outside"));
    assert!(with(16, 0x7fff_fff0).contains("reservation map has no end"));
    assert!(with(20, 3).contains("version 3"));
    assert!(with(36, 8).contains("structure block"));
}

#[test]
fn nodes_are_found_by_path_and_alias() {
    let blob = tree(&[
        Part::Node("aliases", vec![Part::Text("serial0", &["/soc/serial@1"]), Part::Text("loop", &["loop"])]),
        Part::Node("soc", vec![Part::Node("serial@1", vec![]), Part::Node("serial@2", vec![Part::Node("child", vec![])])]),
    ]);
    let tree = HostTree::parse(&blob).unwrap();
    let path = |name: &str| tree.find(name).map(|node| node.path());
    assert_eq!(path("/soc/serial@2/child").as_deref(), Some("/soc/serial@2/child"));
    assert_eq!(path("/soc/serial").as_deref(), Some("/soc/serial@1"));
    assert_eq!(path("serial0").as_deref(), Some("/soc/serial@1"));
    assert_eq!(path("/").as_deref(), Some("/"));
    for absent in ["/soc/serial@3", "serial1", "loop", "", "/soc/serial@1/child"] {
        assert_eq!(path(absent), None, "{absent}");
    }
}

#[test]
fn deep_trees_are_refused() {
    let mut writer = TreeWriter::default();
    writer.begin("");
    (0..40).for_each(|_| writer.begin("a"));
    (0..41).for_each(|_| writer.end());
    assert!(matches!(HostTree::parse(&writer.finish()), Err(BootError::TooMany { what: "levels of nodes", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn flipped_bytes_never_panic(
        v3 in any::<bool>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut blob = if v3 { VIRT_V3.to_vec() } else { VIRT_V2.to_vec() };
        for (at, byte) in flips {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        match boot(&blob) {
            Ok(plan) => prop_assert!(HostTree::parse(&plan.tree).is_ok()),
            Err(error) => prop_assert!(is_one_line(&error)),
        }
    }

    #[test]
    fn changed_cells_never_panic(
        v3 in any::<bool>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![0..64_u32, any::<u32>(), Just(u32::MAX)]), 1..6),
    ) {
        let mut blob = if v3 { VIRT_V3.to_vec() } else { VIRT_V2.to_vec() };
        for (at, word) in changes {
            let at = at.index(blob.len() / 4 - 16) * 4 + 56;
            blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Err(error) = boot(&blob) {
            prop_assert!(is_one_line(&error));
        }
    }
}
