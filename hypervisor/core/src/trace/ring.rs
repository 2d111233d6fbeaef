//! The ring of one CPU: records behind each other, from the CPU to a reader that has mapped the same pages.
//!
//! Its first words are a [`TBuf`]. Offsets count modulo twice the size, as the size is no power of two. Where we write is our own count;
//! the reader's is read once for each record, and one that cannot be true ends the trace, as in Xen. A record does not go round the end:
//! a filler does up to there. When there is no room records are lost; as soon as there is, a record tells how many.

use super::at;
use super::record::Record;
use crate::addr::{Mfn, PAGE_SIZE};
use crate::machine::Machine;
use alloc::vec::Vec;
use core::mem::offset_of;
use guest_abi::trace::{TBuf, TRC_LOST_RECORDS, TRC_TRACE_WRAP_BUFFER};

/// A ring, under its lock.
pub(super) struct Ring {
    pages: Vec<Mfn>,
    /// Bytes of records that fit.
    size: u32,
    prod: u32,
    lost: u32,
    /// The counter when the first of them was lost.
    lost_since: u64,
    /// Who runs, as the record of lost records has it.
    vcpu: u32,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// It was written, or counted as lost.
    Quietly,
    /// It was written, and the ring is half full from now on.
    HalfFull,
    /// Nothing can be written: the reader's offset cannot be true.
    Nothing {
        /// That offset.
        cons: u32,
    },
}

const HEAD: u32 = size_of::<TBuf>() as u32;

impl Ring {
    /// An empty ring in zeroed pages, at least one.
    pub fn new(pages: Vec<Mfn>) -> Self {
        let size = (pages.len() as u32 * PAGE_SIZE as u32).saturating_sub(HEAD);
        Self { pages, size, prod: 0, lost: 0, lost_since: 0, vcpu: 0 }
    }

    pub fn runs(&mut self, vcpu: u32) {
        self.vcpu = vcpu;
    }

    pub fn forget_lost(&mut self) {
        self.lost = 0;
    }

    /// Writes a record, after one about those that were lost before.
    pub fn write(&mut self, machine: &dyn Machine, record: &Record) -> Written {
        let Some(cons) = at(&self.pages, offset_of!(TBuf, cons) as u32).map(|at| machine.load_u32(at)) else { return Written::Quietly };
        let Some(used) = self.used(cons) else { return Written::Nothing { cons } };
        let lost = (self.lost > 0).then(|| self.lost_record(machine));
        let mut end = self.prod;
        lost.iter().chain([record]).for_each(|record| end = self.after(end, record.size()));
        let needed = self.distance(self.prod, end);
        if needed > self.size - used {
            if self.lost == 0 {
                self.lost_since = machine.ticks();
            }
            self.lost = self.lost.saturating_add(1);
            return Written::Quietly;
        }
        if let Some(lost) = lost {
            self.append(machine, &lost);
            self.lost = 0;
        }
        self.append(machine, record);
        if let Some(prod) = at(&self.pages, offset_of!(TBuf, prod) as u32) {
            machine.store_u32(prod, self.prod);
        }
        let half = self.size / 2;
        if used < half && used + needed >= half { Written::HalfFull } else { Written::Quietly }
    }

    /// Bytes that the reader has not taken, if it can be as far as it says.
    fn used(&self, cons: u32) -> Option<u32> {
        let used = self.distance(cons, self.prod);
        (cons < 2 * self.size && cons.is_multiple_of(4) && used <= self.size).then_some(used)
    }

    fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { to.wrapping_sub(from).wrapping_add(2 * self.size) }
    }

    /// Bytes from an offset to where the ring begins anew.
    fn to_wrap(&self, offset: u32) -> u32 {
        self.size - offset % self.size
    }

    fn forth(&self, offset: u32, by: u32) -> u32 {
        (offset + by) % (2 * self.size)
    }

    /// Where a record of `size` bytes ends that is written at `offset`, after a filler if need be.
    fn after(&self, offset: u32, size: u32) -> u32 {
        let filler = if size > self.to_wrap(offset) { self.to_wrap(offset) } else { 0 };
        self.forth(offset, filler + size)
    }

    fn lost_record(&self, machine: &dyn Machine) -> Record {
        let since = self.lost_since;
        Record::new(TRC_LOST_RECORDS, Some(machine.ticks()), &[self.lost, self.vcpu, since as u32, (since >> 32) as u32])
    }

    /// There is room.
    fn append(&mut self, machine: &dyn Machine, record: &Record) {
        let to_wrap = self.to_wrap(self.prod);
        if record.size() > to_wrap {
            self.put(machine, &Record::filler(TRC_TRACE_WRAP_BUFFER, to_wrap));
        }
        self.put(machine, record);
    }

    fn put(&mut self, machine: &dyn Machine, record: &Record) {
        let start = HEAD + self.prod % self.size;
        for (n, word) in (0..).step_by(4).zip(record.bytes().as_chunks::<4>().0) {
            if let Some(at) = at(&self.pages, start + n) {
                machine.store_u32(at, u32::from_le_bytes(*word));
            }
        }
        self.prod = self.forth(self.prod, record.size());
    }
}
