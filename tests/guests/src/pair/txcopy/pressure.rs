//! The rows of pressure: interrupts, writes and refused calls that never end. What others ask for still comes to its end, in time.

use super::racing::{Answers, MILLISECONDS, send_for};
use super::*;
use crate::pair::races::after;
use crate::runtime::peer::yield_cpu;
use crate::runtime::{cpu, gic, smp};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Where a page of a sender says that it is enough, behind what is described in it.
const ENOUGH_AT: u64 = 2048;

/// Sends batches of `a[1]` bytes by attachment `a[0]`, `a[2]` of them, with interrupts let in: packets taken, or an error.
fn send_interrupted(a: [u64; 6]) -> u64 {
    gic::enable(1);
    cpu::interrupts(true);
    let mut taken = 0;
    for _ in 0..a[2] {
        let rc = send(args([a[0], a[1], 0, 0])).cast_signed();
        if rc < 0 {
            taken = rc;
            break;
        }
        taken += rc;
    }
    cpu::interrupts(false);
    gic::disable(1);
    taken.cast_unsigned()
}

/// Interrupts vCPU 0 for `a[0]` ms, or until own frame `a[1]` says that it is enough.
fn storm(a: [u64; 6]) -> u64 {
    let (end, enough, mut times) = (after(a[0]), Page::own(a[1] * 4096), 0);
    while cpu::counter() < end && enough.read64(ENOUGH_AT) == 0 {
        gic::send_sgi(1 << 24 | 1);
        times += 1;
    }
    times
}

/// T12: an interrupt is always pending, and an event of the sender's is never taken. Each call still comes to its end, each packet once.
pub fn t12(test: &mut Test) {
    with_channel(test, |test, c| {
        c.peer.start_cpu(1);
        want(test, "shared", c.peer.rc(jobs::map_shared, args([])), 0);
        // An event: it waited for room, and there is some.
        refuse(test, "no room", c.send(c.one(c.address(0), 60), TXCOPY_SEND_WANT_SPACE), EAGAIN);
        let posted = post(0, 128);
        want(test, "posted", call_raw(TXCOPY_POSTED, c.number.into()), 0);
        let enough = c.data_gfn + 1;
        c.data(1).fill(0);
        let mut at = 0;
        for _ in 0..124 {
            at = put(c.batch(), at, &packet(4096, 1), &[(c.address(0), 4096)]);
        }
        c.peer.give(1, storm, args([10_000, enough]));
        // As long as nobody posts more, one batch is one call of eight steps.
        let taken = c.peer.rc(send_interrupted, args([c.handle, at, 1]));
        want(test, "taken", taken, 124);
        want(test, "completed", completed().into(), 124);
        let mut posted = posted;
        for round in 0..32 {
            posted = post(posted, 124);
            want(test, format_args!("round {round}"), c.peer.rc(send_interrupted, args([c.handle, at, 1])), 124);
        }
        c.data(1).write64(ENOUGH_AT, 1);
        if c.peer.wait(1) == 0 {
            test.fail("storm", "no interrupt was sent");
        }
        want(test, "still pending", c.peer.rc(jobs::pending, args([c.peer_port])), 1);
        // Four slots are left.
        posted = post(posted, 1);
        want(test, "plain", c.send(c.one(c.address(0), 60), 0), 1);
        want(test, "plain.completed", completed().wrapping_sub(posted).wrapping_add(4).into(), 0);
    });
}

/// Words of Dom0's that the hypervisor writes too, and whether that is enough.
static ENOUGH: AtomicU64 = AtomicU64::new(0);

/// Dom0 writes what it may to the words that it shares with the hypervisor: of the ring, and of its pending events.
fn dom0_hammers() {
    let ring = header();
    let mut n = 0_u32;
    while ENOUGH.load(SeqCst) == 0 {
        n = n.wrapping_add(1);
        // What was completed last, so that an event is due for the next packet.
        ring.write32(4, ring.read32(64));
        ring.write32(68, n);
        ops::clear_pending(n % 64);
    }
}

/// T15: both ends keep writing to the words that the hypervisor writes. It never waits for them.
pub fn t15(test: &mut Test) {
    with_channel(test, |test, c| {
        ops::start_second(test);
        want(test, "shared", ops::map_shared(), 0);
        ENOUGH.store(0, SeqCst);
        smp::give(1, dom0_hammers);
        c.one(c.address(0), 60);
        c.peer.give(0, send_for, args([c.handle, MILLISECONDS]));
        let mut posted = post(0, 128);
        while !c.peer.is_idle(0) {
            posted = post(posted, completed().wrapping_sub(posted).wrapping_add(128));
            yield_cpu();
        }
        let answers = Answers::from(c.peer.wait(0));
        ENOUGH.store(1, SeqCst);
        if !ops::within(5_000_000, || smp::is_idle(1)) {
            test.fail("hammer", "it does not end");
        }
        if answers.other != 0 || answers.taken == 0 {
            test.fail("race", format_args!("{answers:?}"));
        }
        let mut stats = Stats { channel: c.number, ..Default::default() };
        want(test, "stats", call(TXCOPY_STATS, &mut stats), 0);
        want(test, "packets", stats.packets.cast_signed(), answers.taken.into());
        if stats.notified == 0 {
            test.fail("race", "no event was raised");
        }
        plain(test, c, completed());
    });
}

/// Asks for what is refused, until own frame `a[0]` says that it is enough: by attachment `a[1]` to channel `a[2]`, and of the victim's
/// channel `a[3]`.
fn spam(a: [u64; 6]) -> u64 {
    let (page, mut times) = (Page::own(a[0] * 4096), 0);
    while page.read64(ENOUGH_AT) == 0 {
        let attach =
            |channel: u64| Attach { version: TXCOPY_VERSION, channel: channel as u32, port: 1, batch_gfn: a[0], ..Default::default() };
        send(args([a[1], 32, 0, 0]));
        send(args([a[1], 33, 0, 0]));
        send(args([99, 32, 0, 0]));
        call(TXCOPY_ATTACH, &mut attach(a[2]));
        call(TXCOPY_ATTACH, &mut attach(a[3]));
        call(TXCOPY_CREATE, &mut Create { version: TXCOPY_VERSION, slot_pages: 1, ..Default::default() });
        call_raw(TXCOPY_DESTROY, a[3]);
        call_raw(TXCOPY_POSTED, a[3]);
        call_raw(TXCOPY_QUERY, unmapped());
        times += 1;
    }
    times
}

/// How long 90 of 100 calls of the victim take at most, in ticks of the counter: SEND by attachment `a[0]`, without room.
fn measure(a: [u64; 6]) -> u64 {
    let mut times = [0_u32; 1024];
    for time in &mut times {
        let start = cpu::counter();
        send(args([a[0], 32, 0, 0]));
        *time = (cpu::counter() - start) as u32;
    }
    times.sort_unstable();
    times[times.len() * 9 / 10].into()
}

/// T19: a domain that does nothing but ask for what it may not have does not slow down the others.
pub fn t19(test: &mut Test) {
    with_channel(test, |test, victim| {
        let spammer = match Peer::build(2) {
            Ok(peer) => peer,
            Err(why) => return test.error("build", why),
        };
        // A channel of its own, whose packet has a piece that is nowhere.
        let port = ops::offer_port(spammer.id) as u32;
        let list = Page::take();
        let ring = Page::take_aligned(2);
        (0..2).for_each(|n| list.write64(n * 8, ring.offset(n).gfn()));
        let mut own =
            Create { version: TXCOPY_VERSION, sender: spammer.id, ring_gfns: list.address(), slot_pages: 1, port, ..Default::default() };
        want(test, "create", call(TXCOPY_CREATE, &mut own), 0);
        let peer_port = spammer.call(0, jobs::offer, args([0]));
        let batch = spammer.call(0, jobs::take, args([0]));
        let handle = spammer.call(0, attach, args([own.channel.into(), peer_port, batch]));
        let seen = Page::hole(0x702);
        want(test, "map", ops::map_foreign(spammer.id, batch, seen.gfn()), 0);
        spammer.start_cpu(1);
        victim.one(victim.address(0), 60);

        // On a busy machine one measurement says little.
        let mut last = (0, 0);
        let fair = (0..20).any(|_| {
            let alone = victim.peer.call(0, measure, args([victim.handle]));
            put(seen, 0, &packet(60, 1), &[(1 << 40, 60)]);
            seen.write64(ENOUGH_AT, 0);
            (0..2).for_each(|cpu| spammer.give(cpu, spam, args([batch, handle, own.channel.into(), victim.number.into()])));
            let beside = victim.peer.call(0, measure, args([victim.handle]));
            seen.write64(ENOUGH_AT, 1);
            (0..2).for_each(|cpu| {
                spammer.wait(cpu);
            });
            last = (alone, beside);
            beside < 2 * alone
        });
        if !fair {
            test.fail("latency", format_args!("90 of 100 calls take {} ticks alone, {} beside the other", last.0, last.1));
        }
        want(test, "unmap", ops::remove(seen.gfn()), 0);
        spammer.destroy(test);
        want(test, "destroy", call_raw(TXCOPY_DESTROY, own.channel.into()), 0);
        ops::close(port);
        plain(test, victim, 0);
    });
}
