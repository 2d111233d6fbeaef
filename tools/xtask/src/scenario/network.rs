//! Networking: Dom0 and DomU, two DomUs through the bridge, interfaces that come and go under load.

use super::{Scenario, boot_with_domu, guest};
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] =
    &[Scenario::new("domu-net", domu_net), Scenario::new("two-domus", two_domus), Scenario::new("netattach", netattach)];

pub(super) fn domu_net(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    xl::ping(machine, 2)?;
    machine.sh("ping -c 3 -s 8000 10.0.0.2 | grep ' 0% packet loss'", 30)?;
    let rates = [xl::rate(machine, 2, "")?, xl::rate(machine, 2, "-R")?];
    xl::rate(machine, 2, "-u -b 20M")?;
    machine.sh("netperf -H 10.0.0.2 -t TCP_RR -l 2 >/tmp/rr && [ -s /tmp/rr ]", 60)?;
    machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    ensure!(machine.status("ls -d /sys/class/net/vif*", 20)?.0 != 0, "the DomU's vif is still there");
    Ok(format!("{} to the DomU, {} from it", rates[0], rates[1]))
}

fn two_domus(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    xl::create(machine, "domu2", 3, "")?;
    xl::up(machine, "domu2")?;
    let lost = guest(machine, "ping -c 3 -W 5 10.0.0.3 | grep loss")?;
    ensure!(lost.contains(" 0% packet loss"), "from one DomU to the other: {lost}");
    let rate = guest(machine, "iperf3 -c 10.0.0.3 -t 3 -f m | grep receiver")?;
    ensure!(rate.contains("bits/sec"), "iperf3 from one DomU to the other gives no rate: {rate:?}");
    // One goes, the other stays reachable.
    machine.sh("xl destroy domu2 && gone domu2", 60)?;
    xl::ping(machine, 2)?;
    Ok("they reach each other through the bridge".into())
}

fn netattach(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("ip addr add 10.1.0.1/24 dev xenbr0", 20)?;
    machine.sh("(iperf3 -c 10.0.0.2 -t 30 >/tmp/load 2>&1 &)", 20)?;
    for round in 1..=2 {
        machine.sh("xl network-attach domu1 bridge=xenbr0 mac=00:16:3e:00:01:02", 60)?;
        guest(machine, "until ifconfig eth1 10.1.0.2 netmask 255.255.255.0 up 2>/dev/null; do sleep 1; done")?;
        machine.sh("ping -c 2 -W 5 10.1.0.2 | grep ' 0% packet loss'", 30)?;
        if round == 2 {
            // This time its own traffic is cut off in full flight.
            guest(machine, "iperf3 -s -D -1 -p 5202 >/dev/null 2>&1")?;
            machine.sh("(iperf3 -c 10.1.0.2 -p 5202 -t 30 >/dev/null 2>&1 &); sleep 2", 20)?;
        }
        machine.sh("xl network-detach domu1 1", 60)?;
        let gone =
            "i=0; while [ -e /sys/class/net/eth1 ] && [ $i -lt 15 ]; do sleep 1; i=$((i+1)); done; [ -e /sys/class/net/eth1 ] || echo gone";
        ensure!(guest(machine, gone)? == "gone", "eth1 is still in the DomU");
    }
    xl::ping(machine, 2)?;
    machine.sh(
        "i=0; until grep -q receiver /tmp/load; do sleep 1; i=$((i+1)); [ $i -lt 60 ] || break; done; grep -q receiver /tmp/load",
        90,
    )?;
    Ok("an interface came and went twice under load".into())
}
