//! What a packet becomes on the ring, and when each side is told.

use super::*;
use guest_abi::errno::Errno::*;
use std::vec;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn one_packet_in_one_buffer() {
    let w = World::new();
    w.post_pages(0, 4);
    let bytes = pattern(1514, 1);
    w.bed.poke(&w.a, Testbed::va(DATA, 100), &bytes);
    let (mut header, pieces) = packet(&[(Testbed::va(DATA, 100), 1514)]);
    header.flags = PACKET_CSUM_PARTIAL | PACKET_CSUM_VALID;
    (header.csum_start, header.csum_offset, header.gso_size, header.gso_type) = (34, 16, 1448, GSO_TCPV4);
    assert_eq!(w.send(&[(header, pieces)]), 1);
    let slot = w.slot(0);
    let addr = Testbed::va(DATA, 0);
    let flags = PACKET_CSUM_PARTIAL | PACKET_CSUM_VALID;
    let expected = Slot {
        addr,
        size: 4096,
        len: 1514,
        total: 1514,
        flags,
        csum_start: 34,
        csum_offset: 16,
        gso_size: 1448,
        gso_type: GSO_TCPV4,
        _pad: [0; 3],
    };
    assert_eq!(slot, expected);
    assert_eq!(w.buffer(&slot), bytes);
    assert_eq!((w.header().completed, w.header().flags), (1, 0));
    assert_eq!(w.bed.peek::<u8>(&w.dom0, addr + 1514, 1), [0], "not a byte more");
    w.assert_held(3);
}

#[test]
fn pieces_and_buffers_need_not_match() {
    let w = World::new();
    let sizes = [1024, 2048, 1500, 4096];
    let buffers: Vec<_> = (0..).zip(sizes).map(|(n, size)| (Testbed::va(DATA + n, if size == 4096 { 0 } else { 64 }), size)).collect();
    w.post(&buffers);
    let bytes = pattern(3 * 4096, 9);
    w.bed.poke(&w.a, Testbed::va(DATA, 0), &bytes);
    // The second piece crosses two page borders, and its frames are nowhere near each other.
    let pieces = [(Testbed::va(DATA, 4000), 20), (Testbed::va(DATA, 4090), 4200), (Testbed::va(DATA, 0), 1)];
    assert_eq!(w.send(&[packet(&pieces)]), 1);
    let slots: Vec<_> = (0..3).map(|n| w.slot(n)).collect();
    assert_eq!(
        slots.iter().map(|s| (s.len, s.total, s.flags)).collect::<Vec<_>>(),
        [(1024, 4221, SLOT_MORE), (2048, 0, SLOT_MORE), (1149, 0, 0)]
    );
    let got: Vec<u8> = slots.iter().flat_map(|s| w.buffer(s)).collect();
    let expected: Vec<u8> = [&bytes[4000..4020], &bytes[4090..8290], &bytes[..1]].concat();
    assert_eq!(got, expected);
    assert_eq!(w.header().completed, 3);
    w.assert_held(3);
}

#[test]
fn the_largest_packet() {
    let w = World::new();
    let buffers: Vec<_> = (0..65).map(|n| (Testbed::va(DATA + n % 8, 512 * (n / 8 % 4)), 1024)).collect();
    w.post(&buffers[..64]);
    let one = (Testbed::va(DATA, 1), TXCOPY_MAX_PACKET);
    assert_eq!(w.send(&[packet(&[one])]), error(EAGAIN), "32 bytes are missing");
    assert_eq!((w.header().completed, w.stats().full), (0, 1));
    w.post(&buffers[64..]);
    assert_eq!(w.send(&[packet(&[one])]), 1);
    assert_eq!((w.slot(0).total, w.slot(64).len, w.header().completed), (TXCOPY_MAX_PACKET, 32, 65));
    w.assert_held(3);
}

#[test]
fn as_many_pieces_as_there_may_be_over_as_many_pages() {
    let w = World::new();
    w.post_pages(0, 40);
    let mut pieces: Vec<_> = (0..24).map(|n| (Testbed::va(DATA + n, 4095), 2)).collect();
    assert_eq!(w.send(&[packet(&pieces)]), 1);
    // 17 pages and two bytes, and 23 borders.
    pieces[0] = (Testbed::va(DATA, 4095), TXCOPY_MAX_PACKET - 46);
    assert_eq!(w.send(&[packet(&pieces)]), 1);
    w.assert_held(3);
}

#[test]
fn the_receiver_is_told_once_and_if_it_wants() {
    let w = World::new();
    w.post_pages(0, 30);
    let small = packet(&[(Testbed::va(DATA, 0), 60)]);
    assert_eq!(w.send(&vec![small.clone(); 3]), 3);
    assert!(w.receiver_told(), "event_at 0: the first");
    assert_eq!(w.send(&vec![small.clone(); 3]), 3);
    assert!(!w.receiver_told());
    w.set_event_at(8);
    assert_eq!(w.send(&vec![small.clone(); 2]), 2);
    assert!(!w.receiver_told(), "8 is not past 8");
    assert_eq!(w.send(&vec![small.clone(); 2]), 2);
    assert!(w.receiver_told());
    w.set_event_at(9);
    assert_eq!(w.send(&[small]), 1);
    assert!(!w.receiver_told(), "past it already");
    let stats = w.stats();
    assert_eq!((stats.packets, stats.bytes, stats.batches, stats.notified, stats.suppressed), (11, 660, 5, 2, 3));
    assert_eq!((stats.attached, stats.refused, stats.full, stats.unusable), (1, 0, 0, 0));
}

#[test]
fn the_sender_is_told_of_room_if_it_waits() {
    let w = World::new();
    w.post_pages(0, 2);
    let small = packet(&[(Testbed::va(DATA, 0), 60)]);
    assert_eq!(w.send(&vec![small.clone(); 3]), 2);
    assert_eq!(w.header().flags, 0);
    assert_eq!(w.send(core::slice::from_ref(&small)), error(EAGAIN));
    assert_eq!((w.header().flags, w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), w.sender_told()), (0, 0, false));
    assert_eq!(w.send_and_want(core::slice::from_ref(&small)), error(EAGAIN));
    assert_eq!(w.header().flags, RING_SENDER_WAITS);
    w.post_pages(2, 1);
    assert_eq!((w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), w.sender_told(), w.header().flags), (0, true, 0));
    assert_eq!((w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), w.sender_told()), (0, false), "once");
    assert_eq!(w.send_and_want(&vec![small; 2]), 1, "part of a batch waits too");
    assert_eq!(w.header().flags, RING_SENDER_WAITS);
    assert_eq!((w.stats().full, w.stats().woken), (4, 1));
}

#[test]
fn buffers_that_cannot_be_used_are_given_back() {
    let w = World::new();
    let good = (Testbed::va(DATA, 0), 1024);
    let shared_info = 0x7f_f000;
    let bad = [
        (Testbed::va(DATA, 0), 0),
        (Testbed::va(DATA, 0), 1023),
        (Testbed::va(DATA, 0), 4097),
        (Testbed::va(DATA, 0), u32::MAX),
        (Testbed::va(DATA, 1), 4096),
        (Testbed::va(DATA, 3073), 1024),
        (Testbed::va(PAGES, 0), 4096),
        (0, 4096),
        (u64::MAX, 1024),
        (u64::MAX - 4095, 4096),
        (shared_info, 4096),
    ];
    for (n, bad) in (0..).zip(bad) {
        let at = w.header().completed;
        w.post(&[good, bad, good, good]);
        assert_eq!(w.send(&[packet(&[(Testbed::va(DATA, 0), 2000)])]), 1);
        let lens: Vec<_> = (0..4).map(|i| w.slot(at + i)).map(|s| (s.len, s.total, s.flags)).collect();
        assert_eq!(lens, [(0, 0, 0), (0, 0, 0), (1024, 2000, SLOT_MORE), (976, 0, 0)], "{bad:x?}");
        assert_eq!(w.header().completed, at + 4);
        assert_eq!(w.stats().unusable, 2 * (n + 1));
    }
    w.post(&[bad[0]; 128]);
    assert_eq!(w.send_and_want(&[packet(&[(Testbed::va(DATA, 0), 1)])]), error(EAGAIN));
    assert_eq!(w.header().completed, 44 + 128, "a ring of rubbish does not stay full");
    w.assert_held(3);
}

#[test]
fn a_long_batch_is_cut_and_goes_on() {
    let w = World::new();
    w.post_pages(0, 40);
    w.set_event_at(1);
    let big = packet(&[(Testbed::va(DATA, 0), 40_000)]);
    let bytes = w.describe(&vec![big; 3]);
    let (taken, times) = w.bed.hypercall(&w.a, TXCOPY_OP, [TXCOPY_SEND, w.handle.into(), bytes, 0, 0]);
    assert_eq!((taken, times), (3, 2));
    let stats = w.stats();
    assert_eq!((stats.packets, stats.batches, stats.notified), (3, 1, 1));
    let small = vec![packet(&[(Testbed::va(DATA, 0), 20)]); 128];
    w.post(&vec![(Testbed::va(DATA, 0), 4096); 98]);
    let (taken, times) = w.bed.hypercall(&w.a, TXCOPY_OP, [TXCOPY_SEND, w.handle.into(), w.describe(&small), 0, 0]);
    assert_eq!((taken, times), (98 + 10, 1), "30 slots of the first 40 are used");
    w.assert_held(3);
}

#[test]
fn packets_before_a_wrong_one_are_taken() {
    let w = World::new();
    w.post_pages(0, 4);
    let good = packet(&[(Testbed::va(DATA, 0), 60)]);
    let bad = packet(&[(Testbed::va(PAGES, 0), 60)]);
    assert_eq!(w.send(&[good.clone(), good, bad.clone()]), 2);
    assert_eq!(w.send(&[bad]), error(EFAULT));
    assert_eq!((w.stats().refused, w.header().completed), (2, 2));
    w.assert_held(3);
}
