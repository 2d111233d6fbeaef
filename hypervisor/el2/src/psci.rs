//! The firmware's PSCI (Arm DEN0022), called by SMC.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

const CPU_ON: u64 = 0xc400_0003;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;

/// Whether there is such firmware: without it the instruction may be undefined.
static PRESENT: AtomicBool = AtomicBool::new(true);

/// The device tree names no such firmware: nothing is asked of it from now on.
pub fn set_absent() {
    PRESENT.store(false, Ordering::Relaxed);
}

/// SMC with three arguments (SMCCC 1.0: x0 to x17 are the callee's).
fn smc(function: u64, arguments: [u64; 3]) -> i64 {
    let result;
    // SAFETY: the functions used here leave EL2's memory and registers alone, but for those listed.
    unsafe {
        asm!("smc #0",
            inout("x0") function => result, inout("x1") arguments[0] => _, inout("x2") arguments[1] => _, inout("x3") arguments[2] => _,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _, lateout("x8") _, lateout("x9") _, lateout("x10") _,
            lateout("x11") _, lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack));
    }
    result
}

/// Starts the CPU with affinity `mpidr` at the machine address `entry`, x0 = `context`. Returns PSCI's error.
///
/// # Safety
/// `entry` is code that may run with MMU off on another CPU with that argument.
pub unsafe fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), i64> {
    match smc(CPU_ON, [mpidr, entry, context]) {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Switches the machine off; returns only if the firmware refuses, or there is none.
pub fn system_off() {
    if PRESENT.load(Ordering::Relaxed) {
        smc(SYSTEM_OFF, [0; 3]);
    }
}

/// Resets the machine; returns only if the firmware refuses, or there is none.
pub fn system_reset() {
    if PRESENT.load(Ordering::Relaxed) {
        smc(SYSTEM_RESET, [0; 3]);
    }
}
