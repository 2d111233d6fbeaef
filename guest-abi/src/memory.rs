//! `memory_op`: a domain's pages and what its addresses mean. Source: xen/include/public/memory.h.

use crate::GuestHandle;

/// Bits of the command; above them a continued call keeps how many extents are done. Source: xen/include/xen/hypercall.h.
pub const MEMOP_CMD_MASK: u64 = 0x3f;
/// Where that number starts.
pub const MEMOP_EXTENT_SHIFT: u32 = 6;

/// Allocate pages, unmapped: [`MemoryReservation`].
pub const XENMEM_INCREASE_RESERVATION: u64 = 0;
/// Give pages back: [`MemoryReservation`].
pub const XENMEM_DECREASE_RESERVATION: u64 = 1;
/// The highest machine frame number.
pub const XENMEM_MAXIMUM_RAM_PAGE: u64 = 2;
/// Pages a domain has: [`MemoryDomain`].
pub const XENMEM_CURRENT_RESERVATION: u64 = 3;
/// Pages a domain may have: [`MemoryDomain`].
pub const XENMEM_MAXIMUM_RESERVATION: u64 = 4;
/// x86 only.
pub const XENMEM_MACHPHYS_MFN_LIST: u64 = 5;
/// Allocate pages at given guest frames: [`MemoryReservation`].
pub const XENMEM_POPULATE_PHYSMAP: u64 = 6;
/// Map a page of the hypervisor's: [`AddToPhysmap`].
pub const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
/// x86 only.
pub const XENMEM_MEMORY_MAP: u64 = 9;
/// x86 only.
pub const XENMEM_MACHINE_MEMORY_MAP: u64 = 10;
/// Exchange pages for others: [`MemoryExchange`]. Not for translated domains.
pub const XENMEM_EXCHANGE: u64 = 11;
/// x86 only.
pub const XENMEM_MACHPHYS_MAPPING: u64 = 12;
/// x86 only.
pub const XENMEM_SET_MEMORY_MAP: u64 = 13;
/// The highest guest frame in use: [`MemoryDomain`].
pub const XENMEM_MAXIMUM_GPFN: u64 = 14;
/// Unmap a page: [`RemoveFromPhysmap`].
pub const XENMEM_REMOVE_FROM_PHYSMAP: u64 = 15;
/// x86 only.
pub const XENMEM_SET_POD_TARGET: u64 = 16;
/// x86 only.
pub const XENMEM_GET_POD_TARGET: u64 = 17;
/// Pages saved by sharing; 0.
pub const XENMEM_GET_SHARING_FREED_PAGES: u64 = 18;
/// Pages that are shared copy-on-write; 0.
pub const XENMEM_GET_SHARING_SHARED_PAGES: u64 = 19;
/// x86 only.
pub const XENMEM_PAGING_OP: u64 = 20;
/// Memory access events.
pub const XENMEM_ACCESS_OP: u64 = 21;
/// x86 only.
pub const XENMEM_SHARING_OP: u64 = 22;
/// Map many pages, of another domain: [`AddToPhysmapBatch`].
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u64 = 23;
/// Set memory aside for a domain that is being built: [`MemoryReservation`].
pub const XENMEM_CLAIM_PAGES: u64 = 24;
/// x86 only.
pub const XENMEM_MACHPHYS_COMPAT_MFN_LIST: u64 = 25;
/// Virtual NUMA.
pub const XENMEM_GET_VNUMAINFO: u64 = 26;
/// Memory that devices of the machine need.
pub const XENMEM_RESERVED_DEVICE_MEMORY_MAP: u64 = 27;
/// Map pages that belong to a domain's state: [`AcquireResource`].
pub const XENMEM_ACQUIRE_RESOURCE: u64 = 28;

/// In [`ReservedDeviceMemoryMap::flags`]: of all devices.
pub const XENMEM_RDM_ALL: u32 = 1;

/// In `mem_flags`: the width of addresses that the caller can use for the pages; 0 for any.
pub const XENMEMF_ADDRESS_BITS_MASK: u32 = 0xff;
/// In `mem_flags`: NUMA node + 1, or 0 for any.
pub const XENMEMF_NODE_SHIFT: u32 = 8;
/// In `mem_flags`: x86 only.
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;
/// In `mem_flags`: the node and no other.
pub const XENMEMF_EXACT_NODE_REQUEST: u32 = 1 << 17;
/// In `mem_flags`: the node is a virtual one.
pub const XENMEMF_VNODE: u32 = 1 << 18;

/// The shared info page.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// A frame of the grant table.
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;
/// Another page of the domain. Not on Arm.
pub const XENMAPSPACE_GMFN: u32 = 2;
/// Other pages of the domain. Not on Arm.
pub const XENMAPSPACE_GMFN_RANGE: u32 = 3;
/// A page of another domain. In batches only.
pub const XENMAPSPACE_GMFN_FOREIGN: u32 = 4;
/// A page of a device, at its own address.
pub const XENMAPSPACE_DEV_MMIO: u32 = 5;
/// In the index of [`XENMAPSPACE_GRANT_TABLE`]: a frame of the status table. Version 2 only.
pub const XENMAPIDX_GRANT_TABLE_STATUS: u64 = 0x8000_0000;

/// Rings of a device model.
pub const XENMEM_RESOURCE_IOREQ_SERVER: u16 = 0;
/// Grant table.
pub const XENMEM_RESOURCE_GRANT_TABLE: u16 = 1;
/// Trace buffer of a vCPU.
pub const XENMEM_RESOURCE_VMTRACE_BUF: u16 = 2;
/// `id` of [`XENMEM_RESOURCE_GRANT_TABLE`]: the entries.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED: u32 = 0;
/// `id` of [`XENMEM_RESOURCE_GRANT_TABLE`]: the status words. Version 2 only.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS: u32 = 1;

wire! {
    /// `struct xen_memory_reservation`.
    MemoryReservation, 32 bytes {
        /// In: array of `u64` guest frame numbers, the first of each extent.
        0 => extent_start: GuestHandle,
        /// In: how many.
        8 => nr_extents: u64,
        /// In: log2 of the pages in each.
        16 => extent_order: u32,
        /// In: `XENMEMF_*`.
        20 => mem_flags: u32,
        /// In: whose.
        24 => domid: u16,
        #[doc(hidden)]
        26 => _pad: [u16; 3],
    }
}
wire! {
    /// `struct xen_memory_exchange`.
    MemoryExchange, 72 bytes {
        /// In: the pages to give.
        0 => input: MemoryReservation,
        /// In and out: the pages to get.
        32 => output: MemoryReservation,
        /// Out: how many were exchanged.
        64 => nr_exchanged: u64,
    }
}
wire! {
    /// `struct xen_memory_domain`, a bare domain id.
    MemoryDomain, 2 bytes {
        /// In: which.
        0 => domid: u16,
    }
}
wire! {
    /// `struct xen_add_to_physmap`.
    AddToPhysmap, 24 bytes {
        /// In: in whose address space.
        0 => domid: u16,
        /// In: pages, of [`XENMAPSPACE_GMFN_RANGE`].
        2 => size: u16,
        /// In: `XENMAPSPACE_*`.
        4 => space: u32,
        /// In: which page of the space.
        8 => idx: u64,
        /// In: guest frame number to map at.
        16 => gpfn: u64,
    }
}
wire! {
    /// `struct xen_add_to_physmap_batch`.
    AddToPhysmapBatch, 32 bytes {
        /// In: in whose address space.
        0 => domid: u16,
        /// In: `XENMAPSPACE_*`.
        2 => space: u16,
        /// In: how many pages.
        4 => size: u16,
        /// In: whose pages, of [`XENMAPSPACE_GMFN_FOREIGN`]; 0 for [`XENMAPSPACE_DEV_MMIO`].
        6 => foreign_domid: u16,
        /// In: array of `u64`, which page of the space.
        8 => idxs: GuestHandle,
        /// In: array of `u64`, guest frame numbers to map at.
        16 => gpfns: GuestHandle,
        /// Out: array of `i32`, 0 or negative error of each.
        24 => errs: GuestHandle,
    }
}
wire! {
    /// `struct xen_remove_from_physmap`.
    RemoveFromPhysmap, 16 bytes {
        /// In: in whose address space.
        0 => domid: u16,
        #[doc(hidden)]
        2 => _pad: [u16; 3],
        /// In: guest frame number.
        8 => gpfn: u64,
    }
}
wire! {
    /// `struct xen_reserved_device_memory_map`.
    ReservedDeviceMemoryMap, 24 bytes {
        /// In: [`XENMEM_RDM_ALL`], or of the device `dev` only.
        0 => flags: u32,
        /// In: entries that `buffer` has room for; out: that there are.
        4 => nr_entries: u32,
        /// Out: array of `struct xen_reserved_device_memory`.
        8 => buffer: GuestHandle,
        /// In: PCI segment.
        16 => seg: u16,
        /// In: PCI bus.
        18 => bus: u8,
        /// In: PCI device and function.
        19 => devfn: u8,
        #[doc(hidden)]
        20 => _pad: u32,
    }
}
wire! {
    /// `struct xen_mem_acquire_resource`.
    AcquireResource, 32 bytes {
        /// In: whose.
        0 => domid: u16,
        /// In: `XENMEM_RESOURCE_*`; `type` in Xen.
        2 => kind: u16,
        /// In: which, by type.
        4 => id: u32,
        /// In: how many frames; out, with a NULL list and 0 frames: how many there are.
        8 => nr_frames: u32,
        /// In: must be 0.
        12 => pad: u32,
        /// In: the first frame of the resource.
        16 => frame: u64,
        /// In: array of `u64`, guest frame numbers of the caller to map at.
        24 => frame_list: GuestHandle,
    }
}
