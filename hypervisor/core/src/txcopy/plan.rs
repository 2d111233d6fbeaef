//! One packet: from where to where. Complete, with every page held, before a byte moves.

use super::Pages;
use super::attachment::{Batch, Record};
use super::ring::{Broken, Buffer, Ring};
use crate::addr::{Gfn, Ipa, MachineAddr, Mfn, PAGE_SIZE};
use crate::machine::Machine;
use guest_abi::errno::Errno;
use guest_abi::txcopy::{PacketHeader, Piece, TXCOPY_MAX_PACKET, TXCOPY_MAX_PIECES, TXCOPY_MIN_BUFFER};

/// Pages that the pieces of a packet lie in at most: each piece may begin and end within a page.
const MAX_SOURCES: usize = (2 * TXCOPY_MAX_PIECES + TXCOPY_MAX_PACKET / PAGE_SIZE as u32) as usize;
/// Buffers that a packet takes at most.
const MAX_TARGETS: usize = TXCOPY_MAX_PACKET.div_ceil(TXCOPY_MIN_BUFFER) as usize;

/// Bytes within one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Span {
    at: MachineAddr,
    len: u32,
}

/// Where the bytes of a packet are and where they go. Kept with the channel: making it costs more than a short packet.
pub(super) struct Plan {
    sources: Spans<MAX_SOURCES>,
    targets: Spans<MAX_TARGETS>,
}

/// Why there are no buffers for a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoBuffers {
    /// Not enough are posted.
    TooFew,
    /// After this many good ones comes one that cannot be used.
    UnusableAfter(u32),
    /// The ring's counts are wrong.
    Broken,
}

impl From<Broken> for NoBuffers {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl Plan {
    pub fn new() -> Self {
        Self { sources: Spans::new(), targets: Spans::new() }
    }

    /// Holds the pages of all pieces of a record. On an error nothing is held.
    pub fn hold_sources(&mut self, sender: &impl Pages, batch: &Batch, record: &Record) -> Result<(), Errno> {
        let held = batch.pieces(record, |piece| self.hold_piece(sender, piece));
        if held.is_err() {
            self.sources.release(sender);
        }
        held
    }

    fn hold_piece(&mut self, sender: &impl Pages, piece: Piece) -> Result<(), Errno> {
        // The last byte has an address: no page number wraps.
        piece.addr.checked_add(u64::from(piece.len) - 1).ok_or(Errno::EINVAL)?;
        let mut at = Ipa(piece.addr);
        let mut left = piece.len;
        while left > 0 {
            let len = left.min((PAGE_SIZE - at.page_offset()) as u32);
            let mfn = sender.hold(Gfn::containing(at), false).ok_or(Errno::EFAULT)?;
            let span = Span { at: MachineAddr(mfn.address().0 + at.page_offset()), len };
            if !self.sources.push(span) {
                sender.put(mfn);
                return Err(Errno::EINVAL);
            }
            at = Ipa(at.0.wrapping_add(len.into()));
            left -= len;
        }
        Ok(())
    }

    /// Holds as many buffers from the head of the ring as `len` bytes take. On an error none is held.
    pub fn hold_targets(&mut self, receiver: &impl Pages, ring: &mut Ring, len: u32) -> Result<(), NoBuffers> {
        let held = self.hold_buffers(receiver, ring, len);
        if held.is_err() {
            self.targets.release(receiver);
        }
        held
    }

    fn hold_buffers(&mut self, receiver: &impl Pages, ring: &mut Ring, len: u32) -> Result<(), NoBuffers> {
        let mut left = len;
        let mut index = 0;
        while left > 0 {
            if index >= ring.available() && !ring.look(index)? {
                return Err(NoBuffers::TooFew);
            }
            let Buffer { at, size } = ring.hold_buffer(receiver, index).map_err(|_| NoBuffers::UnusableAfter(index))?;
            let len = left.min(size);
            if !self.targets.push(Span { at, len }) {
                receiver.put(Mfn::containing(at));
                return Err(NoBuffers::TooFew);
            }
            left -= len;
            index += 1;
        }
        Ok(())
    }

    /// Copies the packet, which both sides hold in the same length.
    pub fn copy(&self, machine: &dyn Machine) {
        let mut targets = self.targets.iter();
        let mut to = Span::default();
        for source in self.sources.iter() {
            let mut from = *source;
            while from.len > 0 {
                if to.len == 0 {
                    let Some(next) = targets.next() else { return };
                    to = *next;
                }
                let len = from.len.min(to.len);
                machine.copy(from.at, to.at, len as usize);
                from = from.after(len);
                to = to.after(len);
            }
        }
    }

    /// Describes the packet in its slots. How many they are.
    pub fn describe(&self, ring: &Ring, header: &PacketHeader) -> u32 {
        let count = self.targets.len;
        for (index, span) in (0..count).zip(self.targets.iter()) {
            ring.fill(index, span.len, (index == 0).then_some(header), index + 1 < count);
        }
        count
    }

    /// Lets go of all pages.
    pub fn release(&mut self, sender: &impl Pages, receiver: &impl Pages) {
        self.sources.release(sender);
        self.targets.release(receiver);
    }
}

impl Span {
    /// What is left after `len` bytes of it.
    fn after(self, len: u32) -> Self {
        Self { at: MachineAddr(self.at.0 + u64::from(len)), len: self.len - len }
    }
}

/// A list of spans, each of which holds a reference to its page.
struct Spans<const N: usize> {
    spans: [Span; N],
    len: u32,
}

impl<const N: usize> Spans<N> {
    fn new() -> Self {
        Self { spans: [Span::default(); N], len: 0 }
    }

    /// Whether there was a place for it.
    fn push(&mut self, span: Span) -> bool {
        let Some(place) = self.spans.get_mut(self.len as usize) else { return false };
        *place = span;
        self.len += 1;
        true
    }

    fn iter(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().take(self.len as usize)
    }

    fn release(&mut self, pages: &impl Pages) {
        self.iter().for_each(|span| pages.put(Mfn::containing(span.at)));
        self.len = 0;
    }
}
