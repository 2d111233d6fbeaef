//! Random packets, buffers, refusals and ends of channels, against a model of what the receiver must see: no packet lost, torn, doubled or
//! out of order, whatever is posted and however the batches are cut.

use super::*;
use crate::machine::Machine;
use guest_abi::errno::Errno::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Action {
    /// Packets, each of pieces (page, offset, length).
    Send {
        packets: Vec<Vec<(u64, u64, u32)>>,
        want_space: bool,
    },
    /// Buffers: (page, offset, size), some of which cannot be used.
    Post(Vec<(u64, u64, u32)>),
    /// As the receiver does after posting.
    Tell,
    EventAt(i8),
    Reattach,
    Recreate,
}

fn action() -> impl Strategy<Value = Action> {
    let piece = prop_oneof![4 => (0_u64..40, 0_u64..4096, 1_u32..3000), 1 => (0_u64..30, 0_u64..4096, 1_u32..30_000)];
    let packet = prop::collection::vec(piece, 1..5);
    let buffer = prop_oneof![
        8 => (0_u64..50, Just(0_u64), 1024_u32..=4096),
        4 => (0_u64..50, 0_u64..3072, Just(1024_u32)),
        1 => (0_u64..60, 0_u64..4096, 0_u32..5000),
    ];
    prop_oneof![
        6 => (prop::collection::vec(packet, 1..9), any::<bool>()).prop_map(|(packets, want_space)| Action::Send { packets, want_space }),
        6 => prop::collection::vec(buffer, 1..40).prop_map(Action::Post),
        2 => Just(Action::Tell),
        2 => any::<i8>().prop_map(Action::EventAt),
        1 => Just(Action::Reattach),
        1 => Just(Action::Recreate),
    ]
}

/// What the receiver knows and expects.
#[derive(Default)]
struct Model {
    /// Buffers posted and not completed.
    posted: VecDeque<(u64, u32)>,
    completed: u32,
    event_at: u32,
    waits: bool,
}

fn usable((addr, size): (u64, u32)) -> bool {
    (1024..=4096).contains(&size) && addr % 4096 + u64::from(size) <= 4096 && addr < Testbed::va(PAGES, 0)
}

impl Model {
    /// The slots that a packet of `len` bytes takes, those that are given back before it included; `None` if there is no room. What must be
    /// given back is, in either case.
    fn take(&mut self, len: usize) -> (u32, Option<Vec<usize>>) {
        let mut given_back = 0;
        'again: loop {
            let mut lens = Vec::new();
            let mut left = len;
            for (n, &buffer) in self.posted.iter().enumerate() {
                if !usable(buffer) {
                    self.posted.drain(..=n);
                    given_back += n as u32 + 1;
                    continue 'again;
                }
                lens.push(left.min(buffer.1 as usize));
                left -= lens[n];
                if left == 0 {
                    self.posted.drain(..=n);
                    return (given_back, Some(lens));
                }
            }
            return (given_back, None);
        }
    }
}

/// The sender's page bytes: each its own.
fn fill(w: &World) -> Vec<u8> {
    let bytes: Vec<u8> = (0..(PAGES - DATA) * 4096).map(|n| (n ^ (n >> 8).wrapping_mul(97)) as u8).collect();
    for (page, content) in (DATA..).zip(bytes.chunks(4096)) {
        w.bed.machine.write(w.bed.ram(&w.a, page).address(), content);
    }
    bytes
}

fn run(actions: Vec<Action>) {
    let mut w = World::new();
    let memory = fill(&w);
    let mut model = Model::default();
    w.receiver_told();
    w.sender_told();
    for action in actions {
        match action {
            Action::Post(buffers) => {
                let room = 128 - model.posted.len();
                let buffers: Vec<_> = buffers.into_iter().take(room).map(|(page, at, size)| (Testbed::va(DATA + page, at), size)).collect();
                w.post(&buffers);
                model.posted.extend(buffers);
            }
            Action::Tell => {
                assert_eq!(w.header().flags != 0, model.waits);
                assert_eq!(w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), 0);
                assert_eq!(w.sender_told(), core::mem::take(&mut model.waits));
            }
            Action::EventAt(ahead) => {
                model.event_at = model.completed.wrapping_add_signed(ahead.into());
                w.set_event_at(model.event_at);
            }
            Action::Reattach => {
                assert_eq!(w.op(&w.a, TXCOPY_DETACH, w.handle.into()), 0);
                w.handle = w.attach_to(w.attach()).unwrap();
                model.waits = false;
            }
            Action::Recreate => {
                assert_eq!(w.op(&w.dom0, TXCOPY_DESTROY, w.channel.into()), 0);
                assert!(w.sender_told());
                assert_eq!(w.send(&[packet(&[(Testbed::va(DATA, 0), 1)])]), error(EPIPE));
                assert_eq!(w.op(&w.a, TXCOPY_DETACH, w.handle.into()), 0);
                w.assert_held(0);
                w.channel = w.create_channel(w.create()).unwrap();
                w.handle = w.attach_to(w.attach()).unwrap();
                model = Model::default();
            }
            Action::Send { packets, want_space } => send(&w, &mut model, &memory, &packets, want_space),
        }
        w.assert_held(3);
    }
}

fn send(w: &World, model: &mut Model, memory: &[u8], packets: &[Vec<(u64, u64, u32)>], want_space: bool) {
    let clip = |&(page, at, len): &(u64, u64, u32)| (page * 4096 + at, len.min(((PAGES - DATA - page) * 4096 - at) as u32));
    let packets: Vec<Vec<(u64, u32)>> = packets.iter().map(|p| p.iter().map(clip).collect()).collect();
    let records: Vec<_> =
        packets.iter().map(|pieces| packet(&pieces.iter().map(|&(at, len)| (Testbed::va(DATA, at), len)).collect::<Vec<_>>())).collect();
    let before = model.completed;
    let mut taken = 0;
    let mut refusal = EAGAIN;
    let mut expected = Vec::new();
    for ((header, _), pieces) in records.iter().zip(&packets) {
        if header.len > TXCOPY_MAX_PACKET {
            refusal = EINVAL;
            break;
        }
        let bytes: Vec<u8> = pieces.iter().flat_map(|&(at, len)| memory[at as usize..at as usize + len as usize].iter().copied()).collect();
        let (given_back, room) = model.take(bytes.len());
        expected.extend((0..given_back).map(|_| Vec::new()));
        let Some(lens) = room else {
            model.waits |= want_space;
            break;
        };
        let mut rest = &bytes[..];
        for len in lens {
            let (part, after) = rest.split_at(len);
            expected.push(part.to_vec());
            rest = after;
        }
        taken += 1;
    }
    model.completed = before.wrapping_add(expected.len() as u32);
    let bytes = w.describe(&records);
    let answer = w.send_bytes(bytes, u64::from(want_space));
    assert_eq!(answer, if taken > 0 { taken } else { error(refusal) });
    assert_eq!(w.header().completed, model.completed);
    // The packets that the slots make up are those sent, byte by byte; a buffer that a later packet was given too holds that one.
    let slots: Vec<Slot> = (0..expected.len() as u32).map(|n| w.slot(before.wrapping_add(n))).collect();
    for (n, (slot, part)) in slots.iter().zip(&expected).enumerate() {
        assert_eq!(slot.len as usize, part.len());
        let overwritten = slots[n + 1..].iter().any(|s| s.len > 0 && s.addr < slot.addr + 4096 && slot.addr < s.addr + 4096);
        if !overwritten && slot.len > 0 {
            assert_eq!(&w.buffer(slot), part);
        }
    }
    let mut more = false;
    let mut totals = records.iter().map(|(header, _)| header.len);
    for slot in slots.iter().filter(|s| s.len > 0) {
        assert_eq!(slot.total, if more { 0 } else { totals.next().unwrap() });
        more = slot.flags & SLOT_MORE != 0;
    }
    assert!(!more, "packets are whole");
    // `event_at` is met somewhere in what was completed, or not.
    let wanted = (0..expected.len() as u32).any(|n| before.wrapping_add(n) == model.event_at);
    assert_eq!(w.receiver_told(), wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 96 }))]

    #[test]
    fn the_receiver_sees_what_was_sent(actions in prop::collection::vec(action(), 1..25)) {
        run(actions);
    }
}
