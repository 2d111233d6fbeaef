//! `cargo xtask demo`: Debian on the hypervisor, from Dom0's boot to power-off, every step seen to happen.

use crate::console::Machine;
use crate::qemu::{self, Options};
use crate::report::{self, Stage, Step};
use crate::{guests, host, modules, xl};
use anyhow::{Result, bail, ensure};

/// What pktgen sends.
const FRAMES: u64 = 20_000;

const STEPS: &[Step] = &[
    ("Dom0 boots", dom0_boots),
    ("Dom0 controls the machine", dom0_controls),
    ("xl info", xl_info),
    ("xl create", |stage| xl::create(&mut stage.machine, "domu1", 2, "")),
    ("the DomU is up", |stage| xl::up(&mut stage.machine, "domu1")),
    ("ping", |stage| xl::ping(&mut stage.machine, 2)),
    ("iperf3, Dom0 to DomU", |stage| xl::rate(&mut stage.machine, 2, "")),
    ("iperf3, DomU to Dom0", stock_tcp),
    ("pktgen, DomU to Dom0", stock_frames),
    ("tx copy: both modules loaded", load),
    ("iperf3 by tx copy, DomU to Dom0", copied_tcp),
    ("pktgen by tx copy, DomU to Dom0", copied_frames),
    ("what that took", counters),
    ("both modules unloaded", unload),
    ("xl shutdown", xl_shutdown),
    ("xl create, again", |stage| xl::create(&mut stage.machine, "domu1", 2, "")),
    ("the DomU is up, again", |stage| xl::up(&mut stage.machine, "domu1")),
    ("xl destroy", xl_destroy),
    ("all memory given back", memory_back),
    ("power-off", power_off),
];

/// Boots and demonstrates; an error if any step did not happen. Rates are those of an emulator and only good for comparing with each other.
pub fn demo(options: &Options) -> Result<()> {
    eprintln!("preparing {} and Debian (cached after the first time)", options.hyp);
    let guests = guests::guests()?;
    let hypervisor = qemu::hypervisor(&options.hyp, &guests)?;
    let log = host::target_dir().join("xenolith/demo.log");
    eprintln!("booting {} on {} CPUs; console in {}", hypervisor.display(), options.smp, log.display());
    let machine = Machine::start(qemu::command(options, &hypervisor, &modules::at_hand(&guests)?)?, &log)?;
    let mut stage = Stage { machine, cpus: options.smp, vcpus: options.dom0_vcpus.unwrap_or(options.smp), free: 0, stock: (0.0, 0.0) };
    report::perform(&mut stage, STEPS)
}

fn dom0_boots(stage: &mut Stage) -> Result<String> {
    stage.machine.wait_for("(XEN) ", 30)?;
    stage.machine.wait_for_dom0(180)?;
    let vcpus: u32 = stage.machine.sh("grep -c ^processor /proc/cpuinfo", 30)?.trim().parse()?;
    ensure!(vcpus == stage.vcpus, "Dom0 has {vcpus} CPUs, not {}", stage.vcpus);
    Ok(format!("{} on {vcpus} CPUs", stage.machine.sh("uname -sr", 30)?.trim()))
}

fn dom0_controls(stage: &mut Stage) -> Result<String> {
    let capabilities = stage.machine.sh("cat /proc/xen/capabilities", 30)?;
    ensure!(capabilities.trim() == "control_d", "/proc/xen/capabilities says {capabilities:?}");
    Ok("/proc/xen/capabilities: control_d".into())
}

fn xl_info(stage: &mut Stage) -> Result<String> {
    let info = stage.machine.sh("xl info", 30)?;
    let version = xl::field(&info, "xen_version")?;
    ensure!(version.starts_with("4.20"), "xen_version is {version}, not 4.20");
    ensure!(xl::field(&info, "nr_cpus")? == stage.cpus.to_string(), "nr_cpus is {}", xl::field(&info, "nr_cpus")?);
    Ok(format!("version {version}, {} CPUs, {} MiB free", stage.cpus, xl::field(&info, "free_memory")?))
}

fn stock_tcp(stage: &mut Stage) -> Result<String> {
    // Without the modules nothing of tx copy is there.
    stage.machine.sh("! ls -d /sys/class/net/vif*/xenolith_tx 2>/dev/null", 30)?;
    stage.stock.0 = xl::mbits(&mut stage.machine, 2, "-R")?;
    Ok(format!("{} Mbit/s by the stock drivers", stage.stock.0))
}

fn stock_frames(stage: &mut Stage) -> Result<String> {
    stage.stock.1 = frames(&mut stage.machine)?;
    Ok(format!("{} frames of 1514 bytes a second by the stock drivers", stage.stock.1))
}

fn load(stage: &mut Stage) -> Result<String> {
    stage.machine.sh("tx load", 30)?;
    let said = stage.machine.sh("guest 2 'tx load; tx queues 1'", 60)?;
    ensure!(said.trim() == "attached", "the DomU does not send by tx copy: {}", said.trim());
    Ok("xenolith-tx-front in the DomU, xenolith-tx-back in Dom0: the DomU sends by tx copy".into())
}

fn copied_tcp(stage: &mut Stage) -> Result<String> {
    let (stock, rate) = (stage.stock.0, xl::mbits(&mut stage.machine, 2, "-R")?);
    Ok(format!("{rate} Mbit/s: {:.1} times the {stock} without", rate / stock))
}

fn copied_frames(stage: &mut Stage) -> Result<String> {
    let (stock, rate) = (stage.stock.1, frames(&mut stage.machine)?);
    Ok(format!("{rate} frames of 1514 bytes a second: {:.1} times the {stock} without", rate / stock))
}

/// How many frames of 1514 bytes a second the DomU's driver gets rid of, all of which Dom0 receives.
fn frames(machine: &mut Machine) -> Result<f64> {
    let received = "cat /sys/class/net/vif*.0/statistics/rx_packets";
    let before: u64 = machine.sh(received, 30)?.trim().parse()?;
    let rate = machine.sh(&format!("guest 2 'tx pktgen 1514 {FRAMES}'"), 90)?;
    let delivered = machine.sh(received, 30)?.trim().parse::<u64>()? - before;
    ensure!(delivered >= FRAMES, "Dom0 received {delivered} of {FRAMES} frames");
    Ok(rate.trim().trim_end_matches("pps").parse()?)
}

fn counters(stage: &mut Stage) -> Result<String> {
    let counts = stage.machine.sh("guest 2 'tx count packets; tx count batches; tx count full'", 30)?;
    let counts: Vec<u64> = counts.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [packets, calls, full] = counts[..] else { bail!("the DomU has no counters") };
    ensure!(packets > FRAMES, "only {packets} packets went by tx copy");
    Ok(format!("{packets} packets by tx copy in {calls} hypercalls; {full} of them found Dom0's buffers full"))
}

fn unload(stage: &mut Stage) -> Result<String> {
    stage.machine.sh("tx unload; guest 2 'tx unload'", 60)?;
    Ok(format!("the stock drivers go on: {}", xl::ping(&mut stage.machine, 2)?))
}

fn xl_shutdown(stage: &mut Stage) -> Result<String> {
    stage.machine.sh("xl shutdown -w domu1 && gone domu1", 90)?;
    // From here on memory must be constant: Dom0 has what it takes to serve a DomU (grant frames, event channel pages).
    stage.free = xl::settled(&mut stage.machine)?;
    Ok(format!("the DomU went down by itself, {} kB free", stage.free))
}

fn xl_destroy(stage: &mut Stage) -> Result<String> {
    stage.machine.sh("xl destroy domu1 && gone domu1", 60)?;
    Ok("the DomU is gone".into())
}

fn memory_back(stage: &mut Stage) -> Result<String> {
    xl::free_is_again(&mut stage.machine, stage.free, 0)?;
    Ok(format!("{} kB free, as before its creation", stage.free))
}

fn power_off(stage: &mut Stage) -> Result<String> {
    stage.machine.type_line("poweroff -f")?;
    stage.machine.wait_off(30)?;
    Ok("the machine is off".into())
}
