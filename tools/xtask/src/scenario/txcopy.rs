//! Tx copy as a user has it: Debian's kernel in DomU and Dom0, the stock drivers, and a module loaded on each side.

mod hardship;

use super::{BOOT, Scenario, boot_with_domu, guest};
use crate::console::Machine;
use crate::{guests, modules, xl};
use anyhow::{Context, Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("txcopy-basic", basic).ours(),
    Scenario::new("txcopy-cost", cost).ours(),
    Scenario::new("txcopy-hold", hold).ours(),
    Scenario::new("txcopy-off", off).ours(),
    Scenario::new("txcopy-second-kernel", second_kernel).ours().long().on(|setup| {
        setup.modules = modules::at_hand(&guests::with_second_kernel()?)?;
        Ok(())
    }),
    Scenario::new("txcopy-on-xen", on_xen).ours().on(|setup| {
        setup.hypervisor = guests::guests()?.xen();
        Ok(())
    }),
    Scenario::new("txcopy-smp", |machine| hardship::smp(machine, 3)).ours().on(hardship::four_cpus),
    Scenario::new("txcopy-smp-20", |machine| hardship::smp(machine, 20)).ours().long().on(hardship::four_cpus),
    Scenario::new("stock-smp-20", |machine| hardship::stock_smp(machine, 20)).long().on(hardship::four_cpus),
    Scenario::new("txcopy-stall", hardship::stall).ours(),
    Scenario::new("txcopy-cycles-5", |machine| hardship::cycles(machine, 5)).ours().long(),
    Scenario::new("txcopy-cycles-100", |machine| hardship::cycles(machine, 100)).ours().long(),
    Scenario::new("txcopy-destroy", |machine| hardship::destroy(machine, &[hardship::DETACHED])).ours(),
    Scenario::new("txcopy-crash", |machine| hardship::destroy(machine, &["xl destroy domu1", hardship::CRASHED, hardship::REBOOTED]))
        .ours()
        .long(),
];

/// Loads both modules and waits until the DomU's only queue sends by tx copy.
pub fn load_both(machine: &mut Machine) -> Result<()> {
    machine.sh("tx load", 30)?;
    guest(machine, "tx load")?;
    attached(machine, 1, "eth0")
}

/// Waits until an interface of the DomU sends all its queues' packets by tx copy.
fn attached(machine: &mut Machine, queues: u32, interface: &str) -> Result<()> {
    let said = guest(machine, &format!("tx queues {queues} {interface}"))?;
    ensure!(said == "attached", "{interface} does not send by tx copy on {queues} queues: {said}");
    Ok(())
}

/// A counter of the DomU's end.
pub fn sent(machine: &mut Machine) -> Result<u64> {
    Ok(guest(machine, "tx count packets")?.parse()?)
}

/// Neither kernel has complained.
fn no_trouble(machine: &mut Machine) -> Result<()> {
    let said = machine.sh("tx trouble", 30)? + &guest(machine, "tx trouble")?;
    ensure!(said.trim().is_empty(), "a kernel says: {}", said.trim());
    Ok(())
}

/// The numbers in an answer.
fn numbers<const N: usize>(answer: &str) -> Result<[u64; N]> {
    let numbers: Vec<u64> = answer.split_whitespace().map(str::parse).collect::<Result<_, _>>().with_context(|| answer.to_string())?;
    numbers.try_into().ok().with_context(|| format!("not {N} numbers: {answer}"))
}

/// The modules in either order, before and after the vif, away and back.
fn basic(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    guest(machine, "tx load")?;
    xl::ping(machine, 2)?;
    ensure!(guest(machine, "tx queues 0")? == "attached" && sent(machine)? == 0, "the front end alone does not stay idle");
    machine.sh("tx load", 30)?;
    attached(machine, 1, "eth0")?;
    let before = sent(machine)?;
    let rate = xl::rate(machine, 2, "-R")?;
    let after = sent(machine)?;
    ensure!(after > before + 200, "iperf3 sent {} packets by tx copy", after - before);
    // A vif that comes when both are there.
    machine.sh("ip addr add 10.1.0.1/24 dev xenbr0; xl network-attach domu1 bridge=xenbr0 mac=00:16:3e:00:01:02", 60)?;
    guest(machine, "until ifconfig eth1 10.1.0.2 netmask 255.255.255.0 up 2>/dev/null; do sleep 1; done")?;
    attached(machine, 1, "eth1")?;
    machine.sh("ping -c 2 -W 5 10.1.0.2 | grep ' 0% packet loss'", 30)?;
    // The other order, and a vif that does not go by Dom0's end while it is away.
    machine.sh("tx unload", 60)?;
    xl::ping(machine, 2)?;
    ensure!(guest(machine, "tx queues 0")? == "attached", "the front end still sends by a channel that is gone");
    guest(machine, "tx unload")?;
    xl::ping(machine, 2)?;
    machine.sh("! xenstore-ls -f | grep -q xenolith-tx", 30)?;
    load_both(machine)?;
    attached(machine, 1, "eth1")?;
    machine.sh("ping -c 2 -s 8000 -W 5 10.0.0.2 | grep ' 0% packet loss'", 30)?;
    machine.sh("xl network-detach domu1 1", 60)?;
    xl::ping(machine, 2)?;
    no_trouble(machine)?;
    machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    Ok(format!("either order, before and after the vif; {rate} from the DomU"))
}

/// The same on a kernel of another Debian release, in both domains.
fn second_kernel(machine: &mut Machine) -> Result<String> {
    let seen = basic(machine)?;
    Ok(format!("Linux {}: {seen}", machine.sh("uname -r", 20)?.trim()))
}

/// What a packet takes: one hypercall at most, no grant, no completion.
fn cost(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    load_both(machine)?;
    machine.sh("tx probe", 30)?;
    guest(machine, "tx probe")?;
    let mut seen = Vec::new();
    // Paced, so that the ring is never full; and as fast as the driver takes them.
    for (what, command) in
        [("UDP", "iperf3 -c 10.0.0.1 -u -b 10M -l 1400 -t 3"), ("1514 B", "tx pktgen 1514 10000"), ("60 B", "tx pktgen 60 10000")]
    {
        let dom0: u64 = machine.sh("tx grants", 30)?.trim().parse()?;
        let [packets, batches, full, grants, completions, room] = numbers(&guest(machine, &format!("tx cost {command}"))?)?;
        let dom0 = machine.sh("tx grants", 30)?.trim().parse::<u64>()? - dom0;
        let counts = format!("{what}: {packets} packets, {batches} calls, {full} of them in vain");
        ensure!(packets > 2500, "{counts}");
        ensure!(batches <= packets + full && full == room, "{counts}, {room} times told of room");
        ensure!(what != "UDP" || full * 100 <= packets, "{counts}");
        ensure!(completions <= packets / 100, "{counts}: {completions} completion interrupts");
        // Receiving has grants: of iperf3's control connection, and what tells us of this.
        ensure!(grants <= packets / 20 && dom0 <= packets / 20, "{counts}: {grants} grants in the DomU, {dom0} grant operations in Dom0");
        seen.push(format!("{counts}, {grants}+{dom0} grant operations, {completions} completions"));
    }
    // What the hypervisor has counted is what both ends have.
    machine.sh(
        "ping -c 1 10.0.0.2 >/dev/null; xl debug-keys t; xl dmesg | grep attached=true | tail -1 | grep 'refused: 0, unusable: 0'",
        30,
    )?;
    no_trouble(machine)?;
    Ok(seen.join("; "))
}

/// How long the DomU's stack waits for a packet's end: stock, and by tx copy within the call.
fn hold(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    let [packets, stock, _] = numbers(&guest(machine, "tx hold")?)?;
    ensure!(packets > 200, "only {packets} packets of the stock drivers were traced");
    load_both(machine)?;
    let [packets, ours, within] = numbers(&guest(machine, "tx hold")?)?;
    ensure!(packets > 200, "only {packets} packets by tx copy were traced");
    ensure!(within * 100 >= packets * 98, "of {packets} packets only {within} were free when the driver returned");
    ensure!(ours * 2 < stock, "held {ours} us by tx copy, {stock} us with the stock drivers");
    Ok(format!(
        "a packet is held {stock} us by the stock drivers, {ours} us by tx copy; {within} of {packets} within the call (emulated time)"
    ))
}

/// One module alone changes nothing.
fn off(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("tx load", 30)?;
    xl::ping(machine, 2)?;
    let alone = xl::rate(machine, 2, "-R")?;
    ensure!(
        machine.sh("tx count packets; tx count interrupts; cat /sys/class/net/vif*/xenolith_tx/channels", 30)?.trim() == "0\n0",
        "Dom0's end alone does not stay idle"
    );
    machine.sh("xenstore-ls -f | grep -q xenolith-tx && exit 1; tx unload", 60)?;
    guest(machine, "tx load")?;
    let other = xl::rate(machine, 2, "-R")?;
    ensure!(sent(machine)? == 0, "the DomU's end alone sends");
    guest(machine, "tx unload")?;
    xl::ping(machine, 2)?;
    no_trouble(machine)?;
    Ok(format!("the stock drivers send {alone} with Dom0's module alone, {other} with the DomU's"))
}

/// On Debian's Xen each module says once that there is no tx copy, and leaves the stock drivers alone.
fn on_xen(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    machine.sh("tx load; EXTRA=tx", 30)?;
    xl::create(machine, "domu1", 2, "")?;
    xl::up(machine, "domu1")?;
    xl::ping(machine, 2)?;
    let rate = xl::rate(machine, 2, "-R")?;
    let dom0 = machine.sh("tx log xenolith_tx", 30)?;
    let domu = guest(machine, "tx log xenolith_tx")?;
    for said in [dom0.trim(), &domu] {
        // The first time Debian's kernel says that a module is not its own, and that taints it.
        let ours: Vec<_> = said.lines().filter(|line| line.contains("no tx copy here")).collect();
        ensure!(ours.len() == 1, "a module says: {said}");
    }
    ensure!(guest(machine, "ls -d /sys/class/net/eth0/xenolith_tx 2>/dev/null")?.is_empty(), "there are counters on Xen");
    machine.sh("tx unload", 30)?;
    guest(machine, "tx unload")?;
    xl::ping(machine, 2)?;
    no_trouble(machine)?;
    Ok(format!("both say so once; the stock drivers send {rate}"))
}
