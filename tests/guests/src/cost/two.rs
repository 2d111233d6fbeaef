//! What takes two: the domain is Dom0 itself, without Linux, and builds another one of this image. Both share one CPU.
//!
//! Ticks are those of the whole machine: what the two do in turn is in the figure, with the loops of both. Each is the difference of a
//! long and a short run.

use crate::pair::channel::{self, Channel};
use crate::pair::jobs::args;
use crate::pair::ops;
use crate::pair::peer::Peer;
use crate::runtime::{console, cpu, gic, hypercall, page, peer::yield_cpu};
use crate::{MANY, TRIES, best};
use core::fmt;
use core::hint::black_box;
use guest_abi::arch_arm::GUEST_EVTCHN_PPI;
use guest_abi::event_channel::{BindInterdomain, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_SEND, Send};
use guest_abi::hvm::{HVM_PARAM_CALLBACK_IRQ, HVMOP_GET_PARAM, HvmParam};
use guest_abi::txcopy::{TXCOPY_OP, TXCOPY_SEND};
use guest_abi::xen::{DOMID_SELF, hypercall as nr};

/// Bytes of a packet, slots that it takes, and how many are sent in a row: no more than the ring has slots.
const PACKETS: [(u32, u32, u32); 4] = [(60, 1, 128), (1514, 1, 128), (4096, 1, 128), (65536, 16, 8)];
/// Packets in a batch.
const BATCH: u32 = 64;

/// Measures, and tells by lines as the domain alone does.
pub fn measure() {
    let peer = match Peer::build(1) {
        Ok(peer) => peer,
        Err(why) => return console::line(format_args!("COST-ERROR no other domain: {why}")),
    };
    tell("yield to another domain and back", MANY, repeated(&|times| turns(&peer, times)));
    events(&peer);
    // Xen has no tx copy.
    if let Ok(channel) = Channel::open(&peer) {
        packets(&channel);
    }
    peer.kill();
}

fn tell(name: &str, times: u32, ticks: u64) {
    console::line(format_args!("COST {name} {times} {ticks}"));
}

/// The ticks of [`MANY`] repetitions.
fn repeated(run: &dyn Fn(u32)) -> u64 {
    best(1, || {}, |_| run(2 * MANY)).saturating_sub(best(1, || {}, |_| run(MANY)))
}

/// The other domain has so many turns.
fn turns(peer: &Peer, times: u32) {
    peer.give(0, give_way, args([times.into()]));
    while !peer.is_idle(0) {
        yield_cpu();
    }
}

/// Gives way `a[0]` times.
fn give_way(a: [u64; 6]) -> u64 {
    (0..a[0]).for_each(|_| yield_cpu());
    0
}

/// Both wait for an event of the other, and answer it.
fn events(peer: &Peer) {
    let port = ops::offer_port(peer.id) as u32;
    ops::map_shared();
    // Where Dom0 is told of events is not the same everywhere.
    let mut callback = HvmParam { domid: DOMID_SELF, index: HVM_PARAM_CALLBACK_IRQ, ..Default::default() };
    hypercall::with(nr::HVM_OP, HVMOP_GET_PARAM, &mut callback);
    let ppi = callback.value as u32 & 0xff;
    gic::enable(ppi);
    let theirs = peer.call(0, bind, args([port.into()]));
    let ping = |times: u32| {
        peer.give(0, answer, args([theirs, times.into()]));
        for _ in 0..times {
            send(port);
            wait_for(port);
        }
        peer.wait(0);
    };
    ping(1);
    tell("event to a waiting domain and back", MANY, repeated(&ping));
    gic::disable(ppi);
}

/// Binds port `a[0]` of Dom0: the own port.
fn bind(a: [u64; 6]) -> u64 {
    ops::map_shared();
    gic::enable(GUEST_EVTCHN_PPI);
    let mut op = BindInterdomain { remote_dom: 0, remote_port: a[0] as u32, ..Default::default() };
    hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut op);
    op.local_port.into()
}

/// Answers `a[1]` events on port `a[0]`.
fn answer(a: [u64; 6]) -> u64 {
    for _ in 0..a[1] {
        wait_for(a[0] as u32);
        send(a[0] as u32);
    }
    0
}

fn send(port: u32) {
    hypercall::event(EVTCHNOP_SEND, &mut Send { port });
}

/// Waits as an idle kernel does, and takes the interrupt.
fn wait_for(port: u32) {
    while !ops::is_pending(port) {
        cpu::wait_for_interrupt();
        cpu::interrupts(true);
        cpu::interrupts(false);
    }
    ops::clear_pending(port);
    // `evtchn_pending_sel` and `evtchn_upcall_pending` of the first vCPU: it gets an upcall for the next event.
    let shared = page::Page::hole(ops::SHARED);
    shared.write64(8, 0);
    shared.write8(0, 0);
}

/// Packets by tx copy: the calls of the sender, while the receiver has buffers and wants no event.
fn packets(channel: &Channel<'_>) {
    let data = channel.peer.call(0, channel::take_pages, args([16, 0x77])) * page::SIZE;
    let mut posted = 0;
    let mut best_of = |name: fmt::Arguments<'_>, bytes: u64, slots: u32, calls: u32, packets: u32| {
        let mut least = u64::MAX;
        for _ in 0..TRIES {
            posted = channel::post(posted, slots);
            channel::header().write32(4, posted.wrapping_add(1 << 20));
            let ticks = channel.peer.call(0, send_all, args([channel.handle, bytes, calls.into()]));
            if channel::completed() == posted {
                least = least.min(ticks);
            }
        }
        if least != u64::MAX {
            console::line(format_args!("COST {name} {packets} {least}"));
        }
    };
    for (len, slots, calls) in PACKETS {
        let bytes = channel.one(data, len);
        best_of(format_args!("tx copy {len} B"), bytes, slots * calls, calls, calls);
    }
    let bytes = (0..BATCH).fold(0, |at, _| channel::put(channel.batch(), at, &channel::packet(1514, 1), &[(data, 1514)]));
    best_of(format_args!("tx copy 1514 B, {BATCH} in a call"), bytes, BATCH, 1, BATCH);
}

/// Calls SEND `a[2]` times for the same `a[1]` bytes of the batch of attachment `a[0]`: the ticks.
fn send_all(a: [u64; 6]) -> u64 {
    let start = cpu::counter();
    for _ in 0..a[2] {
        black_box(hypercall::raw(TXCOPY_OP, [TXCOPY_SEND, a[0], a[1], 0, 0]));
    }
    cpu::counter() - start
}
