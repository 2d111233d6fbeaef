//! Domains that the device tree describes: the tree of QEMU's `virt` with `xen,domain` nodes, as a boot loader's script would write them.

use crate::guests::Guests;
use crate::qemu::{self, Modules, Options};
use crate::scenario::passthrough;
use crate::{doctor, host};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the domains' kernel and root are put, which all of them share, clear of Dom0's.
const KERNEL_AT: u64 = 0xd000_0000;
const ROOT_AT: u64 = 0xd800_0000;
/// Where a domain's own kernel is put.
const IMAGE_AT: u64 = 0xdc00_0000;
/// Within the kernel.
pub const IN_KERNEL: u64 = KERNEL_AT + 0x10_0000;
/// Where the tree of a domain's devices is put.
const DEVICES_AT: u64 = 0xdf00_0000;

/// A domain to be described.
pub struct Domain<'a> {
    /// Name of its node.
    pub name: &'a str,
    /// KiB of its memory.
    pub memory: u32,
    /// vCPUs.
    pub cpus: u32,
    /// `xen,enhanced`, if it is there.
    pub enhanced: Option<&'a str>,
    /// More of its kernel's command line.
    pub bootargs: &'a str,
    /// Its kernel, which needs no root; none: Linux.
    pub image: Option<&'a Path>,
    /// It has no kernel.
    pub no_kernel: bool,
    /// Where the tree says that its root is.
    pub root_at: u64,
    /// It gets the devices that this device tree tells of; the machine's clock is marked to be passed to it.
    pub devices: Option<&'a Path>,
    /// Further properties of one cell.
    pub more: &'a [(&'a str, u32)],
}

/// A domain of 256 MiB with a UART.
pub const DOMAIN: Domain<'_> = Domain {
    name: "domU1",
    memory: 256 << 10,
    cpus: 1,
    enhanced: None,
    bootargs: "",
    image: None,
    no_kernel: false,
    root_at: ROOT_AT,
    devices: None,
    more: &[],
};

/// QEMU's options for a machine with these domains: their tree, and their files in memory.
pub fn options(
    options: &Options,
    hypervisor: &Path,
    modules: &Modules,
    guests: &Guests,
    domains: &[Domain<'_>],
    scratch: &Path,
) -> Result<Vec<String>> {
    doctor::need(&[doctor::FDTPUT])?;
    let tree = scratch.join("dom0less.dtb");
    qemu::dump_tree(options, hypervisor, modules, &tree)?;
    let (kernel, root) = (guests.kernel(), guests.domu());
    let mut files = vec![(kernel.clone(), KERNEL_AT), (root.clone(), ROOT_AT)];
    // fdtput puts a new node before the others.
    for domain in domains.iter().rev() {
        let path = format!("/chosen/{}", domain.name);
        let node = Node { tree: &tree, path: path.clone() };
        node.make()?;
        node.put("s", "compatible", &["xen,domain"])?;
        node.cells("#address-cells", &[2])?;
        node.cells("#size-cells", &[2])?;
        node.cells("memory", &[0, domain.memory])?;
        node.cells("cpus", &[domain.cpus])?;
        node.put("x", "vpl011", &[])?;
        if let Some(enhanced) = domain.enhanced {
            node.put("s", "xen,enhanced", &[enhanced])?;
        }
        for (name, value) in domain.more {
            node.cells(name, &[*value])?;
        }
        if let Some(image) = domain.image {
            node.module(IMAGE_AT, "multiboot,kernel", image)?;
            files.push((image.to_path_buf(), IMAGE_AT));
            continue;
        }
        if !domain.no_kernel {
            let module = node.module(KERNEL_AT, "multiboot,kernel", &kernel)?;
            module.put("s", "bootargs", &[&format!("console=ttyAMA0 rdinit=/init loglevel=4 later {}", domain.bootargs)])?;
        }
        node.module(domain.root_at, "multiboot,ramdisk", &root)?;
        if let Some(devices) = domain.devices {
            passthrough::mark(&tree)?;
            node.module(DEVICES_AT, "multiboot,device-tree", devices)?;
            files.push((devices.to_path_buf(), DEVICES_AT));
        }
    }
    let mut qemu = vec!["-dtb".into(), tree.display().to_string()];
    for (file, at) in files {
        let file = qemu::escape(&file.to_string_lossy());
        qemu.extend(["-device".into(), format!("loader,file={file},addr={at:#x},force-raw=on")]);
    }
    Ok(qemu)
}

/// A node of a tree in a file.
struct Node<'a> {
    tree: &'a PathBuf,
    path: String,
}

impl Node<'_> {
    fn make(&self) -> Result<()> {
        host::run(Command::new(doctor::FDTPUT.file).arg("-c").arg(self.tree).arg(&self.path))
    }

    /// Writes a property: `kind` is `s` for texts, `x` for cells.
    fn put(&self, kind: &str, property: &str, values: &[&str]) -> Result<()> {
        host::run(Command::new(doctor::FDTPUT.file).args(["-t", kind]).arg(self.tree).arg(&self.path).arg(property).args(values))
    }

    fn cells(&self, property: &str, cells: &[u32]) -> Result<()> {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:x}")).collect();
        self.put("x", property, &cells.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A boot module below it.
    fn module(&self, at: u64, kind: &str, file: &Path) -> Result<Self> {
        let module = Self { tree: self.tree, path: format!("{}/module@{at:x}", self.path) };
        module.make()?;
        module.put("s", "compatible", &[kind, "multiboot,module"])?;
        let size = fs::metadata(file).with_context(|| format!("no {}", file.display()))?.len();
        ensure!(at + size <= 1 << 32, "{} is too large for where it goes", file.display());
        module.cells("reg", &[0, at as u32, 0, size as u32])?;
        Ok(module)
    }
}
