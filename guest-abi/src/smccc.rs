//! SMC calling convention: function ids of the architecture and of Xen's services.
//! Source: Arm DEN 0028, xen/include/public/arch-arm/smccc.h.

/// Major << 16 | minor of the calling convention.
pub const SMCCC_VERSION: u32 = 0x8000_0000;
/// Whether an architecture function exists.
pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// Which chip this is.
pub const SMCCC_ARCH_SOC_ID: u32 = 0x8000_0002;
/// Mitigate CVE-2017-5715 (Spectre v2).
pub const SMCCC_ARCH_WORKAROUND_1: u32 = 0x8000_8000;
/// Mitigate CVE-2018-3639 (Spectre v4); the argument switches it on or off.
pub const SMCCC_ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
/// Mitigate CVE-2022-23960 (Spectre-BHB).
pub const SMCCC_ARCH_WORKAROUND_3: u32 = 0x8000_3fff;

/// Standard service: number of functions.
pub const STANDARD_CALL_COUNT: u32 = 0x8400_ff00;
/// Standard service: [`SSSC_SMCCC_UID`] in w0 to w3.
pub const STANDARD_CALL_UID: u32 = 0x8400_ff01;
/// Standard service: revision, major in w0, minor in w1.
pub const STANDARD_CALL_REVISION: u32 = 0x8400_ff03;

/// Hypervisor service: number of functions.
pub const HYPERVISOR_CALL_COUNT: u32 = 0x8500_ff00;
/// Hypervisor service: [`XEN_SMCCC_UID`] in w0 to w3.
pub const HYPERVISOR_CALL_UID: u32 = 0x8500_ff01;
/// Hypervisor service: revision, major in w0, minor in w1.
pub const HYPERVISOR_CALL_REVISION: u32 = 0x8500_ff03;

/// Result of an unknown function, in x0.
pub const UNKNOWN_FUNCTION: i64 = -1;
/// Version 1.2, as [`SMCCC_VERSION`] returns it.
pub const SMCCC_VERSION_1_2: i64 = 0x1_0002;

/// Functions that a service always has: count, UID, revision. What Xen returns for [`HYPERVISOR_CALL_COUNT`].
pub const XEN_SMCCC_FUNCTION_COUNT: u32 = 3;
/// Major revision of both of Xen's services.
pub const XEN_SMCCC_MAJOR_REVISION: u32 = 0;
/// Minor revision of both of Xen's services.
pub const XEN_SMCCC_MINOR_REVISION: u32 = 1;
/// a71812dc-c698-4369-9acf-79d18ddee667, the bytes in the order of the text.
pub const XEN_SMCCC_UID: [u8; 16] = [0xa7, 0x18, 0x12, 0xdc, 0xc6, 0x98, 0x43, 0x69, 0x9a, 0xcf, 0x79, 0xd1, 0x8d, 0xde, 0xe6, 0x67];
/// f863386f-4b39-4cbd-9220-ce1641e59f6f, the bytes in the order of the text.
pub const SSSC_SMCCC_UID: [u8; 16] = [0xf8, 0x63, 0x38, 0x6f, 0x4b, 0x39, 0x4c, 0xbd, 0x92, 0x20, 0xce, 0x16, 0x41, 0xe5, 0x9f, 0x6f];
