//! Races on several CPUs: bounded loops, after which what must always hold is looked at.

pub mod arena;
mod channels;
mod domains;
mod events;
mod fifo;
mod grants;
mod memory;
mod vcpus;

use super::channel::*;
use super::jobs::args;
use super::ops;
use super::peer::Peer;
use super::txcopy::with_peer;
use crate::runtime::{cpu, page::Page};
use crate::verdict::Test;
use guest_abi::txcopy::*;

/// How long each race goes on.
const MILLISECONDS: u64 = 300;

/// The counter's value in so many milliseconds.
pub fn after(milliseconds: u64) -> u64 {
    cpu::counter() + milliseconds * cpu::frequency() / 1000
}

/// The two records that T04 has rewritten, each of a header and one piece: they differ in every word, and any mix of whole words that has
/// one length is a record that may be sent.
const RECORDS: [PacketHeader; 2] = [
    PacketHeader { len: 1000, flags: PACKET_CSUM_PARTIAL, csum_start: 34, csum_offset: 16, ..PACKET },
    PacketHeader {
        len: 2000,
        flags: PACKET_CSUM_PARTIAL | PACKET_CSUM_VALID,
        csum_start: 54,
        csum_offset: 6,
        gso_size: 1400,
        gso_type: GSO_TCPV4,
        ..PACKET
    },
];
const PACKET: PacketHeader =
    PacketHeader { len: 0, pieces: 1, flags: 0, csum_start: 0, csum_offset: 0, gso_size: 0, gso_type: GSO_NONE, _pad: 0 };

/// Rewrites the only record of batch page `a[0]` between the two of [`RECORDS`], with pieces at `a[1]` and `a[2]`, word by word as fast as it
/// can, for `a[3]` ms. How often.
fn flip(a: [u64; 6]) -> u64 {
    let (batch, end, mut times) = (Page::own(a[0] * 4096), after(a[3]), 0);
    let records = [(&RECORDS[0], a[1]), (&RECORDS[1], a[2])].map(|(header, address)| {
        put(batch, 0, header, &[(address, header.len)]);
        [0, 8, 16, 24].map(|at| batch.read64(at))
    });
    while cpu::counter() < end {
        for _ in 0..100 {
            for record in &records {
                record.iter().zip(0..).for_each(|(word, n)| batch.write64(n * 8, *word));
                times += 1;
            }
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

/// T04: every packet that comes through is what one reading of its record says: each word of it is one that was written, and the packet is as
/// long, lies where and is described as those words have it. That the words of one reading belong together only the sender can see to.
pub fn t04(test: &mut Test) {
    with_peer(test, |test, peer| match Channel::open(peer) {
        Ok(channel) => {
            peer.start_cpu(1);
            channel.data(0).fill(0x11);
            channel.data(1).fill(0x22);
            put(channel.batch(), 0, &RECORDS[0], &[(channel.address(0), 1000)]);
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

/// The packet in slot `n`: of each pair of fields that are one word those of one record; all of page 0 or all of page 1.
fn look(test: &mut Test, n: u32) {
    let (slot, page) = (slot(n), buffer(n.into()));
    let byte = page.read8(0);
    let whole = (0..u64::from(slot.len)).all(|at| page.read8(at) == byte);
    let first = RECORDS.iter().any(|r| (r.len, r.len, r.flags) == (slot.len, slot.total, slot.flags));
    let told = (slot.csum_start, slot.csum_offset, slot.gso_size, slot.gso_type);
    let second = RECORDS.iter().any(|r| (r.csum_start, r.csum_offset, r.gso_size, r.gso_type) == told);
    if !first || !second || !matches!(byte, 0x11 | 0x22) || !whole {
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
pub fn with_killed_peer(test: &mut Test, race: impl FnOnce(&mut Test, &Peer)) {
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
