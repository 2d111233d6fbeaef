//! `cargo xtask test abi`: the answers of test domains on Xenolith against those on Debian's Xen.
//!
//! The same image runs in four modes: as a DomU that xl makes (with `--gic 2`, on a GICv2), as one of the device tree with no Dom0 at all,
//! as one DomU after another that does one kind of misuse, and as Dom0, which builds further domains of it. Xen's answers are kept in `tests/guests/golden`, a file per mode; `--renew`
//! asks Xen again. A difference fails unless `expected-differences.txt` lists it with our answer and a reason. What is not an answer but a
//! test with a verdict of its own (races, tx copy, which Xen lacks) is counted as it says.

mod catalogue;
mod said;
mod table;

use crate::console::Machine;
use crate::dom0less::{self, DOMAIN};
use crate::guests::{self, Guests};
use crate::initrd::Root;
use crate::qemu::{self, Modules, Options};
use crate::{host, image, toolchain};
use anyhow::{Context, Result, ensure};
use said::{Answers, Said};
use std::fs;
use std::path::{Path, PathBuf};
use table::{Table, Tally};

/// The UUID is not left to chance: a byte of it could be what the domain fills pages with to see what a call writes.
const CONFIG: &str = "name = 'abi'\nuuid = '00112233-4455-6677-8899-aabbccddeeff'\nkernel = '/guest/abi.img'\nmemory = 32\nvcpus = 2\n\
    on_crash = 'preserve'\n";
/// Runs the domain, with the argument that stands for `ARGUMENT`, and shows what it said once it is gone, so that no other voice breaks
/// a line; then the hypervisor's books. A domain that hangs or has crashed is still there in the end.
const RUN: &str = "rm -f /var/log/xen/console/guest-abi.log; xl create /guest/abi.cfg ARGUMENT; i=0; \
    while xl domid abi >/dev/null 2>&1 && [ $i -lt 500 ]; do sleep 1; i=$((i+1)); done; \
    cat /var/log/xen/console/guest-abi.log; xl destroy abi 2>/dev/null && echo STILL-THERE; xl debug-keys A; xl dmesg | sed -n 's/^(XEN) AUDIT/AUDIT/p' | tail -1";
/// The subjects that have a domain each: `subjects::MISUSE` of the test domain.
const MISUSE: [&str; 13] = [
    "misuse_grants",
    "misuse_unmaps",
    "misuse_copies",
    "grant_races",
    "misuse_events",
    "misuse_memory",
    "misuse_calls",
    "misuse_registers",
    "misuse_instructions",
    "misuse_interrupts",
    "misuse_user",
    "misuse_tables",
    "exhaust",
];
/// The page of fw_cfg for that domain: a few registers, and behind them nothing that would answer.
const NOTHING: &str = " \"iomem=['0x9020,1@0x3b000']\"";
/// How often a domain is started whose console the toolstack loses: it then powers off without a summary.
const STARTS: u32 = 3;
/// What [`RUN`] says of a domain that did not power off.
const STILL_THERE: &str = "STILL-THERE";
/// Seconds that the domains without Linux may take on a machine that is busy with much else, with the debug build.
const PAIR: u64 = 2400;

/// How the image is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As a DomU, by Debian's xl.
    DomU,
    /// The same on a GICv2.
    GicV2,
    /// As a domain of the device tree, without a Dom0.
    Dom0less,
    /// As DomUs, each for one subject of misuse.
    Misuse,
    /// As Dom0, which builds its peers.
    Pair,
    /// The same on a GICv2.
    PairV2,
}

impl Mode {
    /// What there is for a version of the interrupt controller; misuse only if `all` is asked for.
    fn all(gic: u32, all: bool) -> &'static [Self] {
        match (gic, all) {
            (2, _) => &[Self::GicV2, Self::PairV2],
            (_, false) => &[Self::DomU, Self::Pair],
            (_, true) => &[Self::DomU, Self::Dom0less, Self::Misuse, Self::Pair],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::DomU => "domu",
            Self::GicV2 => "gicv2",
            Self::Dom0less => "dom0less",
            Self::Misuse => "misuse",
            Self::Pair => "pair",
            Self::PairV2 => "pair, GICv2",
        }
    }
}

/// One boot: which hypervisor, on how many CPUs.
#[derive(Clone, Copy)]
struct Variant {
    debug: bool,
    smp: u32,
}

impl Variant {
    /// As `--part` names it.
    fn name(self, mode: Mode) -> String {
        format!("{}, {} CPUs{}", mode.name(), self.smp, if self.debug { ", debug" } else { "" })
    }
}

/// What CI runs.
const GATE: [Variant; 1] = [Variant { debug: false, smp: 2 }];
/// What `--all` runs besides.
const OTHERS: [Variant; 5] = [
    Variant { debug: false, smp: 1 },
    Variant { debug: false, smp: 4 },
    Variant { debug: true, smp: 1 },
    Variant { debug: true, smp: 2 },
    Variant { debug: true, smp: 4 },
];

/// What the suite needs of the machine it runs on.
struct Suite {
    guests: Guests,
    /// The test image for guest loaders.
    image: PathBuf,
    /// Debian's Dom0 with the test image in its root.
    linux: Modules,
}

/// What of the suite is asked for.
pub struct Wanted<'a> {
    /// Ask Debian's Xen again.
    pub renew: bool,
    /// Not only what CI runs.
    pub all: bool,
    /// Version of the interrupt controller.
    pub gic: u32,
    /// Only the boot of this name, such as `misuse, 4 CPUs, debug`, or those with this in their names; empty: all of them.
    pub part: &'a str,
}

/// Runs the suite; the last line it prints is the summary.
pub fn abi(wanted: &Wanted<'_>) -> Result<()> {
    let Tally { passed, failed, skipped } = run(wanted)?;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    std::process::exit(i32::from(failed > 0 || passed == 0));
}

/// Runs the suite as one test among others.
pub fn check() -> Result<Option<String>> {
    let Tally { passed, failed, skipped } = run(&Wanted { renew: false, all: false, gic: Options::default().gic, part: "" })?;
    ensure!(failed == 0 && passed > 0, "{failed} answers are wrong: cargo xtask test abi");
    Ok(Some(format!("{passed} answers as they should be, {skipped} explained")))
}

fn run(&Wanted { renew, all, gic, part }: &Wanted<'_>) -> Result<Tally> {
    let suite = Suite::prepare()?;
    let mut listed = fs::read_to_string(folder().join("expected-differences.txt"))?;
    if gic == 2 {
        // What is listed for the registers of a GICv3 is not met there.
        listed = listed.lines().filter(|line| !line.starts_with("vgic.")).map(|line| format!("{line}\n")).collect();
        listed += &fs::read_to_string(folder().join("expected-differences-gicv2.txt"))?;
    }
    let modes = Mode::all(gic, all);
    if !modes.contains(&Mode::Misuse) {
        listed = listed.lines().filter(|line| !line.starts_with("misuse_")).map(|line| format!("{line}\n")).collect();
    }
    let catalogue = fs::read_to_string(folder().join("misuse.txt"))?;
    let mut table = Table::new(&listed, &catalogue)?;
    let others = if all { OTHERS.as_slice() } else { &[] };
    let variants = || GATE.iter().chain(others);
    let is_any = modes.iter().any(|mode| variants().any(|variant| variant.name(*mode).contains(part)));
    ensure!(is_any, "nothing of the suite is called {part:?}; a GICv2's needs --gic 2");
    let is_one = modes.iter().any(|mode| variants().any(|variant| variant.name(*mode) == part));
    for &mode in modes {
        let name = |variant: &Variant| variant.name(mode);
        let is_wanted = |name: String| if is_one { name == part } else { name.contains(part) };
        let mut variants = variants().filter(|variant| is_wanted(name(variant))).peekable();
        if variants.peek().is_none() {
            continue;
        }
        let xen = suite.golden(mode, renew)?;
        for variant in variants {
            let name = name(variant);
            eprintln!("abi: asking Xenolith ({name})");
            match image::image(variant.debug).and_then(|image| suite.ask(&image, mode, variant.smp)) {
                Ok(ours) => table.compare(&name, &xen, &ours),
                Err(error) => table.fail(&format!("{name}: {error:#}")),
            }
        }
    }
    table.write(&scratch()?, part.is_empty())
}

impl Suite {
    fn prepare() -> Result<Self> {
        let guests = guests::guests()?;
        host::run(toolchain::cargo("build")?.args(["--package", "test-domain", "--release"])).context("the test domain does not build")?;
        let elf = host::target_dir().join(toolchain::TARGET).join("release/test-domain");
        let flat = image::flatten(&fs::read(&elf)?)?;
        let image = scratch()?.join("test-domain.img");
        fs::write(&image, &flat)?;
        let linux = linux(&guests, flat)?;
        Ok(Self { guests, image, linux })
    }

    /// Xen's answers, from the file or from itself.
    fn golden(&self, mode: Mode, renew: bool) -> Result<Answers> {
        let file = golden_file(&self.guests, mode)?;
        if renew || !file.is_file() {
            eprintln!("abi: asking Debian's Xen ({})", mode.name());
            let said = self.ask(&self.guests.xen(), mode, 2)?;
            ensure!(said.complaints.is_empty(), "the test domain complains about Xen itself:\n{}", said.complaints.join("\n"));
            let lines = said.answers.iter().map(|(name, answer)| format!("{name} {answer}\n"));
            fs::write(&file, lines.collect::<String>()).context("cannot write Xen's answers")?;
            eprintln!("abi: {} answers in {}", said.answers.len(), file.display());
        }
        Ok(said::stored(&fs::read_to_string(&file)?))
    }

    /// Boots a hypervisor and runs the domains there.
    fn ask(&self, hypervisor: &Path, mode: Mode, smp: u32) -> Result<Said> {
        let log = scratch()?.join(format!(
            "{}-{}-{smp}.log",
            mode.name().replace(", ", "-"),
            hypervisor.file_stem().unwrap_or_default().to_string_lossy()
        ));
        match mode {
            Mode::DomU | Mode::GicV2 | Mode::Misuse => {
                let gic = if mode == Mode::GicV2 { 2 } else { 3 };
                let options = Options { smp, gic, qemu: without_its(), ..Options::default() };
                let mut machine = Machine::start(qemu::command(&options, hypervisor, &self.linux)?, &log)?;
                let subjects = if mode == Mode::Misuse { MISUSE.as_slice() } else { &[""] };
                let mut all = Said::default();
                machine.wait_for_dom0(240).with_context(|| machine.tail())?;
                for subject in subjects {
                    let mut argument = if subject.is_empty() { String::new() } else { format!("\"extra='subject={subject}'\"") };
                    if *subject == "misuse_interrupts" {
                        argument += NOTHING;
                    }
                    let run = RUN.replace("ARGUMENT", &argument);
                    let mut said = machine.sh(&run, 600).with_context(|| machine.tail())?;
                    for _ in 1..STARTS {
                        if said.contains("\nSUMMARY") || said.contains(STILL_THERE) {
                            break;
                        }
                        eprintln!("abi: {subject} was not heard to its end, again");
                        said = machine.sh(&run, 600).with_context(|| machine.tail())?;
                    }
                    match Said::listen(&said) {
                        Ok(said) => all.add(said),
                        Err(error) => all.complaints.push(format!("{subject}: {error:#}")),
                    }
                }
                Ok(all)
            }
            Mode::Dom0less => {
                // The hypervisor's own words would break lines.
                let hypargs = "guest_loglvl=none".into();
                let mut options = Options { smp, hypargs, qemu: without_its(), ..Options::default() };
                let modules = Modules { kernel: None, initrd: None };
                let domain =
                    dom0less::Domain { memory: 32 << 10, cpus: 2, enhanced: Some("no-xenstore"), image: Some(&self.image), ..DOMAIN };
                let described = dom0less::options(&options, hypervisor, &modules, &self.guests, &[domain], &scratch()?)?;
                options.qemu.extend(described);
                let mut machine = Machine::start(qemu::command(&options, hypervisor, &modules)?, &log)?;
                machine.wait_for("SUMMARY", 600).with_context(|| machine.tail())?;
                // All of the line: what the keys make the hypervisor say could come into its middle.
                machine.wait_for("\n", 60)?;
                // The console's input goes to the hypervisor, whose key shows its books.
                machine.type_keys("\x01\x01\x01A")?;
                machine.wait_for("*** Serial input to Xen", 60)?;
                let said = machine.listen(5).to_string();
                Said::listen(&said).with_context(|| machine.tail())
            }
            Mode::Pair | Mode::PairV2 => {
                // Two vCPUs even on one CPU: races are of the domain's making.
                let options = Options {
                    smp,
                    gic: if mode == Mode::PairV2 { 2 } else { 3 },
                    mem: "1G".into(),
                    dom0_mem: "64M".into(),
                    dom0_vcpus: Some(2),
                    hypargs: "guest_loglvl=none".into(),
                    qemu: without_its(),
                    ..Options::default()
                };
                let modules = Modules { kernel: Some(self.image.clone()), initrd: None };
                let mut machine = Machine::start(qemu::command(&options, hypervisor, &modules)?, &log)?;
                let said = machine.listen(PAIR).to_string();
                Said::listen(&said).with_context(|| machine.tail())
            }
        }
    }
}

/// Debian's Xen gives Dom0 no ITS; where the machine has none, Dom0's interrupt controller is the same on both.
fn without_its() -> Vec<String> {
    ["-M", "its=off"].map(String::from).to_vec()
}

/// Dom0's kernel and its root with the test domain added.
fn linux(guests: &Guests, image: Vec<u8>) -> Result<Modules> {
    let mut root = Root::default();
    root.file("guest/abi.img", image, 0o644);
    root.file("guest/abi.cfg", CONFIG, 0o644);
    let initrd = scratch()?.join("dom0.cpio");
    guests.initrd_with(&root, &initrd)?;
    Ok(Modules { initrd: Some(initrd), ..Modules::of(guests) })
}

/// Where the answers of this very Xen are kept.
fn golden_file(guests: &Guests, mode: Mode) -> Result<PathBuf> {
    let versions = guests.versions()?;
    let package = versions.lines().find(|line| line.starts_with("xen-hypervisor-4")).context("the guests hold no Xen")?;
    let version = package.split('_').nth(1).unwrap_or(package);
    let name: String = version.chars().map(|c| if c.is_ascii_alphanumeric() || "+-.".contains(c) { c } else { '_' }).collect();
    let mode = match mode {
        Mode::DomU => "",
        Mode::GicV2 => "-gicv2",
        Mode::Dom0less => "-dom0less",
        Mode::Misuse => "-misuse",
        Mode::Pair | Mode::PairV2 => "-pair",
    };
    Ok(folder().join("golden").join(format!("xen-{name}{mode}.txt")))
}

fn folder() -> PathBuf {
    host::workspace().join("tests/guests")
}

/// Consoles and tables.
fn scratch() -> Result<PathBuf> {
    let dir = host::target_dir().join("abi");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
