//! The headers of the guests' kernel: Debian packages, unpacked privately; the programs that they bring run on the host.

use crate::apt::{self, Apt};
use crate::guests::Guests;
use crate::{doctor, host};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The host's architecture in Debian's words, and the dynamic linker that its C library's package holds.
const HOST: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("arm64", "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1")
} else {
    ("amd64", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
};

/// The headers of the guests' kernel, from the cache or from Debian.
pub fn headers(guests: &Guests) -> Result<PathBuf> {
    let release = guests.kernel_release()?;
    let name = format!("headers-{release}-{}", host::stamp([include_str!("headers.rs")]));
    let home = host::cache_dir()?.join(&name);
    let unpack = |dir: &Path| unpack(dir, &home, &release, guests.suites());
    host::cached(&name, |dir| unpack(dir).with_context(|| format!("cannot make the headers of Linux {release}")))?;
    Ok(home.join(format!("usr/src/linux-headers-{release}")))
}

/// Unpacks the headers into `dir`, to be used when it has become `home`.
fn unpack(dir: &Path, home: &Path, release: &str, suites: [&str; 2]) -> Result<()> {
    doctor::need(&[doctor::APT, doctor::DPKG, doctor::KEYRING])?;
    let version = release.strip_suffix("-arm64").context("this is no kernel for arm64")?;
    eprintln!("modules: fetching the headers of Linux {release}");
    let names = [format!("linux-headers-{release}"), format!("linux-headers-{version}-common")];
    let mut debs = Apt::open(&format!("kernel-{}", suites[0]), "arm64", &suites[..1])?.download(&names)?;
    // Programs for the host, and the C library that they were linked with: the host's may be older.
    let tools = [format!("linux-kbuild-{version}"), "libc6".into()];
    debs.extend(Apt::open(&format!("kbuild-{}", suites[0]), HOST.0, &suites)?.download(&tools)?);
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
