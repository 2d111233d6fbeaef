//! Boards other than `virt`: Dom0 with all CPUs, a DomU, the network between them. `cargo xtask test boards` runs them all.

use super::{Scenario, boot_with_domu, txcopy};
use crate::board;
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[
    Scenario::new("board-xlnx-zcu102", |machine| lives(machine, "xlnx-zcu102")).on(|setup| on(setup, "xlnx-zcu102")).ours().long(),
    Scenario::new("board-xlnx-versal-virt", |machine| lives(machine, "xlnx-versal-virt")).on(|setup| on(setup, "xlnx-versal-virt")).long(),
    Scenario::new("board-imx8mp-evk", |machine| lives(machine, "imx8mp-evk")).on(|setup| on(setup, "imx8mp-evk")).ours().long(),
];

fn on(setup: &mut super::Setup, board: &str) -> Result<()> {
    setup.options.board = Some(board.into());
    setup.options.dom0_mem = "768M".into();
    Ok(())
}

fn lives(machine: &mut Machine, board: &str) -> Result<String> {
    let cpus = board::find(board)?.cpus;
    boot_with_domu(machine, "")?;
    let online: u32 = machine.sh("grep -c ^processor /proc/cpuinfo", 30)?.trim().parse()?;
    ensure!(online == cpus, "Dom0 has {online} CPUs, not {cpus}");
    xl::ping(machine, 2)?;
    let rate = xl::rate(machine, 2, "")?;
    let by_copy = if xl::field(&machine.sh("xl info", 30)?, "cc_compile_by")? == "xenolith" { by_copy(machine)? } else { String::new() };
    machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    machine.type_line("poweroff -f")?;
    machine.wait_off(60)?;
    Ok(format!("{cpus} CPUs, {rate} to the DomU{by_copy}, powered off"))
}

fn by_copy(machine: &mut Machine) -> Result<String> {
    txcopy::load_both(machine)?;
    let rate = xl::rate(machine, 2, "-R")?;
    ensure!(txcopy::sent(machine)? > 100, "iperf3 does not send by tx copy");
    Ok(format!(", {rate} from it by tx copy"))
}
