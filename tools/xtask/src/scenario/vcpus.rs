//! A DomU with several vCPUs: seen, pinned, weighed, taken away and given back.

use super::{Scenario, boot_with_domu, guest};
use crate::console::Machine;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[Scenario::new("vcpus", vcpus)];

pub(super) fn vcpus(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "vcpus=4")?;
    let online = "grep -c ^processor /proc/cpuinfo";
    ensure!(guest(machine, online)? == "4", "the DomU does not have 4 CPUs");
    // All four at work at once.
    let work = "for i in 1 2 3 4; do (dd if=/dev/urandom bs=1M count=4 2>/dev/null | md5sum >/dev/null; echo done) & done; wait";
    ensure!(guest(machine, work)?.lines().count() == 4, "not all of the DomU's CPUs work");
    ensure!(machine.sh("xl vcpu-list domu1", 30)?.lines().count() == 5, "xl vcpu-list does not show 4 vCPUs");

    machine.sh("xl vcpu-pin domu1 2 1", 30)?;
    machine.sh("xl vcpu-list domu1 | grep -E '^domu1 +[0-9]+ +2 .* 1 / all'", 30)?;
    machine.sh("xl vcpu-pin domu1 all 0 && xl vcpu-list domu1 | grep -c ' 0 / all' | grep 4", 30)?;
    ensure!(guest(machine, work)?.lines().count() == 4, "the DomU's CPUs do not work when pinned to one");
    machine.sh("xl vcpu-pin domu1 all all", 30)?;

    machine.sh("xl sched-credit2 -d domu1 -w 512 -c 50", 30)?;
    machine.sh("xl sched-credit2 -d domu1 | grep -E '512 +50'", 30)?;
    machine.sh("xl sched-credit2 -d domu1 -c 0", 30)?;

    machine.sh("xl vcpu-set domu1 2", 30)?;
    machine.sh("xenstore-read /local/domain/$(xl domid domu1)/cpu/3/availability | grep offline", 30)?;
    let down = "i=0; until [ $(xl vcpu-list domu1 | grep -c -e --p) = 2 ] || [ $i = 30 ]; do sleep 1; i=$((i+1)); done; [ $i -lt 30 ]";
    machine.sh(down, 60)?;
    ensure!(guest(machine, online)? == "2", "after vcpu-set 2 the DomU does not have 2 CPUs");
    machine.sh("xl vcpu-set --ignore-host domu1 4", 30)?;
    // Linux only learns that it may: bringing them up is udev's part, or ours.
    machine.sh("xenstore-read /local/domain/$(xl domid domu1)/cpu/3/availability | grep online", 30)?;
    guest(machine, "sleep 2; for i in 2 3; do echo 1 >/sys/devices/system/cpu/cpu$i/online; done")?;
    let again = guest(machine, online)?;
    ensure!(again == "4", "after vcpu-set 2 and 4 the DomU has {again} CPUs");
    ensure!(guest(machine, work)?.lines().count() == 4, "not all of the DomU's CPUs work any more");
    Ok("4 vCPUs pinned, weighed, set to 2 and back".into())
}
