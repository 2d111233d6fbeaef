//! What a hypervisor has to know of AArch32, whose programs run at EL0 below a 64-bit kernel: conditions, and two registers.
//!
//! Source: Arm ARM DDI 0487, `ConditionHolds`, `ITAdvance`, D24.2.38 (ESR_EL2.ISS of WF*, CP14 and CP15), G8 (the registers).

use crate::exit::{Exit, SysReg};

const AARCH32: u64 = 1 << 4;
const THUMB: u64 = 1 << 5;

/// `PMUSERENR_EL0`, which AArch32 calls PMUSERENR.
const PMUSERENR: SysReg = SysReg { op0: 3, op1: 3, crn: 9, crm: 14, op2: 0 };

/// ITSTATE: the instructions of T32 that are still conditional.
const fn it_state(pstate: u64) -> u64 {
    // ITSTATE[7:2] are bits 15 to 10, ITSTATE[1:0] bits 26 and 25.
    pstate >> 8 & 0xfc | pstate >> 25 & 3
}

/// PSTATE behind an instruction that was done for the guest: a block of IT goes on with its next instruction.
pub const fn past_it(pstate: u64) -> u64 {
    let it = it_state(pstate);
    if pstate & AARCH32 == 0 || it == 0 {
        return pstate;
    }
    let next = if it & 7 == 0 { 0 } else { it & 0xe0 | it << 1 & 0x1f };
    pstate & !(0xfc << 8 | 3 << 25) | (next & 0xfc) << 8 | (next & 3) << 25
}

/// Whether an instruction trapped although its condition does not hold, as hardware may let it. Then it does nothing.
pub fn is_skipped(esr: u64, pstate: u64) -> bool {
    /// WF*, CP15 and CP14 of each form, floating point, CP10: the classes whose syndrome has a condition.
    const CONDITIONAL: [u64; 8] = [0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0c];
    /// The syndrome's condition is valid.
    const CV: u64 = 1 << 24;
    const ALWAYS: u64 = 14;
    if pstate & AARCH32 == 0 || !CONDITIONAL.contains(&(esr >> 26)) {
        return false;
    }
    let condition = if esr & CV != 0 {
        esr >> 20 & 0xf
    } else if pstate & THUMB != 0 && it_state(pstate) != 0 {
        it_state(pstate) >> 4
    } else {
        ALWAYS
    };
    !holds(condition, pstate)
}

fn holds(condition: u64, pstate: u64) -> bool {
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| pstate >> bit & 1 != 0);
    let even = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    even != (condition & 1 != 0)
}

/// A trapped `mrc` or `mcr` of coprocessor 14 or 15, by its ISS. As in Xen, a program may read PMUSERENR and DBGDIDR.
pub(crate) fn coprocessor(number: u8, iss: u64) -> Exit {
    let field = |shift: u32, width: u32| iss >> shift & ((1 << width) - 1);
    let (read, rt) = (iss & 1 != 0, field(5, 4) as u8);
    let [opc1, crn, crm, opc2] = [field(14, 3), field(10, 4), field(1, 4), field(17, 3)];
    match (number, opc1, crn, crm, opc2) {
        (14, 0, 0, 0, 0) if read => Exit::DebugId { rt },
        (15, 0, 9, 14, 0) if read => Exit::SysReg { register: PMUSERENR, rt, read },
        _ => Exit::Undefined,
    }
}

/// DBGDIDR for a CPU with this MIDR: the least there may be, version 7.1 with one watchpoint and two breakpoints. The variant is where Xen
/// has it, in the bits of the revision.
pub const fn debug_id(midr: u64) -> u64 {
    const BREAKPOINTS: u64 = 1 << 24;
    const VERSION: u64 = 5 << 16;
    BREAKPOINTS | VERSION | midr >> 20 & 0xf | midr & 0xf
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A32, with this NZCV.
    const fn flags(nzcv: u64) -> u64 {
        nzcv << 28 | 0x10
    }

    #[test]
    fn a_block_of_it_goes_on() {
        // ITSTATE 0b0001_0100 (ITE NE) becomes 0b0000_1000, then nothing; AArch64 keeps its bits.
        let state = |it: u64| 0x30 | (it & 0xfc) << 8 | (it & 3) << 25;
        assert_eq!([0x14, 0x08, 0, 0xe1, 0x1f].map(|it| past_it(state(it))), [0x08, 0, 0, 0xe2, 0x1e].map(state));
        assert_eq!(past_it(1 << 25 | 0x3c5), 1 << 25 | 0x3c5);
    }

    #[test]
    fn conditions_hold_as_in_the_manual() {
        let with = |nzcv: u64| (0..16).filter(|condition| holds(*condition, flags(nzcv))).collect::<alloc::vec::Vec<u64>>();
        assert_eq!(with(0b0000), [1, 3, 5, 7, 9, 10, 12, 14, 15]);
        assert_eq!(with(0b0110), [0, 2, 5, 7, 9, 10, 13, 14, 15]);
        assert_eq!(with(0b1010), [1, 2, 4, 7, 8, 11, 13, 14, 15]);
        assert_eq!(with(0b1001), [1, 3, 4, 6, 9, 10, 12, 14, 15]);
    }

    #[test]
    fn what_does_not_hold_is_skipped() {
        let wfi = |condition: u64| 1 << 26 | 1 << 24 | condition << 20;
        assert!(is_skipped(wfi(0), flags(0)), "EQ without Z");
        assert!(!is_skipped(wfi(0), flags(0b0100)));
        assert!(!is_skipped(wfi(0), 0), "AArch64");
        assert!(!is_skipped(0x24 << 26 | 1 << 24, flags(0)), "a data abort's syndrome has no condition");
        // T32 without a valid condition: that of the block, ITSTATE 0b0000_1000 (IT EQ).
        let in_it = 1 << 5 | 0x08 << 8;
        assert!(is_skipped(1 << 26, flags(0) | in_it));
        assert!(!is_skipped(1 << 26, flags(0b0100) | in_it));
        assert!(!is_skipped(1 << 26, flags(0) | 1 << 5));
    }

    #[test]
    fn two_registers_are_readable() {
        // Rt is 1. `mrc p14, 0, r1, c0, c0, 0` and `mrc p15, 0, r1, c9, c14, 0`.
        assert_eq!(coprocessor(14, 0x1e0_0021), Exit::DebugId { rt: 1 });
        assert_eq!(coprocessor(14, 0x1e0_0020), Exit::Undefined, "mcr");
        assert_eq!(coprocessor(15, 0x1e0_0021), Exit::Undefined, "MIDR");
        assert_eq!(coprocessor(15, 0x1e0_243d), Exit::SysReg { register: PMUSERENR, rt: 1, read: true });
        assert_eq!(coprocessor(15, 0x1e0_243c), Exit::Undefined, "mcr");
        assert_eq!(coprocessor(14, 0x1e0_243d), Exit::Undefined);
        // Cortex-A57 r1p0.
        assert_eq!(debug_id(0x411f_d070), 0x0105_0001);
    }
}
