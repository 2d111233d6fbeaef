//! `cargo xtask bench`: Xen, Xenolith and Xenolith with tx copy side by side, on the same emulated machine with the same guests.
//!
//! An emulator's times are no times of hardware. What is compared are ratios in one run, and counts.

mod cost;
mod exceptions;
mod gate;
mod goals;
mod hold;
mod kvm;
mod monitor;
mod page;
mod parse;
mod plugin;
mod results;
mod run;
mod scenarios;
mod svg;
mod table;
mod take;

use crate::qemu;
use crate::{guests, host, modules};
use anyhow::{Result, bail, ensure};
use results::Results;
use run::{Boot, Mode, System};
use scenarios::Scenario;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

pub use gate::check;

/// Two deterministic runs agree within this.
const AGREE: f64 = 0.02;

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// The main scenarios, once, in deterministic mode: in less than ten minutes
    #[arg(long)]
    quick: bool,
    /// Only these scenarios, or `counts`: the traps and interrupts of a packet, or `cost`: instructions of single operations
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these systems
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Also Linux's KVM with virtio-net and vhost: what a user would take instead
    #[arg(long)]
    kvm: bool,
    /// Also one Linux with nothing under it, and its loopback: what the measuring programs cost themselves
    #[arg(long)]
    loopback: bool,
    /// Runs of each deterministic scenario [default: 1 with --quick, else 2]
    #[arg(long)]
    runs: Option<u32>,
    /// Runs of each free-running scenario: two CPUs, the host's time [default: none with --quick, else 3]
    #[arg(long)]
    free: Option<u32>,
    /// Seconds of virtual time for a scenario that has no number of its own
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Machines that run at the same time in deterministic mode, which does not mind others
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Only compare the instructions of single operations with the stored ones; fails if one is dearer
    #[arg(long)]
    gate: bool,
    /// Measure those, and store them
    #[arg(long)]
    store: bool,
    /// Keep what results.json has of other systems
    #[arg(long)]
    keep: bool,
    /// Where everything goes [default: target/bench]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Another image in place of Xenolith's
    #[arg(long)]
    image: Option<PathBuf>,
    /// Only read again what earlier runs left, and write the results and the page from it
    #[arg(long)]
    report: bool,
    /// Only compare two files of results of deterministic runs; fails if they differ by more than 2 %
    #[arg(long, num_args = 2, value_names = ["BEFORE", "NOW"])]
    compare: Vec<PathBuf>,
    /// Only show the names of the scenarios
    #[arg(long)]
    list: bool,
}

/// Measures, tells and writes everything down.
pub fn bench(options: &Options) -> Result<()> {
    if options.list {
        scenarios::ALL.iter().for_each(|scenario| println!("{:<14} {}", scenario.name, scenario.title));
        scenarios::WATCHED.iter().for_each(|watched| println!("{:<14} {}", watched.name, watched.title));
        return Ok(());
    }
    if let [before, now] = options.compare.as_slice() {
        ensure!(compare(&Results::load(before)?, &Results::load(now)?), "the two runs differ");
        return Ok(());
    }
    let start = Instant::now();
    let folder = options.out.clone().unwrap_or_else(run::folder);
    fs::create_dir_all(folder.join("raw"))?;
    let file = folder.join("results.json");
    if options.gate || options.store {
        println!("{}", gate::gate(options.image.as_deref(), options.store)?);
        return Ok(());
    }
    let before = Results::load(&file).ok();
    let mut results = Results::default();
    if let (true, Some(before)) = (options.keep, &before) {
        results = before.clone();
        systems(options)?.iter().for_each(|system| results.forget(system.name()));
    }
    results.machine = machine(options.image.as_deref())?;
    let [deterministic, free] = jobs(options, &folder)?;
    if options.report {
        let shared = Mutex::new(&mut results);
        for boot in deterministic.iter().chain(&free) {
            boot.retell(&|told| drop(shared.lock().map(|mut results| take::take(&mut results, boot, &told))));
        }
        results.sort();
        results.goals = goals::judge(&results);
        return show(&results, &folder);
    }
    perform(deterministic, options.jobs, &mut results);
    // Two CPUs that run freely need the machine for themselves.
    perform(free, 1, &mut results);
    results.sort();
    results.goals = goals::judge(&results);
    show(&results, &folder)?;
    if let Some(before) = before {
        compare(&before, &results);
    }
    println!("in {} s", start.elapsed().as_secs());
    ensure!(results.missing.is_empty(), "not everything was measured:\n  {}", results.missing.join("\n  "));
    Ok(())
}

/// Tells in how far two deterministic runs agree.
fn compare(before: &Results, now: &Results) -> bool {
    let (compared, lines) = results::differences(before, now, AGREE);
    println!("\n{} of {compared} figures as in the run before, within {} %", compared - lines.len(), AGREE * 100.0);
    lines.iter().for_each(|line| println!("  {line}"));
    lines.is_empty()
}

/// Writes the results and the page, and prints the table.
fn show(results: &Results, folder: &Path) -> Result<()> {
    let (file, page) = (folder.join("results.json"), folder.join("report.html"));
    results.store(&file)?;
    fs::write(&page, page::page(results))?;
    table::print(results);
    println!("\n{}\n{}", file.display(), page.display());
    Ok(())
}

/// The boots to be done, in deterministic mode and free-running.
fn jobs(options: &Options, folder: &Path) -> Result<[VecDeque<Boot>; 2]> {
    let guests = guests::guests()?;
    let base = modules::at_hand(&guests)?;
    let xenolith = options.image.clone().map_or_else(|| qemu::hypervisor("xenolith", &guests), Ok)?;
    let (systems, cost) = (systems(options)?, if wanted(options, run::COST) { Some(cost::build()?) } else { None });
    let boot = |mode: Mode, system: System, run: u32| -> Result<Boot> {
        // What is slow to watch is watched once, and only where time repeats.
        let watch = run == 1 && mode == Mode::Deterministic && system.is_xen();
        let counted = watch && wanted(options, "counts");
        Ok(Boot {
            system,
            mode,
            hypervisor: if system == System::Xen { guests.xen() } else { xenolith.clone() },
            base: base.clone(),
            raw: folder.join("raw").join(format!("{}-{}-{run}", mode.name(), system.name())),
            plan: run::Plan {
                seconds: options.seconds,
                scenes: scenes(options, mode, system, watch)?,
                crowd: scenarios(options, mode, system, true).collect(),
                cost: cost.clone().filter(|_| mode == Mode::Deterministic && matches!(system, System::Xen | System::Xenolith)),
                counted: scenarios::COUNTED.iter().filter(|workload| counted && !(options.quick && workload.full)).collect(),
            },
        })
    };
    let all = |mode: Mode, runs: u32| -> Result<VecDeque<Boot>> {
        (1..=runs).flat_map(|run| systems.iter().map(move |system| (*system, run))).map(|(system, run)| boot(mode, system, run)).collect()
    };
    let (runs, free) = match options {
        // As many as anybody may have wanted.
        Options { report: true, .. } => (9, 9),
        Options { quick: true, .. } => (1, 0),
        _ => (2, 3),
    };
    Ok([all(Mode::Deterministic, options.runs.unwrap_or(runs))?, all(Mode::Free, options.free.unwrap_or(free))?])
}

/// Runs the jobs on as many threads as wanted, and takes what they tell.
fn perform(jobs: VecDeque<Boot>, threads: usize, results: &mut Results) {
    let start = Instant::now();
    let (jobs, shared) = (Mutex::new(jobs), Mutex::new(results));
    let next = || jobs.lock().ok()?.pop_front();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(boot) = next() {
                    let tell = |used: f64, said: &str| {
                        let at = start.elapsed().as_secs_f32();
                        eprintln!("{at:>6.1} s  {:<16} {used:>5.1} s  {said}", boot.system.name());
                    };
                    let end = boot.run(&|told, used| {
                        if let Ok(mut results) = shared.lock() {
                            tell(used, &take::take(&mut results, &boot, &told));
                        }
                    });
                    if let (Err(error), Ok(mut results)) = (end, shared.lock()) {
                        tell(0.0, &format!("FAILED {error:#}"));
                        let reason = error.to_string();
                        results.missing.push(format!("{}: {}", boot.system.name(), reason.lines().next().unwrap_or_default()));
                    }
                }
            });
        }
    });
}

/// The names and commands of what is to be run on one machine.
fn scenes(options: &Options, mode: Mode, system: System, watch: bool) -> Result<Vec<(&'static str, &'static str)>> {
    let watched = scenarios::WATCHED.iter().filter(|watched| watch && wanted(options, watched.name));
    let watched = watched.map(|watched| (watched.name, watched.commands));
    let known = |name: &String| {
        ["counts", run::COST].contains(&name.as_str())
            || scenarios::by_name(name).is_some()
            || scenarios::WATCHED.iter().any(|watched| watched.name == *name)
    };
    if let Some(unknown) = options.only.iter().find(|name| !known(name)) {
        bail!("no scenario {unknown}: `cargo xtask bench --list` shows them");
    }
    Ok(scenarios(options, mode, system, false).chain(watched).collect())
}

/// Those of the scenarios that make more DomUs or do not.
fn scenarios(options: &Options, mode: Mode, system: System, crowd: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let fits = move |scenario: &&Scenario| {
        let told = wanted(options, scenario.name) && (named(options, scenario.name) || !(options.quick && scenario.full));
        let alone = system == System::Loopback && scenario.sides;
        told && scenario.crowd == crowd && !alone && !(scenario.full && (mode == Mode::Free || !system.is_xen()))
    };
    scenarios::ALL.iter().filter(fits).map(|scenario| (scenario.name, scenario.commands))
}

fn wanted(options: &Options, name: &str) -> bool {
    options.only.is_empty() || named(options, name)
}

fn named(options: &Options, name: &str) -> bool {
    options.only.iter().any(|only| only == name)
}

fn systems(options: &Options) -> Result<Vec<System>> {
    let all = [System::Xen, System::Xenolith, System::TxCopy, System::Kvm, System::Loopback];
    if let Some(unknown) = options.systems.iter().find(|name| all.iter().all(|system| system.name() != **name)) {
        bail!("no system {unknown}: there are {}", all.map(System::name).join(", "));
    }
    let wanted = |system: &System| match options.systems.as_slice() {
        [] => match system {
            System::Xen | System::Xenolith | System::TxCopy => true,
            System::Kvm => options.kvm,
            System::Loopback => options.loopback,
        },
        names => names.iter().any(|name| name == system.name()),
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// What the figures depend on, by name.
fn machine(image: Option<&Path>) -> Result<std::collections::BTreeMap<String, String>> {
    let first = |command: &mut Command| host::output(command).ok().and_then(|text| Some(text.lines().next()?.trim().to_string()));
    let mut git = Command::new("git");
    git.current_dir(host::workspace()).args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let versions = guests::guests()?.versions()?;
    let package =
        |start: &str| versions.lines().find(|line| line.starts_with(start)).map(|line| line.trim_end_matches("_arm64.deb").into());
    let all = [
        ("xenolith", image.map_or_else(|| first(&mut git), |image| Some(image.display().to_string()))),
        ("qemu", first(Command::new("qemu-system-aarch64").arg("--version"))),
        ("xen", package("xen-hypervisor-4")),
        ("kernel", package("linux-image-")),
        ("machine", Some("QEMU virt, cortex-a57, GICv3, 3 GiB; Dom0 1 GiB, DomU 256 MiB with one vCPU".into())),
    ];
    let known = all.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    Ok(known.collect())
}
