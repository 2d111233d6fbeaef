//! `cargo xtask modules`: builds the Linux modules of tx copy for the project's guest kernel, or with `KDIR=` for another one.
//!
//! The kernel's headers are Debian packages, unpacked privately; the programs that they bring run on the host.

use crate::apt::{self, Apt};
use crate::guests::{self, Guests};
use crate::initrd::Root;
use crate::{doctor, host, qemu};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release of the guests' kernel: that of `guests.rs`.
const SUITE: &str = "trixie";
const FRONT: &str = "xenolith-tx-front.ko";
const BACK: &str = "xenolith-tx-back.ko";
/// What scenarios say to the modules and ask of them, in either domain.
const TX: &str = include_str!("../../../tests/system/tx");

/// The host's architecture in Debian's words, and the dynamic linker that its C library's package holds.
const HOST: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("arm64", "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1")
} else {
    ("amd64", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
};

/// Builds the modules for the kernel that `KDIR` names, else for the guests' one; returns the folder that holds them.
pub fn modules() -> Result<PathBuf> {
    match std::env::var_os("KDIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => build(Path::new(&dir)),
        None => build(&headers()?),
    }
}

/// What boots with the modules at hand: Dom0's kernel, and its root with the back end's module in it and the front end's for its DomUs.
pub fn at_hand(guests: &Guests) -> Result<qemu::Modules> {
    let dir = build(&headers()?)?;
    let module = |name: &str| fs::read(dir.join(name)).with_context(|| format!("no {name}"));
    let (mut dom0, mut domu) = (Root::default(), Root::default());
    for (root, name) in [(&mut domu, FRONT), (&mut dom0, BACK)] {
        root.file(&format!("lib/modules/{name}"), module(name)?, 0o644);
        root.file("bin/tx", TX, 0o755);
    }
    // Dom0's init puts it behind the DomU's root.
    dom0.file("guest/modules.cpio", domu.pack()?, 0o644);
    let initrd = host::target_dir().join("xenolith/dom0.cpio");
    fs::create_dir_all(initrd.parent().unwrap_or(Path::new(".")))?;
    guests.initrd_with(&dom0, &initrd)?;
    Ok(qemu::Modules { initrd: Some(initrd), ..qemu::Modules::of(guests) })
}

fn build(kernel: &Path) -> Result<PathBuf> {
    doctor::need(&[doctor::CC, doctor::MAKE])?;
    ensure!(kernel.join("Module.symvers").exists(), "{} holds no kernel headers: Module.symvers is missing", kernel.display());
    let kernel = kernel.canonicalize()?;
    let dir = host::target_dir().join("linux").join(host::stamp([&*kernel.to_string_lossy()]));
    copy_sources(&dir)?;
    eprintln!("modules: building with {}", kernel.display());
    let mut make = Command::new("make");
    make.arg("-C").arg(&kernel).arg(argument("M=", &dir));
    make.args(["-s", "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "CC=aarch64-linux-gnu-gcc", "W=1"]);
    // The headers have no vmlinux to make type information from; and the compiler may be older than the kernel's.
    make.args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "modules"]);
    host::run(&mut make).context("the Linux modules do not build")?;
    for module in [FRONT, BACK] {
        ensure!(dir.join(module).exists(), "the build left no {module} in {}", dir.display());
        let mut strip = Command::new("aarch64-linux-gnu-strip");
        host::run(strip.arg("--strip-debug").arg(dir.join(module)))?;
    }
    Ok(dir)
}

/// Where kbuild works: it writes beside the sources, which may lie in a folder that is only read.
fn copy_sources(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let sources = host::workspace().join("guest-abi/linux");
    for entry in fs::read_dir(&sources).with_context(|| format!("no {}", sources.display()))? {
        let (from, to) = entry.map(|entry| (entry.path(), dir.join(entry.file_name())))?;
        let content = fs::read(&from)?;
        // What has not changed keeps its time, so that make leaves it alone.
        if fs::read(&to).ok().as_ref() != Some(&content) {
            fs::write(&to, content)?;
        }
    }
    Ok(())
}

/// The headers of the guests' kernel, from the cache or from Debian.
fn headers() -> Result<PathBuf> {
    let release = guest_kernel()?;
    let name = format!("headers-{release}-{}", host::stamp([include_str!("modules.rs")]));
    let home = host::cache_dir()?.join(&name);
    host::cached(&name, |dir| unpack(dir, &home, &release).with_context(|| format!("cannot make the headers of Linux {release}")))?;
    Ok(home.join(format!("usr/src/linux-headers-{release}")))
}

/// The release of the guests' kernel: that of its image's package.
fn guest_kernel() -> Result<String> {
    let versions = guests::guests()?.versions()?;
    let image = versions.lines().find_map(|file| file.strip_prefix("linux-image-")?.split_once('_'));
    Ok(image.context("the guests' list of packages names no kernel")?.0.into())
}

/// Unpacks the headers into `dir`, to be used when it has become `home`.
fn unpack(dir: &Path, home: &Path, release: &str) -> Result<()> {
    doctor::need(&[doctor::APT, doctor::DPKG, doctor::KEYRING])?;
    let version = release.strip_suffix("-arm64").context("this is no kernel for arm64")?;
    eprintln!("modules: fetching the headers of Linux {release}");
    let names = [format!("linux-headers-{release}"), format!("linux-headers-{version}-common")];
    let mut debs = Apt::open("guests", "arm64", &[SUITE])?.download(&names)?;
    // Programs for the host, and the C library that they were linked with: the host's may be older.
    let tools = [format!("linux-kbuild-{version}"), "libc6".into()];
    debs.extend(Apt::open("kbuild", HOST.0, &[SUITE])?.download(&tools)?);
    apt::unpack(&debs, dir)?;

    for part in [release, &format!("{version}-common")] {
        let makefile = dir.join(format!("usr/src/linux-headers-{part}/Makefile"));
        let text = fs::read_to_string(&makefile)?;
        fs::write(&makefile, text.replace("/usr/src/", &format!("{}/usr/src/", home.display())))?;
    }
    let scripts = dir.join(format!("usr/lib/linux-kbuild-{version}/scripts"));
    // Debian's modpost only starts the program for the kernel's byte order and word size, beside it.
    [("basic/fixdep", "elf"), ("mod/modpost", "real-lsb-64")]
        .iter()
        .try_for_each(|(program, real)| wrap(&scripts.join(program), real, &home.join(HOST.1)))
}

/// Makes `program` start the ELF file of that name and the ending `real` under this dynamic linker and the libraries beside it.
fn wrap(program: &Path, real: &str, linker: &Path) -> Result<()> {
    let elf = program.with_extension(real);
    if !elf.exists() {
        fs::rename(program, &elf).with_context(|| format!("the headers hold no {}", program.display()))?;
    }
    let libraries = linker.parent().unwrap_or(Path::new("/"));
    let script = format!("#!/bin/sh\nexec '{}' --library-path '{}' \"$0.{real}\" \"$@\"\n", linker.display(), libraries.display());
    fs::write(program, script)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn argument(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push(path);
    argument
}
