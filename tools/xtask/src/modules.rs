//! `cargo xtask modules`: builds the Linux modules of tx copy for the project's guest kernel, or with `KDIR=` for another one.

use crate::guests::Guests;
use crate::initrd::Root;
use crate::{doctor, guests, headers, host, qemu};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is built.
const FRONT: &str = "xenolith-tx-front.ko";
const BACK: &str = "xenolith-tx-back.ko";
/// What scenarios say to the modules and ask of them, in either domain.
const TX: &str = include_str!("../../../tests/system/tx");

/// Builds the modules for the kernel that `KDIR` names, else for the guests' one; returns the folder that holds them.
pub fn modules() -> Result<PathBuf> {
    match std::env::var_os("KDIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => build(Path::new(&dir)),
        None => build(&headers::headers(&guests::guests()?)?),
    }
}

/// What boots with the modules at hand: Dom0's kernel, and its root with the back end's module in it and the front end's for its DomUs.
pub fn at_hand(guests: &Guests) -> Result<qemu::Modules> {
    let dir = build(&headers::headers(guests)?)?;
    let module = |name: &str| fs::read(dir.join(name)).with_context(|| format!("no {name}"));
    let (mut dom0, mut domu) = (Root::default(), Root::default());
    for (root, name) in [(&mut domu, FRONT), (&mut dom0, BACK)] {
        root.file(&format!("lib/modules/{name}"), module(name)?, 0o644);
        root.file("bin/tx", TX, 0o755);
    }
    // Dom0's init puts it behind the DomU's root.
    dom0.file("guest/modules.cpio", domu.pack()?, 0o644);
    let initrd = host::target_dir().join(format!("xenolith/dom0-{}.cpio", guests.kernel_release()?));
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

fn argument(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push(path);
    argument
}
