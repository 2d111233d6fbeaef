//! The sender's side: its page of packet records, of which every word is read once, by value.

use super::GuestPage;
use crate::addr::Ipa;
use crate::machine::SharedPage;
use core::sync::atomic::Ordering;
use guest_abi::errno::Errno;
use guest_abi::txcopy as abi;
use guest_abi::txcopy::{PacketHeader, Piece, TXCOPY_MAX_PACKET, TXCOPY_MAX_PIECES};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a header and of a piece.
const UNIT: u32 = size_of::<PacketHeader>() as u32;
const _: () = assert!(size_of::<Piece>() as u32 == UNIT);

/// How a domain sends on a channel.
pub struct Attachment<P> {
    /// The receiver.
    pub receiver: P,
    /// The channel's number there.
    pub channel: u32,
    /// Which of the channels that had this number.
    pub generation: u64,
    /// The page of packet records, referenced.
    pub batch: GuestPage,
}

/// The records of one call and how far it is.
pub struct Batch {
    words: &'static SharedPage,
    bytes: u32,
    offset: u32,
}

/// The header of a record that is right as far as it can be seen without its pieces.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub header: PacketHeader,
    /// Where the first piece is.
    pieces_at: u32,
}

impl Record {
    /// Where the next record is.
    fn end(&self) -> u32 {
        self.pieces_at + u32::from(self.header.pieces) * UNIT
    }
}

impl Batch {
    /// `bytes` of records in the page, to be continued at `offset`: multiples of 16, in the page.
    pub fn new(page: GuestPage, bytes: u32, offset: u32) -> Self {
        Self { words: page.words, bytes, offset }
    }

    /// Bytes done.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Whether all records were taken.
    pub(super) fn is_done(&self) -> bool {
        self.offset >= self.bytes
    }

    /// Goes on to the next record.
    pub(super) fn advance(&mut self, record: &Record) {
        self.offset = record.end();
    }

    /// The next record.
    #[inline]
    pub(super) fn record(&self) -> Result<Record, Errno> {
        let header: PacketHeader = self.read(self.offset)?;
        let record = Record { header, pieces_at: self.offset + UNIT };
        let few = (1..=TXCOPY_MAX_PIECES).contains(&header.pieces.into());
        if few && record.end() <= self.bytes && is_right(&header) { Ok(record) } else { Err(Errno::EINVAL) }
    }

    /// Where the packet is, if it is one piece.
    #[inline]
    pub(super) fn only_piece(&self, record: &Record) -> Option<Ipa> {
        if record.header.pieces != 1 {
            return None;
        }
        let piece: Piece = self.read(record.pieces_at).ok()?;
        (piece.len == record.header.len && piece._pad == 0).then_some(Ipa(piece.addr))
    }

    /// Calls `each` with the pieces of a record, as far as they are right and make up the packet.
    #[inline]
    pub(super) fn pieces(&self, record: &Record, mut each: impl FnMut(Piece) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut left = record.header.len;
        let mut at = record.pieces_at;
        while at < record.end() {
            let piece: Piece = self.read(at)?;
            if piece.len == 0 || piece.len > left || piece._pad != 0 {
                return Err(Errno::EINVAL);
            }
            each(piece)?;
            left -= piece.len;
            at += UNIT;
        }
        if left == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// What is at `offset`, within the page.
    #[inline]
    fn read<T: FromBytes>(&self, offset: u32) -> Result<T, Errno> {
        let [low, high] = self.words.as_chunks::<2>().0.get((offset / UNIT) as usize).ok_or(Errno::EINVAL)?;
        let value = [low, high].map(|word| word.load(Ordering::Relaxed));
        T::read_from_bytes(value.as_bytes()).map_err(|_| Errno::EINVAL)
    }
}

/// Whether the metadata of a packet is what a receiver may rely on.
#[inline]
fn is_right(header: &PacketHeader) -> bool {
    let partial = header.flags & abi::PACKET_CSUM_PARTIAL != 0;
    let checksum_end = u32::from(header.csum_start) + u32::from(header.csum_offset) + 2;
    let segments = header.gso_type != abi::GSO_NONE;
    (1..=TXCOPY_MAX_PACKET).contains(&header.len)
        && header.flags & !(abi::PACKET_CSUM_PARTIAL | abi::PACKET_CSUM_VALID) == 0
        && header._pad == 0
        && header.gso_type <= abi::GSO_TCPV6
        && if partial { checksum_end <= header.len } else { header.csum_start == 0 && header.csum_offset == 0 && !segments }
        && segments == (header.gso_size != 0)
}
