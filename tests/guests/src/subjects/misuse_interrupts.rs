//! Misuse of timers and of the interrupt controller. Each operation begins with its row of the catalogue (A08 to A12, A15, A25, H09).

use crate::runtime::probe::{self, Outcome, encoding};
use crate::runtime::{cpu, gic, hypercall, timer, unmapped};
use crate::verdict::Test;
use guest_abi::arch_arm::{GUEST_GICV3_GICD_BASE, GUEST_TIMER_PHYS_NS_PPI, GUEST_TIMER_VIRT_PPI};
use guest_abi::xen::hypercall::*;

/// Where the suite gives this domain a page of the machine that holds one small device (QEMU's fw_cfg), and then nothing.
const NOTHING: u64 = 0x3b00_0800;

/// The latest time that the virtual timer is set to: QEMU up to 8.1 hangs if the sum of CNTV_CVAL and CNTVOFF wraps.
const LATEST: u64 = (1 << 63) - 1;

pub fn run(test: &mut Test) {
    timers(test);
    interrupts(test);
    faults(test);
    floods(test);
    nothing(test);
}

/// Takes interrupts for so long, or until one comes, and tells how many came.
fn arrived(intid: u32, microseconds: u64) -> u32 {
    let before = gic::count(0, intid);
    cpu::wait_until(microseconds, || gic::count(0, intid) != before);
    cpu::wait_until(2_000, || false);
    gic::count(0, intid) - before
}

/// The same for a timer: what is due comes, however busy the machine is.
fn fired(intid: u32, control: u64) -> u32 {
    const ISTATUS: u64 = 1 << 2;
    arrived(intid, if control & ISTATUS != 0 { 5_000_000 } else { 20_000 })
}

fn timers(test: &mut Test) {
    timer::stop();
    let register = |physical: bool, which: u16| if physical { encoding(3, 3, 14, 2, which) } else { encoding(3, 3, 14, 3, which) };
    let (value, control, compare) = (0, 1, 2);
    for (name, physical, intid) in [("cntv", false, GUEST_TIMER_VIRT_PPI), ("cntp", true, GUEST_TIMER_PHYS_NS_PPI)] {
        let set = |which, to| probe::write_register(register(physical, which), to);
        let get = |which| probe::read_register(register(physical, which));
        gic::enable(intid);
        for (when, cval) in [("0", 0), ("1", 1), ("2^56", 1 << 56), ("2^63-1", LATEST), ("2^63", 1 << 63), ("~0", u64::MAX)] {
            if cval == u64::MAX && !physical {
                continue; // See `LATEST`.
            }
            let _ = (set(control, 0), set(compare, cval));
            let back = get(compare).unwrap_or(0) == cval;
            let _ = set(control, 1);
            let came = fired(intid, get(control).unwrap_or(0));
            test.answer(
                format_args!("A25.{name}(cval={when})"),
                format_args!("back={back} came={came} ctl={:#x}", get(control).unwrap_or(99)),
            );
            let _ = set(control, 0);
        }
        for (when, tval) in [("0", 0_u64), ("-1", u64::from(u32::MAX)), ("-2^16", 0xffff_0000), ("2^31-1", 0x7fff_ffff), ("2^32", 1 << 32)]
        {
            let _ = (set(control, 0), set(value, tval));
            let _ = set(control, 1);
            let came = fired(intid, get(control).unwrap_or(0));
            let sign = get(value).unwrap_or(0) as u32 as i32 >= 0;
            test.answer(
                format_args!("A25.{name}(tval={when})"),
                format_args!("came={came} ctl={:#x} positive={sign}", get(control).unwrap_or(99)),
            );
            let _ = set(control, 0);
        }
        // Masked: due, but nothing comes. Unmasked: it comes.
        let _ = (set(compare, 0), set(control, 3));
        let masked = arrived(intid, 20_000);
        let during = get(control).unwrap_or(99);
        let _ = set(control, 1);
        let unmasked = arrived(intid, 5_000_000);
        test.answer(
            format_args!("A25.{name}(masked)"),
            format_args!("came={masked} ctl={during:#x} then={unmasked} ctl={:#x}", get(control).unwrap_or(99)),
        );
        // Due, then moved into the future before it is taken.
        gic::disable(intid);
        let _ = (set(control, 0), set(compare, 0), set(control, 1));
        cpu::wait_until(2_000, || false);
        let _ = set(compare, 1 << 56);
        gic::enable(intid);
        let came = arrived(intid, 20_000);
        test.answer(format_args!("A25.{name}(moved)"), format_args!("came={came} ctl={:#x}", get(control).unwrap_or(99)));
        let _ = set(control, 0);
        arrived(intid, 20_000);
        // Writes of all bits: which stick.
        let _ = set(control, u64::MAX);
        test.answer(format_args!("A25.{name}(ctl=~0)"), Outcome(get(control)));
        let _ = set(control, 0);
        // On and off at full speed: no interrupt is left, the domain lives.
        for n in 0..2000 {
            let _ = (set(compare, 0), set(control, n & 1));
        }
        let _ = set(control, 0);
        arrived(intid, 20_000);
        test.answer(
            format_args!("A25.{name}(toggled)"),
            format_args!("left={} ctl={:#x}", arrived(intid, 2_000), get(control).unwrap_or(99)),
        );
        gic::disable(intid);
    }
    // Time goes forward, and the virtual counter is behind the physical one.
    let mut last = 0;
    let forward = (0..5000).all(|_| {
        let now = cpu::counter();
        let forward = now >= last;
        last = now;
        forward
    });
    test.answer("A25.counters", format_args!("forward={forward} behind={}", cpu::counter() < timer::physical_counter()));
    test.answer("A25.cntfrq", Outcome(probe::write_register(encoding(3, 3, 14, 0, 0), 1).map(|()| 0)));
}

/// A08, A11, A12: software interrupts to everybody and nobody; interrupts that are disabled while they are pending.
fn interrupts(test: &mut Test) {
    let sgi = [encoding(3, 0, 12, 11, 5), encoding(3, 0, 12, 11, 6), encoding(3, 0, 12, 11, 7)];
    for (name, register) in ["sgi1r", "asgi1r", "sgi0r"].into_iter().zip(sgi) {
        let (mut taken, mut undefined) = (0, 0);
        for n in 0..64_u64 {
            // Never to the first vCPU: target list 0x8000 and above, other affinities.
            let value = 1 << 15 | (n & 15) << 24 | (n / 4 % 4 + 1) << [16, 32, 48, 44][n as usize % 4];
            match probe::write_register(register, value) {
                Ok(()) => taken += 1,
                Err(_) => undefined += 1,
            }
        }
        test.answer(format_args!("A12.{name}(nobody)"), format_args!("taken={taken} undefined={undefined}"));
    }
    for value in [0, 1 << 24 | 1, 2 << 24, 3 << 24 | 0xff << 16, 0xffff_ffff] {
        test.answer(format_args!("A08.sgir({value:#x})"), Outcome(probe::write(GUEST_GICV3_GICD_BASE + 0xf00, 2, value).map(|()| 0)));
    }
    let frame = gic::redistributor(0) + 0x1_0000;
    for intid in [1_u32, 9, 16, 20, 28] {
        let bit = u64::from(1_u32 << intid);
        let write = |offset: u64| probe::write(frame + offset, 2, bit);
        // Pending, then enabled; disabled while pending; cleared while pending; many times.
        let before = gic::count(0, intid);
        let _ = (write(0x180), write(0x200));
        cpu::wait_until(2_000, || false);
        let disabled = gic::count(0, intid) - before;
        let _ = write(0x100);
        cpu::wait_until(5_000_000, || gic::count(0, intid) != before);
        let enabled = gic::count(0, intid) - before;
        let before = gic::count(0, intid);
        for _ in 0..500 {
            let _ = (write(0x200), write(0x180), write(0x280), write(0x100));
        }
        let _ = (write(0x180), write(0x280));
        cpu::wait_until(2_000, || false);
        let stormed = gic::count(0, intid) - before;
        test.answer(format_args!("A11.pending({intid})"), format_args!("disabled={disabled} enabled={enabled} stormed={stormed}"));
    }
    // All at once, more than there are list registers; each arrives once. The highest priority comes first.
    let all = 0xffff_u64;
    let before: [u32; 16] = core::array::from_fn(|n| gic::count(0, n as u32));
    (0..4).for_each(|n| {
        let _ = probe::write(frame + 0x400 + n * 4, 2, 0xa0a0_a0a0);
    });
    let _ = (probe::write(frame + 0x100, 2, all), probe::write(frame + 0x200, 2, all));
    let come = || (0..16).all(|n| gic::count(0, n as u32) != before[n]);
    cpu::wait_until(5_000_000, come);
    cpu::wait_until(20_000, || false);
    let once = (0..16).filter(|n| gic::count(0, *n as u32) - before[*n] == 1).count();
    test.answer("A11.sixteen at once", format_args!("once={once}"));
    let _ = probe::write(frame + 0x180, 2, all);
}

/// A15: a timer falls due while the hypervisor finds that an address is none.
fn faults(test: &mut Test) {
    gic::enable(GUEST_TIMER_VIRT_PPI);
    let (mut came, mut odd) = (0, 0);
    for n in 0..300 {
        let before = gic::count(0, GUEST_TIMER_VIRT_PPI);
        timer::arm_virtual(n % 50);
        for _ in 0..10 {
            odd += u32::from(hypercall::raw(XEN_VERSION, [5, unmapped(), 0, 0, 0]) != -14);
            odd += u32::from(hypercall::raw(GRANT_TABLE_OP, [5, unmapped(), 1, 0, 0]) != -14);
        }
        came += u32::from(cpu::wait_until(5_000_000, || gic::count(0, GUEST_TIMER_VIRT_PPI) != before));
        timer::stop();
    }
    gic::disable(GUEST_TIMER_VIRT_PPI);
    test.answer("A15.timers beside faults", format_args!("came={came} odd={odd}"));
}

/// A09, H09: a thousand times each what would be worth a line of log.
fn floods(test: &mut Test) {
    let mut answers = [0_u32; 2];
    for n in 0..1000_u64 {
        answers[usize::from(probe::read(GUEST_GICV3_GICD_BASE + 0x5000 + n * 4, 2).is_ok())] += 1;
        answers[usize::from(probe::write(GUEST_GICV3_GICD_BASE + 0x300, 2, 1).is_ok())] += 1;
        answers[usize::from(probe::read(0x3900_5000, 2).is_ok())] += 1;
    }
    test.answer("A09.bad accesses", format_args!("{answers:?}"));
    let mut answers = [0_u32; 2];
    for n in 0..1000_u16 {
        answers[usize::from(probe::hvc(2 + n, [0; 4]).is_ok())] += 1;
        answers[usize::from(probe::smc(1, [0; 4]).is_ok())] += 1;
        answers[usize::from(probe::write_register(encoding(3, 0, 15, 2, 0), 0).is_ok())] += 1;
        answers[usize::from(hypercall::raw(GRANT_TABLE_OP, [u64::from(n) + 100, unmapped(), 1, 0, 0]) >= 0)] += 1;
        answers[usize::from(hypercall::raw(EVENT_CHANNEL_OP, [u64::from(n) + 100, unmapped(), 0, 0, 0]) >= 0)] += 1;
    }
    test.answer("H09.bad operations", format_args!("{answers:?}"));
}

/// A10: an address of the machine that the domain was given, and where nothing answers.
fn nothing(test: &mut Test) {
    for n in 0..4 {
        test.answer(format_args!("A10.read({n})"), Outcome(probe::read(NOTHING, n)));
        test.answer(format_args!("A10.write({n})"), Outcome(probe::write(NOTHING, n, 0).map(|()| 0)));
    }
    test.answer("A10.ldxr", Outcome(probe::execute(0xc85f_7c01, [NOTHING, 0, 0, 0]).map(|_| 0)));
    test.answer("A10.hypercall", hypercall::raw(XEN_VERSION, [5, NOTHING, 0, 0, 0]));
}
