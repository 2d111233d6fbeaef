//! Calls of a guest to its firmware, which we are: PSCI 1.1 (and 0.2, 0.1) and the SMCCC services of Xen.
//!
//! [`Call::decode`] answers at once what depends on nothing, and names the rest for the caller to do. Source: Arm DEN 0022 and DEN 0028;
//! answers as Xen 4.20's vpsci and vsmc.

use crate::context::VcpuContext;
use crate::exit::Conduit;
use crate::mmio::{register, set_register};
use guest_abi::{psci as abi, smccc};

/// How the host fares with speculation attacks that a guest can ask about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mitigations {
    /// The branch predictor is hardened at every exception entry.
    pub branch_predictor: bool,
    /// The branch history is cleared at every exception entry (which hardens the predictor as well).
    pub branch_history: bool,
    /// Speculative store bypass.
    pub store_bypass: StoreBypass,
}

/// Speculative store bypass on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StoreBypass {
    /// Not known, or the mitigation is disabled.
    #[default]
    Unknown,
    /// The firmware switches the mitigation.
    Switchable,
    /// Not affected, or always mitigated.
    NotRequired,
}

/// What a guest asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Nothing is to be done: put this into the registers.
    Answer(Answer),
    /// Start a vCPU, if [`CpuOn::refuse`] does not refuse; then 0.
    CpuOn(CpuOn),
    /// Stop this vCPU; 0 if it ever returns.
    CpuOff,
    /// [`abi::AFFINITY_LEVEL_ON`] if any vCPU that [`Affinity::includes`] is on, else [`abi::AFFINITY_LEVEL_OFF`].
    AffinityInfo(Affinity),
    /// Wait for an interrupt as WFI does; 0 then.
    Suspend,
    /// Shut the domain down for power-off; [`abi::INTERNAL_FAILURE`] should the vCPU continue.
    SystemOff,
    /// Shut the domain down for reboot; [`abi::INTERNAL_FAILURE`] should the vCPU continue.
    SystemReset,
    /// Switch the mitigation of speculative store bypass for this vCPU; no result register.
    StoreBypassMitigation(bool),
}

/// Result registers, from x0 on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    values: [u64; 4],
    count: u8,
}

impl Answer {
    /// A status or number in x0.
    pub const fn status(value: i64) -> Self {
        Self { values: [value as u64, 0, 0, 0], count: 1 }
    }

    /// No result.
    const NONE: Self = Self { values: [0; 4], count: 0 };

    fn revision(major: u32, minor: u32) -> Self {
        Self { values: [major.into(), minor.into(), 0, 0], count: 2 }
    }

    /// Four bytes a register, the first in the lowest bits.
    const fn uid(uid: [u8; 16]) -> Self {
        let n = u128::from_le_bytes(uid);
        Self { values: [n as u32 as u64, (n >> 32) as u32 as u64, (n >> 64) as u32 as u64, (n >> 96) as u64], count: 4 }
    }

    /// Writes the registers. What has no result clears x0 when called by HVC, as Xen's short way for the workarounds does.
    pub fn apply(&self, context: &mut VcpuContext, conduit: Conduit) {
        if self.count == 0 && conduit == Conduit::Hvc {
            set_register(context, 0, 0);
        }
        for (n, value) in (0..self.count).zip(self.values) {
            set_register(context, n, value);
        }
    }
}

/// A request to start a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuOn {
    /// The vCPU; it may not exist.
    pub vcpu: u32,
    /// Where it starts.
    pub entry: u64,
    /// Its x0.
    pub context: u64,
    /// PSCI 0.1, which knows fewer errors.
    v0_1: bool,
}

impl CpuOn {
    /// Why it cannot be done, given whether the vCPU exists and is on.
    pub fn refuse(&self, exists: bool, online: bool) -> Option<Answer> {
        let detailed = |error| if self.v0_1 { abi::INVALID_PARAMETERS } else { error };
        let error = if !exists {
            abi::INVALID_PARAMETERS
        } else if self.entry & 1 != 0 {
            detailed(abi::INVALID_ADDRESS)
        } else if online {
            detailed(abi::ALREADY_ON)
        } else {
            return None;
        };
        Some(Answer::status(error))
    }
}

/// A set of vCPUs by affinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    target: u64,
    mask: u64,
}

impl Affinity {
    /// The affinity fields of MPIDR.
    const FIELDS: u64 = 0xff_00ff_ffff;

    /// `level` and higher must match.
    fn new(target: u64, level: u32) -> Option<Self> {
        let mask = match level {
            0 => Self::FIELDS,
            1 => Self::FIELDS & !0xff,
            2 => Self::FIELDS & !0xffff,
            3 => Self::FIELDS & !0xff_ffff,
            _ => return None,
        };
        Some(Self { target: target & mask, mask })
    }

    /// Whether `vcpu` is one of them.
    pub fn includes(&self, vcpu: u32) -> bool {
        mpidr(vcpu) & self.mask == self.target
    }
}

/// `VMPIDR_EL2` of a vCPU: 16 to a cluster.
pub const fn mpidr(vcpu: u32) -> u64 {
    const RES1: u64 = 1 << 31;
    RES1 | (vcpu & 0xf) as u64 | ((vcpu >> 4 & 0xff) as u64) << 8
}

/// The vCPU of an MPIDR; Xen looks at no more than the two lowest levels.
const fn vcpu_of(mpidr: u64) -> u32 {
    (mpidr & 0xff | (mpidr >> 8 & 0xff) << 4) as u32
}

/// SMCCC_ARCH_FEATURES: this CPU does not need the workaround.
const NOT_REQUIRED: i64 = -2;

/// PSCI functions that PSCI_FEATURES reports.
const SUPPORTED: [u32; 13] = [
    abi::PSCI_VERSION,
    abi::CPU_SUSPEND_32,
    abi::CPU_SUSPEND_64,
    abi::CPU_OFF,
    abi::CPU_ON_32,
    abi::CPU_ON_64,
    abi::AFFINITY_INFO_32,
    abi::AFFINITY_INFO_64,
    abi::MIGRATE_INFO_TYPE,
    abi::SYSTEM_OFF,
    abi::SYSTEM_RESET,
    abi::PSCI_FEATURES,
    smccc::SMCCC_VERSION,
];

impl Call {
    /// Decodes a call from its registers.
    pub fn decode(context: &VcpuContext, mitigations: &Mitigations) -> Self {
        let x = |n| register(context, n);
        let w = |n| register(context, n) as u32;
        let status = |value| Self::Answer(Answer::status(value));
        match w(0) {
            abi::PSCI_VERSION => status(abi::PSCI_VERSION_1_1),
            abi::CPU_SUSPEND_32 | abi::CPU_SUSPEND_64 => Self::Suspend,
            abi::CPU_OFF | abi::PSCI_0_1_CPU_OFF => Self::CpuOff,
            abi::CPU_ON_32 | abi::CPU_ON_64 => Self::CpuOn(CpuOn { vcpu: vcpu_of(x(1)), entry: x(2), context: x(3), v0_1: false }),
            abi::PSCI_0_1_CPU_ON => Self::CpuOn(CpuOn { vcpu: vcpu_of(w(1).into()), entry: x(2), context: 0, v0_1: true }),
            abi::AFFINITY_INFO_32 | abi::AFFINITY_INFO_64 => {
                Affinity::new(x(1), w(2)).map_or(status(abi::INVALID_PARAMETERS), Self::AffinityInfo)
            }
            abi::MIGRATE_INFO_TYPE => status(abi::TOS_NOT_PRESENT_OR_MP),
            abi::SYSTEM_OFF => Self::SystemOff,
            abi::SYSTEM_RESET => Self::SystemReset,
            abi::PSCI_FEATURES => status(if SUPPORTED.contains(&w(1)) { abi::SUCCESS } else { abi::NOT_SUPPORTED }),
            smccc::SMCCC_VERSION => status(smccc::SMCCC_VERSION_1_2),
            smccc::SMCCC_ARCH_FEATURES => status(architecture_feature(w(1), mitigations)),
            smccc::SMCCC_ARCH_WORKAROUND_1 | smccc::SMCCC_ARCH_WORKAROUND_3 => Self::Answer(Answer::NONE),
            smccc::SMCCC_ARCH_WORKAROUND_2 if mitigations.store_bypass == StoreBypass::Switchable => Self::StoreBypassMitigation(w(1) != 0),
            smccc::SMCCC_ARCH_WORKAROUND_2 => Self::Answer(Answer::NONE),
            smccc::HYPERVISOR_CALL_COUNT => status(smccc::XEN_SMCCC_FUNCTION_COUNT.into()),
            smccc::HYPERVISOR_CALL_UID => Self::Answer(Answer::uid(smccc::XEN_SMCCC_UID)),
            // The three of the service itself, and 12 of PSCI.
            smccc::STANDARD_CALL_COUNT => status(15),
            smccc::STANDARD_CALL_UID => Self::Answer(Answer::uid(smccc::SSSC_SMCCC_UID)),
            smccc::HYPERVISOR_CALL_REVISION | smccc::STANDARD_CALL_REVISION => {
                Self::Answer(Answer::revision(smccc::XEN_SMCCC_MAJOR_REVISION, smccc::XEN_SMCCC_MINOR_REVISION))
            }
            _ => status(smccc::UNKNOWN_FUNCTION),
        }
    }
}

/// SMCCC_ARCH_FEATURES.
fn architecture_feature(function: u32, mitigations: &Mitigations) -> i64 {
    let supported = match function {
        smccc::SMCCC_ARCH_WORKAROUND_1 => mitigations.branch_predictor || mitigations.branch_history,
        smccc::SMCCC_ARCH_WORKAROUND_2 if mitigations.store_bypass == StoreBypass::NotRequired => return NOT_REQUIRED,
        smccc::SMCCC_ARCH_WORKAROUND_2 => mitigations.store_bypass == StoreBypass::Switchable,
        smccc::SMCCC_ARCH_WORKAROUND_3 => mitigations.branch_history,
        _ => false,
    };
    if supported { abi::SUCCESS } else { abi::NOT_SUPPORTED }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_with(x: [u64; 4], mitigations: Mitigations) -> Call {
        let mut context = VcpuContext::default();
        context.x[..4].copy_from_slice(&x);
        Call::decode(&context, &mitigations)
    }

    fn call(x: [u64; 4]) -> Call {
        call_with(x, Mitigations::default())
    }

    fn answer(x: [u64; 4]) -> [u64; 4] {
        let mut context = VcpuContext::default();
        context.x[..4].copy_from_slice(&x);
        match call(x) {
            Call::Answer(answer) => answer.apply(&mut context, Conduit::Smc),
            other => panic!("{other:?}"),
        }
        context.x[..4].try_into().unwrap()
    }

    #[test]
    fn a_workaround_by_hvc_clears_x0() {
        let mut context = VcpuContext::default();
        context.x[..2].copy_from_slice(&[0x8000_8000, 7]);
        let Call::Answer(answer) = Call::decode(&context, &Mitigations::default()) else { panic!() };
        answer.apply(&mut context, Conduit::Hvc);
        assert_eq!(context.x[..2], [0, 7]);
    }

    const MINUS_1: u64 = u64::MAX;

    #[test]
    fn fixed_answers_change_no_other_register() {
        assert_eq!(answer([0x8400_0000, 7, 8, 9]), [0x1_0001, 7, 8, 9]);
        assert_eq!(answer([0x8400_0006, 7, 8, 9]), [2, 7, 8, 9]);
        assert_eq!(answer([0x8000_0000, 7, 8, 9]), [0x1_0002, 7, 8, 9]);
        assert_eq!(answer([0x8500_ff00, 7, 8, 9]), [3, 7, 8, 9]);
        assert_eq!(answer([0x8500_ff03, 7, 8, 9]), [0, 1, 8, 9]);
        assert_eq!(answer([0x8500_ff01, 7, 8, 9]), [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d]);
        assert_eq!(answer([0x8400_ff01, 7, 8, 9]), [0x6f38_63f8, 0xbd4c_394b, 0x16ce_2092, 0x6f9f_e541]);
        assert_eq!(answer([0x8000_8000, 7, 8, 9]), [0x8000_8000, 7, 8, 9]);
        assert_eq!(answer([0xffff_ffff_8400_0000, 7, 8, 9])[0], 0x1_0001, "only 32 bits name the function");
    }

    #[test]
    fn unknown_functions_are_minus_one() {
        let migrate_suspend_reset2_and_others = [
            0x8400_0005,
            0xc400_0005,
            0x8400_000b,
            0x8400_000e,
            0xc400_0012,
            0,
            3,
            0x8200_0000,
            0x8400_0050,
            0x8600_ff00,
            0xc600_0000,
            0xbf00_ff01,
            0x0400_0000,
        ];
        for function in migrate_suspend_reset2_and_others {
            assert_eq!(answer([function, 0, 0, 0]), [MINUS_1, 0, 0, 0], "{function:#x}");
        }
    }

    #[test]
    fn features() {
        for function in 0x8400_0000..0x8400_0020u64 {
            let known = [0, 1, 2, 3, 4, 6, 8, 9, 0xa].contains(&(function & 0x1f));
            assert_eq!(answer([0x8400_000a, function, 0, 0])[0], if known { 0 } else { MINUS_1 }, "{function:#x}");
        }
        assert_eq!(answer([0x8400_000a, 0x8000_0000, 0, 0])[0], 0);
        assert_eq!(answer([0x8400_000a, 0x8000_0001, 0, 0])[0], MINUS_1);
    }

    #[test]
    fn starting_a_vcpu() {
        let Call::CpuOn(on) = call([0xc400_0003, 0x8000_0102, 0x4008_0000, 0x1234]) else { panic!() };
        assert_eq!((on.vcpu, on.entry, on.context), (18, 0x4008_0000, 0x1234));
        assert_eq!(on.refuse(true, false), None);
        assert_eq!(on.refuse(false, false), Some(Answer::status(-2)));
        assert_eq!(on.refuse(true, true), Some(Answer::status(-4)));
        let Call::CpuOn(odd) = call([0x8400_0003, 0, 0x4008_0001, 0]) else { panic!() };
        assert_eq!(odd.refuse(true, true), Some(Answer::status(-9)));
        assert_eq!(odd.refuse(false, true), Some(Answer::status(-2)));
    }

    #[test]
    fn the_first_version_has_one_error() {
        let Call::CpuOn(on) = call([2, 0xffff_0000_0000_0001, 0x4008_0001, 0x1234]) else { panic!() };
        assert_eq!((on.vcpu, on.context), (1, 0));
        for (exists, online) in [(false, false), (true, false), (true, true)] {
            assert_eq!(on.refuse(exists, online), Some(Answer::status(-2)));
        }
        assert_eq!(call([1, 0, 0, 0]), Call::CpuOff);
    }

    #[test]
    fn affinity_by_level() {
        let info = |target, level| match call([0xc400_0004, target, level, 0]) {
            Call::AffinityInfo(affinity) => affinity,
            other => panic!("{other:?}"),
        };
        assert!(info(3, 0).includes(3) && !info(3, 0).includes(2) && !info(3, 0).includes(19));
        assert!(info(0x100, 1).includes(16) && info(0x1ff, 1).includes(31) && !info(0x100, 1).includes(3));
        assert!(info(0, 2).includes(127) && info(0, 3).includes(0));
        assert!(!info(1 << 32, 0).includes(0));
        assert_eq!(answer([0x8400_0004, 0, 4, 0])[0], -2i64 as u64);
    }

    #[test]
    fn calls_to_be_done() {
        assert_eq!(call([0x8400_0002, 0, 0, 0]), Call::CpuOff);
        assert_eq!(call([0xc400_0001, 0x1_0000, 1, 0]), Call::Suspend);
        assert_eq!(call([0x8400_0008, 0, 0, 0]), Call::SystemOff);
        assert_eq!(call([0x8400_0009, 0, 0, 0]), Call::SystemReset);
    }

    #[test]
    fn workarounds_as_the_host_has_them() {
        let ask = |function, mitigations| call_with([0x8000_0001, function, 0, 0], mitigations);
        let all = Mitigations { branch_predictor: false, branch_history: true, store_bypass: StoreBypass::Switchable };
        for function in [0x8000_8000, 0x8000_7fff, 0x8000_3fff] {
            assert_eq!(ask(function, Mitigations::default()), Call::Answer(Answer::status(-1)));
            assert_eq!(ask(function, all), Call::Answer(Answer::status(0)));
        }
        let unaffected = Mitigations { store_bypass: StoreBypass::NotRequired, ..Mitigations::default() };
        assert_eq!(ask(0x8000_7fff, unaffected), Call::Answer(Answer::status(-2)));
        assert_eq!(ask(0x8000_0000, all), Call::Answer(Answer::status(-1)));
        assert_eq!(call_with([0x8000_7fff, 1, 0, 0], all), Call::StoreBypassMitigation(true));
        assert_eq!(call_with([0x8000_7fff, 1, 0, 0], unaffected), Call::Answer(Answer::NONE));
    }
}
