//! Every refusal, and that it leaves no trace.

use super::*;
use crate::addr::Gfn;
use crate::p2m::P2mType;
use crate::testbed::heap;
use guest_abi::errno::Errno::*;
use guest_abi::xen::MulticallEntry;
use std::vec;

const HOLE: u64 = RAM + PAGES;
/// A page of RAM that the domain itself may only read.
const READ_ONLY: u64 = RAM + 60;
/// Where another domain's page is mapped.
const FOREIGN: u64 = RAM + 61;

impl World {
    /// Page 60 becomes read-only, page 61 shows a page of the other domain.
    fn with_odd_pages(self) -> Self {
        for (domain, other) in [(&self.a, &self.dom0), (&self.dom0, &self.a)] {
            let (own, foreign) = (self.bed.ram(domain, 60), self.bed.ram(other, 62));
            let mut edit = domain.p2m.edit(&self.bed.hv.frames);
            edit.map(Gfn(READ_ONLY), own, 0, P2mType::RamRo).unwrap();
            edit.map(Gfn(FOREIGN), foreign, 0, P2mType::MapForeignRw).unwrap();
            drop(edit);
            assert!(self.bed.hv.frames.get_ram(foreign, other.vmid));
        }
        self
    }
}

#[test]
fn query() {
    let w = World::apart();
    let mut query = Query::default();
    assert_eq!(w.op_with(&w.a, TXCOPY_QUERY, &mut query), 0);
    let Query { version, max_slot_pages, max_pieces, max_packet, max_channels, max_attachments, min_buffer, _reserved } = query;
    assert_eq!((version, max_slot_pages, max_pieces, max_packet), (1, 32, 24, 65568));
    assert_eq!((max_channels, max_attachments, min_buffer, _reserved), (256, 32, 1024, 0));
    assert_eq!(w.op(&w.a, TXCOPY_QUERY, Testbed::va(PAGES, 0)), error(EFAULT));
    for op in [8, 9, u64::MAX, 1 << 32 | TXCOPY_SEND] {
        assert_eq!(w.op(&w.a, op, 0), error(ENOSYS));
    }
}

#[test]
fn create() {
    let w = World::apart().with_odd_pages();
    let held = w.bed.pages_in_use().len();
    let good = w.create();
    let gfns = |n: u64, list: &[u64]| {
        w.bed.poke(&w.dom0, Testbed::va(ARGS, 2048 + 64 * n), list);
        Create { ring_gfns: Testbed::va(ARGS, 2048 + 64 * n), ..good }
    };
    let cases = [
        (Create { version: 0, ..good }, EOPNOTSUPP),
        (Create { version: 2, ..good }, EOPNOTSUPP),
        (Create { _pad: 1, ..good }, EINVAL),
        (Create { flags: 1, ..good }, EINVAL),
        (Create { _reserved: 1, ..good }, EINVAL),
        (Create { slot_pages: 0, ..good }, EINVAL),
        (Create { slot_pages: 3, ..good }, EINVAL),
        (Create { slot_pages: 64, ..good }, EINVAL),
        (Create { slot_pages: 1 << 31, ..good }, EINVAL),
        (Create { sender: 0, ..good }, EINVAL),
        (Create { sender: 0x7ff0, ..good }, EINVAL),
        (Create { sender: 9, ..good }, ESRCH),
        (Create { sender: 0x7ff1, ..good }, ESRCH),
        (Create { sender: 0x7ff2, ..good }, ESRCH),
        (Create { sender: u16::MAX, ..good }, ESRCH),
        (Create { port: 0, ..good }, EINVAL),
        (Create { port: 63, ..good }, EINVAL),
        (Create { port: u32::MAX, ..good }, EINVAL),
        (Create { ring_gfns: Testbed::va(PAGES, 0), ..good }, EFAULT),
        (Create { ring_gfns: Testbed::va(62, 4092), ..good }, EINVAL),
        (Create { ring_gfns: Testbed::va(63, 4092), ..good }, EFAULT),
        (gfns(0, &[RAM + 1, RAM + 1]), EINVAL),
        (gfns(1, &[RAM + 1, HOLE]), EINVAL),
        (gfns(2, &[RAM + 1, READ_ONLY]), EINVAL),
        (gfns(3, &[FOREIGN, RAM + 1]), EINVAL),
        (gfns(4, &[RAM + 1, u64::MAX]), EINVAL),
        (gfns(5, &[0, RAM + 1]), EINVAL),
    ];
    for (create, errno) in cases {
        assert_eq!(w.create_channel(create), Err(error(errno)), "{create:x?}");
        assert_eq!(w.bed.pages_in_use().len(), held);
    }
    assert_eq!(w.op(&w.dom0, TXCOPY_CREATE, Testbed::va(PAGES, 0)), error(EFAULT));
    for number in 0..TXCOPY_MAX_CHANNELS {
        assert_eq!(w.create_channel(good), Ok(number));
    }
    assert_eq!(w.create_channel(good), Err(error(ENOSPC)));
    assert_eq!(w.op(&w.dom0, TXCOPY_DESTROY, 77), 0);
    assert_eq!(w.op(&w.dom0, TXCOPY_DESTROY, 77), error(ENOENT));
    assert_eq!(w.create_channel(good), Ok(77), "the lowest free number");
    for number in 0..u64::from(TXCOPY_MAX_CHANNELS) {
        assert_eq!(w.op(&w.dom0, TXCOPY_DESTROY, number), 0);
    }
    assert_eq!(w.bed.pages_in_use().len(), held);
}

#[test]
fn attach() {
    let mut w = World::apart().with_odd_pages();
    w.channel = w.create_channel(w.create()).unwrap();
    let held = w.bed.pages_in_use().len();
    let good = w.attach();
    let cases = [
        (Attach { version: 2, ..good }, EOPNOTSUPP),
        (Attach { _pad: 1, ..good }, EINVAL),
        (Attach { flags: 1, ..good }, EINVAL),
        (Attach { _reserved: 1 << 63, ..good }, EINVAL),
        (Attach { receiver: 1, ..good }, EINVAL),
        (Attach { receiver: 0x7ff0, ..good }, EINVAL),
        (Attach { receiver: 9, ..good }, ESRCH),
        (Attach { channel: 1, ..good }, ENOENT),
        (Attach { channel: u32::MAX, ..good }, ENOENT),
        (Attach { port: 0, ..good }, EINVAL),
        (Attach { port: 999, ..good }, EINVAL),
        (Attach { batch_gfn: HOLE, ..good }, EINVAL),
        (Attach { batch_gfn: FOREIGN, ..good }, EINVAL),
        (Attach { batch_gfn: u64::MAX, ..good }, EINVAL),
    ];
    for (attach, errno) in cases {
        assert_eq!(w.attach_to(attach), Err(error(errno)), "{attach:x?}");
        assert_eq!(w.bed.pages_in_use().len(), held);
    }
    assert_eq!(w.op(&w.a, TXCOPY_ATTACH, Testbed::va(PAGES, 0)), error(EFAULT));
    assert_eq!(w.attach_to(good), Ok(0));
    assert_eq!(w.attach_to(good), Err(error(EBUSY)));
    for number in 1..=TXCOPY_MAX_ATTACHMENTS {
        assert_eq!(w.create_channel(w.create()), Ok(number));
        let expected = if number < TXCOPY_MAX_ATTACHMENTS { Ok(number) } else { Err(error(ENOSPC)) };
        assert_eq!(w.attach_to(Attach { channel: number, ..good }), expected);
    }
    assert_eq!(w.op(&w.a, TXCOPY_DETACH, 5), 0);
    assert_eq!(w.op(&w.a, TXCOPY_DETACH, 5), error(ENOENT));
    for handle in [32, 1 << 32, u64::MAX] {
        assert_eq!(w.op(&w.a, TXCOPY_DETACH, handle), error(ENOENT));
    }
    assert_eq!(w.attach_to(Attach { channel: TXCOPY_MAX_ATTACHMENTS, ..good }), Ok(5));
}

#[test]
fn only_the_two_and_as_the_policy_says() {
    let w = World::new();
    let b = w.bed.domain(2, 4);
    let at = Testbed::va(ARGS, 0);
    let port = w.port(&b, 0);
    let attach = Attach { version: 1, receiver: 0, channel: w.channel, port, batch_gfn: RAM + 1, ..Attach::default() };
    w.bed.poke(&b, at, &[attach]);
    assert_eq!(w.op(&b, TXCOPY_ATTACH, at), error(ENOENT), "not its channel");
    w.bed.poke(&b, at, &[Attach { receiver: 1, ..attach }]);
    assert_eq!(w.op(&b, TXCOPY_ATTACH, at), error(EPERM), "SILO");
    let create = Create { version: 1, sender: 1, ring_gfns: at, slot_pages: 1, port, ..Create::default() };
    w.bed.poke(&b, at, &[create]);
    assert_eq!(w.op(&b, TXCOPY_CREATE, at), error(EPERM), "SILO");
    for (op, errno) in [(TXCOPY_DESTROY, ENOENT), (TXCOPY_POSTED, ENOENT), (TXCOPY_DETACH, ENOENT)] {
        assert_eq!(w.op(&b, op, 0), error(errno));
        assert_eq!(w.op(if op == TXCOPY_DETACH { &w.dom0 } else { &w.a }, op, 0), error(errno));
    }
    w.bed.poke(&b, at, &[Stats::default()]);
    assert_eq!(w.op(&b, TXCOPY_STATS, at), error(ENOENT));
    assert_eq!(w.op(&w.dom0, TXCOPY_STATS, Testbed::va(PAGES, 0)), error(EFAULT));
    assert_eq!(w.bed.hypercall(&b, TXCOPY_OP, [TXCOPY_SEND, 0, 32, 0, 0]).0, error(ENOENT));
    w.assert_held(3);
}

#[test]
fn domains_that_die_are_refused() {
    let w = World::apart();
    w.a.life.lock().dying = crate::domain::Dying::Dying;
    assert_eq!(w.create_channel(w.create()), Err(error(ESRCH)));
    w.dom0.life.lock().dying = crate::domain::Dying::Dying;
    assert_eq!(w.attach_to(w.attach()), Err(error(ESRCH)));
}

/// What of a packet can be wrong: T01, T02, T05.
#[test]
fn packets() {
    let w = World::new().with_odd_pages();
    let held = w.bed.pages_in_use().len();
    w.post_pages(0, 40);
    let at = Testbed::va(DATA, 0);
    let (good, pieces) = packet(&[(at, 60), (at, 40)]);
    let header = |h: PacketHeader| (h, pieces.clone());
    let piece = |p: Piece| (good, vec![pieces[0], p]);
    let second = pieces[1];
    let partial = PacketHeader { flags: PACKET_CSUM_PARTIAL, csum_start: 34, csum_offset: 16, ..good };
    let gso = PacketHeader { gso_type: GSO_TCPV6, gso_size: 1, ..partial };
    let mut cases = vec![
        (header(PacketHeader { len: 0, ..good }), EINVAL),
        (header(PacketHeader { len: 99, ..good }), EINVAL),
        (header(PacketHeader { len: 101, ..good }), EINVAL),
        (header(PacketHeader { len: TXCOPY_MAX_PACKET + 1, ..good }), EINVAL),
        (header(PacketHeader { len: u32::MAX, ..good }), EINVAL),
        (header(PacketHeader { pieces: 0, ..good }), EINVAL),
        (header(PacketHeader { pieces: 1, ..good }), EINVAL),
        (header(PacketHeader { pieces: 3, ..good }), EINVAL),
        (header(PacketHeader { pieces: 25, ..good }), EINVAL),
        (header(PacketHeader { pieces: u16::MAX, ..good }), EINVAL),
        (header(PacketHeader { _pad: 1, ..good }), EINVAL),
        (header(PacketHeader { flags: 1 << 2, ..good }), EINVAL),
        (header(PacketHeader { flags: SLOT_MORE, ..good }), EINVAL),
        (header(PacketHeader { csum_start: 1, ..good }), EINVAL),
        (header(PacketHeader { csum_offset: 1, ..good }), EINVAL),
        (header(PacketHeader { csum_start: 83, ..partial }), EINVAL),
        (header(PacketHeader { csum_start: u16::MAX, csum_offset: u16::MAX, ..partial }), EINVAL),
        (header(PacketHeader { gso_size: 1, ..partial }), EINVAL),
        (header(PacketHeader { gso_size: 0, ..gso }), EINVAL),
        (header(PacketHeader { gso_type: 3, ..gso }), EINVAL),
        (header(PacketHeader { gso_type: GSO_TCPV4, gso_size: 1, ..good }), EINVAL),
        (piece(Piece { len: 0, ..second }), EINVAL),
        (piece(Piece { len: 39, ..second }), EINVAL),
        (piece(Piece { len: 41, ..second }), EINVAL),
        (piece(Piece { len: u32::MAX, ..second }), EINVAL),
        (piece(Piece { len: u32::MAX - 59, ..second }), EINVAL),
        (piece(Piece { _pad: 1, ..second }), EINVAL),
        (piece(Piece { addr: u64::MAX - 38, ..second }), EINVAL),
        (piece(Piece { addr: u64::MAX - 39, ..second }), EFAULT),
        (piece(Piece { addr: 0, ..second }), EFAULT),
        (piece(Piece { addr: FOREIGN << 12, ..second }), EFAULT),
        (piece(Piece { addr: HOLE << 12, ..second }), EFAULT),
        (piece(Piece { addr: (HOLE << 12) - 39, ..second }), EFAULT),
        (piece(Piece { addr: 1 << 52, ..second }), EFAULT),
    ];
    // Beyond what the batch has room for.
    cases.push((packet(&[(at, 1), (u64::MAX, 1)]), EFAULT));
    for ((header, pieces), errno) in cases {
        let before = (w.header(), w.slot(0), w.bed.peek::<u8>(&w.dom0, at, 4096));
        assert_eq!(w.send(&[(header, pieces.clone())]), error(errno), "{header:?} {pieces:x?}");
        assert_eq!((w.header(), w.slot(0), w.bed.peek::<u8>(&w.dom0, at, 4096)), before, "no trace");
        assert_eq!(w.bed.pages_in_use().len(), held);
    }
    assert_eq!(w.stats().refused, 35);
    assert_eq!(w.send(&[header(partial), header(gso), header(PacketHeader { csum_start: 82, ..partial })]), 3, "the limits themselves");
    let read_only = packet(&[(READ_ONLY << 12, 4096)]);
    assert_eq!(w.send(&[read_only]), 1, "reading suffices");
}

#[test]
fn arguments_of_send() {
    let w = World::new();
    w.post_pages(0, 8);
    let bytes = w.describe(&vec![packet(&[(Testbed::va(DATA, 0), 60)]); 2]);
    let send = |handle: u64, bytes: u64, flags: u64, progress: u64| {
        w.bed.hypercall(&w.a, TXCOPY_OP, [TXCOPY_SEND, handle, bytes, flags, progress]).0
    };
    for bad in [0, 1, 16, 31, 33, 40, 4097, 4112, 1 << 31, 1 << 32, u64::MAX, u64::MAX - 15] {
        assert_eq!(send(0, bad, 0, 0), error(EINVAL), "{bad:#x} bytes");
    }
    for flags in [2, 3, 1 << 32, u64::MAX] {
        assert_eq!(send(0, bytes, flags, 0), error(EINVAL));
    }
    for handle in [1, 31, 32, 1 << 32, u64::MAX] {
        assert_eq!(send(handle, bytes, 0, 0), error(ENOENT));
    }
    for progress in [1, 16, 8, bytes, bytes + 32, 4096, 1 << 16, 2 << 16 | 32, 1 << 32 | 32, u64::MAX, u64::MAX << 16] {
        assert_eq!(send(0, bytes, 0, progress), error(EINVAL), "{progress:#x}");
    }
    assert_eq!(w.header().completed, 0);
    assert_eq!(send(0, bytes, 0, 1 << 16 | 32), 2, "a guest may skip its own packets");
    assert_eq!(send(0, bytes, TXCOPY_SEND_WANT_SPACE, 0), 2);
    assert_eq!(w.header().completed, 3);
}

/// T16: as one of a list.
#[test]
fn as_a_multicall() {
    let w = World::new();
    w.post_pages(0, 40);
    let bytes = w.describe(&vec![packet(&[(Testbed::va(DATA, 0), 40_000)]); 3]);
    let entry = MulticallEntry { op: TXCOPY_OP, args: [TXCOPY_SEND, w.handle.into(), bytes, 0, 0, 0], ..MulticallEntry::default() };
    let at = Testbed::va(ARGS, 0);
    w.bed.poke(&w.a, at, &[entry, MulticallEntry { args: [9, 0, 0, 0, 0, 0], ..entry }]);
    let (result, times) = w.bed.hypercall(&w.a, hypercall::MULTICALL, [at, 2, 0, 0, 0]);
    assert_eq!((result, times), (0, 2));
    let results: Vec<_> = w.bed.peek::<MulticallEntry>(&w.a, at, 2).iter().map(|e| e.result as i64).collect();
    assert_eq!(results, [3, error(ENOSYS)]);
    assert_eq!(w.stats().packets, 3);
}

/// A receiver that counts wrongly breaks its own channel, and no other.
#[test]
fn counts_that_cannot_be_true() {
    let w = World::new();
    let one = packet(&[(Testbed::va(DATA, 0), 60)]);
    w.post_pages(0, 1);
    assert_eq!(w.send(core::slice::from_ref(&one)), 1);
    w.bed.poke(&w.dom0, Testbed::va(RING, 0), &[130_u32]);
    assert_eq!(w.send_and_want(core::slice::from_ref(&one)), error(EPIPE));
    w.bed.poke(&w.dom0, Testbed::va(RING, 0), &[2_u32]);
    assert_eq!(w.send(core::slice::from_ref(&one)), error(EPIPE), "for good");
    assert_eq!(w.header().completed, 1);
    let mut other = w.create();
    w.bed.poke(&w.dom0, Testbed::va(ARGS, 1024), &[RAM + 4, RAM + 5]);
    other.sender = 1;
    let channel = w.create_channel(other).unwrap();
    assert_eq!(w.attach_to(Attach { channel, ..w.attach() }), Ok(1));
    assert_eq!(w.bed.hypercall(&w.a, TXCOPY_OP, [TXCOPY_SEND, 1, 32, 0, 0]).0, error(EAGAIN));
    w.assert_held(5);
}

/// The hypervisor's own words of the header are not believed.
#[test]
fn the_receiver_may_scribble() {
    let w = World::new();
    w.post_pages(0, 4);
    let one = packet(&[(Testbed::va(DATA, 0), 60)]);
    w.bed.poke(&w.dom0, Testbed::va(RING, 64), &[77_u32, u32::MAX]);
    assert_eq!(w.send(core::slice::from_ref(&one)), 1);
    assert_eq!(w.header().completed, 1);
    // Buffers in the ring itself: the receiver's own loss.
    w.post(&[(Testbed::va(RING, 0), 4096), (Testbed::va(RING + 1, 0), 4096)]);
    w.bed.poke(&w.a, Testbed::va(DATA, 0), &[0xff_u8; 4096]);
    let all = packet(&[(Testbed::va(DATA, 0), 4096)]);
    for _ in 0..6 {
        let answer = w.send(core::slice::from_ref(&all));
        assert!(answer == 1 || answer == error(EPIPE) || answer == error(EAGAIN), "{answer}");
    }
    w.assert_held(3);
}

#[test]
fn with_a_full_heap_channels_and_attachments_are_refused() {
    if !heap::is_ours() {
        return;
    }
    let enomem = guest_abi::errno::Errno::ENOMEM.to_return();
    let mut w = World::apart();
    let at = Testbed::va(ARGS, 16);
    let create = w.create();
    let (answer, refused) = heap::rising(&w.bed, enomem, || {
        w.bed.poke(&w.dom0, at, &[create]);
        w.op(&w.dom0, TXCOPY_CREATE, at)
    });
    assert!(answer == 0 && refused > 0, "{answer}, {refused} times refused");
    w.channel = w.bed.peek::<Create>(&w.dom0, at, 1)[0].channel;
    let attach = w.attach();
    let (answer, refused) = heap::rising(&w.bed, enomem, || {
        w.bed.poke(&w.a, at, &[attach]);
        w.op(&w.a, TXCOPY_ATTACH, at)
    });
    assert!(answer == 0 && refused > 0, "{answer}, {refused} times refused");
}
