//! Misuse of the domain's own page tables. Each operation begins with its row of the catalogue (A27).

use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe};
use crate::verdict::Test;
use guest_abi::arch_arm::GUEST_GICV3_GICD_BASE;
use guest_abi::memory::XENMEM_MAXIMUM_GPFN;
use guest_abi::xen::hypercall::{MEMORY_OP, XEN_VERSION};

/// A27: tables of stage 1 that lie where no table can be; hypercalls with addresses that lead through them.
pub fn run(test: &mut Test) {
    // The last but one GiB of the map is a block beyond all memory: its entry leads elsewhere for a while.
    const AT: u64 = 510 << 30;
    let Ok(root) = probe::read_register(probe::encoding(3, 0, 2, 0, 0)) else { return };
    let entry = (root & 0xffff_ffff_f000) + 510 * 8;
    let Ok(before) = probe::read(entry, 3) else { return };
    let loops = Page::take();
    loops.write64(0, loops.address() | 3);
    for (name, table) in [
        ("hole", 0x8000_0003_u64),
        ("gicd", GUEST_GICV3_GICD_BASE & !0xfff | 3),
        ("beyond stage 2", 0x7f_8000_0003),
        ("beyond PA", 0xffff_ffff_f003),
        ("itself", loops.address() | 3),
        ("block beyond stage 2", 0x7f_8000_0701),
        ("reserved", 2),
        ("not mapped", 0),
    ] {
        let _ = probe::write(entry, 3, table);
        flush();
        match probe::read(AT, 3) {
            Ok(_) => test.answer(format_args!("A27.read({name})"), "readable"),
            Err(fault) => test.answer(format_args!("A27.read({name})"), fault),
        }
        test.rc(format_args!("A27.argument({name})"), hypercall::raw(MEMORY_OP, [XENMEM_MAXIMUM_GPFN, AT, 0, 0, 0]));
        test.rc(format_args!("A27.result({name})"), hypercall::raw(XEN_VERSION, [5, AT, 0, 0, 0]));
    }
    let _ = probe::write(entry, 3, before);
    flush();
    for (name, address) in [
        ("0", 0_u64),
        ("non-canonical", 1 << 55),
        ("upper half", 0xffff_8000_0000_0000),
        ("2^39", 1 << 39),
        ("tagged", 0xab00_0000_4000_0000),
        ("~7", !7),
    ] {
        test.rc(format_args!("A27.result at {name}"), hypercall::raw(XEN_VERSION, [5, address, 0, 0, 0]));
    }
}

fn flush() {
    // TLBI VMALLE1, between barriers that the probe makes.
    let _ = probe::execute(0xd508_871f, [0; 4]);
    let _ = probe::execute(0xd503_3f9f, [0; 4]);
}
