//! `physdev_op`: numbers only, as Debian's Xen for Arm64 (without PCI) answers all of them with `-ENOSYS`.
//! Source: xen/include/public/physdev.h.

/// A PCI device was found.
pub const PHYSDEVOP_MANAGE_PCI_ADD: u32 = 15;
/// A PCI device is gone.
pub const PHYSDEVOP_MANAGE_PCI_REMOVE: u32 = 16;
/// A PCI function was found.
pub const PHYSDEVOP_MANAGE_PCI_ADD_EXT: u32 = 20;
/// Where the PCI configuration window is.
pub const PHYSDEVOP_PCI_MMCFG_RESERVED: u32 = 24;
/// A PCI device was found, with all that is known of it.
pub const PHYSDEVOP_PCI_DEVICE_ADD: u32 = 25;
/// A PCI device is gone.
pub const PHYSDEVOP_PCI_DEVICE_REMOVE: u32 = 26;
/// A PCI device was reset.
pub const PHYSDEVOP_PCI_DEVICE_RESET: u32 = 32;
