//! Why the guest stopped running: the syndrome registers as a value.
//!
//! Source: Arm ARM DDI 0487, D24.2.38 (ESR_EL2) and D24.2.56 (HPFAR_EL2).

use crate::aarch32::coprocessor;
use crate::addr::{GuestVa, Ipa, PAGE_SIZE};
use crate::mmio::{Access, Size};

/// The immediate of `hvc` that makes a hypercall (xen/include/public/arch-arm.h, `XEN_HYPERCALL_TAG`).
pub const HYPERCALL_TAG: u64 = 0xea1;

/// Which vector of EL2 was taken from a lower exception level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vector {
    /// Synchronous exception.
    Synchronous,
    /// IRQ.
    Irq,
    /// FIQ.
    Fiq,
    /// System error.
    SError,
}

/// What the hardware reports of an exit, as it is.
#[derive(Clone, Copy, Debug)]
pub struct RawExit {
    /// The vector taken.
    pub vector: Vector,
    /// `ESR_EL2`.
    pub esr: u64,
    /// `FAR_EL2`.
    pub far: u64,
    /// `HPFAR_EL2`.
    pub hpfar: u64,
}

/// Which instruction made an SMCCC call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `hvc #0`: the program counter is already past it.
    Hvc,
    /// `smc #0`: the program counter is at it.
    Smc,
}

/// A system register by its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SysReg {
    /// op0.
    pub op0: u8,
    /// op1.
    pub op1: u8,
    /// CRn.
    pub crn: u8,
    /// CRm.
    pub crm: u8,
    /// op2.
    pub op2: u8,
}

/// What a stage-2 fault is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is mapped there.
    Translation,
    /// The access flag is not set.
    AccessFlag,
    /// What is mapped does not allow the access.
    Permission,
    /// The address is beyond what stage 2 translates.
    AddressSize,
    /// The memory system refused the access.
    External,
    /// Any other fault status code: alignment, TLB conflict, unsupported atomic, …
    Other(u8),
}

/// A data or instruction abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort {
    /// The guest virtual address; none if the hardware does not know.
    pub va: Option<GuestVa>,
    /// The guest physical address. For a fault of a stage-1 walk that of the page of the table. None where the hardware does not report it
    /// (permission faults, external aborts): translate `va`.
    pub ipa: Option<Ipa>,
    /// What is wrong.
    pub fault: Fault,
    /// A stage-1 table walk made the access.
    pub walk: bool,
    /// A write (cache maintenance counts as one).
    pub write: bool,
    /// A cache maintenance instruction.
    pub cache_maintenance: bool,
}

/// Why the guest stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// `hvc #0xEA1`. The program counter is past it.
    Hypercall,
    /// A call to firmware, or to what stands for it.
    Smccc(Conduit),
    /// `wfi` (or `wfit`). The program counter is at it.
    Wfi,
    /// `wfe` (or `wfet`). The program counter is at it.
    Wfe,
    /// An access to a trapped system register, or a trapped system instruction. The program counter is at it.
    SysReg {
        /// The register.
        register: SysReg,
        /// The general register, 31 is zero.
        rt: u8,
        /// `mrs`, not `msr`.
        read: bool,
    },
    /// A 32-bit program reads DBGDIDR. The program counter is at it.
    DebugId {
        /// The general register.
        rt: u8,
    },
    /// A load or store that stage 2 does not allow.
    DataAbort {
        /// Address and cause.
        abort: Abort,
        /// What was accessed; none if the hardware does not describe the instruction.
        access: Option<Access>,
    },
    /// An instruction fetch that stage 2 does not allow.
    InstructionAbort(Abort),
    /// Floating point or SIMD while its registers are trapped.
    Fp,
    /// What no guest may do, and what an AArch32 program traps with: undefined instruction at EL1.
    Undefined,
    /// An interrupt for the hypervisor is pending.
    Interrupt,
    /// A system error.
    SError {
        /// `ESR_EL2`.
        esr: u64,
    },
    /// No exception that can be configured to come here: our own bug, or hardware newer than this.
    Unknown {
        /// `ESR_EL2`.
        esr: u64,
    },
}

/// Exception classes, `ESR_EL2.EC`. Those of AArch32 reach EL2 only from programs at EL0.
mod ec {
    pub const UNKNOWN: u64 = 0x00;
    pub const WFX: u64 = 0x01;
    pub const CP15_32: u64 = 0x03;
    pub const CP15_64: u64 = 0x04;
    pub const CP14_32: u64 = 0x05;
    pub const CP14_DT: u64 = 0x06;
    pub const FP: u64 = 0x07;
    pub const CP10: u64 = 0x08;
    pub const PAUTH: u64 = 0x09;
    pub const LS64: u64 = 0x0a;
    pub const CP14_64: u64 = 0x0c;
    pub const BTI: u64 = 0x0d;
    pub const ILLEGAL_STATE: u64 = 0x0e;
    pub const SVC32: u64 = 0x11;
    pub const HVC32: u64 = 0x12;
    pub const SMC32: u64 = 0x13;
    pub const SYS128: u64 = 0x14;
    pub const SVC64: u64 = 0x15;
    pub const HVC64: u64 = 0x16;
    pub const SMC64: u64 = 0x17;
    pub const SYSREG: u64 = 0x18;
    pub const SVE: u64 = 0x19;
    pub const ERET: u64 = 0x1a;
    pub const PAUTH_FAIL: u64 = 0x1c;
    pub const SME: u64 = 0x1d;
    pub const INSTRUCTION_ABORT: u64 = 0x20;
    pub const DATA_ABORT: u64 = 0x24;
    pub const MOPS: u64 = 0x27;
    pub const FP32: u64 = 0x28;
    pub const FP64: u64 = 0x2c;
    pub const BREAKPOINT: u64 = 0x30;
    pub const STEP: u64 = 0x32;
    pub const WATCHPOINT: u64 = 0x34;
    pub const BKPT32: u64 = 0x38;
    pub const BRK64: u64 = 0x3c;
}

impl Exit {
    /// Decodes what the hardware reports.
    pub fn decode(raw: RawExit) -> Self {
        match raw.vector {
            Vector::Synchronous => synchronous(raw),
            Vector::Irq | Vector::Fiq => Self::Interrupt,
            Vector::SError => Self::SError { esr: raw.esr },
        }
    }
}

/// Bytes of the instruction that trapped, `ESR_EL2.IL`: how far to advance past it.
pub const fn instruction_bytes(esr: u64) -> u64 {
    if esr & 1 << 25 != 0 { 4 } else { 2 }
}

fn synchronous(raw: RawExit) -> Exit {
    let iss = raw.esr & 0x1ff_ffff;
    let immediate = iss & 0xffff;
    match raw.esr >> 26 & 0x3f {
        ec::HVC64 if immediate == HYPERCALL_TAG => Exit::Hypercall,
        ec::HVC64 if immediate == 0 => Exit::Smccc(Conduit::Hvc),
        ec::SMC64 if immediate == 0 => Exit::Smccc(Conduit::Smc),
        ec::WFX if iss & 1 == 0 => Exit::Wfi,
        ec::WFX => Exit::Wfe,
        ec::SYSREG => system_register(iss),
        ec::CP15_32 => coprocessor(15, iss),
        ec::CP14_32 => coprocessor(14, iss),
        ec::DATA_ABORT => Exit::DataAbort { abort: abort(raw, true), access: access(iss) },
        ec::INSTRUCTION_ABORT => Exit::InstructionAbort(abort(raw, false)),
        ec::FP => Exit::Fp,
        ec::UNKNOWN
        | ec::CP15_64
        | ec::CP14_DT
        | ec::CP10
        | ec::PAUTH
        | ec::LS64
        | ec::CP14_64
        | ec::BTI
        | ec::ILLEGAL_STATE
        | ec::SVC32
        | ec::HVC32
        | ec::SMC32
        | ec::SYS128
        | ec::SVC64
        | ec::HVC64
        | ec::SMC64
        | ec::SVE
        | ec::ERET
        | ec::PAUTH_FAIL
        | ec::SME
        | ec::MOPS
        | ec::FP32
        | ec::FP64
        | ec::BREAKPOINT
        | ec::STEP
        | ec::WATCHPOINT
        | ec::BKPT32
        | ec::BRK64 => Exit::Undefined,
        _ => Exit::Unknown { esr: raw.esr },
    }
}

/// ISS of a trapped `msr`, `mrs` or system instruction.
fn system_register(iss: u64) -> Exit {
    let field = |shift: u32, width: u32| (iss >> shift & ((1 << width) - 1)) as u8;
    let register = SysReg { op0: field(20, 2), op2: field(17, 3), op1: field(14, 3), crn: field(10, 4), crm: field(1, 4) };
    Exit::SysReg { register, rt: field(5, 5), read: iss & 1 != 0 }
}

/// ISS of an abort, what data and instruction aborts share.
fn abort(raw: RawExit, data: bool) -> Abort {
    const FNV: u64 = 1 << 10;
    const S1PTW: u64 = 1 << 7;
    const CM: u64 = 1 << 8;
    const WNR: u64 = 1 << 6;
    let fault = fault(raw.esr & 0x3f);
    let walk = raw.esr & S1PTW != 0;
    let va = (raw.esr & FNV == 0 || fault != Fault::External).then_some(GuestVa(raw.far));
    let page = (raw.hpfar >> 4 & 0xff_ffff_ffff) << 12;
    let reported = match fault {
        Fault::Translation | Fault::AccessFlag | Fault::AddressSize => true,
        Fault::Permission | Fault::External | Fault::Other(_) => walk && fault == Fault::Permission,
    };
    let offset = if walk { 0 } else { raw.far & (PAGE_SIZE - 1) };
    Abort {
        va,
        ipa: reported.then_some(Ipa(page | offset)),
        fault,
        walk,
        write: data && raw.esr & WNR != 0,
        cache_maintenance: data && raw.esr & CM != 0,
    }
}

/// DFSC and IFSC.
fn fault(status: u64) -> Fault {
    match status {
        0b00_0000..=0b00_0011 | 0b10_1001 => Fault::AddressSize,
        0b00_0100..=0b00_0111 | 0b10_1011 => Fault::Translation,
        0b00_1000..=0b00_1011 => Fault::AccessFlag,
        0b00_1100..=0b00_1111 => Fault::Permission,
        0b01_0000 | 0b01_0011..=0b01_0111 => Fault::External,
        other => Fault::Other(other as u8),
    }
}

/// The description of a load or store, if the hardware gives one.
fn access(iss: u64) -> Option<Access> {
    const ISV: u64 = 1 << 24;
    (iss & ISV != 0).then(|| Access {
        size: Size::from_log2((iss >> 22 & 3) as u32),
        sign_extend: iss & 1 << 21 != 0,
        rt: (iss >> 16 & 0x1f) as u8,
        sixty_four: iss & 1 << 15 != 0,
        write: iss & 1 << 6 != 0,
    })
}

#[cfg(test)]
mod tests;
