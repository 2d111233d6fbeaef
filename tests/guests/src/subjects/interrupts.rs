//! Timers and software interrupts of the boot CPU: each arrives, once, and WFI ends.

use crate::runtime::{cpu, gic, timer};
use crate::verdict::Test;
use guest_abi::arch_arm::{GUEST_TIMER_PHYS_NS_PPI, GUEST_TIMER_VIRT_PPI};

pub fn run(test: &mut Test) {
    timer::stop();
    gic::enable(GUEST_TIMER_VIRT_PPI);
    gic::enable(GUEST_TIMER_PHYS_NS_PPI);
    for (name, arm, intid) in
        [("virtual", timer::arm_virtual as fn(u64), GUEST_TIMER_VIRT_PPI), ("physical", timer::arm_physical, GUEST_TIMER_PHYS_NS_PPI)]
    {
        let control = || if intid == GUEST_TIMER_VIRT_PPI { timer::virtual_control() } else { timer::physical_control() };
        for delay in [0, 5_000] {
            let before = gic::count(0, intid);
            arm(delay);
            let arrived = cpu::wait_until(2_000_000, || gic::count(0, intid) != before);
            cpu::wait_until(10_000, || false);
            let times = gic::count(0, intid) - before;
            test.answer(format_args!("{name}({delay}us)"), format_args!("arrived={arrived} times={times} ctl={:#x}", control()));
            timer::stop();
        }
        // Disabled at the controller: pending until enabled.
        gic::disable(intid);
        let before = gic::count(0, intid);
        arm(0);
        cpu::wait_until(20_000, || false);
        let early = gic::count(0, intid) - before;
        gic::enable(intid);
        let late = cpu::wait_until(1_000_000, || gic::count(0, intid) != before);
        test.answer(format_args!("{name}(disabled)"), format_args!("early={early} late={late}"));
        timer::stop();
        // WFI with interrupts masked ends when the timer is due.
        let start = cpu::counter();
        arm(20_000);
        cpu::wait_for_interrupt();
        let waited = (cpu::counter() - start) * 1000 / cpu::frequency();
        test.answer(format_args!("{name}(wfi)"), format_args!("waited={}", (15..2000).contains(&waited)));
        cpu::wait_until(100_000, || false);
        timer::stop();
    }
    gic::disable(GUEST_TIMER_VIRT_PPI);
    gic::disable(GUEST_TIMER_PHYS_NS_PPI);
    for intid in [0, 7, 15] {
        gic::enable(intid);
        let before = gic::count(0, intid);
        gic::send_sgi(u64::from(intid) << 24 | 1);
        let arrived = cpu::wait_until(500_000, || gic::count(0, intid) != before);
        test.answer(format_args!("sgi({intid},self)"), format_args!("arrived={arrived}"));
        // To nobody: no such vCPU, other affinity, all but self with the other vCPU off (misuse A12).
        for (name, value) in [("vcpu9", 1 << 9), ("none", 0), ("aff1", 1 << 16 | 1), ("aff3", 1 << 48 | 1), ("others", 1 << 40)] {
            let before = gic::count(0, intid);
            gic::send_sgi(value | u64::from(intid) << 24);
            let arrived = cpu::wait_until(2_000, || gic::count(0, intid) != before);
            test.answer(format_args!("sgi({intid},{name})"), format_args!("arrived={arrived}"));
        }
        gic::disable(intid);
    }
}
