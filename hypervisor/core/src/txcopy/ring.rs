//! The ring: what the receiver and the hypervisor share.
//!
//! The receiver may write anything into it at any time. So the hypervisor keeps its own counts, decides by words that it reads once, and
//! believes `posted` only as far as it can be true.
//!
//! Ordering. The receiver writes slots, then `posted` (release); we load `posted` (acquire), then slots. We write slots and buffers, then
//! `completed` (release), once for each step of sending. Two decisions need more, since each side writes one word and then reads the
//! other's: we publish `completed` and look at `event_at`, the receiver writes `event_at` and looks at `completed`; we set `SENDER_WAITS`
//! and look at `posted`, the receiver publishes `posted` and looks at the flag. Each side puts a full barrier between the two, so that at
//! least one sees the other's word.

use super::{GuestPage, Pages};
use crate::addr::{Gfn, Ipa, MachineAddr, Mfn, PAGE_SIZE};
use crate::atomic::{AtomicU64, fence};
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use guest_abi::txcopy::{PacketHeader, RING_SENDER_WAITS, RingHeader, SLOT_MORE, Slot, TXCOPY_MIN_BUFFER};

/// Words of a slot.
const SLOT_WORDS: usize = size_of::<Slot>() / 8;
/// Slots of a page.
const SLOTS_PER_PAGE: u32 = (PAGE_SIZE / size_of::<Slot>() as u64) as u32;
/// Pairs of counts that are one word of the header: the receiver's `posted` and `event_at`, our `completed` and `flags`.
pub(super) const THEIRS: usize = offset_of!(RingHeader, posted) / 8;
pub(super) const OURS: usize = offset_of!(RingHeader, completed) / 8;
const _: () = assert!(offset_of!(RingHeader, event_at) == 8 * THEIRS + 4 && offset_of!(RingHeader, flags) == 8 * OURS + 4);

/// A ring: its pages, each referenced, and how far it is.
pub struct Ring {
    header: GuestPage,
    pages: Vec<GuestPage>,
    /// Slots, a power of two.
    slots: u32,
    /// Slots posted, as last seen.
    posted: u32,
    /// Slots that hold a packet, a part of one, or nothing usable: what is given back to the receiver when it is published.
    completed: u32,
    /// The sender waits for buffers.
    sender_waits: bool,
}

/// The receiver's `posted` cannot be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

/// Why a slot cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unusable;

/// A posted buffer, its page held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub at: MachineAddr,
    pub size: u32,
}

impl Ring {
    /// A ring in these pages of slots, a power of two of them and few enough for the ABI. Clears the header.
    pub fn new(header: GuestPage, pages: Vec<GuestPage>) -> Self {
        header.words.iter().take(size_of::<RingHeader>() / 8).for_each(|word| word.store(0, Ordering::Relaxed));
        let slots = pages.len() as u32 * SLOTS_PER_PAGE;
        Self { header, pages, slots, posted: 0, completed: 0, sender_waits: false }
    }

    /// All its pages.
    pub fn pages(&self) -> impl Iterator<Item = Mfn> {
        core::iter::once(&self.header).chain(&self.pages).map(GuestPage::mfn)
    }

    /// Slots that hold a buffer, as last seen.
    #[inline]
    pub(super) fn available(&self) -> u32 {
        self.posted.wrapping_sub(self.completed)
    }

    /// Slots completed since the ring was made.
    pub(super) fn completed(&self) -> u32 {
        self.completed
    }

    /// Looks how many slots are posted now; whether it is more than `known`.
    pub(super) fn look(&mut self, known: u32) -> Result<bool, Broken> {
        let posted = self.header.words[THEIRS].load(Ordering::Acquire) as u32;
        if posted.wrapping_sub(self.completed) > self.slots {
            return Err(Broken);
        }
        self.posted = posted;
        Ok(self.available() > known)
    }

    /// Reads slot `index` after the last completed one, once, and holds its buffer.
    #[inline]
    pub(super) fn hold_buffer(&self, receiver: &impl Pages, index: u32) -> Result<Buffer, Unusable> {
        let [addr, size, ..] = self.slot(index).ok_or(Unusable)?;
        let buffer = Ipa(addr.load(Ordering::Relaxed));
        let size = size.load(Ordering::Relaxed) as u32;
        if size < TXCOPY_MIN_BUFFER || u64::from(size) > PAGE_SIZE - buffer.page_offset() {
            return Err(Unusable);
        }
        let mfn = receiver.hold(Gfn::containing(buffer), true).ok_or(Unusable)?;
        Ok(Buffer { at: MachineAddr(mfn.address().0 + buffer.page_offset()), size })
    }

    /// Writes into slot `index` after the last completed one that it has `len` bytes of a packet: `packet` in its first slot.
    #[inline]
    pub(super) fn fill(&self, index: u32, len: u32, packet: Option<&PacketHeader>, more: bool) {
        let Some([_, size, total, segments]) = self.slot(index) else { return };
        // `addr` stays, and `size`: what is written back is the receiver's own.
        let kept = size.load(Ordering::Relaxed) as u32;
        size.store(words(kept, len), Ordering::Relaxed);
        let flags = if more { SLOT_MORE } else { 0 };
        let (first, second) = packet.map_or((words(0, flags.into()), 0), |p| {
            let described = u64::from(p.len) | u64::from(p.flags | flags) << 32 | u64::from(p.csum_start) << 48;
            (described, u64::from(p.csum_offset) | u64::from(p.gso_size) << 16 | u64::from(p.gso_type) << 32)
        });
        total.store(first, Ordering::Relaxed);
        segments.store(second, Ordering::Relaxed);
    }

    /// `count` more slots are done; the receiver learns it when they are [published](Self::publish).
    #[inline]
    pub(super) fn complete(&mut self, count: u32) {
        self.completed = self.completed.wrapping_add(count);
    }

    /// Gives the completed slots back.
    #[inline]
    pub(super) fn publish(&self) {
        let flags = if self.sender_waits { RING_SENDER_WAITS } else { 0 };
        self.header.words[OURS].store(words(self.completed, flags), Ordering::Release);
    }

    /// Whether the receiver wants an event for what was completed since `before`. After publishing that.
    #[inline]
    pub(super) fn wants_event(&self, before: u32) -> bool {
        fence(Ordering::SeqCst);
        let event_at = (self.header.words[THEIRS].load(Ordering::Relaxed) >> 32) as u32;
        self.completed.wrapping_sub(event_at).wrapping_sub(1) < self.completed.wrapping_sub(before)
    }

    /// Whether the sender waits for buffers.
    pub(super) fn sender_waits(&self) -> bool {
        self.sender_waits
    }

    /// Tells the receiver whether the sender waits for buffers, and gives the completed slots back.
    pub(super) fn set_sender_waits(&mut self, waits: bool) {
        self.sender_waits = waits;
        self.publish();
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&'static [AtomicU64; SLOT_WORDS]> {
        let number = self.completed.wrapping_add(index) & self.slots.wrapping_sub(1);
        let page = self.pages.get((number / SLOTS_PER_PAGE) as usize)?;
        page.words.as_chunks().0.get((number % SLOTS_PER_PAGE) as usize)
    }
}

/// Two fields of 32 bits that follow each other.
pub(super) fn words(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
