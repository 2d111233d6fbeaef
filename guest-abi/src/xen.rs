//! Hypercall numbers, domain ids, virtual interrupts, multicall. Source: xen/include/public/xen.h, arch-arm.h.

/// The immediate of the HVC instruction of a hypercall: number in x16, arguments in x0 to x4, result in x0.
pub const XEN_HYPERCALL_TAG: u16 = 0xea1;

/// Hypercall numbers (`__HYPERVISOR_*`), the value of x16.
pub mod hypercall {
    /// `platform_op`: see [`crate::platform`].
    pub const PLATFORM_OP: u64 = 7;
    /// `memory_op`: see [`crate::memory`].
    pub const MEMORY_OP: u64 = 12;
    /// A list of hypercalls: see [`super::MulticallEntry`].
    pub const MULTICALL: u64 = 13;
    /// `xen_version`: see [`crate::version`].
    pub const XEN_VERSION: u64 = 17;
    /// `console_io`: see [`crate::console`].
    pub const CONSOLE_IO: u64 = 18;
    /// `grant_table_op`: see [`crate::grant_table`].
    pub const GRANT_TABLE_OP: u64 = 20;
    /// `vm_assist`: see [`super::VMASST_CMD_ENABLE`].
    pub const VM_ASSIST: u64 = 21;
    /// `vcpu_op`: see [`crate::vcpu`].
    pub const VCPU_OP: u64 = 24;
    /// `xsm_op`: the security module's own calls (FLASK).
    pub const XSM_OP: u64 = 27;
    /// `sched_op`: see [`crate::sched`].
    pub const SCHED_OP: u64 = 29;
    /// `event_channel_op`: see [`crate::event_channel`].
    pub const EVENT_CHANNEL_OP: u64 = 32;
    /// `physdev_op`: see [`crate::physdev`].
    pub const PHYSDEV_OP: u64 = 33;
    /// `hvm_op`: see [`crate::hvm`].
    pub const HVM_OP: u64 = 34;
    /// `sysctl`: see [`crate::sysctl`].
    pub const SYSCTL: u64 = 35;
    /// `domctl`: see [`crate::domctl`].
    pub const DOMCTL: u64 = 36;
    /// `argo_op`: messages between domains.
    pub const ARGO_OP: u64 = 39;
    /// `dm_op`: device models.
    pub const DM_OP: u64 = 41;
    /// `hypfs_op`: the hypervisor's parameter tree.
    pub const HYPFS_OP: u64 = 42;
}

/// Ids from here on do not name ordinary domains.
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;
/// The caller.
pub const DOMID_SELF: u16 = 0x7ff0;
/// Owner of MMIO pages.
pub const DOMID_IO: u16 = 0x7ff1;
/// Owner of the hypervisor's pages.
pub const DOMID_XEN: u16 = 0x7ff2;
/// Owner of shared copy-on-write pages. x86 only.
pub const DOMID_COW: u16 = 0x7ff3;
/// No domain.
pub const DOMID_INVALID: u16 = 0x7ff4;
/// The idle domain.
pub const DOMID_IDLE: u16 = 0x7fff;
/// The bits of a valid id.
pub const DOMID_MASK: u16 = 0x7fff;

/// A timer of the hypervisor fired. Per vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// The guest shall print its state. Per vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Bytes came in on the serial line.
pub const VIRQ_CONSOLE: u32 = 2;
/// A domain was created, shut down or destroyed: xenstored looks which.
pub const VIRQ_DOM_EXC: u32 = 3;
/// The trace buffer has records.
pub const VIRQ_TBUF: u32 = 4;
/// A domain stopped for the debugger.
pub const VIRQ_DEBUGGER: u32 = 6;
/// Profiling sample. Per vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// The hypervisor printed something.
pub const VIRQ_CON_RING: u32 = 8;
/// A physical CPU went on or off line.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// A memory event has occurred.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// An Argo message.
pub const VIRQ_ARGO: u32 = 11;
/// Little heap is left.
pub const VIRQ_ENOMEM: u32 = 12;
/// A performance counter overflowed. Per vCPU.
pub const VIRQ_XENPMU: u32 = 13;
/// First of eight that belong to the architecture.
pub const VIRQ_ARCH_0: u32 = 16;
/// How many there are.
pub const NR_VIRQS: u32 = 24;

/// `vm_assist`: switch an assist on.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// `vm_assist`: switch an assist off.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// The assist that sets [`crate::vcpu::XEN_RUNSTATE_UPDATE`] around updates. The only one on Arm.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;

wire! {
    /// `struct multicall_entry`: one hypercall of a list.
    MulticallEntry, 64 bytes {
        /// In: the hypercall number.
        0 => op: u64,
        /// Out: what it returned, sign extended.
        8 => result: u64,
        /// In: arguments; Arm uses the first five.
        16 => args: [u64; 6],
    }
}

wire! {
    /// `struct xenctl_bitmap`: a bitmap in the caller's memory, byte array, bit 0 of byte 0 first.
    XenctlBitmap, 16 bytes {
        /// In: where the bytes are.
        0 => bitmap: crate::GuestHandle,
        /// In: how many bits.
        8 => nr_bits: u32,
        #[doc(hidden)]
        12 => _pad: u32,
    }
}
