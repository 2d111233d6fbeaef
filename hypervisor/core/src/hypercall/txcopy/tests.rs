//! Tx copy as guests see it: by hypercalls between the domains of a testbed.

mod errors;
mod model;
mod preempted;
mod sending;
mod teardown;

use crate::addr::PAGE_SIZE;
use crate::domain::Domain;
use crate::policy::Policy;
use crate::testbed::{RAM, Testbed};
use guest_abi::event_channel as ev;
use guest_abi::txcopy::*;
use guest_abi::xen::hypercall;
use std::sync::Arc;
use std::vec::Vec;
use zerocopy::{FromBytes, IntoBytes};

/// Pages of RAM of a domain here; what each is used for.
const PAGES: u64 = 64;
/// The structures of hypercalls, in both domains.
const ARGS: u64 = 0;
/// The sender's batch page; the receiver's ring.
const BATCH: u64 = 1;
const RING: u64 = 1;
/// Where buffers and packets begin.
const DATA: u64 = 8;

/// Dom0 receives from `a` on a channel.
struct World {
    bed: Testbed,
    dom0: Arc<Domain>,
    a: Arc<Domain>,
    channel: u32,
    handle: u32,
    /// Ports of Dom0 and of `a`.
    ports: [u32; 2],
}

impl World {
    /// Two domains without a channel.
    fn apart() -> Self {
        let bed = Testbed::new(Policy::Silo);
        let (dom0, a) = (bed.domain(0, PAGES), bed.domain(1, PAGES));
        let mut world = Self { bed, dom0, a, channel: 0, handle: 0, ports: [0; 2] };
        world.ports = [world.port(&world.dom0, 1), world.port(&world.a, 0)];
        world
    }

    /// With a channel of one page of slots, and attached.
    fn new() -> Self {
        let mut world = Self::apart();
        world.channel = world.create_channel(world.create()).unwrap();
        world.handle = world.attach_to(world.attach()).unwrap();
        world
    }

    fn port(&self, domain: &Arc<Domain>, remote: u16) -> u32 {
        let at = Testbed::va(ARGS, 0);
        self.bed.poke(domain, at, &[ev::AllocUnbound { dom: 0x7ff0, remote_dom: remote, port: 0 }]);
        let args = [ev::EVTCHNOP_ALLOC_UNBOUND.into(), at, 0, 0, 0];
        assert_eq!(self.bed.hypercall(domain, hypercall::EVENT_CHANNEL_OP, args).0, 0);
        self.bed.peek::<ev::AllocUnbound>(domain, at, 1)[0].port
    }

    fn op(&self, domain: &Arc<Domain>, op: u64, x1: u64) -> i64 {
        self.bed.hypercall(domain, TXCOPY_OP, [op, x1, 0, 0, 0]).0
    }

    fn op_with<T: IntoBytes + FromBytes + zerocopy::Immutable + Clone>(&self, domain: &Arc<Domain>, op: u64, value: &mut T) -> i64 {
        let at = Testbed::va(ARGS, 16);
        self.bed.poke(domain, at, core::slice::from_ref(value));
        let result = self.op(domain, op, at);
        *value = self.bed.peek(domain, at, 1).pop().unwrap();
        result
    }

    /// What makes a good channel, one page of slots.
    fn create(&self) -> Create {
        let gfns = Testbed::va(ARGS, 1024);
        self.bed.poke(&self.dom0, gfns, &[RAM + RING, RAM + RING + 1, RAM + RING + 2]);
        Create { version: 1, sender: 1, ring_gfns: gfns, slot_pages: 1, port: self.ports[0], ..Create::default() }
    }

    fn create_channel(&self, mut create: Create) -> Result<u32, i64> {
        let before = create;
        match self.op_with(&self.dom0, TXCOPY_CREATE, &mut create) {
            0 => Ok(create.channel),
            error => {
                assert_eq!(create, before, "a refusal leaves no trace");
                Err(error)
            }
        }
    }

    /// What makes a good attachment.
    fn attach(&self) -> Attach {
        Attach { version: 1, receiver: 0, channel: self.channel, port: self.ports[1], batch_gfn: RAM + BATCH, ..Attach::default() }
    }

    fn attach_to(&self, mut attach: Attach) -> Result<u32, i64> {
        let before = attach;
        match self.op_with(&self.a, TXCOPY_ATTACH, &mut attach) {
            0 => Ok(attach.handle),
            error => {
                assert_eq!(attach, before, "a refusal leaves no trace");
                Err(error)
            }
        }
    }

    /// The receiver posts buffers: guest physical address and size.
    fn post(&self, buffers: &[(u64, u32)]) {
        let mut header = self.header();
        for (addr, size) in buffers {
            let at = self.slot_va(header.posted);
            self.bed.poke(&self.dom0, at, &[*addr]);
            self.bed.poke(&self.dom0, at + 8, &[*size]);
            header.posted = header.posted.wrapping_add(1);
        }
        self.bed.poke(&self.dom0, Testbed::va(RING, 0), &[header.posted]);
    }

    /// Posts `count` buffers of a page each, page [`DATA`] and those after it, `stride` pages in all.
    fn post_pages(&self, first: u64, count: u64) {
        let buffers: Vec<_> = (0..count).map(|n| (Testbed::va(DATA + first + n, 0), PAGE_SIZE as u32)).collect();
        self.post(&buffers);
    }

    fn header(&self) -> RingHeader {
        self.bed.peek(&self.dom0, Testbed::va(RING, 0), 1)[0]
    }

    fn slot_va(&self, count: u32) -> u64 {
        Testbed::va(RING + 1, u64::from(count % 128) * 32)
    }

    fn slot(&self, count: u32) -> Slot {
        self.bed.peek(&self.dom0, self.slot_va(count), 1)[0]
    }

    /// The buffer of a slot, as far as it was written.
    fn buffer(&self, slot: &Slot) -> Vec<u8> {
        self.bed.peek(&self.dom0, slot.addr, slot.len as usize)
    }

    fn set_event_at(&self, value: u32) {
        self.bed.poke(&self.dom0, Testbed::va(RING, 4), &[value]);
    }

    /// Writes records; how many bytes.
    fn describe(&self, packets: &[(PacketHeader, Vec<Piece>)]) -> u64 {
        let mut offset = 0;
        for (header, pieces) in packets {
            self.bed.poke(&self.a, Testbed::va(BATCH, offset), &[*header]);
            self.bed.poke(&self.a, Testbed::va(BATCH, offset + 16), pieces);
            offset += 16 + 16 * pieces.len() as u64;
        }
        offset
    }

    fn send_bytes(&self, bytes: u64, flags: u64) -> i64 {
        self.bed.hypercall(&self.a, TXCOPY_OP, [TXCOPY_SEND, self.handle.into(), bytes, flags, 0]).0
    }

    fn send(&self, packets: &[(PacketHeader, Vec<Piece>)]) -> i64 {
        self.send_bytes(self.describe(packets), 0)
    }

    fn send_and_want(&self, packets: &[(PacketHeader, Vec<Piece>)]) -> i64 {
        self.send_bytes(self.describe(packets), TXCOPY_SEND_WANT_SPACE)
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats { channel: self.channel, ..Stats::default() };
        assert_eq!(self.op_with(&self.dom0, TXCOPY_STATS, &mut stats), 0);
        stats
    }

    /// Whether the port of a domain is pending, which it is no longer.
    fn take_event(&self, domain: &Arc<Domain>, port: u32) -> bool {
        // `evtchn_pending` of shared_info, 2-level ABI.
        let word = crate::addr::MachineAddr(domain.shared_info.address().0 + 48 + u64::from(port / 64) * 8);
        use crate::machine::Machine;
        self.bed.machine.and_u64(word, !(1 << (port % 64))) & 1 << (port % 64) != 0
    }

    fn receiver_told(&self) -> bool {
        self.take_event(&self.dom0, self.ports[0])
    }

    fn sender_told(&self) -> bool {
        self.take_event(&self.a, self.ports[1])
    }

    /// Nothing is held but the ring (if `ring` pages of it) and the batch page.
    fn assert_held(&self, pages: usize) {
        assert_eq!(self.bed.pages_in_use().len(), pages);
        self.bed.hv.audit().unwrap();
    }
}

fn packet(pieces: &[(u64, u32)]) -> (PacketHeader, Vec<Piece>) {
    let len = pieces.iter().map(|p| p.1).sum();
    let header = PacketHeader { len, pieces: pieces.len() as u16, ..PacketHeader::default() };
    (header, pieces.iter().map(|&(addr, len)| Piece { addr, len, _pad: 0 }).collect())
}

/// An errno as x0 has it.
fn error(errno: guest_abi::errno::Errno) -> i64 {
    errno.to_return()
}
