//! A channel: taking packets, one after the other, until the batch, the room or the budget ends.

use super::Pages;
use super::attachment::{Batch, Record};
use super::plan::{NoBuffers, Plan};
use super::ring::Ring;
use crate::addr::{Gfn, MachineAddr, Mfn, PAGE_SIZE};
use crate::machine::Machine;
use crate::preempt::steps;
use guest_abi::errno::Errno;

/// What a packet, or a slot, costs apart from its bytes, in bytes copied.
const FIXED_COST: u32 = 512;
/// Work done before the sender may take an interrupt, in empty packets; the packet that reaches it is finished.
const BUDGET: u32 = (64 << 10) / FIXED_COST;

/// One channel, under its lock.
pub struct Channel<P> {
    pub(super) sender: P,
    pub(super) attached: Option<Attached>,
    pub(super) ring: Ring,
    port: u32,
    /// The receiver wrote what cannot be true; nothing is sent any more.
    broken: bool,
    counters: Counters,
    plan: Plan,
}

/// What a channel knows of its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The port there that is raised when there is room again, or the channel has ended.
    pub port: u32,
}

/// What happened since the channel was made: as the ABI's `Stats`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "documented in guest_abi::txcopy::Stats")]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    pub batches: u64,
    pub full: u64,
    pub notified: u64,
    pub suppressed: u64,
    pub refused: u64,
    pub unusable: u64,
    pub woken: u64,
}

/// Why a step of sending ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All packets were taken.
    Done,
    /// The budget is used up; there are more packets.
    Budget,
    /// The next packet was not taken.
    Refused(Errno),
}

/// What a step of sending did.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Packets taken in this step.
    pub taken: u32,
    /// Why it ended.
    pub end: End,
    /// The receiver's port that is to be raised.
    pub notify: Option<u32>,
}

/// Why one packet was not taken.
enum Stop {
    Refused(Errno),
    NoBuffers(NoBuffers),
}

impl<P> Channel<P> {
    pub(super) fn new(sender: P, port: u32, ring: Ring) -> Self {
        let counters = Counters::default();
        Self { sender, attached: None, ring, port, broken: false, counters, plan: Plan::new() }
    }

    /// Its counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Who may send on it.
    pub fn sender(&self) -> &P {
        &self.sender
    }

    /// Whether there is a sender.
    pub fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// The pages of its ring.
    pub fn pages(&self) -> impl Iterator<Item = Mfn> {
        self.ring.pages()
    }

    /// There are new buffers: the sender's port, if it waits for them.
    pub fn posted(&mut self) -> Option<u32> {
        if !self.ring.sender_waits() {
            return None;
        }
        self.ring.set_sender_waits(false);
        self.counters.woken += 1;
        self.attached.map(|a| a.port)
    }

    /// The sender has gone.
    pub(super) fn detach(&mut self) {
        self.attached = None;
        self.stop_waiting();
    }

    /// A new batch begins.
    pub fn begin_batch(&mut self) {
        self.counters.batches += 1;
    }

    /// Takes packets. `want_space`: if one finds no room, [`Self::posted`] will name the sender's port.
    pub fn send(&mut self, machine: &dyn Machine, sender: &impl Pages, receiver: &impl Pages, batch: &mut Batch, want_space: bool) -> Sent {
        let before = self.ring.completed();
        let mut taken = 0;
        let mut work: u32 = 0;
        let end = loop {
            if batch.is_done() {
                break End::Done;
            }
            if work >= steps(BUDGET) * FIXED_COST {
                break End::Budget;
            }
            work += FIXED_COST;
            match self.take(machine, sender, receiver, batch) {
                Ok(len) => {
                    taken += 1;
                    work += len;
                }
                Err(Stop::NoBuffers(NoBuffers::UnusableAfter(good))) => {
                    work += FIXED_COST * good;
                    self.give_back(good + 1);
                }
                Err(Stop::NoBuffers(NoBuffers::TooFew)) => match self.wait(want_space) {
                    Ok(true) => {}
                    Ok(false) => break End::Refused(Errno::EAGAIN),
                    Err(errno) => break End::Refused(errno),
                },
                Err(Stop::NoBuffers(NoBuffers::Broken)) => break End::Refused(self.give_up()),
                Err(Stop::Refused(errno)) => {
                    self.counters.refused += 1;
                    break End::Refused(errno);
                }
            }
        };
        Sent { taken, end, notify: self.publish(before) }
    }

    /// Takes the next packet whole, or leaves no trace. Its length.
    fn take(&mut self, machine: &dyn Machine, sender: &impl Pages, receiver: &impl Pages, batch: &mut Batch) -> Result<u32, Stop> {
        if self.broken {
            return Err(Stop::NoBuffers(NoBuffers::Broken));
        }
        let record = batch.record().map_err(Stop::Refused)?;
        let len = record.header.len;
        let slots = match self.take_short(machine, sender, receiver, batch, &record) {
            true => 1,
            false => self.take_any(machine, sender, receiver, batch, &record)?,
        };
        self.ring.complete(slots);
        batch.advance(&record);
        self.counters.packets += 1;
        self.counters.bytes += u64::from(len);
        Ok(len)
    }

    /// Copies the most common packet, one piece within a page that one buffer takes, without a plan. `false`: it is another, or something
    /// is amiss; nothing was done, and what was read is read again and judged anew.
    #[inline]
    fn take_short(&mut self, machine: &dyn Machine, sender: &impl Pages, receiver: &impl Pages, batch: &Batch, record: &Record) -> bool {
        let Some(from) = batch.only_piece(record) else { return false };
        let len = record.header.len;
        if u64::from(len) > PAGE_SIZE - from.page_offset() || self.ring.available() == 0 {
            return false;
        }
        let Some(source) = sender.hold(Gfn::containing(from), false) else { return false };
        let target = self.ring.hold_buffer(receiver, 0);
        let fits = target.is_ok_and(|buffer| len <= buffer.size);
        if let Ok(buffer) = target {
            if fits {
                machine.copy(MachineAddr(source.address().0 + from.page_offset()), buffer.at, len as usize);
                self.ring.fill(0, len, Some(&record.header), false);
            }
            receiver.put(Mfn::containing(buffer.at));
        }
        sender.put(source);
        fits
    }

    /// Copies any packet by a plan. How many slots it took.
    #[inline(never)]
    fn take_any(
        &mut self,
        machine: &dyn Machine,
        sender: &impl Pages,
        receiver: &impl Pages,
        batch: &Batch,
        record: &Record,
    ) -> Result<u32, Stop> {
        self.plan.hold_sources(sender, batch, record).map_err(Stop::Refused)?;
        if let Err(why) = self.plan.hold_targets(receiver, &mut self.ring, record.header.len) {
            self.plan.release(sender, receiver);
            return Err(Stop::NoBuffers(why));
        }
        self.plan.copy(machine);
        let slots = self.plan.describe(&self.ring, &record.header);
        self.plan.release(sender, receiver);
        Ok(slots)
    }

    /// Completes slots without a packet in them.
    fn give_back(&mut self, count: u32) {
        (0..count).for_each(|index| self.ring.fill(index, 0, None, false));
        self.ring.complete(count);
        self.counters.unusable += u64::from(count);
    }

    /// There is no room for a packet. Whether there is more by now, after the receiver was asked to say so.
    fn wait(&mut self, want_space: bool) -> Result<bool, Errno> {
        if want_space {
            self.ring.set_sender_waits(true);
            match self.ring.look(self.ring.available()) {
                Ok(false) => {}
                Ok(true) => {
                    self.stop_waiting();
                    return Ok(true);
                }
                Err(_) => return Err(self.give_up()),
            }
        }
        self.counters.full += 1;
        Ok(false)
    }

    fn stop_waiting(&mut self) {
        if self.ring.sender_waits() {
            self.ring.set_sender_waits(false);
        }
    }

    fn give_up(&mut self) -> Errno {
        self.broken = true;
        Errno::EPIPE
    }

    /// Gives the receiver what was completed since `before`. Its port, if it wants an event for that.
    fn publish(&mut self, before: u32) -> Option<u32> {
        if self.ring.completed() == before {
            return None;
        }
        self.ring.publish();
        let wanted = self.ring.wants_event(before);
        *(if wanted { &mut self.counters.notified } else { &mut self.counters.suppressed }) += 1;
        wanted.then_some(self.port)
    }
}
