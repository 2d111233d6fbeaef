//! `vcpu_op`: where the shared structures of a vCPU lie. Source: xen/include/public/vcpu.h.

pub use crate::xen::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG};

/// Bring a vCPU up. x86 only: Arm has PSCI.
pub const VCPUOP_INITIALISE: u32 = 0;
/// x86 only.
pub const VCPUOP_UP: u32 = 1;
/// x86 only.
pub const VCPUOP_DOWN: u32 = 2;
/// x86 only.
pub const VCPUOP_IS_UP: u32 = 3;
/// Copy the run states out. Not on Arm.
pub const VCPUOP_GET_RUNSTATE_INFO: u32 = 4;
/// Keep a [`RunstateInfo`] up to date at a virtual address: [`RegisterRunstateMemoryArea`].
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
/// x86 only.
pub const VCPUOP_SET_PERIODIC_TIMER: u32 = 6;
/// x86 only.
pub const VCPUOP_STOP_PERIODIC_TIMER: u32 = 7;
/// x86 only.
pub const VCPUOP_SET_SINGLESHOT_TIMER: u32 = 8;
/// x86 only.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u32 = 9;
/// Move the vCPU's [`crate::shared_info::VcpuInfo`]: [`RegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u32 = 10;
/// x86 only.
pub const VCPUOP_SEND_NMI: u32 = 11;
/// x86 only.
pub const VCPUOP_GET_PHYSID: u32 = 12;
/// x86 only.
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;
/// Advertised by a feature bit, and refused on Arm.
pub const VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: u32 = 14;
/// x86 only.
pub const VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: u32 = 15;

/// The vCPU is on a CPU.
pub const RUNSTATE_RUNNING: i32 = 0;
/// It could run, but waits for a CPU.
pub const RUNSTATE_RUNNABLE: i32 = 1;
/// It waits for an event.
pub const RUNSTATE_BLOCKED: i32 = 2;
/// It is off, or paused.
pub const RUNSTATE_OFFLINE: i32 = 3;

/// In `state_entry_time`: an update is in progress. Only with [`VMASST_TYPE_RUNSTATE_UPDATE_FLAG`].
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;

wire! {
    /// `struct vcpu_runstate_info`.
    RunstateInfo, 48 bytes {
        /// `RUNSTATE_*`.
        0 => state: i32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// When the state was entered, nanoseconds of system time.
        8 => state_entry_time: u64,
        /// Nanoseconds spent in each state.
        16 => time: [u64; 4],
    }
}
wire! {
    /// `struct vcpu_register_runstate_memory_area`.
    RegisterRunstateMemoryArea, 8 bytes {
        /// In: where to keep the [`RunstateInfo`].
        0 => addr: crate::GuestHandle,
    }
}
wire! {
    /// `struct vcpu_register_vcpu_info`.
    RegisterVcpuInfo, 16 bytes {
        /// In: guest frame number of the page.
        0 => mfn: u64,
        /// In: offset in the page; the structure must not cross its end.
        8 => offset: u32,
        /// Unused.
        12 => rsvd: u32,
    }
}
