//! The ring: what the receiver and the hypervisor share.
//!
//! The receiver may write anything into it at any time. So the hypervisor keeps its own counts, reads a slot once, and believes `posted`
//! only as far as it can be true.
//!
//! Ordering. The receiver writes slots, then `posted` (release); we load `posted` (acquire), then slots. We write slots and buffers, then
//! `completed` (release). Two decisions need more, since each side writes one word and then reads the other's: we publish `completed` and
//! look at `event_at`, the receiver writes `event_at` and looks at `completed`; we set `SENDER_WAITS` and look at `posted`, the receiver
//! publishes `posted` and looks at the flag. Each side puts a full barrier between the two, so that at least one sees the other's word.

use super::Pages;
use crate::addr::{Gfn, Ipa, MachineAddr, Mfn, PAGE_SIZE};
use crate::machine::Machine;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};
use guest_abi::txcopy::{RING_SENDER_WAITS, RingHeader, Slot, TXCOPY_MIN_BUFFER};
use zerocopy::IntoBytes;

/// Slots of a page.
const SLOTS_PER_PAGE: u32 = (PAGE_SIZE / size_of::<Slot>() as u64) as u32;

/// A ring: its pages, each referenced, and how far it is.
pub struct Ring {
    header: Mfn,
    pages: Vec<Mfn>,
    /// Slots, a power of two.
    slots: u32,
    /// Slots posted, as last seen.
    posted: u32,
    /// Slots given back to the receiver.
    completed: u32,
}

/// The receiver's `posted` cannot be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

/// Why a slot cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unusable;

impl Ring {
    /// A ring in these pages of slots, a power of two of them and few enough for the ABI. Clears the header.
    pub fn new(machine: &dyn Machine, header: Mfn, pages: Vec<Mfn>) -> Self {
        machine.zero(header.address(), size_of::<RingHeader>());
        let slots = pages.len() as u32 * SLOTS_PER_PAGE;
        Self { header, pages, slots, posted: 0, completed: 0 }
    }

    /// All its pages.
    pub fn pages(&self) -> impl Iterator<Item = Mfn> {
        core::iter::once(self.header).chain(self.pages.iter().copied())
    }

    /// Slots that hold a buffer, as last seen.
    pub(super) fn available(&self) -> u32 {
        self.posted.wrapping_sub(self.completed)
    }

    /// Slots given back since the ring was made.
    pub(super) fn completed(&self) -> u32 {
        self.completed
    }

    /// Looks how many slots are posted now; whether it is more than `known`.
    pub(super) fn look(&mut self, machine: &dyn Machine, known: u32) -> Result<bool, Broken> {
        let posted = machine.load_u32(self.field(offset_of!(RingHeader, posted)));
        if posted.wrapping_sub(self.completed) > self.slots {
            return Err(Broken);
        }
        self.posted = posted;
        Ok(self.available() > known)
    }

    /// Reads slot `index` after the last completed one, once, and holds its buffer: where it is, and its size.
    pub(super) fn hold_buffer(&self, machine: &dyn Machine, receiver: &impl Pages, index: u32) -> Result<(MachineAddr, u32), Unusable> {
        let at = self.slot(index).ok_or(Unusable)?;
        let buffer = Ipa(machine.load_u64(MachineAddr(at.0 + offset_of!(Slot, addr) as u64)));
        let size = machine.load_u32(MachineAddr(at.0 + offset_of!(Slot, size) as u64));
        if size < TXCOPY_MIN_BUFFER || u64::from(size) > PAGE_SIZE - buffer.page_offset() {
            return Err(Unusable);
        }
        let mfn = receiver.hold(Gfn::containing(buffer), true).ok_or(Unusable)?;
        Ok((MachineAddr(mfn.address().0 + buffer.page_offset()), size))
    }

    /// Writes what the hypervisor has to say in slot `index` after the last completed one; `addr` and `size` stay.
    pub(super) fn fill(&self, machine: &dyn Machine, index: u32, slot: &Slot) {
        const OURS: usize = offset_of!(Slot, len);
        if let (Some(at), Some(bytes)) = (self.slot(index), slot.as_bytes().get(OURS..)) {
            machine.write(MachineAddr(at.0 + OURS as u64), bytes);
        }
    }

    /// Gives `count` slots back.
    pub(super) fn publish(&mut self, machine: &dyn Machine, count: u32) {
        self.completed = self.completed.wrapping_add(count);
        machine.store_u32(self.field(offset_of!(RingHeader, completed)), self.completed);
    }

    /// Whether the receiver wants an event for what was completed since `before`.
    pub(super) fn wants_event(&self, machine: &dyn Machine, before: u32) -> bool {
        fence(Ordering::SeqCst);
        let event_at = machine.load_u32(self.field(offset_of!(RingHeader, event_at)));
        self.completed.wrapping_sub(event_at).wrapping_sub(1) < self.completed.wrapping_sub(before)
    }

    /// Tells the receiver whether the sender waits for buffers.
    pub(super) fn set_sender_waits(&self, machine: &dyn Machine, waits: bool) {
        machine.store_u32(self.field(offset_of!(RingHeader, flags)), if waits { RING_SENDER_WAITS } else { 0 });
        fence(Ordering::SeqCst);
    }

    fn field(&self, offset: usize) -> MachineAddr {
        MachineAddr(self.header.address().0 + offset as u64)
    }

    fn slot(&self, index: u32) -> Option<MachineAddr> {
        let number = self.completed.wrapping_add(index) & (self.slots - 1);
        let page = self.pages.get((number / SLOTS_PER_PAGE) as usize)?;
        Some(MachineAddr(page.address().0 + u64::from(number % SLOTS_PER_PAGE) * size_of::<Slot>() as u64))
    }
}
