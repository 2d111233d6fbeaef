//! The hypervisor's books: after each subject free memory is what it was before, and Xenolith's own audit finds nothing wrong.

use super::ops;
use super::peer::{self, Peer};
use crate::runtime::peer::{MAILBOX_GFN, yield_cpu};
use crate::runtime::{control, cpu, hypercall, page::Page};
use crate::verdict::{Around, Test};
use guest_abi::sysctl::{DebugKeys, PhysInfo, XEN_SYSCTL_DEBUG_KEYS, XEN_SYSCTL_PHYSINFO};
use guest_abi::txcopy::{Query, TXCOPY_OP, TXCOPY_QUERY};

/// Pages of free memory.
pub fn free_pages() -> u64 {
    let mut info = PhysInfo::default();
    control::sysctl(XEN_SYSCTL_PHYSINFO, &mut info);
    info.free_pages
}

/// Whether this hypervisor is Xenolith: it has tx copy.
pub fn is_xenolith() -> bool {
    hypercall::with(TXCOPY_OP, TXCOPY_QUERY, &mut Query::default()) == 0
}

/// Pages that Xen may keep of what it took for its own use.
const HEAP: u64 = 16;

/// Looks at the books around a subject.
pub struct Watch;

impl Around for Watch {
    type Before = u64;

    fn before(&self) -> u64 {
        free_pages()
    }

    fn after(&self, test: &mut Test, before: u64) {
        // What a dead domain had comes back a little later.
        let start = cpu::counter();
        while free_pages() != before && cpu::counter() - start < cpu::frequency() {
            yield_cpu();
        }
        let now = free_pages();
        // Xen's heap may have grown a little; Xenolith's is apart.
        let slack = if is_xenolith() { 0 } else { HEAP };
        if now.abs_diff(before) > slack {
            test.fail("books", format_args!("{now} pages are free, {before} were before"));
        }
        // The result is a line of the hypervisor's, which the reader of this console looks for. Xen uses the key for something else.
        if is_xenolith() {
            let mut key = b'A';
            let mut op = DebugKeys { keys: hypercall::address(&mut key), nr_keys: 1, ..Default::default() };
            control::sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut op);
        }
    }
}

/// A domain that comes and goes, so that page tables and heap have grown before anything is counted.
pub fn warm_up() {
    if let Ok(peer) = Peer::build(2) {
        // One table of stage 2 for each 512 frames of the window.
        for n in [0x1ff, 0x3ff, 0x5ff, 0x7ff] {
            ops::map_foreign(peer.id, MAILBOX_GFN, Page::hole(n).gfn());
            ops::remove(Page::hole(n).gfn());
        }
        peer.kill();
        ops::within(2_000_000, || !peer::exists(peer.id));
        ops::within(200_000, || false);
    }
}
