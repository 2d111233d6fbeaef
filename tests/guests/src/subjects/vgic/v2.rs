//! The virtual GICv2: every offset and width of the distributor, what sticks, and SGIs by the filter.

use super::reads;
use crate::runtime::probe::{self, Outcome};
use crate::runtime::{cpu, gic};
use crate::verdict::Test;
use guest_abi::arch_arm::{GUEST_GICC_BASE, GUEST_GICD_BASE as GICD};

pub fn run(test: &mut Test) {
    for log in [2, 0, 1, 3] {
        reads(test, "gicd", GICD, 0x1000, log);
    }
    // What has no side effect on the CPU interface, and what follows it.
    for offset in [0x0, 0x4, 0x8, 0x14, 0xfc, 0x1ffc, 0x2000] {
        test.answer(format_args!("gicc.read32({offset:#x})"), Outcome(probe::read(GUEST_GICC_BASE + offset, 2)));
    }
    writes(test);
    sgis(test);
}

/// What is written, then read. Each is put back.
fn writes(test: &mut Test) {
    let registers = [
        ("ctlr", 0x0),
        ("typer", 0x4),
        ("iidr", 0x8),
        ("absent", 0xc),
        ("igroupr0", 0x80),
        ("igroupr1", 0x84),
        ("isenabler0", 0x100),
        ("isenabler1", 0x104),
        ("icenabler0", 0x180),
        ("icenabler1", 0x184),
        ("ispendr0", 0x200),
        ("ispendr1", 0x204),
        ("icpendr0", 0x280),
        ("icpendr1", 0x284),
        ("isactiver0", 0x300),
        ("isactiver1", 0x304),
        ("icactiver0", 0x380),
        ("icactiver1", 0x384),
        ("ipriorityr0", 0x400),
        ("ipriorityr7", 0x41c),
        ("ipriorityr8", 0x420),
        ("reserved", 0x7fc),
        ("itargetsr0", 0x800),
        ("itargetsr7", 0x81c),
        ("itargetsr8", 0x820),
        ("itargetsr200", 0xb20),
        ("icfgr0", 0xc00),
        ("icfgr1", 0xc04),
        ("icfgr2", 0xc08),
        ("impdef", 0xd00),
        ("nsacr0", 0xe00),
        ("cpendsgir0", 0xf10),
        ("spendsgir0", 0xf20),
        ("impdef2", 0xfd0),
        ("pidr2", 0xfe8),
        ("cidr3", 0xffc),
    ];
    for (name, offset) in registers {
        for (log, values) in
            [(2, [0, 0xffff_ffff, 0xa5a5_a5a5, 0x0201_0403]), (0, [0, 0xff, 1, 2]), (1, [0, 0xffff, 1, 2]), (3, [0, 1, 2, 3])]
        {
            for value in values {
                let address = GICD + offset;
                let before = probe::read(address, 2);
                match probe::write(address, log, value) {
                    Ok(()) => test.answer(format_args!("write{}({name},{value:#x})", 8 << log), Outcome(probe::read(address, 2))),
                    Err(fault) => test.answer(format_args!("write{}({name},{value:#x})", 8 << log), fault),
                }
                if let Ok(before) = before {
                    let _ = probe::write(address, 2, before);
                }
            }
        }
    }
    // Everything off again that the writes have enabled or made pending.
    for offset in [0x180, 0x184, 0x280, 0x284] {
        let _ = probe::write(GICD + offset, 2, u64::from(u32::MAX));
    }
}

/// SGIs to lists, to all others, to itself, and with the filter that does not exist.
fn sgis(test: &mut Test) {
    const INTID: u32 = 5;
    gic::enable(INTID);
    for (name, value) in [
        ("list", 1 << 16),
        ("nobody", 0),
        ("absent", 0x80 << 16),
        ("others", 1 << 24 | 0xff << 16),
        ("self", 2 << 24),
        ("no filter", 3 << 24 | 1 << 16),
        ("nsatt", 1 << 16 | 1 << 15),
        ("reserved", 1 << 16 | 0x7ff0),
    ] {
        let before = gic::count(0, INTID);
        let wrote = probe::write(GICD + 0xf00, 2, value | u64::from(INTID));
        let arrived = cpu::wait_until(20_000, || gic::count(0, INTID) != before);
        test.answer(format_args!("sgir({name})"), format_args!("{} arrived={arrived}", Outcome(wrote.map(|()| 0))));
    }
    gic::disable(INTID);
}
