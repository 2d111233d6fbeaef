//! `cargo xtask test`: what CI runs. Formatting, lints, host tests, the image, and whole-machine scenarios.

use crate::scenario::{self, Scenario};
use crate::{abi, bench, guests, host, image, loom, modules, qemu, toolchain};
use anyhow::{Context, Result, bail, ensure};
use std::process::Command;
use std::time::Instant;

/// What to test.
#[derive(clap::Args)]
pub struct Options {
    /// Also the long scenarios; with `abi`: on 1, 2 and 4 CPUs, with the release and the debug build
    #[arg(long)]
    all: bool,
    /// The hypervisor under test: `xenolith`, `xen` (Debian's, the oracle), or the path of an image
    #[arg(long, default_value = "xenolith")]
    hyp: String,
    /// Version of the interrupt controller, 2 or 3, for scenarios that do not say
    #[arg(long, default_value_t = 3)]
    gic: u32,
    /// Only show the names of the scenarios
    #[arg(long)]
    list: bool,
    /// With `abi`: first ask Debian's Xen again, and keep its answers
    #[arg(long)]
    renew: bool,
    /// With `abi`: only boots with this in their name, such as `misuse, 4 CPUs, debug`
    #[arg(long, default_value = "")]
    part: String,
    /// Only these scenarios, `boards` for all of boards, or `abi`: every answer of the hypercall ABI against Debian's Xen
    scenarios: Vec<String>,
}

/// Stands for all scenarios of boards.
const BOARDS: &str = "boards";

/// A check of the source that needs no machine; `None` if the tool for it is not installed.
type Check = (&'static str, fn() -> Result<Option<String>>);

const CHECKS: [Check; 7] = [
    ("format", format),
    ("clippy", clippy),
    ("clippy, bare metal", clippy_bare),
    ("dependencies", dependencies),
    ("host tests", host_tests),
    ("memory order", memory_order),
    ("image", release_image),
];

#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// Runs the tests; the last line it prints is the summary.
pub fn test(options: &Options) -> Result<()> {
    if options.scenarios == ["abi"] {
        return abi::abi(&abi::Wanted { renew: options.renew, all: options.all, gic: options.gic, part: &options.part });
    }
    let scenarios = scenario::all();
    if options.list {
        scenarios.iter().for_each(|scenario| println!("{}{}", scenario.name, if scenario.long { " (--all)" } else { "" }));
        return Ok(());
    }
    let names = |name: &String, scenario: &Scenario| name == scenario.name || name == BOARDS && scenario.name.starts_with("board-");
    if let Some(unknown) = options.scenarios.iter().find(|name| !scenarios.iter().any(|scenario| names(name, scenario))) {
        bail!("no scenario {unknown}: `cargo xtask test --list` shows them");
    }
    let mut tally = Tally::default();
    if options.scenarios.is_empty() && options.hyp == "xenolith" {
        for (name, check) in CHECKS {
            tally.tell(name, || check().map_err(|error| format!("{error:#}")));
        }
    }
    let wanted = |scenario: &&Scenario| match options.scenarios.as_slice() {
        [] => (options.all || !scenario.long) && !(scenario.ours && options.hyp == "xen"),
        wanted => wanted.iter().any(|name| names(name, scenario)),
    };
    let skipped = if options.scenarios.is_empty() { scenarios.iter().filter(|scenario| !wanted(scenario)).count() } else { 0 };
    tally.skipped += u32::try_from(skipped)?;
    // Without a hypervisor or guests no scenario can run: each then fails with that reason.
    let machine = guests::guests().and_then(|guests| Ok((qemu::hypervisor(&options.hyp, &guests)?, modules::at_hand(&guests)?)));
    for scenario in scenarios.iter().filter(wanted) {
        tally.tell(scenario.name, || match &machine {
            Ok((hypervisor, modules)) => scenario.perform(hypervisor, modules, options.gic).map(Some),
            Err(error) => Err(format!("{error:#}")),
        });
    }
    if options.scenarios.is_empty() && options.hyp == "xenolith" {
        tally.tell("abi", || abi::check().map_err(|error| format!("{error:#}")));
        tally.tell("instructions", || bench::check().map_err(|error| format!("{error:#}")));
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    std::process::exit(i32::from(tally.failed > 0 || tally.passed == 0));
}

impl Tally {
    /// Runs one test and says how it went.
    fn tell(&mut self, name: &str, test: impl FnOnce() -> Result<Option<String>, String>) {
        let start = Instant::now();
        let (count, verdict, seen) = match test() {
            Ok(Some(seen)) => (&mut self.passed, "ok", seen),
            Ok(None) => (&mut self.skipped, "skipped", "the tool is not installed".into()),
            Err(reason) => (&mut self.failed, "FAILED", reason),
        };
        *count += 1;
        println!("{name:<26} {verdict:<7} {:>5.1} s  {seen}", start.elapsed().as_secs_f32());
    }
}

fn format() -> Result<Option<String>> {
    if !has("fmt") {
        return Ok(None);
    }
    host::run(cargo("fmt").args(["--all", "--check"])).context("run `cargo fmt --all`")?;
    Ok(Some("as rustfmt has it".into()))
}

fn clippy() -> Result<Option<String>> {
    if !has("clippy") {
        return Ok(None);
    }
    host::run(cargo("clippy").args(["--quiet", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Some("no warnings".into()))
}

fn clippy_bare() -> Result<Option<String>> {
    if !has("clippy") {
        return Ok(None);
    }
    host::run(toolchain::cargo("clippy")?.args(["--quiet", "--package", "xenolith", "--", "-D", "warnings"]))?;
    Ok(Some("no warnings".into()))
}

/// Not the advisories: a test must not depend on what was published today.
fn dependencies() -> Result<Option<String>> {
    if !has("deny") {
        return Ok(None);
    }
    host::run(cargo("deny").args(["--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    Ok(Some("licences and sources as in deny.toml".into()))
}

fn host_tests() -> Result<Option<String>> {
    let output = host::output(cargo("test").arg("--quiet")).context("run `cargo test`")?;
    let passed: u32 =
        output.lines().filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok()).sum();
    ensure!(passed > 0, "cargo test ran no test");
    Ok(Some(format!("{passed} tests")))
}

fn memory_order() -> Result<Option<String>> {
    Ok(Some(format!("{} models hold", loom::loom()?)))
}

fn release_image() -> Result<Option<String>> {
    let image = image::image(false)?;
    Ok(Some(format!("{} KiB, at most {}", image.metadata()?.len().div_ceil(1024), image::LIMIT / 1024)))
}

/// Cargo on the host members of the workspace.
fn cargo(verb: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::workspace()).arg(verb);
    cargo
}

fn has(tool: &str) -> bool {
    host::output(cargo(tool).arg("--version")).is_ok()
}
