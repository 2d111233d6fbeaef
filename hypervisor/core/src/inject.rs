//! Exceptions that the hypervisor injects into EL1, as the hardware would take them there.
//!
//! The EL1 registers belong to the hardware while a vCPU is loaded, so this computes values ([`Injection`]) that `el2` writes into them.
//! Source: Arm ARM DDI 0487, D1.3 (exception entry) and D24.2.37 (ESR_EL1).

use crate::addr::GuestVa;

/// What happened, as the guest is to see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// An undefined instruction.
    Undefined,
    /// A data access that the memory system refused.
    DataAbort {
        /// The address of the access.
        va: GuestVa,
        /// Bytes of the instruction: 4, or 2 in T32.
        bytes: u64,
    },
    /// An instruction fetch that the memory system refused.
    InstructionAbort(GuestVa),
}

/// The state of the vCPU that decides how it takes an exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted {
    /// Where it would have continued (`ELR_EL2`). For an `hvc` that is past the instruction; Xen reports it so as well.
    pub pc: u64,
    /// Its PSTATE (`SPSR_EL2`).
    pub pstate: u64,
    /// `VBAR_EL1`.
    pub vbar: u64,
    /// `SCTLR_EL1`.
    pub sctlr: u64,
}

/// What an exception changes: the two values the vCPU continues with, and EL1 registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injection {
    /// The program counter (`ELR_EL2`).
    pub pc: u64,
    /// PSTATE (`SPSR_EL2`).
    pub pstate: u64,
    /// `ELR_EL1`.
    pub elr: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
    /// `ESR_EL1`.
    pub esr: u64,
    /// `FAR_EL1`; none: unchanged.
    pub far: Option<u64>,
}

const PSTATE_AARCH32: u64 = 1 << 4;
const PSTATE_MODE: u64 = 0xf;
const MODE_EL1H: u64 = 0b0101;
const MODE_EL1T: u64 = 0b0100;
const PSTATE_DAIF: u64 = 0xf << 6;
const PSTATE_SSBS: u64 = 1 << 12;
const PSTATE_PAN: u64 = 1 << 22;
const PSTATE_DIT: u64 = 1 << 24;
const PSTATE_TCO: u64 = 1 << 25;
const PSTATE_NZCV: u64 = 0xf << 28;
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;

const ESR_IL: u64 = 1 << 25;
const EC_DATA_ABORT_LOWER: u64 = 0x24;
const EC_INSTRUCTION_ABORT_LOWER: u64 = 0x20;
/// Added to the class of an abort that is not from a lower exception level.
const EC_SAME_LEVEL: u64 = 1;
/// What Xen says: an address size fault, level 0. A guest's handler looks only at the address of the access.
const FSC: u64 = 0;

/// Whether a PSTATE is that of a program, EL0 of either width.
pub const fn is_user(pstate: u64) -> bool {
    pstate & PSTATE_MODE == 0
}

/// Takes `exception` to EL1.
pub fn inject(exception: Exception, at: Interrupted) -> Injection {
    let abort = |class: u64| (if is_user(at.pstate) { class } else { class + EC_SAME_LEVEL }) << 26 | FSC;
    let (syndrome, far) = match exception {
        Exception::Undefined => (ESR_IL, None),
        Exception::DataAbort { va, bytes } => (abort(EC_DATA_ABORT_LOWER) | if bytes == 2 { 0 } else { ESR_IL }, Some(va.0)),
        Exception::InstructionAbort(va) => (abort(EC_INSTRUCTION_ABORT_LOWER) | ESR_IL, Some(va.0)),
    };
    Injection {
        pc: at.vbar.wrapping_add(vector_offset(at.pstate)),
        pstate: entry_pstate(at),
        elr: at.pc,
        spsr: at.pstate,
        esr: syndrome,
        far,
    }
}

/// Where in the table of `VBAR_EL1` the synchronous exceptions of a mode begin.
fn vector_offset(pstate: u64) -> u64 {
    match pstate & (PSTATE_AARCH32 | PSTATE_MODE) {
        MODE_EL1T => 0x000,
        MODE_EL1H => 0x200,
        mode if mode & PSTATE_AARCH32 == 0 => 0x400,
        _ => 0x600,
    }
}

/// PSTATE after exception entry to EL1, as `AArch64.TakeException` sets it. Bits of features that the CPU does not have were clear before
/// and stay so, except PAN, which needs SCTLR_EL1.SPAN to be 0: RES1 without the feature.
fn entry_pstate(at: Interrupted) -> u64 {
    let kept = at.pstate & (PSTATE_NZCV | PSTATE_DIT | PSTATE_PAN | PSTATE_TCO);
    let kept = if at.pstate & PSTATE_AARCH32 != 0 { kept & (PSTATE_NZCV | PSTATE_PAN) } else { kept };
    let pan = if at.sctlr & SCTLR_SPAN == 0 { PSTATE_PAN } else { 0 };
    let ssbs = if at.sctlr & SCTLR_DSSBS != 0 { PSTATE_SSBS } else { 0 };
    kept | pan | ssbs | PSTATE_DAIF | MODE_EL1H
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Interrupted =
        Interrupted { pc: 0xffff_8000_0001_0004, pstate: 0x6000_0005, vbar: 0xffff_8000_0002_0000, sctlr: SCTLR_SPAN };

    #[test]
    fn undefined_instruction_in_the_kernel() {
        let injection = inject(Exception::Undefined, KERNEL);
        let expected =
            Injection { pc: 0xffff_8000_0002_0200, pstate: 0x6000_03c5, elr: KERNEL.pc, spsr: KERNEL.pstate, esr: 0x0200_0000, far: None };
        assert_eq!(injection, expected);
    }

    #[test]
    fn the_vector_depends_on_the_mode() {
        let offset = |pstate| inject(Exception::Undefined, Interrupted { pstate, ..KERNEL }).pc - KERNEL.vbar;
        assert_eq!(offset(0x3c5), 0x200);
        assert_eq!(offset(0x3c4), 0x000);
        assert_eq!(offset(0x000), 0x400);
        assert_eq!(offset(0x010), 0x600);
        assert_eq!(offset(0x030), 0x600, "Thumb");
    }

    #[test]
    fn aborts_say_where_and_from_which_level() {
        let va = GuestVa(0xffff_8000_1234_5678);
        let user = Interrupted { pstate: 0, ..KERNEL };
        let esr = |exception, at| (inject(exception, at).esr, inject(exception, at).far);
        let data = |bytes| Exception::DataAbort { va, bytes };
        assert_eq!(esr(data(4), KERNEL), (0x9600_0000, Some(va.0)));
        assert_eq!(esr(data(4), user), (0x9200_0000, Some(va.0)));
        assert_eq!(esr(data(2), user), (0x9000_0000, Some(va.0)));
        assert_eq!(esr(Exception::InstructionAbort(va), KERNEL), (0x8600_0000, Some(va.0)));
        assert_eq!(esr(Exception::InstructionAbort(va), user), (0x8200_0000, Some(va.0)));
    }

    #[test]
    fn pan_is_set_unless_sctlr_says_not() {
        let pstate = |sctlr| inject(Exception::Undefined, Interrupted { sctlr, ..KERNEL }).pstate;
        assert_eq!(pstate(0) & PSTATE_PAN, PSTATE_PAN);
        assert_eq!(pstate(SCTLR_SPAN) & PSTATE_PAN, 0);
        assert_eq!(pstate(SCTLR_SPAN | SCTLR_DSSBS) & PSTATE_SSBS, PSTATE_SSBS);
    }

    #[test]
    fn an_illegal_or_stepping_state_is_not_carried_into_the_handler() {
        let state = 1 << 20 | 1 << 21 | 3 << 10 | 1 << 23;
        let injection = inject(Exception::Undefined, Interrupted { pstate: KERNEL.pstate | state, ..KERNEL });
        assert_eq!(injection.pstate, 0x6000_03c5);
        assert_eq!(injection.spsr & state, state);
    }
}
