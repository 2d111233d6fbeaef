//! PSCI and SMCCC, by HVC and by SMC (misuse A13, A21, A22).

use crate::runtime::{hypercall, probe, smp};
use crate::verdict::Test;
use guest_abi::psci::*;
use guest_abi::smccc::*;

pub fn run(test: &mut Test) {
    // What does something: suspend, off (also of PSCI 0.1), system off and reset.
    let harmless = |id: &u32| !matches!(*id, 1 | 0x8400_0001 | 0xc400_0001 | 0x8400_0002 | 0x8400_0008 | 0x8400_0009);
    let ranges = [
        0..=8_u32,
        0x8000_0000..=0x8000_0004,
        0x8400_0000..=0x8400_0020,
        0xc400_0000..=0xc400_0020,
        0x8400_ff00..=0x8400_ff04,
        0x8500_ff00..=0x8500_ff04,
        0x8600_ff00..=0x8600_ff04,
    ];
    let others = [
        SMCCC_ARCH_WORKAROUND_1,
        SMCCC_ARCH_WORKAROUND_2,
        SMCCC_ARCH_WORKAROUND_3,
        0x8000_fffe,
        0xc000_0000,
        0x8100_0000,
        0x8200_0000,
        0x8200_ff01,
        0x8300_0000,
        0x8400_0050,
        0xc400_0050,
        0x8500_0000,
        0xc500_0020,
        0x8600_0000,
        0xc600_0000,
        0x8600_ff00 | 1 << 30,
        0xb200_0000,
        0xf200_ff01,
        0xbf00_ff01,
        0x0400_0000,
        0x7fff_ffff,
        0xffff_ffff,
    ];
    for id in ranges.into_iter().flatten().chain(others).filter(harmless) {
        let show = |x: [u64; 4]| (x[0] as i64, x[1] as u32, x[2] as u32, x[3] as u32);
        let (a, b, c, d) = show(hypercall::firmware4(id.into(), [0; 3]));
        test.answer(format_args!("hvc({id:#x})"), format_args!("{a:#x} {b:#x} {c:#x} {d:#x}"));
        match probe::smc(0, [id.into(), 0, 0, 0]).map(show) {
            Ok((a, b, c, d)) => test.answer(format_args!("smc({id:#x})"), format_args!("{a:#x} {b:#x} {c:#x} {d:#x}")),
            Err(fault) => test.answer(format_args!("smc({id:#x})"), fault),
        }
    }
    for id in (0x8400_0000..=0x8400_0015).chain(0xc400_0000..=0xc400_0015).chain([0x8000_0000, 0x8000_0001, 0, 1, 0x8600_ff00, u32::MAX]) {
        test.rc(format_args!("psci_features({id:#x})"), hypercall::firmware(PSCI_FEATURES, [id.into(), 0, 0]));
    }
    for id in [
        0x8000_0000,
        0x8000_0001,
        0x8000_0002,
        SMCCC_ARCH_WORKAROUND_1,
        SMCCC_ARCH_WORKAROUND_2,
        SMCCC_ARCH_WORKAROUND_3,
        PSCI_VERSION,
        0xffff_ffff,
    ] {
        test.rc(format_args!("arch_features({id:#x})"), hypercall::firmware(SMCCC_ARCH_FEATURES, [id.into(), 0, 0]));
    }
    for (name, target) in
        [("0", 0), ("1", 1), ("2", 2), ("15", 15), ("aff1", 0x100), ("aff3", 1 << 32), ("~0", u64::MAX), ("bit31", 1 << 31)]
    {
        for level in [0, 1, 2, 3, 4, 0xffff_ffff] {
            test.rc(format_args!("affinity_info({name},{level})"), hypercall::firmware(AFFINITY_INFO_64, [target, level, 0]));
        }
        if target != 1 {
            test.rc(format_args!("cpu_on({name})"), hypercall::firmware(CPU_ON_64, [target, smp::entry(), 1]));
        }
    }
    // To the second vCPU: addresses that are refused.
    for (name, entry) in [("odd", 1), ("thumb", smp::entry() | 1)] {
        test.rc(format_args!("cpu_on(1,{name})"), hypercall::firmware(CPU_ON_64, [1, entry, 0]));
    }
    // Bits above 32 of the function are not part of it.
    test.rc("version(x0 bit 32)", hypercall::firmware4(1 << 32 | u64::from(PSCI_VERSION), [0; 3])[0].cast_signed());
}
