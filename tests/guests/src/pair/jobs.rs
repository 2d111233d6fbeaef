//! Jobs of a peer that several subjects use. `a` are their arguments; what they return is a frame, a handle or a return code.

use super::ops;
use crate::runtime::page::Page;
use guest_abi::memory::{XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP};
use guest_abi::xen::DOMID_SELF;

/// Maps the own grant table.
pub fn map_table(_: [u64; 6]) -> u64 {
    ops::map_table().cast_unsigned()
}

/// A fresh page, filled with byte `a[0]`; its frame.
pub fn take(a: [u64; 6]) -> u64 {
    let page = Page::take();
    page.fill(a[0] as u8);
    page.gfn()
}

/// Offers own frame `a[3]` to domain `a[2]` by reference `a[0]` with flags `a[1]`.
pub fn grant(a: [u64; 6]) -> u64 {
    ops::grant(a[0] as u32, a[1] as u16, a[2] as u16, a[3]);
    0
}

/// Flags of own reference `a[0]`.
pub fn flags(a: [u64; 6]) -> u64 {
    ops::grant_flags(a[0] as u32).into()
}

/// Maps grant `a[1]` of domain `a[0]` with flags `a[2]` at page `a[3]` of the window: the handle above, the status below.
pub fn map(a: [u64; 6]) -> u64 {
    let (status, handle) = ops::map_grant(a[0] as u16, a[1] as u32, a[2] as u32, Page::hole(a[3]).gfn());
    u64::from(handle) << 32 | (status as u32 as u64)
}

/// Unmaps handle `a[0]` at page `a[1]` of the window.
pub fn unmap(a: [u64; 6]) -> u64 {
    ops::unmap_grant(a[0] as u32, Page::hole(a[1]).gfn()).cast_unsigned()
}

/// Reads page `a[0]` of the window at `a[1]`.
pub fn read(a: [u64; 6]) -> u64 {
    Page::hole(a[0]).read64(a[1])
}

/// Writes `a[2]` there.
pub fn write(a: [u64; 6]) -> u64 {
    Page::hole(a[0]).write64(a[1], a[2]);
    0
}

/// Takes own frame `a[0]` away.
pub fn decrease(a: [u64; 6]) -> u64 {
    ops::reserve(XENMEM_DECREASE_RESERVATION, &[a[0]], 0, DOMID_SELF).cast_unsigned()
}

/// Gives own frame `a[0]` memory again.
pub fn populate(a: [u64; 6]) -> u64 {
    ops::reserve(XENMEM_POPULATE_PHYSMAP, &[a[0]], 0, DOMID_SELF).cast_unsigned()
}

/// Arguments of a job.
pub fn args<const N: usize>(values: [u64; N]) -> [u64; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&values);
    all
}

/// Maps the shared page.
pub fn map_shared(_: [u64; 6]) -> u64 {
    ops::map_shared().cast_unsigned()
}

/// Whether own port `a[0]` is pending.
pub fn pending(a: [u64; 6]) -> u64 {
    ops::is_pending(a[0] as u32).into()
}

/// Clears it.
pub fn clear(a: [u64; 6]) -> u64 {
    ops::clear_pending(a[0] as u32);
    0
}

/// Offers a port to domain `a[0]`: the port, or an error.
pub fn offer(a: [u64; 6]) -> u64 {
    ops::offer_port(a[0] as u16).cast_unsigned()
}

/// Closes own port `a[0]`.
pub fn close(a: [u64; 6]) -> u64 {
    ops::close(a[0] as u32).cast_unsigned()
}
