//! Boots as on a real machine: firmware and boot loaders of Debian start the hypervisor from a disk.

use super::{Scenario, Setup};
use crate::console::Machine;
use crate::firmware::{self, Files, Firmware};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

pub const ALL: &[Scenario] = &[
    Scenario::new("boot-uefi", dom0_with_a_domu).on(|setup| from_disk(setup, "uefi", firmware::uefi)),
    Scenario::new("boot-grub", dom0_with_a_domu).on(|setup| from_disk(setup, "grub", firmware::grub)),
    Scenario::new("boot-u-boot", dom0_with_a_domu).on(|setup| from_disk(setup, "u-boot", firmware::u_boot)),
    Scenario::new("boot-gzip", dom0_with_a_domu).on(compressed_kernel),
];

fn compressed_kernel(setup: &mut Setup) -> Result<()> {
    let kernel = setup.modules.kernel.as_mut().context("no kernel to compress")?;
    let packed = setup.scratch.join("vmlinuz.gz");
    let gzip = Command::new("gzip").arg("-1c").arg(&kernel).output().context("cannot run gzip")?;
    ensure!(gzip.status.success(), "gzip failed");
    fs::write(&packed, gzip.stdout)?;
    *kernel = packed;
    Ok(())
}

fn from_disk(setup: &mut Setup, name: &str, make: fn(&Files<'_>, &Path) -> Result<Firmware>) -> Result<()> {
    let disk = setup.scratch.join(format!("{name}-disk"));
    let kernel = setup.modules.kernel.as_deref().context("no kernel")?;
    let initrd = setup.modules.initrd.as_deref().context("no root")?;
    setup.firmware = Some(make(&Files { hypervisor: &setup.hypervisor, kernel, initrd }, &disk)?);
    Ok(())
}

/// Dom0 with all its CPUs comes up, makes a DomU, and powers off.
fn dom0_with_a_domu(machine: &mut Machine) -> Result<String> {
    super::boot_with_domu(machine, "")?;
    let cpus = machine.sh("nproc", 30)?;
    ensure!(cpus.trim() == "2", "Dom0 has {cpus} CPUs");
    machine.sh("ping -c 3 10.0.0.2", 60)?;
    machine.type_line("poweroff -f")?;
    machine.wait_off(60)?;
    Ok("Dom0 on 2 CPUs, a DomU that answers".into())
}
