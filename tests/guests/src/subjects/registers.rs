//! System registers: every encoding with op0 2 and 3 is read (misuse A03). What is not told is UNDEF.

use crate::runtime::probe::{self, encoding};
use crate::verdict::Test;
use core::fmt;

/// A register by its encoding, as in the manual: `S3_0_C0_C0_5`.
pub struct Name(pub u16);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        write!(f, "S{}_{}_C{}_C{}_{}", e >> 14, e >> 11 & 7, e >> 7 & 15, e >> 3 & 15, e & 7)
    }
}

pub fn run(test: &mut Test) {
    for encoding in 0x8000..=0xffff_u16 {
        read(test, encoding);
    }
    writes(test);
}

/// L2CTLR_EL1 of a Cortex-A57.
const L2CTLR: u16 = encoding(3, 1, 11, 0, 2);

/// A value without what it tells of the machine: L2CTLR has the number of its CPUs.
fn of_any_machine(register: u16, value: u64) -> u64 {
    if register == L2CTLR { value & !(3 << 24) } else { value }
}

fn read(test: &mut Test, encoding: u16) {
    let (op0, op1, crn, crm) = (encoding >> 14, encoding >> 11 & 7, encoding >> 7 & 15, encoding >> 3 & 15);
    // Reading acknowledges an interrupt.
    if op0 == 3 && crn == 12 && matches!((crm, encoding & 7), (8 | 12, 0)) {
        return;
    }
    // The value is the hypervisor's doing: identification, debug, performance monitor, implementation defined. Elsewhere it is ours.
    let told = op0 == 2 || matches!((op1, crn), (_, 0 | 9 | 11 | 15)) || (crn, crm) == (1, 0);
    match probe::read_register(encoding) {
        Ok(value) if told => {
            test.answer(format_args!("read({})", Name(encoding)), format_args!("{:#x}", of_any_machine(encoding, value)));
        }
        Ok(_) => test.answer(format_args!("read({})", Name(encoding)), "readable"),
        Err(fault) if fault.esr >> 26 == 0 => {}
        Err(fault) => test.answer(format_args!("read({})", Name(encoding)), fault),
    }
}

/// Registers that a debugger, a profiler or firmware would write: taken, ignored or UNDEF, and what is read afterwards.
fn writes(test: &mut Test) {
    let registers = [
        ("osdtrrx", encoding(2, 0, 0, 0, 2)),
        ("mdscr", encoding(2, 0, 0, 2, 2)),
        ("oslar", encoding(2, 0, 1, 0, 4)),
        ("oslsr", encoding(2, 0, 1, 1, 4)),
        ("osdlr", encoding(2, 0, 1, 3, 4)),
        ("dbgprcr", encoding(2, 0, 1, 4, 4)),
        ("dbgbvr0", encoding(2, 0, 0, 0, 4)),
        ("dbgbcr0", encoding(2, 0, 0, 0, 5)),
        ("dbgwvr0", encoding(2, 0, 0, 0, 6)),
        ("dbgwcr0", encoding(2, 0, 0, 0, 7)),
        ("dbgclaimset", encoding(2, 0, 7, 8, 6)),
        ("pmcr", encoding(3, 3, 9, 12, 0)),
        ("pmcntenset", encoding(3, 3, 9, 12, 1)),
        ("pmovsclr", encoding(3, 3, 9, 12, 3)),
        ("pmswinc", encoding(3, 3, 9, 12, 4)),
        ("pmselr", encoding(3, 3, 9, 12, 5)),
        ("pmccntr", encoding(3, 3, 9, 13, 0)),
        ("pmxevtyper", encoding(3, 3, 9, 13, 1)),
        ("pmxevcntr", encoding(3, 3, 9, 13, 2)),
        ("pmuserenr", encoding(3, 3, 9, 14, 0)),
        ("pmovsset", encoding(3, 3, 9, 14, 3)),
        ("pmintenset", encoding(3, 0, 9, 14, 1)),
        ("pmintenclr", encoding(3, 0, 9, 14, 2)),
        ("pmevcntr0", encoding(3, 3, 14, 8, 0)),
        ("pmevtyper0", encoding(3, 3, 14, 12, 0)),
        ("pmccfiltr", encoding(3, 3, 14, 15, 7)),
        ("actlr", encoding(3, 0, 1, 0, 1)),
        ("midr", encoding(3, 0, 0, 0, 0)),
        ("l2ctlr", L2CTLR),
        ("cpuactlr", encoding(3, 1, 15, 2, 0)),
        ("icc_sre", encoding(3, 0, 12, 12, 5)),
        ("cntps_ctl", encoding(3, 7, 14, 2, 1)),
        ("cnthctl_el2", encoding(3, 4, 14, 1, 0)),
        ("hcr_el2", encoding(3, 4, 1, 1, 0)),
        ("trcoslar", encoding(2, 1, 1, 0, 4)),
        ("amcr", encoding(3, 3, 13, 2, 0)),
    ];
    for (name, register) in registers {
        let wrote = probe::write_register(register, 1);
        match wrote {
            Ok(()) => match probe::read_register(register) {
                Ok(value) => {
                    test.answer(format_args!("write({name})"), format_args!("taken, then {:#x}", of_any_machine(register, value)));
                }
                Err(fault) => test.answer(format_args!("write({name})"), format_args!("taken, then {fault}")),
            },
            Err(fault) => test.answer(format_args!("write({name})"), fault),
        }
    }
}
