//! Hypercall numbers, known and unknown, all with zero arguments; and HVC immediates.

use crate::runtime::{hypercall, probe, probe::Outcome};
use crate::verdict::Test;

/// Zero arguments are harmless to every hypercall: the first operation of each, on NULL or on nothing.
pub fn run(test: &mut Test) {
    for number in (0..=66).chain([127, 128, 255, 256, 1000, 1 << 31, u64::from(u32::MAX), 1 << 32 | 17, u64::MAX]) {
        test.rc(format_args!("{number:#x}"), hypercall::raw(number, [0; 5]));
    }
    // Only the hypercall's tag and 0 (SMCCC) are answered.
    for immediate in [1, 2, 3, 0x100, 0x4a48, 0xea0, 0xea2, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        test.answer(format_args!("hvc({immediate:#x})"), Outcome(probe::hvc(immediate, [0; 4]).map(|x| x[0])));
    }
    for immediate in [1, 0xea1, 0xffff] {
        test.answer(format_args!("smc({immediate:#x})"), Outcome(probe::smc(immediate, [0; 4]).map(|x| x[0])));
    }
}
