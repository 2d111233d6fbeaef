//! A tx copy channel to work on: Dom0 receives, a peer sends. Dom0 has the peer's batch page and data mapped and describes the packets
//! itself; the peer only makes the calls.

use super::jobs::{args, offer, take};
use super::ops;
use super::peer::Peer;
use crate::runtime::hypercall;
use crate::runtime::page::Page;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst, fence};
use guest_abi::txcopy::*;
use guest_abi::xen::DOMID_SELF;

/// Pages of the window where the peer's pages are.
const BATCH: u64 = 0x200;
const DATA: u64 = 0x201;
/// Buffers of Dom0.
pub const BUFFERS: u64 = 128;
/// Pages of data of the peer.
pub const DATA_PAGES: u64 = 8;

/// A sub-operation with a structure.
pub fn call<T>(op: u64, argument: &mut T) -> i64 {
    hypercall::with(TXCOPY_OP, op, argument)
}

/// A sub-operation with numbers.
pub fn call_raw(op: u64, x1: u64) -> i64 {
    hypercall::raw(TXCOPY_OP, [op, x1, 0, 0, 0])
}

/// Dom0's pages for a ring and its buffers: taken once, used again by each channel.
fn memory() -> Page {
    static FIRST: AtomicU64 = AtomicU64::new(0);
    if FIRST.load(SeqCst) == 0 {
        FIRST.store(Page::take_aligned(256).address(), SeqCst);
    }
    Page::own(FIRST.load(SeqCst))
}

/// The header of Dom0's ring, its slots, its buffers.
pub fn header() -> Page {
    memory()
}
/// Its page of slots.
pub fn slots() -> Page {
    memory().offset(1)
}
/// A buffer.
pub fn buffer(n: u64) -> Page {
    memory().offset(8 + n % BUFFERS)
}

/// A ring of one page of slots, as CREATE takes it.
pub fn request(sender: u16, port: u32) -> Create {
    let list = memory().offset(2);
    list.write64(0, header().gfn());
    list.write64(8, slots().gfn());
    Create { version: TXCOPY_VERSION, sender, ring_gfns: list.address(), slot_pages: 1, port, ..Default::default() }
}

/// A channel from `peer`, with both ends.
pub struct Channel<'a> {
    /// The sender.
    pub peer: &'a Peer,
    /// The channel's number.
    pub number: u32,
    /// Dom0's port.
    pub port: u32,
    /// The sender's handle.
    pub handle: u64,
    /// The sender's port.
    pub peer_port: u64,
    /// Guest frame of the batch page.
    pub batch_gfn: u64,
    /// Guest frame of the first data page; others follow.
    pub data_gfn: u64,
}

/// Attaches the peer to channel `a[0]` of Dom0 with port `a[1]` and batch page `a[2]`: the handle, or an error.
pub fn attach(a: [u64; 6]) -> u64 {
    let mut op =
        Attach { version: TXCOPY_VERSION, receiver: 0, channel: a[0] as u32, port: a[1] as u32, batch_gfn: a[2], ..Default::default() };
    let rc = call(TXCOPY_ATTACH, &mut op);
    if rc == 0 { op.handle.into() } else { rc.cast_unsigned() }
}

/// SEND with raw arguments.
pub fn send(a: [u64; 6]) -> u64 {
    hypercall::raw(TXCOPY_OP, [TXCOPY_SEND, a[0], a[1], a[2], a[3]]).cast_unsigned()
}

/// Takes `a[0]` fresh pages in a row (a power of two), filled with byte `a[1]`; the first frame.
pub fn take_pages(a: [u64; 6]) -> u64 {
    let first = Page::take_aligned(a[0]);
    (0..a[0]).for_each(|n| first.offset(n).fill(a[1] as u8));
    first.gfn()
}

impl<'a> Channel<'a> {
    /// Makes it, or says what was refused.
    pub fn open(peer: &'a Peer) -> Result<Self, (&'static str, i64)> {
        let port = ops::offer_port(peer.id);
        let mut op = request(peer.id, port as u32);
        let rc = call(TXCOPY_CREATE, &mut op);
        if rc != 0 {
            return Err(("create", rc));
        }
        let peer_port = peer.call(0, offer, args([0]));
        let batch_gfn = peer.call(0, take, args([0]));
        let data_gfn = peer.call(0, take_pages, args([DATA_PAGES, 0xdd]));
        let handle = peer.call(0, attach, args([op.channel.into(), peer_port, batch_gfn]));
        if handle.cast_signed() < 0 {
            return Err(("attach", handle.cast_signed()));
        }
        ops::map_foreign(peer.id, batch_gfn, Page::hole(BATCH).gfn());
        (0..DATA_PAGES).for_each(|n| {
            ops::map_foreign(peer.id, data_gfn + n, Page::hole(DATA + n).gfn());
        });
        Ok(Self { peer, number: op.channel, port: port as u32, handle, peer_port, batch_gfn, data_gfn })
    }

    /// Ends it.
    pub fn close(self) -> i64 {
        self.unmap();
        ops::close(self.port);
        call_raw(TXCOPY_DESTROY, self.number.into())
    }

    /// Lets go of the peer's pages.
    pub fn unmap(&self) {
        ops::remove(Page::hole(BATCH).gfn());
        (0..DATA_PAGES).for_each(|n| {
            ops::remove(Page::hole(DATA + n).gfn());
        });
    }

    /// The batch page, as Dom0 sees it.
    pub fn batch(&self) -> Page {
        Page::hole(BATCH)
    }

    /// Page `n` of the peer's data, as Dom0 sees it.
    pub fn data(&self, n: u64) -> Page {
        Page::hole(DATA + n)
    }

    /// Its address in the peer.
    pub fn address(&self, n: u64) -> u64 {
        (self.data_gfn + n) * 4096
    }

    /// Has the peer send `bytes` of the batch.
    pub fn send(&self, bytes: u64, flags: u64) -> i64 {
        self.peer.rc(send, args([self.handle, bytes, flags, 0]))
    }

    /// A batch of one packet of one piece.
    pub fn one(&self, address: u64, len: u32) -> u64 {
        put(self.batch(), 0, &packet(len, 1), &[(address, len)])
    }
}

/// The header of a packet without metadata.
pub fn packet(len: u32, pieces: u16) -> PacketHeader {
    PacketHeader { len, pieces, ..Default::default() }
}

/// Writes a packet at `at` of a batch page; where the next one goes.
pub fn put(batch: Page, at: u64, header: &PacketHeader, pieces: &[(u64, u32)]) -> u64 {
    batch.write32(at, header.len);
    batch.write16(at + 4, header.pieces);
    batch.write16(at + 6, header.flags);
    batch.write16(at + 8, header.csum_start);
    batch.write16(at + 10, header.csum_offset);
    batch.write16(at + 12, header.gso_size);
    batch.write8(at + 14, header.gso_type);
    batch.write8(at + 15, header._pad);
    let mut at = at + 16;
    for (address, len) in pieces {
        batch.write64(at, *address);
        batch.write32(at + 8, *len);
        batch.write32(at + 12, 0);
        at += 16;
    }
    at
}

/// Posts `count` buffers of a page each in the slots from `posted` on; the new count.
pub fn post(posted: u32, count: u32) -> u32 {
    for n in posted..posted.wrapping_add(count) {
        post_at(n, buffer(n.into()).address(), 4096);
    }
    publish(posted.wrapping_add(count))
}

/// Writes slot `n`.
pub fn post_at(n: u32, address: u64, size: u32) {
    let at = u64::from(n % 128) * 32;
    slots().write64(at, address);
    slots().write32(at + 8, size);
}

/// Says that so many slots were posted.
pub fn publish(posted: u32) -> u32 {
    fence(SeqCst);
    header().write32(0, posted);
    posted
}

/// Slots completed so far.
pub fn completed() -> u32 {
    let completed = header().read32(64);
    fence(SeqCst);
    completed
}

/// What the hypervisor wrote to slot `n`.
pub fn slot(n: u32) -> Slot {
    let at = u64::from(n % 128) * 32;
    let page = slots();
    Slot {
        addr: page.read64(at),
        size: page.read32(at + 8),
        len: page.read32(at + 12),
        total: page.read32(at + 16),
        flags: page.read16(at + 20),
        csum_start: page.read16(at + 22),
        csum_offset: page.read16(at + 24),
        gso_size: page.read16(at + 26),
        gso_type: page.read8(at + 28),
        _pad: [page.read8(at + 29), page.read8(at + 30), page.read8(at + 31)],
    }
}

/// The caller, as a domain id.
pub const SELF: u16 = DOMID_SELF;
