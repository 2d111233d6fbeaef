//! Races on several CPUs: bounded loops, after which what must always hold is looked at.

use super::channel::*;
use super::jobs::args;
use super::ops;
use super::peer::Peer;
use super::txcopy::with_peer;
use crate::runtime::{cpu, page::Page};
use crate::verdict::Test;

/// How long each race goes on.
const MILLISECONDS: u64 = 300;

fn after(milliseconds: u64) -> u64 {
    cpu::counter() + milliseconds * cpu::frequency() / 1000
}

/// Rewrites the length and address of the only packet of batch page `a[0]` between two valid ones, as fast as it can, for `a[3]` ms:
/// 1000 bytes at `a[1]`, 2000 bytes at `a[2]`. How often.
fn flip(a: [u64; 6]) -> u64 {
    let (batch, end, mut times) = (Page::own(a[0] * 4096), after(a[3]), 0);
    while cpu::counter() < end {
        for (address, len) in [(a[1], 1000), (a[2], 2000)] {
            batch.write32(0, len);
            batch.write64(16, address);
            batch.write32(24, len);
            times += 1;
        }
    }
    times
}

/// Sends the packet of attachment `a[0]` for `a[1]` ms: how many were taken; what must not be answered is in the upper half.
fn keep_sending(a: [u64; 6]) -> u64 {
    let (end, mut taken, mut wrong) = (after(a[1]), 0, 0);
    while cpu::counter() < end {
        match send([a[0], 32, 0, 0, 0, 0]).cast_signed() {
            1 => taken += 1,
            // A length of one packet with the piece of the other; no room.
            -22 | -11 => {}
            rc => wrong = rc as u32,
        }
    }
    u64::from(wrong) << 32 | taken
}

/// T04: every packet that comes through is whole, of a length that was described and of the sender's own bytes.
pub fn t04(test: &mut Test) {
    with_peer(test, |test, peer| match Channel::open(peer) {
        Ok(channel) => {
            peer.start_cpu(1);
            channel.data(0).fill(0x11);
            channel.data(1).fill(0x22);
            channel.one(channel.address(0), 1000);
            peer.give(1, flip, args([channel.batch_gfn, channel.address(0), channel.address(1), MILLISECONDS]));
            peer.give(0, keep_sending, args([channel.handle, MILLISECONDS]));
            let (mut posted, mut seen) = (post(0, 128), 0_u32);
            while !(peer.is_idle(0) && seen == completed()) {
                while seen != completed() {
                    look(test, seen);
                    posted = post(posted, 1);
                    seen = seen.wrapping_add(1);
                }
                crate::runtime::peer::yield_cpu();
            }
            let (flips, sent) = (peer.wait(1), peer.wait(0));
            if sent >> 32 != 0 || sent as u32 != seen || seen == 0 || flips == 0 {
                test.fail("T04", format_args!("{} taken, {seen} seen, {flips} flips, wrong {}", sent as u32, (sent >> 32) as i32));
            }
            if channel.close() != 0 {
                test.fail("T04", "the channel does not end");
            }
        }
        Err((step, rc)) => test.error(step, rc),
    });
}

/// The packet in slot `n`: 1000 or 2000 bytes, all of page 0 or all of page 1.
fn look(test: &mut Test, n: u32) {
    let (slot, page) = (slot(n), buffer(n.into()));
    let byte = page.read8(0);
    let whole = (0..u64::from(slot.len)).all(|at| page.read8(at) == byte);
    if !matches!(slot.len, 1000 | 2000) || slot.total != slot.len || !matches!(byte, 0x11 | 0x22) || !whole {
        test.fail("T04.packet", format_args!("{slot:?} begins with {byte:#x}"));
    }
}

/// T08: the sender dies amid its batches; a channel whose sender is gone ends without a trace.
pub fn t08(test: &mut Test) {
    for round in 0..8 {
        with_killed_peer(test, |test, peer| {
            let channel = match Channel::open(peer) {
                Ok(channel) => channel,
                Err((step, rc)) => return test.error(step, rc),
            };
            channel.one(channel.address(0), 1000);
            let mut posted = post(0, 128);
            peer.give(0, keep_sending, args([channel.handle, 2000]));
            let end = after(2 + round * 3);
            while cpu::counter() < end {
                posted = post(posted, completed().wrapping_sub(posted).wrapping_add(128));
            }
            if peer.kill() != 0 {
                test.fail("T08", "the peer cannot be killed");
            }
            let last = completed();
            if ops::within(2_000, || completed() != last) {
                test.fail("T08", "a dead sender sends");
            }
            if channel.close() != 0 {
                test.fail("T08", "the channel does not end");
            }
        });
    }
}

/// Runs `race`, which kills the peer, and waits until nothing of it is left.
fn with_killed_peer(test: &mut Test, race: impl FnOnce(&mut Test, &Peer)) {
    if !super::books::is_xenolith() {
        return test.skip("txcopy", "only Xenolith has it");
    }
    match Peer::build(2) {
        Ok(peer) => {
            race(test, &peer);
            if !ops::within(2_000_000, || !super::peer::exists(peer.id)) {
                test.fail("end", "something of the domain is left");
            }
        }
        Err(why) => test.error("build", why),
    }
}
