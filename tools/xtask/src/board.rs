//! QEMU's models of real boards: Xenolith as their kernel, the modules in RAM, all told in the board's own device tree.
//!
//! The trees are those of Debian's kernel, or QEMU's; only `/chosen` is written, as a boot loader would. Debian's Xen, to compare with, gets
//! the edits that it needs.

use crate::apt::{self, Apt};
use crate::qemu::{self, Modules, Options};
use crate::{doctor, host};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A board.
pub struct Board {
    /// QEMU's name of it.
    pub name: &'static str,
    /// CPUs that guests can use.
    pub cpus: u32,
    /// All CPUs, with those that no guest can use.
    smp: u32,
    /// `-M`.
    machine: &'static str,
    tree: Tree,
    /// Where Dom0's kernel and its root are put.
    modules_at: [u64; 2],
    /// Serial ports before the one with the console.
    serials: usize,
    /// Devices in its tree that QEMU's model lacks and that Linux does not survive the lack of.
    missing: &'static [&'static str],
    /// QEMU 7.2 does not have it.
    new: bool,
    /// What Debian's Xen needs changed in its tree to boot: nodes to remove, and cells to replace.
    for_xen: (&'static [&'static str], &'static [Cells]),
}

/// A property of cells: its node, its name, the cells in hexadecimal.
type Cells = (&'static str, &'static str, &'static [&'static str]);

/// QEMU's GIC-400 has an identification that keeps Xen from seeing that its 4 KiB pages are repeated every 64 KiB: the CPU interface and
/// the virtual one are named where their two pages meet.
const GIC_OF_ZCU102: Cells = (
    "/axi/interrupt-controller@f9010000",
    "reg",
    &["0", "f9010000", "0", "10000", "0", "f902f000", "0", "2000", "0", "f9040000", "0", "20000", "0", "f906f000", "0", "2000"],
);

/// Where a board's device tree comes from.
enum Tree {
    /// A file of this name in Debian's kernel package.
    Debian(&'static str),
    /// QEMU generates it.
    Generated,
}

/// All on which Dom0 boots.
pub const ALL: &[Board] = &[
    Board {
        name: "xlnx-zcu102",
        cpus: 4,
        smp: 4,
        machine: "xlnx-zcu102,virtualization=on",
        tree: Tree::Debian("zynqmp-zcu102-rev1.0.dtb"),
        modules_at: [0x1000_0000, 0x1800_0000],
        serials: 0,
        missing: &[],
        new: false,
        // With the node Xen panics: it finds no address for a CPU below it.
        for_xen: (&["/remoteproc@ffe00000"], &[GIC_OF_ZCU102]),
    },
    Board {
        name: "xlnx-versal-virt",
        cpus: 2,
        smp: 4,
        machine: "xlnx-versal-virt",
        tree: Tree::Generated,
        modules_at: [0x1000_0000, 0x1800_0000],
        serials: 0,
        missing: &[],
        new: false,
        for_xen: (&[], &[]),
    },
    Board {
        name: "imx8mp-evk",
        cpus: 4,
        smp: 4,
        machine: "imx8mp-evk",
        tree: Tree::Debian("imx8mp-evk.dtb"),
        modules_at: [0x5000_0000, 0x5800_0000],
        serials: 1,
        missing: &[],
        new: true,
        for_xen: (&[], &[]),
    },
    Board {
        name: "raspi4b",
        cpus: 4,
        smp: 4,
        machine: "raspi4b",
        tree: Tree::Debian("bcm2711-rpi-4-b.dtb"),
        modules_at: [0x0400_0000, 0x0a00_0000],
        serials: 1,
        missing: &["/soc/clock@7ef00000", "/soc/interrupt-controller@7ef00100", "/soc/i2c@7ef04500", "/soc/i2c@7ef09500"],
        new: true,
        for_xen: (&[], &[]),
    },
];

/// The board of this name.
pub fn find(name: &str) -> Result<&'static Board> {
    let names = || ALL.iter().map(|board| board.name).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|board| board.name == name).with_context(|| format!("no board {name}: there are {}", names()))
}

/// The QEMU command for a board, still without a console. Of the options CPUs, GIC and memory are the board's.
pub fn command(board: &Board, options: &Options, hypervisor: &Path, modules: &Modules) -> Result<Command> {
    doctor::need(&[doctor::FDTPUT])?;
    let tree = scratch()?.join(format!("{}.dtb", board.name));
    match board.tree {
        Tree::Debian(file) => drop(fs::copy(debian_tree(file)?, &tree)?),
        Tree::Generated => generate(board, hypervisor, &tree)?,
    }
    let vcpus = options.dom0_vcpus.map(|n| format!(" dom0_max_vcpus={n}")).unwrap_or_default();
    let own = format!("dom0_mem={}{vcpus} console=dtuart bootscrub=0 {}", options.dom0_mem, options.hypargs);
    put(&tree, "s", "/chosen", "xen,xen-bootargs", &[own.trim()])?;
    put(&tree, "s", "/chosen", "xen,dom0-bootargs", &[format!("console=hvc0 rdinit=/init loglevel=4 {}", options.dom0args).trim()])?;
    put(&tree, "x", "/chosen", "#address-cells", &["2"])?;
    put(&tree, "x", "/chosen", "#size-cells", &["2"])?;
    if options.hyp == "xen" {
        for node in board.for_xen.0 {
            host::run(Command::new(doctor::FDTPUT.file).arg("-r").arg(&tree).arg(node))?;
        }
        for (node, property, cells) in board.for_xen.1 {
            put(&tree, "x", node, property, cells)?;
        }
    }

    for node in board.missing {
        put(&tree, "s", node, "status", &["disabled"])?;
    }
    let mut qemu = machine(board)?;
    qemu.args(["-no-reboot", "-nic", "none"])
        .args(["-serial", "null"].repeat(board.serials))
        .arg("-kernel")
        .arg(hypervisor)
        .arg("-dtb")
        .arg(&tree);
    let files = [("multiboot,kernel", &modules.kernel), ("multiboot,ramdisk", &modules.initrd)];
    for ((kind, file), at) in files.into_iter().zip(board.modules_at) {
        let Some(file) = file else { continue };
        let node = format!("/chosen/module@{at:x}");
        host::run(Command::new(doctor::FDTPUT.file).arg("-c").arg(&tree).arg(&node))?;
        put(&tree, "s", &node, "compatible", &[kind, "multiboot,module"])?;
        let size = fs::metadata(file)?.len();
        let cells = [at >> 32, at & 0xffff_ffff, size >> 32, size & 0xffff_ffff].map(|cell| format!("{cell:x}"));
        put(&tree, "x", &node, "reg", &cells.each_ref().map(String::as_str))?;
        let file = qemu::escape(&file.to_string_lossy());
        qemu.arg("-device").arg(format!("loader,file={file},addr={at:#x},force-raw=on"));
    }
    qemu.args(&options.qemu);
    Ok(qemu)
}

fn machine(board: &Board) -> Result<Command> {
    let mut qemu = if board.new { qemu::new_program()? } else { qemu::program()? };
    // Boards have sound.
    qemu.env("QEMU_AUDIO_DRV", "none").args(["-M", board.machine, "-m", "2G", "-smp", &board.smp.to_string()]);
    Ok(qemu)
}

/// The tree that QEMU makes for a kernel: without one it lists no way to start the other CPUs.
fn generate(board: &Board, hypervisor: &Path, tree: &Path) -> Result<()> {
    let mut qemu = machine(board)?;
    qemu.arg("-M").arg(format!("dumpdtb={}", qemu::escape(&tree.to_string_lossy()))).args(["-display", "none"]);
    host::run(qemu.arg("-kernel").arg(hypervisor))
}

/// A device tree out of Debian's kernel package.
fn debian_tree(file: &str) -> Result<PathBuf> {
    let names = ALL.iter().filter_map(|board| if let Tree::Debian(name) = board.tree { Some(name) } else { None });
    let dir = host::cached(&format!("trees-{}", host::stamp(names)), |dir| {
        let apt = Apt::open("guests", "arm64", &["trixie"])?;
        let kernel = apt.depends("linux-image-arm64")?.into_iter().find(|name| name.starts_with("linux-image-"));
        let kernel = kernel.context("linux-image-arm64 names no kernel")?;
        let root = dir.join("kernel");
        apt::unpack(&apt.download(&[kernel])?, &root)?;
        for board in ALL {
            if let Tree::Debian(file) = board.tree {
                let found = host::output(Command::new("find").arg(&root).args(["-name", file]))?;
                let found = found.lines().next().with_context(|| format!("Debian's kernel package holds no {file}"))?;
                fs::copy(found, dir.join(file))?;
            }
        }
        Ok(fs::remove_dir_all(root)?)
    })?;
    Ok(dir.join(file))
}

/// Writes a property: `kind` is `s` for texts, `x` for cells.
fn put(tree: &Path, kind: &str, node: &str, property: &str, values: &[&str]) -> Result<()> {
    host::run(Command::new(doctor::FDTPUT.file).args(["-t", kind]).arg(tree).arg(node).arg(property).args(values))
}

fn scratch() -> Result<PathBuf> {
    let dir = host::target_dir().join("xenolith/boards");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
