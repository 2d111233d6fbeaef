//! This vCPU: its registers, and what the vectors keep for it.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// vCPUs that the domain has room for.
pub const MAX: usize = 4;

/// What belongs to one vCPU; `TPIDR_EL1` points at it.
#[repr(C, align(64))]
pub struct Cpu {
    /// Where to go on after a fault of a probe; 0: there is none. First, for assembly writes it.
    pub resume: AtomicU64,
    /// The last probe faulted.
    pub faulted: AtomicU64,
    /// Which of the 16 vectors.
    pub vector: AtomicU64,
    /// `ESR_EL1` of the fault.
    pub esr: AtomicU64,
    /// `FAR_EL1` of the fault.
    pub far: AtomicU64,
    /// `ELR_EL1` of the fault.
    pub elr: AtomicU64,
    _pad: [u64; 2],
}

/// All vCPUs.
pub static CPUS: [Cpu; MAX] = [const {
    Cpu {
        resume: AtomicU64::new(0),
        faulted: AtomicU64::new(0),
        vector: AtomicU64::new(0),
        esr: AtomicU64::new(0),
        far: AtomicU64::new(0),
        elr: AtomicU64::new(0),
        _pad: [0; 2],
    }
}; MAX];

/// Reads a system register that has no effect on memory.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading the named register changes no memory and no other register.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Writes a system register that has no effect on the memory map or on the vectors.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: callers only name registers of timers, of the interrupt controller and DAIF: no effect on memory.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)) };
    }};
}

pub(super) use {read_sysreg, write_sysreg};

/// Index of this vCPU: its affinity, for there are fewer than 16.
pub fn index() -> usize {
    (read_sysreg!("mpidr_el1") & 0xf) as usize % MAX
}

/// This vCPU.
pub fn this() -> &'static Cpu {
    &CPUS[index()]
}

/// The virtual counter.
pub fn counter() -> u64 {
    read_sysreg!("cntvct_el0")
}

/// Its frequency in Hz.
pub fn frequency() -> u64 {
    read_sysreg!("cntfrq_el0")
}

/// Takes interrupts until `condition` holds, `microseconds` at most; returns whether it held.
pub fn wait_until(microseconds: u64, condition: impl Fn() -> bool) -> bool {
    let start = counter();
    let limit = microseconds * frequency() / 1_000_000;
    let mut held = condition();
    while !held && counter().wrapping_sub(start) < limit {
        interrupts(true);
        interrupts(false);
        held = condition();
    }
    held
}

/// Lets interrupts through, or not.
pub fn interrupts(on: bool) {
    write_sysreg!("daif", if on { 0x340 } else { 0x3c0 });
}

/// WFI with interrupts masked: it returns when one is pending, which is then taken by [`interrupts`].
pub fn wait_for_interrupt() {
    // SAFETY: only waits.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// Forgets the fault of the last probe and returns whether there was one.
pub(super) fn take_fault() -> bool {
    this().faulted.swap(0, Relaxed) != 0
}
