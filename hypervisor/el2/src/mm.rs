//! The address space of EL2: what is mapped where, and with which rights.
//!
//! `head` has mapped the image with its final permissions. [`init`] makes the root that all CPUs use from then on (without the identity
//! map of the boot root), and the rest is only ever added: devices, stacks, RAM. Nothing is unmapped, so nothing needs a TLB flush.
//! Writable memory is never executable (`SCTLR_EL2.WXN`, and every entry made here is XN).

pub mod layout;
mod table;

use core::sync::atomic::{AtomicU64, Ordering};

use layout::*;
use table::{Attributes, Tables};
use xenolith_core::addr::{MachineAddr, PAGE_SIZE};
use xenolith_core::boot::Region;
use xenolith_core::lock::Lock;

use crate::barrier;
use crate::sysreg::{self, write};

/// The machine address of the root table, for `TTBR0_EL2`. `head` reads it on every secondary CPU.
pub static ROOT: AtomicU64 = AtomicU64::new(0);
/// The machine address of the image.
static IMAGE: AtomicU64 = AtomicU64::new(0);

static MEMORY: Lock<Memory> = Lock::new(Memory { tables: Tables::new(), next_device: DEVICE_BASE, next_stack: STACK_BASE });

struct Memory {
    tables: Tables,
    next_device: u64,
    next_stack: u64,
}

unsafe extern "C" {
    static __image_end: u8;
    static __rodata_end: u8;
    static image_l1: u8;
}

/// Leaves the boot root for one without the identity map. `image` is the machine address of the image, as `head` found it.
pub fn init(image: MachineAddr) {
    let image = image.0;
    IMAGE.store(image, Ordering::Relaxed);
    let mut memory = MEMORY.lock();
    let root = memory.tables.init((&raw const image_l1) as u64 - IMAGE_BASE + image);
    ROOT.store(root, Ordering::Release);
    barrier::publish_tables();
    // SAFETY: the new root maps the image, stack included, exactly as the old one does; only the identity map goes.
    unsafe { write!("ttbr0_el2", root) };
    barrier::isb();
    sysreg::tlbi_el2_all();
}

/// The machine addresses that the image occupies with its .bss: never given to a domain.
pub fn image_range() -> (MachineAddr, u64) {
    (MachineAddr(IMAGE.load(Ordering::Relaxed)), (&raw const __image_end) as u64 - IMAGE_BASE)
}

/// Enters RAM into the direct map, but for the image's text and constants, which nothing may write. Partial pages at the ends are left out.
///
/// Every byte of the region must be RAM that may be mapped cacheable, and in no region given before.
pub fn map_ram(ram: Region) {
    let (image, _) = image_range();
    let constants_end = image.0 + (&raw const __rodata_end) as u64 - IMAGE_BASE;
    let Some(ram) = ram.shrink_to(PAGE_SIZE) else { return };
    let (start, end) = (ram.start().0, ram.end().0.min(DIRECT_SIZE));
    let mut memory = MEMORY.lock();
    let mut add = |from: u64, to: u64| {
        if from < to {
            memory.tables.map(DIRECT_BASE + from, from, to - from, Attributes::Data);
        }
    };
    add(start, end.min(image.0));
    add(start.max(constants_end), end);
    drop(memory);
    barrier::publish_tables();
}

/// Where a machine address is in the direct map. Using the result is an EL2 fault (a register dump) unless it was in a bank of [`map_ram`].
pub fn direct(at: MachineAddr) -> *mut u8 {
    assert!(at.0 < DIRECT_SIZE);
    core::ptr::with_exposed_provenance_mut((DIRECT_BASE + at.0) as usize)
}

/// The machine address of a byte that the direct map or the image holds: heap, statics, never a stack.
pub fn machine_address<T: ?Sized>(of: *const T) -> MachineAddr {
    let va = of.cast::<u8>().addr() as u64;
    let (image, image_len) = image_range();
    if va >= DIRECT_BASE {
        MachineAddr(va - DIRECT_BASE)
    } else {
        assert!((IMAGE_BASE..IMAGE_BASE + image_len).contains(&va));
        MachineAddr(va - IMAGE_BASE + image.0)
    }
}

/// Maps device registers, whole pages, for the life of the machine; returns where `at` is.
pub fn map_device(at: MachineAddr, len: u64) -> *mut u8 {
    const BLOCK: u64 = 2 << 20;
    let first = at.0 & !(PAGE_SIZE - 1);
    let size = (at.0 + len).next_multiple_of(PAGE_SIZE) - first;
    let mut memory = MEMORY.lock();
    // The same offset in a block as the machine address: large windows then need few entries. An unmapped page follows.
    let va = memory.next_device.next_multiple_of(BLOCK) + first % BLOCK;
    memory.next_device = va + size + PAGE_SIZE;
    memory.tables.map(va, first, size, Attributes::Device);
    drop(memory);
    barrier::publish_tables();
    core::ptr::with_exposed_provenance_mut((va + at.0 % PAGE_SIZE) as usize)
}

/// Maps `memory` (`STACK_SIZE` bytes, page aligned, from the heap) as a stack above an unmapped gap; returns its top.
pub fn map_stack(stack: &'static mut [u8]) -> u64 {
    assert!(stack.len() as u64 == STACK_SIZE);
    let at = machine_address(stack.as_ptr());
    let mut memory = MEMORY.lock();
    let va = memory.next_stack + STACK_STRIDE - STACK_SIZE;
    memory.next_stack += STACK_STRIDE;
    memory.tables.map(va, at.0, STACK_SIZE, Attributes::Data);
    drop(memory);
    barrier::publish_tables();
    va + STACK_SIZE
}

/// The device tree that the boot loader passed, with what follows it in the window: `at` is where `head` mapped it. `None` if there was
/// none, or it is not aligned as it must be.
pub fn device_tree(at: u64) -> Option<&'static [u8]> {
    if !(FDT_WINDOW..FDT_WINDOW + FDT_WINDOW_SIZE / 2).contains(&at) || !at.is_multiple_of(8) {
        return None;
    }
    let pointer: *const u8 = core::ptr::with_exposed_provenance(at as usize);
    // SAFETY: at most 2 MiB from within the first of two blocks of 2 MiB that `head` mapped read-only; nothing writes there: the caller keeps the
    // memory of the tree, and looks at no byte behind its end.
    Some(unsafe { core::slice::from_raw_parts(pointer, (FDT_WINDOW_SIZE / 2) as usize) })
}
