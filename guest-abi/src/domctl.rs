//! `domctl`: the toolstack creates, looks at and destroys domains. Source: xen/include/public/domctl.h.
//!
//! The argument points to [`DOMCTL_SIZE`] bytes: the head [`Domctl`], and at [`DOMCTL_PAYLOAD_OFFSET`] a union of the payloads below.
//! Commands that only x86 has are not listed.

use crate::GuestHandle;
use crate::arch_arm::ArchDomainConfig;
use crate::xen::XenctlBitmap;

/// What `interface_version` must be.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x17;
/// Bytes of `struct xen_domctl`.
pub const DOMCTL_SIZE: usize = 144;
/// Where its union starts.
pub const DOMCTL_PAYLOAD_OFFSET: usize = 16;

/// [`CreateDomain`].
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// No payload.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// No payload.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// No payload.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// [`GetDomainInfo`].
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
/// [`VcpuAffinity`].
pub const XEN_DOMCTL_SETVCPUAFFINITY: u32 = 9;
/// [`MaxMem`].
pub const XEN_DOMCTL_MAX_MEM: u32 = 11;
/// [`VcpuContext`].
pub const XEN_DOMCTL_SETVCPUCONTEXT: u32 = 12;
/// [`VcpuContext`].
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
/// [`GetVcpuInfo`].
pub const XEN_DOMCTL_GETVCPUINFO: u32 = 14;
/// [`MaxVcpus`].
pub const XEN_DOMCTL_MAX_VCPUS: u32 = 15;
/// [`SchedulerOp`].
pub const XEN_DOMCTL_SCHEDULER_OP: u32 = 16;
/// [`SetDomainHandle`].
pub const XEN_DOMCTL_SETDOMAINHANDLE: u32 = 17;
/// [`SetDebugging`].
pub const XEN_DOMCTL_SETDEBUGGING: u32 = 18;
/// [`IrqPermission`].
pub const XEN_DOMCTL_IRQ_PERMISSION: u32 = 19;
/// [`IomemPermission`].
pub const XEN_DOMCTL_IOMEM_PERMISSION: u32 = 20;
/// [`SetTimeOffset`].
pub const XEN_DOMCTL_SETTIMEOFFSET: u32 = 24;
/// [`VcpuAffinity`].
pub const XEN_DOMCTL_GETVCPUAFFINITY: u32 = 25;
/// No payload.
pub const XEN_DOMCTL_RESUMEDOMAIN: u32 = 27;
/// [`SendTrigger`].
pub const XEN_DOMCTL_SENDTRIGGER: u32 = 28;
/// [`Subscribe`].
pub const XEN_DOMCTL_SUBSCRIBE: u32 = 29;
/// [`AddressSize`].
pub const XEN_DOMCTL_SET_ADDRESS_SIZE: u32 = 35;
/// [`AddressSize`].
pub const XEN_DOMCTL_GET_ADDRESS_SIZE: u32 = 36;
/// [`AssignDevice`].
pub const XEN_DOMCTL_ASSIGN_DEVICE: u32 = 37;
/// [`BindPtIrq`].
pub const XEN_DOMCTL_BIND_PT_IRQ: u32 = 38;
/// [`MemoryMapping`].
pub const XEN_DOMCTL_MEMORY_MAPPING: u32 = 39;
/// [`AssignDevice`].
pub const XEN_DOMCTL_TEST_ASSIGN_DEVICE: u32 = 45;
/// [`SetTarget`].
pub const XEN_DOMCTL_SET_TARGET: u32 = 46;
/// [`AssignDevice`].
pub const XEN_DOMCTL_DEASSIGN_DEVICE: u32 = 47;
/// [`BindPtIrq`].
pub const XEN_DOMCTL_UNBIND_PT_IRQ: u32 = 48;
/// Memory events.
pub const XEN_DOMCTL_VM_EVENT_OP: u32 = 56;
/// Memory events.
pub const XEN_DOMCTL_SET_ACCESS_REQUIRED: u32 = 64;
/// [`SetVirqHandler`].
pub const XEN_DOMCTL_SET_VIRQ_HANDLER: u32 = 66;
/// [`NodeAffinity`].
pub const XEN_DOMCTL_SETNODEAFFINITY: u32 = 68;
/// [`NodeAffinity`].
pub const XEN_DOMCTL_GETNODEAFFINITY: u32 = 69;
/// [`CacheFlush`].
pub const XEN_DOMCTL_CACHEFLUSH: u32 = 71;
/// [`Vnuma`].
pub const XEN_DOMCTL_SETVNUMAINFO: u32 = 74;
/// Memory events.
pub const XEN_DOMCTL_MONITOR_OP: u32 = 77;
/// No payload. Not on Arm.
pub const XEN_DOMCTL_SOFT_RESET: u32 = 79;
/// [`VuartOp`].
pub const XEN_DOMCTL_VUART_OP: u32 = 81;
/// [`PagingMempool`].
pub const XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE: u32 = 85;
/// [`PagingMempool`].
pub const XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE: u32 = 86;
/// [`DtOverlay`].
pub const XEN_DOMCTL_DT_OVERLAY: u32 = 87;
/// [`SetLlcColors`].
pub const XEN_DOMCTL_SET_LLC_COLORS: u32 = 89;

wire! {
    /// The head of `struct xen_domctl`.
    Domctl, 16 bytes {
        /// In: `XEN_DOMCTL_*`.
        0 => cmd: u32,
        /// In: [`XEN_DOMCTL_INTERFACE_VERSION`].
        4 => interface_version: u32,
        /// In: the domain; out: the id of a new one.
        8 => domain: u16,
        #[doc(hidden)]
        10 => _pad: [u16; 3],
    }
}

/// Hardware virtualised. Always set on Arm.
pub const XEN_DOMCTL_CDF_HVM: u32 = 1 << 0;
/// Hardware-assisted paging. Always set on Arm.
pub const XEN_DOMCTL_CDF_HAP: u32 = 1 << 1;
/// x86 only.
pub const XEN_DOMCTL_CDF_S3_INTEGRITY: u32 = 1 << 2;
/// x86 only.
pub const XEN_DOMCTL_CDF_OOS_OFF: u32 = 1 << 3;
/// It runs xenstored.
pub const XEN_DOMCTL_CDF_XS_DOMAIN: u32 = 1 << 4;
/// It may get devices.
pub const XEN_DOMCTL_CDF_IOMMU: u32 = 1 << 5;
/// x86 only.
pub const XEN_DOMCTL_CDF_NESTED_VIRT: u32 = 1 << 6;
/// It gets performance counters.
pub const XEN_DOMCTL_CDF_VPMU: u32 = 1 << 7;
/// IOMMU tables of its own. Not on Arm.
pub const XEN_DOMCTL_IOMMU_NO_SHAREPT: u32 = 1 << 0;
/// The bits of `grant_opts` that hold the highest grant table version.
pub const XEN_DOMCTL_GRANT_VERSION_MASK: u32 = 0xf;

wire! {
    /// `struct xen_domctl_createdomain`.
    CreateDomain, 72 bytes {
        /// In: security label.
        0 => ssidref: u32,
        /// In: UUID.
        4 => handle: [u8; 16],
        /// In: `XEN_DOMCTL_CDF_*`.
        20 => flags: u32,
        /// In: `XEN_DOMCTL_IOMMU_*`.
        24 => iommu_opts: u32,
        /// In.
        28 => max_vcpus: u32,
        /// In: the highest port.
        32 => max_evtchn_port: u32,
        /// In: frames of the grant table; negative for the default.
        36 => max_grant_frames: i32,
        /// In: frames of the table of mapped grants; negative for the default.
        40 => max_maptrack_frames: i32,
        /// In: see [`XEN_DOMCTL_GRANT_VERSION_MASK`].
        44 => grant_opts: u32,
        /// In: must be 0 on Arm.
        48 => altp2m_opts: u32,
        /// In: bytes of trace buffer per vCPU; must be 0 on Arm.
        52 => vmtrace_size: u32,
        /// In.
        56 => cpupool_id: u32,
        /// In and out.
        60 => arch: ArchDomainConfig,
    }
}

/// It is dead, and not yet freed.
pub const XEN_DOMINF_DYING: u32 = 1 << 0;
/// Hardware virtualised. Always set on Arm.
pub const XEN_DOMINF_HVM_GUEST: u32 = 1 << 1;
/// It has shut down.
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
/// The toolstack has paused it.
pub const XEN_DOMINF_PAUSED: u32 = 1 << 3;
/// All its vCPUs wait for an event.
pub const XEN_DOMINF_BLOCKED: u32 = 1 << 4;
/// A vCPU is on a CPU.
pub const XEN_DOMINF_RUNNING: u32 = 1 << 5;
/// A debugger has it.
pub const XEN_DOMINF_DEBUGGED: u32 = 1 << 6;
/// It runs xenstored.
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// Hardware-assisted paging. Always set on Arm.
pub const XEN_DOMINF_HAP: u32 = 1 << 8;
/// The bits of the reason of shutdown, once shifted down; all set if it has not shut down.
pub const XEN_DOMINF_SHUTDOWNMASK: u32 = 255;
/// Where they are.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// `max_vcpu_id` of a domain without vCPUs.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = !0;
/// `shared_info_frame` that is not mapped anywhere.
pub const INVALID_GFN: u64 = !0;

wire! {
    /// `struct xen_domctl_getdomaininfo`.
    GetDomainInfo, 120 bytes {
        /// Out.
        0 => domain: u16,
        #[doc(hidden)]
        2 => _pad1: u16,
        /// Out: `XEN_DOMINF_*`.
        4 => flags: u32,
        /// Out: pages it has.
        8 => tot_pages: u64,
        /// Out: pages it may have.
        16 => max_pages: u64,
        /// Out: pages claimed for it and not yet allocated.
        24 => outstanding_pages: u64,
        /// Out: pages shared copy-on-write.
        32 => shr_pages: u64,
        /// Out: pages paged out.
        40 => paged_pages: u64,
        /// Out: guest frame number of the shared info page, or [`INVALID_GFN`].
        48 => shared_info_frame: u64,
        /// Out: nanoseconds that its vCPUs have run.
        56 => cpu_time: u64,
        /// Out.
        64 => nr_online_vcpus: u32,
        /// Out, or [`XEN_INVALID_MAX_VCPU_ID`].
        68 => max_vcpu_id: u32,
        /// Out: security label.
        72 => ssidref: u32,
        /// Out: UUID.
        76 => handle: [u8; 16],
        /// Out.
        92 => cpupool: u32,
        /// Out: width of guest physical addresses.
        96 => gpaddr_bits: u8,
        #[doc(hidden)]
        97 => _pad2: [u8; 7],
        /// Out.
        104 => arch_config: ArchDomainConfig,
        #[doc(hidden)]
        116 => _pad3: u32,
    }
}
wire! {
    /// `struct xen_domctl_max_mem`.
    MaxMem, 8 bytes {
        /// In: KiB it may have.
        0 => max_memkb: u64,
    }
}
wire! {
    /// `struct xen_domctl_vcpucontext`.
    VcpuContext, 16 bytes {
        /// In.
        0 => vcpu: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// In: where the [`crate::arch_arm::VcpuGuestContext`] is; NULL resets the vCPU.
        8 => ctxt: GuestHandle,
    }
}
wire! {
    /// `struct xen_domctl_getvcpuinfo`.
    GetVcpuInfo, 24 bytes {
        /// In.
        0 => vcpu: u32,
        /// Out: 1 if it is on.
        4 => online: u8,
        /// Out: 1 if it waits for an event.
        5 => blocked: u8,
        /// Out: 1 if it is on a CPU.
        6 => running: u8,
        #[doc(hidden)]
        7 => _pad: u8,
        /// Out: nanoseconds it has run.
        8 => cpu_time: u64,
        /// Out: where it runs, or ran last.
        16 => cpu: u32,
        #[doc(hidden)]
        20 => _pad2: u32,
    }
}
wire! {
    /// `struct xen_domctl_nodeaffinity`.
    NodeAffinity, 16 bytes {
        /// In or out.
        0 => nodemap: XenctlBitmap,
    }
}

/// `cpumap_hard` is meant: where the vCPU may run.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// `cpumap_soft` is meant: where it should run.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// Override a temporary affinity.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;

wire! {
    /// `struct xen_domctl_vcpuaffinity`.
    VcpuAffinity, 40 bytes {
        /// In.
        0 => vcpu: u32,
        /// In: `XEN_VCPUAFFINITY_*`.
        4 => flags: u32,
        /// In, and what is in force out.
        8 => cpumap_hard: XenctlBitmap,
        /// In, and what is in force out.
        24 => cpumap_soft: XenctlBitmap,
    }
}
wire! {
    /// `struct xen_domctl_max_vcpus`.
    MaxVcpus, 4 bytes {
        /// In: as given to createdomain.
        0 => max: u32,
    }
}

/// Credit.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// Credit2, the default.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// ARINC 653.
pub const XEN_SCHEDULER_ARINC653: u32 = 7;
/// Real time, deferrable servers.
pub const XEN_SCHEDULER_RTDS: u32 = 8;
/// One vCPU, one CPU.
pub const XEN_SCHEDULER_NULL: u32 = 9;

/// Set parameters of a domain.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Read parameters of a domain.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;
/// Set parameters of vCPUs. Not with credit2.
pub const XEN_DOMCTL_SCHEDOP_PUTVCPUINFO: u32 = 2;
/// Read parameters of vCPUs. Not with credit2.
pub const XEN_DOMCTL_SCHEDOP_GETVCPUINFO: u32 = 3;

wire! {
    /// `struct xen_domctl_scheduler_op` with the parameters of credit or credit2 in its union.
    SchedulerOp, 24 bytes {
        /// In: `XEN_SCHEDULER_*`.
        0 => sched_id: u32,
        /// In: `XEN_DOMCTL_SCHEDOP_*`.
        4 => cmd: u32,
        /// In or out: share of the CPU, 256 by default.
        8 => weight: u16,
        /// In or out: limit in percent of one CPU; 0 for none.
        10 => cap: u16,
        #[doc(hidden)]
        12 => _pad: [u32; 3],
    }
}
wire! {
    /// `struct xen_domctl_setdomainhandle`.
    SetDomainHandle, 16 bytes {
        /// In: UUID.
        0 => handle: [u8; 16],
    }
}
wire! {
    /// `struct xen_domctl_setdebugging`.
    SetDebugging, 1 bytes {
        /// In: 1 or 0.
        0 => enable: u8,
    }
}
wire! {
    /// `struct xen_domctl_irq_permission`.
    IrqPermission, 8 bytes {
        /// In.
        0 => pirq: u32,
        /// In: 1 or 0.
        4 => allow_access: u8,
        /// In.
        5 => pad: [u8; 3],
    }
}
wire! {
    /// `struct xen_domctl_iomem_permission`.
    IomemPermission, 24 bytes {
        /// In: machine frame number.
        0 => first_mfn: u64,
        /// In: how many.
        8 => nr_mfns: u64,
        /// In: 1 or 0.
        16 => allow_access: u8,
        #[doc(hidden)]
        17 => _pad: [u8; 7],
    }
}
wire! {
    /// `struct xen_domctl_settimeoffset`.
    SetTimeOffset, 8 bytes {
        /// In: its wall clock minus UTC.
        0 => time_offset_seconds: i64,
    }
}
wire! {
    /// `struct xen_domctl_sendtrigger`.
    SendTrigger, 8 bytes {
        /// In.
        0 => trigger: u32,
        /// In.
        4 => vcpu: u32,
    }
}
wire! {
    /// `struct xen_domctl_subscribe`.
    Subscribe, 4 bytes {
        /// In: the domain's port that is signalled when it suspends.
        0 => port: u32,
    }
}
wire! {
    /// `struct xen_domctl_address_size`.
    AddressSize, 4 bytes {
        /// In: 64 or 32 bits.
        0 => size: u32,
    }
}

/// A PCI device.
pub const XEN_DOMCTL_DEV_PCI: u32 = 0;
/// A node of the device tree.
pub const XEN_DOMCTL_DEV_DT: u32 = 1;

wire! {
    /// `struct xen_domctl_assign_device`.
    AssignDevice, 24 bytes {
        /// In: `XEN_DOMCTL_DEV_*`.
        0 => dev: u32,
        /// In: x86 only.
        4 => flags: u32,
        /// In: length of the path without its final 0 (`u.dt.size`); of PCI, segment, bus, device and function (`u.pci.machine_sbdf`).
        8 => size: u32,
        #[doc(hidden)]
        12 => _pad: u32,
        /// In: the path (`u.dt.path`).
        16 => path: GuestHandle,
    }
}

/// A shared peripheral interrupt, the only type of [`BindPtIrq`] on Arm.
pub const PT_IRQ_TYPE_SPI: u32 = 4;

wire! {
    /// `struct xen_domctl_bind_pt_irq` with a shared peripheral interrupt in its union.
    BindPtIrq, 24 bytes {
        /// In: the machine's interrupt.
        0 => machine_irq: u32,
        /// In: [`PT_IRQ_TYPE_SPI`].
        4 => irq_type: u32,
        /// In: the guest's interrupt; the same.
        8 => spi: u16,
        #[doc(hidden)]
        10 => _pad: [u16; 7],
    }
}

/// Take the mapping away.
pub const DPCI_REMOVE_MAPPING: u32 = 0;
/// Map.
pub const DPCI_ADD_MAPPING: u32 = 1;

wire! {
    /// `struct xen_domctl_memory_mapping`.
    MemoryMapping, 32 bytes {
        /// In: guest frame number.
        0 => first_gfn: u64,
        /// In: machine frame number.
        8 => first_mfn: u64,
        /// In: how many.
        16 => nr_mfns: u64,
        /// In: `DPCI_*`.
        24 => add_mapping: u32,
        /// In: must be 0.
        28 => padding: u32,
    }
}
wire! {
    /// `struct xen_domctl_set_target`.
    SetTarget, 2 bytes {
        /// In: the domain it serves as device model.
        0 => target: u16,
    }
}
wire! {
    /// `struct xen_domctl_set_virq_handler`.
    SetVirqHandler, 4 bytes {
        /// In: a global `VIRQ_*`.
        0 => virq: u32,
    }
}
wire! {
    /// `struct xen_domctl_cacheflush`: clean and invalidate to the point of coherency.
    CacheFlush, 16 bytes {
        /// In: guest frame number.
        0 => start_pfn: u64,
        /// In: how many.
        8 => nr_pfns: u64,
    }
}
wire! {
    /// `struct xen_domctl_vnuma`.
    Vnuma, 48 bytes {
        /// In.
        0 => nr_vnodes: u32,
        /// In.
        4 => nr_vmemranges: u32,
        /// In.
        8 => nr_vcpus: u32,
        /// In: must be 0.
        12 => pad: u32,
        /// In.
        16 => vdistance: GuestHandle,
        /// In.
        24 => vcpu_to_vnode: GuestHandle,
        /// In.
        32 => vnode_to_pnode: GuestHandle,
        /// In.
        40 => vmemrange: GuestHandle,
    }
}

/// Make the emulated UART.
pub const XEN_DOMCTL_VUART_OP_INIT: u32 = 0;
/// An SBSA UART.
pub const XEN_DOMCTL_VUART_TYPE_VPL011: u32 = 0;

wire! {
    /// `struct xen_domctl_vuart_op`.
    VuartOp, 24 bytes {
        /// In: [`XEN_DOMCTL_VUART_OP_INIT`].
        0 => cmd: u32,
        /// In: [`XEN_DOMCTL_VUART_TYPE_VPL011`]; `type` in Xen.
        4 => kind: u32,
        /// In: the page of its ring.
        8 => gfn: u64,
        /// In: the domain of the other end.
        16 => console_domid: u16,
        /// In: must be 0.
        18 => pad: [u8; 2],
        /// Out: the port for the other end.
        20 => evtchn: u32,
    }
}
wire! {
    /// `struct xen_domctl_paging_mempool`.
    PagingMempool, 8 bytes {
        /// In or out: bytes for stage 2 tables.
        0 => size: u64,
    }
}
wire! {
    /// `struct xen_domctl_dt_overlay`.
    DtOverlay, 16 bytes {
        /// In: the overlay.
        0 => overlay_fdt: GuestHandle,
        /// In: bytes.
        8 => overlay_fdt_size: u32,
        /// In: 1 to attach.
        12 => overlay_op: u8,
        /// In: must be 0.
        13 => pad: [u8; 3],
    }
}
wire! {
    /// `struct xen_domctl_set_llc_colors`.
    SetLlcColors, 16 bytes {
        /// In: how many.
        0 => num_llc_colors: u32,
        /// In: must be 0.
        4 => pad: u32,
        /// In: array of `u32`.
        8 => llc_colors: GuestHandle,
    }
}
