//! Barriers with the reason in their name. Each is a compiler barrier for memory as well.

use core::arch::asm;

/// What was written to system registers takes effect before the next instruction.
pub fn isb() {
    // SAFETY: a barrier has no other effect.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Stores to tables, stage 1 or 2, are seen by the walkers of all CPUs before anything that follows.
pub fn publish_tables() {
    // SAFETY: a barrier has no other effect.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// All memory accesses are complete, and seen by all CPUs.
pub fn dsb_ish() {
    // SAFETY: a barrier has no other effect.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// All accesses, devices' too, are complete.
pub fn dsb_sy() {
    // SAFETY: a barrier has no other effect.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
