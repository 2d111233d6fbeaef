//! Room on the heap, asked for before what takes it without being able to be refused: that ends the hypervisor where there is none.
//!
//! Another CPU may take it meanwhile: only for what the toolstack alone can ask for.

use alloc::vec::Vec;
use core::hint::black_box;

/// What `Arc` adds to its content: two counts, and what aligning takes.
const COUNTS: usize = 64;

/// Whether there is room for that many bytes in one piece.
pub fn for_bytes(bytes: usize) -> bool {
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(bytes).is_ok();
    // Not to be optimised away.
    black_box(&room);
    is_there
}

/// Whether there is room for an `Arc<T>`.
pub fn for_arc<T>() -> bool {
    for_bytes(size_of::<T>() + COUNTS)
}
