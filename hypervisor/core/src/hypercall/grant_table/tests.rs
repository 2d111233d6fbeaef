//! Tests of `grant_table_op` as guests use and misuse it: statuses, effects, and that a refused operation leaves no trace.

use super::*;
use crate::addr::{Gfn, MachineAddr, Mfn, PAGE_SIZE, Vmid};
use crate::machine::Machine;
use crate::machine::fake::Asked;
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::testbed::{RAM, Testbed, heap};
use guest_abi::grant_table::*;
use guest_abi::xen::hypercall::GRANT_TABLE_OP;
use std::vec;
use std::vec::Vec;

mod copies;
mod hostile;
mod maps;
mod sizes;

/// RAM page in which lists of operations lie; the page after it is RAM, too.
const LIST: u64 = 0;
/// Where grants are mapped: nothing is there.
const HOLE: u64 = 0x9_0000;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;

/// Dom0 and two DomUs.
struct World {
    bed: Testbed,
    dom0: Arc<Domain>,
    a: Arc<Domain>,
    b: Arc<Domain>,
}

impl World {
    fn new() -> Self {
        Self::with(Policy::Silo)
    }

    fn with(policy: Policy) -> Self {
        let bed = Testbed::new(policy);
        let (dom0, a, b) = (bed.domain(0, 8), bed.domain(1, 8), bed.domain(2, 8));
        Self { bed, dom0, a, b }
    }

    fn entry_at(granter: &Domain, reference: u32) -> MachineAddr {
        let frame = granter.grants.frame(reference / 512).unwrap();
        MachineAddr(frame.address().0 + 8 * u64::from(reference % 512))
    }

    /// Grants RAM page `page` of `granter`.
    fn grant(&self, granter: &Domain, reference: u32, flags: u16, to: u16, page: u64) {
        let entry = GrantEntryV1 { flags, domid: to, frame: (RAM + page) as u32 };
        self.bed.machine.write(Self::entry_at(granter, reference), zerocopy::IntoBytes::as_bytes(&entry));
    }

    fn flags(&self, granter: &Domain, reference: u32) -> u16 {
        self.bed.machine.load_u32(Self::entry_at(granter, reference)) as u16
    }

    /// One hypercall on a list; its result and the list afterwards.
    fn ops<T: FromBytes + IntoBytes + Immutable>(&self, caller: &Arc<Domain>, cmd: u32, ops: &[T]) -> (i64, Vec<T>) {
        let list = Testbed::va(LIST, 0);
        self.bed.poke(caller, list, ops);
        let (result, _) = self.bed.hypercall(caller, GRANT_TABLE_OP, [cmd.into(), list, ops.len() as u64, 0, 0]);
        (result, self.bed.peek(caller, list, ops.len()))
    }

    fn op<T: FromBytes + IntoBytes + Immutable + core::marker::Copy>(&self, caller: &Arc<Domain>, cmd: u32, op: T) -> T {
        let (result, ops) = self.ops(caller, cmd, &[op]);
        assert_eq!(result, 0);
        ops[0]
    }

    fn map(&self, caller: &Arc<Domain>, op: MapGrantRef) -> MapGrantRef {
        self.op(caller, GNTTABOP_MAP_GRANT_REF, op)
    }

    fn unmap(&self, caller: &Arc<Domain>, handle: u32, host_addr: u64) -> i16 {
        self.op(caller, GNTTABOP_UNMAP_GRANT_REF, UnmapGrantRef { host_addr, handle, status: 0x77, ..Default::default() }).status
    }

    fn copy(&self, caller: &Arc<Domain>, op: abi::Copy) -> i16 {
        self.op(caller, GNTTABOP_COPY, op).status
    }

    fn mapped(&self, domain: &Domain, gfn: u64) -> Option<(Mfn, P2mType)> {
        domain.p2m.lookup(Gfn(gfn)).map(|m| (m.mfn, m.kind))
    }

    /// Nothing is in use: no page, entry or handle.
    fn assert_idle(&self) {
        assert_eq!(self.bed.pages_in_use(), []);
        for domain in [&self.dom0, &self.a, &self.b] {
            domain.grants.for_each_pinned(|p| panic!("{p:?} of {:?}", domain.id));
            domain.grants.for_each_mapping(|e| panic!("{e:?} of {:?} is mapped", domain.id));
        }
        self.bed.hv.audit().unwrap();
    }
}

fn map_op(dom: u16, grant_ref: u32, gfn: u64, flags: u32) -> MapGrantRef {
    MapGrantRef { host_addr: gfn * PAGE_SIZE, flags, grant_ref, dom, status: 0x77, handle: 0x7777_7777, dev_bus_addr: 0x7777 }
}

#[test]
fn commands_and_counts_are_checked() {
    let w = World::new();
    let call = |cmd: u64, count: u64| w.bed.hypercall(&w.a, GRANT_TABLE_OP, [cmd, Testbed::va(LIST, 0), count, 0, 0]).0;
    for cmd in [GNTTABOP_DUMP_TABLE, 13, 0xfff] {
        assert_eq!(call(cmd.into(), 1), -38);
    }
    for cmd in (0..12).filter(|&c| c != GNTTABOP_DUMP_TABLE) {
        assert_eq!(call(cmd.into(), 1 << 31), EINVAL, "a negative count");
        assert_eq!(call(u64::from(cmd) | 1 << 12, 1), EINVAL, "progress bits");
    }
    for cmd in [GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GNTTABOP_COPY, GNTTABOP_SWAP_GRANT_REF, GNTTABOP_CACHE_FLUSH] {
        assert_eq!(call(cmd.into(), 0), 0, "an empty list");
    }
    for cmd in [GNTTABOP_SETUP_TABLE, GNTTABOP_QUERY_SIZE, GNTTABOP_GET_STATUS_FRAMES] {
        assert_eq!((call(cmd.into(), 0), call(cmd.into(), 2)), (EINVAL, EINVAL), "exactly one");
    }
    assert_eq!(call(u64::from(GNTTABOP_MAP_GRANT_REF) | 1 << 32, 0), 0, "arguments are 32 bits wide");
    w.assert_idle();
}

#[test]
fn a_list_that_is_not_ram_faults() {
    let w = World::new();
    for cmd in (0..=12).filter(|&c| !matches!(c as u32, GNTTABOP_DUMP_TABLE | GNTTABOP_TRANSFER)) {
        for list in [0, HOLE * PAGE_SIZE, u64::MAX, u64::MAX - 7] {
            assert_eq!(w.bed.hypercall(&w.a, GRANT_TABLE_OP, [cmd, list, 1, 0, 0]).0, EFAULT, "command {cmd} at {list:#x}");
        }
    }
    w.assert_idle();
}

#[test]
fn swap_is_refused_while_in_use() {
    let w = World::new();
    w.grant(&w.a, 9, GTF_PERMIT_ACCESS, 0, 1);
    w.grant(&w.a, 10, GTF_PERMIT_ACCESS, 2, 2);
    let swap = |ref_a, ref_b| w.op(&w.a, GNTTABOP_SWAP_GRANT_REF, SwapGrantRef { ref_a, ref_b, ..Default::default() }).status;
    assert_eq!([swap(9, 10), swap(10, 10), swap(10, 9)], [GNTST_OKAY; 3]);
    assert_eq!([swap(0, 512), swap(u32::MAX, 0), swap(u32::MAX, u32::MAX)], [GNTST_BAD_GNTREF; 3], "XSA-18");
    let mapped = w.map(&w.dom0, map_op(1, 9, HOLE, GNTMAP_HOST_MAP));
    assert_eq!((mapped.status, swap(9, 10)), (GNTST_OKAY, GNTST_EAGAIN));
    assert_eq!((w.unmap(&w.dom0, mapped.handle, HOLE << 12), swap(9, 10)), (GNTST_OKAY, GNTST_OKAY));
    w.assert_idle();
}

#[test]
fn transfer_is_refused() {
    let w = World::new();
    for count in [0, 1] {
        let args = [GNTTABOP_TRANSFER.into(), Testbed::va(0, 0), count, 0, 0];
        assert_eq!(w.bed.hypercall(&w.a, GRANT_TABLE_OP, args).0, Errno::EOPNOTSUPP.to_return());
    }
    assert_eq!(w.mapped(&w.a, RAM + 1).unwrap().1, P2mType::RamRw);
    w.assert_idle();
}

#[test]
fn with_a_full_heap_tables_and_handles_are_refused() {
    if !heap::is_ours() {
        return;
    }
    let w = World::new();
    w.grant(&w.a, 9, GTF_PERMIT_ACCESS, 0, 3);
    let list = Testbed::va(LIST, 0);
    let status = |at: u64| {
        let mut bytes = [0; 2];
        w.bed.machine.read(Testbed::at(&w.dom0, list + at), &mut bytes);
        i64::from(i16::from_le_bytes(bytes))
    };
    // The maptrack table has no page yet.
    let map = map_op(1, 9, HOLE, GNTMAP_HOST_MAP);
    let (answer, refused) = heap::rising(&w.bed, GNTST_NO_SPACE.into(), || {
        w.bed.poke(&w.dom0, list, &[map]);
        assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, [GNTTABOP_MAP_GRANT_REF.into(), list, 1, 0, 0]).0, 0);
        status(core::mem::offset_of!(MapGrantRef, status) as u64)
    });
    assert!(answer == 0 && refused > 0, "{answer}, {refused} times refused");
    let setup = SetupTable { dom: 0x7ff0, nr_frames: 3, status: 0x77, frame_list: 0, ..Default::default() };
    assert_eq!(w.dom0.grants.frame(2), None);
    let (answer, refused) = heap::rising(&w.bed, GNTST_GENERAL_ERROR.into(), || {
        w.bed.poke(&w.dom0, list, &[setup]);
        assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, [GNTTABOP_SETUP_TABLE.into(), list, 1, 0, 0]).0, 0);
        status(core::mem::offset_of!(SetupTable, status) as u64)
    });
    assert!(answer != i64::from(GNTST_GENERAL_ERROR) && refused > 0, "{answer}, {refused} times refused");
    assert_ne!(w.dom0.grants.frame(2), None);
}
