//! `cargo xtask run`: the machine with its console on this terminal.

use crate::qemu::{self, Options};
use crate::{guests, modules};
use anyhow::{Result, ensure};

/// Boots; runs `cmd` in Dom0 if given; returns when the machine is off.
pub fn run(mut options: Options, cmd: Option<&str>) -> Result<()> {
    let guests = guests::guests()?;
    if let Some(cmd) = cmd {
        ensure!(!cmd.contains(['~', '\n', '"']), "--cmd takes one line without ~ and \": it travels on Dom0's kernel command line");
        options.dom0args += &format!(" run={}", cmd.replace(' ', "~"));
    } else {
        eprintln!("Dom0's shell comes up on this terminal; leave with `poweroff -f` there, or Ctrl-A X");
    }
    let hypervisor = qemu::hypervisor(&options.hyp, &guests)?;
    let status =
        qemu::command(&options, &hypervisor, &modules::at_hand(&guests)?)?.args(["-display", "none", "-serial", "mon:stdio"]).status()?;
    ensure!(status.success(), "QEMU failed ({status})");
    Ok(())
}
