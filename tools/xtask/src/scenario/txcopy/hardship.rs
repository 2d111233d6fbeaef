//! Tx copy under load while things stall, come, go and die.

use super::{attached, load_both, no_trouble, sent};
use crate::console::Machine;
use crate::scenario::{BOOT, Setup, boot_with_domu, guest};
use crate::xl;
use anyhow::{Context, Result, ensure};

pub fn four_cpus(setup: &mut Setup) -> Result<()> {
    setup.options.smp = 4;
    Ok(())
}

/// The vif goes, then the DomU.
pub const DETACHED: &str = "xl network-detach domu1 0; sleep 1; xl destroy domu1";
/// Its kernel panics.
pub const CRASHED: &str = "(guest 2 'echo c >/proc/sysrq-trigger' 5 >/dev/null 2>&1 &) ; sleep 4; xl destroy domu1";
/// It dies and is made again.
pub const REBOOTED: &str = ">/var/log/xen/console/guest-domu1.log; xl reboot domu1; up domu1 && xl destroy domu1";

/// Four CPUs, four queues, eight connections each way.
pub fn smp(machine: &mut Machine, seconds: u32) -> Result<String> {
    boot_with_domu(machine, "vcpus=4")?;
    machine.sh("tx load", 30)?;
    guest(machine, "tx load")?;
    attached(machine, 4, "eth0")?;
    let before = sent(machine)?;
    let rates = eight_connections(machine, seconds)?;
    let packets = sent(machine)? - before;
    ensure!(packets > 1000, "only {packets} packets went by tx copy");
    let busy = machine.sh("grep -o 'packets [1-9][0-9]*' /sys/class/net/vif*/xenolith_tx/channels | wc -l", 30)?;
    ensure!(busy.trim().parse::<u32>()? >= 2, "eight connections use one queue only");
    no_trouble(machine)?;
    xl::ping(machine, 2)?;
    Ok(format!("{packets} packets on 4 queues; {rates}"))
}

/// The same without tx copy, as what it is compared with.
pub fn stock_smp(machine: &mut Machine, seconds: u32) -> Result<String> {
    boot_with_domu(machine, "vcpus=4")?;
    let rates = eight_connections(machine, seconds)?;
    no_trouble(machine)?;
    xl::ping(machine, 2)?;
    Ok(rates)
}

fn eight_connections(machine: &mut Machine, seconds: u32) -> Result<String> {
    let mut rate = |options: &str| {
        let said =
            machine.sh(&format!("iperf3 -c 10.0.0.2 -P 8 -t {seconds} -f m {options} | grep 'SUM.*receiver'"), u64::from(seconds) + 60)?;
        let rate = said.split("MBytes").nth(1).and_then(|rest| rest.split_whitespace().next()).context("iperf3 gives no sum")?;
        ensure!(rate.parse::<f64>()? > 0.0, "nothing came through: {said}");
        Ok(rate.to_string())
    };
    let (from, to) = (rate("-R")?, rate("")?);
    rate("--bidir")?;
    Ok(format!("{from} Mbit/s from the DomU, {to} to it"))
}

/// A consumer that stands still stops the sender, and only for as long.
pub fn stall(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    load_both(machine)?;
    let vif = machine.sh("basename /sys/class/net/vif*.0", 30)?.trim().to_string();

    // Dom0 no longer polls: the ring fills, then the batch page, then the socket's buffer.
    machine.sh("(guest 2 'iperf3 -c 10.0.0.1 -u -b 0 -l 1400 -t 40 >/tmp/udp 2>&1' >/dev/null 2>&1 &); sleep 4", 30)?;
    guest(machine, "(sleep 2; tx watch 16 >/tmp/watch) >/dev/null 2>&1 &")?;
    machine.sh(&format!("ip link set {vif} down; sleep 12"), 60)?;
    let resumed: u32 = machine.sh(&format!("tx resume {vif}"), 60)?.trim().parse()?;
    let watched = guest(machine, "sleep 3; cat /tmp/watch")?;
    // While it lasts; the first and the last samples may lie outside.
    let samples: Vec<_> = watched.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let still = samples.chunk_by(|one, other| one[0] == other[0]).max_by_key(|run| run.len()).context("nothing was watched")?;
    ensure!(still.len() >= 8, "the DomU goes on sending while nobody receives:\n{watched}");
    let waits = still.iter().filter(|sample| sample.iter().any(|wait| wait.contains("sock_"))).count();
    ensure!(waits >= still.len() - 1, "the sender is not blocked:\n{watched}");
    let memory = |i: usize| samples.get(i).and_then(|sample| sample.get(1)?.parse::<i64>().ok()).context("no memory watched");
    let grown = memory(0)? - memory(samples.len() - 1)?;
    ensure!(grown < 4096, "the DomU's memory shrank by {grown} kB while it waited:\n{watched}");
    ensure!(resumed < 100, "the DomU sent again only after {resumed} hundredths of a second");

    // A reader that is stopped holds its TCP sender in the same way.
    machine.sh("killall iperf3; sleep 1; iperf3 -s -D; sleep 1", 30)?;
    guest(machine, "killall iperf3")?;
    machine.sh("(guest 2 'iperf3 -c 10.0.0.1 -t 20 >/tmp/tcp 2>&1' >/dev/null 2>&1 &); sleep 3", 30)?;
    machine.sh("killall -STOP iperf3; sleep 3", 30)?;
    let first = sent(machine)?;
    machine.sh("sleep 3", 30)?;
    let more = sent(machine)? - first;
    ensure!(more < 100, "{more} packets while the reader was stopped");
    machine.sh("killall -CONT iperf3; sleep 2", 30)?;
    let after = sent(machine)? - first;
    ensure!(after > 200 + more, "only {after} packets since the reader goes on");
    no_trouble(machine)?;
    Ok(format!("blocked while Dom0 did not poll ({grown} kB more used), and sent again within {resumed} hundredths of a second"))
}

/// What netfront of Linux 6.12 does not give back of an interface that goes, on Debian's Xen and without tx copy too: in kB, the buffers that
/// it has posted.
const NETFRONT_KEEPS: u64 = 256 * 4;
/// Rounds with each of which an interface comes and goes.
const INTERFACE_ROUNDS: u32 = 5;

/// Modules and interfaces that come and go under one connection that lasts.
pub fn cycles(machine: &mut Machine, rounds: u32) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("ip addr add 10.1.0.1/24 dev xenbr0", 20)?;
    load_both(machine)?;
    // In a shell of its own: this one would tell of its end among other answers.
    machine.sh("(iperf3 -c 10.0.0.2 -R -t 86400 >/tmp/load 2>&1 & echo $! >/tmp/pid)", 20)?;
    // Once unmeasured: what both kernels need for the first interface stays theirs.
    cycle(machine)?;
    interface(machine)?;
    let before = memory(machine)?;
    for round in 1..=rounds {
        cycle(machine).with_context(|| format!("round {round}"))?;
        if round % INTERFACE_ROUNDS == 0 {
            interface(machine).with_context(|| format!("round {round}"))?;
        }
    }
    let after = memory(machine)?;
    machine.sh("kill -0 $(cat /tmp/pid)", 20).context("the connection is lost")?;
    let vif = "cat /sys/class/net/vif*.0/statistics/rx_bytes";
    let (first, second) = (machine.sh(vif, 20)?, machine.sh(&format!("sleep 2; {vif}"), 20)?);
    ensure!(first != second, "the connection stands still");
    machine.sh("kill -INT $(cat /tmp/pid); sleep 1; ! grep -q error /tmp/load", 20)?;
    no_trouble(machine)?;
    ensure!(before[0].abs_diff(after[0]) <= 64, "{} kB free in the hypervisor, {} before", after[0], before[0]);
    let kept = u64::from(rounds / INTERFACE_ROUNDS) * NETFRONT_KEEPS;
    for (who, i, kept) in [("Dom0", 1, 0), ("the DomU", 2, kept)] {
        ensure!(before[i].saturating_sub(after[i]) <= 4096 + kept, "{} kB free in {who}, {} before", after[i], before[i]);
    }
    Ok(format!("{rounds} rounds under one connection; free memory {before:?} kB before, {after:?} after"))
}

/// Each module goes and comes back.
fn cycle(machine: &mut Machine) -> Result<()> {
    guest(machine, "tx unload; tx load")?;
    attached(machine, 1, "eth0")?;
    machine.sh("tx unload && tx load", 60)?;
    attached(machine, 1, "eth0")
}

/// A second interface comes, sends, and goes in full flight.
fn interface(machine: &mut Machine) -> Result<()> {
    machine.sh("xl network-attach domu1 bridge=xenbr0 mac=00:16:3e:00:01:02", 60)?;
    guest(machine, "until ifconfig eth1 10.1.0.2 netmask 255.255.255.0 up 2>/dev/null; do sleep 1; done")?;
    attached(machine, 1, "eth1")?;
    guest(machine, "iperf3 -s -D -1 -p 5202 >/dev/null 2>&1")?;
    machine.sh("(iperf3 -c 10.1.0.2 -p 5202 -R -t 30 >/dev/null 2>&1 & echo $! >/tmp/second); sleep 2", 20)?;
    machine.sh("xl network-detach domu1 1 && { kill $(cat /tmp/second) 2>/dev/null; true; }", 60)?;
    let gone = "i=0; while [ -e /sys/class/net/eth1 ] && [ $i -lt 30 ]; do sleep 0.5; i=$((i+1)); done; kill $(pgrep -f 5202) 2>/dev/null; ls /sys/class/net";
    ensure!(!guest(machine, gone)?.contains("eth1"), "eth1 is still in the DomU");
    Ok(())
}

/// Free memory in kB of the hypervisor, of Dom0 and of the DomU.
fn memory(machine: &mut Machine) -> Result<[u64; 3]> {
    let (dom0, domu) = (machine.sh("tx mem", 60)?, guest(machine, "tx mem")?);
    Ok([xl::settled(machine)?, dom0.trim().parse()?, domu.parse()?])
}

/// A DomU ends under load, in each of these ways. The first time is not measured: Dom0 takes what it needs to serve a DomU.
pub fn destroy(machine: &mut Machine, ends: &[&str]) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    machine.sh("tx load; EXTRA=tx", 30)?;
    let mut before = 0;
    for end in [&["xl destroy domu1"], ends].concat() {
        xl::create(machine, "domu1", 2, "")?;
        xl::up(machine, "domu1")?;
        // Dom0 may still hold the address for unreachable: the one who had it died under load.
        machine.sh("until ping -c 1 -W 1 10.0.0.2 >/dev/null; do :; done", 30)?;
        attached(machine, 1, "eth0")?;
        machine.sh("for p in 5202 5203; do guest 2 \"iperf3 -s -D -p $p >/dev/null\"; done", 30)?;
        machine.sh(
            "(iperf3 -c 10.0.0.2 -p 5202 -R -u -b 0 -t 99 & iperf3 -c 10.0.0.2 -p 5203 --bidir -t 99 &) >/dev/null 2>&1; sleep 2",
            30,
        )?;
        let sent = sent(machine)?;
        ensure!(sent > 200, "only {sent} packets went by tx copy");
        machine.sh(end, 120)?;
        machine.sh("gone domu1; killall iperf3; iperf3 -s -D", 90)?;
        ensure!(machine.status("ls -d /sys/class/net/vif*", 20)?.0 != 0, "after `{end}` there is a vif left");
        if before == 0 {
            before = xl::settled(machine)?;
        } else {
            xl::free_is_again(machine, before, 0).with_context(|| format!("after `{end}`"))?;
        }
    }
    machine.sh("xl debug-keys A; xl dmesg | grep AUDIT | tail -1 | grep ok", 60)?;
    machine.sh("tx trouble | grep . && exit 1; tx unload", 30)?;
    Ok(format!("{before} kB free each time"))
}
