//! vCPUs: on and off, moved, interrupted, with areas that they share with the hypervisor (misuse A01, A02, A11, A22, A24, A25, H14).

use super::arena::Place::{Dom0, Peer, Second};
use super::arena::*;
use super::domains::move_about;
use super::grants::balloon;
use crate::pair::jobs::{self, args};
use crate::pair::{ops, ports};
use crate::runtime::{control, peer};
use crate::runtime::{cpu, gic, hypercall, page::Page, peer::yield_cpu, probe, smp, timer};
use guest_abi::arch_arm::GUEST_TIMER_VIRT_PPI;
use guest_abi::domctl::*;
use guest_abi::psci;
use guest_abi::vcpu::*;
use guest_abi::xen::hypercall::VCPU_OP;

pub const ALL: &[Race] = &[
    Race { name: "A01_A02.registers_kept", sides: &[(Peer(0), keep), (Peer(1), keep), (Dom0, keep)], ..LIVING },
    Race { name: "A02.registers_kept_when_moved", sides: &[(Peer(0), keep), (Dom0, move_about), (Second, keep)], ..LIVING },
    Race { name: "A02.registers_kept_when_paused", sides: &[(Peer(0), keep), (Dom0, pause_on), (Peer(1), keep)], ..LIVING },
    Race {
        name: "A22.on_and_off_beside_queries",
        rounds: 4,
        sides: &[(Peer(0), on_and_off), (Dom0, ask_vcpu), (Second, pause_on)],
        ..LIVING
    },
    Race {
        name: "A22.turned_on_by_two",
        sides: &[(Peer(0), turn_on), (Peer(1), turn_on)],
        check: |on, _, [a, b, _]| {
            must(matches!((a as i64, b as i64), (0, -4 | -5) | (-4 | -5, 0)), "a vCPU was not turned on once")?;
            must(on.peer.call(0, turn_off, args([])) == 0, "it does not turn off")
        },
        ..LIVING
    },
    Race { name: "A22.on_and_off_beside_death", sides: &[(Peer(0), on_and_off_for_ever), (Second, kill)], ..DYING },
    Race {
        name: "A22.on_and_off_beside_events",
        rounds: 4,
        setup: event_to_third,
        sides: &[(Peer(0), on_and_off), (Dom0, send)],
        check: |on, _, results| all_well(results).and(ports_are_free(on)),
        ..LIVING
    },
    Race {
        name: "A24.sleep_and_yield_storm",
        sides: &[(Peer(0), sleep_and_yield), (Peer(1), sleep_and_yield), (Dom0, ask_vcpu)],
        ..LIVING
    },
    Race { name: "A25.timer_beside_pauses", rounds: 4, sides: &[(Peer(0), wait_for_timers), (Dom0, pause_on)], ..LIVING },
    Race {
        name: "A11.interrupts_beside_enabling",
        setup: counted,
        sides: &[(Peer(1), enable_on), (Peer(0), interrupt)],
        check: last_arrives,
        ..LIVING
    },
    Race {
        name: "A11.interrupts_beside_priorities",
        setup: counted,
        sides: &[(Peer(1), prioritise), (Peer(0), interrupt)],
        check: last_arrives,
        ..LIVING
    },
    Race {
        name: "A12.interrupts_both_ways",
        setup: counted,
        sides: &[(Peer(0), interrupt_other), (Peer(1), interrupt_other), (Dom0, pause_on)],
        check: last_arrives,
        ..LIVING
    },
    Race {
        name: "H14.info_registered_beside_send",
        rounds: 4,
        world: World::Fresh,
        setup: registering,
        sides: &[(Peer(0), register_and_receive), (Dom0, send)],
        ..LIVING
    },
    Race {
        name: "H14.runstate_beside_pauses",
        setup: |on| [on.page(0, 0), on.page(1, 0), 0, 0],
        sides: &[(Peer(0), register_runstate), (Dom0, pause_on)],
        ..LIVING
    },
    Race {
        name: "E19.runstate_page_taken_away",
        rounds: 6,
        world: World::Fresh,
        setup: |on| [on.page(0, 0), on.page(0, 0), 0, 0],
        sides: &[(Peer(0), register_runstate_loosely), (Peer(1), balloon), (Dom0, pause_on)],
        ..LIVING
    },
    Race {
        name: "E19.info_page_taken_away",
        rounds: 6,
        world: World::Fresh,
        setup: registering,
        sides: &[(Peer(0), register_and_balloon), (Dom0, send)],
        ..LIVING
    },
];

/// Registers of EL1 that nobody but their vCPU changes, and bits of them that can be chosen freely.
const KEPT: [(u16, u64); 8] = [
    (probe::encoding(3, 3, 13, 0, 2), u64::MAX),     // TPIDR_EL0
    (probe::encoding(3, 3, 13, 0, 3), u64::MAX),     // TPIDRRO_EL0
    (probe::encoding(3, 0, 14, 1, 0), 0x3f3),        // CNTKCTL_EL1
    (probe::encoding(3, 0, 13, 0, 1), 0xffff),       // CONTEXTIDR_EL1
    (probe::encoding(3, 0, 6, 0, 0), u64::MAX),      // FAR_EL1
    (probe::encoding(3, 0, 7, 4, 0), 0xf_ffff_f000), // PAR_EL1
    (probe::encoding(3, 2, 0, 0, 0), 0x2),           // CSSELR_EL1
    (probe::encoding(3, 0, 5, 2, 0), 0xffff),        // ESR_EL1
];

/// Values that this vCPU has written stay, whatever else runs on its CPU meanwhile.
fn keep(a: [u64; 6]) -> u64 {
    let mut random = (a[5] + 1) << 8 | (cpu::index() as u64 + 1) | (crate::runtime::platform::role() as u64 + 1) << 20;
    let mut written = [0; KEPT.len()];
    for ((register, bits), value) in KEPT.into_iter().zip(&mut written) {
        let wanted = next(&mut random) & bits;
        let _ = probe::write_register(register, wanted);
        *value = probe::read_register(register).unwrap_or(0);
    }
    let result = a_while(|n| {
        if n % 4 == 0 {
            yield_cpu();
        }
        let changed = KEPT.into_iter().zip(written).find(|((register, _), value)| probe::read_register(*register) != Ok(*value));
        changed.map_or(0, |((register, _), _)| odd(register.into()))
    });
    let _ = probe::write_register(KEPT[2].0, 3);
    result
}

fn pause_on(a: [u64; 6]) -> u64 {
    let call = |cmd| among(control::domctl_plain(cmd, a[0] as u16), &[0]);
    a_while(|_| call(XEN_DOMCTL_PAUSEDOMAIN) | call(XEN_DOMCTL_UNPAUSEDOMAIN))
}

/// Turns the vCPU off that runs this.
fn off() {
    smp::offline();
    hypercall::firmware(psci::CPU_OFF, [0; 3]);
}

/// Turns the third vCPU off and waits until it is.
fn turn_off(_: [u64; 6]) -> u64 {
    cpu::wait_until(5_000_000, || smp::is_online(2));
    smp::give(2, off);
    let is_off = || hypercall::firmware(psci::AFFINITY_INFO_64, [2, 0, 0]) == psci::AFFINITY_LEVEL_OFF;
    if ops::within(5_000_000, is_off) { 0 } else { odd(2) }
}

fn turn_on(_: [u64; 6]) -> u64 {
    hypercall::firmware(psci::CPU_ON_64, [2, smp::entry(), 2]).cast_unsigned()
}

fn on_and_off(a: [u64; 6]) -> u64 {
    for _ in 0..8 {
        let rc = smp::start(2);
        if rc != 0 || !smp::is_online(2) {
            return odd(rc);
        }
        if turn_off(a) != 0 {
            return odd(2);
        }
    }
    0
}

fn on_and_off_for_ever(a: [u64; 6]) -> u64 {
    loop {
        on_and_off(a);
    }
}

fn ask_vcpu(a: [u64; 6]) -> u64 {
    a_while(|n| {
        let mut info = GetVcpuInfo { vcpu: (n % 3) as u32, ..Default::default() };
        let rc = control::domctl(XEN_DOMCTL_GETVCPUINFO, &mut { a[0] as u16 }, &mut info);
        if info.online > 1 || info.blocked > 1 || info.running > 1 { odd(1) } else { among(rc, &[0]) }
    })
}

/// A channel whose events go to the third vCPU.
fn event_to_third(on: &Ground) -> [u64; 4] {
    let channel = connect(on);
    on.peer.call(0, |a| ports::bind_vcpu(a[0] as u32, 2).cast_unsigned(), args([channel[0]]));
    channel
}

fn send(a: [u64; 6]) -> u64 {
    a_while(|_| among(ports::send(a[2] as u32), &[0]))
}

fn sleep_and_yield(_: [u64; 6]) -> u64 {
    a_while(|n| {
        if n % 2 == 0 {
            yield_cpu()
        } else {
            timer::doze(20)
        }
        0
    })
}

/// Each timer fires, however often the domain is stopped.
fn wait_for_timers(_: [u64; 6]) -> u64 {
    gic::enable(GUEST_TIMER_VIRT_PPI);
    for n in 0..10 {
        let before = gic::count(cpu::index(), GUEST_TIMER_VIRT_PPI);
        timer::arm_virtual(50 + n * 20);
        if !cpu::wait_until(5_000_000, || gic::count(cpu::index(), GUEST_TIMER_VIRT_PPI) != before) {
            return odd(n.cast_signed());
        }
    }
    0
}

/// The software interrupt of these races.
const SGI: u32 = 3;

fn counted(on: &Ground) -> [u64; 4] {
    (0..2).for_each(|cpu| {
        on.peer.call(cpu, enable, args([]));
    });
    [0; 4]
}

fn enable(_: [u64; 6]) -> u64 {
    gic::enable(SGI);
    0
}

fn take() {
    cpu::interrupts(true);
    cpu::interrupts(false);
}

/// Disables and enables the interrupt while it comes.
fn enable_on(_: [u64; 6]) -> u64 {
    a_while(|n| {
        if n % 2 == 0 {
            gic::disable(SGI)
        } else {
            gic::enable(SGI)
        }
        if n % 3 == 0 {
            take();
        }
        0
    });
    gic::enable(SGI);
    0
}

/// Changes priorities of all software interrupts while they come.
fn prioritise(_: [u64; 6]) -> u64 {
    a_while(|n| {
        gic::set_priorities((n as u32 % 8 + 8) << 4);
        take();
        0
    });
    gic::set_priorities(0xa0);
    0
}

fn interrupt(_: [u64; 6]) -> u64 {
    a_while(|_| {
        gic::send_sgi(u64::from(SGI) << 24 | 2);
        0
    })
}

fn interrupt_other(_: [u64; 6]) -> u64 {
    a_while(|_| {
        gic::send_sgi(u64::from(SGI) << 24 | 1 << (1 - cpu::index() as u64));
        take();
        0
    })
}

/// An interrupt that is sent when all is quiet arrives.
fn last_arrives(on: &Ground, _: [u64; 6], results: [u64; 3]) -> Verdict {
    all_well(results)?;
    must(on.peer.call(1, count_one, args([])) == 0, "an interrupt did not arrive")
}

/// Sends one to this very vCPU.
fn count_one(_: [u64; 6]) -> u64 {
    cpu::wait_until(1000, || false);
    let before = gic::count(cpu::index(), SGI);
    gic::send_sgi(u64::from(SGI) << 24 | 1 << cpu::index());
    if cpu::wait_until(5_000_000, || gic::count(cpu::index(), SGI) != before) { 0 } else { odd(1) }
}

fn registering(on: &Ground) -> [u64; 4] {
    let [theirs, ours, ..] = connect(on);
    [theirs, ours, on.page(0, 0), 0]
}

fn register_info(gfn: u64) -> i64 {
    let mut op = RegisterVcpuInfo { mfn: gfn, offset: 64, rsvd: 0 };
    hypercall::raw(VCPU_OP, [VCPUOP_REGISTER_VCPU_INFO.into(), 0, hypercall::address(&mut op), 0, 0])
}

/// Moves its own area while events come: what came before and after is seen.
fn register_and_receive(a: [u64; 6]) -> u64 {
    spin(100 + a[5] * 100);
    let rc = register_info(a[3]);
    if rc != 0 {
        return odd(rc);
    }
    let page = Page::own(a[3] * 4096);
    // Xen sets the bit for all words when the area moves.
    if !ops::within(5_000_000, || page.read8(64) != 0 && page.read64(72) != 0) {
        return odd(1);
    }
    let seen = ports::take_pending(a[1]);
    peer::page().write64(peer::word(3), seen.into());
    if seen { 0 } else { odd(2) }
}

fn register_and_balloon(mut a: [u64; 6]) -> u64 {
    let rc = register_info(a[3]);
    a[1] = a[3];
    if rc == 0 { a_while(|_| again(a[1])) } else { odd(rc) }
}

/// Takes a page away and brings it back, or not.
fn again(gfn: u64) -> u64 {
    jobs::populate(args([gfn]));
    jobs::decrease(args([gfn]));
    0
}

fn runstate(address: u64) -> i64 {
    let mut op = RegisterRunstateMemoryArea { addr: address };
    hypercall::raw(VCPU_OP, [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA.into(), 0, hypercall::address(&mut op), 0, 0])
}

/// What is told of the vCPU that looks is that it runs.
fn register_runstate(a: [u64; 6]) -> u64 {
    a_while(|n| {
        let gfn = a[1 + n as usize % 2];
        let rc = runstate(gfn * 4096 + 128);
        let state = Page::own(gfn * 4096).read32(128);
        if rc == 0 && state != RUNSTATE_RUNNING as u32 { odd(state.into()) } else { among(rc, &[0]) }
    })
}

fn register_runstate_loosely(a: [u64; 6]) -> u64 {
    a_while(|_| answered(runstate(a[1] * 4096 + 128)))
}
