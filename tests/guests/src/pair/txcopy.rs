//! Tx copy, misused (misuse T01 to T20): what `hypervisor/decisions/tx-copy.md` says must come out. Xen has none: there all is skipped.

pub mod interface;
pub mod pressure;
pub mod racing;

use super::books::is_xenolith;
use super::channel::{self, *};
use super::jobs::{self, args};
use super::ops;
use super::peer::{Peer, exists};
use crate::runtime::{hypercall, page::Page, unmapped};
use crate::verdict::Test;
use guest_abi::errno::Errno;
use guest_abi::errno::Errno::*;
use guest_abi::grant_table::{GNTMAP_HOST_MAP, GTF_PERMIT_ACCESS};
use guest_abi::txcopy::*;
use guest_abi::xen::{MulticallEntry, hypercall as nr};

/// Address and length of each piece of a packet.
type Pieces<'a> = &'a [(u64, u32)];

fn code(errno: Errno) -> i64 {
    -(errno as i64)
}

/// The answer has to be this one.
pub fn want(test: &mut Test, what: impl core::fmt::Display, got: i64, want: i64) {
    if got != want {
        test.fail(what, format_args!("{got} instead of {want}"));
    }
}

fn refuse(test: &mut Test, what: impl core::fmt::Display, got: i64, errno: Errno) {
    want(test, what, got, code(errno));
}

/// Runs `row` on a fresh channel, and ends that; whatever the row did, a plain packet must still come through.
fn with_channel(test: &mut Test, row: fn(&mut Test, &Channel<'_>)) {
    with_peer(test, |test, peer| match Channel::open(peer) {
        Ok(channel) => {
            row(test, &channel);
            want(test, "close", channel.close(), 0);
        }
        Err((step, rc)) => test.error(step, rc),
    });
}

/// Runs `row` with a fresh peer.
pub fn with_peer(test: &mut Test, row: impl FnOnce(&mut Test, &Peer)) {
    if !is_xenolith() {
        return test.skip("txcopy", "only Xenolith has it");
    }
    match Peer::build(2) {
        Ok(peer) => {
            row(test, &peer);
            peer.destroy(test);
        }
        Err(why) => test.error("build", why),
    }
}

/// Sends a packet of a page and looks at what comes out. `posted` buffers were posted and all are completed.
fn plain(test: &mut Test, channel: &Channel<'_>, posted: u32) -> u32 {
    let before = completed();
    let now = post(posted, 1);
    channel.data(0).fill(0x3c);
    want(test, "plain.send", channel.send(channel.one(channel.address(0), 4096), 0), 1);
    want(test, "plain.completed", completed().wrapping_sub(before).into(), 1);
    let slot = slot(before);
    if slot.len != 4096 || slot.total != 4096 || !buffer(before.into()).is_filled(0x3c) {
        test.fail("plain.data", format_args!("{slot:?}"));
    }
    now
}

/// T01: counts at and beyond their bounds.
pub fn t01(test: &mut Test) {
    with_channel(test, |test, c| {
        let mut posted = post(0, 32);
        let base = c.address(0);
        let good = c.one(base, 60);
        for bytes in [0, 15, 16, 31, 33, 4095, 4097, 4112, 1 << 16, 1 << 31, u64::from(u32::MAX), 1 << 32, (1 << 32) + 32, u64::MAX] {
            refuse(test, format_args!("bytes={bytes:#x}"), c.send(bytes, 0), EINVAL);
        }
        for pieces in [0, 25, 26, 0x7fff, 0x8000, 0xffff] {
            put(c.batch(), 0, &packet(60, pieces), &[(base, 60)]);
            refuse(test, format_args!("pieces={pieces}"), c.send(4096, 0), EINVAL);
        }
        for len in [0, TXCOPY_MAX_PACKET + 1, 1 << 31, u32::MAX] {
            let bytes = put(c.batch(), 0, &packet(len, 1), &[(base, len)]);
            refuse(test, format_args!("len={len}"), c.send(bytes, 0), EINVAL);
        }
        want(test, "untouched", completed().into(), 0);
        // 1 and 24 pieces; a record more than the bytes.
        let pieces = [(base, 64); 24];
        let bytes = put(c.batch(), 0, &packet(24 * 64, 24), &pieces);
        want(test, "pieces=24", c.send(bytes, 0), 1);
        want(test, "pieces=24.len", slot(0).len.into(), 24 * 64);
        refuse(test, "pieces beyond the bytes", c.send(bytes - 16, 0), EINVAL);
        // 128 packets are a page full.
        let mut at = 0;
        for _ in 0..128 {
            at = put(c.batch(), at, &packet(8, 1), &[(base, 8)]);
        }
        want(test, "packets=128", c.send(at, 0), 31);
        posted = post(posted, 97);
        want(test, "packets=128,again", c.send(at, 0), 97);
        c.one(base, 60);
        want(test, "good", i64::from(c.send(good, 0) == code(EAGAIN)), 1);
        plain(test, c, posted);
    });
}

/// T02: pages of the wrong kind, for a ring, a batch, a piece.
pub fn t02(test: &mut Test) {
    with_channel(test, |test, c| {
        let id = c.peer.id;
        // The peer has a grant of Dom0's mapped, and its own grant table.
        want(test, "table", c.peer.rc(jobs::map_table, args([])), 0);
        want(test, "own table", ops::map_table(), 0);
        let page = Page::take();
        ops::grant(20, GTF_PERMIT_ACCESS, id, page.gfn());
        let mapped = c.peer.call(0, jobs::map, args([0, 20, GNTMAP_HOST_MAP.into(), 0x300]));
        want(test, "map", (mapped as i32).into(), 0);
        let wrong = [0, 0x3000, 0x3001, 0x3_8000, 0x3_8300, 0x3_8400, 0x3_9000, 0x8_0000, 1 << 28, 1 << 36, 1 << 52, u64::MAX];
        for gfn in wrong {
            let address = gfn.wrapping_mul(4096);
            if gfn < 1 << 52 {
                refuse(test, format_args!("piece in {gfn:#x}"), c.send(c.one(address, 60), 0), EFAULT);
                // Before frame 0 there is none: that wraps.
                let errno = if gfn == 0 { EINVAL } else { EFAULT };
                refuse(test, format_args!("piece across into {gfn:#x}"), c.send(c.one(address.wrapping_sub(8), 60), 0), errno);
            }
            let port = c.peer.call(0, jobs::offer, args([0]));
            refuse(test, format_args!("batch {gfn:#x}"), c.peer.rc(attach, args([c.number.into(), port, gfn])), EINVAL);
            want(test, "close", c.peer.rc(jobs::close, args([port])), 0);
        }
        refuse(test, "piece at the end of addresses", c.send(c.one(u64::MAX - 30, 60), 0), EINVAL);
        want(test, "unmap", c.peer.rc(jobs::unmap, args([mapped >> 32, 0x300])), 0);
        ops::grant(20, 0, 0, 0);
        // Dom0's ring: the same page twice, what it has mapped of the peer, holes, devices, the table.
        let list = Page::take();
        let (a, b) = (Page::take().gfn(), Page::take().gfn());
        for (name, header, slots) in [
            ("twice", a, a),
            ("foreign header", c.batch().gfn(), a),
            ("foreign slots", a, c.data(0).gfn()),
            ("hole", a, Page::hole(0x700).gfn()),
            ("table", Page::hole(0).gfn(), a),
            ("device", a, 0x900_0000 >> 12),
            ("distributor", a, 0x800_0000 >> 12),
            ("beyond", a, 1 << 36),
            ("wraps", u64::MAX, b),
        ] {
            list.write64(0, header);
            list.write64(8, slots);
            let mut op = Create { ring_gfns: list.address(), ..request(id, c.port) };
            op.ring_gfns = list.address();
            refuse(test, format_args!("ring {name}"), call(TXCOPY_CREATE, &mut op), EINVAL);
        }
        let mut op = Create { ring_gfns: unmapped(), ..request(id, c.port) };
        refuse(test, "ring list unmapped", call(TXCOPY_CREATE, &mut op), EFAULT);
        for op in [TXCOPY_QUERY, TXCOPY_CREATE, TXCOPY_ATTACH, TXCOPY_STATS] {
            refuse(test, format_args!("op {op} at 0"), call_raw(op, 0x7f_ffff_f000), EFAULT);
            refuse(test, format_args!("op {op} unmapped"), call_raw(op, unmapped()), EFAULT);
        }
        ops::remove(Page::hole(0).gfn());
        plain(test, c, 0);
    });
}

/// T03, at rest: pages that the sender gives away while they are in use.
pub fn t03(test: &mut Test) {
    with_channel(test, |test, c| {
        let mut posted = plain(test, c, 0);
        // The batch page stays what it was for the hypervisor, which holds it, and for Dom0, which maps it.
        want(test, "decrease(batch)", c.peer.rc(jobs::decrease, args([c.batch_gfn])), 1);
        posted = post(posted, 1);
        want(test, "send(batch gone)", c.send(c.one(c.address(1), 100), 0), 1);
        // A page of a piece does not.
        ops::remove(c.data(2).gfn());
        want(test, "decrease(piece)", c.peer.rc(jobs::decrease, args([c.data_gfn + 2])), 1);
        refuse(test, "send(piece gone)", c.send(c.one(c.address(2), 100), 0), EFAULT);
        refuse(test, "send(piece half gone)", c.send(c.one(c.address(1) + 4000, 200), 0), EFAULT);
        want(test, "populate(piece)", c.peer.rc(jobs::populate, args([c.data_gfn + 2])), 1);
        posted = post(posted, 1);
        let before = completed();
        want(test, "send(piece again)", c.send(c.one(c.address(2), 100), 0), 1);
        if (0..100).any(|n| buffer(before.into()).read8(n) != 0) {
            test.fail("piece again", "a fresh page is not zero");
        }
        plain(test, c, posted);
    });
}

/// T05: lengths that do not add up, wrap or leave the page.
pub fn t05(test: &mut Test) {
    with_channel(test, |test, c| {
        let posted = post(0, 40);
        let a = c.address(0);
        let cases: [(&str, u32, Pieces<'_>); 9] = [
            ("more than said", 60, &[(a, 61)]),
            ("less than said", 60, &[(a, 59)]),
            ("nothing", 60, &[(a, 0)]),
            ("nothing at the end", 60, &[(a, 60), (a, 0)]),
            ("wraps", 60, &[(a, 61), (a, u32::MAX)]),
            ("wraps to itself", 60, &[(a, u32::MAX), (a, 61)]),
            ("half", 60, &[(a, 1 << 31), (a, 1 << 31)]),
            ("first too much", 60, &[(a, 60), (a, 60)]),
            ("sum of three", 60, &[(a, 30), (a, 20), (a, 11)]),
        ];
        for (name, len, pieces) in cases {
            let bytes = put(c.batch(), 0, &packet(len, pieces.len() as u16), pieces);
            refuse(test, name, c.send(bytes, 0), EINVAL);
        }
        // Padding that is not zero.
        let bytes = c.one(a, 60);
        c.batch().write32(28, 1);
        refuse(test, "piece padding", c.send(bytes, 0), EINVAL);
        let bytes = put(c.batch(), 0, &PacketHeader { _pad: 1, ..packet(60, 1) }, &[(a, 60)]);
        refuse(test, "packet padding", c.send(bytes, 0), EINVAL);
        want(test, "untouched", completed().into(), 0);
        // 1 byte, a page less one, across pages, the largest.
        for (address, len, slots) in
            [(a + 4095, 1, 1), (a + 1, 4095, 1), (a + 4095, 2, 1), (a + 1, 4096, 1), (a, 4097, 2), (a, DATA_PAGES as u32 * 4096, 8)]
        {
            let before = completed();
            want(test, format_args!("piece of {len}"), c.send(c.one(address, len), 0), 1);
            want(test, format_args!("piece of {len}.slots"), completed().wrapping_sub(before).into(), slots);
            want(test, format_args!("piece of {len}.total"), slot(before).total.into(), len.into());
            let sum: u32 = (before..completed()).map(|n| slot(n).len).sum();
            want(test, format_args!("piece of {len}.sum"), sum.into(), len.into());
        }
        let whole = DATA_PAGES as u32 * 4096;
        let bytes = put(c.batch(), 0, &packet(2 * whole + 32, 3), &[(a, whole), (a, whole), (a, 32)]);
        let before = completed();
        want(test, "largest", c.send(bytes, 0), 1);
        want(test, "largest.slots", completed().wrapping_sub(before).into(), 17);
        let posted = post(posted, completed().wrapping_sub(0).min(40));
        let _ = posted;
    });
}

/// T06: one page in all parts.
pub fn t06(test: &mut Test) {
    with_channel(test, |test, c| {
        // The batch page is the piece.
        let mut posted = post(0, 1);
        let bytes = c.one(c.batch_gfn * 4096, 4096);
        want(test, "batch as piece", c.send(bytes, 0), 1);
        want(test, "batch as piece.data", buffer(0).read32(0).into(), 4096);
        // One buffer in all slots: the last packet is in it.
        (posted..posted + 4).for_each(|n| post_at(n, buffer(9).address(), 4096));
        posted = publish(posted + 4);
        for n in 0..4 {
            c.data(0).fill(n);
            want(test, "same buffer", c.send(c.one(c.address(0), 4096), 0), 1);
        }
        want(test, "same buffer.data", buffer(9).is_filled(3).into(), 1);
        // The ring's own pages as buffers: only the receiver suffers, and it is not believed what it says there.
        post_at(posted, slots().address(), 4096);
        posted = publish(posted + 1);
        c.data(0).fill(0xff);
        let before = completed();
        want(test, "slots as buffer", c.send(c.one(c.address(0), 4096), 0), 1);
        want(test, "slots as buffer.completed", completed().wrapping_sub(before).into(), 1);
        // All slots are rubbish now: with a buffer too large they are given back, then there is no room.
        publish(posted + 2);
        refuse(test, "slots of rubbish", c.send(c.one(c.address(0), 60), 0), EAGAIN);
        post_at(posted + 2, header().address(), 4096);
        posted = publish(posted + 3);
        let sent = c.send(c.one(c.address(0), 4096), 0);
        want(test, "header as buffer", sent, 1);
        publish(posted);
    });
}

/// T09: buffers that are no buffers are given back, and the packet waits for a better one.
pub fn t09(test: &mut Test) {
    with_channel(test, |test, c| {
        let mut posted = 0;
        let good = buffer(0).address();
        let cases = [
            ("foreign", c.data(1).address(), 4096),
            ("hole", Page::hole(0x700).address(), 4096),
            ("device", 0x900_0000, 4096),
            ("no RAM", 0, 4096),
            ("beyond", 1 << 47, 4096),
            ("last", u64::MAX - 4095, 4096),
            ("wraps", u64::MAX, 4096),
            ("small", good, 1023),
            ("empty", good, 0),
            ("large", good, 4097),
            ("across", good + 1, 4096),
            ("across by 1", good + 3073, 1024),
            ("huge", good, u32::MAX),
        ];
        for (name, address, size) in cases {
            let before = completed();
            post_at(posted, address, size);
            posted = publish(posted + 1);
            refuse(test, name, c.send(c.one(c.address(0), 60), 0), EAGAIN);
            want(test, format_args!("{name}.back"), completed().wrapping_sub(before).into(), 1);
            want(test, format_args!("{name}.len"), slot(before).len.into(), 0);
        }
        // A large packet with a bad one in the middle: three are given back, then it is whole behind them.
        for (n, size) in [4096, 4096, 7, 4096, 4096, 4096, 4096].into_iter().enumerate() {
            post_at(posted + n as u32, buffer(n as u64).address(), size);
        }
        posted = publish(posted + 7);
        let before = completed();
        let bytes = c.one(c.address(0), 4 * 4096);
        want(test, "bad in the middle", c.send(bytes, 0), 1);
        want(test, "bad in the middle.completed", completed().wrapping_sub(before).into(), 7);
        want(test, "bad in the middle.first", slot(before).len.into(), 0);
        want(test, "bad in the middle.total", slot(before + 3).total.into(), 4 * 4096);
        let mut stats = Stats { channel: c.number, ..Default::default() };
        want(test, "stats", call(TXCOPY_STATS, &mut stats), 0);
        want(test, "stats.unusable", stats.unusable.cast_signed(), cases.len() as i64 + 3);
        plain(test, c, posted);
    });
}

/// T11: a batch of more than one step: each packet once, in order; and the progress that a caller forges.
pub fn t11(test: &mut Test) {
    with_channel(test, |test, c| {
        // 100 packets of 2000 bytes, each of another word.
        let words: u64 = 100;
        for round in 0..4_u64 {
            post(round as u32 * 128, 128);
            let mut at = 0;
            for n in 0..words {
                let page = c.data(n % DATA_PAGES);
                if n < DATA_PAGES {
                    (0..512).for_each(|word| page.write64(word * 8, round << 32 | n));
                }
                at = put(c.batch(), at, &packet(2000, 1), &[(c.address(n % DATA_PAGES) + n / DATA_PAGES * 8, 2000)]);
            }
            want(test, "send", c.send(at, 0), words.cast_signed());
            want(test, "completed", completed().wrapping_sub(round as u32 * 128).into(), words.cast_signed());
            for n in 0..words {
                let page = buffer(round * 128 + n);
                if (0..250).any(|word| page.read64(word * 8) != (round << 32) | (n % DATA_PAGES)) {
                    test.fail("data", format_args!("packet {n} of round {round}"));
                }
            }
            // The rest of the slots is given back by packets that do not fit: small buffers of rubbish.
            (0..28).for_each(|n| post_at(round as u32 * 128 + 100 + n, 0, 0));
            refuse(test, "drain", c.send(c.one(c.address(0), 60), 0), EAGAIN);
        }
        let bytes = c.one(c.address(0), 60);
        for progress in [1, 15, 16 << 16, 32, 48, 4096, 1 << 16 | 16, 2 << 16 | 16, 1 << 63, u64::MAX] {
            let rc = c.peer.rc(channel::send, args([c.handle, bytes, 0, progress]));
            if rc != code(EINVAL) && rc != code(EAGAIN) && !(0..=128).contains(&rc) {
                test.fail(format_args!("progress={progress:#x}"), rc);
            }
        }
        for flags in [2, 3, 1 << 31, 1 << 32, u64::MAX] {
            refuse(test, format_args!("flags={flags:#x}"), c.send(bytes, flags), EINVAL);
        }
        for handle in [c.handle + 1, 31, 32, u64::from(u32::MAX), 1 << 32, c.handle | 1 << 32, u64::MAX] {
            refuse(test, format_args!("handle={handle:#x}"), c.peer.rc(channel::send, args([handle, bytes, 0, 0])), ENOENT);
        }
        plain(test, c, 4 * 128);
    });
}

/// T18: a receiver that counts wrongly breaks its channel, and nothing else.
pub fn t18(test: &mut Test) {
    for posted in [129, 1 << 31, u32::MAX, u32::MAX - 128] {
        with_peer(test, |test, peer| match Channel::open(peer) {
            Ok(c) => {
                publish(posted);
                refuse(test, format_args!("posted={posted}"), c.send(c.one(c.address(0), 60), 1), EPIPE);
                publish(0);
                refuse(test, "for ever", c.send(c.one(c.address(0), 60), 0), EPIPE);
                want(test, "posted", call_raw(TXCOPY_POSTED, c.number.into()), 0);
                want(test, "close", c.close(), 0);
            }
            Err((step, rc)) => test.error(step, rc),
        });
    }
    with_channel(test, |test, c| {
        // Back behind what is completed.
        let posted = plain(test, c, 0);
        publish(posted - 1);
        refuse(test, "posted goes back", c.send(c.one(c.address(0), 60), 0), EPIPE);
        // What is completed is the hypervisor's to say.
        header().write32(64, 77);
    });
    with_channel(test, |test, c| {
        // The sender asks to be told, once.
        want(test, "shared", c.peer.rc(jobs::map_shared, args([])), 0);
        c.peer.call(0, jobs::clear, args([c.peer_port]));
        refuse(test, "no room", c.send(c.one(c.address(0), 60), TXCOPY_SEND_WANT_SPACE), EAGAIN);
        want(test, "waits", header().read32(68).into(), RING_SENDER_WAITS.into());
        want(test, "not yet told", c.peer.rc(jobs::pending, args([c.peer_port])), 0);
        post(0, 1);
        want(test, "posted", call_raw(TXCOPY_POSTED, c.number.into()), 0);
        want(test, "told", c.peer.rc(jobs::pending, args([c.peer_port])), 1);
        want(test, "waits no more", header().read32(68).into(), 0);
        c.peer.call(0, jobs::clear, args([c.peer_port]));
        want(test, "posted again", call_raw(TXCOPY_POSTED, c.number.into()), 0);
        want(test, "told once", c.peer.rc(jobs::pending, args([c.peer_port])), 0);
    });
}

/// T20: checksum and segmentation that a receiver could not rely on.
pub fn t20(test: &mut Test) {
    with_channel(test, |test, c| {
        let (partial, valid) = (PACKET_CSUM_PARTIAL, PACKET_CSUM_VALID);
        let posted = post(0, 16);
        let a = c.address(0);
        let header = |flags, csum_start, csum_offset, gso_type, gso_size| PacketHeader {
            flags,
            csum_start,
            csum_offset,
            gso_type,
            gso_size,
            ..packet(100, 1)
        };
        for (name, wrong) in [
            ("unknown flag", header(4, 0, 0, 0, 0)),
            ("all flags", header(0xffff, 0, 0, 0, 0)),
            ("slot's flag", header(SLOT_MORE, 0, 0, 0, 0)),
            ("start without flag", header(0, 1, 0, 0, 0)),
            ("offset without flag", header(valid, 0, 1, 0, 0)),
            ("checksum behind the end", header(partial, 80, 19, 0, 0)),
            ("checksum wraps", header(partial, 0xffff, 0xffff, 0, 0)),
            ("start behind the end", header(partial, 100, 0, 0, 0)),
            ("unknown segmentation", header(partial, 34, 16, 3, 1400)),
            ("segmentation 255", header(partial, 34, 16, 255, 1400)),
            ("segmentation without size", header(partial, 34, 16, 1, 0)),
            ("size without segmentation", header(partial, 34, 16, 0, 1400)),
            ("segmentation without checksum", header(0, 0, 0, 1, 1400)),
        ] {
            let bytes = put(c.batch(), 0, &wrong, &[(a, 100)]);
            refuse(test, name, c.send(bytes, 0), EINVAL);
        }
        want(test, "untouched", completed().into(), 0);
        for right in [
            header(partial, 34, 16, 0, 0),
            header(partial, 98, 0, 0, 0),
            header(partial, 0, 98, 0, 0),
            header(partial | valid, 34, 16, GSO_TCPV4, 1),
            header(partial, 54, 16, GSO_TCPV6, 0xffff),
            header(valid, 0, 0, 0, 0),
        ] {
            let before = completed();
            let bytes = put(c.batch(), 0, &right, &[(a, 100)]);
            want(test, "right", c.send(bytes, 0), 1);
            let s = slot(before);
            let same = (s.flags, s.csum_start, s.csum_offset, s.gso_type, s.gso_size)
                == (right.flags, right.csum_start, right.csum_offset, right.gso_type, right.gso_size);
            if !same {
                test.fail("metadata", format_args!("{s:?}"));
            }
        }
        let _ = posted;
    });
}
