//! Stage-2 descriptors (VMSAv8-64, 4 KiB granule; Arm ARM D8.3) and the types of Xen's p2m that they carry in their software bits.

use crate::addr::{MachineAddr, Mfn};

/// What a guest frame is mapped to: Xen's `p2m_type_t`, with its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum P2mType {
    /// RAM of the domain, or a page of the hypervisor shared with it.
    RamRw = 1,
    /// The same, read-only.
    RamRo = 2,
    /// A device, Device-nGnRE.
    MmioDirectDev = 3,
    /// A device, Normal non-cacheable.
    MmioDirectNc = 4,
    /// A device, Normal write-back: the guest's stage 1 decides.
    MmioDirectC = 5,
    /// A page of another domain mapped by privilege; holds a reference to it.
    MapForeignRw = 6,
    /// The same, read-only.
    MapForeignRo = 7,
    /// A page granted by another domain; the grant's pin holds the reference.
    GrantMapRw = 8,
    /// The same, read-only.
    GrantMapRo = 9,
}

impl P2mType {
    fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            1 => Self::RamRw,
            2 => Self::RamRo,
            3 => Self::MmioDirectDev,
            4 => Self::MmioDirectNc,
            5 => Self::MmioDirectC,
            6 => Self::MapForeignRw,
            7 => Self::MapForeignRo,
            8 => Self::GrantMapRw,
            9 => Self::GrantMapRo,
            _ => return None,
        })
    }

    /// RAM of the domain itself or a shared page of the hypervisor.
    pub fn is_ram(self) -> bool {
        matches!(self, Self::RamRw | Self::RamRo)
    }

    /// A foreign mapping, which holds a page reference.
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::MapForeignRw | Self::MapForeignRo)
    }

    /// A mapped grant.
    pub fn is_grant(self) -> bool {
        matches!(self, Self::GrantMapRw | Self::GrantMapRo)
    }

    /// A device.
    pub fn is_mmio(self) -> bool {
        matches!(self, Self::MmioDirectDev | Self::MmioDirectNc | Self::MmioDirectC)
    }

    /// Whether the guest may write.
    pub fn write_permitted(self) -> bool {
        !matches!(self, Self::RamRo | Self::MapForeignRo | Self::GrantMapRo)
    }

    /// Permissions, memory attributes and shareability of a leaf, as Xen gives them (xen/arch/arm/mmu/p2m.c).
    fn attributes(self) -> u64 {
        let access = S2AP_READ | if self.write_permitted() { S2AP_WRITE } else { 0 };
        let execute = if self.is_ram() { 0 } else { EXECUTE_NEVER };
        let memory = match self {
            Self::MmioDirectDev => MEMATTR_DEVICE_NGNRE | OUTER_SHAREABLE,
            Self::MmioDirectNc => MEMATTR_NORMAL_NC | OUTER_SHAREABLE,
            Self::MmioDirectC => MEMATTR_NORMAL_WB | OUTER_SHAREABLE,
            _ => MEMATTR_NORMAL_WB | INNER_SHAREABLE,
        };
        access | execute | memory
    }
}

const VALID: u64 = 1 << 0;
/// A table (levels 0-2) or a page (level 3); clear for a block.
const TABLE_OR_PAGE: u64 = 1 << 1;
const MEMATTR_DEVICE_NGNRE: u64 = 0b0001 << 2;
const MEMATTR_NORMAL_NC: u64 = 0b0101 << 2;
const MEMATTR_NORMAL_WB: u64 = 0b1111 << 2;
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
const OUTER_SHAREABLE: u64 = 0b10 << 8;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const EXECUTE_NEVER: u64 = 1 << 54;
const TYPE_SHIFT: u32 = 55;
const TYPE_MASK: u64 = 0xf;

/// The level of single pages; a leaf at level `l` covers [`pages_at`]`(l)` of them.
pub(super) const PAGE_LEVEL: u8 = 3;

/// log2 of the pages that an entry at `level` covers.
pub(super) const fn order_at(level: u8) -> u32 {
    9 * (PAGE_LEVEL - level) as u32
}

/// Pages that an entry at `level` covers.
pub(super) const fn pages_at(level: u8) -> u64 {
    1 << order_at(level)
}

/// A descriptor as it is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(pub(super) u64);

/// What a descriptor means at its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    Empty,
    Table(MachineAddr),
    Leaf(Mfn, P2mType),
}

impl Entry {
    pub(super) const EMPTY: Self = Self(0);

    pub(super) fn table(at: MachineAddr) -> Self {
        Self((at.0 & ADDRESS) | TABLE_OR_PAGE | VALID)
    }

    pub(super) fn leaf(mfn: Mfn, kind: P2mType, level: u8) -> Self {
        let page = if level == PAGE_LEVEL { TABLE_OR_PAGE } else { 0 };
        Self((mfn.address().0 & ADDRESS) | ((kind as u64) << TYPE_SHIFT) | kind.attributes() | ACCESSED | page | VALID)
    }

    #[inline]
    pub(super) fn meaning(self, level: u8) -> Meaning {
        if self.0 & VALID == 0 {
            return Meaning::Empty;
        }
        let at = MachineAddr(self.0 & ADDRESS);
        if level < PAGE_LEVEL && self.0 & TABLE_OR_PAGE != 0 {
            return Meaning::Table(at);
        }
        P2mType::from_bits((self.0 >> TYPE_SHIFT) & TYPE_MASK).map_or(Meaning::Empty, |kind| Meaning::Leaf(Mfn::containing(at), kind))
    }
}
