//! Event channels of the two-level ABI: sent, closed, bound and reset at the same time; no event is lost (misuse E06, E09, E16).

use super::arena::Place::{Dom0, Peer, Second};
use super::arena::*;
use crate::pair::jobs::{self, args};
use crate::pair::{ops, ports};
use crate::runtime::peer::{self, word};
use crate::runtime::{cpu, gic, hypercall};
use core::sync::atomic::{AtomicU8, Ordering::SeqCst};
use guest_abi::arch_arm::GUEST_EVTCHN_PPI;
use guest_abi::event_channel::*;
use guest_abi::sched::{Poll, SCHEDOP_POLL};
use guest_abi::xen::{DOMID_SELF, VIRQ_DEBUG};

/// Words of the mailbox: how many events were sent, how many of them were seen.
const SENT: u64 = 0;
const SEEN: u64 = 1;
/// Events of a race that counts them.
const EVENTS: u64 = 300;
/// And where each is waited for.
const WAKES: u64 = 25;

pub const ALL: &[Race] = &[
    Race { name: "E06.reset_beside_all", sides: &[(Peer(0), reset_on), (Peer(1), do_all)], check, ..LIVING },
    Race { name: "E09.reset_beside_binding", sides: &[(Peer(0), reset_on), (Peer(1), offer_on), (Dom0, bind_and_send)], check, ..LIVING },
    Race { name: "E09.reset_by_dom0", sides: &[(Dom0, reset_peer), (Peer(0), do_all)], check, ..LIVING },
    Race { name: "E16.bits_scribbled", setup: connect, sides: &[(Peer(0), scribble), (Dom0, send_well)], check, ..LIVING },
    Race { name: "E20.send_beside_close", setup: connect, sides: &[(Peer(0), close_and_offer), (Dom0, send_and_rebind)], check, ..LIVING },
    Race {
        name: "E20.close_by_both_ends",
        rounds: 40,
        setup: connect,
        sides: &[(Dom0, |a| among(ops::close(a[2] as u32), &[0])), (Peer(0), |a| among(ops::close(a[1] as u32), &[0]))],
        check,
        ..LIVING
    },
    Race {
        name: "E07.send_to_what_is_being_bound",
        sides: &[(Dom0, offer_and_close), (Peer(0), bind_dom0), (Peer(1), send_all)],
        check,
        ..LIVING
    },
    Race { name: "E02.no_event_is_lost", setup: counting, sides: &[(Peer(0), receive), (Dom0, send_numbers)], check, ..LIVING },
    Race {
        name: "E02.no_unmasked_event_is_lost",
        setup: counting,
        sides: &[(Peer(0), receive_unmasking), (Dom0, send_numbers)],
        check,
        ..LIVING
    },
    Race {
        name: "E02.no_event_is_lost_while_it_moves",
        setup: counting,
        sides: &[(Peer(1), receive), (Dom0, send_numbers), (Peer(0), move_port)],
        check,
        ..LIVING
    },
    Race {
        name: "E04.poll_wakes",
        rounds: 4,
        setup: counting,
        sides: &[(Peer(0), receive_polling), (Dom0, send_and_wait)],
        check,
        ..LIVING
    },
    Race {
        name: "A11.interrupt_wakes",
        rounds: 4,
        setup: counting,
        sides: &[(Peer(0), receive_sleeping), (Dom0, send_and_wait)],
        check,
        ..LIVING
    },
    Race {
        name: "E13.virq_bound_by_two",
        sides: &[(Peer(0), bind_virq), (Peer(1), bind_virq)],
        check: |on, a, [x, y, _]| {
            let one = matches!((x as i32, y as i32), (-17, 1..) | (1.., -17));
            must(one, "a VIRQ is not bound once")?;
            check(on, a, [0; 3])
        },
        ..LIVING
    },
    Race { name: "E05.ports_taken_by_two", sides: &[(Peer(0), take_many), (Peer(1), take_many)], check, ..LIVING },
    Race {
        name: "E01.port_bound_by_two",
        setup: |on| [on.peer.call(0, jobs::offer, args([0])), 0, 0, 0],
        sides: &[(Dom0, bind_one), (Second, bind_one)],
        check: |on, a, [x, y, _]| {
            must(matches!((x as i32, y as i32), (-22, 1..) | (1.., -22)), "a port is not bound once")?;
            check(on, a, [0; 3])
        },
        ..LIVING
    },
    Race { name: "E20.status_beside_close", setup: connect, sides: &[(Dom0, look), (Peer(0), close_and_offer)], check, ..LIVING },
    Race {
        name: "E10.sender_dies",
        setup: connect,
        sides: &[(Peer(0), send_for_ever), (Second, kill), (Dom0, look_until_dead)],
        check: |_, a, results| {
            let (_, status) = ports::status(DOMID_SELF, a[2] as u32);
            must(status.status == EVTCHNSTAT_UNBOUND, "the port is not unbound when the other end is gone")?;
            dying(results, a)
        },
        ..DYING
    },
    Race {
        name: "E10.receiver_dies",
        setup: connect,
        sides: &[(Dom0, |a| until_dead(|_| among(ports::send(a[2] as u32), &[0, -22]))), (Second, kill)],
        check: |_, a, results| dying(results, a),
        ..DYING
    },
    Race {
        name: "E10.binder_dies",
        sides: &[(Peer(0), bind_for_ever), (Dom0, offer_until_dead), (Second, kill)],
        check: |_, a, results| dying(results, a),
        ..DYING
    },
];

/// All well, and no port is lost.
fn check(on: &Ground, _: [u64; 6], results: [u64; 3]) -> Verdict {
    all_well(results)?;
    ports_are_free(on)
}

fn dying(results: [u64; 3], _: [u64; 6]) -> Verdict {
    all_well(results)?;
    must(free_ports([0; 6]) == 0, "Dom0 has lost a port")
}

fn counting(on: &Ground) -> [u64; 4] {
    on.set_word(SENT, 0);
    on.set_word(SEEN, 0);
    connect(on)
}

fn reset_on(_: [u64; 6]) -> u64 {
    a_while(|_| among(ports::reset(DOMID_SELF), &[0, -11]))
}

fn reset_peer(a: [u64; 6]) -> u64 {
    a_while(|_| among(ports::reset(a[0] as u16), &[0, -11, -22]))
}

/// Every operation, on ports that may be anything.
fn do_all(_: [u64; 6]) -> u64 {
    a_while(|n| {
        let port = 1 + (n % 7) as u32;
        let rc = match n % 8 {
            0 => ops::offer_port(0).min(0),
            1 => ports::send(port),
            2 => ports::unmask(port),
            3 => ports::status(DOMID_SELF, port).0,
            4 => ports::bind_ipi(0).min(0),
            5 => ports::bind_vcpu(port, 1),
            6 => ports::bind_virq(VIRQ_DEBUG, 0).min(0),
            _ => ops::close(port),
        };
        answered(rc)
    })
}

fn offer_on(_: [u64; 6]) -> u64 {
    a_while(|n| {
        let port = ops::offer_port(0);
        if n % 3 == 0 { answered(ops::close(port.max(0) as u32)) } else { answered(port.min(0)) }
    })
}

/// Binds what the peer may offer, sends, and closes what was bound.
fn bind_and_send(a: [u64; 6]) -> u64 {
    a_while(|n| {
        let port = ports::bind(a[0] as u16, 1 + (n % 5) as u32);
        if port < 0 {
            return answered(port);
        }
        let sent = among(ports::send(port as u32), &[0, -22]);
        sent | among(ops::close(port as u32), &[0])
    })
}

fn offer_and_close(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let port = ops::offer_port(a[0] as u16);
        if port < 1 { odd(port) } else { among(ports::send(port as u32), &[0]) | among(ops::close(port as u32), &[0]) }
    })
}

fn bind_dom0(_: [u64; 6]) -> u64 {
    a_while(|_| {
        let port = ports::bind(0, 1);
        if port < 0 { answered(port) } else { among(ops::close(port as u32), &[0]) }
    })
}

fn bind_for_ever(_: [u64; 6]) -> u64 {
    for n in 0.. {
        let port = ports::bind(0, 1 + n % 3);
        if n % 2 == 0 && port > 0 {
            ops::close(port as u32);
        }
    }
    0
}

fn offer_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|_| {
        let port = ops::offer_port(a[0] as u16);
        // Not to a dead domain.
        if port < 1 { answered(port) } else { among(ops::close(port as u32), &[0]) }
    })
}

fn send_all(_: [u64; 6]) -> u64 {
    a_while(|n| among(ports::send((n % 3 + 1) as u32), &[0, -22]))
}

/// Writes anything to the bitmaps and to what says where to look.
fn scribble(_: [u64; 6]) -> u64 {
    let mut random = 0x1234_5678_9abc_def1;
    let result = a_while(|_| {
        for _ in 0..64 {
            let (at, value) = (next(&mut random) % 8 * 8, next(&mut random));
            ports::shared().write64([8, 48, 560][value as usize % 3] + at * u64::from(value % 3 != 0), value);
        }
        0
    });
    for at in 0..64 {
        ports::shared().write64(48 + at * 8, 0);
        ports::shared().write64(560 + at * 8, 0);
    }
    ports::shared().write64(0, 0);
    ports::shared().write64(8, 0);
    result
}

fn send_well(a: [u64; 6]) -> u64 {
    a_while(|_| among(ports::send(a[2] as u32), &[0]))
}

fn send_for_ever(a: [u64; 6]) -> u64 {
    loop {
        ports::send(a[1] as u32);
    }
}

fn send_and_rebind(a: [u64; 6]) -> u64 {
    let mut port = a[2].cast_signed();
    a_while(|_| {
        let sent = if port > 0 { among(ports::send(port as u32), &[0, -22]) } else { 0 };
        let closed = if port > 0 { among(ops::close(port as u32), &[0]) } else { 0 };
        port = ports::bind(a[0] as u16, a[1] as u32);
        sent | closed | answered(port.min(0))
    })
}

fn close_and_offer(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let closed = ops::close(a[1] as u32);
        among(closed, &[0]) | among(ops::offer_port(0), &[a[1].cast_signed()])
    })
}

/// Sends each number once, as fast as it goes.
fn send_numbers(a: [u64; 6]) -> u64 {
    let page = crate::pair::peer::mailbox_of(a[0] as u16);
    for n in 1..=EVENTS {
        page.write64(word(SENT), n);
        let rc = ports::send(a[2] as u32);
        if rc != 0 {
            return odd(rc);
        }
    }
    0
}

/// Sends an event and waits until it was seen.
fn send_and_wait(a: [u64; 6]) -> u64 {
    let page = crate::pair::peer::mailbox_of(a[0] as u16);
    for n in 1..=WAKES {
        page.write64(word(SENT), n);
        ports::send(a[2] as u32);
        if !ops::within(20_000_000, || page.read64(word(SEEN)) >= n) {
            return odd(n.cast_signed());
        }
    }
    0
}

/// Looks at numbers when `event` says that there is an event, until the last was seen.
fn see(last: u64, mut event: impl FnMut() -> bool) -> u64 {
    let page = peer::page();
    let limit = cpu::counter() + 40 * cpu::frequency();
    while page.read64(word(SEEN)) < last {
        if event() {
            page.write64(word(SEEN), page.read64(word(SENT)));
        } else if cpu::counter() > limit {
            return odd(page.read64(word(SEEN)).cast_signed());
        }
    }
    0
}

fn receive(a: [u64; 6]) -> u64 {
    see(EVENTS, || ports::take_pending(a[1]))
}

/// Takes the word that says that something is pending for the first vCPU; whether it did.
fn take_upcall() -> bool {
    let shared = ports::shared();
    let pending = shared.read8(0) != 0;
    shared.write8(0, 0);
    shared.clear64(8, u64::MAX);
    pending
}

/// Masks the port and unmasks it, and only looks when it is told to.
fn receive_unmasking(a: [u64; 6]) -> u64 {
    let (at, bit) = ports::bit(a[1]);
    see(EVENTS, || {
        ports::shared().set64(at + 512, bit);
        let unmasked = ports::unmask(a[1] as u32);
        unmasked == 0 && take_upcall() && ports::take_pending(a[1])
    })
}

fn receive_polling(a: [u64; 6]) -> u64 {
    see(WAKES, || {
        let mut port = a[1] as u32;
        let mut op = Poll { ports: hypercall::address(&mut port), nr_ports: 1, ..Default::default() };
        hypercall::sched(SCHEDOP_POLL, &mut op);
        ports::take_pending(a[1])
    })
}

/// Sleeps until the interrupt of events comes.
fn receive_sleeping(a: [u64; 6]) -> u64 {
    gic::enable(GUEST_EVTCHN_PPI);
    let result = see(WAKES, || {
        take_upcall();
        if ports::take_pending(a[1]) {
            return true;
        }
        cpu::wait_for_interrupt();
        cpu::interrupts(true);
        cpu::interrupts(false);
        false
    });
    gic::disable(GUEST_EVTCHN_PPI);
    result
}

fn move_port(a: [u64; 6]) -> u64 {
    a_while(|n| among(ports::bind_vcpu(a[1] as u32, (n % 3) as u32), &[0]))
}

fn bind_virq(_: [u64; 6]) -> u64 {
    u64::from(ports::bind_virq(VIRQ_DEBUG, 0) as u32)
}

fn bind_one(a: [u64; 6]) -> u64 {
    u64::from(ports::bind(a[0] as u16, a[1] as u32) as u32)
}

/// Takes ports, none of which the other vCPU gets.
fn take_many(_: [u64; 6]) -> u64 {
    static TAKEN: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
    let mut taken = [0; 60];
    for port in &mut taken {
        *port = ops::offer_port(0);
        if !(1..256).contains(port) || TAKEN[*port as usize].fetch_add(1, SeqCst) != 0 {
            return odd(*port);
        }
    }
    taken
        .into_iter()
        .map(|port| {
            TAKEN[port as usize].fetch_sub(1, SeqCst);
            among(ops::close(port as u32), &[0])
        })
        .find(|odd| *odd != 0)
        .unwrap_or(0)
}

fn see_status(a: [u64; 6]) -> u64 {
    let (rc, status) = ports::status(a[0] as u16, a[1] as u32);
    if rc == 0 && status.status > EVTCHNSTAT_IPI { odd(status.status.into()) } else { answered(rc) }
}

fn look(a: [u64; 6]) -> u64 {
    a_while(|_| see_status(a))
}

fn look_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|_| see_status(a))
}
