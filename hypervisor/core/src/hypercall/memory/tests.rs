//! Tests of `memory_op` as guests use and misuse it: return values, effects, and that a refused operation leaves no trace.

use super::*;
use crate::addr::{Gfn, Mfn};
use crate::domain::create::Config;
use crate::frames::FrameKind;
use crate::machine::Machine;
use crate::p2m::{Mapping, P2mType};
use crate::policy::Policy;
use crate::testbed::{RAM, Testbed};
use crate::vgic::VgicConfig;
use guest_abi::memory::*;
use guest_abi::xen::DOMID_XEN;
use guest_abi::xen::hypercall::MEMORY_OP;
use std::vec;
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

mod mapping;
mod reservations;

/// RAM page in which arguments lie; lists are in the pages after it.
const ARG: u64 = 0;
/// Guest frames where nothing is.
const HOLE: u64 = 0x9_0000;

const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const ESRCH: i64 = -3;
const EIO: i64 = -5;
const EFAULT: i64 = -14;
const EBUSY: i64 = -16;
const EACCES: i64 = -13;
const EINVAL: i64 = -22;
const EDOM: i64 = -33;
const ENOSYS: i64 = -38;
const EOVERFLOW: i64 = -75;
const EILSEQ: i64 = -84;
const EOPNOTSUPP: i64 = -95;

/// Dom0 and two DomUs with 8 pages each, of which the DomUs may have 700.
struct World {
    bed: Testbed,
    dom0: Arc<Domain>,
    a: Arc<Domain>,
    b: Arc<Domain>,
}

impl World {
    fn new() -> Self {
        let bed = Testbed::new(Policy::Silo);
        let (dom0, a, b) = (bed.domain(0, 8), bed.domain(1, 8), bed.domain(2, 8));
        bed.hv.frames.account(a.vmid).set_max_pages(700);
        bed.hv.frames.account(b.vmid).set_max_pages(700);
        Self { bed, dom0, a, b }
    }

    /// One hypercall whose argument lies in RAM page [`ARG`].
    fn op<T: IntoBytes + Immutable>(&self, caller: &Arc<Domain>, cmd: u64, arg: T) -> i64 {
        self.bed.poke(caller, Testbed::va(ARG, 0), &[arg]);
        self.bed.hypercall(caller, MEMORY_OP, [cmd, Testbed::va(ARG, 0), 0, 0, 0]).0
    }

    /// The argument as the hypercall left it.
    fn result<T: FromBytes>(&self, caller: &Arc<Domain>) -> T {
        self.bed.peek(caller, Testbed::va(ARG, 0), 1).remove(0)
    }

    /// Puts a list in the guest's RAM page `page`; its address.
    fn list<T: IntoBytes + Immutable>(&self, caller: &Arc<Domain>, page: u64, values: &[T]) -> u64 {
        self.bed.poke(caller, Testbed::va(page, 0), values);
        Testbed::va(page, 0)
    }

    fn reservation(&self, caller: &Arc<Domain>, domid: u16, order: u32, gfns: &[u64]) -> MemoryReservation {
        let extent_start = self.list(caller, 1, gfns);
        MemoryReservation { extent_start, nr_extents: gfns.len() as u64, extent_order: order, domid, ..Default::default() }
    }

    fn populate(&self, caller: &Arc<Domain>, domid: u16, order: u32, gfns: &[u64]) -> i64 {
        self.op(caller, XENMEM_POPULATE_PHYSMAP, self.reservation(caller, domid, order, gfns))
    }

    fn decrease(&self, caller: &Arc<Domain>, domid: u16, order: u32, gfns: &[u64]) -> i64 {
        self.op(caller, XENMEM_DECREASE_RESERVATION, self.reservation(caller, domid, order, gfns))
    }

    fn add(&self, caller: &Arc<Domain>, domid: u16, space: u32, idx: u64, gpfn: u64) -> i64 {
        self.op(caller, XENMEM_ADD_TO_PHYSMAP, AddToPhysmap { domid, size: 0, space, idx, gpfn })
    }

    fn remove(&self, caller: &Arc<Domain>, domid: u16, gpfn: u64) -> i64 {
        self.op(caller, XENMEM_REMOVE_FROM_PHYSMAP, RemoveFromPhysmap { domid, gpfn, ..Default::default() })
    }

    /// Maps foreign frames; the result and the errors of each.
    fn foreign(&self, caller: &Arc<Domain>, owner: u16, from: &[u64], to: &[u64]) -> (i64, Vec<i32>) {
        let args = AddToPhysmapBatch {
            domid: DOMID_SELF,
            space: XENMAPSPACE_GMFN_FOREIGN as u16,
            size: from.len() as u16,
            foreign_domid: owner,
            idxs: self.list(caller, 1, from),
            gpfns: self.list(caller, 2, to),
            errs: self.list(caller, 3, &vec![77i32; from.len()]),
        };
        let result = self.op(caller, XENMEM_ADD_TO_PHYSMAP_BATCH, args);
        (result, self.bed.peek(caller, Testbed::va(3, 0), from.len()))
    }

    fn acquire(&self, caller: &Arc<Domain>, domid: u16, frame: u64, gfns: &[u64]) -> i64 {
        let frame_list = self.list(caller, 1, gfns);
        let kind = XENMEM_RESOURCE_GRANT_TABLE;
        self.op(
            caller,
            XENMEM_ACQUIRE_RESOURCE,
            AcquireResource { domid, kind, nr_frames: gfns.len() as u32, frame, frame_list, ..Default::default() },
        )
    }

    fn at(&self, domain: &Domain, gfn: u64) -> Option<(Mfn, P2mType)> {
        domain.p2m.lookup(Gfn(gfn)).map(|Mapping { mfn, kind, .. }| (mfn, kind))
    }

    fn pages(&self, domain: &Domain) -> u64 {
        self.bed.hv.frames.account(domain.vmid).tot_pages()
    }

    /// Everything there is to see of pages: whose, what for, how often referenced.
    fn snapshot(&self) -> Vec<(Mfn, crate::frames::FrameInfo)> {
        self.bed.hv.frames.iter().filter(|(_, info)| info.kind != FrameKind::Table).collect()
    }
}

/// A Dom0 whose RAM is mapped one to one: `pages` pages from the returned frame on.
fn direct_dom0(bed: &Testbed, pages: u64) -> (Arc<Domain>, u64) {
    let config = Config {
        id: Some(DomainId(0)),
        privileged: true,
        is_console: false,
        direct_mapped: true,
        handle: [0; 16],
        max_vcpus: 1,
        max_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 2,
        spis: 32,
        pool: u64::MAX,
        event_ppi: 31,
        vgic: VgicConfig::guest_v3(),
    };
    let dom0 = bed.hv.create_domain(config).unwrap();
    bed.hv.create_vcpus(&dom0).unwrap();
    bed.hv.frames.account(dom0.vmid).set_max_pages(pages);
    let first = bed.hv.frames.allocate(dom0.vmid, pages.ilog2(), FrameKind::Ram).unwrap();
    dom0.p2m.edit(&bed.hv.frames).map_range(Gfn(first.0), first, pages, P2mType::RamRw).unwrap();
    (dom0, first.0)
}

#[test]
fn operations_that_arm_does_not_have() {
    let w = World::new();
    for op in [5, 8, 9, 10, 12, 13, 16, 17, 20, 21, 22, 25, 29, 63] {
        assert_eq!(w.op(&w.dom0, op, 0u64), ENOSYS, "{op}");
    }
    for op in [XENMEM_GET_SHARING_FREED_PAGES, XENMEM_GET_SHARING_SHARED_PAGES] {
        assert_eq!(w.op(&w.a, op, 0u64), 0);
    }
    assert_eq!(w.op(&w.a, XENMEM_GET_VNUMAINFO, [DOMID_SELF, 0]), EOPNOTSUPP);
    assert_eq!(w.op(&w.a, XENMEM_GET_VNUMAINFO, [DOMID_SELF, 1]), EINVAL);
    assert_eq!(w.op(&w.a, XENMEM_GET_VNUMAINFO, [2, 0]), EPERM);
    let order = |extent_order| MemoryReservation { extent_order, ..Default::default() };
    let exchange = |a, b| MemoryExchange { input: order(a), output: order(b), nr_exchanged: 0 };
    assert_eq!(w.op(&w.a, XENMEM_EXCHANGE, exchange(10, 0)), EPERM);
    assert_eq!(w.op(&w.a, XENMEM_EXCHANGE, exchange(0, u32::MAX)), EPERM);
    assert_eq!(w.op(&w.a, XENMEM_EXCHANGE, exchange(9, 9)), EPERM, "Dom0's");
}

#[test]
fn exchanges_are_looked_at_but_never_made() {
    let w = World::new();
    let list = w.list(&w.a, 1, &[RAM, HOLE]);
    let side = |extent_start, nr_extents, extent_order| MemoryReservation {
        extent_start,
        nr_extents,
        extent_order,
        domid: DOMID_SELF,
        ..Default::default()
    };
    let exchange = |input, output, nr_exchanged| w.op(&w.a, XENMEM_EXCHANGE, MemoryExchange { input, output, nr_exchanged });
    let before = w.snapshot();
    assert_eq!(exchange(side(list, 1, 0), side(list, 1, 0), 0), EOPNOTSUPP);
    assert_eq!(exchange(side(list, 512, 0), side(list, 1, 9), 511), EOPNOTSUPP, "the chunk from its start");
    assert_eq!(exchange(side(list, 2, 0), side(list, 2, 0), 1), EINVAL, "no page there");
    assert_eq!(exchange(side(list, 1, 0), side(list, 1, 0), 1), 0);
    assert_eq!(exchange(side(list, 1, 0), side(list, 1, 0), 2), EINVAL);
    assert_eq!(exchange(side(list, 1, 0), side(list, 2, 0), 0), EINVAL);
    assert_eq!(exchange(side(list, u64::MAX, 1), side(list, u64::MAX, 1), 0), EINVAL);
    assert_eq!(exchange(side(8, 1, 0), side(list, 1, 0), 0), EFAULT);
    assert_eq!(exchange(side(list, 1, 0), MemoryReservation { domid: 2, ..side(list, 1, 0) }, 0), EINVAL);
    assert!(before == w.snapshot());
}

#[test]
fn progress_bits_are_checked() {
    let w = World::new();
    for op in [XENMEM_MAXIMUM_RAM_PAGE, XENMEM_CURRENT_RESERVATION, XENMEM_REMOVE_FROM_PHYSMAP, XENMEM_CLAIM_PAGES, XENMEM_EXCHANGE, 27] {
        assert_eq!(w.op(&w.dom0, op | 1 << 6, 0u64), EINVAL, "{op}");
    }
    for op in [XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH] {
        assert_eq!(w.op(&w.dom0, op | 0x1_0000 << 6, [0u64; 4]), EDOM, "{op}");
    }
    // A start beyond the end is what was done.
    let one = w.reservation(&w.a, DOMID_SELF, 0, &[HOLE]);
    for (start, done) in [(1, 1), (5, 5), (u64::MAX >> 6, (u64::MAX >> 6) as i64)] {
        assert_eq!(w.op(&w.a, XENMEM_POPULATE_PHYSMAP | start << 6, one), done);
    }
}

#[test]
fn every_argument_may_be_unreadable() {
    let w = World::new();
    for op in 0..=XENMEM_ACQUIRE_RESOURCE {
        let result = w.bed.hypercall(&w.dom0, MEMORY_OP, [op, Testbed::va(8, 0) - 1, 0, 0, 0]).0;
        let expected = match op {
            XENMEM_INCREASE_RESERVATION | XENMEM_DECREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP => 0,
            XENMEM_GET_SHARING_FREED_PAGES | XENMEM_GET_SHARING_SHARED_PAGES => 0,
            XENMEM_MAXIMUM_RAM_PAGE => w.bed.hv.fixed.max_mfn as i64 + 1,
            5 | 8..=10 | 12 | 13 | 16 | 17 | 20..=22 | 25 => ENOSYS,
            _ => EFAULT,
        };
        assert_eq!(result, expected, "{op}");
    }
}

#[test]
fn statistics_are_for_oneself_and_the_control_domain() {
    let w = World::new();
    let ask = |caller, op, domid| w.op(caller, op, MemoryDomain { domid });
    assert_eq!(ask(&w.a, XENMEM_CURRENT_RESERVATION, DOMID_SELF), 8);
    assert_eq!(ask(&w.a, XENMEM_CURRENT_RESERVATION, 1), 8);
    assert_eq!(ask(&w.dom0, XENMEM_MAXIMUM_RESERVATION, 2), 700);
    assert_eq!(ask(&w.dom0, XENMEM_MAXIMUM_GPFN, 2), (RAM + 7) as i64);
    assert_eq!(ask(&w.a, XENMEM_MAXIMUM_GPFN, 2), EPERM);
    assert_eq!(ask(&w.a, XENMEM_MAXIMUM_GPFN, 9), ESRCH);
}

#[test]
fn claims_are_the_control_domains() {
    let w = World::new();
    let claim = |caller, domid, nr_extents| w.op(caller, XENMEM_CLAIM_PAGES, MemoryReservation { domid, nr_extents, ..Default::default() });
    let free = w.bed.hv.frames.free_pages();
    assert_eq!(claim(&w.a, 1, 10), EPERM);
    assert_eq!(claim(&w.dom0, DOMID_SELF, 10), EINVAL);
    assert_eq!(claim(&w.dom0, 1, free + 9), EINVAL, "more than it may have");
    w.bed.hv.frames.account(w.a.vmid).set_max_pages(u64::MAX);
    assert_eq!(claim(&w.dom0, 1, free + 9), -12);
    assert_eq!(claim(&w.dom0, 1, 100), 0);
    assert_eq!(claim(&w.dom0, 1, 100), EINVAL);
    assert_eq!(w.bed.hv.frames.account(w.a.vmid).claimed(), 92);
    assert_eq!(w.populate(&w.dom0, 1, 0, &[HOLE, HOLE + 1]), 2);
    assert_eq!(w.bed.hv.frames.account(w.a.vmid).claimed(), 90);
    assert_eq!(claim(&w.dom0, 1, 0), 0);
    assert_eq!(w.bed.hv.frames.claimed_pages(), 0);
    let bad = MemoryReservation { domid: 1, nr_extents: 1, ..Default::default() };
    for bad in [
        MemoryReservation { extent_start: 8, ..bad },
        MemoryReservation { extent_order: 1, ..bad },
        MemoryReservation { mem_flags: 1, ..bad },
    ] {
        assert_eq!(w.op(&w.dom0, XENMEM_CLAIM_PAGES, bad), EINVAL);
    }
}
