//! What KVM's host needs beside Dom0's root: QEMU for Arm64, from Debian.

use crate::apt::{self, Apt};
use crate::host;
use crate::initrd::Root;
use anyhow::{Context, Result};
use std::fs;

/// The archive that is put behind Dom0's root.
pub fn root() -> Result<Vec<u8>> {
    let dir = host::cached(&format!("kvm-{}", host::stamp([include_str!("kvm.rs")])), |dir| {
        eprintln!("bench: fetching QEMU for Arm64 from Debian");
        let apt = Apt::open("guests", "arm64", &["trixie"])?;
        let unpacked = dir.join("unpacked");
        apt::unpack(&apt.download_closure(&["qemu-system-arm".into()])?, &unpacked)?;
        let mut root = Root::default();
        root.program(&unpacked, "usr/bin/qemu-system-aarch64")?;
        fs::write(dir.join("kvm.cpio"), root.pack()?)?;
        fs::remove_dir_all(unpacked)?;
        Ok(())
    })
    .context("cannot make KVM's host")?;
    Ok(fs::read(dir.join("kvm.cpio"))?)
}
