//! `cargo xtask`: builds Xenolith, fetches Debian for it, boots both in QEMU, demonstrates and tests them.

mod abi;
mod apt;
mod bench;
mod board;
mod console;
mod coverage;
mod demo;
mod doctor;
mod dom0less;
mod firmware;
mod guests;
mod headers;
mod host;
mod image;
mod initrd;
mod loom;
mod modules;
mod qemu;
mod report;
mod run;
mod scenario;
mod test;
mod toolchain;
mod trace;
mod xl;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, boots, demonstrates and tests Xenolith")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show what this machine lacks
    Doctor {
        /// Install it (as root on Debian)
        #[arg(long)]
        install: bool,
    },
    /// Build the hypervisor's image; its path is the last line of the output
    Image {
        /// With debug assertions, not optimised
        #[arg(long)]
        debug: bool,
    },
    /// Fetch Debian's kernel, Xen and tools, and pack the roots of Dom0 and DomU
    Guests,
    /// Build the Linux modules of tx copy (KDIR= names other kernel headers); their folder is the last line of the output
    Modules,
    /// Boot Dom0 with its console on this terminal
    Run {
        #[command(flatten)]
        options: qemu::Options,
        /// Shell commands for Dom0 to run first; end with `poweroff -f` to come back
        #[arg(long)]
        cmd: Option<String>,
    },
    /// Show Debian on Xenolith from boot to power-off: xl, a DomU and the network between them
    Demo {
        #[command(flatten)]
        options: qemu::Options,
    },
    /// Measure Xen, Xenolith and tx copy side by side: a table, target/bench/results.json and a page to look at
    Bench(bench::Options),
    /// Run what CI runs; the last line is the summary
    Test(test::Options),
    /// Make a timeline for ui.perfetto.dev of a file that Debian's xentrace wrote in Dom0
    Trace(trace::Options),
    /// Show which lines of the hypervisor's core its host tests run; fails below 90 %
    Coverage,
    /// Run what is lock-free in the core in every order that the memory model allows
    Loom,
    /// The same as `test`
    Ci(test::Options),
}

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Doctor { install } => doctor::doctor(install),
        Task::Image { debug } => {
            println!("{}", image::image(debug)?.display());
            Ok(())
        }
        Task::Guests => {
            let guests = guests::guests()?;
            print!("{}", guests.versions()?);
            println!("{}", guests.kernel().display());
            Ok(())
        }
        Task::Modules => {
            println!("{}", modules::modules()?.display());
            Ok(())
        }
        Task::Run { options, cmd } => run::run(options, cmd.as_deref()),
        Task::Demo { options } => demo::demo(&options),
        Task::Trace(options) => trace::trace(&options),
        Task::Coverage => coverage::coverage(),
        Task::Loom => {
            println!("{} models hold", loom::loom()?);
            Ok(())
        }
        Task::Bench(options) => bench::bench(&options),
        Task::Test(options) | Task::Ci(options) => test::test(&options),
    }
}
