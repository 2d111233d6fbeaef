//! Giving the CPU to another vCPU: the registers that `enter_guest` leaves alone.
//!
//! What only AArch32 EL1 can reach (`spsr_abt` and its kind, `dacr32_el2`, `ifsr32_el2`) is not among them: every guest runs with `HCR_EL2.RW`,
//! and a CPU without AArch32 does not have it.

use core::arch::asm;

use xenolith_core::context::{FpRegisters, SystemRegisters};

use crate::sysreg::{read, write};

macro_rules! switched {
    ($($name:ident),* $(,)?) => {
        /// Stores the EL1 and EL0 registers of the vCPU that ran.
        pub fn save_system(to: &mut SystemRegisters) {
            $(to.$name = read!(stringify!($name));)*
        }

        /// Loads the EL1 and EL0 registers of the vCPU that will run.
        pub fn load_system(from: &SystemRegisters) {
            $(
                // SAFETY: an EL1 or EL0 register, or one that EL1 reads: EL2 code depends on none of them.
                unsafe { write!(stringify!($name), from.$name) };
            )*
        }
    };
}

switched!(
    sctlr_el1,
    actlr_el1,
    cpacr_el1,
    ttbr0_el1,
    ttbr1_el1,
    tcr_el1,
    esr_el1,
    afsr0_el1,
    afsr1_el1,
    far_el1,
    mair_el1,
    amair_el1,
    vbar_el1,
    contextidr_el1,
    tpidr_el0,
    tpidrro_el0,
    tpidr_el1,
    cntkctl_el1,
    par_el1,
    csselr_el1,
    sp_el0,
    sp_el1,
    elr_el1,
    spsr_el1,
    mdscr_el1,
);

macro_rules! fp_block {
    ($op:literal) => {
        concat!(
            $op,
            " q0, q1, [{v}]\n",
            $op,
            " q2, q3, [{v}, #32]\n",
            $op,
            " q4, q5, [{v}, #64]\n",
            $op,
            " q6, q7, [{v}, #96]\n",
            $op,
            " q8, q9, [{v}, #128]\n",
            $op,
            " q10, q11, [{v}, #160]\n",
            $op,
            " q12, q13, [{v}, #192]\n",
            $op,
            " q14, q15, [{v}, #224]\n",
            $op,
            " q16, q17, [{v}, #256]\n",
            $op,
            " q18, q19, [{v}, #288]\n",
            $op,
            " q20, q21, [{v}, #320]\n",
            $op,
            " q22, q23, [{v}, #352]\n",
            $op,
            " q24, q25, [{v}, #384]\n",
            $op,
            " q26, q27, [{v}, #416]\n",
            $op,
            " q28, q29, [{v}, #448]\n",
            $op,
            " q30, q31, [{v}, #480]\n",
        )
    };
}

/// Stores the floating point registers of the vCPU that ran.
pub fn save_fp(to: &mut FpRegisters) {
    // SAFETY: writes the 512 bytes of `v`.
    unsafe {
        asm!(".arch_extension fp", ".arch_extension simd", fp_block!("stp"), ".arch_extension nosimd", ".arch_extension nofp",
            v = in(reg) to.v.as_mut_ptr(), options(nostack, preserves_flags));
    }
    // FPCR and FPSR by encoding: the assembler knows the names only with the floating point extension.
    to.fpcr = read!("S3_3_C4_C4_0");
    to.fpsr = read!("S3_3_C4_C4_1");
}

/// Loads the floating point registers of the vCPU that will run.
pub fn load_fp(from: &FpRegisters) {
    // SAFETY: reads the 512 bytes of `v`. The target is soft float: no code of EL2 keeps anything in these registers.
    unsafe {
        asm!(".arch_extension fp", ".arch_extension simd", fp_block!("ldp"), ".arch_extension nosimd", ".arch_extension nofp",
            v = in(reg) from.v.as_ptr(), options(nostack, preserves_flags, readonly));
        write!("S3_3_C4_C4_0", from.fpcr);
        write!("S3_3_C4_C4_1", from.fpsr);
    }
}
