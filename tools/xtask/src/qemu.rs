//! The QEMU machine: `virt` with EL2, the hypervisor as its kernel, Dom0's kernel and root put into memory by guest loaders.

use crate::apt::{self, Apt};
use crate::firmware::Firmware;
use crate::{board, doctor, guests::Guests, host, image};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release that has a QEMU for newer boards.
const NEW_QEMU_SUITE: &str = "trixie";

/// What a user may choose of the machine.
#[derive(clap::Parser, Clone, Debug)]
pub struct Options {
    /// The hypervisor: `xenolith` (built from this tree), `xen` (Debian's Xen 4.20), or the path of an image
    #[arg(long, default_value = "xenolith")]
    pub hyp: String,
    /// CPUs
    #[arg(long, default_value_t = 2)]
    pub smp: u32,
    /// Version of the interrupt controller
    #[arg(long, default_value_t = 3)]
    pub gic: u32,
    /// A board in place of `virt`, with its own CPUs, GIC and memory: `xlnx-zcu102`, `xlnx-versal-virt`, `imx8mp-evk`
    #[arg(long)]
    pub board: Option<String>,
    /// The machine's memory
    #[arg(long, default_value = "3G")]
    pub mem: String,
    /// Dom0's memory
    #[arg(long, default_value = "1G")]
    pub dom0_mem: String,
    /// Dom0's vCPUs [default: as many as CPUs]
    #[arg(long)]
    pub dom0_vcpus: Option<u32>,
    /// More options for the hypervisor
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub hypargs: String,
    /// More options for Dom0's kernel
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub dom0args: String,
    /// More options for QEMU, after `--`
    #[arg(last = true)]
    pub qemu: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        <Self as clap::Parser>::parse_from(["xtask"])
    }
}

/// What the guest loaders put into memory for Dom0. The defaults are Debian's kernel and our root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// Dom0's kernel.
    pub kernel: Option<PathBuf>,
    /// Dom0's root.
    pub initrd: Option<PathBuf>,
}

impl Modules {
    /// Those of `guests`.
    pub fn of(guests: &Guests) -> Self {
        Self { kernel: Some(guests.kernel()), initrd: Some(guests.initrd()) }
    }
}

/// The hypervisor's image that `name` stands for.
pub fn hypervisor(name: &str, guests: &Guests) -> Result<PathBuf> {
    let image = match name {
        "xenolith" => image::image(false)?,
        "xen" => guests.xen(),
        path => path.into(),
    };
    ensure!(image.is_file(), "no hypervisor image {}", image.display());
    Ok(image)
}

/// QEMU, installed if need be.
pub fn program() -> Result<Command> {
    doctor::need(&[doctor::QEMU])?;
    Ok(Command::new(host::which(doctor::QEMU.file).unwrap_or_else(|| doctor::QEMU.file.into())))
}

/// A QEMU that has newer boards: Debian's of its stable release, with its own libraries, so that any host can run it. In QEMU 10.0.2 of
/// bookworm-backports the i.MX 8M Plus delivers no virtual interrupt.
pub fn new_program() -> Result<Command> {
    doctor::need(&[doctor::APT, doctor::DPKG, doctor::KEYRING])?;
    let arch = host::output(Command::new("dpkg").arg("--print-architecture"))?;
    let dir = host::cached(&format!("qemu-{NEW_QEMU_SUITE}"), |dir| {
        let apt = Apt::open("qemu", arch.trim(), &[NEW_QEMU_SUITE])?;
        apt::unpack(&apt.download_closure(&[doctor::QEMU.package.into()])?, dir)
    })?;
    let mut libraries = fs::read_dir(dir.join("usr/lib"))?.flatten().map(|entry| entry.path());
    let library = libraries.find(|library| library.join("libc.so.6").is_file()).context("QEMU's packages come without libraries")?;
    let mut files = fs::read_dir(&library)?.flatten();
    let loader = files.find(|file| file.file_name().to_string_lossy().starts_with("ld-linux")).context("no dynamic loader")?;
    let mut qemu = Command::new(loader.path());
    qemu.env("QEMU_MODULE_DIR", library.join("qemu")).arg("--library-path").arg(&library);
    qemu.arg(dir.join("usr/bin").join(doctor::QEMU.file)).arg("-L").arg(dir.join("usr/share/qemu"));
    qemu.arg("-L").arg(dir.join("usr/lib/ipxe/qemu"));
    Ok(qemu)
}

/// The QEMU command for this machine, still without a console.
pub fn command(options: &Options, hypervisor: &Path, modules: &Modules) -> Result<Command> {
    if let Some(name) = &options.board {
        return board::command(board::find(name)?, options, hypervisor, modules);
    }
    let mut qemu = machine(options, "")?;
    let vcpus = options.dom0_vcpus.map(|n| format!(" dom0_max_vcpus={n}")).unwrap_or_default();
    qemu.arg("-kernel").arg(hypervisor).arg("-append");
    qemu.arg(format!("dom0_mem={}{vcpus} console=dtuart dtuart=/pl011@9000000 bootscrub=0 {}", options.dom0_mem, options.hypargs));
    if let Some(kernel) = &modules.kernel {
        let bootargs = format!("console=hvc0 rdinit=/init loglevel=4 {}", options.dom0args);
        qemu.arg("-device").arg(format!(
            "guest-loader,addr=0x60000000,kernel={},bootargs={}",
            escape(&kernel.to_string_lossy()),
            escape(&bootargs)
        ));
    }
    if let Some(initrd) = &modules.initrd {
        qemu.arg("-device").arg(format!("guest-loader,addr=0x68000000,initrd={}", escape(&initrd.to_string_lossy())));
    }
    qemu.args(&options.qemu);
    Ok(qemu)
}

/// Writes the machine's own device tree, with Dom0's modules, to `file`.
pub fn dump_tree(options: &Options, hypervisor: &Path, modules: &Modules, file: &Path) -> Result<()> {
    let machine = format!("dumpdtb={}", escape(&file.display().to_string()));
    host::output(command(options, hypervisor, modules)?.args(["-nographic", "-M", &machine]))?;
    Ok(fs::write(file, without_padding(fs::read(file)?)?)?)
}

/// A flattened tree without what follows its last block, the strings: QEMU dumps a mebibyte, and more than doubles what it is given.
fn without_padding(mut tree: Vec<u8>) -> Result<Vec<u8>> {
    let field =
        |tree: &[u8], at: usize| Ok::<_, anyhow::Error>(u32::from_be_bytes(tree.get(at..at + 4).context("no device tree")?.try_into()?));
    let (strings, size) = (field(&tree, 12)?, field(&tree, 32)?);
    let end = strings.checked_add(size).context("no device tree")?;
    tree.truncate(end as usize);
    tree.get_mut(4..8).context("no device tree")?.copy_from_slice(&end.to_be_bytes());
    Ok(tree)
}

/// The same machine started by firmware from a disk.
pub fn with_firmware(options: &Options, firmware: &Firmware) -> Result<Command> {
    let mut qemu = machine(options, ",acpi=off")?;
    qemu.arg("-bios").arg(&firmware.bios).arg("-drive");
    qemu.arg(format!("file=fat:rw:{},format=raw,if=none,id=disk", escape(&firmware.disk.to_string_lossy())));
    qemu.args(["-device", "virtio-blk-device,drive=disk"]).args(&options.qemu);
    Ok(qemu)
}

/// `virt` with EL2, without anything to run.
fn machine(options: &Options, more: &str) -> Result<Command> {
    let mut qemu = program()?;
    qemu.arg("-M").arg(format!("virt,virtualization=on,gic-version={}{more}", options.gic));
    qemu.args(["-cpu", "cortex-a57", "-m", &options.mem, "-smp", &options.smp.to_string(), "-no-reboot", "-nic", "none"]);
    Ok(qemu)
}

/// A value within a QEMU option, where a comma would end it.
pub fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_comma_stays_within_its_option() {
        assert_eq!(escape("ip0=1,2"), "ip0=1,,2");
    }
}
