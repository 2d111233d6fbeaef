//! The rows that take more than one CPU: a sender or a receiver that changes or ends what the other one, or it itself, is using. Bounded
//! loops, after which what must always hold is looked at.

use super::*;
use crate::pair::races::{after, with_killed_peer};
use crate::runtime::peer::yield_cpu;
use crate::runtime::{cpu, smp};
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use guest_abi::memory::{XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP};
use guest_abi::xen::DOMID_SELF;

/// How long each race goes on.
pub const MILLISECONDS: u64 = 300;

/// What was answered to a job that sends one packet after the other.
#[derive(Debug)]
pub struct Answers {
    /// Packets taken.
    pub taken: u32,
    /// The last answer that was none of those that the job expects, else 0.
    pub other: i32,
}

impl From<u64> for Answers {
    fn from(word: u64) -> Self {
        Self { taken: word as u32, other: (word >> 32) as i32 }
    }
}

/// Sends the packet of attachment `a[0]` for `a[1]` ms and until one was taken, or until something else is answered than 1, `EAGAIN`,
/// `EFAULT`: [`Answers`].
pub fn send_for(a: [u64; 6]) -> u64 {
    let (end, last, mut taken, mut other) = (after(a[1]), after(9000), 0_u64, 0);
    while other == 0 && (cpu::counter() < end || taken == 0 && cpu::counter() < last) {
        match send(args([a[0], 32, 0, 0])).cast_signed() {
            1 => taken += 1,
            rc if rc == code(EAGAIN) || rc == code(EFAULT) => {}
            rc => other = rc as u32,
        }
    }
    u64::from(other) << 32 | taken
}

/// Takes own frame `a[0]` away and brings it back, filled with byte `a[1]`, for `a[2]` ms: how often, or 0 if that was refused.
fn churn(a: [u64; 6]) -> u64 {
    let (end, mut times) = (after(a[2]), 0);
    let done = |op| ops::reserve(op, &[a[0]], 0, DOMID_SELF) == 1;
    while times == 0 || cpu::counter() < end {
        // The page that was taken away counts as the domain's until the packet is copied.
        if !done(XENMEM_DECREASE_RESERVATION) || !ops::within(5_000_000, || done(XENMEM_POPULATE_PHYSMAP)) {
            return 0;
        }
        Page::own(a[0] * 4096).fill(a[1] as u8);
        times += 1;
    }
    times
}

/// T03: the sender's other vCPU gives the page of the piece away and takes another one, while a third domain fills what becomes free. What
/// comes through is of pages that were the sender's.
pub fn t03(test: &mut Test) {
    with_channel(test, |test, c| {
        let hoarder = match Peer::build(1) {
            Ok(peer) => peer,
            Err(why) => return test.error("build", why),
        };
        let (mine, others) = (0x77, 0x99);
        let hoard = hoarder.call(0, jobs::take, args([others]));
        c.peer.start_cpu(1);
        c.data(3).fill(mine as u8);
        ops::remove(c.data(3).gfn());
        c.one(c.address(3), 4096);
        hoarder.give(0, churn, args([hoard, others, MILLISECONDS]));
        c.peer.give(1, churn, args([c.data_gfn + 3, mine, MILLISECONDS]));
        c.peer.give(0, send_for, args([c.handle, MILLISECONDS]));
        let (mut posted, mut seen) = (post(0, 128), 0_u32);
        while !(c.peer.is_idle(0) && seen == completed()) {
            while seen != completed() {
                // A page is zero before its owner fills it.
                let page = buffer(seen.into());
                if let Some(byte) = (0..4096).map(|at| page.read8(at)).find(|byte| u64::from(*byte) != mine && *byte != 0) {
                    test.fail("data", format_args!("packet {seen} has {byte:#x}"));
                }
                posted = post(posted, 1);
                seen = seen.wrapping_add(1);
            }
            yield_cpu();
        }
        let answers = Answers::from(c.peer.wait(0));
        let churned = [c.peer.wait(1), hoarder.wait(0)];
        if answers.other != 0 || answers.taken != seen || seen == 0 || churned.contains(&0) {
            test.fail("race", format_args!("{answers:?}, {seen} seen, churned {churned:?}"));
        }
        hoarder.destroy(test);
        plain(test, c, completed());
    });
}

/// T07: the receiver ends the channel amid sending. From then on its ring and its buffers are its own, and what was taken before is there.
pub fn t07(test: &mut Test) {
    with_peer(test, |test, peer| {
        let mut c = match Channel::open(peer) {
            Ok(channel) => channel,
            Err((step, rc)) => return test.error(step, rc),
        };
        for round in 0..8 {
            c.one(c.address(0), 1000);
            peer.give(0, send_for, args([c.handle, 30_000]));
            let (mut posted, end) = (post(0, 128), after(2 + round * 3));
            while cpu::counter() < end || completed() == 0 {
                posted = post(posted, completed().wrapping_sub(posted).wrapping_add(128));
            }
            want(test, "destroy", call_raw(TXCOPY_DESTROY, c.number.into()), 0);
            let taken = completed();
            let own = || [header(), slots()].into_iter().chain((0..BUFFERS).map(buffer));
            own().for_each(|page| page.fill(0xee));
            let answers = Answers::from(peer.wait(0));
            if i64::from(answers.other) != code(EPIPE) || answers.taken != taken {
                test.fail("race", format_args!("{answers:?}, {taken} were completed"));
            }
            if !own().all(|page| page.is_filled(0xee)) {
                test.fail("race", "what the receiver has taken back was written to");
            }
            want(test, "detach", peer.rc(let_go, args([c.handle])), 0);
            let mut again = request(peer.id, c.port);
            want(test, "create", call(TXCOPY_CREATE, &mut again), 0);
            c.number = again.channel;
            c.handle = peer.call(0, attach, args([c.number.into(), c.peer_port, c.batch_gfn]));
        }
        // The sender's own other vCPU ends it; the page is nobody's but the sender's then.
        peer.start_cpu(1);
        for round in 0..8 {
            c.one(c.address(0), 1000);
            let before = completed();
            peer.give(0, send_for, args([c.handle, 30_000]));
            let (mut posted, end) = (post(before, 128), after(2 + round * 3));
            while cpu::counter() < end || completed() == before {
                posted = post(posted, completed().wrapping_sub(posted).wrapping_add(128));
            }
            want(test, "detach", peer.call(1, let_go, args([c.handle])).cast_signed(), 0);
            let answers = Answers::from(peer.wait(0));
            if i64::from(answers.other) != code(ENOENT) || answers.taken != completed().wrapping_sub(before) {
                test.fail("race", format_args!("{answers:?}, {} were completed", completed().wrapping_sub(before)));
            }
            c.handle = peer.call(1, attach, args([c.number.into(), c.peer_port, c.batch_gfn]));
        }
        plain(test, &c, completed());
        want(test, "close", c.close(), 0);
    });
}

/// DETACH.
fn let_go(a: [u64; 6]) -> u64 {
    call_raw(TXCOPY_DETACH, a[0]).cast_unsigned()
}

/// What Dom0's second vCPU sends by, and what it was answered at last.
static HANDLE: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicI64 = AtomicI64::new(0);

/// Dom0 sends until something else is answered than a packet taken or no room.
fn dom0_sends() {
    let end = after(30_000);
    let mut last = 1;
    while cpu::counter() < end && (last == 1 || last == code(EAGAIN)) {
        last = send(args([HANDLE.load(SeqCst), 32, 0, 0])).cast_signed();
    }
    LAST.store(last, SeqCst);
}

/// Makes a channel on which Dom0 sends, of a page of slots, and posts a buffer in each: its number, or an error.
fn make_channel(_: [u64; 6]) -> u64 {
    let mut op = request(0, ops::offer_port(0) as u32);
    let rc = call(TXCOPY_CREATE, &mut op);
    if rc != 0 {
        return rc.cast_unsigned();
    }
    post(0, 128);
    op.channel.into()
}

/// Posts its buffers again and again, until it dies.
fn keep_posting(a: [u64; 6]) -> u64 {
    let (mut posted, end) = (128, after(a[0]));
    while cpu::counter() < end {
        posted = post(posted, completed().wrapping_sub(posted).wrapping_add(128));
    }
    posted.into()
}

/// T08: the receiver dies amid what Dom0 sends to it. The sender hears that the channel is gone, and nothing of the domain is left.
pub fn t08(test: &mut Test) {
    // Taken once: pages are never given back.
    let (batch, data) = (Page::take(), Page::take());
    put(batch, 0, &packet(1000, 1), &[(data.address(), 1000)]);
    for round in 0..8 {
        with_killed_peer(test, |test, peer| {
            ops::start_second(test);
            let channel = peer.rc(make_channel, args([]));
            let port = ops::offer_port(peer.id) as u32;
            let mut op = Attach {
                version: TXCOPY_VERSION,
                receiver: peer.id,
                channel: channel as u32,
                port,
                batch_gfn: batch.gfn(),
                ..Default::default()
            };
            want(test, "attach", call(TXCOPY_ATTACH, &mut op), 0);
            HANDLE.store(op.handle.into(), SeqCst);
            peer.give(0, keep_posting, args([10_000]));
            smp::give(1, dom0_sends);
            let end = after(2 + round * 3);
            while cpu::counter() < end {
                yield_cpu();
            }
            want(test, "kill", peer.kill(), 0);
            if !ops::within(45_000_000, || smp::is_idle(1)) {
                test.fail("send", "it does not end");
            }
            want(test, "send", LAST.load(SeqCst), code(EPIPE));
            want(test, "detach", call_raw(TXCOPY_DETACH, op.handle.into()), 0);
            ops::close(port);
        });
    }
}
