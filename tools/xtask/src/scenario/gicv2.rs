//! The same machine with a GICv2. `--gic 2` runs any other scenario there.

use super::{BOOT, Scenario, Setup, boot, lifecycle, network, vcpus};
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("gicv2-dom0-1-cpu", |machine| boot::dom0(machine, 1, 1)).on(|setup| on(setup, 1)).long(),
    Scenario::new("gicv2-dom0-2-cpus", |machine| boot::dom0(machine, 2, 2)).on(|setup| on(setup, 2)),
    Scenario::new("gicv2-dom0-4-cpus", |machine| boot::dom0(machine, 4, 4)).on(|setup| on(setup, 4)).long(),
    Scenario::new("gicv2-dom0-8-cpus", |machine| boot::dom0(machine, 8, 8)).on(|setup| on(setup, 8)).long(),
    Scenario::new("gicv2-domu-net", network::domu_net).on(|setup| on(setup, 2)),
    Scenario::new("gicv2-pause-reboot-crash", lifecycle::pause_reboot_crash).on(|setup| on(setup, 2)).long(),
    Scenario::new("gicv2-vcpus", vcpus::vcpus).on(|setup| on(setup, 2)).long(),
    Scenario::new("gicv2-versions", versions).on(|setup| on(setup, 2)),
    Scenario::new("gicv3-versions", gicv3_versions).on(|setup| {
        setup.options.gic = 3;
        Ok(())
    }),
];

fn on(setup: &mut Setup, cpus: u32) -> Result<()> {
    setup.options.gic = 2;
    setup.options.smp = cpus;
    Ok(())
}

/// A guest can ask for what the hardware has, and for nothing else.
fn versions(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    ensure!(refused(machine, "gic_version=\"v3\"")?, "a GICv3 on a GICv2");
    ensure!(refused(machine, "vcpus=9")?, "nine vCPUs on a GICv2");
    xl::create(machine, "domu1", 2, "\"gic_version='v2'\" vcpus=8")?;
    xl::up(machine, "domu1")?;
    ensure!(super::guest(machine, "grep -c ^processor /proc/cpuinfo")? == "8", "the DomU does not have 8 CPUs");
    machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    Ok("v3 and nine vCPUs refused, v2 and eight run".into())
}

fn gicv3_versions(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    ensure!(refused(machine, "gic_version=\"v2\"")?, "a GICv2 on a GICv3");
    Ok("v2 refused".into())
}

/// Whether `xl create` fails, and leaves nothing behind.
fn refused(machine: &mut Machine, setting: &str) -> Result<bool> {
    let (status, _) = machine.status(&format!("xl create -p /guest/domu.cfg '{setting}' >/dev/null 2>&1"), 60)?;
    machine.sh("xl list | wc -l | grep '^2$'", 30)?;
    Ok(status != 0)
}
