//! The ring under every order of memory: nobody sleeps on what the other side has done, and what is counted is there.

use super::ring::{OURS, Ring, THEIRS, words};
use super::{GuestPage, Pages};
use crate::addr::{Gfn, Mfn};
use crate::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use guest_abi::txcopy::RING_SENDER_WAITS;
use loom::sync::atomic::fence;
use loom::{model, thread};
use std::boxed::Box;
use std::vec;

/// An `event_at` that is not reached.
const NEVER: u32 = u32::MAX;

/// A page, its words leaked as RAM lives for ever.
fn page(mfn: u64) -> GuestPage {
    GuestPage { mfn: Mfn(mfn), words: Box::leak(Box::new(core::array::from_fn(|_| AtomicU64::new(0)))) }
}

/// A ring with `posted` slots, and its pages as the receiver has them.
fn ring(posted: u32) -> (Ring, GuestPage, GuestPage) {
    let (header, slots) = (page(1), page(2));
    let mut ring = Ring::new(header, vec![slots]);
    header.words[THEIRS].store(words(posted, NEVER), Ordering::Relaxed);
    assert_eq!(ring.look(0), Ok(posted > 0));
    (ring, header, slots)
}

/// Where every page is.
struct Everywhere;

impl Pages for Everywhere {
    fn hold(&self, gfn: Gfn, _: bool) -> Option<Mfn> {
        Some(Mfn(gfn.0))
    }
    fn put(&self, _: Mfn) {}
}

#[test]
fn the_receiver_sees_a_packet_or_is_told() {
    model(|| {
        let (mut ring, header, slots) = ring(1);
        let receiver = thread::spawn(move || {
            header.words[THEIRS].store(words(1, 0), Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let completed = header.words[OURS].load(Ordering::Acquire) as u32;
            if completed > 0 {
                let filled = slots.words[1].load(Ordering::Relaxed) >> 32;
                assert_eq!(filled, 60, "the slot comes before the count");
            }
            completed > 0
        });
        ring.fill(0, 60, None, false);
        ring.complete(1);
        ring.publish();
        let told = ring.wants_event(0);
        assert!(receiver.join().unwrap() | told);
    });
}

#[test]
fn the_sender_sees_buffers_or_is_told() {
    model(|| {
        let (mut ring, header, slots) = ring(0);
        let receiver = thread::spawn(move || {
            slots.words[0].store(0x5000, Ordering::Relaxed);
            slots.words[1].store(words(4096, 0), Ordering::Relaxed);
            header.words[THEIRS].store(words(1, NEVER), Ordering::Release);
            fence(Ordering::SeqCst);
            header.words[OURS].load(Ordering::Relaxed) >> 32 & u64::from(RING_SENDER_WAITS) != 0
        });
        ring.set_sender_waits(true);
        let seen = ring.look(0).unwrap();
        if seen {
            let buffer = ring.hold_buffer(&Everywhere, 0).unwrap();
            assert_eq!((buffer.at.0, buffer.size), (0x5000, 4096));
        }
        assert!(receiver.join().unwrap() | seen);
    });
}
