//! One boot of one system: the plan that Dom0 runs, and what it said for each scenario.

use super::exceptions::{self, Sums, Symbols};
use super::monitor::{self, Monitor};
use super::plugin::Counters;
use super::scenarios::Counted;
use super::{cost, kvm};
use crate::console::Machine;
use crate::host;
use crate::initrd::Root;
use crate::qemu::{self, Modules, Options};
use anyhow::{Context, Result, anyhow, bail};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIB: &str = include_str!("../../../../tests/system/bench/lib.sh");
const ALONE: &str = include_str!("../../../../tests/system/bench/alone");
const KVM: &str = include_str!("../../../../tests/system/bench/kvm");
/// One virtual CPU that executes an instruction in 2 ns of virtual time, and skips the time in which nothing runs: the same run each time.
const DETERMINISTIC: [&str; 6] = ["-icount", "shift=1,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01T00:00:00,clock=vm"];
/// Dom0's network card: what it sends is taken, and answered by nobody.
const OUTSIDE: [&str; 4] = ["-netdev", "user,id=outside,restrict=on,ipv6=off", "-device", "virtio-net-device,netdev=outside"];
/// The name of the scene in which single operations are measured, and of the boot in which those of two domains are.
pub const COST: &str = "cost";
pub const PAIR: &str = "cost-pair";
/// The scene in which the DomU comes up.
pub const START: &str = "start";
/// Requests and responses in deterministic mode, as netperf counts them. With two CPUs that run freely a wake-up takes as long as the host
/// likes: those are measured for seconds.
const TRANSACTIONS: i32 = -4000;
/// Seconds that a boot or a scenario may take on the slowest machine.
const PATIENCE: u64 = 400;

/// What runs under the measured guests, and with what drivers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum System {
    /// Debian's Xen.
    Xen,
    /// Xenolith with Linux's netfront and netback.
    Xenolith,
    /// Xenolith with the modules of tx copy.
    TxCopy,
    /// Linux's KVM, with a guest of virtio-net and vhost.
    Kvm,
    /// One Linux with nothing under it, and its loopback: what the programs cost themselves.
    Loopback,
}

impl System {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xen => "xen",
            Self::Xenolith => "xenolith",
            Self::TxCopy => "xenolith+txcopy",
            Self::Kvm => "kvm",
            Self::Loopback => "loopback",
        }
    }

    /// Whether it has a Dom0, with Xen's tools.
    pub fn is_xen(self) -> bool {
        matches!(self, Self::Xen | Self::Xenolith | Self::TxCopy)
    }
}

/// How the emulated machine keeps time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One CPU, virtual time by instructions: the same each time.
    Deterministic,
    /// Two CPUs, the host's time.
    Free,
}

impl Mode {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Free => "free-running",
        }
    }

    /// Seconds that a scenario may take. One that runs freely has the machine for itself, and ends by itself after a few seconds.
    fn patience(self) -> u64 {
        match self {
            Self::Deterministic => PATIENCE,
            Self::Free => 60,
        }
    }
}

/// What a machine is booted with.
pub struct Boot {
    /// The system.
    pub system: System,
    /// How it keeps time.
    pub mode: Mode,
    /// The hypervisor's image.
    pub hypervisor: PathBuf,
    /// Dom0's kernel and root, with the modules of tx copy at hand.
    pub base: Modules,
    /// Where its console's log and what it says for each scene go: the start of those files' names.
    pub raw: PathBuf,
    /// What it runs.
    pub plan: Plan,
}

/// What a machine runs.
#[derive(Clone, Default)]
pub struct Plan {
    /// Seconds of a scenario that has no number of its own.
    pub seconds: u32,
    /// Names and shell commands, in turn.
    pub scenes: Vec<(&'static str, &'static str)>,
    /// Those that make more domains, after all else.
    pub crowd: Vec<(&'static str, &'static str)>,
    /// The image of the domain that measures single operations, if it is to do so, before all else.
    pub cost: Option<Vec<u8>>,
    /// What is counted, after that.
    pub counted: Vec<&'static Counted>,
}

/// What a machine tells of while it runs.
pub enum Told<'a> {
    /// What a scene printed.
    Scene(&'a str, &'a str),
    /// The traps and interrupts of a counted workload, for one of its operations, and how many those were.
    Counted(&'a Counted, &'a Sums, f64),
}

impl Plan {
    /// What comes before the scenes: single operations, undisturbed, and then the DomU if anybody needs it.
    fn first(&self, system: System) -> Vec<(&'static str, &'static str)> {
        let start = match system {
            System::Xen | System::Xenolith => "domu domu1 2; up domu1; sleep 2",
            System::TxCopy => "insmod /lib/modules/xenolith-tx-back.ko; EXTRA=tx; domu domu1 2; up domu1; sleep 2",
            System::Kvm => "machine",
            System::Loopback => "alone",
        };
        let cost = self.cost.as_ref().map(|_| (COST, cost::COMMANDS));
        let needed = !self.scenes.is_empty() || !self.crowd.is_empty() || !self.counted.is_empty();
        cost.into_iter().chain(needed.then_some((START, start))).collect()
    }

    /// The shell script that Dom0 runs.
    fn script(&self, system: System, mode: Mode) -> String {
        let transactions = if mode == Mode::Free { self.seconds.to_string() } else { TRANSACTIONS.to_string() };
        let mut script = format!(". /bench/lib.sh\nT={}\nR={transactions}\n", self.seconds);
        for (name, commands) in self.first(system) {
            script += &format!("scene {name} '{commands}'\n");
        }
        for (name, commands) in &self.scenes {
            script += &format!("scene {name} '{commands}'\n");
        }
        if !self.counted.is_empty() {
            script += "scene symbols symbols\n";
        }
        for workload in &self.counted {
            for (length, n) in [("short", workload.lengths.0), ("long", workload.lengths.1)] {
                script += &format!("N={n}\ngate {}-{length} '{}'\n", workload.name, workload.commands);
            }
        }
        for (name, commands) in &self.crowd {
            script += &format!("scene {name} '{commands}'\n");
        }
        script + "echo BENCH-DONE\npoweroff -f\n"
    }
}

impl Boot {
    /// Boots the machine and takes down what it says, telling `told` of it and how many seconds of a CPU of the host's it took.
    pub fn run(&self, told: &dyn Fn(Told, f64)) -> Result<()> {
        if let Some(image) = &self.plan.cost {
            self.pair(image, told)?;
        }
        let (socket, modules) = (monitor::socket(), self.modules()?);
        let mut qemu = self.machine(&modules)?;
        qemu.args(monitor::option(&socket));
        let counters = if self.plan.counted.is_empty() { None } else { Counters::watch(&mut qemu, &self.file("plugin.bin"))? };
        let mut machine = Machine::start(qemu, &self.file("console.log"))?;
        let end = self.perform(&mut machine, &socket, counters.as_ref(), told);
        let _ = fs::remove_file(&socket);
        let _ = modules.initrd.map(fs::remove_file);
        end.map_err(|error| anyhow!("{error:#}\n{}", machine.tail()))
    }

    /// Boots the domain that measures single operations in the place of Linux, where it makes itself another one.
    fn pair(&self, image: &[u8], told: &dyn Fn(Told, f64)) -> Result<()> {
        let kernel = self.file("cost.img");
        fs::write(&kernel, image)?;
        let mut options = Options {
            smp: 1,
            mem: "1G".into(),
            dom0_mem: "64M".into(),
            dom0_vcpus: Some(1),
            hypargs: "guest_loglvl=none".into(),
            ..Options::default()
        };
        options.qemu.extend(DETERMINISTIC.map(String::from));
        let modules = Modules { kernel: Some(kernel.clone()), initrd: None };
        let mut machine = Machine::start(qemu::command(&options, &self.hypervisor, &modules)?, &self.file("cost-pair.log"))?;
        let said = machine.wait_for("COST end", PATIENCE).map_err(|error| anyhow!("{error:#}\n{}", machine.tail()))?;
        let _ = fs::remove_file(kernel);
        fs::write(self.file(&format!("{PAIR}.txt")), &said)?;
        told(Told::Scene(PAIR, &said), machine.used());
        Ok(())
    }

    /// Tells once more what an earlier run of this boot left in its files.
    pub fn retell(&self, told: &dyn Fn(Told)) {
        let names = self.plan.first(self.system).into_iter().chain(self.plan.scenes.iter().chain(&self.plan.crowd).copied());
        let names = names.map(|(name, _)| name);
        for name in names.filter(|name| *name != START).chain(self.plan.cost.as_ref().map(|_| PAIR)) {
            if let Ok(said) = fs::read_to_string(self.file(&format!("{name}.txt"))) {
                told(Told::Scene(name, &said));
            }
        }
        for workload in &self.plan.counted {
            let sums = |length: &str| -> Option<Sums> {
                serde_json::from_slice(&fs::read(self.file(&format!("{}-{length}.json", workload.name))).ok()?).ok()
            };
            if let (Some(short), Some(long)) = (sums("short"), sums("long")) {
                let (each, operations) = workload.each(&short, &long);
                told(Told::Counted(workload, &each, operations));
            }
        }
    }

    fn machine(&self, modules: &Modules) -> Result<Command> {
        let mut options = Options { dom0args: "run=.~/bench/plan".into(), ..Options::default() };
        if self.mode == Mode::Deterministic {
            options.smp = 1;
            options.qemu.extend(DETERMINISTIC.map(String::from));
        }
        let (virtualization, init) = match self.system {
            System::Kvm => ("on", "kvm"),
            System::Loopback => ("off", "alone"),
            System::Xen | System::Xenolith | System::TxCopy => {
                options.qemu.extend(OUTSIDE.map(String::from));
                return qemu::command(&options, &self.hypervisor, modules);
            }
        };
        let (Some(kernel), Some(root)) = (&modules.kernel, &modules.initrd) else { bail!("no guests") };
        let mut qemu = qemu::program()?;
        qemu.arg("-M").arg(format!("virt,gic-version=3,virtualization={virtualization}"));
        qemu.args(["-cpu", "cortex-a57", "-m", &options.mem, "-smp", &options.smp.to_string(), "-no-reboot", "-nic", "none", "-append"]);
        qemu.arg(format!("console=ttyAMA0 rdinit=/bench/{init} loglevel=4")).arg("-kernel").arg(kernel).arg("-initrd").arg(root);
        qemu.args(options.qemu);
        Ok(qemu)
    }

    fn perform(&self, machine: &mut Machine, socket: &Path, counters: Option<&Counters>, told: &dyn Fn(Told, f64)) -> Result<()> {
        let used = Cell::new(0.0);
        let tell = |machine: &Machine, what: Told| told(what, machine.used() - used.replace(machine.used()));
        let scenes = |machine: &mut Machine, scenes: &[(&'static str, &'static str)]| -> Result<()> {
            for (name, _) in scenes {
                let said = scene(machine, name, self.mode.patience())?;
                fs::write(self.file(&format!("{name}.txt")), &said)?;
                tell(machine, Told::Scene(name, &said));
            }
            Ok(())
        };
        scenes(machine, &self.plan.first(self.system))?;
        scenes(machine, &self.plan.scenes)?;
        if !self.plan.counted.is_empty() {
            let symbols = Symbols::read(&scene(machine, "symbols", PATIENCE)?);
            let mut monitor = Monitor::connect(socket)?;
            for workload in &self.plan.counted {
                let mut count = |length| self.gate(machine, &mut monitor, counters, &format!("{}-{length}", workload.name), &symbols);
                let (short, long) = (count("short")?, count("long")?);
                let (each, operations) = workload.each(&short, &long);
                tell(machine, Told::Counted(workload, &each, operations));
            }
        }
        scenes(machine, &self.plan.crowd)?;
        machine.wait_for("BENCH-DONE", PATIENCE)?;
        machine.wait_off(PATIENCE)
    }

    /// Lets the machine run a workload with QEMU's log of exceptions on, and sums that up.
    fn gate(
        &self,
        machine: &mut Machine,
        monitor: &mut Monitor,
        counters: Option<&Counters>,
        name: &str,
        symbols: &Symbols,
    ) -> Result<Sums> {
        machine.wait_for(&format!("BENCH-GATE {name}\n"), PATIENCE)?;
        let log = self.file(&format!("{name}.int"));
        monitor.log_exceptions(&log)?;
        let before = counters.map(Counters::read).transpose()?;
        machine.type_line("")?;
        machine.wait_for(&format!("BENCH-GATED {name} "), PATIENCE)?;
        let after = counters.map(Counters::read).transpose()?;
        monitor.log_nothing()?;
        let packets = machine.wait_for("\n", PATIENCE)?;
        let mut sums = exceptions::sum(BufReader::new(File::open(&log)?), symbols)?;
        if let (Some((flushes, instructions)), Some(before)) = (after, before) {
            sums.flushes = flushes.into_iter().map(|(which, n)| (which.clone(), n - before.0.get(&which).unwrap_or(&0.0))).collect();
            sums.instructions = Some(instructions - before.1);
        }
        sums.packets = packets.trim().parse().with_context(|| format!("{name} counts no packets: {packets}"))?;
        // Tens of megabytes: the sums are the record.
        fs::remove_file(&log)?;
        fs::write(self.file(&format!("{name}.json")), serde_json::to_vec_pretty(&sums)?)?;
        machine.type_line("")?;
        Ok(sums)
    }

    /// Dom0's kernel, and its root with the plan behind it.
    fn modules(&self) -> Result<Modules> {
        let mut root = Root::default();
        root.file("bench/lib.sh", LIB, 0o644);
        root.file("bench/alone", ALONE, 0o755);
        root.file("bench/kvm", KVM, 0o755);
        root.file("bench/plan", self.plan.script(self.system, self.mode), 0o644);
        if let Some(image) = &self.plan.cost {
            root.file("guest/cost.img", image.clone(), 0o644);
            root.file("guest/cost.cfg", cost::CONFIG, 0o644);
        }
        let mut archive = fs::read(self.base.initrd.as_ref().context("the guests have no root")?)?;
        archive.extend(root.pack()?);
        if self.system == System::Kvm {
            archive.extend(kvm::root()?);
        }
        let file = self.file("dom0.cpio");
        fs::write(&file, archive).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Modules { initrd: Some(file), ..self.base.clone() })
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        let start = self.raw.file_name().unwrap_or_default().to_string_lossy();
        self.raw.with_file_name(format!("{start}-{name}"))
    }
}

fn scene(machine: &mut Machine, name: &str, patience: u64) -> Result<String> {
    machine.wait_for(&format!("BENCH-BEGIN {name}\n"), patience).and_then(|_| machine.wait_for(&format!("BENCH-END {name}\n"), patience))
}

/// The folder of everything that the benchmark leaves.
pub fn folder() -> PathBuf {
    host::target_dir().join("bench")
}
