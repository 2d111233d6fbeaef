//! `cargo xtask doctor`: what this machine lacks, and, for root on Debian, its installation.

use crate::host;
use anyhow::{Result, bail, ensure};
use std::path::Path;
use std::process::Command;

/// One thing that a command needs on the host.
pub struct Tool {
    /// A program in PATH, or an absolute path.
    pub file: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// Boots the machine.
pub const QEMU: Tool = Tool { file: "qemu-system-aarch64", package: "qemu-system-arm", purpose: "the machine that Xenolith boots on" };
/// Fetches Debian packages.
pub const APT: Tool = Tool { file: "apt-get", package: "apt", purpose: "downloads Debian's kernel, Xen tools and library source" };
/// Unpacks Debian packages.
pub const DPKG: Tool = Tool { file: "dpkg-deb", package: "dpkg", purpose: "unpacks Debian packages" };
/// Proves Debian packages genuine.
pub const KEYRING: Tool =
    Tool { file: "/usr/share/keyrings/debian-archive-keyring.gpg", package: "debian-archive-keyring", purpose: "proves packages genuine" };
/// Unpacks kernel modules.
pub const XZ: Tool = Tool { file: "xz", package: "xz-utils", purpose: "unpacks kernel modules" };
/// Writes into device trees.
pub const FDTPUT: Tool = Tool { file: "fdtput", package: "device-tree-compiler", purpose: "tells boards what to boot" };
/// Compiles the Linux modules.
pub const CC: Tool =
    Tool { file: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu", purpose: "compiles the Linux modules of tx copy" };
/// Builds the Linux modules.
pub const MAKE: Tool = Tool { file: "make", package: "make", purpose: "builds the Linux modules of tx copy" };
/// Links, where the Rust toolchain comes without a linker of its own.
pub const LLD: Tool = Tool { file: "ld.lld", package: "lld", purpose: "links the hypervisor" };

/// Prints the state of every tool; with `install`, installs what is missing.
pub fn doctor(install: bool) -> Result<()> {
    let tools = [QEMU, APT, DPKG, KEYRING, XZ, CC, MAKE];
    if install {
        self::install(&missing(&tools))?;
    }
    for tool in &tools {
        let state = if present(tool) { "ok     " } else { "MISSING" };
        println!(
            "{state} {:<24} {} (Debian package {})",
            Path::new(tool.file).file_name().unwrap_or_default().display(),
            tool.purpose,
            tool.package
        );
    }
    let library = crate::toolchain::describe();
    println!(
        "{} {:<24} {}",
        if library.is_ok() { "ok     " } else { "MISSING" },
        "Rust core library",
        library.as_deref().unwrap_or("no rustc")
    );
    match missing(&tools).len() {
        0 => Ok(()),
        n => bail!("{n} missing: run `cargo xtask doctor --install` as root, or install the packages named above"),
    }
}

/// Makes sure that `tools` are there, installing them if this is root on Debian.
pub fn need(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    let names = names.join(" ");
    let may = Path::new("/proc/self").metadata().is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) && present(&APT);
    ensure!(
        may,
        "missing: {names}; as root on Debian: apt-get install {names} (or the packages of those tools elsewhere), then run this again"
    );
    install(&missing)
}

fn missing(tools: &[Tool]) -> Vec<&Tool> {
    tools.iter().filter(|tool| !present(tool)).collect()
}

fn present(tool: &Tool) -> bool {
    host::which(tool.file).is_some()
}

fn install(tools: &[&Tool]) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    eprintln!("installing {}", packages.join(" "));
    let apt_get = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(args);
        host::output(&mut command)
    };
    // A stale list is enough if it still leads to the packages, so only the installation must succeed.
    let update = apt_get(&["update"]);
    let install = apt_get(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat());
    if let Err(error) = install {
        let reason = update.err().unwrap_or(error);
        bail!("apt-get cannot install {}: {reason}; check the network and the mirrors in /etc/apt/sources.list*", packages.join(" "));
    }
    Ok(())
}
