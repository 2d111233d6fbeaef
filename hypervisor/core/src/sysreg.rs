//! System registers that trap: what each access does.
//!
//! Source: Xen 4.20's vsysreg and cpufeature; encodings from the Arm ARM DDI 0487, D22. Which accesses trap is set by HCR_EL2 (TID3, TACR,
//! TSW, TIDCP, IMO/FMO), MDCR_EL2, CNTHCTL_EL2 and CPTR_EL2. Whatever is not in the table is an undefined instruction.

use crate::exit::SysReg;
use crate::vtimer::TimerRegister;

/// What the run loop does with an access. All but `Undefined` advance the program counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Inject an undefined instruction.
    Undefined,
    /// A read: this is the value.
    Read(u64),
    /// A write without effect.
    Ignore,
    /// A read of ACTLR_EL1: the vCPU's own copy.
    ReadActlr,
    /// Cache maintenance by set and way: clean and invalidate the domain's memory.
    FlushCaches,
    /// Access to the emulated physical timer.
    PhysicalTimer(TimerRegister),
    /// A write of ICC_SGI1R_EL1.
    SendSgi,
}

/// Where an access comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The kernel, EL1.
    Kernel,
    /// A program, EL0.
    User {
        /// `CNTKCTL_EL1.EL0PTEN`: the kernel lets it use the physical timer.
        physical_timer: bool,
    },
}

/// What a register does.
#[derive(Clone, Copy)]
enum Policy {
    /// Reads as zero, ignores writes; the kernel's.
    RazWi,
    /// Reads as zero, ignores writes; also a program's.
    RazWiForAll,
    /// Reads as this, cannot be written; the kernel's.
    Constant(u64),
    /// Reads as this, cannot be written; also a program's.
    ConstantForAll(u64),
    /// Cannot be read, ignores writes; the kernel's.
    WriteOnly,
    /// Reads as on the host without these bits, cannot be written; the kernel's.
    HostWithout(u64),
    /// `PMUSERENR_EL0`: a program may only read it.
    UserEnable,
    /// `ACTLR_EL1`.
    Actlr,
    /// `DC xSW`.
    SetWay,
    /// `CNTP_x_EL0`.
    Timer(TimerRegister),
    /// `ICC_SGI1R_EL1`.
    Sgi,
}

use Policy::*;

const fn encoding(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> SysReg {
    SysReg { op0, op1, crn, crm, op2 }
}

/// Four-bit fields of an ID register, by their lowest bit.
const fn fields<const N: usize>(lowest_bits: [u32; N]) -> u64 {
    let mut mask = 0;
    let mut n = 0;
    while n < N {
        #[expect(clippy::indexing_slicing, reason = "n < N")]
        let at = lowest_bits[n];
        mask |= 0xf << at;
        n += 1;
    }
    mask
}

/// OSLSR_EL1.OSLM: the OS lock exists and is not locked.
const OSLM: u64 = 1 << 3;

#[rustfmt::skip]
const TABLE: &[(SysReg, Policy)] = &[
    //        op0 op1 CRn CRm op2
    // Cache maintenance by set and way (HCR_EL2.TSW).
    (encoding(1, 0,  7,  6, 2), SetWay),                    // DC ISW
    (encoding(1, 0,  7, 10, 2), SetWay),                    // DC CSW
    (encoding(1, 0,  7, 14, 2), SetWay),                    // DC CISW
    // Debug (MDCR_EL2.TDRA, TDOSA, TDA). Breakpoint registers: see `policy`.
    (encoding(2, 0,  0,  2, 2), RazWi),                     // MDSCR_EL1
    (encoding(2, 0,  1,  0, 0), Constant(0)),               // MDRAR_EL1
    (encoding(2, 0,  1,  0, 4), WriteOnly),                 // OSLAR_EL1
    (encoding(2, 0,  1,  1, 4), Constant(OSLM)),            // OSLSR_EL1
    (encoding(2, 0,  1,  3, 4), RazWi),                     // OSDLR_EL1
    (encoding(2, 3,  0,  1, 0), ConstantForAll(0)),         // MDCCSR_EL0
    (encoding(2, 3,  0,  4, 0), RazWiForAll),               // DBGDTR_EL0
    (encoding(2, 3,  0,  5, 0), RazWiForAll),               // DBGDTRRX_EL0, DBGDTRTX_EL0
    // Identification (HCR_EL2.TID3). The rest of the group: see `policy`.
    (encoding(3, 0,  0,  1, 0), HostWithout(fields([12, 20, 28]))),     // ID_PFR0_EL1: ThumbEE, AMU, RAS
    (encoding(3, 0,  0,  1, 1), HostWithout(0)),            // ID_PFR1_EL1
    (encoding(3, 0,  0,  1, 2), HostWithout(0)),            // ID_DFR0_EL1
    (encoding(3, 0,  0,  1, 3), HostWithout(0)),            // ID_AFR0_EL1
    (encoding(3, 0,  0,  1, 4), HostWithout(0)),            // ID_MMFR0_EL1
    (encoding(3, 0,  0,  1, 5), HostWithout(0)),            // ID_MMFR1_EL1
    (encoding(3, 0,  0,  1, 6), HostWithout(0)),            // ID_MMFR2_EL1
    (encoding(3, 0,  0,  1, 7), HostWithout(0)),            // ID_MMFR3_EL1
    (encoding(3, 0,  0,  2, 0), HostWithout(0)),            // ID_ISAR0_EL1
    (encoding(3, 0,  0,  2, 1), HostWithout(0)),            // ID_ISAR1_EL1
    (encoding(3, 0,  0,  2, 2), HostWithout(0)),            // ID_ISAR2_EL1
    (encoding(3, 0,  0,  2, 3), HostWithout(0)),            // ID_ISAR3_EL1
    (encoding(3, 0,  0,  2, 4), HostWithout(0)),            // ID_ISAR4_EL1
    (encoding(3, 0,  0,  2, 5), HostWithout(0)),            // ID_ISAR5_EL1
    (encoding(3, 0,  0,  2, 6), HostWithout(0)),            // ID_MMFR4_EL1
    (encoding(3, 0,  0,  2, 7), HostWithout(0)),            // ID_ISAR6_EL1
    (encoding(3, 0,  0,  3, 0), HostWithout(0)),            // MVFR0_EL1
    (encoding(3, 0,  0,  3, 1), HostWithout(0)),            // MVFR1_EL1
    (encoding(3, 0,  0,  3, 2), HostWithout(0)),            // MVFR2_EL1
    (encoding(3, 0,  0,  3, 4), HostWithout(fields([8]))),  // ID_PFR2_EL1: RAS_frac
    (encoding(3, 0,  0,  3, 5), HostWithout(0)),            // ID_DFR1_EL1
    (encoding(3, 0,  0,  3, 6), HostWithout(0)),            // ID_MMFR5_EL1
    (encoding(3, 0,  0,  4, 0), HostWithout(fields([28, 32, 40, 44]))), // ID_AA64PFR0_EL1: RAS, SVE, MPAM, AMU
    // MTE, RAS_frac, MPAM_frac, SME; and what is newer than Xen 4.20: NMI, MTE_frac, GCS, THE, MTEX, DF2, PFAR.
    (encoding(3, 0,  0,  4, 1), HostWithout(fields([8, 12, 16, 24, 36, 40, 44, 48, 52, 56, 60]))), // ID_AA64PFR1_EL1
    (encoding(3, 0,  0,  5, 0), HostWithout(0)),            // ID_AA64DFR0_EL1
    (encoding(3, 0,  0,  5, 1), HostWithout(0)),            // ID_AA64DFR1_EL1
    (encoding(3, 0,  0,  5, 4), HostWithout(0)),            // ID_AA64AFR0_EL1
    (encoding(3, 0,  0,  5, 5), HostWithout(0)),            // ID_AA64AFR1_EL1
    (encoding(3, 0,  0,  6, 0), HostWithout(0)),            // ID_AA64ISAR0_EL1
    // APA, API, GPA, GPI (pointer authentication traps); LS64 (traps).
    (encoding(3, 0,  0,  6, 1), HostWithout(fields([4, 8, 24, 28, 60]))), // ID_AA64ISAR1_EL1
    (encoding(3, 0,  0,  7, 0), HostWithout(0)),            // ID_AA64MMFR0_EL1
    (encoding(3, 0,  0,  7, 1), HostWithout(0)),            // ID_AA64MMFR1_EL1
    (encoding(3, 0,  0,  7, 2), HostWithout(0)),            // ID_AA64MMFR2_EL1
    // Control (HCR_EL2.TACR).
    (encoding(3, 0,  1,  0, 1), Actlr),                     // ACTLR_EL1
    // Performance monitors (MDCR_EL2.TPM, TPMCR).
    (encoding(3, 0,  9, 14, 1), RazWi),                     // PMINTENSET_EL1
    (encoding(3, 0,  9, 14, 2), RazWi),                     // PMINTENCLR_EL1
    (encoding(3, 3,  9, 12, 0), RazWi),                     // PMCR_EL0
    (encoding(3, 3,  9, 12, 1), RazWi),                     // PMCNTENSET_EL0
    (encoding(3, 3,  9, 12, 2), RazWi),                     // PMCNTENCLR_EL0
    (encoding(3, 3,  9, 12, 3), RazWi),                     // PMOVSCLR_EL0
    (encoding(3, 3,  9, 12, 4), RazWi),                     // PMSWINC_EL0
    (encoding(3, 3,  9, 12, 5), RazWi),                     // PMSELR_EL0
    (encoding(3, 3,  9, 12, 6), RazWi),                     // PMCEID0_EL0
    (encoding(3, 3,  9, 12, 7), RazWi),                     // PMCEID1_EL0
    (encoding(3, 3,  9, 13, 0), RazWi),                     // PMCCNTR_EL0
    (encoding(3, 3,  9, 13, 1), RazWi),                     // PMXEVTYPER_EL0
    (encoding(3, 3,  9, 13, 2), RazWi),                     // PMXEVCNTR_EL0
    (encoding(3, 3,  9, 14, 0), UserEnable),                // PMUSERENR_EL0
    (encoding(3, 3,  9, 14, 3), RazWi),                     // PMOVSSET_EL0
    // Interrupt controller (HCR_EL2.IMO, FMO; ICC_SRE_EL2.Enable = 0 for a GICv2 guest).
    (encoding(3, 0, 12, 11, 5), Sgi),                       // ICC_SGI1R_EL1
    (encoding(3, 0, 12, 12, 5), RazWi),                     // ICC_SRE_EL1
    // Physical timer (CNTHCTL_EL2.EL1PCEN = 0).
    (encoding(3, 3, 14,  2, 0), Timer(TimerRegister::TimerValue)),   // CNTP_TVAL_EL0
    (encoding(3, 3, 14,  2, 1), Timer(TimerRegister::Control)),      // CNTP_CTL_EL0
    (encoding(3, 3, 14,  2, 2), Timer(TimerRegister::CompareValue)), // CNTP_CVAL_EL0
];

/// What an access to `register` does. `host` reads an ID register of the machine (the value common to all CPUs).
pub fn decide(register: SysReg, read: bool, from: Origin, host: &dyn Fn(SysReg) -> u64) -> Action {
    let kernel = from == Origin::Kernel;
    let raz_wi = if read { Action::Read(0) } else { Action::Ignore };
    match policy(register) {
        Some(RazWi) if kernel => raz_wi,
        Some(RazWiForAll) => raz_wi,
        Some(Constant(value)) if read && kernel => Action::Read(value),
        Some(ConstantForAll(value)) if read => Action::Read(value),
        Some(WriteOnly) if !read && kernel => Action::Ignore,
        Some(HostWithout(hidden)) if read && kernel => Action::Read(host(register) & !hidden),
        Some(UserEnable) if read || kernel => raz_wi,
        Some(Actlr) if kernel => {
            if read {
                Action::ReadActlr
            } else {
                Action::Ignore
            }
        }
        Some(SetWay) if !read && kernel => Action::FlushCaches,
        Some(Timer(timer)) if kernel || from == (Origin::User { physical_timer: true }) => Action::PhysicalTimer(timer),
        Some(Sgi) if !read && kernel => Action::SendSgi,
        _ => Action::Undefined,
    }
}

fn policy(register: SysReg) -> Option<Policy> {
    if let Some((_, policy)) = TABLE.iter().find(|(known, _)| *known == register) {
        return Some(*policy);
    }
    match register {
        // DBGBVR<n>, DBGBCR<n>, DBGWVR<n>, DBGWCR<n>_EL1
        SysReg { op0: 2, op1: 0, crn: 0, op2: 4..=7, .. } => Some(RazWi),
        // The identification registers that Xen does not know, or that have no meaning yet.
        SysReg { op0: 3, op1: 0, crn: 0, crm: 1..=7, .. } => Some(Constant(0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Origin = Origin::User { physical_timer: false };

    fn act(op: [u8; 5], read: bool, from: Origin) -> Action {
        let [op0, op1, crn, crm, op2] = op;
        decide(encoding(op0, op1, crn, crm, op2), read, from, &|_| u64::MAX)
    }

    #[test]
    fn each_register_is_listed_once() {
        for (n, (register, _)) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().skip(n + 1).all(|(other, _)| other != register), "{register:?}");
        }
    }

    #[test]
    fn features_that_trap_are_hidden() {
        let visible = |op| match act(op, true, Origin::Kernel) {
            Action::Read(value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(visible([3, 0, 0, 4, 0]), 0xffff_00f0_0fff_ffff);
        assert_eq!(visible([3, 0, 0, 4, 1]), 0x0000_000f_f0f0_00ff);
        assert_eq!(visible([3, 0, 0, 6, 1]), 0x0fff_ffff_00ff_f00f);
        assert_eq!(visible([3, 0, 0, 1, 0]), 0x0f0f_0fff | 0xffff_ffff_0000_0000);
        assert_eq!(visible([3, 0, 0, 5, 0]), u64::MAX, "debug features pass through, as in Xen");
        for hidden in [[3, 0, 0, 4, 4], [3, 0, 0, 4, 5], [3, 0, 0, 6, 2], [3, 0, 0, 7, 3], [3, 0, 0, 7, 7]] {
            assert_eq!(visible(hidden), 0, "{hidden:?}");
        }
    }

    #[test]
    fn identification_registers_cannot_be_written() {
        for crm in 1..8 {
            for op2 in 0..8 {
                assert_eq!(act([3, 0, 0, crm, op2], false, Origin::Kernel), Action::Undefined);
                assert!(matches!(act([3, 0, 0, crm, op2], true, Origin::Kernel), Action::Read(_)));
                assert_eq!(act([3, 0, 0, crm, op2], true, USER), Action::Undefined);
            }
        }
    }

    #[test]
    fn debug_registers() {
        assert_eq!(act([2, 0, 1, 0, 4], false, Origin::Kernel), Action::Ignore);
        assert_eq!(act([2, 0, 1, 0, 4], true, Origin::Kernel), Action::Undefined);
        assert_eq!(act([2, 0, 1, 1, 4], true, Origin::Kernel), Action::Read(8));
        assert_eq!(act([2, 0, 1, 1, 4], false, Origin::Kernel), Action::Undefined);
        assert_eq!(act([2, 3, 0, 1, 0], true, USER), Action::Read(0));
        assert_eq!(act([2, 3, 0, 5, 0], false, USER), Action::Ignore);
        assert_eq!(act([2, 0, 0, 15, 7], false, Origin::Kernel), Action::Ignore);
        assert_eq!(act([2, 0, 0, 2, 2], true, USER), Action::Undefined);
        assert_eq!(act([2, 0, 7, 14, 6], true, Origin::Kernel), Action::Undefined, "DBGAUTHSTATUS_EL1");
    }

    #[test]
    fn performance_monitors() {
        assert_eq!(act([3, 3, 9, 12, 0], true, Origin::Kernel), Action::Read(0));
        assert_eq!(act([3, 3, 9, 12, 0], true, USER), Action::Undefined);
        assert_eq!(act([3, 3, 9, 14, 0], true, USER), Action::Read(0));
        assert_eq!(act([3, 3, 9, 14, 0], false, USER), Action::Undefined);
        assert_eq!(act([3, 3, 9, 14, 0], false, Origin::Kernel), Action::Ignore);
        assert_eq!(act([3, 3, 14, 8, 0], true, Origin::Kernel), Action::Undefined, "PMEVCNTR0_EL0");
        assert_eq!(act([3, 3, 14, 15, 7], false, Origin::Kernel), Action::Undefined, "PMCCFILTR_EL0");
    }

    #[test]
    fn the_rest() {
        assert_eq!(act([3, 0, 1, 0, 1], true, Origin::Kernel), Action::ReadActlr);
        assert_eq!(act([3, 0, 1, 0, 1], false, Origin::Kernel), Action::Ignore);
        assert_eq!(act([1, 0, 7, 14, 2], false, Origin::Kernel), Action::FlushCaches);
        assert_eq!(act([3, 0, 12, 11, 5], false, Origin::Kernel), Action::SendSgi);
        assert_eq!(act([3, 0, 12, 11, 5], true, Origin::Kernel), Action::Undefined);
        assert_eq!(act([3, 0, 12, 11, 6], false, Origin::Kernel), Action::Undefined, "ICC_ASGI1R_EL1");
        assert_eq!(act([3, 0, 12, 11, 7], false, Origin::Kernel), Action::Undefined, "ICC_SGI0R_EL1");
        assert_eq!(act([3, 3, 14, 2, 1], true, Origin::Kernel), Action::PhysicalTimer(TimerRegister::Control));
        assert_eq!(act([3, 3, 14, 2, 2], true, USER), Action::Undefined);
        let allowed = Origin::User { physical_timer: true };
        assert_eq!(act([3, 3, 14, 2, 2], true, allowed), Action::PhysicalTimer(TimerRegister::CompareValue));
        assert_eq!(act([3, 0, 15, 0, 0], true, Origin::Kernel), Action::Undefined, "implementation defined");
    }
}
