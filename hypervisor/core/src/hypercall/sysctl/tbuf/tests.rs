use crate::addr::{Gfn, Mfn};
use crate::domain::Domain;
use crate::frames::FrameKind;
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::testbed::{Testbed, heap};
use crate::trace::MAX_PAGES;
use guest_abi::errno::Errno;
use guest_abi::memory::{AddToPhysmapBatch, RemoveFromPhysmap};
use guest_abi::memory::{XENMAPSPACE_GMFN_FOREIGN, XENMEM_ADD_TO_PHYSMAP_BATCH, XENMEM_REMOVE_FROM_PHYSMAP};
use guest_abi::sysctl::*;
use guest_abi::trace::TRC_ALL;
use guest_abi::xen::{DOMID_SELF, DOMID_XEN, XenctlBitmap, hypercall};
use std::sync::Arc;
use std::vec::Vec;

const HOLE: u64 = 0x1000;

/// Where the call's structure is.
const AT: u64 = Testbed::va(0, 0);
const PAYLOAD: u64 = AT + SYSCTL_PAYLOAD_OFFSET as u64;

fn tbuf(bed: &Testbed, caller: &Arc<Domain>, op: TbufOp) -> i64 {
    bed.poke(caller, AT, &[Sysctl { cmd: XEN_SYSCTL_TBUF_OP, interface_version: XEN_SYSCTL_INTERFACE_VERSION }]);
    bed.poke(caller, PAYLOAD, &[op]);
    bed.hypercall(caller, hypercall::SYSCTL, [AT, 0, 0, 0, 0]).0
}

fn op(bed: &Testbed, caller: &Arc<Domain>, cmd: u32, size: u32) -> i64 {
    tbuf(bed, caller, TbufOp { cmd, size, ..Default::default() })
}

fn info(bed: &Testbed, dom0: &Arc<Domain>) -> TbufOp {
    assert_eq!(op(bed, dom0, XEN_SYSCTL_TBUFOP_GET_INFO, 0), 0);
    bed.peek(dom0, PAYLOAD, 1).remove(0)
}

/// Maps a frame of DOMID_XEN into the caller; the entry's own answer.
fn map(bed: &Testbed, caller: &Arc<Domain>, mfn: u64, gfn: u64) -> i64 {
    let va = |n: u64| Testbed::va(0, 64 * n);
    let batch = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GMFN_FOREIGN as u16,
        size: 1,
        foreign_domid: DOMID_XEN,
        idxs: va(1),
        gpfns: va(2),
        errs: va(3),
    };
    bed.poke(caller, va(0), &[batch]);
    bed.poke(caller, va(1), &[mfn]);
    bed.poke(caller, va(2), &[gfn]);
    bed.poke(caller, va(3), &[77_i32]);
    assert_eq!(bed.hypercall(caller, hypercall::MEMORY_OP, [XENMEM_ADD_TO_PHYSMAP_BATCH, va(0), 0, 0, 0]).0, 0);
    bed.peek::<i32>(caller, va(3), 1).remove(0).into()
}

#[test]
fn operations_answer_as_debians_xen() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 2), bed.domain(1, 2));
    let (einval, efault) = (Errno::EINVAL.to_return(), Errno::EFAULT.to_return());
    assert_eq!(op(&bed, &guest, XEN_SYSCTL_TBUFOP_GET_INFO, 0), Errno::EPERM.to_return());
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_ENABLE, 0), einval);
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_DISABLE, 0), 0);
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 0), einval);
    assert_eq!(op(&bed, &dom0, 6, 0), einval);
    let mask = |bitmap, nr_bits| {
        let cpu_mask = XenctlBitmap { bitmap, nr_bits, ..Default::default() };
        tbuf(&bed, &dom0, TbufOp { cmd: XEN_SYSCTL_TBUFOP_SET_CPU_MASK, cpu_mask, ..Default::default() })
    };
    assert_eq!((mask(0, 0), mask(0, 8), mask(8, 64), mask(Testbed::va(1, 0), 64)), (0, efault, efault, 0));
    let mask = TbufOp { cmd: XEN_SYSCTL_TBUFOP_SET_EVT_MASK, evt_mask: 0x1234, buffer_mfn: 7, ..Default::default() };
    let masked: (_, TbufOp) = (tbuf(&bed, &dom0, mask), bed.peek(&dom0, PAYLOAD, 1).remove(0));
    assert_eq!((masked.0, masked.1.evt_mask, masked.1.buffer_mfn), (0, 0x1234, 7));
    let none = info(&bed, &dom0);
    assert_eq!((none.evt_mask, none.buffer_mfn, none.size), (0x1234, 0, 0));
    assert!(!bed.hv.trace.is_on());
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 2), 0);
    assert!(bed.hv.trace.is_on(), "as on Xen");
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 2), Errno::EBUSY.to_return());
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 3), einval);
    assert_eq!((info(&bed, &dom0).buffer_mfn != 0, info(&bed, &dom0).size), (true, 4096));
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_DISABLE, 0), 0);
    assert!(!bed.hv.trace.is_on());
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_ENABLE, 0), 0);
    assert!(bed.hv.trace.is_on());
}

#[test]
fn memory_that_is_short_is_not_kept() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 2);
    let free = bed.hv.frames.free_pages();
    assert!(free < MAX_PAGES.into());
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, u32::MAX), Errno::ENOMEM.to_return());
    assert_eq!((bed.hv.frames.free_pages(), info(&bed, &dom0).buffer_mfn), (free, 0));
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 1), 0);
    assert_eq!(bed.hv.frames.free_pages(), free - 2);
    assert!(bed.hv.frames.audit().is_ok());
}

#[test]
fn with_a_full_heap_no_trace_begins() {
    if !heap::is_ours() {
        return;
    }
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 2);
    let free = bed.hv.frames.free_pages();
    let begin = || {
        assert_eq!(bed.hv.frames.free_pages(), free);
        op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 8)
    };
    let (answer, refused) = heap::rising(&bed, Errno::ENOMEM.to_return(), begin);
    assert!(answer == 0 && refused > 0, "{answer}, {refused} times refused");
}

#[test]
fn dom0_maps_the_trace_and_nothing_else_of_the_hypervisor() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 2), bed.domain(1, 2));
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 2), 0);
    let table = info(&bed, &dom0).buffer_mfn;
    let ours: Vec<_> =
        bed.hv.frames.iter().filter(|(_, i)| i.owner == super::OWNER && i.kind == FrameKind::Xen).map(|(mfn, _)| mfn).collect();
    assert_eq!(ours.len(), 3);
    for (n, mfn) in (0..).zip(&ours) {
        assert_eq!(map(&bed, &guest, mfn.0, HOLE), Errno::EPERM.to_return());
        assert_eq!(map(&bed, &dom0, mfn.0, HOLE + n), 0);
        let kind = if mfn.0 == table { P2mType::MapForeignRo } else { P2mType::MapForeignRw };
        assert_eq!(dom0.p2m.lookup(Gfn(HOLE + n)).map(|m| (m.mfn, m.kind)), Some((*mfn, kind)));
        assert_eq!(bed.references(*mfn), 2);
    }
    let all = bed.hv.frames.iter().map(|(mfn, _)| mfn).filter(|mfn| !ours.contains(mfn));
    for mfn in all.chain([Mfn(0), Mfn(u64::MAX >> 12)]) {
        assert_eq!(map(&bed, &dom0, mfn.0, HOLE + 10), Errno::EINVAL.to_return(), "{mfn:?}");
    }
    for n in 0..3 {
        bed.poke(&dom0, Testbed::va(0, 0), &[RemoveFromPhysmap { domid: DOMID_SELF, gpfn: HOLE + n, ..Default::default() }]);
        assert_eq!(bed.hypercall(&dom0, hypercall::MEMORY_OP, [XENMEM_REMOVE_FROM_PHYSMAP, Testbed::va(0, 0), 0, 0, 0]).0, 0);
    }
    assert!(ours.iter().all(|mfn| bed.references(*mfn) == 1));
}

/// As a reader of the ring sees the words.
#[test]
fn an_event_that_is_sent_is_recorded() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 2), bed.domain(1, 2));
    assert_eq!(op(&bed, &dom0, XEN_SYSCTL_TBUFOP_SET_SIZE, 1), 0);
    let listening = dom0.events.alloc_unbound(bed.machine, guest.id).unwrap();
    let (port, notify) = crate::evtchn::bind_interdomain(bed.machine, &guest.events, &dom0.events, listening).unwrap();
    bed.hv.deliver(&guest, notify);
    // Only from here on.
    let mask = |mask| {
        tbuf(&bed, &dom0, TbufOp { cmd: XEN_SYSCTL_TBUFOP_SET_EVT_MASK, evt_mask: mask, ..Default::default() });
    };
    mask(guest_abi::trace::own::TRC_XENOLITH);
    let table = info(&bed, &dom0).buffer_mfn;
    let word = |at| crate::machine::Machine::load_u32(bed.machine, crate::addr::MachineAddr(at));
    let ring = u64::from(word((table << 12) + 65 * 4)) << 12;
    let start = ring + 8 + u64::from(word(ring + 4));
    bed.poke(&guest, Testbed::va(0, 0), &[guest_abi::event_channel::Send { port }]);
    let send = guest_abi::event_channel::EVTCHNOP_SEND.into();
    assert_eq!(bed.hypercall(&guest, hypercall::EVENT_CHANNEL_OP, [send, Testbed::va(0, 0), 0, 0, 0]).0, 0);
    let header = guest_abi::trace::own::TRC_XENOLITH_EVENT | 3 << 28 | 1 << 31;
    assert_eq!([0, 3, 4, 5].map(|n| word(start + 4 * n)), [header, 1 << 16, port, listening]);
    mask(TRC_ALL);
}
