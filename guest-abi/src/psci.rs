//! Power State Coordination Interface: function ids and results. Source: Arm DEN 0022, version 1.1.
//!
//! Called with HVC #0 or SMC #0, function id in w0, arguments in x1 to x3, result in x0. Functions with pointers or CPU ids have
//! a 32-bit and a 64-bit form.

/// Major << 16 | minor.
pub const PSCI_VERSION: u32 = 0x8400_0000;
/// Wait for an interrupt.
pub const CPU_SUSPEND_32: u32 = 0x8400_0001;
/// As [`CPU_SUSPEND_32`].
pub const CPU_SUSPEND_64: u32 = 0xc400_0001;
/// The caller's CPU goes off.
pub const CPU_OFF: u32 = 0x8400_0002;
/// A CPU goes on: MPIDR, entry point, context id.
pub const CPU_ON_32: u32 = 0x8400_0003;
/// As [`CPU_ON_32`].
pub const CPU_ON_64: u32 = 0xc400_0003;
/// Whether a CPU is on: MPIDR, lowest affinity level. Returns `AFFINITY_LEVEL_*`.
pub const AFFINITY_INFO_32: u32 = 0x8400_0004;
/// As [`AFFINITY_INFO_32`].
pub const AFFINITY_INFO_64: u32 = 0xc400_0004;
/// Move the trusted OS.
pub const MIGRATE_32: u32 = 0x8400_0005;
/// As [`MIGRATE_32`].
pub const MIGRATE_64: u32 = 0xc400_0005;
/// Whether the trusted OS can move; [`TOS_NOT_PRESENT_OR_MP`].
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// Where the trusted OS is.
pub const MIGRATE_INFO_UP_CPU_32: u32 = 0x8400_0007;
/// As [`MIGRATE_INFO_UP_CPU_32`].
pub const MIGRATE_INFO_UP_CPU_64: u32 = 0xc400_0007;
/// The machine goes off.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// The machine restarts.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// Whether a function exists.
pub const PSCI_FEATURES: u32 = 0x8400_000a;
/// Optional; not in Xen.
pub const CPU_FREEZE: u32 = 0x8400_000b;
/// Optional; not in Xen.
pub const CPU_DEFAULT_SUSPEND_32: u32 = 0x8400_000c;
/// Optional; not in Xen.
pub const CPU_DEFAULT_SUSPEND_64: u32 = 0xc400_000c;
/// Optional; not in Xen.
pub const NODE_HW_STATE_32: u32 = 0x8400_000d;
/// Optional; not in Xen.
pub const NODE_HW_STATE_64: u32 = 0xc400_000d;
/// Optional; not in Xen.
pub const SYSTEM_SUSPEND_32: u32 = 0x8400_000e;
/// Optional; not in Xen.
pub const SYSTEM_SUSPEND_64: u32 = 0xc400_000e;
/// Optional; not in Xen.
pub const SYSTEM_RESET2_32: u32 = 0x8400_0012;
/// Optional; not in Xen.
pub const SYSTEM_RESET2_64: u32 = 0xc400_0012;

/// `cpu_off` of PSCI 0.1, whose function ids the device tree chooses. Source: xen/include/public/arch-arm.h.
pub const PSCI_0_1_CPU_OFF: u32 = 1;
/// `cpu_on` of PSCI 0.1.
pub const PSCI_0_1_CPU_ON: u32 = 2;

/// Version 1.1, as [`PSCI_VERSION`] returns it.
pub const PSCI_VERSION_1_1: i64 = 0x1_0001;

/// Done.
pub const SUCCESS: i64 = 0;
/// No such function.
pub const NOT_SUPPORTED: i64 = -1;
/// No such CPU, for example.
pub const INVALID_PARAMETERS: i64 = -2;
/// Not allowed.
pub const DENIED: i64 = -3;
/// The CPU is on already.
pub const ALREADY_ON: i64 = -4;
/// The CPU is about to be on.
pub const ON_PENDING: i64 = -5;
/// Any other error.
pub const INTERNAL_FAILURE: i64 = -6;
/// The trusted OS is not there.
pub const NOT_PRESENT: i64 = -7;
/// The CPU cannot be used.
pub const DISABLED: i64 = -8;
/// The entry point cannot be used.
pub const INVALID_ADDRESS: i64 = -9;

/// The CPU is on.
pub const AFFINITY_LEVEL_ON: i64 = 0;
/// The CPU is off.
pub const AFFINITY_LEVEL_OFF: i64 = 1;
/// The CPU is about to be on.
pub const AFFINITY_LEVEL_ON_PENDING: i64 = 2;

/// [`MIGRATE_INFO_TYPE`]: there is no trusted OS that would have to move.
pub const TOS_NOT_PRESENT_OR_MP: i64 = 2;
