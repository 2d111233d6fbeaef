//! Memory: none is lost over many domains, too much is refused cleanly, a balloon gives back and takes.

use super::{BOOT, Scenario, boot_with_domu, guest};
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("toobig", toobig),
    Scenario::new("balloon", balloon),
    Scenario::new("leak-5", |machine| leak(machine, 5)),
    Scenario::new("leak-50", |machine| leak(machine, 50)).long(),
];

fn leak(machine: &mut Machine, rounds: u32) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("xl destroy domu1 && gone domu1", 60)?;
    // Once unmeasured: what Dom0 needs for the first DomUs (grant frames, event channel pages) stays its own.
    machine.sh("xl create -q /guest/domu.cfg && xl destroy domu1 && gone domu1", 90)?;
    let before = xl::settled(machine)?;
    for _ in 0..rounds {
        machine.sh("xl create -q /guest/domu.cfg && xl destroy domu1 && gone domu1", 90)?;
    }
    xl::free_is_again(machine, before, 0)?;
    Ok(format!("{before} kB free before and after {rounds} rounds"))
}

fn toobig(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("xl destroy domu1 && gone domu1", 60)?;
    let before = xl::settled(machine)?;
    let (status, said) = machine.status("xl create /guest/domu.cfg memory=8000", 120)?;
    ensure!(status != 0, "xl creates a DomU of 8000 MiB on a machine of 3 GiB");
    // With no autoballooning to stop it, xl runs into the hypervisor's own refusal, with much populated already.
    let (status, _) = machine.status("xl create /guest/domu.cfg memory=2100", 120)?;
    ensure!(status != 0, "xl creates a DomU larger than free memory");
    machine.sh("xl list | wc -l | grep '^2$'", 30)?;
    xl::free_is_again(machine, before, 0)?;
    xl::create(machine, "domu1", 2, "")?;
    xl::up(machine, "domu1")?;
    Ok(said.lines().find(|line| line.contains("error")).unwrap_or("refused").trim().into())
}

fn balloon(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    xl::create(machine, "domu1", 2, "memory=400")?;
    xl::up(machine, "domu1")?;
    // Not by `xl mem-set`, which aborts on Arm in libxl.
    let target = |machine: &mut Machine, mib: u64| {
        guest(machine, &format!("echo {} >/sys/devices/system/xen_memory/xen_memory0/target_kb", mib * 1024))?;
        machine.sh(&format!("i=0; until xl list domu1 | grep -E \"^domu1 +[0-9]+ +{mib} \"; do sleep 1; i=$((i+1)); [ $i -lt 30 ] || break; done; [ $i -lt 30 ]"), 60)?;
        xl::settled(machine)
    };
    let before = xl::settled(machine)?;
    let given = target(machine, 250)?.saturating_sub(before);
    // Stage-2 tables for blocks that are no longer whole: Xen takes them from the pool it filled when the domain was made, Xenolith from free
    // memory when it needs them. One page for each 2 MiB, and a few.
    const TABLES: u64 = 4 * (150 / 2 + 25);
    ensure!((150 * 1024 - TABLES..=150 * 1024).contains(&given), "the DomU gave back {given} kB, not 150 MiB");
    let after = target(machine, 400)?;
    ensure!((before - TABLES..=before).contains(&after), "{after} kB free with the DomU at its full size again, {before} kB before");
    guest(machine, "dd if=/dev/zero of=/tmp/x bs=1M count=150 2>/dev/null && rm /tmp/x")?;
    Ok("150 MiB given back and taken again".into())
}
