//! `sched_op`: yield, poll, watchdog, and the refusals. What really ends the domain is left to its last line.

use crate::runtime::{cpu, hypercall, page::Page, unmapped};
use crate::verdict::Test;
use guest_abi::event_channel::*;
use guest_abi::sched::*;
use guest_abi::xen::{DOMID_SELF, hypercall::SCHED_OP};

pub fn run(test: &mut Test) {
    // 1 (block) waits for an event.
    for cmd in [0, 2, 3, 4, 5, 6, 7, 8, 9, 100, u64::from(u32::MAX)] {
        test.rc(format_args!("op{cmd:#x}(null)"), hypercall::raw(SCHED_OP, [cmd, 0, 0, 0, 0]));
        test.rc(format_args!("op{cmd:#x}(unmapped)"), hypercall::raw(SCHED_OP, [cmd, unmapped(), 0, 0, 0]));
    }
    for domain_id in [0, 1000, 0x7ff1, 0xffff] {
        let mut op = RemoteShutdown { domain_id, reason: 0, ..Default::default() };
        test.rc(format_args!("remote_shutdown({domain_id:#x})"), hypercall::sched(SCHEDOP_REMOTE_SHUTDOWN, &mut op));
    }
    for pcpu in [-1, 0, 1, 1000, i32::MIN] {
        test.rc(format_args!("pin_override({pcpu})"), hypercall::sched(SCHEDOP_PIN_OVERRIDE, &mut PinOverride { pcpu }));
    }
    watchdogs(test);
    polls(test);
}

fn watchdogs(test: &mut Test) {
    // Ids 1 and 2 are free, the timeouts far away; 0 asks for a new one, which with timeout 0 would bite at once.
    for (id, timeout) in
        [(1, 0), (3, 0), (u32::MAX, 0), (0, 100), (0, 100), (0, 100), (1, 200), (1, 0), (1, 0), (2, 0), (3, 50), (0, 100), (1, 0)]
    {
        let rc = hypercall::sched(SCHEDOP_WATCHDOG, &mut Watchdog { id, timeout });
        test.rc(format_args!("watchdog({id:#x},{timeout})"), rc);
    }
}

fn polls(test: &mut Test) {
    let list = Page::take();
    let soon = || (cpu::counter() / (cpu::frequency() / 1_000_000)) * 1000 + 5_000_000;
    let poll = |ports, nr_ports, timeout| {
        let start = cpu::counter();
        let rc = hypercall::sched(SCHEDOP_POLL, &mut Poll { ports, nr_ports, timeout, ..Default::default() });
        let waited = (cpu::counter() - start) * 1000 / cpu::frequency() >= 4;
        (rc, waited)
    };
    for (name, nr_ports) in [("129", 129), ("~0", u32::MAX)] {
        test.rc(format_args!("poll(nr={name})"), poll(list.address(), nr_ports, 1).0);
    }
    test.rc("poll(unmapped)", poll(unmapped(), 1, 1).0);
    test.rc("poll(null,0,past)", poll(0, 0, 1).0);
    for port in [0, 100, 4095, 4096, 131_071, 131_072, u32::MAX] {
        list.write32(0, port);
        test.rc(format_args!("poll({port})"), poll(list.address(), 1, 1).0);
    }
    let mut op = BindIpi { vcpu: 0, port: 0 };
    test.rc("poll.bind", hypercall::event(EVTCHNOP_BIND_IPI, &mut op));
    list.write32(0, op.port);
    // How long is the hypervisor's system time's to say, which a guest on Arm does not know.
    test.rc("poll(quiet,5ms)", poll(list.address(), 1, soon()).0);
    test.rc("poll.send", hypercall::event(EVTCHNOP_SEND, &mut Send { port: op.port }));
    let (rc, waited) = poll(list.address(), 1, soon());
    test.answer("poll(pending,5ms)", format_args!("rc={rc} waited={waited}"));
    test.rc("poll.close", hypercall::event(EVTCHNOP_CLOSE, &mut Close { port: op.port }));
    let mut own = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
    test.rc("poll.alloc", hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut own));
    list.write32(0, own.port);
    test.rc("poll(unbound)", poll(list.address(), 1, 1).0);
    test.rc("poll.free", hypercall::event(EVTCHNOP_CLOSE, &mut Close { port: own.port }));
}
