//! Tx copy: a channel ends, is given up or misused while the peer sends (misuse T07, T08, T18).

use super::arena::Place::{Dom0, Peer, Second};
use super::arena::*;
use crate::pair::channel::{self, Channel, call_raw};
use crate::pair::ops;
use crate::runtime::page::Page;
use guest_abi::txcopy::*;

const XEN: Option<&str> = Some("only Xenolith has tx copy");

pub const ALL: &[Race] = &[
    Race {
        name: "T08.destroy_beside_send",
        rounds: 4,
        setup: open,
        sides: &[(Peer(0), send_on), (Dom0, destroy)],
        check,
        not_on_xen: XEN,
        ..LIVING
    },
    Race {
        name: "T08.detach_beside_send",
        rounds: 4,
        setup: open,
        sides: &[(Peer(0), send_on), (Peer(1), detach), (Dom0, post_on)],
        check,
        not_on_xen: XEN,
        ..LIVING
    },
    Race {
        name: "T18.close_beside_send",
        rounds: 4,
        setup: open,
        sides: &[(Peer(0), send_on), (Dom0, close), (Second, post_on)],
        check,
        not_on_xen: XEN,
        ..LIVING
    },
    Race {
        name: "T18.ring_scribbled",
        rounds: 4,
        setup: open,
        sides: &[(Peer(0), send_on), (Dom0, scribble)],
        check,
        not_on_xen: XEN,
        ..LIVING
    },
    Race {
        name: "T04.sends_by_two",
        rounds: 4,
        setup: open,
        sides: &[(Peer(0), send_on), (Peer(1), send_on), (Dom0, post_on)],
        check,
        not_on_xen: XEN,
        ..LIVING
    },
];

/// The channel's number, Dom0's port, the sender's handle.
fn open(on: &Ground) -> [u64; 4] {
    match Channel::open(&on.peer) {
        Ok(channel) => {
            channel.one(channel.address(0), 1000);
            channel.unmap();
            [channel.number.into(), channel.port.into(), channel.handle, 0]
        }
        Err(_) => [u64::MAX; 4],
    }
}

fn check(on: &Ground, a: [u64; 6], results: [u64; 3]) -> Verdict {
    must(a[1] != u64::MAX, "no channel")?;
    ops::close(a[2] as u32);
    call_raw(TXCOPY_DESTROY, a[1]);
    all_well(results)?;
    ports_are_free(on)
}

fn send_on(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let rc = channel::send([a[3], 32, 0, 0, 0, 0]).cast_signed();
        if rc == 1 { 0 } else { answered(rc) }
    })
}

fn destroy(a: [u64; 6]) -> u64 {
    let mut posted = channel::post(0, 128);
    for _ in 0..50 {
        posted = channel::post(posted, channel::completed().wrapping_sub(posted).wrapping_add(128));
    }
    among(call_raw(TXCOPY_DESTROY, a[1]), &[0])
}

fn detach(a: [u64; 6]) -> u64 {
    spin(300);
    among(call_raw(TXCOPY_DETACH, a[3]), &[0])
}

fn close(a: [u64; 6]) -> u64 {
    spin(300);
    among(ops::close(a[2] as u32), &[0])
}

fn post_on(_: [u64; 6]) -> u64 {
    let mut posted = channel::post(0, 128);
    a_while(|_| {
        posted = channel::post(posted, channel::completed().wrapping_sub(posted).wrapping_add(128).min(128));
        0
    })
}

/// Writes anything to the header and to the slots; memory of Dom0 that was not posted stays as it is.
fn scribble(_: [u64; 6]) -> u64 {
    let mut random = 0x0123_4567_89ab_cdef;
    let page = Page::own(channel::buffer(0).address());
    a_while(|_| {
        let value = next(&mut random);
        channel::header().write32(0, (value >> 8) as u32 % 512);
        channel::post_at(value as u32, page.address() + value % 0x4_0000, (value >> 40) as u32 % 5000);
        0
    })
}
