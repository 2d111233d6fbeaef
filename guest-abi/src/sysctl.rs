//! `sysctl`: the toolstack asks about the machine. Source: xen/include/public/sysctl.h.
//!
//! The argument points to [`SYSCTL_SIZE`] bytes: the head [`Sysctl`], and at [`SYSCTL_PAYLOAD_OFFSET`] a union of the payloads below.
//! Commands that only x86 has are not listed.

use crate::GuestHandle;
use crate::xen::XenctlBitmap;

/// What `interface_version` must be.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;
/// Bytes of `struct xen_sysctl`.
pub const SYSCTL_SIZE: usize = 136;
/// Where its union starts.
pub const SYSCTL_PAYLOAD_OFFSET: usize = 8;

/// [`ReadConsole`].
pub const XEN_SYSCTL_READCONSOLE: u32 = 1;
/// [`TbufOp`].
pub const XEN_SYSCTL_TBUF_OP: u32 = 2;
/// [`PhysInfo`].
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;
/// [`SchedId`].
pub const XEN_SYSCTL_SCHED_ID: u32 = 4;
/// Performance counters of the hypervisor.
pub const XEN_SYSCTL_PERFC_OP: u32 = 5;
/// [`GetDomainInfoList`].
pub const XEN_SYSCTL_GETDOMAININFOLIST: u32 = 6;
/// [`DebugKeys`].
pub const XEN_SYSCTL_DEBUG_KEYS: u32 = 7;
/// [`GetCpuInfo`].
pub const XEN_SYSCTL_GETCPUINFO: u32 = 8;
/// [`AvailHeap`].
pub const XEN_SYSCTL_AVAILHEAP: u32 = 9;
/// Power management.
pub const XEN_SYSCTL_GET_PMSTAT: u32 = 10;
/// [`CpuHotplug`].
pub const XEN_SYSCTL_CPU_HOTPLUG: u32 = 11;
/// Power management.
pub const XEN_SYSCTL_PM_OP: u32 = 12;
/// Bad pages.
pub const XEN_SYSCTL_PAGE_OFFLINE_OP: u32 = 14;
/// Lock profiling.
pub const XEN_SYSCTL_LOCKPROF_OP: u32 = 15;
/// [`CpuTopoInfo`].
pub const XEN_SYSCTL_CPUTOPOINFO: u32 = 16;
/// [`NumaInfo`].
pub const XEN_SYSCTL_NUMAINFO: u32 = 17;
/// [`CpupoolOp`].
pub const XEN_SYSCTL_CPUPOOL_OP: u32 = 18;
/// [`SchedulerOp`].
pub const XEN_SYSCTL_SCHEDULER_OP: u32 = 19;
/// Code coverage.
pub const XEN_SYSCTL_COVERAGE_OP: u32 = 20;
/// [`PciTopoInfo`].
pub const XEN_SYSCTL_PCITOPOINFO: u32 = 22;
/// Live patching.
pub const XEN_SYSCTL_LIVEPATCH_OP: u32 = 27;
/// Device tree overlays.
pub const XEN_SYSCTL_DT_OVERLAY: u32 = 30;

wire! {
    /// The head of `struct xen_sysctl`.
    Sysctl, 8 bytes {
        /// In: `XEN_SYSCTL_*`.
        0 => cmd: u32,
        /// In: [`XEN_SYSCTL_INTERFACE_VERSION`].
        4 => interface_version: u32,
    }
}
wire! {
    /// `struct xen_sysctl_readconsole`.
    ReadConsole, 24 bytes {
        /// In: 1 to empty the ring.
        0 => clear: u8,
        /// In: 1 to start at `index`.
        1 => incremental: u8,
        /// Unused.
        2 => pad0: u8,
        /// Unused.
        3 => pad1: u8,
        /// In: where to start; out: where to go on.
        4 => index: u32,
        /// In: where to put the text.
        8 => buffer: GuestHandle,
        /// In: room in bytes; out: bytes written.
        16 => count: u32,
        #[doc(hidden)]
        20 => _pad: u32,
    }
}

/// Where the buffers are described, and what is traced.
pub const XEN_SYSCTL_TBUFOP_GET_INFO: u32 = 0;
/// Trace only on these CPUs.
pub const XEN_SYSCTL_TBUFOP_SET_CPU_MASK: u32 = 1;
/// Trace only these events.
pub const XEN_SYSCTL_TBUFOP_SET_EVT_MASK: u32 = 2;
/// Make the buffers, once, and start.
pub const XEN_SYSCTL_TBUFOP_SET_SIZE: u32 = 3;
/// Start.
pub const XEN_SYSCTL_TBUFOP_ENABLE: u32 = 4;
/// Stop.
pub const XEN_SYSCTL_TBUFOP_DISABLE: u32 = 5;

wire! {
    /// `struct xen_sysctl_tbuf_op`.
    TbufOp, 48 bytes {
        /// In: `XEN_SYSCTL_TBUFOP_*`.
        0 => cmd: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// In of SET_CPU_MASK.
        8 => cpu_mask: XenctlBitmap,
        /// In of SET_EVT_MASK, out of GET_INFO: see [`crate::trace`].
        24 => evt_mask: u32,
        #[doc(hidden)]
        28 => _pad2: u32,
        /// Out of GET_INFO: the first machine frame of `struct t_info`; 0 for none.
        32 => buffer_mfn: u64,
        /// In of SET_SIZE: pages of each CPU's buffer; out of GET_INFO: bytes of `struct t_info`.
        40 => size: u32,
        #[doc(hidden)]
        44 => _pad3: u32,
    }
}

/// Hardware-virtualised guests.
pub const XEN_SYSCTL_PHYSCAP_HVM: u32 = 1 << 0;
/// Paravirtualised guests. x86.
pub const XEN_SYSCTL_PHYSCAP_PV: u32 = 1 << 1;
/// An IOMMU.
pub const XEN_SYSCTL_PHYSCAP_DIRECTIO: u32 = 1 << 2;
/// Hardware-assisted paging.
pub const XEN_SYSCTL_PHYSCAP_HAP: u32 = 1 << 3;
/// Shadow paging. x86.
pub const XEN_SYSCTL_PHYSCAP_SHADOW: u32 = 1 << 4;
/// IOMMU and CPU share tables.
pub const XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE: u32 = 1 << 5;
/// Trace buffers per vCPU.
pub const XEN_SYSCTL_PHYSCAP_VMTRACE: u32 = 1 << 6;
/// Performance counters for guests.
pub const XEN_SYSCTL_PHYSCAP_VPMU: u32 = 1 << 7;
/// Grant tables of version 1.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V1: u32 = 1 << 8;
/// Grant tables of version 2. Not on Arm.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V2: u32 = 1 << 9;
/// In `arch_capabilities`: the SVE vector length in units of 128 bits.
pub const XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK: u32 = 0x1f;

wire! {
    /// `struct xen_sysctl_physinfo`.
    PhysInfo, 112 bytes {
        /// Out.
        0 => threads_per_core: u32,
        /// Out.
        4 => cores_per_socket: u32,
        /// Out: CPUs that are on.
        8 => nr_cpus: u32,
        /// Out.
        12 => max_cpu_id: u32,
        /// Out.
        16 => nr_nodes: u32,
        /// Out.
        20 => max_node_id: u32,
        /// Out: frequency of the architected counter on Arm.
        24 => cpu_khz: u32,
        /// Out: `XEN_SYSCTL_PHYSCAP_*`.
        28 => capabilities: u32,
        /// Out: see [`XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK`].
        32 => arch_capabilities: u32,
        #[doc(hidden)]
        36 => _pad: u32,
        /// Out: RAM.
        40 => total_pages: u64,
        /// Out: of it free.
        48 => free_pages: u64,
        /// Out: of it free but not yet scrubbed.
        56 => scrub_pages: u64,
        /// Out: claimed and not yet allocated.
        64 => outstanding_pages: u64,
        /// Out: the highest machine frame number.
        72 => max_mfn: u64,
        /// Out: x86.
        80 => hw_cap: [u32; 8],
    }
}
wire! {
    /// `struct xen_sysctl_sched_id`.
    SchedId, 4 bytes {
        /// Out: `XEN_SCHEDULER_*`.
        0 => sched_id: u32,
    }
}
wire! {
    /// `struct xen_sysctl_getdomaininfolist`.
    GetDomainInfoList, 24 bytes {
        /// In: the lowest id.
        0 => first_domain: u16,
        #[doc(hidden)]
        2 => _pad: u16,
        /// In: room for how many.
        4 => max_domains: u32,
        /// In: array of [`crate::domctl::GetDomainInfo`].
        8 => buffer: GuestHandle,
        /// Out: how many were written.
        16 => num_domains: u32,
        #[doc(hidden)]
        20 => _pad2: u32,
    }
}
wire! {
    /// `struct xen_sysctl_debug_keys`.
    DebugKeys, 16 bytes {
        /// In: characters.
        0 => keys: GuestHandle,
        /// In: how many.
        8 => nr_keys: u32,
        #[doc(hidden)]
        12 => _pad: u32,
    }
}
wire! {
    /// `struct xen_sysctl_cpuinfo`.
    CpuInfo, 8 bytes {
        /// Nanoseconds the CPU had nothing to do.
        0 => idletime: u64,
    }
}
wire! {
    /// `struct xen_sysctl_getcpuinfo`.
    GetCpuInfo, 24 bytes {
        /// In: room for how many.
        0 => max_cpus: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// In: array of [`CpuInfo`].
        8 => info: GuestHandle,
        /// Out: how many were written.
        16 => nr_cpus: u32,
        #[doc(hidden)]
        20 => _pad2: u32,
    }
}
wire! {
    /// `struct xen_sysctl_availheap`.
    AvailHeap, 24 bytes {
        /// In: only memory with addresses this wide; 0 for any.
        0 => min_bitwidth: u32,
        /// In: only memory with addresses this wide; 0 for any.
        4 => max_bitwidth: u32,
        /// In: NUMA node; -1 for any.
        8 => node: i32,
        #[doc(hidden)]
        12 => _pad: u32,
        /// Out.
        16 => avail_bytes: u64,
    }
}
wire! {
    /// `struct xen_sysctl_cpu_hotplug`.
    CpuHotplug, 8 bytes {
        /// In.
        0 => cpu: u32,
        /// In: 0 on, 1 off.
        4 => op: u32,
    }
}

/// No core id.
pub const XEN_INVALID_CORE_ID: u32 = !0;
/// No socket id.
pub const XEN_INVALID_SOCKET_ID: u32 = !0;
/// No node id.
pub const XEN_INVALID_NODE_ID: u32 = !0;
/// A node without memory.
pub const XEN_INVALID_MEM_SZ: u32 = !0;
/// Nodes without a distance.
pub const XEN_INVALID_NODE_DIST: u32 = !0;

wire! {
    /// `struct xen_sysctl_cputopo`.
    CpuTopo, 12 bytes {
        /// Or [`XEN_INVALID_CORE_ID`].
        0 => core: u32,
        /// Or [`XEN_INVALID_SOCKET_ID`].
        4 => socket: u32,
        /// Or [`XEN_INVALID_NODE_ID`].
        8 => node: u32,
    }
}
wire! {
    /// `struct xen_sysctl_cputopoinfo`.
    CpuTopoInfo, 16 bytes {
        /// In: room for how many; out: how many there are, or were written.
        0 => num_cpus: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// In: array of [`CpuTopo`]; NULL only asks for the number.
        8 => cputopo: GuestHandle,
    }
}
wire! {
    /// `struct xen_sysctl_pcitopoinfo`.
    PciTopoInfo, 24 bytes {
        /// In and out.
        0 => num_devs: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// In.
        8 => devs: GuestHandle,
        /// In.
        16 => nodes: GuestHandle,
    }
}
wire! {
    /// `struct xen_sysctl_meminfo`.
    MemInfo, 16 bytes {
        /// Bytes of a node.
        0 => memsize: u64,
        /// Of them free.
        8 => memfree: u64,
    }
}
wire! {
    /// `struct xen_sysctl_numainfo`.
    NumaInfo, 24 bytes {
        /// In: room for how many; out: how many there are, or were written.
        0 => num_nodes: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// In: array of [`MemInfo`]; NULL with the other only asks for the number.
        8 => meminfo: GuestHandle,
        /// In: matrix of `u32`, `num_nodes` × `num_nodes`.
        16 => distance: GuestHandle,
    }
}

/// Make a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_CREATE: u32 = 1;
/// Destroy a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_DESTROY: u32 = 2;
/// Look at the pool with the lowest id not below `cpupool_id`.
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// Put a CPU in a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_ADDCPU: u32 = 4;
/// Take a CPU out of a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_RMCPU: u32 = 5;
/// Move a domain to a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN: u32 = 6;
/// Which CPUs are in no pool.
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;
/// Any pool, or any CPU.
pub const XEN_SYSCTL_CPUPOOL_PAR_ANY: u32 = !0;

wire! {
    /// `struct xen_sysctl_cpupool_op`.
    CpupoolOp, 40 bytes {
        /// In: `XEN_SYSCTL_CPUPOOL_OP_*`.
        0 => op: u32,
        /// In, and out of INFO and CREATE.
        4 => cpupool_id: u32,
        /// In of CREATE, out of INFO: `XEN_SCHEDULER_*`.
        8 => sched_id: u32,
        /// In of MOVEDOMAIN.
        12 => domid: u32,
        /// In of ADDCPU and RMCPU.
        16 => cpu: u32,
        /// Out of INFO: domains in the pool.
        20 => n_dom: u32,
        /// Out of INFO and FREEINFO.
        24 => cpumap: XenctlBitmap,
    }
}

/// Set parameters of a pool's scheduler.
pub const XEN_SYSCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Read parameters of a pool's scheduler.
pub const XEN_SYSCTL_SCHEDOP_GETINFO: u32 = 1;
/// Highest rate limit, microseconds.
pub const XEN_SYSCTL_SCHED_RATELIMIT_MAX: u32 = 500_000;
/// Lowest rate limit but none, microseconds.
pub const XEN_SYSCTL_SCHED_RATELIMIT_MIN: u32 = 100;

wire! {
    /// `struct xen_sysctl_scheduler_op` with the parameters of credit2 in its union.
    SchedulerOp, 32 bytes {
        /// In.
        0 => cpupool_id: u32,
        /// In: `XEN_SCHEDULER_*`.
        4 => sched_id: u32,
        /// In: `XEN_SYSCTL_SCHEDOP_*`.
        8 => cmd: u32,
        #[doc(hidden)]
        12 => _pad: u32,
        /// In or out: a vCPU that got a CPU keeps it this many microseconds; 0 for no limit.
        16 => ratelimit_us: u32,
        #[doc(hidden)]
        20 => _pad2: [u32; 3],
    }
}
