//! A DomU's life: paused, unpaused, rebooted, crashed, destroyed in several states; its console; nothing left behind.

use super::{BOOT, Scenario, boot_with_domu, guest};
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("pause-reboot-crash", pause_reboot_crash),
    Scenario::new("destroy-in-any-state", destroy_in_any_state),
    Scenario::new("console", console),
    Scenario::new("vuart", vuart),
];

pub(super) fn pause_reboot_crash(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("xl pause domu1 && xl list domu1 | grep -- '-[-b]p---'", 30)?;
    ensure!(machine.status("ping -c 1 -W 2 10.0.0.2", 30)?.0 != 0, "a paused DomU answers");
    machine.sh("xl unpause domu1", 30)?;
    xl::ping(machine, 2)?;

    let first = machine.sh("xl domid domu1", 30)?;
    machine.sh(">/var/log/xen/console/guest-domu1.log; xl reboot domu1", 30)?;
    xl::up(machine, "domu1")?;
    let second = machine.sh("xl domid domu1", 30)?;
    ensure!(first != second, "the DomU did not reboot: it still is domain {}", first.trim());
    xl::ping(machine, 2)?;

    // A crashed Linux says so nowhere but on its console, and spins.
    machine.sh("(guest 2 'echo c >/proc/sysrq-trigger' 2 >/dev/null 2>&1 &)", 30)?;
    let log = "/var/log/xen/console/guest-domu1.log";
    machine.sh(&format!("i=0; until grep -q 'end Kernel panic' {log} || [ $i = 60 ]; do sleep 1; i=$((i+1)); done; [ $i -lt 60 ]"), 90)?;
    machine.sh("xl destroy domu1 && gone domu1", 60)?;
    machine.sh("xl list | wc -l | grep '^2$'", 30)?;
    Ok("paused, unpaused, rebooted, crashed".into())
}

fn destroy_in_any_state(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    machine.sh("xl destroy domu1 && gone domu1", 60)?;
    let before = xl::settled(machine)?;

    machine.sh("xl create -p /guest/domu.cfg && xl destroy domu1 && gone domu1", 90)?; // never ran
    machine.sh("domu domu1 2 vcpus=4 && xl destroy domu1 && gone domu1", 90)?; // in the midst of booting
    xl::create(machine, "domu1", 2, "")?;
    xl::up(machine, "domu1")?;
    machine.sh("xl pause domu1 && xl destroy domu1 && gone domu1", 90)?; // paused
    xl::create(machine, "domu1", 2, "vcpus=2")?;
    xl::up(machine, "domu1")?;
    machine.sh("(iperf3 -c 10.0.0.2 -R -t 60 >/dev/null 2>&1 &); sleep 3; xl destroy domu1 && gone domu1", 90)?; // under load
    machine.sh("killall iperf3; iperf3 -s -D; sleep 1", 30)?;
    ensure!(machine.status("xl destroy 77", 30)?.0 != 0, "xl destroys a domain that is not there");
    // Dom0 itself has taken a little more than before: a DomU of four vCPUs has more event channels than the first one.
    xl::free_is_again(machine, before, 64)?;
    Ok("paused, booting, under load; all memory back".into())
}

fn console(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    xl::create(machine, "domu1", 2, "")?;
    xl::up(machine, "domu1")?;
    machine.type_line("xl console domu1; echo BACK-$((6*7))")?;
    machine.type_line("")?;
    machine.wait_for("~ # ", 30)?;
    machine.type_line("echo SAID-$((6*7))")?;
    machine.wait_for("SAID-42", 30)?;
    leave(machine)?;
    // Much at once: everything must come through the ring and the log.
    guest(machine, "seq 1 2000 >/dev/hvc0; echo ALL-SAID >/dev/hvc0")?;
    // The writer is done when its tty has taken the last of it: the ring and xenconsoled come after that.
    machine.sh(
        "i=0; until grep -q ALL-SAID /var/log/xen/console/guest-domu1.log || [ $i = 20 ]; do sleep 1; i=$((i+1)); done; [ $i -lt 20 ]",
        60,
    )?;
    machine.sh("tr -d '\\r' </var/log/xen/console/guest-domu1.log | grep -c -E '^[0-9]+$' | grep -E '^(2000|199[0-9])$'", 30)?;
    Ok("spoken with, and 2000 lines read".into())
}

/// Back to Dom0 by Ctrl-], which has to come alone.
fn leave(machine: &mut Machine) -> Result<()> {
    machine.type_keys("\x1d")?;
    machine.wait_for("BACK-42", 30)?;
    Ok(())
}

/// The UART that the hypervisor emulates for a DomU, and xenconsoled at its other end.
fn vuart(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "\"vuart='sbsa_uart'\"")?;
    guest(machine, "(while read line; do echo heard-$line; done </dev/ttyAMA0 >/dev/ttyAMA0) >/dev/null 2>&1 &")?;
    machine.type_line("xl console -t vuart domu1; echo BACK-$((6*7))")?;
    for n in 1..=3 {
        machine.type_line(&format!("said-{n}"))?;
        machine.wait_for(&format!("heard-said-{n}"), 30)?;
    }
    leave(machine)?;
    // Much at once: each byte traps, and waits when the ring is full.
    guest(machine, "seq 1 500 >/dev/ttyAMA0; grep ttyAMA0 /proc/tty/driver/ttyAMA || true")?;
    xl::ping(machine, 2)?;
    machine.sh("xl destroy domu1 && gone domu1", 60)?;
    Ok("spoken with".into())
}
