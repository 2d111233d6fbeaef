//! `xen_version`: who the hypervisor is and what it can do. Source: xen/include/public/version.h, features.h.

use bitflags::bitflags;

/// Returns major << 16 | minor.
pub const XENVER_VERSION: u32 = 0;
/// What follows major.minor, `char[16]`.
pub const XENVER_EXTRAVERSION: u32 = 1;
/// [`CompileInfo`].
pub const XENVER_COMPILE_INFO: u32 = 2;
/// Which guests can run, `char[1024]`.
pub const XENVER_CAPABILITIES: u32 = 3;
/// `char[64]`.
pub const XENVER_CHANGESET: u32 = 4;
/// `u64`: the lowest virtual address the hypervisor uses in the guest. 0.
pub const XENVER_PLATFORM_PARAMETERS: u32 = 5;
/// [`FeatureInfo`].
pub const XENVER_GET_FEATURES: u32 = 6;
/// Returns the page size in bytes; the argument must be NULL.
pub const XENVER_PAGESIZE: u32 = 7;
/// The caller's UUID, 16 bytes.
pub const XENVER_GUEST_HANDLE: u32 = 8;
/// The hypervisor's command line, `char[1024]`.
pub const XENVER_COMMANDLINE: u32 = 9;
/// The hypervisor's build id: [`VarBuf`].
pub const XENVER_BUILD_ID: u32 = 10;
/// As [`XENVER_EXTRAVERSION`], of any length: [`VarBuf`].
pub const XENVER_EXTRAVERSION2: u32 = 11;
/// As [`XENVER_CAPABILITIES`], of any length: [`VarBuf`].
pub const XENVER_CAPABILITIES2: u32 = 12;
/// As [`XENVER_CHANGESET`], of any length: [`VarBuf`].
pub const XENVER_CHANGESET2: u32 = 13;
/// As [`XENVER_COMMANDLINE`], of any length: [`VarBuf`].
pub const XENVER_COMMANDLINE2: u32 = 14;

/// Bytes of [`XENVER_EXTRAVERSION`].
pub const XEN_EXTRAVERSION_LEN: usize = 16;
/// Bytes of [`XENVER_CAPABILITIES`].
pub const XEN_CAPABILITIES_INFO_LEN: usize = 1024;
/// Bytes of [`XENVER_CHANGESET`].
pub const XEN_CHANGESET_INFO_LEN: usize = 64;
/// Bytes of [`XENVER_COMMANDLINE`].
pub const XEN_COMMANDLINE_LEN: usize = 1024;

wire! {
    /// `struct xen_compile_info`: texts that end with a 0 byte.
    CompileInfo, 144 bytes {
        /// Out.
        0 => compiler: [u8; 64],
        /// Out.
        64 => compile_by: [u8; 16],
        /// Out.
        80 => compile_domain: [u8; 32],
        /// Out.
        112 => compile_date: [u8; 32],
    }
}
wire! {
    /// `struct xen_feature_info`.
    FeatureInfo, 8 bytes {
        /// In: which 32 features; only 0 exists.
        0 => submap_idx: u32,
        /// Out: [`Features`].
        4 => submap: u32,
    }
}
wire! {
    /// The head of `struct xen_varbuf` and `struct xen_build_id`; the bytes follow, without a final 0.
    VarBuf, 4 bytes {
        /// In: room for how many bytes. The hypercall returns how many there are; with a NULL pointer it returns only that.
        0 => len: u32,
    }
}

bitflags! {
    /// What the hypervisor offers this domain (`XENFEAT_*`, submap 0).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// Page tables need no hypercalls to be written.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables need no hypercalls to be written. x86.
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// Guest frame numbers are translated by stage 2.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The kernel runs at the privilege it expects. x86.
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// x86.
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// x86.
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// x86.
        const HIGHMEM_ASSIST = 1 << 6;
        /// Bits 16 and up of the grant map flags are the guest's.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// Events by interrupt vector. x86.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// x86.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// x86.
        const HVM_PIRQS = 1 << 10;
        /// The caller is Dom0.
        const DOM0 = 1 << 11;
        /// Memory operations know virtual NUMA nodes.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Arm's SMC calling convention.
        const ARM_SMCCC_SUPPORTED = 1 << 14;
        /// x86.
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// Guest frames differ from machine frames.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// Guest frames of RAM are machine frames.
        const DIRECT_MAPPED = 1 << 17;
        /// [`crate::vcpu::VCPUOP_REGISTER_RUNSTATE_PHYS_AREA`]; set on Arm, though the operation is refused there.
        const RUNSTATE_PHYS_AREA = 1 << 18;
        /// x86.
        const VCPU_TIME_PHYS_AREA = 1 << 19;
        /// x86.
        const DM_MSIX_ALL_WRITES = 1 << 20;
    }
}
