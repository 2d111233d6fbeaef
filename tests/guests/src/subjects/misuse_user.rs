//! What EL0 may not do, in AArch64 and in AArch32. Each operation begins with its row of the catalogue (A03, A06, A07).

use super::registers::Name;
use crate::runtime::page::Page;
use crate::runtime::user::{Code, State};
use crate::verdict::Test;
use guest_abi::arch_arm::GUEST_GICV3_GICD_BASE;

/// GICD_TYPER, in a register that tells where it is.
const TYPER: u64 = GUEST_GICV3_GICD_BASE + 4;
/// In the first GiB, where there is nothing.
const HOLE: u64 = 0x3900_4000;
/// Behind the domain's RAM.
const BEYOND: u64 = 0x0800_0000;

pub fn run(test: &mut Test) {
    let code = Code::new();
    wide(test, &code);
    registers(test, &code);
    arm(test, &code);
    thumb(test, &code);
}

/// A07: instructions of AArch64; the return address is that of the instruction, or of the next one where it was done.
fn wide(test: &mut Test, code: &Code) {
    let ram = Page::take();
    let list = [
        ("svc", 0xd400_0001_u32, 0),
        ("hvc", 0xd400_0002, 0),
        ("hvc 0xea1", 0xd41d_4222, 0),
        ("smc", 0xd400_0003, 0),
        ("wfi", 0xd503_207f, 0),
        ("wfe", 0xd503_205f, 0),
        ("brk", 0xd420_0000, 0),
        ("hlt", 0xd440_0000, 0),
        ("dcps1", 0xd4a0_0001, 0),
        ("dcps2", 0xd4a0_0002, 0),
        ("eret", 0xd69f_03e0, 0),
        ("udf", 0, 0),
        ("msr daifset", 0xd503_43df, 0),
        ("msr spsel", 0xd500_40bf, 0),
        ("fmov", 0x9e67_0000, 0),
        ("tlbi vmalle1", 0xd508_871f, 0),
        ("at s1e0r", 0xd508_7840, Code::ram(ram)),
        ("ic iallu", 0xd508_751f, 0),
        ("ic ivau", 0xd50b_7520, Code::ram(ram)),
        ("dc isw", 0xd508_7640, 0),
        ("dc ivac", 0xd508_7620, Code::ram(ram)),
        ("dc civac", 0xd50b_7e20, Code::ram(ram)),
        ("dc civac gicd", 0xd50b_7e20, Code::device(TYPER)),
        ("dc zva", 0xd50b_7420, Code::ram(ram)),
        ("ldr ram", 0xf940_0001, Code::ram(ram)),
        ("ldr gicd", 0xb940_0001, Code::device(TYPER)),
        ("ldp gicd", 0x2940_0801, Code::device(TYPER)),
        ("str gicd", 0xb900_0001, Code::device(TYPER)),
        ("ldr hole", 0xb940_0001, Code::device(HOLE)),
        ("str hole", 0xb900_0001, Code::device(HOLE)),
        ("ldr of EL1", 0xb940_0001, ram.address()),
        ("br hole", 0xd61f_0000, Code::ram(ram) + BEYOND),
        ("br of EL1", 0xd61f_0000, ram.address()),
    ];
    for (name, instruction, address) in list {
        let left = code.run(State::A64, &[instruction, 0xd400_0021], [address, 0x55, 0, 0]);
        // Where it branched to is no distance.
        let left = if name.starts_with("br") { crate::runtime::user::Left { after: 0, ..left } } else { left };
        test.answer(format_args!("A07.el0({name})"), format_args!("{left} x1={:#x}", left.x[1]));
    }
}

/// A03: every register, read and written by EL0. What is not told is UNDEF, at the instruction.
fn registers(test: &mut Test, code: &Code) {
    for register in 0x8000..=0xffff_u16 {
        for (name, instruction) in [("read", 0xd520_0000), ("write", 0xd500_0000)] {
            let left = code.run(State::A64, &[instruction | u32::from(register) << 5, 0xd400_0021], [0; 4]);
            match (left.vector, left.esr, left.after) {
                (8, 0x200_0000, 0) => {}
                (8, 0x5600_0001, 4) => test.answer(format_args!("A03.el0.{name}({})", Name(register)), "done"),
                _ => test.answer(format_args!("A03.el0.{name}({})", Name(register)), left),
            }
        }
    }
}

/// A06: the same in AArch32.
fn arm(test: &mut Test, code: &Code) {
    let ram = Page::take();
    let (at_ram, at_typer, at_hole) = (Code::ram(ram), Code::device(TYPER), Code::device(HOLE));
    let list = [
        ("svc", 0xef00_0001_u32, 0),
        ("hvc", 0xe140_0070, 0),
        ("smc", 0xe160_0070, 0),
        ("bkpt", 0xe120_0070, 0),
        ("udf", 0xe7f0_00f0, 0),
        ("wfi", 0xe320_f003, 0),
        ("wfe", 0xe320_f002, 0),
        ("wfine", 0x1320_f003, 0),
        ("cpsid", 0xf10c_0080, 0),
        ("srs", 0xf8cd_0513, 0),
        ("rfe", 0xf890_0a00, at_ram),
        ("mrs spsr", 0xe14f_1000, 0),
        ("setend be", 0xf101_0200, 0),
        ("swp", 0xe100_1092, at_ram),
        ("mrc midr", 0xee10_1f10, 0),
        ("mrceq midr", 0x0e10_1f10, 0),
        ("mrc actlr", 0xee11_1f30, 0),
        ("mrc sctlr", 0xee11_1f10, 0),
        ("mrc tpidruro", 0xee1d_1f70, 0),
        ("mcr tpidrurw", 0xee0d_1f50, 0),
        ("mrc pmcr", 0xee19_1f1c, 0),
        ("mrc pmccntr", 0xee19_1f1d, 0),
        ("mrc pmuserenr", 0xee19_1f1e, 0),
        ("mrc c15", 0xee1f_1f10, 0),
        ("mrc c11", 0xee1b_1f10, 0),
        ("mcr dccimvac", 0xee07_1f3e, 0),
        ("mcr dcisw", 0xee07_1f56, 0),
        ("mcr dsb", 0xee07_1f9a, 0),
        ("mcr isb", 0xee07_1f95, 0),
        ("mrrc cntvct", 0xec52_1f1e, 0),
        ("mrrceq cntvct", 0x0c52_1f1e, 0),
        ("mrrc cntpct", 0xec52_1f0e, 0),
        ("mrrc par", 0xec52_1f07, 0),
        ("mrc cntp_ctl", 0xee1e_1f32, 0),
        ("mcr cntp_ctl", 0xee0e_1f32, 0),
        ("mrc cntv_ctl", 0xee1e_1f33, 0),
        ("mrc cnthctl", 0xee9e_1f11, 0),
        ("mrc dbgdidr", 0xee10_1e10, 0),
        ("mrc dbgdscrint", 0xee10_1e11, 0),
        ("mcr dbgoslar", 0xee01_1e90, 0),
        ("mrc dbgdtrrxint", 0xee10_1e15, 0),
        ("ldc dbgdtrtxint", 0xed90_5e00, at_ram),
        ("stc dbgdtrrxint", 0xed80_5e00, at_ram),
        ("mrc jidr", 0xeef0_1e10, 0),
        ("mrc teecr", 0xeed0_1e10, 0),
        ("cdp p15", 0xee00_0f00, 0),
        ("cdp p3", 0xee00_0300, 0),
        ("vmrs fpscr", 0xeef1_1a10, 0),
        ("vmrs fpsid", 0xeef0_1a10, 0),
        ("vmrs mvfr0", 0xeef7_1a10, 0),
        ("vadd", 0xf200_0840, 0),
        ("ldr ram", 0xe590_1000, at_ram),
        ("ldr gicd", 0xe590_1000, at_typer),
        ("ldrb gicd", 0xe5d0_1000, at_typer),
        ("ldrh gicd", 0xe1d0_10b0, at_typer),
        ("ldrsb gicd", 0xe1d0_10d0, at_typer + 3),
        ("ldrd gicd", 0xe1c0_20d0, at_typer - 4),
        ("ldm gicd", 0xe890_0006, at_typer),
        ("ldr post gicd", 0xe490_1004, at_typer),
        ("ldreq gicd", 0x0590_1000, at_typer),
        ("ldrex gicd", 0xe190_1f9f, at_typer),
        ("swp gicd", 0xe100_1092, at_typer),
        ("str gicd", 0xe580_1000, at_typer),
        ("strb post gicd", 0xe4c0_1001, at_typer),
        ("stm gicd", 0xe880_0006, at_typer),
        ("ldr hole", 0xe590_1000, at_hole),
        ("str hole", 0xe580_1000, at_hole),
        ("ldr unaligned", 0xe590_1000, at_typer + 1),
        ("ldr of EL1", 0xe590_1000, ram.address()),
    ];
    for (name, instruction, address) in list {
        let left = code.run(State::A32, &[instruction, 0xef00_0042], [address, 0x55, 0, 0]);
        // Counters run.
        let x = if name.starts_with("mrrc") { [0; 4] } else { left.x };
        let moved = x[0].wrapping_sub(address) as i32;
        test.answer(format_args!("A06.a32({name})"), format_args!("{left} r0={moved:+} r1={:#x}", x[1]));
    }
}

/// A06, A07: instructions of two and of four bytes; the second word of each is the way out.
fn thumb(test: &mut Test, code: &Code) {
    let (at_typer, at_hole) = (Code::device(TYPER), Code::device(HOLE));
    // `svc #0x42`, twice, or once behind a `nop`.
    const SVC: u32 = 0xdf42_df42;
    let list = [
        ("svc", [0xdf42_df01_u32, SVC], 0),
        ("udf", [0xdf42_de00, SVC], 0),
        ("bkpt", [0xdf42_be00, SVC], 0),
        ("wfi", [0xdf42_bf30, SVC], 0),
        ("itne wfi", [0xbf30_bf18, SVC], 0),
        ("cpsid", [0xdf42_b672, SVC], 0),
        ("ldr gicd", [0xdf42_6801, SVC], at_typer),
        ("str gicd", [0xdf42_6001, SVC], at_typer),
        ("ldr hole", [0xdf42_6801, SVC], at_hole),
        ("itt eq ldr", [0x6801_bf04, SVC], at_typer),
        ("itt ne ldr", [0x6801_bf14, 0xdf42_6801], at_typer),
        ("ldr.w gicd", [0x1000_f8d0, SVC], at_typer),
        ("ldr.w post", [0x1b04_f850, SVC], at_typer),
        ("mrc midr", [0x1f10_ee10, SVC], 0),
        ("mrc dbgdidr", [0x1e10_ee10, SVC], 0),
        ("mrrc cntpct", [0x1f0e_ec52, SVC], 0),
        ("it eq mrc midr", [0xee10_bf08, 0xdf42_1f10], 0),
        ("hvc", [0x8000_f7e0, SVC], 0),
        ("smc", [0x8000_f7f0, SVC], 0),
    ];
    for (name, words, address) in list {
        let left = code.run(State::T32, &[words[0], words[1], SVC], [address, 0x55, 0, 0]);
        let x = if name.starts_with("mrrc") { [0; 4] } else { left.x };
        let moved = x[0].wrapping_sub(address) as i32;
        test.answer(format_args!("A06.t32({name})"), format_args!("{left} r0={moved:+} r1={:#x}", x[1]));
    }
}
