//! CPUs and how they are started.

use alloc::string::String;
use alloc::vec::Vec;

use crate::addr::MachineAddr;
use crate::boot::fdt::Node;
use crate::boot::{BootError, HostTree};

/// Xen's limit on Arm.
const MAX_CPUS: usize = 128;
/// The affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A CPU of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostCpu {
    /// The affinity fields of its MPIDR_EL1.
    pub mpidr: u64,
    /// How it is started.
    pub enable: EnableMethod,
    /// Path of its node, for messages.
    pub node: String,
}

/// How a CPU is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    /// By PSCI's CPU_ON.
    Psci,
    /// It waits (in WFE) until a 64-bit entry address is written here.
    SpinTable {
        /// Where the CPU looks for its entry address.
        release: MachineAddr,
    },
    /// The tree does not say: only the boot CPU can be used.
    None,
}

/// The instruction that calls firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// SMC.
    Smc,
    /// HVC: a hypervisor below us.
    Hvc,
}

/// The PSCI firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Psci {
    /// How it is called.
    pub conduit: Conduit,
    /// Function number of CPU_ON.
    pub cpu_on: u32,
    /// Function number of SYSTEM_OFF and SYSTEM_RESET exist (PSCI 0.2 or later), as does PSCI_VERSION.
    pub has_system_calls: bool,
}

/// CPU_ON of the SMC64 convention, PSCI 0.2 or later.
const CPU_ON_64: u32 = 0xc400_0003;

/// The enabled CPUs of `/cpus`.
pub(super) fn cpus(tree: &HostTree<'_>) -> Result<Vec<HostCpu>, BootError> {
    let mut cpus: Vec<HostCpu> = Vec::new();
    for node in cpu_nodes(tree) {
        let mpidr = cpu_mpidr(node)?;
        if cpus.iter().any(|cpu| cpu.mpidr == mpidr) {
            return Err(node.bad("reg", "is that of another CPU, too"));
        }
        cpus.push(HostCpu { mpidr, enable: enable_method(node)?, node: node.path() });
        if cpus.len() > MAX_CPUS {
            return Err(BootError::TooMany { what: "CPUs", limit: MAX_CPUS });
        }
    }
    if cpus.is_empty() { Err(BootError::NoCpus) } else { Ok(cpus) }
}

/// The nodes of the CPUs that are not disabled.
pub(in crate::boot) fn cpu_nodes<'t>(tree: &'t HostTree<'t>) -> impl Iterator<Item = Node<'t>> {
    let cpus = tree.root().child("cpus");
    cpus.into_iter().flat_map(|cpus| cpus.children()).filter(|node| node.text("device_type") == Some("cpu") && node.is_enabled())
}

fn cpu_mpidr(node: Node<'_>) -> Result<u64, BootError> {
    let mpidr = node.number("reg").ok_or_else(|| node.missing("reg"))?;
    if mpidr & !AFFINITY != 0 { Err(node.bad("reg", "is not an MPIDR affinity value")) } else { Ok(mpidr) }
}

fn enable_method(node: Node<'_>) -> Result<EnableMethod, BootError> {
    match node.text("enable-method") {
        None => Ok(EnableMethod::None),
        Some("psci") => Ok(EnableMethod::Psci),
        Some("spin-table") => {
            let release = node.number("cpu-release-addr").ok_or_else(|| node.missing("cpu-release-addr"))?;
            let release = MachineAddr(release);
            if !release.is_aligned(8) {
                return Err(node.bad("cpu-release-addr", "is not a multiple of 8"));
            }
            Ok(EnableMethod::SpinTable { release })
        }
        Some(method) => Err(BootError::UnsupportedEnableMethod { node: node.path(), method: method.into() }),
    }
}

/// The PSCI node (binding arm,psci).
pub(super) fn psci(tree: &HostTree<'_>) -> Result<Option<Psci>, BootError> {
    const MODERN: &[&str] = &["arm,psci-1.0", "arm,psci-0.2"];
    let found = tree.nodes().find(|node| (node.is_any_of(MODERN) || node.is_compatible("arm,psci")) && node.is_enabled());
    let Some(node) = found else { return Ok(None) };
    let conduit = match node.text("method") {
        Some("smc") => Conduit::Smc,
        Some("hvc") => Conduit::Hvc,
        Some(_) => return Err(node.bad("method", "is neither smc nor hvc")),
        None => return Err(node.missing("method")),
    };
    if node.is_any_of(MODERN) {
        return Ok(Some(Psci { conduit, cpu_on: CPU_ON_64, has_system_calls: true }));
    }
    let cpu_on = node.u32("cpu_on").ok_or_else(|| node.missing("cpu_on"))?;
    Ok(Some(Psci { conduit, cpu_on, has_system_calls: false }))
}
