//! Tests of `event_channel_op` as guests use and misuse it: return codes, effects on the peer, and pages that are let go.

use super::*;
use crate::addr::PAGE_SIZE;
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::testbed::{RAM, Testbed, heap};
use crate::vcpu::{BLOCKED, DOWN};
use guest_abi::event_channel::*;
use guest_abi::sched as sched_abi;
use guest_abi::xen::hypercall::{EVENT_CHANNEL_OP, SCHED_OP, VCPU_OP};
use std::sync::Arc;
use zerocopy::Immutable;

const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const ESRCH: i64 = -3;
const ENXIO: i64 = -6;
const EFAULT: i64 = -14;
const EBUSY: i64 = -16;
const EEXIST: i64 = -17;
const EINVAL: i64 = -22;
const ENOSYS: i64 = -38;
const EOPNOTSUPP: i64 = -95;

/// RAM page for the structures of calls; the guest's FIFO pages come after it.
const ARGUMENTS: u64 = 0;
const CONTROL: u64 = 1;
const ARRAY: u64 = 2;

/// Dom0 and two DomUs of 8 pages.
struct World {
    bed: Testbed,
    dom0: Arc<Domain>,
    a: Arc<Domain>,
    b: Arc<Domain>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let bed = Testbed::new(policy);
        let (dom0, a, b) = (bed.domain(0, 8), bed.domain(1, 8), bed.domain(2, 8));
        Self { bed, dom0, a, b }
    }

    /// One call: its result, and the structure afterwards.
    fn op<T: FromBytes + IntoBytes + Immutable + Copy>(&self, caller: &Arc<Domain>, cmd: u32, op: T) -> (i64, T) {
        let at = Testbed::va(ARGUMENTS, 64);
        self.bed.poke(caller, at, &[op]);
        let (result, _) = self.bed.hypercall(caller, EVENT_CHANNEL_OP, [cmd.into(), at, 0, 0, 0]);
        (result, self.bed.peek(caller, at, 1)[0])
    }

    fn alloc(&self, caller: &Arc<Domain>, dom: u16, remote_dom: u16) -> Result<u32, i64> {
        let (result, op) = self.op(caller, EVTCHNOP_ALLOC_UNBOUND, AllocUnbound { dom, remote_dom, port: 0 });
        if result == 0 { Ok(op.port) } else { Err(result) }
    }

    fn bind(&self, caller: &Arc<Domain>, remote_dom: u16, remote_port: u32) -> Result<u32, i64> {
        let op = BindInterdomain { remote_dom, _pad: 0, remote_port, local_port: 0 };
        let (result, op) = self.op(caller, EVTCHNOP_BIND_INTERDOMAIN, op);
        if result == 0 { Ok(op.local_port) } else { Err(result) }
    }

    fn send(&self, caller: &Arc<Domain>, port: u32) -> i64 {
        self.op(caller, EVTCHNOP_SEND, Send { port }).0
    }

    fn close(&self, caller: &Arc<Domain>, port: u32) -> i64 {
        self.op(caller, EVTCHNOP_CLOSE, Close { port }).0
    }

    fn status(&self, caller: &Arc<Domain>, dom: u16, port: u32) -> (i64, u32, u32, u32) {
        let asked = abi::Status { dom, port, binding: 0xaaaa_aaaa, remote_port: 0xaaaa_aaaa, ..Default::default() };
        let (result, op) = self.op(caller, EVTCHNOP_STATUS, asked);
        // What a binding does not have stays as it was, as in Xen.
        let binding = match op.status {
            EVTCHNSTAT_UNBOUND | EVTCHNSTAT_INTERDOMAIN => op.binding ^ 0xaaaa_0000,
            EVTCHNSTAT_VIRQ => op.binding,
            _ => op.binding ^ 0xaaaa_aaaa,
        };
        let remote_port = if op.status == EVTCHNSTAT_INTERDOMAIN { op.remote_port } else { op.remote_port ^ 0xaaaa_aaaa };
        (result, op.status, binding, remote_port)
    }

    fn init_control(&self, caller: &Arc<Domain>, control_gfn: u64, offset: u32, vcpu: u32) -> (i64, u8) {
        let op = InitControl { control_gfn, offset, vcpu, ..Default::default() };
        let (result, op) = self.op(caller, EVTCHNOP_INIT_CONTROL, op);
        (result, op.link_bits)
    }

    fn expand_array(&self, caller: &Arc<Domain>, array_gfn: u64) -> i64 {
        self.op(caller, EVTCHNOP_EXPAND_ARRAY, ExpandArray { array_gfn }).0
    }

    fn reset(&self, caller: &Arc<Domain>, dom: u16) -> i64 {
        self.op(caller, EVTCHNOP_RESET, Reset { dom }).0
    }

    /// A channel between Dom0 and `a`, as a toolstack makes it: the port of `a`, and that of Dom0.
    fn pair(&self) -> (u32, u32) {
        let port = self.alloc(&self.dom0, 1, 0).unwrap();
        (port, self.bind(&self.dom0, 1, port).unwrap())
    }
}

#[test]
fn unknown_commands_and_bad_pointers() {
    let w = World::new(Policy::Silo);
    let call = |cmd: u32, at| w.bed.hypercall(&w.a, EVENT_CHANNEL_OP, [cmd.into(), at, 0, 0, 0]).0;
    for cmd in [15, 255, u32::MAX] {
        assert_eq!(call(cmd, Testbed::va(0, 0)), ENOSYS);
    }
    assert_eq!(call(EVTCHNOP_BIND_PIRQ, Testbed::va(0, 0)), EOPNOTSUPP);
    for cmd in 0..=13 {
        for at in [0, 1, u64::MAX - 3, Testbed::va(8, 0), Testbed::va(7, PAGE_SIZE - 1)] {
            assert_eq!(call(cmd, at), EFAULT, "command {cmd} at {at:#x}");
        }
    }
    assert_eq!(w.status(&w.a, DOMID_SELF, 1).1, EVTCHNSTAT_CLOSED, "no port was made for an answer that cannot be written");
}

#[test]
fn a_toolstack_connects_a_guest_to_dom0() {
    let w = World::new(Policy::Silo);
    let (a, zero) = w.pair();
    assert_eq!(w.status(&w.a, DOMID_SELF, a), (0, EVTCHNSTAT_INTERDOMAIN, 0, zero));
    assert_eq!(w.status(&w.dom0, 1, a), (0, EVTCHNSTAT_INTERDOMAIN, 0, zero));
    assert_eq!(w.status(&w.dom0, 0, zero), (0, EVTCHNSTAT_INTERDOMAIN, 1, a));
    assert!(w.dom0.events.is_pending(w.bed.machine, zero));
    assert!(w.dom0.events.upcall_pending(w.bed.machine, 0));
    assert!(!w.a.events.is_pending(w.bed.machine, a));
    assert_eq!(w.send(&w.dom0, zero), 0);
    assert!(w.a.events.is_pending(w.bed.machine, a));
    assert_eq!(w.close(&w.dom0, zero), 0);
    assert_eq!(w.status(&w.a, 1, a), (0, EVTCHNSTAT_UNBOUND, 0, 0));
    assert_eq!(w.send(&w.a, a), 0);
}

#[test]
fn an_unprivileged_domain_acts_on_itself() {
    let w = World::new(Policy::Silo);
    assert_eq!(w.alloc(&w.a, 0, 1), Err(EPERM));
    assert_eq!(w.alloc(&w.a, 2, 0), Err(EPERM));
    assert_eq!(w.alloc(&w.a, 9, 0), Err(ESRCH));
    assert_eq!(w.alloc(&w.a, DOMID_SELF, DOMID_SELF), Ok(1));
    assert_eq!(w.alloc(&w.a, 1, 0), Ok(2), "its own number is as good");
    assert_eq!(w.status(&w.a, 0, 1).0, EPERM);
    assert_eq!(w.status(&w.a, 9, 1).0, ESRCH);
    assert_eq!(w.status(&w.a, 0, 5000).0, EINVAL);
    assert_eq!(w.reset(&w.a, 2), EPERM);
    assert_eq!(w.reset(&w.a, 9), ESRCH);
}

#[test]
fn silo_keeps_guests_apart() {
    let w = World::new(Policy::Silo);
    assert_eq!(w.alloc(&w.a, DOMID_SELF, 2), Err(EPERM));
    assert_eq!(w.alloc(&w.a, DOMID_SELF, 9), Err(ESRCH));
    assert_eq!(w.alloc(&w.dom0, 1, 2), Err(EPERM), "not even by the toolstack");
    assert_eq!(w.bind(&w.b, 1, 1), Err(EINVAL), "nothing waits there");
    assert_eq!(w.bind(&w.b, 9, 1), Err(ESRCH));
    let port = w.a.events.alloc_unbound(w.bed.machine, w.b.id).unwrap();
    assert_eq!(w.bind(&w.b, 1, port), Err(EPERM));
    assert_eq!(w.status(&w.b, DOMID_SELF, 1).1, EVTCHNSTAT_CLOSED);

    let w = World::new(Policy::Dummy);
    let port = w.alloc(&w.a, DOMID_SELF, 2).unwrap();
    assert_eq!(w.bind(&w.b, 1, port), Ok(1));
}

#[test]
fn a_full_table_is_told_before_the_policy() {
    let w = World::new(Policy::Silo);
    for _ in 1..=1023 {
        w.alloc(&w.a, DOMID_SELF, 0).unwrap();
    }
    assert_eq!(w.alloc(&w.a, DOMID_SELF, 0), Err(-28));
    assert_eq!(w.alloc(&w.a, DOMID_SELF, 2), Err(-28));
    let (result, calls) = {
        let at = Testbed::va(ARGUMENTS, 0);
        w.bed.poke(&w.a, at, &[Reset { dom: DOMID_SELF }]);
        w.bed.hypercall(&w.a, EVENT_CHANNEL_OP, [EVTCHNOP_RESET.into(), at, 0, 0, 0])
    };
    assert_eq!((result, calls), (0, 2), "in steps");
    assert_eq!(w.alloc(&w.a, DOMID_SELF, 0), Ok(1));
}

#[test]
fn virq_ipi_and_vcpu() {
    let w = World::new(Policy::Silo);
    let virq = |virq, vcpu| w.op(&w.a, EVTCHNOP_BIND_VIRQ, BindVirq { virq, vcpu, port: 0 });
    assert_eq!(virq(24, 0).0, EINVAL);
    assert_eq!(virq(3, 1).0, EINVAL);
    assert_eq!(virq(0, 1).0, ENOENT);
    let (result, bound) = virq(0, 0);
    assert_eq!((result, bound.port), (0, 1));
    assert_eq!(virq(0, 0).0, EEXIST);
    assert_eq!(w.status(&w.a, DOMID_SELF, 1), (0, EVTCHNSTAT_VIRQ, 0, 0));
    assert_eq!(w.send(&w.a, 1), EINVAL);
    let (result, ipi) = w.op(&w.a, EVTCHNOP_BIND_IPI, BindIpi { vcpu: 0, port: 0 });
    assert_eq!((result, ipi.port), (0, 2));
    assert_eq!(w.op(&w.a, EVTCHNOP_BIND_IPI, BindIpi { vcpu: 1, port: 0 }).0, ENOENT);
    assert_eq!(w.status(&w.a, DOMID_SELF, 2), (0, EVTCHNSTAT_IPI, 0, 0));
    assert_eq!(w.send(&w.a, 2), 0);
    assert!(w.a.events.is_pending(w.bed.machine, 2));
    assert_eq!(w.op(&w.a, EVTCHNOP_BIND_VCPU, BindVcpu { port: 2, vcpu: 0 }).0, EINVAL);
    assert_eq!(w.op(&w.a, EVTCHNOP_BIND_VCPU, BindVcpu { port: 2, vcpu: 7 }).0, ENOENT);
    assert_eq!(w.op(&w.a, EVTCHNOP_UNMASK, Unmask { port: 2 }).0, 0);
    assert_eq!(w.op(&w.a, EVTCHNOP_UNMASK, Unmask { port: 64 }).0, EINVAL);
    assert_eq!(w.op(&w.a, EVTCHNOP_SET_PRIORITY, SetPriority { port: 2, priority: 0 }).0, ENOSYS);
    assert_eq!(w.close(&w.a, 2), 0);
    assert_eq!(w.close(&w.a, 2), EINVAL);
}

#[test]
fn fifo_pages_are_held_until_reset() {
    let w = World::new(Policy::Silo);
    let (control, array) = (w.bed.ram(&w.a, CONTROL), w.bed.ram(&w.a, ARRAY));
    assert_eq!(w.expand_array(&w.a, RAM + ARRAY), EOPNOTSUPP);
    assert_eq!(w.init_control(&w.a, RAM + CONTROL, 0, 1), (ENOENT, 0));
    assert_eq!(w.init_control(&w.a, RAM + CONTROL, 4, 0), (EINVAL, 0));
    assert_eq!(w.init_control(&w.a, RAM + CONTROL, 0, 0), (0, 17));
    assert_eq!(w.init_control(&w.a, RAM + CONTROL, 0, 0), (EINVAL, 0), "a second one");
    assert_eq!(w.expand_array(&w.a, RAM + ARRAY), 0);
    assert_eq!((w.bed.references(control), w.bed.references(array)), (2, 2));
    let (port, zero) = w.pair();
    assert_eq!(w.send(&w.dom0, zero), 0);
    let word: u32 = w.bed.peek(&w.a, Testbed::va(ARRAY, 4 * u64::from(port)), 1)[0];
    assert_eq!(word, 0b1010 << 28, "PENDING and LINKED");
    let control_block: std::vec::Vec<u32> = w.bed.peek(&w.a, Testbed::va(CONTROL, 0), 18);
    assert_eq!((control_block[0], control_block[2 + 7]), (1 << 7, port));

    assert_eq!(w.reset(&w.a, DOMID_SELF), 0);
    assert_eq!((w.bed.references(control), w.bed.references(array)), (1, 1));
    assert_eq!(w.status(&w.dom0, 0, zero), (0, EVTCHNSTAT_UNBOUND, 1, 0));
}

#[test]
fn fifo_pages_must_be_the_guests_own_ram() {
    let w = World::new(Policy::Silo);
    let foreign = w.bed.ram(&w.b, 3);
    assert!(w.bed.hv.frames.get_ram(foreign, w.b.vmid));
    let edit = |gfn: u64, mfn, kind| {
        w.a.p2m.edit(&w.bed.hv.frames).map(Gfn(gfn), mfn, 0, kind).unwrap();
    };
    edit(0x9_0000, foreign, P2mType::MapForeignRw);
    edit(0x9_0002, Mfn(0x9_000), P2mType::MmioDirectDev);
    let bad = [0, 0x8_ffff, 0x9_0000, 0x9_0002, 1 << 40, u64::MAX, u64::MAX - 1];
    for gfn in bad {
        assert_eq!(w.init_control(&w.a, gfn, 0, 0), (EINVAL, 0), "{gfn:#x}");
        assert_eq!(w.expand_array(&w.a, RAM), EOPNOTSUPP, "XSA-188");
    }
    assert_eq!(w.init_control(&w.a, RAM + CONTROL, 0, 0).0, 0);
    for gfn in bad {
        assert_eq!(w.expand_array(&w.a, gfn), EINVAL, "{gfn:#x}");
    }
    let mut held = [w.bed.ram(&w.a, CONTROL), foreign];
    held.sort();
    assert_eq!(w.bed.pages_in_use(), held);
}

#[test]
fn a_toolstack_resets_a_paused_domain_only() {
    let w = World::new(Policy::Silo);
    w.alloc(&w.a, DOMID_SELF, 0).unwrap();
    w.bed.hv.unpause(&w.a).unwrap();
    assert_eq!(w.reset(&w.dom0, 1), EINVAL);
    w.bed.hv.pause(&w.a).unwrap();
    assert_eq!(w.reset(&w.dom0, 1), 0);
    assert_eq!(w.status(&w.a, DOMID_SELF, 1).1, EVTCHNSTAT_CLOSED);
    w.a.events.begin_reset().unwrap();
    assert_eq!(w.reset(&w.dom0, 1), EBUSY);
}

/// As Debian's Xen 4.20 answers.
#[test]
fn vcpu_info_is_refused_in_xens_order() {
    let w = World::new(Policy::Silo);
    let register = |mfn, offset, vcpu| {
        let request = guest_abi::vcpu::RegisterVcpuInfo { mfn, offset, ..Default::default() };
        w.bed.poke(&w.a, Testbed::va(ARGUMENTS, 0), &[request]);
        let args = [guest_abi::vcpu::VCPUOP_REGISTER_VCPU_INFO.into(), vcpu, Testbed::va(ARGUMENTS, 0), 0, 0];
        w.bed.hypercall(&w.a, VCPU_OP, args).0
    };
    assert_eq!(register(RAM + 3, 0, 1), ENOENT);
    assert_eq!((register(RAM + 3, 4, 0), register(RAM + 3, 4080, 0)), (ENXIO, ENXIO));
    assert_eq!((register(RAM + 3, 4096, 0), register(RAM + 3, u32::MAX, 0)), (EINVAL, EINVAL));
    assert_eq!((register(u64::MAX - 1, 0, 0), register(u64::MAX - 1, 4, 0), register(0x7f_ffff, 0, 0)), (EINVAL, EINVAL, EINVAL));
    assert_eq!(w.bed.pages_in_use(), []);
    assert_eq!(register(RAM + 3, 64, 0), 0);
    assert_eq!((register(RAM + 4, 0, 0), register(RAM + 3, 4, 0)), (EBUSY, EBUSY));
    assert_eq!(w.bed.pages_in_use(), [w.bed.ram(&w.a, 3)]);
}

#[test]
fn a_dead_domain_leaves_its_peer_waiting_and_no_page_held() {
    let w = World::new(Policy::Silo);
    let (port, zero) = w.pair();
    assert_eq!(w.init_control(&w.a, RAM + CONTROL, 128, 0).0, 0);
    assert_eq!(w.expand_array(&w.a, RAM + ARRAY), 0);
    let request = guest_abi::vcpu::RegisterVcpuInfo { mfn: RAM + 3, ..Default::default() };
    w.bed.poke(&w.a, Testbed::va(ARGUMENTS, 0), &[request]);
    let registered =
        w.bed.hypercall(&w.a, VCPU_OP, [guest_abi::vcpu::VCPUOP_REGISTER_VCPU_INFO.into(), 0, Testbed::va(ARGUMENTS, 0), 0, 0]);
    assert_eq!(registered.0, 0);
    assert_eq!(w.bed.pages_in_use().len(), 3);
    w.bed.destroy(&w.a);
    assert_eq!(w.status(&w.dom0, 0, zero), (0, EVTCHNSTAT_UNBOUND, 1, 0));
    assert_eq!(w.send(&w.dom0, zero), 0);
    assert_eq!(w.bed.pages_in_use(), []);
    assert_eq!(w.bind(&w.dom0, 1, port), Err(ESRCH));
}

#[test]
fn poll_waits_for_a_port() {
    let w = World::new(Policy::Silo);
    let (port, zero) = w.pair();
    let vcpu = w.a.vcpu(0).unwrap();
    vcpu.clear(DOWN);
    let poll = |nr_ports: u32, list: u64| {
        let request = sched_abi::Poll { ports: list, nr_ports, ..Default::default() };
        w.bed.poke(&w.a, Testbed::va(ARGUMENTS, 0), &[request]);
        w.bed.hypercall(&w.a, SCHED_OP, [sched_abi::SCHEDOP_POLL.into(), Testbed::va(ARGUMENTS, 0), 0, 0, 0]).0
    };
    let list = Testbed::va(ARGUMENTS, 1024);
    let blocked = || vcpu.flags() & BLOCKED != 0;
    assert_eq!((poll(129, list), poll(u32::MAX, list)), (EINVAL, EINVAL));
    assert_eq!((poll(1, 0), poll(128, Testbed::va(8, 0))), (EFAULT, EFAULT));
    for never in [64, 4096, 131_071, u32::MAX] {
        w.bed.poke(&w.a, list, &[never]);
        assert_eq!(poll(1, list), EINVAL, "XSA-221: port {never}");
    }
    assert!(!blocked());
    w.bed.poke(&w.a, list, &[port]);
    assert_eq!((poll(1, list), blocked()), (0, true));
    assert_eq!(w.send(&w.dom0, zero), 0);
    assert!(!blocked(), "woken");
    assert_eq!((poll(1, list), blocked()), (0, false), "it is pending still");
}

#[test]
fn with_a_full_heap_ports_and_queues_are_refused() {
    if !heap::is_ours() {
        return;
    }
    let w = World::new(Policy::Silo);
    let at = Testbed::va(ARGUMENTS, 64);
    let call = |cmd: u32| w.bed.hypercall(&w.a, EVENT_CHANNEL_OP, [cmd.into(), at, 0, 0, 0]).0;
    let mut refused = 0;
    for _ in 0..300 {
        let answer = heap::rising(&w.bed, Errno::ENOMEM.to_return(), || {
            w.bed.poke(&w.a, at, &[AllocUnbound { dom: 0x7ff0, remote_dom: 0, port: 0 }]);
            call(EVTCHNOP_ALLOC_UNBOUND)
        });
        assert_eq!(answer.0, 0);
        refused += answer.1;
    }
    assert!(refused > 0, "ports need no memory?");
    let (answer, refused) = heap::rising(&w.bed, Errno::ENOMEM.to_return(), || {
        w.bed.poke(&w.a, at, &[InitControl { control_gfn: RAM + CONTROL, offset: 0, vcpu: 0, ..Default::default() }]);
        call(EVTCHNOP_INIT_CONTROL)
    });
    assert!(answer == 0 && refused > 0, "{answer}, {refused} times refused");
    w.bed.poke(&w.a, at, &[ExpandArray { array_gfn: RAM + ARRAY }]);
    assert_eq!(heap::rising(&w.bed, Errno::ENOMEM.to_return(), || call(EVTCHNOP_EXPAND_ARRAY)), (0, 0), "what it needs is there already");
}
