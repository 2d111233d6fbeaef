//! `vcpu_op` and `vm_assist`, then a second vCPU: on, interrupted, woken by an event, off and on again.

use crate::runtime::page::Page;
use crate::runtime::{cpu, gic, hypercall, smp, timer, unmapped};
use crate::verdict::Test;
use guest_abi::arch_arm::{GUEST_EVTCHN_PPI, GUEST_TIMER_VIRT_PPI};
use guest_abi::event_channel::*;
use guest_abi::psci;
use guest_abi::vcpu::*;
use guest_abi::xen::hypercall::{VCPU_OP, VM_ASSIST};

pub fn run(test: &mut Test) {
    for cmd in (0..=17).chain([u64::from(u32::MAX)]) {
        for vcpu in [0, 9, u64::from(u32::MAX)] {
            test.rc(format_args!("op{cmd:#x}({vcpu:#x},null)"), hypercall::raw(VCPU_OP, [cmd, vcpu, 0, 0, 0]));
            test.rc(format_args!("op{cmd:#x}({vcpu:#x},unmapped)"), hypercall::raw(VCPU_OP, [cmd, vcpu, unmapped(), 0, 0]));
        }
    }
    registration(test);
    for cmd in 0..=3 {
        for kind in (0..=7).chain([31, 32, 64, u64::from(u32::MAX)]) {
            test.rc(format_args!("vm_assist({cmd},{kind:#x})"), hypercall::raw(VM_ASSIST, [cmd, kind, 0, 0, 0]));
        }
    }
    second(test);
}

fn register_info(vcpu: u64, mfn: u64, offset: u32) -> i64 {
    let mut op = RegisterVcpuInfo { mfn, offset, rsvd: 0 };
    hypercall::raw(VCPU_OP, [VCPUOP_REGISTER_VCPU_INFO.into(), vcpu, hypercall::address(&mut op), 0, 0])
}

fn registration(test: &mut Test) {
    let info = Page::take();
    for offset in [4096 - 47, 4096 - 48 + 8, 4096, 1, 4, u32::MAX] {
        test.rc(format_args!("vcpu_info(offset={offset})"), register_info(9, info.gfn(), offset));
        if offset > 4 {
            test.rc(format_args!("vcpu_info(1,offset={offset})"), register_info(1, info.gfn(), offset));
        }
    }
    for gfn in [0x3001, 0x3_8fff, 1 << 36, u64::MAX] {
        test.rc(format_args!("vcpu_info(gfn={gfn:#x})"), register_info(1, gfn, 0));
    }
    test.rc("vcpu_info(0)", register_info(0, info.gfn(), 64));
    let (upcall, sel) = (info.read8(64), info.read64(72));
    test.answer("vcpu_info(0).content", format_args!("upcall={upcall} sel={sel:#x}"));
    // As a guest does that has looked at all its events: only then does a new one raise the interrupt.
    info.write8(64, 0);
    info.write64(72, 0);
    test.rc("vcpu_info(0,again)", register_info(0, info.gfn(), 256));
    test.rc("vcpu_info(1)", register_info(1, info.gfn(), 128));
    let runstate = Page::take();
    let mut op = RegisterRunstateMemoryArea::default();
    for vcpu in [0, 1] {
        // Each has its own place: this one's is written whenever it goes on.
        let at = 256 * vcpu;
        op.addr = runstate.address() + at;
        let rc = hypercall::raw(VCPU_OP, [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA.into(), vcpu, hypercall::address(&mut op), 0, 0]);
        test.answer(format_args!("runstate({vcpu})"), format_args!("rc={rc} state={}", runstate.read32(at)));
    }
    op.addr = unmapped();
    let rc = hypercall::raw(VCPU_OP, [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA.into(), 0, hypercall::address(&mut op), 0, 0]);
    test.rc("runstate(bad address)", rc);
}

fn second(test: &mut Test) {
    let state = || hypercall::firmware(psci::AFFINITY_INFO_64, [1, 0, 0]);
    test.rc("second.before", state());
    let started = smp::start(1);
    test.rc("second.on", started);
    if !smp::is_online(1) {
        return test.skip("second", "the domain has one vCPU, or it did not start");
    }
    test.rc("second.state", state());
    test.rc("second.on(again)", hypercall::firmware(psci::CPU_ON_64, [1, smp::entry(), 1]));
    smp::give(1, || gic::enable(3));
    cpu::wait_until(1_000_000, || smp::is_idle(1));
    for (name, value) in [("target", 2), ("others", 1 << 40), ("both", 3)] {
        let before = gic::count(1, 3);
        gic::send_sgi(3 << 24 | value);
        let arrived = cpu::wait_until(1_000_000, || gic::count(1, 3) != before);
        test.answer(format_args!("second.sgi({name})"), format_args!("arrived={arrived} times={}", gic::count(1, 3) - before));
    }
    wake_by_event(test);
    smp::give(1, || {
        smp::offline();
        hypercall::firmware(psci::CPU_OFF, [0; 3]);
    });
    let off = cpu::wait_until(1_000_000, || state() == psci::AFFINITY_LEVEL_OFF);
    test.answer("second.off", format_args!("off={off} state={}", state()));
    test.rc("second.on(after off)", smp::start(1));
    test.answer("second.on(after off).online", smp::is_online(1));
}

/// The boot CPU sleeps in WFI; the second one sends it an event. The timer ends the sleep if the event does not.
fn wake_by_event(test: &mut Test) {
    use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
    static PORT: AtomicU32 = AtomicU32::new(0);
    let mut op = BindIpi { vcpu: 0, port: 0 };
    test.rc("wake.bind", hypercall::event(EVTCHNOP_BIND_IPI, &mut op));
    PORT.store(op.port, SeqCst);
    hypercall::event(EVTCHNOP_UNMASK, &mut Unmask { port: op.port });
    gic::enable(GUEST_EVTCHN_PPI);
    gic::enable(GUEST_TIMER_VIRT_PPI);
    // What is pending from before must not end the sleep.
    cpu::wait_until(20_000, || false);
    let before = gic::count(0, GUEST_EVTCHN_PPI);
    let start = cpu::counter();
    smp::give(1, || {
        cpu::wait_until(20_000, || false);
        hypercall::event(EVTCHNOP_SEND, &mut Send { port: PORT.load(SeqCst) });
    });
    timer::arm_virtual(3_000_000);
    while (cpu::counter() - start) < cpu::frequency() / 100 {
        cpu::wait_for_interrupt();
        cpu::interrupts(true);
        cpu::interrupts(false);
    }
    let early = (cpu::counter() - start) < cpu::frequency() * 2;
    test.answer("wake.wfi", format_args!("event={} early={early}", gic::count(0, GUEST_EVTCHN_PPI) != before));
    timer::stop();
    cpu::wait_until(1_000_000, || smp::is_idle(1));
    test.rc("wake.close", hypercall::event(EVTCHNOP_CLOSE, &mut Close { port: op.port }));
    gic::disable(GUEST_EVTCHN_PPI);
    gic::disable(GUEST_TIMER_VIRT_PPI);
}
