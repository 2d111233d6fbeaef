//! `event_channel_op` with the two-level ABI: each operation, each refusal, and an event that arrives.

use crate::runtime::{cpu, gic, hypercall, page::Page, unmapped};
use crate::verdict::Test;
use guest_abi::arch_arm::GUEST_EVTCHN_PPI;
use guest_abi::event_channel::*;
use guest_abi::memory::{AddToPhysmap, XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP};
use guest_abi::xen::{DOMID_SELF, hypercall::EVENT_CHANNEL_OP};

/// Where the shared page is mapped.
const SHARED_INFO: u64 = 0x3_8200;

pub fn run(test: &mut Test) {
    for cmd in (0..=15).chain([u64::from(u32::MAX), u64::MAX]) {
        test.rc(format_args!("op{cmd:#x}(null)"), hypercall::raw(EVENT_CHANNEL_OP, [cmd, 0, 0, 0, 0]));
        test.rc(format_args!("op{cmd:#x}(unmapped)"), hypercall::raw(EVENT_CHANNEL_OP, [cmd, unmapped(), 0, 0, 0]));
    }
    binding(test);
    loopback(test);
    refusals(test);
}

/// What a port is, as an answer. Ids of domains but Dom0's change from run to run.
fn status(test: &mut Test, name: &str, port: u32) {
    let mut s = Status { dom: DOMID_SELF, port, ..Default::default() };
    let rc = hypercall::event(EVTCHNOP_STATUS, &mut s);
    let binding = if matches!(s.status, EVTCHNSTAT_UNBOUND | EVTCHNSTAT_INTERDOMAIN) && s.binding != 0 { 0x5e1f } else { s.binding };
    test.answer(
        format_args!("{name}.status"),
        format_args!("rc={rc} status={} vcpu={} u={binding:#x} remote={}", s.status, s.vcpu, s.remote_port),
    );
}

fn close(test: &mut Test, name: &str, port: u32) {
    test.rc(format_args!("{name}.close"), hypercall::event(EVTCHNOP_CLOSE, &mut Close { port }));
}

fn binding(test: &mut Test) {
    for port in 0..4 {
        status(test, ["port0", "store", "console", "port3"][port as usize], port);
    }
    for (dom, remote_dom) in
        [(DOMID_SELF, DOMID_SELF), (DOMID_SELF, 0), (DOMID_SELF, 1000), (DOMID_SELF, 0x7ff1), (0, DOMID_SELF), (1000, 0), (0x7ff2, 0)]
    {
        let mut op = AllocUnbound { dom, remote_dom, port: 0 };
        let rc = hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op);
        test.answer(format_args!("alloc_unbound({dom:#x},{remote_dom:#x})"), format_args!("rc={rc} port={}", op.port));
        if rc == 0 {
            status(test, "alloc_unbound", op.port);
            test.rc("alloc_unbound.send", hypercall::event(EVTCHNOP_SEND, &mut Send { port: op.port }));
            test.rc("alloc_unbound.bind_vcpu(1)", hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port: op.port, vcpu: 1 }));
            test.rc("alloc_unbound.bind_vcpu(9)", hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port: op.port, vcpu: 9 }));
            test.rc("alloc_unbound.unmask", hypercall::event(EVTCHNOP_UNMASK, &mut Unmask { port: op.port }));
            close(test, "alloc_unbound", op.port);
            close(test, "alloc_unbound(again)", op.port);
        }
    }
    for virq in 0..26 {
        for vcpu in [0, 1, 9] {
            let mut op = BindVirq { virq, vcpu, port: 0 };
            let rc = hypercall::event(EVTCHNOP_BIND_VIRQ, &mut op);
            test.answer(format_args!("bind_virq({virq},{vcpu})"), format_args!("rc={rc} port={}", op.port));
            if rc == 0 {
                let again = hypercall::event(EVTCHNOP_BIND_VIRQ, &mut BindVirq { virq, vcpu, port: 0 });
                test.rc(format_args!("bind_virq({virq},{vcpu}).again"), again);
                status(test, "bind_virq", op.port);
                test.rc("bind_virq.send", hypercall::event(EVTCHNOP_SEND, &mut Send { port: op.port }));
                test.rc("bind_virq.bind_vcpu(1)", hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port: op.port, vcpu: 1 }));
                close(test, "bind_virq", op.port);
            }
        }
    }
    for vcpu in [0, 1, 2, u32::MAX] {
        let mut op = BindIpi { vcpu, port: 0 };
        let rc = hypercall::event(EVTCHNOP_BIND_IPI, &mut op);
        test.answer(format_args!("bind_ipi({vcpu})"), format_args!("rc={rc} port={}", op.port));
        if rc == 0 {
            status(test, "bind_ipi", op.port);
            test.rc("bind_ipi.bind_vcpu(1)", hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port: op.port, vcpu: 1 }));
            close(test, "bind_ipi", op.port);
        }
    }
    for pirq in [0, 31, 32, u32::MAX] {
        test.rc(format_args!("bind_pirq({pirq})"), hypercall::event(EVTCHNOP_BIND_PIRQ, &mut BindPirq { pirq, flags: 0, port: 0 }));
    }
    for (remote_dom, remote_port) in
        [(0, 0), (0, 1), (0, u32::MAX), (1000, 1), (DOMID_SELF, 0), (DOMID_SELF, 1), (DOMID_SELF, 4096), (0x7ff2, 1)]
    {
        let mut op = BindInterdomain { remote_dom, remote_port, ..Default::default() };
        let rc = hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut op);
        test.rc(format_args!("bind_interdomain({remote_dom:#x},{remote_port})"), rc);
    }
}

fn loopback(test: &mut Test) {
    let mut map = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_SHARED_INFO, idx: 0, gpfn: SHARED_INFO };
    expect_eq!(test, "shared_info", hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut map), 0);
    let shared = Page::window(SHARED_INFO);
    let mut a = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
    test.rc("loopback.alloc", hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut a));
    let mut b = BindInterdomain { remote_dom: DOMID_SELF, remote_port: a.port, ..Default::default() };
    test.rc("loopback.bind", hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut b));
    test.rc("loopback.bind(again)", hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut { b }));
    status(test, "loopback.a", a.port);
    status(test, "loopback.b", b.local_port);
    let word = |base: u64, port: u32| base + u64::from(port / 64) * 8;
    let pending = |port: u32| shared.read64(word(48, port)) >> (port % 64) & 1;
    let clear = |port: u32| shared.write64(word(48, port), shared.read64(word(48, port)) & !(1 << (port % 64)));
    let mask = |port: u32, on: bool| {
        let old = shared.read64(word(560, port)) & !(1 << (port % 64));
        shared.write64(word(560, port), old | u64::from(on) << (port % 64));
    };
    // A new interdomain port is made pending on both sides.
    test.answer("loopback.fresh", format_args!("a={} b={}", pending(a.port), pending(b.local_port)));
    gic::enable(GUEST_EVTCHN_PPI);
    let deliver = |test: &mut Test, name: &str| {
        let before = gic::count(0, GUEST_EVTCHN_PPI);
        let arrived = cpu::wait_until(20_000, || gic::count(0, GUEST_EVTCHN_PPI) != before);
        let answer = format_args!("arrived={arrived} upcall={} sel={:#x}", shared.read8(0), shared.read64(8));
        test.answer(name, answer);
        shared.write8(0, 0);
        shared.write64(8, 0);
    };
    deliver(test, "loopback.fresh.upcall");
    clear(a.port);
    clear(b.local_port);
    test.rc("loopback.send", hypercall::event(EVTCHNOP_SEND, &mut Send { port: b.local_port }));
    test.answer("loopback.send.pending", format_args!("a={} b={}", pending(a.port), pending(b.local_port)));
    deliver(test, "loopback.send.upcall");
    // While pending: no second upcall.
    test.rc("loopback.send(pending)", hypercall::event(EVTCHNOP_SEND, &mut Send { port: b.local_port }));
    deliver(test, "loopback.send(pending).upcall");
    // Masked: pending, but no upcall until unmasked.
    clear(a.port);
    mask(a.port, true);
    test.rc("loopback.send(masked)", hypercall::event(EVTCHNOP_SEND, &mut Send { port: b.local_port }));
    test.answer("loopback.send(masked).pending", pending(a.port));
    deliver(test, "loopback.send(masked).upcall");
    test.rc("loopback.unmask", hypercall::event(EVTCHNOP_UNMASK, &mut Unmask { port: a.port }));
    test.answer("loopback.unmask.mask", shared.read64(word(560, a.port)) >> (a.port % 64) & 1);
    deliver(test, "loopback.unmask.upcall");
    // The other side closes.
    clear(a.port);
    close(test, "loopback.a", a.port);
    status(test, "loopback.b(alone)", b.local_port);
    test.rc("loopback.b(alone).send", hypercall::event(EVTCHNOP_SEND, &mut Send { port: b.local_port }));
    close(test, "loopback.b(alone)", b.local_port);
    // To another vCPU that never came up: latched.
    let mut ipi = BindIpi { vcpu: 1, port: 0 };
    test.rc("offline.bind", hypercall::event(EVTCHNOP_BIND_IPI, &mut ipi));
    test.rc("offline.send", hypercall::event(EVTCHNOP_SEND, &mut Send { port: ipi.port }));
    test.answer("offline.pending", pending(ipi.port));
    close(test, "offline", ipi.port);
    test.answer("offline.closed.pending", pending(ipi.port));
    gic::disable(GUEST_EVTCHN_PPI);
}

fn refusals(test: &mut Test) {
    for port in [0, 100, 1023, 1024, 4095, 4096, 131_071, 131_072, u32::MAX] {
        test.rc(format_args!("send({port})"), hypercall::event(EVTCHNOP_SEND, &mut Send { port }));
        test.rc(format_args!("close({port})"), hypercall::event(EVTCHNOP_CLOSE, &mut Close { port }));
        test.rc(format_args!("unmask({port})"), hypercall::event(EVTCHNOP_UNMASK, &mut Unmask { port }));
        test.rc(format_args!("bind_vcpu({port})"), hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port, vcpu: 0 }));
        let mut status = Status { dom: DOMID_SELF, port, ..Default::default() };
        test.rc(format_args!("status({port})"), hypercall::event(EVTCHNOP_STATUS, &mut status));
        let mut priority = SetPriority { port, priority: 3 };
        test.rc(format_args!("set_priority({port})"), hypercall::event(EVTCHNOP_SET_PRIORITY, &mut priority));
    }
    for dom in [0, 1000, 0x7ff1, 0xffff] {
        test.rc(
            format_args!("status(dom={dom:#x})"),
            hypercall::event(EVTCHNOP_STATUS, &mut Status { dom, port: 1, ..Default::default() }),
        );
        test.rc(format_args!("reset(dom={dom:#x})"), hypercall::event(EVTCHNOP_RESET, &mut Reset { dom }));
    }
    let mut expand = ExpandArray { array_gfn: Page::take().gfn() };
    test.rc("expand_array(two-level)", hypercall::event(EVTCHNOP_EXPAND_ARRAY, &mut expand));
    // E05: as many ports as there are, then all back.
    let mut ports = 0_u32;
    let (mut first, mut rc) = (0, 0);
    while ports < 5000 {
        let mut op = AllocUnbound { dom: DOMID_SELF, remote_dom: 0, port: 0 };
        rc = hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op);
        if rc != 0 {
            break;
        }
        first = if ports == 0 { op.port } else { first };
        ports += 1;
    }
    test.answer("exhaust", format_args!("rc={rc} first={first} ports={ports}"));
    let mut op = BindVirq { virq: 1, vcpu: 0, port: 0 };
    test.rc("exhaust.bind_virq", hypercall::event(EVTCHNOP_BIND_VIRQ, &mut op));
    let closed = (first..first + ports).filter(|port| hypercall::event(EVTCHNOP_CLOSE, &mut Close { port: *port }) == 0).count();
    test.answer("exhaust.close", closed);
    let mut op = AllocUnbound { dom: DOMID_SELF, remote_dom: 0, port: 0 };
    let rc = hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op);
    test.answer("exhaust.again", format_args!("rc={rc} port={}", op.port));
    close(test, "exhaust.again", op.port);
}
