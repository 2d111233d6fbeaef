//! What each physical CPU has for itself; `TPIDR_EL2` points to it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use xenolith_core::addr::CpuId;

use crate::sysreg::read;

/// Bytes of the stack on which a fault of EL2 itself is reported, since the ordinary one may be the fault.
const EMERGENCY_STACK: usize = 8192;

/// One CPU. The assembly of `head` and `vectors` addresses the first fields by offset.
#[repr(C, align(64))]
pub struct PerCpu {
    /// Where the stack starts (secondary CPUs).
    pub stack_top: u64,
    /// `vectors`: the stack pointer and x1 at the time of a fault of EL2.
    pub fault_sp: UnsafeCell<u64>,
    /// See `fault_sp`.
    pub fault_x1: UnsafeCell<u64>,
    /// This CPU's number.
    pub id: CpuId,
    /// How far it has come up; see `smp`.
    pub state: AtomicU8,
    /// Where this CPU's GICR frame is mapped, 0 before `gic::init_cpu`.
    pub redistributor: AtomicUsize,
    /// The stack of a fault of EL2; grows down from `emergency_end`.
    pub emergency: UnsafeCell<[u128; EMERGENCY_STACK / 16]>,
    /// The end of `emergency`.
    pub emergency_end: [u128; 0],
}

// SAFETY: the cells are written by the assembly of the owning CPU alone, on its way to a panic; nothing reads them otherwise.
unsafe impl Sync for PerCpu {}

/// The CPU that the boot loader entered on.
pub static BOOT_CPU: PerCpu = PerCpu::new(CpuId(0));

impl PerCpu {
    /// The boot CPU.
    const fn new(id: CpuId) -> Self {
        Self {
            stack_top: 0,
            fault_sp: UnsafeCell::new(0),
            fault_x1: UnsafeCell::new(0),
            id,
            state: AtomicU8::new(0),
            redistributor: AtomicUsize::new(0),
            emergency: UnsafeCell::new([0; EMERGENCY_STACK / 16]),
            emergency_end: [],
        }
    }

    /// The redistributor of this CPU.
    pub fn redistributor(&self) -> usize {
        self.redistributor.load(Ordering::Relaxed)
    }
}

/// The CPU that this runs on. EL2 code is never moved between CPUs.
pub fn this() -> &'static PerCpu {
    let pointer: *const PerCpu = core::ptr::with_exposed_provenance(read!("tpidr_el2") as usize);
    // SAFETY: `head` sets TPIDR_EL2 before the first Rust instruction, to BOOT_CPU or to a leaked box; nothing else writes it.
    unsafe { &*pointer }
}

/// The number of the CPU that this runs on.
pub fn cpu() -> CpuId {
    this().id
}
