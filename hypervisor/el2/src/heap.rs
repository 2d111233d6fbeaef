//! The heap: talc over a little of .bss at first, then over regions claimed from RAM.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;

use talc::base::Talc;
use talc::base::binning::DefaultBinning;
use talc::source::Manual;
use xenolith_core::addr::MachineAddr;
use xenolith_core::lock::Lock;

use crate::mm;

/// Enough for what is read from the device tree before RAM is mapped.
const EARLY_SIZE: usize = 512 << 10;

struct Heap(Lock<Talc<Manual, DefaultBinning>>);

#[global_allocator]
static HEAP: Heap = Heap(Lock::new(Talc::new(Manual)));

#[repr(align(16))]
struct Early(UnsafeCell<[u8; EARLY_SIZE]>);
// SAFETY: nothing but the heap touches the bytes, behind its lock, after `init_early`.
unsafe impl Sync for Early {}
static EARLY: Early = Early(UnsafeCell::new([0; EARLY_SIZE]));

// SAFETY: talc gives out disjoint blocks of the layout asked for, and the lock makes its state one caller's at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == 0 {
            return null_mut();
        }
        // SAFETY: the size is not zero.
        unsafe { self.0.lock().allocate(layout) }.map_or(null_mut(), |block| block.as_ptr())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller got `block` from `alloc` with `layout`, as GlobalAlloc demands.
        unsafe { self.0.lock().deallocate(block, layout) }
    }
}

/// Makes allocation possible before RAM is known. Once.
pub fn init_early() {
    // SAFETY: EARLY is nobody else's, and it lives forever.
    unsafe { HEAP.0.lock().claim(EARLY.0.get().cast(), EARLY_SIZE) };
}

/// Zeroed memory for good.
///
/// # Panics
/// If there is none.
pub fn leak_zeroed(size: usize, align: usize) -> *mut u8 {
    let layout = Layout::from_size_align(size, align).expect("a power of two");
    assert!(size > 0);
    // SAFETY: the size is not zero.
    let block = unsafe { HEAP.alloc_zeroed(layout) };
    assert!(!block.is_null(), "the heap is full");
    block
}

/// Gives `[start, start + len)` to the heap for good.
///
/// # Safety
/// The region is in a bank given to [`mm::map_ram`], and nothing else uses it: not the frame table, a boot module, the device tree.
pub unsafe fn claim(start: MachineAddr, len: u64) {
    // SAFETY: mapped read-write, and the heap's alone by the caller's word.
    unsafe { HEAP.0.lock().claim(mm::direct(start), len as usize) };
}
