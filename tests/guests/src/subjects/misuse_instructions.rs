//! Instructions that trap, that this machine lacks, or that no device takes. Each operation begins with its row of the catalogue (A23,
//! A24, A26, A28, A30).

use crate::runtime::gic;
use crate::runtime::page::Page;
use crate::runtime::probe::{self, Fault, encoding};
use crate::verdict::Test;
use core::fmt;
use guest_abi::arch_arm::GUEST_GICV3_GICD_BASE;

pub fn run(test: &mut Test) {
    returns(test);
    instructions(test);
    accesses(test);
}

fn returns(test: &mut Test) {
    // A26: an exception return to a state that is none, or not the guest's.
    let page = Page::take();
    for (name, spsr) in [
        ("EL2h", 0x3c9_u64),
        ("EL2t", 0x3c8),
        ("EL3h", 0x3cd),
        ("mode 7", 0x3c7),
        ("32-bit svc", 0x1d3),
        ("32-bit hyp", 0x1da),
        ("IL", 0x10_03c5),
        ("EL0 of EL1's page", 0x3c0),
    ] {
        test.answer(format_args!("A26.eret({name})"), eret(spsr, page));
    }
}

/// `ERET` with this state to a page of its own; what comes of it.
fn eret(spsr: u64, to: Page) -> Eret {
    // SPSR_EL1 and ELR_EL1, then the instruction: interrupts are masked, so that nothing else changes them.
    let _ = probe::write_register(encoding(3, 0, 4, 0, 0), spsr);
    let _ = probe::write_register(encoding(3, 0, 4, 0, 1), to.address());
    Eret(probe::execute(0xd69f_03e0, [0; 4]).err())
}

struct Eret(Option<Fault>);

impl fmt::Display for Eret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => write!(f, "executed"),
            // Where it happened is far from the instruction.
            Some(fault) => write!(f, "vector={} esr={:#x}", fault.vector, fault.esr),
        }
    }
}

/// Instructions that a guest may try: of extensions that this machine has not, or that the hypervisor hides.
fn instructions(test: &mut Test) {
    let page = Page::take();
    let list = [
        ("A28.fmov", 0x9e67_0000_u32),
        ("A28.rdvl", 0x04bf_5020),
        ("A28.ptrue", 0x2518_e3e0),
        ("A28.smstart", 0xd503_477f),
        ("A28.rdsvl", 0x04bf_5820),
        ("A30.irg", 0x9ac0_1000),
        ("A30.ldg", 0xd960_0001),
        ("A30.stg", 0xd920_0801),
        ("A30.pacia", 0xdac1_0001),
        ("A30.paciasp", 0xd503_233f),
        ("A30.xpaci", 0xdac1_43e0),
        ("A30.bti", 0xd503_245f),
        ("A24.wfe", 0xd503_205f),
        ("A24.sevl", 0xd503_20bf),
        ("A24.sev", 0xd503_209f),
        ("A24.yield", 0xd503_203f),
        ("wfet", 0xd503_1001),
        ("wfit", 0xd503_1021),
        ("sb", 0xd503_30ff),
        ("ssbb", 0xd503_309f),
        ("esb", 0xd503_221f),
        ("psb", 0xd503_223f),
        ("tsb", 0xd503_225f),
        ("csdb", 0xd503_229f),
        ("dgh", 0xd503_20df),
        ("cfp rctx", 0xd50b_7380),
        ("dvp rctx", 0xd50b_73a0),
        ("cpp rctx", 0xd50b_73e0),
        ("brk", 0xd420_0000),
        ("hlt", 0xd440_0000),
        ("dcps1", 0xd4a0_0001),
    ];
    for (name, instruction) in list {
        match probe::execute(instruction, [page.address(), 0, 0, 0]) {
            Ok(_) => test.answer(name, "executed"),
            Err(fault) => test.answer(name, fault),
        }
    }
}

/// A23: loads, stores and maintenance that come without a description, at registers of the interrupt controller and at nothing.
fn accesses(test: &mut Test) {
    // Floating point on, for its loads and stores: CPACR_EL1.
    let _ = probe::write_register(encoding(3, 0, 1, 0, 2), 3 << 20);
    for (place, address) in [("gicd", GUEST_GICV3_GICD_BASE + 8), ("gicr", gic::redistributor(0) + 8), ("hole", 0x3900_4000)] {
        for (name, instruction) in [
            ("ldxr", 0x885f_7c01_u32),
            ("ldaxr", 0x885f_fc01),
            ("stxr", 0x8801_7c02),
            ("stlr", 0x889f_fc01),
            ("ldxp", 0x887f_0801),
            ("ldp x", 0xa940_0801),
            ("ldnp", 0x2840_0801),
            ("ldr q", 0x3dc0_0001),
            ("str d", 0xfd00_0001),
            ("ld1", 0x0c40_7001),
            ("ldrb post", 0x3840_1401),
            ("ldrsb", 0x3980_0001),
            ("ldr reg", 0xb862_6801),
            ("ldr wzr", 0xb940_001f),
            ("str pre", 0xb800_4c01),
            ("strb post", 0x3800_1401),
            ("ldr post sp-less rt=rn", 0xb840_4400),
            ("prfm pst", 0xf980_0010),
            ("dc cvac", 0xd50b_7a20),
            ("dc ivac", 0xd508_7620),
            ("ic ivau", 0xd50b_7520),
            ("dc zva", 0xd50b_7420),
        ] {
            let name = format_args!("A23.{name}({place})");
            match probe::execute(instruction, [address, 0, 0, 0]) {
                Ok(x) => test.answer(name, format_args!("x0={:+#x} x1={:#x}", x[0].wrapping_sub(address), x[1])),
                Err(fault) => test.answer(name, fault),
            }
        }
    }
}
