//! Whole-machine scenarios: each boots a machine, does one subject with Debian's own tools, and asserts on what was seen.
//!
//! All but those of what Xen has not also pass on Debian's Xen 4.20 (`--hyp xen`), which is what makes them right.

mod bad_boot;
mod block;
mod boards;
mod boot;
mod devices;
mod dom0less;
mod firmware;
mod gicv2;
mod lifecycle;
mod memory;
mod network;
pub mod passthrough;
mod tools;
mod trace;
mod txcopy;
mod vcpus;

use crate::console::Machine;
use crate::firmware::Firmware;
use crate::qemu::{self, Modules, Options};
use crate::{host, xl};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Seconds that Dom0's boot may take on a slow machine.
const BOOT: u64 = 240;

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// It runs only when asked for, or with `--all`.
    pub long: bool,
    /// Debian's Xen does not do this: only Xenolith is held to it.
    pub ours: bool,
    setup: fn(&mut Setup) -> Result<()>,
    run: fn(&mut Machine) -> Result<String>,
}

/// The machine that a scenario is about to boot.
pub struct Setup {
    options: Options,
    modules: Modules,
    hypervisor: PathBuf,
    /// Who starts it; `None`: QEMU does.
    firmware: Option<Firmware>,
    /// A folder for files of this scenario.
    scratch: PathBuf,
}

/// All scenarios, in the order in which they run.
pub fn all() -> Vec<Scenario> {
    let subjects = [
        boot::ALL,
        gicv2::ALL,
        boards::ALL,
        network::ALL,
        block::ALL,
        devices::ALL,
        passthrough::ALL,
        vcpus::ALL,
        lifecycle::ALL,
        memory::ALL,
        txcopy::ALL,
        tools::ALL,
        dom0less::ALL,
        trace::ALL,
        firmware::ALL,
        bad_boot::ALL,
    ];
    subjects.concat()
}

impl Scenario {
    /// A scenario on the default machine; `run` boots, acts and asserts, and returns what was seen.
    const fn new(name: &'static str, run: fn(&mut Machine) -> Result<String>) -> Self {
        Self { name, long: false, ours: false, setup: |_| Ok(()), run }
    }

    /// Changes the machine before it boots.
    const fn on(self, setup: fn(&mut Setup) -> Result<()>) -> Self {
        Self { setup, ..self }
    }

    const fn long(self) -> Self {
        Self { long: true, ..self }
    }

    const fn ours(self) -> Self {
        Self { ours: true, ..self }
    }

    /// Runs the scenario on `hypervisor`, on a machine with a GIC of this version unless it has its own. On failure the last lines of the
    /// console come with the reason.
    pub fn perform(&self, hypervisor: &Path, modules: &Modules, gic: u32) -> Result<String, String> {
        let scratch = host::target_dir().join("xenolith/test");
        let (options, modules) = (Options { gic, ..Options::default() }, modules.clone());
        let mut setup = Setup { options, modules, hypervisor: hypervisor.into(), firmware: None, scratch: scratch.clone() };
        let started = std::fs::create_dir_all(&scratch).map_err(Into::into).and_then(|()| (self.setup)(&mut setup)).and_then(|()| {
            let qemu = match &setup.firmware {
                None => qemu::command(&setup.options, &setup.hypervisor, &setup.modules)?,
                Some(firmware) => qemu::with_firmware(&setup.options, firmware)?,
            };
            Machine::start(qemu, &scratch.join(format!("{}.log", self.name)))
        });
        let mut machine = started.map_err(|error| format!("{error:#}"))?;
        (self.run)(&mut machine).map_err(|error| format!("{error:#}\n{}", machine.tail()))
    }
}

/// Boots Dom0 and one DomU, `domu1` at 10.0.0.2, with further settings of an xl config.
fn boot_with_domu(machine: &mut Machine, settings: &str) -> Result<()> {
    machine.wait_for_dom0(BOOT)?;
    xl::create(machine, "domu1", 2, settings)?;
    xl::up(machine, "domu1").map(drop)
}

/// Runs a command in the DomU at 10.0.0.2 and returns what it printed.
fn guest(machine: &mut Machine, command: &str) -> Result<String> {
    Ok(machine.sh(&format!("guest 2 '{command}'"), 60)?.trim().to_string())
}
