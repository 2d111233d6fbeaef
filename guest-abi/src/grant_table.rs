//! Grant tables: pages that a domain lets another one use. Source: xen/include/public/grant_table.h (version 1 only, as on Arm).

use crate::GuestHandle;

/// Entries of the table that the toolstack fills; they survive a change of version.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// The entry of the console ring.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// The entry of the xenstore ring.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;

/// Type of an entry: nothing granted.
pub const GTF_INVALID: u16 = 0;
/// Type of an entry: `domid` may map and copy `frame`.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Type of an entry: `domid` may transfer a page here. Not on Arm.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Type of an entry: refers to another domain's grant. Version 2 only.
pub const GTF_TRANSITIVE: u16 = 3;
/// The bits that hold the type.
pub const GTF_TYPE_MASK: u16 = 3;
/// The grantee may only read.
pub const GTF_READONLY: u16 = 1 << 2;
/// Set by the hypervisor while the grant is in use.
pub const GTF_READING: u16 = 1 << 3;
/// Set by the hypervisor while the grant is in use for writing.
pub const GTF_WRITING: u16 = 1 << 4;
/// Only part of the page is granted. Version 2 only.
pub const GTF_SUB_PAGE: u16 = 1 << 8;

wire! {
    /// `struct grant_entry_v1`: an entry of the shared table.
    GrantEntryV1, 8 bytes {
        /// `GTF_*`.
        0 => flags: u16,
        /// The grantee.
        2 => domid: u16,
        /// The page, as guest frame number of the granter.
        4 => frame: u32,
    }
}

/// `GNTTABOP_*`: map pages granted to the caller.
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// Undo a map.
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// Size the table and tell where its frames are mapped.
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// Print the table; not implemented by Xen either.
pub const GNTTABOP_DUMP_TABLE: u32 = 3;
/// Give pages away. Not on Arm.
pub const GNTTABOP_TRANSFER: u32 = 4;
/// Copy between pages.
pub const GNTTABOP_COPY: u32 = 5;
/// Ask for the size of the table.
pub const GNTTABOP_QUERY_SIZE: u32 = 6;
/// Undo a map, and move another mapping in its place. Not on Arm.
pub const GNTTABOP_UNMAP_AND_REPLACE: u32 = 7;
/// Choose the version.
pub const GNTTABOP_SET_VERSION: u32 = 8;
/// Version 2 only.
pub const GNTTABOP_GET_STATUS_FRAMES: u32 = 9;
/// Ask for the version.
pub const GNTTABOP_GET_VERSION: u32 = 10;
/// Exchange two entries.
pub const GNTTABOP_SWAP_GRANT_REF: u32 = 11;
/// Clean or invalidate the data cache for a page that a device uses.
pub const GNTTABOP_CACHE_FLUSH: u32 = 12;

/// Map for devices. Not on Arm.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// Map for CPUs.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Map for reading only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// PV guests only.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// PV guests only.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;

/// The source of a copy is a grant.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// The destination of a copy is a grant.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// Clean the data cache.
pub const GNTTAB_CACHE_CLEAN: u32 = 1 << 0;
/// Invalidate the data cache.
pub const GNTTAB_CACHE_INVAL: u32 = 1 << 1;
/// The page is named by a grant reference. Not implemented by Xen.
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;

/// Status of an operation: done.
pub const GNTST_OKAY: i16 = 0;
/// Any other error.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// No such domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// Unknown or unsuitable grant reference.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// Unknown or unsuitable handle.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// Unsuitable address to map at.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// Unsuitable device address to unmap.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// Out of space in an IOMMU.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// Not enough privilege.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// The page cannot be used for this.
pub const GNTST_BAD_PAGE: i16 = -9;
/// The copy crosses a page boundary.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// A transferred page lies too high.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Not now.
pub const GNTST_EAGAIN: i16 = -12;
/// Out of handles.
pub const GNTST_NO_SPACE: i16 = -13;

wire! {
    /// `struct gnttab_map_grant_ref`.
    MapGrantRef, 32 bytes {
        /// In: guest physical address to map at.
        0 => host_addr: u64,
        /// In: `GNTMAP_*`.
        8 => flags: u32,
        /// In: the reference.
        12 => grant_ref: u32,
        /// In: the granter.
        16 => dom: u16,
        /// Out: `GNTST_*`.
        18 => status: i16,
        /// Out: names the mapping.
        20 => handle: u32,
        /// Out: machine address.
        24 => dev_bus_addr: u64,
    }
}

wire! {
    /// `struct gnttab_unmap_grant_ref`; with `new_addr` for `dev_bus_addr`, `struct gnttab_unmap_and_replace`.
    UnmapGrantRef, 24 bytes {
        /// In: where it is mapped; 0 leaves the mapping alone.
        0 => host_addr: u64,
        /// In: device address, or the address of the replacement.
        8 => dev_bus_addr: u64,
        /// In: the mapping.
        16 => handle: u32,
        /// Out: `GNTST_*`.
        20 => status: i16,
        /// Padding.
        22 => _pad: u16,
    }
}

wire! {
    /// `struct gnttab_setup_table`.
    SetupTable, 24 bytes {
        /// In: whose table.
        0 => dom: u16,
        /// Padding.
        2 => _pad: u16,
        /// In: frames wanted.
        4 => nr_frames: u32,
        /// Out: `GNTST_*`.
        8 => status: i16,
        /// Padding.
        10 => _pad2: [u16; 3],
        /// In: where to write the `u64` frame numbers.
        16 => frame_list: GuestHandle,
    }
}

wire! {
    /// `struct gnttab_transfer`.
    Transfer, 24 bytes {
        /// In: the page.
        0 => mfn: u64,
        /// In: who gets it.
        8 => domid: u16,
        /// Padding.
        10 => _pad: u16,
        /// In: the reference that accepts it.
        12 => grant_ref: u32,
        /// Out: `GNTST_*`.
        16 => status: i16,
        /// Padding.
        18 => _pad2: [u16; 3],
    }
}

wire! {
    /// One side of a copy, `struct gnttab_copy_ptr`.
    CopyPtr, 16 bytes {
        /// In: reference (low 32 bits) or guest frame number.
        0 => u: u64,
        /// In: whose.
        8 => domid: u16,
        /// In: first byte in the page.
        10 => offset: u16,
        /// Padding.
        12 => _pad: u32,
    }
}

wire! {
    /// `struct gnttab_copy`.
    Copy, 40 bytes {
        /// In: from.
        0 => source: CopyPtr,
        /// In: to.
        16 => dest: CopyPtr,
        /// In: bytes.
        32 => len: u16,
        /// In: `GNTCOPY_*`.
        34 => flags: u16,
        /// Out: `GNTST_*`.
        36 => status: i16,
        /// Padding.
        38 => _pad: u16,
    }
}

wire! {
    /// `struct gnttab_query_size`.
    QuerySize, 16 bytes {
        /// In: whose table.
        0 => dom: u16,
        /// Padding.
        2 => _pad: u16,
        /// Out: frames it has.
        4 => nr_frames: u32,
        /// Out: frames it may have.
        8 => max_nr_frames: u32,
        /// Out: `GNTST_*`.
        12 => status: i16,
        /// Padding.
        14 => _pad2: u16,
    }
}

wire! {
    /// `struct gnttab_set_version`.
    SetVersion, 4 bytes {
        /// In: wanted; out: in force.
        0 => version: u32,
    }
}

wire! {
    /// `struct gnttab_get_status_frames`.
    GetStatusFrames, 16 bytes {
        /// In: frames wanted.
        0 => nr_frames: u32,
        /// In: whose table.
        4 => dom: u16,
        /// Out: `GNTST_*`.
        6 => status: i16,
        /// In: where to write the frame numbers.
        8 => frame_list: GuestHandle,
    }
}

wire! {
    /// `struct gnttab_get_version`.
    GetVersion, 8 bytes {
        /// In: whose table.
        0 => dom: u16,
        /// Padding.
        2 => _pad: u16,
        /// Out: the version in force.
        4 => version: u32,
    }
}

wire! {
    /// `struct gnttab_swap_grant_ref`.
    SwapGrantRef, 12 bytes {
        /// In: one.
        0 => ref_a: u32,
        /// In: the other.
        4 => ref_b: u32,
        /// Out: `GNTST_*`.
        8 => status: i16,
        /// Padding.
        10 => _pad: u16,
    }
}

wire! {
    /// `struct gnttab_cache_flush`.
    CacheFlush, 16 bytes {
        /// In: machine address of the page.
        0 => dev_bus_addr: u64,
        /// In: first byte.
        8 => offset: u16,
        /// In: bytes.
        10 => length: u16,
        /// In: `GNTTAB_CACHE_*`.
        12 => op: u32,
    }
}
