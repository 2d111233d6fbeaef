//! Boots that cannot succeed: the console says why in a clear line, and the machine does not go on.

use super::{Scenario, Setup};
use crate::console::Machine;
use crate::qemu;
use anyhow::{Context, Result, ensure};
use std::fs;

pub const ALL: &[Scenario] = &[
    Scenario::new("boot-without-kernel", |machine| refuses(machine, &["kernel", "dom0"])).on(|setup| {
        setup.modules.kernel = None;
        Ok(())
    }),
    Scenario::new("boot-damaged-kernel", |machine| refuses(machine, &["kernel", "dom0"])).on(damaged_kernel),
    Scenario::new("boot-too-little-memory", |machine| refuses(machine, &["memory"])).on(|setup| {
        setup.options.dom0_mem = "8G".into();
        Ok(())
    }),
    Scenario::new("boot-without-el2", |machine| refuses(machine, &["el2"])).ours().on(|setup| {
        setup.options.qemu = ["-M", "virtualization=off"].map(String::from).to_vec();
        Ok(())
    }),
    Scenario::new("boot-unknown-gic", |machine| refuses(machine, &["gic", "interrupt controller"]))
        .ours()
        .on(|setup| patch_device_tree(setup, b"arm,gic-v3", b"arm,gic-vX")),
    Scenario::new("boot-without-uart", |machine| refuses(machine, &["uart", "console"]))
        .ours()
        .on(|setup| patch_device_tree(setup, b"arm,pl011", b"arm,plXXX")),
];

/// A kernel of the right size without its header.
fn damaged_kernel(setup: &mut Setup) -> Result<()> {
    let kernel = setup.modules.kernel.as_mut().context("no kernel to damage")?;
    let mut bytes = fs::read(&kernel)?;
    bytes.iter_mut().take(4096).for_each(|byte| *byte = 0xa5);
    *kernel = setup.scratch.join("damaged-kernel");
    Ok(fs::write(kernel, bytes)?)
}

/// Gives the machine its own device tree with `old` overwritten by `new`.
fn patch_device_tree(setup: &mut Setup, old: &[u8], new: &[u8]) -> Result<()> {
    let file = setup.scratch.join("patched.dtb");
    qemu::dump_tree(&setup.options, &setup.hypervisor, &setup.modules, &file)?;
    let mut tree = fs::read(&file)?;
    let found: Vec<_> = tree.windows(old.len()).enumerate().filter(|(_, bytes)| *bytes == old).map(|(at, _)| at).collect();
    ensure!(!found.is_empty(), "the machine's device tree has no {}", String::from_utf8_lossy(old));
    found.into_iter().for_each(|at| tree[at..at + new.len()].copy_from_slice(new));
    fs::write(&file, tree)?;
    setup.options.qemu = vec!["-dtb".into(), file.display().to_string()];
    Ok(())
}

/// The last lines that the hypervisor says name one of the `reasons`; Dom0 does not come up.
fn refuses(machine: &mut Machine, reasons: &[&str]) -> Result<String> {
    let said = machine.listen(20);
    ensure!(!said.contains("DOM0-UP"), "Dom0 comes up all the same");
    let last: Vec<_> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(12).collect();
    let reason = last.iter().find(|line| reasons.iter().any(|reason| line.to_lowercase().contains(reason)));
    Ok((*reason.context("the console does not say why")?).into())
}
