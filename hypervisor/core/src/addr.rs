//! Address types: every address space has its own, and frame numbers are not addresses.
//!
//! There is no `From` between spaces. Arithmetic on numbers that a guest supplied is checked.

use core::fmt;

/// Bytes in a page: all ABI structures count in 4 KiB pages whatever granule the guest uses.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);
        impl $name {
            /// Bytes from the start of the page.
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
            /// The address `bytes` further on, or `None` past the end of the space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(a) => Some(Self(a)),
                    None => None,
                }
            }
            /// Whether the address is a multiple of `align` (a power of two).
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

macro_rules! frame {
    ($(#[$doc:meta])* $name:ident of $addr:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);
        impl $name {
            /// The first byte of the frame; wraps for numbers above 2^52, which no space holds.
            pub const fn address(self) -> $addr {
                $addr(self.0 << PAGE_SHIFT)
            }
            /// The frame that holds `address`.
            pub const fn containing(address: $addr) -> Self {
                Self(address.0 >> PAGE_SHIFT)
            }
            /// The frame `n` further on, or `None` on overflow.
            pub const fn checked_add(self, n: u64) -> Option<Self> {
                match self.0.checked_add(n) {
                    Some(a) => Some(Self(a)),
                    None => None,
                }
            }
            /// Whether the number is a multiple of 2^`order`.
            pub const fn is_aligned(self, order: u32) -> bool {
                self.0 & ((1 << order) - 1) == 0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// A guest virtual address: a claim, meaningful only under the stage-1 tables of the vCPU that made it.
    GuestVa
);
address!(
    /// A guest physical (intermediate physical) address: input of stage 2.
    Ipa
);
address!(
    /// A machine (physical) address.
    MachineAddr
);
frame!(
    /// A guest frame number: `Ipa >> 12`.
    Gfn of Ipa
);
frame!(
    /// A machine frame number: `MachineAddr >> 12`.
    Mfn of MachineAddr
);

/// A domain identifier as the ABI knows it (`domid_t`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DomainId(pub u16);

impl DomainId {
    /// The hardware (and control) domain, Dom0.
    pub const HARDWARE: Self = Self(0);
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// The number under which the hardware (`VTTBR_EL2.VMID`), the frame table (owner) and the domain table know a domain.
///
/// Unlike a [`DomainId`] it is small and is not reused before the last page of its domain is free. 0 is nobody: the hypervisor itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Vmid(pub u8);

/// A physical CPU, numbered from 0 in the order they came up (not MPIDR).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CpuId(pub u8);

/// A set of physical CPUs, bit n is [`CpuId`] n.
pub type CpuMask = u64;
