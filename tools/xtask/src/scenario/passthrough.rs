//! A device of the machine in a DomU, without an IOMMU: `virt`'s clock, whose node in the machine's tree says `xen,passthrough`.

use super::{BOOT, Scenario, Setup, guest};
use crate::console::Machine;
use crate::initrd::Root;
use crate::{doctor, host, qemu, xl};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const ALL: &[Scenario] = &[
    Scenario::new("passthrough", passthrough).on(|setup| on(setup, 3)),
    Scenario::new("gicv2-passthrough", passthrough).on(|setup| on(setup, 2)).long(),
];

/// The clock in the machine's tree.
pub const CLOCK: &str = "/pl031@9010000";
/// The settings with which the clock is passed to a DomU.
const SETTINGS: &str = "\"iomem=['0x9010,1']\" 'irqs=[34]' \"device_tree='/guest/rtc.dtb'\"";
/// Sets an alarm, and waits until its interrupt has come; prints the count of interrupts.
pub const ALARM: &str = "r=/sys/class/rtc/rtc0; echo +2 >$r/wakealarm; i=0; \
    until n=$(sed -n \"s/^ *[0-9]*: *\\([1-9][0-9]*\\) .*rtc-pl031/\\1/p\" /proc/interrupts); [ -n \"$n\" ] || [ $i = 90 ]; do sleep 1; i=$((i+1)); done; \
    echo $(cat $r/name) ${n%% *}";

fn on(setup: &mut Setup, gic: u32) -> Result<()> {
    setup.options.gic = gic;
    add_to_dom0(setup, "guest/rtc.dtb", fs::read(fragment(&setup.scratch)?)?)?;
    let tree = setup.scratch.join("passthrough.dtb");
    qemu::dump_tree(&setup.options, &setup.hypervisor, &setup.modules, &tree)?;
    mark(&tree)?;
    setup.options.qemu.extend(["-dtb".into(), tree.display().to_string()]);
    Ok(())
}

/// The tree of the devices that are passed through, compiled.
pub fn fragment(scratch: &Path) -> Result<PathBuf> {
    doctor::need(&[doctor::FDTPUT])?;
    let tree = scratch.join("rtc.dtb");
    let source = host::workspace().join("tests/system/rtc.dts");
    host::output(Command::new("dtc").args(["-q", "-I", "dts", "-O", "dtb", "-o"]).arg(&tree).arg(source))?;
    Ok(tree)
}

/// Marks the clock in the machine's tree.
pub fn mark(tree: &Path) -> Result<()> {
    host::run(Command::new(doctor::FDTPUT.file).args(["-t", "s"]).arg(tree).args([CLOCK, "xen,passthrough", ""]))
}

/// Adds a file to Dom0's root.
fn add_to_dom0(setup: &mut Setup, path: &str, content: Vec<u8>) -> Result<()> {
    let mut more = Root::default();
    more.file(path, content, 0o644);
    let mut archive = fs::read(setup.modules.initrd.as_ref().context("Dom0 has no root")?)?;
    archive.extend(more.pack()?);
    let initrd = setup.scratch.join("passthrough.cpio");
    fs::write(&initrd, archive)?;
    setup.modules.initrd = Some(initrd);
    Ok(())
}

/// What is for others is not Dom0's.
pub fn dom0_has_no_clock(machine: &mut Machine) -> Result<()> {
    let check = format!("grep -q disabled /proc/device-tree{CLOCK}/status && [ ! -e /sys/class/rtc/rtc0 ]");
    machine.sh(&check, 30).context("Dom0 has the clock")?;
    Ok(())
}

fn passthrough(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    dom0_has_no_clock(machine)?;
    let (status, said) = machine.status(&format!("xl create -p /guest/domu.cfg \"dtdev=['{CLOCK}']\" 2>&1"), 60)?;
    ensure!(status != 0 && said.contains("passthrough not supported on this platform"), "dtdev without an IOMMU: {said}");
    let before = xl::settled(machine)?;
    for round in 1..=2 {
        xl::create(machine, "domu1", 2, SETTINGS)?;
        xl::up(machine, "domu1")?;
        let alarm = guest(machine, ALARM)?;
        ensure!(alarm == "rtc-pl031 9010000.rtc 1", "round {round}: no alarm in the DomU: {alarm:?}");
        if round == 1 {
            let (status, said) = machine.status(&format!("xl create -p /guest/domu.cfg \"name='other'\" 'vif=[]' {SETTINGS} 2>&1"), 60)?;
            ensure!(status != 0 && said.contains("irq 34"), "two domains have the same interrupt: {said}");
            machine.sh("gone other", 90)?;
        }
        machine.sh("xl destroy domu1 && gone domu1", 90)?;
    }
    xl::free_is_again(machine, before, 2048)?;
    Ok("a DomU has the clock and its alarm, no other gets it meanwhile, the next one does".into())
}
