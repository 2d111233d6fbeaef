//! Domains of the device tree: with a Dom0 that connects them to its store, and without any Dom0. As Xen's own CI for Arm64 has them.

use super::passthrough::{self, ALARM, dom0_has_no_clock};
use super::{BOOT, Scenario, Setup};
use crate::console::Machine;
use crate::dom0less::{self, DOMAIN, Domain, IN_KERNEL};
use crate::{guests, xl};
use anyhow::{Context, Result, ensure};

/// `xen,enhanced` with a store.
const ENHANCED: Domain<'_> = Domain { enhanced: Some("enabled"), ..DOMAIN };
const SECOND: Domain<'_> = Domain { name: "domU2", cpus: 2, enhanced: Some("no-xenstore"), bootargs: "ip0=10.0.0.3", ..DOMAIN };

pub const ALL: &[Scenario] = &[
    Scenario::new("dom0less", connected).on(|setup| with_dom0(setup, &[ENHANCED])),
    Scenario::new("dom0less-plain", plain).on(|setup| with_dom0(setup, &[DOMAIN])).long(),
    Scenario::new("dom0less-two-and-dom0", two_and_dom0)
        .on(|setup| with_dom0(setup, &[ENHANCED, Domain { enhanced: Some("enabled"), cpus: 1, ..SECOND }]))
        .long(),
    Scenario::new("dom0less-passthrough", device).on(|setup| {
        let devices = passthrough::fragment(&setup.scratch)?;
        with_dom0(setup, &[Domain { devices: Some(&devices), ..DOMAIN }])
    }),
    Scenario::new("dom0less-alone", alone).on(|setup| without_dom0(setup, &[DOMAIN, SECOND])),
    Scenario::new("gicv2-dom0less", connected).long().on(|setup| {
        setup.options.gic = 2;
        with_dom0(setup, &[ENHANCED])
    }),
    Scenario::new("gicv2-dom0less-alone", alone).long().on(|setup| {
        setup.options.gic = 2;
        without_dom0(setup, &[DOMAIN, SECOND])
    }),
    Scenario::new("boot-domain-without-kernel", |machine| refuses(machine, "/chosen/domU1 has no kernel"))
        .ours()
        .on(|setup| with_dom0(setup, &[Domain { no_kernel: true, ..DOMAIN }])),
    Scenario::new("boot-overlapping-modules", |machine| refuses(machine, "/chosen/domU1/module@d0100000"))
        .ours()
        .on(|setup| with_dom0(setup, &[Domain { root_at: IN_KERNEL, ..DOMAIN }])),
    Scenario::new("boot-module-outside-ram", |machine| refuses(machine, "/chosen/domU1/module@30000000"))
        .ours()
        .on(|setup| with_dom0(setup, &[Domain { root_at: 0x3000_0000, ..DOMAIN }])),
    Scenario::new("boot-domain-too-large", |machine| refuses(machine, "too little memory for domain /chosen/domU1"))
        .ours()
        .on(|setup| with_dom0(setup, &[Domain { memory: 8 << 20, ..DOMAIN }])),
    Scenario::new("boot-domain-without-cpus", |machine| refuses(machine, "/chosen/domU1: property 'cpus' is 0"))
        .ours()
        .on(|setup| with_dom0(setup, &[Domain { cpus: 0, ..DOMAIN }])),
    Scenario::new("boot-domain-store-alone", |machine| refuses(machine, "asks for the store of a Dom0"))
        .ours()
        .on(|setup| without_dom0(setup, &[ENHANCED])),
];

fn with_dom0(setup: &mut Setup, domains: &[Domain<'_>]) -> Result<()> {
    let guests = guests::guests()?;
    setup.options.qemu = dom0less::options(&setup.options, &setup.hypervisor, &setup.modules, &guests, domains, &setup.scratch)?;
    Ok(())
}

fn without_dom0(setup: &mut Setup, domains: &[Domain<'_>]) -> Result<()> {
    (setup.modules.kernel, setup.modules.initrd) = (None, None);
    with_dom0(setup, domains)
}

/// Boots with Dom0; waits for the domains too, which say on the console that they are up.
fn boot(machine: &mut Machine, domains: u32) -> Result<()> {
    machine.wait_for_dom0(BOOT)?;
    for id in 1..=domains {
        machine.sh(
            &format!("i=0; until xl dmesg | grep -q 'DOM{id}: DOMU-UP'; do [ $i -lt 240 ] || exit 1; sleep 1; i=$((i+1)); done"),
            270,
        )?;
    }
    Ok(())
}

/// `init-dom0less` connects domain `id` to the store, and it then gets an interface that answers at 10.0.0.`n`.
fn connect(machine: &mut Machine, id: u32, n: u32) -> Result<String> {
    ensure!(machine.sh(&format!("xl domname {id}"), 30)?.trim() == format!("dom0less-{id}"), "domain {id} has no name");
    machine.sh(&format!("xl network-attach {id} bridge=xenbr0"), 90)?;
    machine.sh(&format!("i=0; until ping -c 1 -W 5 10.0.0.{n} >/dev/null; do [ $i -lt 30 ] || break; sleep 1; i=$((i+1)); done"), 200)?;
    xl::ping(machine, n)
}

fn connected(machine: &mut Machine) -> Result<String> {
    boot(machine, 1)?;
    let list = machine.sh("xl list 1", 30)?;
    ensure!(list.contains("(null)") && list.contains(" 256 "), "xl list does not show a nameless domain of 256 MiB: {list}");
    machine.sh("init-dom0less", 60)?;
    let packets = connect(machine, 1, 2)?;
    let rate = xl::rate(machine, 2, "")?;
    machine.sh("xl network-detach 1 0", 60)?;
    machine.sh("xl destroy 1 && gone dom0less-1", 90)?;
    // What it had can be another domain's.
    xl::create(machine, "domu2", 3, "")?;
    xl::up(machine, "domu2")?;
    Ok(format!("init-dom0less and an interface: {packets}, {rate}; destroyed"))
}

fn plain(machine: &mut Machine) -> Result<String> {
    boot(machine, 1)?;
    // There is nothing to connect.
    machine.sh("init-dom0less", 60)?;
    ensure!(machine.sh("xl list 1", 30)?.contains("(null)"), "a domain without xen,enhanced has a name");
    // It can be typed at, and then Dom0 again.
    machine.type_keys("\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM1 (type 'CTRL-a' three times to switch input)", 30)?;
    machine.type_line("echo it-is-$((40+2))")?;
    machine.wait_for("it-is-42", 60)?;
    machine.type_keys("\x01\x01\x01\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM0", 30)?;
    machine.sh("xl destroy 1", 60)?;
    Ok("the console was switched to it and back".into())
}

fn device(machine: &mut Machine) -> Result<String> {
    boot(machine, 1)?;
    dom0_has_no_clock(machine)?;
    machine.type_keys("\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM1 (type 'CTRL-a' three times to switch input)", 30)?;
    machine.type_line(ALARM)?;
    machine.wait_for("rtc-pl031 9010000.rtc 1", 120)?;
    machine.type_keys("\x01\x01\x01\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM0", 30)?;
    machine.sh("xl destroy 1", 60)?;
    Ok("the domain has the clock and its alarm".into())
}

fn two_and_dom0(machine: &mut Machine) -> Result<String> {
    boot(machine, 2)?;
    machine.sh("init-dom0less", 60)?;
    connect(machine, 1, 2)?;
    let packets = connect(machine, 2, 3)?;
    machine.sh("xl destroy 1 && gone dom0less-1", 90)?;
    xl::ping(machine, 3)?;
    Ok(packets)
}

fn alone(machine: &mut Machine) -> Result<String> {
    let said = machine.wait_for("*** Serial input to DOM1 (type 'CTRL-a' three times to switch input)", BOOT)?;
    ensure!(said.contains("*** LOADING DOMU cpus=2 memory=0x40000KB ***"), "the second domain is not announced");
    // The first one has the console's input: its lines do not name it. The two come up in either order.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(3 * BOOT);
    let up = |text: &str| text.contains("(XEN) DOMU-UP") && text.contains("(XEN) DOM2: DOMU-UP");
    while !up(machine.listen(1)) {
        ensure!(std::time::Instant::now() < deadline, "not both domains say that they are up");
    }
    machine.type_line("echo one-$((1+1))")?;
    machine.wait_for("one-2", 60)?;
    machine.type_keys("\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM2", 30)?;
    machine.type_line("echo cpus-$(grep -c ^processor /proc/cpuinfo)")?;
    machine.wait_for("cpus-2", 60)?;
    machine.type_keys("\x01\x01\x01")?;
    machine.wait_for("*** Serial input to Xen", 30)?;
    machine.type_keys("h")?;
    machine.wait_for("'h' pressed", 30)?;
    machine.type_keys("\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM1", 30)?;
    // One goes, the other stays.
    machine.type_line("poweroff -f")?;
    machine.wait_for("reboot: Power down", 60)?;
    machine.type_keys("\x01\x01\x01")?;
    machine.wait_for("*** Serial input to DOM2", 30)?;
    machine.type_line("echo still-$((2+2))")?;
    machine.wait_for("still-4", 60)?;
    Ok("two domains and no Dom0: both come up and are typed at in turn".into())
}

/// The hypervisor's last lines say so; no domain comes up.
fn refuses(machine: &mut Machine, reason: &str) -> Result<String> {
    machine.wait_for(reason, 60)?;
    let said = machine.listen(2);
    ensure!(!said.contains("DOM0-UP") && !said.contains("DOMU-UP"), "a domain comes up all the same");
    let line = said.lines().rev().find(|line| line.contains(reason)).context("the line is gone")?;
    Ok(line.into())
}
