//! Instructions that may fault: each runs alone, and its fault is an answer.

use super::cpu;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

/// What a probe got instead of a result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `ESR_EL1`.
    pub esr: u64,
    /// `FAR_EL1`; of a data abort only.
    pub far: u64,
    /// Bytes from the instruction to the return address.
    pub after: i64,
    /// The vector: 4 synchronous, 7 SError.
    pub vector: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.esr >> 26;
        match class {
            0 => write!(f, "UNDEF esr={:#x}", self.esr),
            0x24 | 0x25 => write!(f, "ABORT esr={:#x}", self.esr),
            _ => write!(f, "EXCEPTION vector={} esr={:#x}", self.vector, self.esr),
        }?;
        if self.after == 0 { Ok(()) } else { write!(f, " elr={:+}", self.after) }
    }
}

/// A result or a fault, as an answer.
pub struct Outcome(pub Result<u64, Fault>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value:#x}"),
            Err(fault) => fault.fmt(f),
        }
    }
}

/// Where the instruction under test is written, one page per vCPU: the instruction and a return.
///
/// QEMU runs an instruction that was just overwritten now and then, when another CPU writes to the same page of code.
#[repr(align(4096))]
struct Slot(UnsafeCell<[u32; 16]>);

// SAFETY: each vCPU only uses the slot of its own index.
unsafe impl Sync for Slot {}

static SLOTS: [Slot; cpu::MAX] = [const { Slot(UnsafeCell::new([0; 16])) }; cpu::MAX];

/// `ret`.
const RET: u32 = 0xd65f_03c0;

/// Runs one instruction with these x0 to x3; returns them afterwards.
///
/// The instruction may use x0 to x17. Tests pass addresses as in [`super::hypercall`], and never change the memory map, the vectors,
/// the stack or other registers.
pub fn execute(instruction: u32, args: [u64; 4]) -> Result<[u64; 4], Fault> {
    let code = SLOTS[cpu::index()].0.get().cast::<u32>();
    let mut x = args;
    // SAFETY: the slot is this vCPU's own and holds two words; the memory it lies in is mapped executable, and the cache maintenance
    // makes the new code seen. The assembly declares all that a function may clobber; if the instruction faults, the vector code
    // goes on at label 2 with all registers as they were, sp included.
    unsafe {
        code.write_volatile(instruction);
        code.add(1).write_volatile(RET);
        asm!(
            "dc cvau, {code}", "dsb ish", "ic ivau, {code}", "dsb ish", "isb",
            "mrs x20, tpidr_el1", "adr x21, 2f", "str x21, [x20]",
            "blr {code}",
            "2: dsb sy", "isb", "str xzr, [x20]",
            code = in(reg) code,
            // Callee-saved by AAPCS64, so that a call does not change them.
            out("x20") _, out("x21") _,
            inout("x0") x[0], inout("x1") x[1], inout("x2") x[2], inout("x3") x[3],
            clobber_abi("C"),
        );
    }
    if !cpu::take_fault() {
        return Ok(x);
    }
    let cpu = cpu::this();
    let after = cpu.elr.load(Relaxed).wrapping_sub(code.expose_provenance() as u64).cast_signed();
    Err(Fault { esr: cpu.esr.load(Relaxed), far: cpu.far.load(Relaxed), after, vector: cpu.vector.load(Relaxed) })
}

/// Reads `1 << log` bytes at an address.
pub fn read(address: u64, log: u32) -> Result<u64, Fault> {
    // LDR x0, [x0], with the size in its top bits.
    execute(0x3940_0000 | log << 30, [address, 0, 0, 0]).map(|x| x[0])
}

/// Writes `1 << log` bytes at an address.
pub fn write(address: u64, log: u32, value: u64) -> Result<(), Fault> {
    // STR x1, [x0].
    execute(0x3900_0001 | log << 30, [address, value, 0, 0]).map(drop)
}

/// Reads the system register of a 16-bit encoding: op0 (2), op1 (3), CRn (4), CRm (4), op2 (3).
pub fn read_register(encoding: u16) -> Result<u64, Fault> {
    execute(0xd520_0000 | u32::from(encoding) << 5, [0; 4]).map(|x| x[0])
}

/// Writes the system register of a 16-bit encoding.
pub fn write_register(encoding: u16, value: u64) -> Result<(), Fault> {
    execute(0xd500_0000 | u32::from(encoding) << 5, [value, 0, 0, 0]).map(drop)
}

/// The encoding of a system register.
pub const fn encoding(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// HVC with any immediate.
pub fn hvc(immediate: u16, args: [u64; 4]) -> Result<[u64; 4], Fault> {
    execute(0xd400_0002 | u32::from(immediate) << 5, args)
}

/// SMC with any immediate.
pub fn smc(immediate: u16, args: [u64; 4]) -> Result<[u64; 4], Fault> {
    execute(0xd400_0003 | u32::from(immediate) << 5, args)
}
