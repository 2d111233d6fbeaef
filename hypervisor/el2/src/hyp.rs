//! The control registers of EL2: what a guest may touch, and how wide its physical addresses are.
//!
//! The values are Xen's (xen/arch/arm/traps.c, init_traps), so that a guest finds the same registers trapped or not.

use aarch64_cpu::registers::{CNTHCTL_EL2, CPTR_EL2, HCR_EL2, ID_AA64DFR0_EL1, ID_AA64MMFR0_EL1, MDCR_EL2, MIDR_EL1, VTCR_EL2, VTTBR_EL2};
use tock_registers::interfaces::{Readable, Writeable};
use xenolith_core::addr::{MachineAddr, Vmid};

use crate::barrier;
use crate::sysreg::{read, write};

/// `HCR_EL2` of a guest that traps WFI and WFE.
const HCR: u64 = 1 << 31 // RW: EL1 is AArch64
    | 1 << 22 // TSW: set/way cache maintenance
    | 1 << 21 // TACR
    | 1 << 20 // TIDCP
    | 1 << 19 // TSC
    | 1 << 18 // TID3
    | 1 << 14 // TWE
    | 1 << 13 // TWI
    | 1 << 10 // BSU: barriers at least inner shareable
    | 1 << 9 // FB
    | 1 << 5 | 1 << 4 | 1 << 3 // AMO, IMO, FMO
    | 1 << 2 // PTW: a stage-1 walk through device memory faults
    | 1 << 1 // SWIO
    | 1; // VM
/// TWI and TWE.
const HCR_WAITS: u64 = 1 << 13 | 1 << 14;

/// Bits of a guest physical address: as many as a CPU of this machine has physical address bits, at most 48. What the core's p2m is made for.
pub fn ipa_bits() -> u32 {
    match ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Sets all control registers that do not depend on the guest. Once on every CPU.
pub fn init_cpu() {
    CPTR_EL2.set(0x33ff | 1 << 20 | 1 << 30); // RES1, SVE and SME trapped; TTA, TAM; floating point is not trapped
    // TDRA, TDOSA, TDA, TPM, TPMCR; TTRF and TPMS where there is such a thing. HPMN keeps all counters, as at reset.
    let counters = match ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer) {
        0 | 15 => 0,
        _ => read!("pmcr_el0") >> 11 & 0x1f,
    };
    MDCR_EL2.set(1 << 19 | 1 << 14 | 1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5 | counters);
    // SAFETY: what these trap concerns lower levels only.
    unsafe {
        write!("hstr_el2", 1_u64 << 15); // T15
        write!("vpidr_el2", MIDR_EL1.get());
    }
    CNTHCTL_EL2.set(1); // EL1PCTEN: the counter is read directly; the physical timer traps
    // A walk starts at level 0, or at level 1 (in concatenated tables) up to 43 bits: Arm ARM D8.2.7.
    let sl0 = if ipa_bits() > 43 { 2 } else { 1 };
    let ps = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
    let vtcr = 1 << 31 | ps << 16 | 3 << 12 | 1 << 10 | 1 << 8 | sl0 << 6 | u64::from(64 - ipa_bits());
    VTCR_EL2.set(vtcr);
    HCR_EL2.set(HCR);
    barrier::isb();
    // SAFETY: with no guest loaded, all entries are of whoever ran before us.
    unsafe { core::arch::asm!("tlbi alle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// Sets `HCR_EL2` for the guest that will run.
///
/// `trap_waits` false (`vwfi=native`) lets WFI and WFE run.
pub fn set_guest_control(trap_waits: bool) {
    HCR_EL2.set(if trap_waits { HCR } else { HCR & !HCR_WAITS });
}

/// Makes the tables at `root` the guest's stage 2. Takes effect with the next entry or translation.
///
/// They stay until [`leave_stage2`], or until others are set on this CPU.
pub fn set_stage2(root: MachineAddr, vmid: Vmid) {
    VTTBR_EL2.set(root.0 | u64::from(vmid.0) << 48);
    barrier::isb();
}

/// No tables are the guest's any more: those that were may be freed.
pub fn leave_stage2() {
    VTTBR_EL2.set(0);
    barrier::isb();
}

/// Sets what the guest reads as MPIDR_EL1.
pub fn set_vmpidr(mpidr: u64) {
    // SAFETY: what EL1 reads.
    unsafe { write!("vmpidr_el2", mpidr) };
}

/// Drops the stage-1 and stage-2 TLB entries of the current VMID on this CPU: another vCPU of the same domain ran here last.
pub fn flush_current_vmid_local() {
    // SAFETY: the tables are whole, so dropping cached entries changes no translation.
    unsafe { core::arch::asm!("tlbi vmalls12e1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}
