//! Preemption at step k: a batch that is cut after any packet, and what either side does then.

use super::*;
use crate::hypercall::Outcome;
use crate::testbed::preempt;

/// Lengths of the packets of the batch: the third takes three buffers.
const LENGTHS: [u32; 6] = [60, 1514, 9000, 1, 4096, 300];

/// A world with that batch and room for `buffers`, and the arguments that send it.
fn ready(buffers: u64) -> (World, [u64; 5]) {
    let w = World::new();
    w.post_pages(16, buffers);
    for page in 0..16 {
        w.bed.poke(&w.a, Testbed::va(DATA + page, 0), &[u64::from_le_bytes([page as u8; 8]); 512]);
    }
    let packets: Vec<_> = (0..).zip(LENGTHS).map(|(n, len)| packet(&[(Testbed::va(DATA + 2 * n, 40 * n), len)])).collect();
    let bytes = w.describe(&packets);
    let args = [TXCOPY_SEND, w.handle.into(), bytes, TXCOPY_SEND_WANT_SPACE, 0];
    (w, args)
}

/// The slots with their packets, and what both have been told.
fn seen(w: &World) -> (RingHeader, Vec<Slot>, Vec<u8>, [bool; 2]) {
    let header = w.header();
    let slots: Vec<_> = (0..header.completed).map(|n| w.slot(n)).collect();
    let packets = slots.iter().flat_map(|slot| w.buffer(slot)).collect();
    (header, slots, packets, [w.receiver_told(), w.sender_told()])
}

#[test]
fn a_batch_cut_after_any_packet_is_the_same() {
    // Room for all, and for four packets.
    for (buffers, taken) in [(20, 6), (6, 4)] {
        let (whole, args) = ready(buffers);
        assert_eq!(whole.bed.hypercall(&whole.a, TXCOPY_OP, args), (taken, 1));
        let expected = seen(&whole);
        let stats = whole.stats();
        assert_eq!(stats.batches, 1);
        for steps in 1..LENGTHS.len() as u8 {
            let (w, args) = ready(buffers);
            let (answer, times) = preempt::after(steps, || w.bed.hypercall(&w.a, TXCOPY_OP, args));
            assert_eq!(answer, taken, "cut after {steps}");
            assert!(times > 1);
            assert!(seen(&w) == expected, "cut after {steps}");
            let cut = w.stats();
            // Each piece gives the receiver what it has taken.
            assert_eq!(Stats { notified: 0, suppressed: 0, ..cut }, Stats { notified: 0, suppressed: 0, ..stats });
            w.assert_held(3);
        }
    }
}

#[test]
fn either_side_acts_at_a_cut() {
    type Act = (&'static str, fn(&World));
    let acts: [Act; 5] = [
        ("the receiver ends the channel", |w| assert_eq!(w.op(&w.dom0, TXCOPY_DESTROY, w.channel.into()), 0)),
        ("the sender detaches", |w| assert_eq!(w.op(&w.a, TXCOPY_DETACH, w.handle.into()), 0)),
        ("the batch is overwritten", |w| w.bed.poke(&w.a, Testbed::va(BATCH, 0), &[u64::MAX; 512])),
        ("the receiver ends", |w| w.bed.destroy(&w.dom0)),
        ("the sender ends", |w| w.bed.destroy(&w.a)),
    ];
    for (what, act) in acts {
        for cut in 1..LENGTHS.len() as i64 {
            let (w, mut args) = ready(20);
            for _ in 0..cut {
                let Outcome::Again(next) = preempt::after(1, || w.bed.hvc(&w.a, TXCOPY_OP, args)) else { panic!("not cut") };
                args = next;
            }
            act(&w);
            w.bed.hv.audit().unwrap();
            // The rest is not taken; that something is wrong is for the next call.
            let answer = if w.a.is_dying() { cut } else { w.bed.hypercall(&w.a, TXCOPY_OP, args).0 };
            assert_eq!(answer, cut, "{what}");
            w.bed.hv.audit().unwrap();
            for domain in [&w.a, &w.dom0] {
                w.bed.destroy(domain);
            }
            assert_eq!(w.bed.pages_in_use(), [], "{what}");
        }
    }
}
