//! The FIFO ABI: one word per port in an event array of guest pages, and per vCPU 16 queues, one for each priority.
//!
//! Xen public header `event_channel.h`, section FIFO ABI. A queue is a singly linked list through the LINK fields of the words: the guest
//! takes events off its head, the hypervisor appends after a tail that it remembers itself. Nothing that the guest wrote is ever used as
//! an index: of a word only the flag bits are looked at, and LINK is only written.

use super::port::Channel;
use super::{Edge, EventError};
use crate::addr::MachineAddr;
use crate::machine::Machine;
use alloc::vec::Vec;
use core::mem::offset_of;
use guest_abi::shared_info as abi;

/// Bits of the LINK field, told to the guest by `EVTCHNOP_init_control`.
pub const LINK_BITS: u8 = abi::EVTCHN_FIFO_LINK_BITS as u8;
pub(super) use abi::EVTCHN_FIFO_NR_CHANNELS as PORTS;
pub(super) const PRIORITY_DEFAULT: u8 = abi::EVTCHN_FIFO_PRIORITY_DEFAULT as u8;
/// The largest number.
pub(super) const PRIORITY_MIN: u8 = abi::EVTCHN_FIFO_PRIORITY_MIN as u8;
const QUEUES: usize = abi::EVTCHN_FIFO_MAX_QUEUES as usize;

const PENDING: u32 = 1 << abi::EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << abi::EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << abi::EVTCHN_FIFO_LINKED;
const BUSY: u32 = 1 << abi::EVTCHN_FIFO_BUSY;
const LINK_MASK: u32 = abi::EVTCHN_FIFO_LINK_MASK;

/// Event words in an array page.
const WORDS_PER_PAGE: u32 = 1024;
/// Array pages that hold [`PORTS`] words.
const MAX_PAGES: usize = (PORTS / WORDS_PER_PAGE) as usize;
pub(super) const CONTROL_BLOCK_SIZE: u32 = size_of::<abi::FifoControlBlock>() as u32;
const CONTROL_HEAD: u64 = offset_of!(abi::FifoControlBlock, head) as u64;

/// Attempts to write the link of a tail whose word the guest keeps changing, after which the guest has lost the event.
const LINK_ATTEMPTS: usize = 4;

/// The event array and queues of one domain.
#[derive(Debug)]
pub(super) struct Fifo {
    /// Pages of the event array, in order. Never reallocated: room for all is made at the start.
    pages: Vec<MachineAddr>,
    /// One per vCPU.
    queues: Vec<Queues>,
}

/// The queues of one vCPU.
#[derive(Clone, Debug)]
struct Queues {
    /// Where the control block is.
    control: Option<MachineAddr>,
    /// The port last linked on each queue; 0 if none, or if it has since been linked elsewhere.
    tails: [u32; QUEUES],
    /// An event could not be linked for want of a control block.
    missed: bool,
}

impl Fifo {
    /// No array pages, and no control block for any of `vcpus`.
    pub fn new(vcpus: usize) -> Result<Self, EventError> {
        let mut fifo = Self { pages: Vec::new(), queues: Vec::new() };
        fifo.pages.try_reserve_exact(MAX_PAGES).map_err(|_| EventError::NoMemory)?;
        fifo.queues.try_reserve_exact(vcpus).map_err(|_| EventError::NoMemory)?;
        fifo.queues.resize(vcpus, Queues { control: None, tails: [0; QUEUES], missed: false });
        Ok(fifo)
    }

    /// Whether `vcpu` has a control block.
    pub fn has_control(&self, vcpu: u8) -> bool {
        self.queues.get(usize::from(vcpu)).is_some_and(|q| q.control.is_some())
    }

    /// Gives `vcpu` its control block; whether events are waiting for it (see [`Self::link_missed`]).
    pub fn set_control(&mut self, vcpu: u8, control: MachineAddr) -> bool {
        let Some(queues) = self.queues.get_mut(usize::from(vcpu)) else { return false };
        queues.control = Some(control);
        core::mem::take(&mut queues.missed)
    }

    /// Whether the event array is complete.
    pub fn is_full(&self) -> bool {
        self.pages.len() >= MAX_PAGES
    }

    /// Appends a page to the event array; the ports that it holds.
    pub fn add_page(&mut self, page: MachineAddr) -> core::ops::Range<u32> {
        let first = self.pages.len() as u32 * WORDS_PER_PAGE;
        self.pages.push(page);
        first..first + WORDS_PER_PAGE
    }

    /// Every guest page in use: array pages, and the page of each control block (once per block).
    pub fn pages(&self) -> impl Iterator<Item = MachineAddr> {
        let controls = self.queues.iter().filter_map(|q| q.control);
        self.pages.iter().copied().chain(controls.map(|c| MachineAddr(c.0 - c.page_offset())))
    }

    /// Makes `port` pending and links it on the queue of its vCPU and priority.
    pub fn set_pending(&mut self, machine: &dyn Machine, port: u32, channel: &mut Channel) -> Edge {
        let Some(word) = self.word(port) else {
            channel.remembered = true;
            return Edge::NONE;
        };
        let old = machine.or_u32(word, PENDING);
        let signal = old & (MASKED | LINKED) == 0 && self.link(machine, port, word, channel);
        Edge { newly_pending: old & PENDING == 0, signal }
    }

    /// Unmasks `port`; whether its vCPU must be told of a pending event.
    pub fn unmask(&mut self, machine: &dyn Machine, port: u32, channel: &mut Channel) -> bool {
        let Some(word) = self.word(port) else { return false };
        let old = machine.and_u32(word, !MASKED);
        old & (PENDING | LINKED) == PENDING && self.link(machine, port, word, channel)
    }

    /// Links `port` if it is pending, unmasked and on no queue: its vCPU had no control block when it was raised.
    pub fn link_missed(&mut self, machine: &dyn Machine, port: u32, channel: &mut Channel) -> bool {
        let Some(word) = self.word(port) else { return false };
        machine.load_u32(word) & (PENDING | MASKED | LINKED) == PENDING && self.link(machine, port, word, channel)
    }

    /// Forgets a pending event. If the guest has it linked, it stays so until the guest takes it off.
    pub fn clear_pending(&self, machine: &dyn Machine, port: u32, channel: &mut Channel) {
        channel.remembered = false;
        if let Some(word) = self.word(port) {
            machine.and_u32(word, !PENDING);
        }
    }

    /// Whether `port` is pending, masked or not.
    pub fn is_pending(&self, machine: &dyn Machine, port: u32) -> bool {
        self.word(port).is_some_and(|word| machine.load_u32(word) & PENDING != 0)
    }

    /// Whether the event of a free port is still on a queue, so that the port cannot be used yet.
    pub fn is_busy(&self, machine: &dyn Machine, port: u32) -> bool {
        self.word(port).is_some_and(|word| machine.load_u32(word) & LINKED != 0)
    }

    /// The event word of `port`, if its page is there.
    fn word(&self, port: u32) -> Option<MachineAddr> {
        let page = self.pages.get((port / WORDS_PER_PAGE) as usize)?;
        Some(MachineAddr(page.0 + u64::from(port % WORDS_PER_PAGE) * 4))
    }

    /// Puts `port` at the end of its queue; whether the queue became ready, so that the guest must be told.
    fn link(&mut self, machine: &dyn Machine, port: u32, word: MachineAddr, channel: &mut Channel) -> bool {
        let Some(queues) = self.queues.get_mut(usize::from(channel.vcpu)) else { return false };
        let Some(control) = queues.control else {
            queues.missed = true;
            return false;
        };
        if machine.or_u32(word, LINKED) & LINKED != 0 {
            return false;
        }
        // The guest has taken the event off the queue it was on. If it was the tail there, that queue is empty, and appending to this
        // word would put the events of that queue on the new one.
        if let Some(last) = self.tail_mut(channel.last_vcpu, channel.last_priority)
            && *last == port
        {
            *last = 0;
        }
        (channel.last_vcpu, channel.last_priority) = (channel.vcpu, channel.priority);

        let Some(tail) = self.tail_mut(channel.vcpu, channel.priority) else { return false };
        let previous = core::mem::replace(tail, port);
        if previous != 0 && self.word(previous).is_some_and(|word| append(machine, word, port)) {
            return false;
        }
        let ready = 1 << channel.priority;
        machine.store_u32(MachineAddr(control.0 + CONTROL_HEAD + u64::from(channel.priority) * 4), port);
        machine.or_u32(control, ready) & ready == 0
    }

    fn tail_mut(&mut self, vcpu: u8, priority: u8) -> Option<&mut u32> {
        self.queues.get_mut(usize::from(vcpu))?.tails.get_mut(usize::from(priority))
    }
}

/// Writes `next` into the LINK field of the queue's tail at `word`; false if the guest has taken the tail off: the queue is empty.
///
/// A guest that keeps changing the word is kept from unmasking by BUSY, and given up on after [`LINK_ATTEMPTS`]: then its queue ends
/// here and it has lost the event.
fn append(machine: &dyn Machine, word: MachineAddr, next: u32) -> bool {
    try_append(machine, word, next).unwrap_or_else(|| append_contended(machine, word, next))
}

#[cold]
fn append_contended(machine: &dyn Machine, word: MachineAddr, next: u32) -> bool {
    machine.or_u32(word, BUSY);
    let done = (0..LINK_ATTEMPTS).find_map(|_| try_append(machine, word, next));
    if done != Some(true) {
        machine.and_u32(word, !BUSY);
    }
    done.unwrap_or(true)
}

/// One attempt of [`append`]: `None` if the word changed meanwhile.
fn try_append(machine: &dyn Machine, word: MachineAddr, next: u32) -> Option<bool> {
    let old = machine.load_u32(word);
    if old & LINKED == 0 {
        return Some(false);
    }
    machine.cas_u32(word, old, old & !(BUSY | LINK_MASK) | next).ok().map(|_| true)
}
