//! Stage-1 translation tables of EL2: 4 levels of 4 KiB, entries only added.

use core::sync::atomic::{AtomicU64, Ordering};

use xenolith_core::addr::{MachineAddr, PAGE_SIZE};

use super::layout::*;
use super::{direct, machine_address};
use crate::heap;

/// Tables that come from .bss; after them, from the heap.
const STATIC_TABLES: usize = 32;
/// An entry that refers to a table, or maps a page at the last level.
const TABLE: u64 = 3;
/// An entry that maps a block, above the last level.
const BLOCK: u64 = 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// What is mapped, and so how.
#[derive(Clone, Copy)]
pub enum Attributes {
    /// RAM: read, write, normal write-back, inner shareable.
    Data,
    /// Device registers: read, write, nGnRE.
    Device,
}

impl Attributes {
    /// Attribute index, AP\[1\] (RES1 at EL2), shareability, access flag, XN. The indices are those of `head`'s MAIR_EL2.
    const fn bits(self) -> u64 {
        const AP1: u64 = 1 << 6;
        const AF: u64 = 1 << 10;
        const XN: u64 = 1 << 54;
        match self {
            Self::Data => XN | AF | AP1 | 3 << 8,
            Self::Device => XN | AF | AP1 | 1 << 2,
        }
    }
}

#[repr(align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

static POOL: [Table; STATIC_TABLES] = [const { Table::new() }; STATIC_TABLES];

/// The tree of tables.
pub struct Tables {
    root: Option<&'static Table>,
    /// How many of the static tables are taken.
    taken: usize,
}

impl Tables {
    pub const fn new() -> Self {
        Self { root: None, taken: 0 }
    }

    /// Makes the root, with the image behind the table `image_l1` (a machine address); returns the root's machine address.
    pub fn init(&mut self, image_l1: u64) -> u64 {
        let root = self.allocate();
        root.0[index(IMAGE_BASE, 0)].store(image_l1 | TABLE, Ordering::Relaxed);
        self.root = Some(root);
        machine_address(root).0
    }

    /// Maps page-aligned `[at, at + len)` at `va`, with the largest blocks that fit. Nothing may be mapped there yet.
    pub fn map(&mut self, va: u64, at: u64, len: u64, attributes: Attributes) {
        assert!((va | at | len).is_multiple_of(PAGE_SIZE));
        let mut done = 0;
        while done < len {
            let fits = |size: u64| (va + done).is_multiple_of(size) && (at + done).is_multiple_of(size) && len - done >= size;
            let level = (1..3).find(|level| fits(size(*level))).unwrap_or(3);
            let kind = if level == 3 { TABLE } else { BLOCK };
            let entry = self.entry(va + done, level);
            assert!(entry.load(Ordering::Relaxed) == 0, "mapped twice");
            entry.store((at + done) | attributes.bits() | kind, Ordering::Relaxed);
            done += size(level);
        }
    }

    /// The entry of `va` at `level`, with the tables above it.
    fn entry(&mut self, va: u64, level: u32) -> &'static AtomicU64 {
        let mut table = self.root.expect("mm::init comes first");
        for above in 0..level {
            let entry = &table.0[index(va, above)];
            table = match entry.load(Ordering::Relaxed) {
                0 => {
                    let next = self.allocate();
                    entry.store(machine_address(next).0 | TABLE, Ordering::Relaxed);
                    next
                }
                old => {
                    assert!(old & TABLE == TABLE, "mapped twice");
                    at(MachineAddr(old & ADDRESS))
                }
            };
        }
        &table.0[index(va, level)]
    }

    fn allocate(&mut self) -> &'static Table {
        self.taken += 1;
        POOL.get(self.taken - 1).unwrap_or_else(|| {
            let table = heap::leak_zeroed(size_of::<Table>(), align_of::<Table>()).cast_const().cast();
            // SAFETY: large enough, aligned, nobody else's; a table of zeroes is an empty one.
            unsafe { &*table }
        })
    }
}

/// The table at a machine address that an entry of ours held.
fn at(table: MachineAddr) -> &'static Table {
    let (image, image_len) = super::image_range();
    let pointer: *const Table = if (image.0..image.0 + image_len).contains(&table.0) {
        core::ptr::with_exposed_provenance((table.0 - image.0 + IMAGE_BASE) as usize)
    } else {
        direct(table).cast_const().cast()
    };
    // SAFETY: only `allocate` makes tables (and `head`, those of the image); none is ever freed, and all access is atomic.
    unsafe { &*pointer }
}

/// Bytes that an entry at `level` maps.
const fn size(level: u32) -> u64 {
    1 << (39 - 9 * level)
}

/// The index of `va` in a table at `level`.
const fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level) & 511) as usize
}
