//! Dom0 boots on one and several CPUs, with one and several vCPUs, with either store daemon, and powers off.

use super::{BOOT, Scenario, Setup, guest};
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("dom0-1-cpu", |machine| dom0(machine, 1, 1)).on(|setup| cpus(setup, 1, 1)),
    Scenario::new("dom0-2-cpus", |machine| dom0(machine, 2, 2)),
    Scenario::new("dom0-4-cpus", |machine| dom0(machine, 4, 4)).on(|setup| cpus(setup, 4, 4)),
    Scenario::new("dom0-8-cpus", |machine| dom0(machine, 8, 8)).on(|setup| cpus(setup, 8, 8)).long(),
    Scenario::new("dom0-1-vcpu", |machine| dom0(machine, 2, 1)).on(|setup| cpus(setup, 2, 1)),
    Scenario::new("dom0-more-vcpus-than-cpus", |machine| dom0(machine, 1, 3)).on(|setup| cpus(setup, 1, 3)),
    Scenario::new("oxenstored", oxenstored).on(|setup| {
        setup.options.dom0args = "STORED=oxenstored".into();
        Ok(())
    }),
];

fn cpus(setup: &mut Setup, cpus: u32, vcpus: u32) -> Result<()> {
    setup.options.smp = cpus;
    setup.options.dom0_vcpus = (vcpus != cpus).then_some(vcpus);
    Ok(())
}

pub(super) fn dom0(machine: &mut Machine, cpus: u32, vcpus: u32) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    let online: u32 = machine.sh("grep -c ^processor /proc/cpuinfo", 30)?.trim().parse()?;
    ensure!(online == vcpus, "Dom0 has {online} CPUs, not {vcpus}");
    ensure!(machine.sh("cat /proc/xen/capabilities", 30)?.trim() == "control_d", "Dom0 does not control the machine");
    let info = machine.sh("xl info", 30)?;
    ensure!(xl::field(&info, "nr_cpus")? == cpus.to_string(), "xl sees {} CPUs", xl::field(&info, "nr_cpus")?);
    // It comes to its end, although what it prints goes through the hypervisor too.
    machine.sh("xl dmesg", 30)?;
    // Time passes at one pace on all vCPUs.
    machine.sh("a=$(date +%s); sleep 2; b=$(date +%s); [ $((b-a)) -ge 2 ] && [ $((b-a)) -le 4 ]", 60)?;
    machine.type_line("poweroff -f")?;
    machine.wait_off(60)?;
    Ok(format!("{vcpus} vCPUs on {cpus} CPUs, powered off"))
}

fn oxenstored(machine: &mut Machine) -> Result<String> {
    super::boot_with_domu(machine, "")?;
    ensure!(machine.sh("pidof oxenstored", 20).is_ok(), "the store daemon is not oxenstored");
    xl::ping(machine, 2)?;
    guest(machine, "uname")?;
    machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    Ok("a DomU's whole life".into())
}
