//! Misuse of system registers and of system instructions. Each operation begins with its row of the catalogue (A03, A17).

use super::registers::Name;
use crate::runtime::page::Page;
use crate::runtime::{probe, timer};
use crate::verdict::Test;

pub fn run(test: &mut Test) {
    writes(test);
    maintenance(test);
}

/// A03: every register is written: with its own value, or with 0 where it cannot be read. What is not told is UNDEF.
fn writes(test: &mut Test) {
    for register in 0x8000..=0xffff_u16 {
        let (op0, crn, crm, op2) = (register >> 14, register >> 7 & 15, register >> 3 & 15, register & 7);
        // Reading acknowledges an interrupt.
        if op0 == 3 && crn == 12 && matches!((crm, op2), (8 | 12, 0)) {
            continue;
        }
        let read = probe::read_register(register);
        let wrote = probe::write_register(register, read.unwrap_or(0));
        let readable = if read.is_ok() { "readable" } else { "write-only" };
        match wrote {
            Ok(()) => test.answer(format_args!("A03.write({})", Name(register)), readable),
            Err(fault) if fault.esr >> 26 == 0 && read.is_err() => {}
            Err(fault) => test.answer(format_args!("A03.write({})", Name(register)), format_args!("{readable} {fault}")),
        }
    }
    timer::stop();
}

/// Instructions of op0 = 1: cache and TLB maintenance, address translation, and what is not for EL1.
fn maintenance(test: &mut Test) {
    let page = Page::take();
    for register in 0x4000..0x8000_u16 {
        let (op1, crn, crm) = (register >> 11 & 7, register >> 7 & 15, register >> 3 & 15);
        // Invalidation of caches without writing them back would lose what the page table or the stack holds: not on a machine with caches.
        if matches!((op1, crn, crm), (0, 7, 6)) || !matches!(crn, 7 | 8) {
            continue;
        }
        // Each takes a page's address, or nothing.
        let argument = if crn == 7 { page.address() } else { page.gfn() };
        match probe::write_register(register, argument) {
            Ok(()) => test.answer(format_args!("A17.sys({})", Name(register)), "taken"),
            Err(fault) if fault.esr >> 26 == 0 => {}
            Err(fault) => test.answer(format_args!("A17.sys({})", Name(register)), fault),
        }
    }
}
