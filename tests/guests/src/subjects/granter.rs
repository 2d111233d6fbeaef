//! A domain's grant table as the domain itself fills it.

use crate::runtime::hypercall;
use crate::runtime::page::Page;
use guest_abi::grant_table::*;
use guest_abi::memory::{AddToPhysmap, XENMAPSPACE_GRANT_TABLE, XENMEM_ADD_TO_PHYSMAP};
use guest_abi::xen::DOMID_SELF;

/// Where the table is mapped.
pub const TABLE: u64 = 0x3_8000;

/// This domain's id as an event channel tells it.
fn own_id() -> u16 {
    use guest_abi::event_channel::*;
    let mut port = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
    hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut port);
    let mut status = Status { dom: DOMID_SELF, port: port.port, ..Default::default() };
    hypercall::event(EVTCHNOP_STATUS, &mut status);
    hypercall::event(EVTCHNOP_CLOSE, &mut Close { port: port.port });
    status.binding as u16
}

/// The domain's grant table, and its id.
#[derive(Clone, Copy)]
pub struct Granter {
    table: Page,
    /// The domain's id: a grant must name its grantee, and a map its granter.
    pub own: u16,
}

impl Granter {
    /// The first frame of the table, which is mapped if it was not. `None` if that fails.
    pub fn new() -> Option<Self> {
        let mut args = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx: 0, gpfn: TABLE };
        let rc = hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args);
        (rc == 0 || rc == -16).then(|| Self { table: Page::window(TABLE), own: own_id() })
    }

    /// Writes an entry, its flags last.
    pub fn entry(&self, reference: u32, flags: u16, domid: u16, frame: u64) {
        let at = u64::from(reference) * 8;
        self.table.write32(at + 4, frame as u32);
        self.table.write16(at + 2, domid);
        self.table.write16(at, flags);
    }

    /// Grants a page to the domain itself.
    pub fn grant(&self, reference: u32, page: Page) {
        self.entry(reference, GTF_PERMIT_ACCESS, self.own, page.gfn());
    }

    /// The flags of an entry, in which the hypervisor tells who uses it.
    pub fn flags(&self, reference: u32) -> u16 {
        self.table.read16(u64::from(reference) * 8)
    }
}

/// An operand of a copy: a page of the domain's own.
pub fn own_page(page: Page, offset: u16) -> CopyPtr {
    CopyPtr { u: page.gfn(), domid: DOMID_SELF, offset, ..Default::default() }
}

/// Maps a grant; a status of 0x7e00 stands for a hypercall that failed.
pub fn map(flags: u32, grant_ref: u32, dom: u16, host_addr: u64) -> MapGrantRef {
    let mut op = MapGrantRef { host_addr, flags, grant_ref, dom, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_MAP_GRANT_REF, &mut op);
    MapGrantRef { status: if rc == 0 { op.status } else { 0x7e00 }, ..op }
}

/// Unmaps a handle; the status, as in [`map`].
pub fn unmap(handle: u32, host_addr: u64, dev_bus_addr: u64) -> i16 {
    let mut op = UnmapGrantRef { host_addr, dev_bus_addr, handle, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_UNMAP_GRANT_REF, &mut op);
    if rc == 0 { op.status } else { 0x7e00 }
}
