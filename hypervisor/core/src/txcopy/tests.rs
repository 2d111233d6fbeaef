//! Guests that rewrite what they described while it is being looked at: T03, T04, T11, T18 and T20 of the misuse list.
//!
//! One way is exact: the pages are asked for between reading and copying, and there the guest strikes. The other is a second thread that
//! rewrites the words as fast as it can. Either way each packet that is taken must be one that was described at some moment.

use super::*;
use crate::addr::MachineAddr;
use crate::machine::fake::FakeMachine;
use guest_abi::txcopy::{PacketHeader, Piece, RingHeader, Slot as WireSlot};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;
use zerocopy::{FromBytes, IntoBytes};

const BASE: u64 = 0x8000_0000;
/// The first frame of RAM: header, slots, batch page, then data of the sender, then buffers.
const FIRST: u64 = BASE >> 12;
const BATCH: u64 = FIRST + 2;
const DATA: u64 = FIRST + 4;
const BUFFERS: u64 = FIRST + 32;
const PAGES: usize = 64;

fn at(frame: u64, offset: u64) -> MachineAddr {
    MachineAddr(frame * 4096 + offset)
}

/// gfn = mfn, from `from` on; strikes at every request and counts references.
struct Guest<'a> {
    from: u64,
    strike: &'a dyn Fn(),
    refuse: Cell<u32>,
    held: RefCell<BTreeMap<u64, i32>>,
}

impl<'a> Guest<'a> {
    fn new(from: u64, strike: &'a dyn Fn()) -> Self {
        Self { from, strike, refuse: Cell::new(u32::MAX), held: RefCell::default() }
    }

    fn is_idle(&self) -> bool {
        self.held.borrow().values().all(|n| *n == 0)
    }
}

impl Pages for Guest<'_> {
    fn hold(&self, gfn: Gfn, _: bool) -> Option<Mfn> {
        (self.strike)();
        self.refuse.set(self.refuse.get().wrapping_sub(1));
        if self.refuse.get() == 0 || !(self.from..FIRST + PAGES as u64).contains(&gfn.0) {
            return None;
        }
        *self.held.borrow_mut().entry(gfn.0).or_default() += 1;
        Some(Mfn(gfn.0))
    }

    fn put(&self, mfn: Mfn) {
        (self.strike)();
        let mut held = self.held.borrow_mut();
        let count = held.entry(mfn.0).or_default();
        *count -= 1;
        assert!(*count >= 0, "{mfn:?} put without a reference");
    }
}

fn machine() -> &'static FakeMachine {
    let machine = FakeMachine::leak(BASE, PAGES);
    // Each byte of the sender's data says where it is.
    let bytes: Vec<u8> = (0..8 * 4096_u32).map(|n| (n ^ n >> 7) as u8).collect();
    machine.write(at(DATA, 0), &bytes);
    machine
}

fn channel(machine: &dyn Machine) -> Channel<()> {
    Channel::new((), 1, Ring::new(GuestPage::new(machine, Mfn(FIRST)), vec![GuestPage::new(machine, Mfn(FIRST + 1))]))
}

fn post(machine: &FakeMachine, count: u32, addr: u64, size: u32) {
    for n in 0..128_u64 {
        let slot = WireSlot { addr: addr.wrapping_add(n % 16 * 4096), size, ..WireSlot::default() };
        machine.write(at(FIRST + 1, n * 32), slot.as_bytes());
    }
    machine.store_u32(at(FIRST, core::mem::offset_of!(RingHeader, posted) as u64), count);
}

fn read<T: FromBytes + IntoBytes>(machine: &FakeMachine, from: MachineAddr) -> T {
    let mut value = T::new_zeroed();
    machine.read(from, value.as_mut_bytes());
    value
}

/// A packet of two pieces, of which there are two versions: one from the even pages, one from the odd ones.
fn version(odd: bool) -> (PacketHeader, [Piece; 2]) {
    let v = u64::from(odd);
    let len = [1000, 700][usize::from(odd)];
    let header = PacketHeader {
        len: 2 * len,
        pieces: 2,
        flags: 1,
        csum_start: 14 + 20 * v as u16,
        csum_offset: 16 - 10 * v as u16,
        gso_size: 1448 - v as u16,
        gso_type: 1 + v as u8,
        _pad: 0,
    };
    (header, [0, 2].map(|page| Piece { addr: at(DATA + page + v, 8 * v).0, len, _pad: 0 }))
}

fn describe(machine: &FakeMachine, odd: bool) {
    let (header, pieces) = version(odd);
    machine.write(at(BATCH, 0), header.as_bytes());
    machine.write(at(BATCH, 16), pieces.as_bytes());
}

/// The packet in the slot of that number, if each word of its description is of one version, and each piece down to the last byte.
fn check(machine: &FakeMachine, number: u32) {
    let slot: WireSlot = read(machine, at(FIRST + 1, u64::from(number % 128) * 32));
    let headers = [false, true].map(|odd| version(odd).0);
    let first = headers.iter().any(|h| (slot.len, slot.total, slot.flags) == (h.len, h.len, h.flags));
    let seen = (slot.csum_start, slot.csum_offset, slot.gso_size, slot.gso_type);
    let second = headers.iter().any(|h| seen == (h.csum_start, h.csum_offset, h.gso_size, h.gso_type));
    assert!(first && second, "of no version: {slot:?}");
    let half = slot.len as usize / 2;
    let mut bytes = vec![0; slot.len as usize];
    machine.read(MachineAddr(slot.addr), &mut bytes);
    // The pieces' addresses may be of different moments, but each is one that was written.
    for (n, part) in bytes.chunks(half).enumerate() {
        let matches = [false, true].map(|odd| {
            let mut piece = vec![0; half];
            machine.read(MachineAddr(version(odd).1[n].addr), &mut piece);
            piece == part
        });
        assert!(matches.contains(&true), "piece {n} is of no version");
    }
}

#[test]
fn the_sender_rewrites_between_any_two_steps() {
    let machine = machine();
    for strike_at in 1..12 {
        let mut channel = channel(machine);
        post(machine, 100, at(BUFFERS, 0).0, 4096);
        describe(machine, false);
        let steps = Cell::new(0);
        let strike = || {
            steps.set(steps.get() + 1);
            if steps.get() == strike_at {
                describe(machine, true);
            }
        };
        let (sender, receiver) = (Guest::new(DATA, &strike), Guest::new(BUFFERS, &strike));
        let mut batch = Batch::new(GuestPage::new(machine, Mfn(BATCH)), 48, 0);
        let sent = channel.send(machine, &sender, &receiver, &mut batch, false);
        match sent.end {
            End::Done => {
                assert_eq!(sent.taken, 1);
                check(machine, 0);
            }
            // The second piece was rewritten: it no longer adds up.
            End::Refused(Errno::EINVAL) => assert_eq!((sent.taken, channel.ring.completed()), (0, 0)),
            end => panic!("{end:?}"),
        }
        assert!(sender.is_idle() && receiver.is_idle());
    }
}

#[test]
fn every_request_for_a_page_fails_once() {
    let machine = machine();
    describe(machine, false);
    for fail_at in 1..4 {
        for of_receiver in [false, true] {
            let mut channel = channel(machine);
            post(machine, 100, at(BUFFERS, 0).0, 1024);
            let (sender, receiver) = (Guest::new(DATA, &|| {}), Guest::new(BUFFERS, &|| {}));
            if of_receiver { &receiver } else { &sender }.refuse.set(fail_at);
            let mut batch = Batch::new(GuestPage::new(machine, Mfn(BATCH)), 48, 0);
            let sent = channel.send(machine, &sender, &receiver, &mut batch, false);
            let expected = match (of_receiver, fail_at) {
                // Page 2 of piece 1 and the page of piece 2 do not exist: each piece lies in one page.
                (false, 1 | 2) => (0, End::Refused(Errno::EFAULT), 0),
                (true, 1 | 2) => (1, End::Done, fail_at + 2),
                _ => (1, End::Done, 2),
            };
            assert_eq!((sent.taken, sent.end, channel.ring.completed()), expected);
            assert!(sender.is_idle() && receiver.is_idle());
        }
    }
}

/// The receiver moves a posted buffer, or takes `posted` back, while its slot is looked at.
#[test]
fn the_receiver_rewrites_between_any_two_steps() {
    let machine = machine();
    let attacks: [&dyn Fn(); 4] = [
        &|| post(machine, 100, at(DATA, 0).0, 4096),
        &|| post(machine, 0, at(BUFFERS, 0).0, 1024),
        &|| post(machine, 0x8000_0000, at(BUFFERS, 0).0, 1024),
        &|| post(machine, 100, u64::MAX - 4095, u32::MAX),
    ];
    for attack in attacks {
        for strike_at in 1..9 {
            let mut channel = channel(machine);
            post(machine, 100, at(BUFFERS, 0).0, 1024);
            describe(machine, false);
            let steps = Cell::new(0);
            let strike = || {
                steps.set(steps.get() + 1);
                if steps.get() == strike_at {
                    attack();
                }
            };
            let (sender, receiver) = (Guest::new(DATA, &strike), Guest::new(BUFFERS, &strike));
            let before: [u8; 4096] = read(machine, at(DATA, 0));
            let mut batch = Batch::new(GuestPage::new(machine, Mfn(BATCH)), 48, 0);
            let sent = channel.send(machine, &sender, &receiver, &mut batch, true);
            assert!(matches!(sent.end, End::Done | End::Refused(Errno::EAGAIN | Errno::EPIPE)), "{:?}", sent.end);
            assert_eq!(sent.taken == 1, sent.end == End::Done);
            assert!(channel.ring.completed() <= 101);
            assert!(sender.is_idle() && receiver.is_idle());
            assert_eq!(read::<[u8; 4096]>(machine, at(DATA, 0)), before, "only the receiver's pages are written");
        }
    }
}

/// The receiver makes a buffer longer than it is once its length was looked at: nothing beyond its end is written.
#[test]
fn a_buffer_is_as_long_as_it_was_when_it_was_looked_at() {
    const START: usize = 2048;
    const LEN: usize = 1024;
    for strike_at in 1..9 {
        let machine = machine();
        let mut channel = channel(machine);
        post(machine, 100, at(BUFFERS, START as u64).0, LEN as u32);
        describe(machine, false);
        let steps = Cell::new(0);
        let strike = || {
            steps.set(steps.get() + 1);
            if steps.get() == strike_at {
                // As long as no buffer can be: who looks for the first time now does not use it.
                post(machine, 100, at(BUFFERS, START as u64).0, 4 * 4096);
            }
        };
        let (sender, receiver) = (Guest::new(DATA, &strike), Guest::new(BUFFERS, &strike));
        let mut batch = Batch::new(GuestPage::new(machine, Mfn(BATCH)), 48, 0);
        let _ = channel.send(machine, &sender, &receiver, &mut batch, true);
        for n in BUFFERS..FIRST + PAGES as u64 {
            let page: [u8; 4096] = read(machine, at(n, 0));
            let outside = page[..START].iter().chain(&page[START + LEN..]);
            assert!(outside.copied().all(|byte| byte == 0), "page {n:#x}, struck at step {strike_at}");
        }
    }
}

/// T04 by force: a second thread rewrites header and pieces all the time.
#[test]
fn the_sender_rewrites_at_full_speed() {
    let machine = machine();
    let mut channel = channel(machine);
    let stop = AtomicBool::new(false);
    describe(machine, false);
    post(machine, 100, at(BUFFERS, 0).0, 4096);
    let mut taken = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut odd = false;
            while !stop.load(Ordering::Relaxed) {
                odd = !odd;
                describe(machine, odd);
            }
        });
        let (sender, receiver) = (Guest::new(DATA, &|| {}), Guest::new(BUFFERS, &|| {}));
        for _ in 0..20_000 {
            let number = channel.ring.completed();
            machine.store_u32(at(FIRST, 0), number + 100);
            let mut batch = Batch::new(GuestPage::new(machine, Mfn(BATCH)), 48, 0);
            let sent = channel.send(machine, &sender, &receiver, &mut batch, false);
            if sent.taken == 1 {
                check(machine, number);
                taken += 1;
            } else {
                assert_eq!(sent.end, End::Refused(Errno::EINVAL));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(taken > 0);
}

/// The receiver's flag and the sender's look: whoever comes second sees the other. Buffers that arrive while the flag is being set are used.
#[test]
fn no_wake_up_is_lost() {
    let machine = machine();
    let mut channel = channel(machine);
    channel.attached = Some(Attached { port: 7 });
    // The last buffer of which the sender was told; whether all are posted.
    let (tell, all_posted) = (std::sync::Mutex::new(0_u32), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| {
            // Posts one buffer at a time and looks at the flag after each.
            for n in 1..=2000_u32 {
                machine.store_u32(at(FIRST, 0), n);
                core::sync::atomic::fence(Ordering::SeqCst);
                if machine.load_u32(at(FIRST, 68)) != 0 {
                    *tell.lock().unwrap() = n;
                }
                // Not further ahead than the ring is long.
                while n.wrapping_sub(machine.load_u32(at(FIRST, 64))) > 100 {
                    std::thread::yield_now();
                }
            }
            all_posted.store(true, Ordering::SeqCst);
        });
        for n in 0..128 {
            let slot = WireSlot { addr: at(BUFFERS, 0).0, size: 4096, ..WireSlot::default() };
            machine.write(at(FIRST + 1, n * 32), slot.as_bytes());
        }
        describe(machine, false);
        let (sender, receiver) = (Guest::new(DATA, &|| {}), Guest::new(BUFFERS, &|| {}));
        let mut taken = 0;
        while taken < 2000 {
            let mut batch = Batch::new(GuestPage::new(machine, Mfn(BATCH)), 48, 0);
            let sent = channel.send(machine, &sender, &receiver, &mut batch, true);
            taken += sent.taken;
            if sent.taken == 0 {
                assert_eq!(sent.end, End::Refused(Errno::EAGAIN));
                // Asleep until told of a buffer that is not taken yet.
                while *tell.lock().unwrap() <= taken {
                    assert!(!(all_posted.load(Ordering::SeqCst) && *tell.lock().unwrap() <= taken), "asleep for ever at {taken}");
                    std::thread::yield_now();
                }
                assert_eq!(channel.posted(), Some(7));
            }
        }
        poster.join().unwrap();
    });
}
