//! Operations of both domains, each a line where it is used.

use crate::runtime::{cpu, hypercall, page::Page, peer::yield_cpu, smp};
use crate::verdict::Test;
use guest_abi::event_channel::{AllocUnbound, Close, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_CLOSE};
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::DOMID_SELF;
use guest_abi::xen::hypercall::GRANT_TABLE_OP;

/// Waits for `condition`, `microseconds` at most, and lets others run meanwhile; whether it held.
pub fn within(microseconds: u64, condition: impl Fn() -> bool) -> bool {
    let start = cpu::counter();
    let limit = microseconds * cpu::frequency() / 1_000_000;
    while !condition() {
        if cpu::counter() - start > limit {
            return condition();
        }
        yield_cpu();
    }
    true
}

/// Maps frame `gfn` of domain `dom` at the own frame `at`.
pub fn map_foreign(dom: u16, gfn: u64, at: u64) -> i64 {
    let (mut gfn, mut at, mut err) = (gfn, at, 0x77_i32);
    let mut op = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GMFN_FOREIGN as u16,
        size: 1,
        foreign_domid: dom,
        idxs: hypercall::address(&mut gfn),
        gpfns: hypercall::address(&mut at),
        errs: hypercall::address(&mut err),
    };
    let rc = hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut op);
    if rc == 0 { err.into() } else { rc }
}

/// Takes away whatever is mapped at an own frame.
pub fn remove(gpfn: u64) -> i64 {
    hypercall::memory(XENMEM_REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn, ..Default::default() })
}

/// `populate_physmap` or `decrease_reservation` of domain `domid`: how many extents were done.
pub fn reserve(cmd: u64, gfns: &[u64], extent_order: u32, domid: u16) -> i64 {
    let mut list = [0; 8];
    list[..gfns.len()].copy_from_slice(gfns);
    let extent_start = hypercall::address(&mut list);
    let nr_extents = gfns.len() as u64;
    hypercall::memory(cmd, &mut MemoryReservation { extent_start, nr_extents, extent_order, domid, ..Default::default() })
}

/// Maps the first page of the own grant table at the start of the window: 0, or why not.
pub fn map_table() -> i64 {
    let gpfn = Page::hole(0).gfn();
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx: 0, gpfn })
}

/// Offers an own frame to domain `domid`.
pub fn grant(reference: u32, flags: u16, domid: u16, gfn: u64) {
    let (table, at) = (Page::hole(0), u64::from(reference) * 8);
    table.write32(at + 4, gfn as u32);
    table.write16(at + 2, domid);
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    table.write16(at, flags);
}

/// The flags of an own grant.
pub fn grant_flags(reference: u32) -> u16 {
    Page::hole(0).read16(u64::from(reference) * 8)
}

/// Maps a grant of `dom` at an own frame; return code or status, and the handle.
pub fn map_grant(dom: u16, grant_ref: u32, flags: u32, gfn: u64) -> (i64, u32) {
    let mut op = MapGrantRef { host_addr: gfn * 4096, flags, grant_ref, dom, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_MAP_GRANT_REF, &mut op);
    (if rc == 0 { op.status.into() } else { rc }, op.handle)
}

/// Unmaps what was mapped by `handle` at an own frame; return code or status.
pub fn unmap_grant(handle: u32, gfn: u64) -> i64 {
    let mut op = UnmapGrantRef { host_addr: gfn * 4096, handle, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_UNMAP_GRANT_REF, &mut op);
    if rc == 0 { op.status.into() } else { rc }
}

/// One end of a copy: the own frame `gfn`.
pub fn own(gfn: u64, offset: u16) -> CopyPtr {
    CopyPtr { u: gfn, domid: DOMID_SELF, offset, ..Default::default() }
}

/// One end of a copy: a grant of `dom`.
pub fn by_reference(dom: u16, reference: u32, offset: u16) -> CopyPtr {
    CopyPtr { u: reference.into(), domid: dom, offset, ..Default::default() }
}

/// Copies; return code or status.
pub fn copy(source: CopyPtr, dest: CopyPtr, len: u16, flags: u16) -> i64 {
    let mut op = Copy { source, dest, len, flags, status: 0x77, ..Default::default() };
    let rc = hypercall::raw(GRANT_TABLE_OP, [GNTTABOP_COPY.into(), hypercall::address(&mut op), 1, 0, 0]);
    if rc == 0 { op.status.into() } else { rc }
}

/// Where the shared page is, in the window.
pub const SHARED: u64 = 0x40;

/// Maps the own shared page.
pub fn map_shared() -> i64 {
    let gpfn = Page::hole(SHARED).gfn();
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_SHARED_INFO, idx: 0, gpfn })
}

/// The byte of the two-level bitmap of pending ports, and the bit.
fn pending_bit(port: u32) -> (u64, u8) {
    (48 + u64::from(port / 8), 1 << (port % 8))
}

/// Whether an own port is pending, two-level.
pub fn is_pending(port: u32) -> bool {
    let (at, bit) = pending_bit(port);
    Page::hole(SHARED).read8(at) & bit != 0
}

/// Clears it. Nothing else may change the word meanwhile.
pub fn clear_pending(port: u32) {
    let (at, bit) = pending_bit(port);
    let shared = Page::hole(SHARED);
    shared.write8(at, shared.read8(at) & !bit);
}

/// A port that domain `remote_dom` may bind, or an error.
pub fn offer_port(remote_dom: u16) -> i64 {
    let mut op = AllocUnbound { dom: DOMID_SELF, remote_dom, port: 0 };
    let rc = hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op);
    if rc == 0 { op.port.into() } else { rc }
}

/// Closes an own port.
pub fn close(port: u32) -> i64 {
    hypercall::event(EVTCHNOP_CLOSE, &mut Close { port })
}

/// Starts Dom0's second vCPU, unless it runs.
pub fn start_second(test: &mut Test) {
    let rc = if smp::is_online(1) { 0 } else { smp::start(1) };
    if rc != 0 {
        test.error("start the second vCPU", rc);
    }
}
