//! The trace as a reader sees it: an independent reader of the format takes what is written, and a hostile one lies about it.

use super::*;
use crate::machine::fake::FakeMachine;
use guest_abi::trace::{TRC_GEN, TRC_HVM_VMMCALL, TRC_LOST_RECORDS, TRC_SCHED, TRC_SCHED_WAKE, TRC_TRACE_WRAP_BUFFER};
use proptest::prelude::*;
use std::vec;

const BASE: u64 = 0x8_0000;
const EVENT: u32 = TRC_HVM_VMMCALL;

struct Bed {
    machine: &'static FakeMachine,
    trace: Trace,
    pages: Vec<Mfn>,
}

/// One CPU with a ring of `pages` pages, in no order.
fn bed(pages: u64) -> Bed {
    let machine = FakeMachine::leak(BASE << 12, pages as usize + 1);
    let trace = Trace::new(machine);
    let ring: Vec<_> = (1..=pages).rev().map(|n| Mfn(BASE + n)).collect();
    trace.start(Mfn(BASE), vec![ring.clone()]).unwrap();
    Bed { machine, trace, pages: ring }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    event: u32,
    ticks: Option<u64>,
    data: Vec<u32>,
}

impl Bed {
    fn size(&self) -> u32 {
        self.pages.len() as u32 * 4096 - 8
    }

    fn word(&self, offset: u32) -> MachineAddr {
        MachineAddr(self.pages[offset as usize / 4096].address().0 + u64::from(offset % 4096))
    }

    fn cons(&self) -> u32 {
        self.machine.load_u32(self.word(0))
    }

    fn set_cons(&self, cons: u32) {
        self.machine.store_u32(self.word(0), cons);
    }

    fn prod(&self) -> u32 {
        self.machine.load_u32(self.word(4))
    }

    fn unread(&self) -> u32 {
        (self.prod() + 2 * self.size() - self.cons()) % (2 * self.size())
    }

    /// Takes all records, as xentrace does, without fillers.
    fn take(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut at = self.cons();
        let mut next = || {
            let word = self.machine.load_u32(self.word(8 + at % self.size()));
            at = (at + 4) % (2 * self.size());
            (word, at)
        };
        while self.cons() != self.prod() {
            let (header, mut end) = next();
            let mut word = || {
                let (word, at) = next();
                end = at;
                word
            };
            let ticks = (header >> 31 == 1).then(|| u64::from(word()) | u64::from(word()) << 32);
            let data = (0..header >> 28 & 7).map(|_| word()).collect();
            let event = header & 0x0fff_ffff;
            if event != TRC_TRACE_WRAP_BUFFER {
                seen.push(Seen { event, ticks, data });
            }
            self.set_cons(end);
        }
        seen
    }
}

#[test]
fn a_record_is_seen_as_it_was_written() {
    let bed = bed(1);
    bed.machine.now.store(0x1_2345_6789, Ordering::SeqCst);
    bed.trace.record(EVENT, || [32, 1, 2]);
    bed.trace.record(TRC_SCHED_WAKE, || []);
    let at = |event, data: &[u32]| Seen { event, ticks: Some(0x1_2345_6789), data: data.to_vec() };
    assert_eq!(bed.take(), [at(EVENT, &[32, 1, 2]), at(TRC_SCHED_WAKE, &[])]);
}

#[test]
fn what_is_off_or_masked_is_not_written() {
    let bed = bed(1);
    bed.trace.disable();
    bed.trace.record(EVENT, || -> [u32; 0] { panic!("nobody wants it") });
    bed.trace.enable().unwrap();
    bed.trace.set_events(TRC_SCHED);
    bed.trace.record(EVENT, || [1]);
    // The class, but not the subclass.
    bed.trace.set_events(0x0008_1000);
    bed.trace.record(EVENT, || [2]);
    bed.trace.set_events(TRC_ALL);
    bed.trace.set_cpus(0b10);
    bed.trace.record(EVENT, || [3]);
    bed.trace.set_cpus(0b01);
    // A CPU without a ring.
    bed.machine.cpu.store(1, Ordering::SeqCst);
    bed.trace.record(EVENT, || [4]);
    assert_eq!(bed.take(), []);
}

#[test]
fn what_was_lost_is_told() {
    let bed = bed(1);
    bed.trace.runs(5 << 16 | 3);
    let fits = bed.size() / 16;
    for n in 0..fits + 10 {
        bed.machine.now.store(u64::from(n), Ordering::SeqCst);
        bed.trace.record(EVENT, || [n]);
    }
    assert_eq!(bed.take().len() as u32, fits);
    bed.trace.record(EVENT, || [7]);
    let after: Vec<_> = bed.take().into_iter().map(|seen| (seen.event, seen.data)).collect();
    assert_eq!(after, [(TRC_LOST_RECORDS, vec![10, 5 << 16 | 3, fits, 0]), (EVENT, vec![7])]);
    // Whoever stops does not want to hear of it later.
    (0..fits + 1).for_each(|n| bed.trace.record(EVENT, || [n]));
    bed.trace.disable();
    bed.trace.enable().unwrap();
    bed.take();
    bed.trace.record(EVENT, || [8]);
    assert_eq!(bed.take().len(), 1);
}

#[test]
fn dom0_is_told_once_when_a_ring_is_half_full() {
    let bed = bed(1);
    while bed.unread() < bed.size() / 2 {
        assert!(!bed.trace.take_due());
        bed.trace.record(EVENT, || [0]);
    }
    assert!(bed.trace.take_due());
    bed.trace.record(EVENT, || [0]);
    assert!(!bed.trace.take_due());
}

#[test]
fn a_reader_that_lies_ends_the_trace() {
    for lie in [4, 6, 1, u32::MAX, 1 << 31] {
        let bed = bed(1);
        (0..10).for_each(|n| bed.trace.record(EVENT, || [n]));
        let ram = |machine: &FakeMachine| {
            let mut bytes = vec![0; 8192];
            machine.read(MachineAddr(BASE << 12), &mut bytes);
            bytes
        };
        bed.set_cons(bed.prod().wrapping_add(lie));
        let before = ram(bed.machine);
        bed.trace.record(EVENT, || [1]);
        assert!(!bed.trace.is_on(), "{lie:#x}");
        assert!(ram(bed.machine) == before, "{lie:#x}");
    }
}

#[test]
fn what_the_reader_writes_over_ours_is_not_believed() {
    let bed = bed(1);
    bed.trace.record(EVENT, || [1]);
    bed.machine.store_u32(bed.word(4), 0xffff_0000);
    bed.trace.record(EVENT, || [2]);
    assert_eq!(bed.prod(), 32);
}

#[test]
fn buffers_are_made_once() {
    let machine = FakeMachine::leak(BASE << 12, 4);
    let trace = Trace::new(machine);
    assert_eq!((trace.check_size(0), trace.check_size(1), trace.enable()), (Err(Errno::EINVAL), Ok(()), Err(Errno::EINVAL)));
    assert_eq!(trace.info(), Info { mfn: 0, size: 0, events: TRC_ALL });
    trace.start(Mfn(BASE), vec![vec![Mfn(BASE + 1)], vec![Mfn(BASE + 2)]]).unwrap();
    assert_eq!(trace.start(Mfn(BASE + 3), vec![]), Err(Errno::EBUSY));
    assert_eq!(
        (trace.check_size(0), trace.check_size(1), trace.check_size(2)),
        (Err(Errno::EINVAL), Err(Errno::EBUSY), Err(Errno::EINVAL))
    );
    assert_eq!(trace.info(), Info { mfn: BASE, size: 4096, events: TRC_ALL });
    assert!(trace.is_info(Mfn(BASE)) && !trace.is_info(Mfn(BASE + 1)) && !trace.is_info(Mfn(BASE - 1)));
    // As Debian's Xen describes it.
    let word = |n: u64| machine.load_u32(MachineAddr((BASE << 12) + 4 * n));
    assert_eq!((word(0), word(1), word(65), word(66)), (65 << 16 | 1, 66, BASE as u32 + 1, BASE as u32 + 2));
}

#[test]
fn fillers_have_any_size() {
    for bytes in (4..Record::MAX).step_by(4) {
        let filler = Record::filler(TRC_TRACE_WRAP_BUFFER, bytes);
        assert_eq!((filler.size(), filler.bytes().len() as u32), (bytes, bytes));
    }
    assert_eq!(Record::new(TRC_GEN, Some(0), &[0; 9]).size(), Record::MAX);
}

proptest! {
    /// Whatever is written and whenever it is read, the reader sees each record once, or as lost.
    #[test]
    fn nothing_is_lost_silently(steps in proptest::collection::vec((0usize..8, 0u32..40), 1..400)) {
        let bed = bed(1);
        let (mut written, mut seen) = (0, 0);
        for (words, read) in steps {
            for _ in 0..20 {
                bed.trace.write(EVENT, &vec![written; words]);
                written += 1;
            }
            prop_assert!(bed.unread() <= bed.size());
            if read == 0 {
                for record in bed.take() {
                    if record.event == TRC_LOST_RECORDS {
                        seen += record.data[0];
                    } else {
                        prop_assert!(record.data.iter().all(|n| *n == seen));
                        seen += 1;
                    }
                }
            }
        }
        bed.take().iter().for_each(|r| seen += if r.event == TRC_LOST_RECORDS { r.data[0] } else { 1 });
        bed.trace.write(EVENT, &[]);
        bed.take().iter().for_each(|r| seen += if r.event == TRC_LOST_RECORDS { r.data[0] } else { 1 });
        prop_assert_eq!(seen, written + 1);
    }
}
