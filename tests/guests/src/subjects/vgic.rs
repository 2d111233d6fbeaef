//! The virtual GICv3 register by register (misuse A04, A08): what is read at every offset and width, and what sticks. And the holes of
//! the guest's address map around it. `v2` is the same for a GICv2.

use crate::runtime::gic;
use crate::runtime::probe::{self, Fault, Outcome};
use crate::verdict::Test;
use core::fmt;
use guest_abi::arch_arm::*;

mod v2;

pub fn run(test: &mut Test) {
    if gic::is_v2() {
        return v2::run(test);
    }
    let regions = [
        ("gicd", GUEST_GICV3_GICD_BASE, 0x1_0000),
        ("gicr", gic::redistributor(0), 0x1_0000),
        ("sgi", gic::redistributor(0) + 0x1_0000, 0x1_0000),
    ];
    for (name, base, size) in regions {
        reads(test, name, base, size, 2);
        // Other widths where there is anything but reserved space.
        for log in [0, 1, 3] {
            reads(test, name, base, 0x1000, log);
            reads(test, name, base + 0x6000, 0x400, log);
            reads(test, name, base + 0xff80, 0x80, log);
        }
    }
    reads(test, "gicr1", gic::redistributor(1), 0x100, 2);
    reads(test, "gicr2", gic::redistributor(2), 0x40, 2);
    writes(test);
    holes(test);
}

/// Reads the region at every multiple of the width. Up to 4 KiB there is an answer for each 256 bytes, then one for each 4 KiB, which
/// tells each value and where it begins.
fn reads(test: &mut Test, name: &str, base: u64, size: u64, log: u32) {
    // A redistributor's base is not part of the offset.
    let origin = if name == "gicd" { GUEST_GICV3_GICD_BASE } else { base - (base & 0xffff) };
    let mut from = base;
    while from < base + size {
        let length = if from - origin < 0x1000 { 0x100 } else { 0x1000 };
        let to = (from + length).min(base + size);
        let runs = Runs { origin, from, to, log };
        test.answer(format_args!("{name}.read{}[{:#x}..{:#x}]", 8 << log, from - origin, to - origin), runs);
        from = to;
    }
}

/// What is read from one address to another; equal values in a row are told once.
struct Runs {
    origin: u64,
    from: u64,
    to: u64,
    log: u32,
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for address in (self.from..self.to).step_by(1 << self.log) {
            // Where it happened is in the name.
            let answer = probe::read(address, self.log).map_err(|fault| Fault { far: 0, ..fault });
            if last != Some(answer) {
                let space = if last.is_none() { "" } else { ", " };
                write!(f, "{space}{:#x}: {}", address - self.origin, Outcome(answer))?;
                last = Some(answer);
            }
        }
        Ok(())
    }
}

/// Words that are written, then read: what sticks. Each is put back.
fn writes(test: &mut Test) {
    let (gicd, rd) = (GUEST_GICV3_GICD_BASE, gic::redistributor(0));
    let sgi = rd + 0x1_0000;
    let words = [
        ("gicd_ctlr", gicd),
        ("gicd_typer", gicd + 4),
        ("gicd_setspi", gicd + 0x40),
        ("gicd_igroupr0", gicd + 0x80),
        ("gicd_igroupr1", gicd + 0x84),
        ("gicd_isenabler0", gicd + 0x100),
        ("gicd_isenabler1", gicd + 0x104),
        ("gicd_icenabler1", gicd + 0x184),
        ("gicd_ispendr1", gicd + 0x204),
        ("gicd_isactiver1", gicd + 0x304),
        ("gicd_ipriorityr0", gicd + 0x400),
        ("gicd_ipriorityr8", gicd + 0x420),
        ("gicd_itargetsr8", gicd + 0x820),
        ("gicd_icfgr0", gicd + 0xc00),
        ("gicd_icfgr2", gicd + 0xc08),
        ("gicd_nsacr", gicd + 0xe00),
        ("gicd_sgir", gicd + 0xf00),
        ("gicd_cpendsgir", gicd + 0xf10),
        ("gicd_irouter32", gicd + 0x6100),
        ("gicd_pidr2", gicd + 0xffe8),
        ("gicr_ctlr", rd),
        ("gicr_iidr", rd + 4),
        ("gicr_typer", rd + 8),
        ("gicr_statusr", rd + 0x10),
        ("gicr_waker", rd + 0x14),
        ("gicr_setlpir", rd + 0x40),
        ("gicr_propbaser", rd + 0x70),
        ("gicr_pendbaser", rd + 0x78),
        ("gicr_invlpir", rd + 0xa0),
        ("gicr_syncr", rd + 0xc0),
        ("gicr_pidr2", rd + 0xffe8),
        ("gicr_igroupr0", sgi + 0x80),
        ("gicr_isenabler0", sgi + 0x100),
        ("gicr_icenabler0", sgi + 0x180),
        ("gicr_ispendr0", sgi + 0x200),
        ("gicr_icpendr0", sgi + 0x280),
        ("gicr_isactiver0", sgi + 0x300),
        ("gicr_icactiver0", sgi + 0x380),
        ("gicr_ipriorityr0", sgi + 0x400),
        ("gicr_ipriorityr7", sgi + 0x41c),
        ("gicr_icfgr0", sgi + 0xc00),
        ("gicr_icfgr1", sgi + 0xc04),
        ("gicr_igrpmodr0", sgi + 0xd00),
        ("gicr_nsacr", sgi + 0xe00),
    ];
    for (name, address) in words {
        for value in [0, u64::from(u32::MAX), 0xa5a5_a5a5] {
            let before = probe::read(address, 2);
            let wrote = probe::write(address, 2, value);
            let after = probe::read(address, 2);
            match wrote {
                Ok(()) => test.answer(format_args!("write({name},{value:#x})"), Outcome(after)),
                Err(fault) => test.answer(format_args!("write({name},{value:#x})"), fault),
            }
            if let (Ok(()), Ok(before)) = (wrote, before) {
                let _ = probe::write(address, 2, before);
            }
        }
    }
    // Everything off again that the writes have enabled or made pending.
    for (address, log) in [(sgi + 0x180, 2), (sgi + 0x280, 2)] {
        let _ = probe::write(address, log, u64::from(u32::MAX));
    }
    // Every other width; 64 bits also where a register has them.
    for log in [0, 1, 3] {
        for (name, address) in words {
            let address = address & !((1 << log) - 1);
            let before = probe::read(address, log);
            let wrote = probe::write(address, log, 0);
            test.answer(format_args!("write{}({name})", 8 << log), Outcome(wrote.map(|()| 0)));
            if let (Ok(()), Ok(before)) = (wrote, before) {
                let _ = probe::write(address, log, before);
            }
        }
    }
}

fn holes(test: &mut Test) {
    let addresses = [
        0,
        0x0200_0000,
        0x0300_0000,
        0x0300_0ffc,
        0x0301_1000,
        0x0402_0000,
        0x0800_0000,
        0x0900_0000,
        GUEST_VPCI_ECAM_BASE,
        GUEST_ACPI_BASE,
        GUEST_PL011_BASE,
        GUEST_VPCI_MEM_ADDR,
        0x38ff_f000,
        0x3900_0000,
        0x3900_1000,
        0x3900_2000,
        0x3900_3000,
        0x4200_0000,
        0x8000_0000,
        0x1_0000_0000,
        0x2_0000_0000,
        0x40_0000_0000,
    ];
    for address in addresses {
        match probe::read(address, 2) {
            Ok(_) => test.answer(format_args!("hole({address:#x})"), "readable"),
            Err(fault) => test.answer(format_args!("hole({address:#x})"), format_args!("{fault} far={:#x}", fault.far)),
        }
    }
    // Accesses that hardware does not describe in the syndrome (misuse A23): pairs, write-back, exclusives, unaligned.
    let gicd = GUEST_GICV3_GICD_BASE;
    let forms = [
        ("ldp", 0x2940_0400_u32, gicd + 4),
        ("ldr post", 0xb840_4401, gicd + 4),
        ("ldr pre", 0xb840_4c01, gicd),
        ("ldur", 0xb840_0001, gicd + 4),
        ("ldxr", 0x885f_7c01, gicd + 4),
        ("ldar", 0x88df_fc01, gicd + 4),
        ("ldrsw", 0xb980_0001, gicd + 4),
        ("str post", 0xb800_4401, gicd + 4),
        ("stp", 0x2900_0801, gicd + 4),
        ("ldr unaligned", 0xb940_0001, gicd + 6),
        ("dc zva", 0xd50b_7420, gicd),
        ("dc civac", 0xd50b_7e20, gicd),
        ("prfm", 0xf980_0000, gicd),
    ];
    for (name, instruction, address) in forms {
        match probe::execute(instruction, [address, 0, 0, 0]) {
            Ok(x) => test.answer(format_args!("form({name})"), format_args!("x0={:+#x} x1={:#x}", x[0].wrapping_sub(address), x[1])),
            Err(fault) => test.answer(format_args!("form({name})"), fault),
        }
    }
}
