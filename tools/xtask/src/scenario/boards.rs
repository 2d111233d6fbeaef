//! Boards other than `virt`: Dom0 with all CPUs, a DomU, the network between them. `cargo xtask test boards` runs them all, and beside
//! each what Debian's Xen does on it.

use super::{BOOT, Scenario, Setup, boot_with_domu, txcopy};
use crate::board;
use crate::console::Machine;
use crate::{guests, xl};
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("board-xlnx-zcu102", |machine| lives(machine, "xlnx-zcu102")).on(|setup| on(setup, "xlnx-zcu102")).ours().long(),
    Scenario::new("board-xlnx-zcu102-xen", |machine| dom0(machine, "xlnx-zcu102")).on(|setup| xen_on(setup, "xlnx-zcu102")).ours().long(),
    Scenario::new("board-xlnx-versal-virt", |machine| lives(machine, "xlnx-versal-virt")).on(|setup| on(setup, "xlnx-versal-virt")).long(),
    Scenario::new("board-xlnx-versal-virt-xen", |machine| lives(machine, "xlnx-versal-virt"))
        .on(|setup| xen_on(setup, "xlnx-versal-virt"))
        .ours()
        .long(),
    Scenario::new("board-imx8mp-evk", |machine| lives(machine, "imx8mp-evk")).on(|setup| on(setup, "imx8mp-evk")).ours().long(),
    Scenario::new("board-imx8mp-evk-xen", silent).on(|setup| xen_on(setup, "imx8mp-evk")).ours().long(),
    Scenario::new("board-raspi4b", |machine| lives(machine, "raspi4b")).on(|setup| on(setup, "raspi4b")).ours().long(),
];

fn on(setup: &mut Setup, board: &str) -> Result<()> {
    setup.options.board = Some(board.into());
    // QEMU's Raspberry Pi has 960 MiB in all.
    setup.options.dom0_mem = if board == "raspi4b" { "448M" } else { "768M" }.into();
    Ok(())
}

/// Debian's Xen instead, with the edits to the board's tree without which it does not boot.
fn xen_on(setup: &mut Setup, board: &str) -> Result<()> {
    setup.options.hyp = "xen".into();
    setup.hypervisor = guests::guests()?.xen();
    on(setup, board)
}

/// Xen on the zcu102 is too slow in QEMU for more.
fn dom0(machine: &mut Machine, board: &str) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    let cpus = all_cpus(machine, board)?;
    Ok(format!("{cpus} CPUs, Dom0's shell"))
}

/// Dom0 has them; how many they are.
fn all_cpus(machine: &mut Machine, board: &str) -> Result<u32> {
    let cpus = board::find(board)?.cpus;
    let online: u32 = machine.sh("grep -c ^processor /proc/cpuinfo", 30)?.trim().parse()?;
    ensure!(online == cpus, "Dom0 has {online} CPUs, not {cpus}");
    Ok(cpus)
}

/// Xen has no driver for the board's UART: whatever it does, nobody sees it.
fn silent(machine: &mut Machine) -> Result<String> {
    let said = machine.listen(60);
    ensure!(said.trim().is_empty(), "Xen speaks: {said}");
    Ok("nothing on the console, as Xen has no driver for its UART".into())
}

fn lives(machine: &mut Machine, board: &str) -> Result<String> {
    boot_with_domu(machine, "")?;
    let cpus = all_cpus(machine, board)?;
    xl::ping(machine, 2)?;
    let rate = xl::rate(machine, 2, "")?;
    let by_copy = if xl::field(&machine.sh("xl info", 30)?, "cc_compile_by")? == "xenolith" { by_copy(machine)? } else { String::new() };
    machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    machine.type_line("poweroff -f")?;
    let end = if board == "raspi4b" {
        // It has no PSCI.
        machine.wait_for("The firmware does not do it. Halted.", 60)?;
        "halted"
    } else {
        machine.wait_off(60)?;
        "powered off"
    };
    Ok(format!("{cpus} CPUs, {rate} to the DomU{by_copy}, {end}"))
}

fn by_copy(machine: &mut Machine) -> Result<String> {
    txcopy::load_both(machine)?;
    let rate = xl::rate(machine, 2, "-R")?;
    ensure!(txcopy::sent(machine)? > 100, "iperf3 does not send by tx copy");
    Ok(format!(", {rate} from it by tx copy"))
}
