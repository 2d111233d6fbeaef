//! The sender's side: its page of packet records, of which every word is read once, by value.

use crate::addr::{MachineAddr, Mfn};
use crate::machine::Machine;
use guest_abi::errno::Errno;
use guest_abi::txcopy as abi;
use guest_abi::txcopy::{PacketHeader, Piece, TXCOPY_MAX_PACKET, TXCOPY_MAX_PIECES};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// How a domain sends on a channel.
pub struct Attachment<P> {
    /// The receiver.
    pub receiver: P,
    /// The channel's number there.
    pub channel: u32,
    /// Which of the channels that had this number.
    pub generation: u64,
    /// The page of packet records, referenced.
    pub batch: Mfn,
}

/// The records of one call and how far it is.
pub struct Batch<'a> {
    machine: &'a dyn Machine,
    page: MachineAddr,
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
    pub fn end(&self) -> u32 {
        self.pieces_at + u32::from(self.header.pieces) * size_of::<Piece>() as u32
    }
}

impl<'a> Batch<'a> {
    /// `bytes` of records in the page, to be continued at `offset`: multiples of 16, in the page.
    pub fn new(machine: &'a dyn Machine, page: Mfn, bytes: u32, offset: u32) -> Self {
        Self { machine, page: page.address(), bytes, offset }
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
    pub(super) fn record(&self) -> Result<Record, Errno> {
        let header: PacketHeader = self.read(self.offset)?;
        let record = Record { header, pieces_at: self.offset + size_of::<PacketHeader>() as u32 };
        let few = (1..=TXCOPY_MAX_PIECES).contains(&header.pieces.into());
        if few && record.end() <= self.bytes && is_right(&header) { Ok(record) } else { Err(Errno::EINVAL) }
    }

    /// The pieces of a record, as far as they are right, and at the end whether they make up the packet.
    pub(super) fn pieces(&self, record: &Record) -> impl Iterator<Item = Result<Piece, Errno>> {
        let mut left = record.header.len;
        (0..u32::from(record.header.pieces)).map(move |n| {
            let piece: Piece = self.read(record.pieces_at + n * size_of::<Piece>() as u32)?;
            let is_last = n + 1 == u32::from(record.header.pieces);
            if piece.len == 0 || piece.len > left || piece._pad != 0 || (is_last && piece.len != left) {
                return Err(Errno::EINVAL);
            }
            left -= piece.len;
            Ok(piece)
        })
    }

    fn read<T: FromBytes + FromZeros + IntoBytes>(&self, offset: u32) -> Result<T, Errno> {
        if offset.checked_add(size_of::<T>() as u32).is_none_or(|end| end > self.bytes) {
            return Err(Errno::EINVAL);
        }
        let mut value = T::new_zeroed();
        self.machine.read(MachineAddr(self.page.0 + u64::from(offset)), value.as_mut_bytes());
        Ok(value)
    }
}

/// Whether the metadata of a packet is what a receiver may rely on.
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
