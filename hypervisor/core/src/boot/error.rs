//! What can stop the boot. Each prints as one line that says what is wrong and where.

use alloc::string::String;
use core::fmt;

use super::Region;

/// Why the machine cannot be started. `Display` is one line for the console, naming the device tree node or the option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BootError {
    /// The device tree blob is damaged; the parser's words.
    DamagedTree(String),
    /// A property of a node is missing.
    MissingProperty {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: &'static str,
    },
    /// A property of a node cannot be read.
    BadProperty {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No usable memory node.
    NoRam,
    /// More than the supported number of something.
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many are supported.
        limit: usize,
    },
    /// Two boot modules overlap, or one overlaps the hypervisor.
    Overlap {
        /// What lies at `a`.
        what: String,
        /// The first range.
        a: Region,
        /// What lies at `b`.
        with: String,
        /// The second range.
        b: Region,
    },
    /// A boot module is not in RAM.
    ModuleOutsideRam {
        /// Path of the module's node.
        node: String,
        /// Where it says it is.
        region: Region,
    },
    /// No CPU that can be started.
    NoCpus,
    /// A CPU is started in a way that is not supported.
    UnsupportedEnableMethod {
        /// Path of the CPU's node.
        node: String,
        /// Its enable-method.
        method: String,
    },
    /// There is no interrupt controller that is a GICv2 or GICv3.
    NoGic,
    /// The GIC lacks what virtualization needs.
    UnsupportedGic {
        /// Path of the node.
        node: String,
        /// What is missing.
        why: &'static str,
    },
    /// There is no architected timer node.
    NoTimer,
    /// No UART: neither `dtuart=` nor `/chosen/stdout-path` names one.
    NoUart,
    /// `dtuart=` or stdout-path names a node that does not exist.
    UnknownUart(String),
    /// No boot module is a Dom0 kernel.
    NoKernel,
    /// The Dom0 kernel is not an image that can be booted.
    BadKernel(&'static str),
    /// A domain of the device tree has no kernel.
    NoDomainKernel {
        /// Path of the domain's node.
        node: String,
    },
    /// A boot module of such a domain cannot be used.
    DomainModule {
        /// Path of the module's node.
        node: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The memory of such a domain does not fit.
    DomainMemory {
        /// Path of the domain's node.
        node: String,
        /// Bytes that it asks for.
        asked: u64,
        /// Bytes that could be given to it.
        free: u64,
    },
    /// Kernel, device tree and ramdisk do not fit into the memory of such a domain.
    DomainFiles {
        /// Path of the domain's node.
        node: String,
        /// Bytes that they need.
        needed: u64,
        /// Bytes of the domain's memory, as far as it is in one piece.
        bank: u64,
    },
    /// An interrupt of a device cannot be given to such a domain.
    DomainInterrupt {
        /// Path of the domain's node.
        node: String,
        /// Path of the device's node.
        device: String,
        /// Its number.
        intid: u32,
        /// Why not.
        why: &'static str,
    },
    /// There is no memory left to make such a domain.
    NoDomain {
        /// Path of the domain's node.
        node: String,
    },
    /// Dom0's memory does not fit.
    TooLittleMemory {
        /// Bytes that `dom0_mem` asks for.
        asked: u64,
        /// Bytes that could be placed.
        placed: u64,
    },
    /// Kernel, device tree and ramdisk do not fit into Dom0's first bank.
    BootFilesDoNotFit {
        /// Bytes that kernel, device tree and ramdisk need.
        needed: u64,
        /// Bytes in the bank.
        bank: u64,
    },
    /// No memory of the hypervisor's own can lend its addresses to the grant table window.
    NoGrantWindow,
    /// All PPIs are taken.
    NoFreePpi,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DamagedTree(why) => write!(f, "device tree is damaged: {why}"),
            Self::MissingProperty { node, property } => write!(f, "device tree node {node} has no property '{property}'"),
            Self::BadProperty { node, property, why } => write!(f, "device tree node {node}: property '{property}' {why}"),
            Self::NoRam => f.write_str("device tree has no memory node with device_type = \"memory\" and a non-empty reg"),
            Self::TooMany { what, limit } => write!(f, "device tree has more than {limit} {what}"),
            Self::Overlap { what, a, with, b } => write!(f, "{what} at {a} overlaps {with} at {b}"),
            Self::ModuleOutsideRam { node, region } => write!(f, "boot module {node} at {region} is not in RAM"),
            Self::NoCpus => f.write_str("device tree has no usable CPU node under /cpus"),
            Self::UnsupportedEnableMethod { node, method } => {
                write!(f, "CPU node {node}: enable-method {method:?} is not supported (psci and spin-table are)")
            }
            Self::NoGic => f.write_str("device tree has no supported interrupt controller (GICv2 or GICv3)"),
            Self::UnsupportedGic { node, why } => write!(f, "interrupt controller {node} cannot be used: {why}"),
            Self::NoTimer => f.write_str("device tree has no node compatible with arm,armv8-timer"),
            Self::NoUart => f.write_str("no UART: neither dtuart= nor /chosen/stdout-path names one"),
            Self::UnknownUart(path) => write!(f, "UART {path:?} is not in the device tree (dtuart= or /chosen/stdout-path)"),
            Self::NoKernel => f.write_str("no Dom0 kernel: /chosen has no boot module for it"),
            Self::BadKernel(why) => write!(f, "Dom0 kernel cannot be booted: {why}"),
            Self::NoDomainKernel { node } => write!(f, "domain {node} has no kernel: no boot module below it is one"),
            Self::DomainModule { node, why } => write!(f, "boot module {node} cannot be used: {why}"),
            Self::DomainMemory { node, asked, free } => {
                write!(f, "too little memory for domain {node}: its {} MiB do not fit, {} MiB are free", asked >> 20, free >> 20)
            }
            Self::DomainFiles { node, needed, bank } => write!(
                f,
                "memory of {} MiB of domain {node} cannot hold kernel, device tree and ramdisk ({} MiB)",
                bank >> 20,
                needed.div_ceil(1 << 20)
            ),
            Self::DomainInterrupt { node, device, intid, why } => {
                write!(f, "interrupt {intid} of {device} cannot be given to domain {node}: {why}")
            }
            Self::NoDomain { node } => write!(f, "too little memory to make domain {node}"),
            Self::TooLittleMemory { asked, placed } => {
                write!(
                    f,
                    "too little memory: dom0_mem={}M does not fit, only {} MiB of free RAM can be given to Dom0",
                    asked >> 20,
                    placed >> 20
                )
            }
            Self::BootFilesDoNotFit { needed, bank } => write!(
                f,
                "Dom0's first memory bank of {} MiB cannot hold kernel, device tree and ramdisk ({} MiB); raise dom0_mem",
                bank >> 20,
                needed.div_ceil(1 << 20)
            ),
            Self::NoGrantWindow => f.write_str("no hypervisor memory to place Dom0's grant table window at"),
            Self::NoFreePpi => f.write_str("no free PPI for Dom0's event channel interrupt"),
        }
    }
}

impl core::error::Error for BootError {}
