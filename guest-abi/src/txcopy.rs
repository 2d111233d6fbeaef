//! Tx copy: a DomU hands packets to the hypervisor, which copies them into buffers that Dom0 posted on a ring. Xenolith's own hypercall;
//! the reasons are in `hypervisor/decisions/tx-copy.md`, the C form is `guest-abi/linux/xenolith-txcopy.h`.
//!
//! A *channel* goes one way. The receiver creates it: a ring of its own pages that only it and the hypervisor see, and one of its event
//! channel ports. The sender attaches to it: a page of its own in which it describes packets, and one of its ports.
//!
//! The hypercall is [`TXCOPY_OP`], sub-operation in x0. On a hypervisor without it the answer is `-ENOSYS`.

/// The hypercall's number: `__HYPERVISOR_arch_7`, which Xen does not use on Arm.
pub const TXCOPY_OP: u64 = 55;
/// The version of this interface.
pub const TXCOPY_VERSION: u32 = 1;

/// x1: [`Query`] to fill in. For every domain.
pub const TXCOPY_QUERY: u64 = 0;
/// x1: [`Create`]. Receiver: makes a channel. The ring's header is zeroed.
pub const TXCOPY_CREATE: u64 = 1;
/// x1: the channel's number. Receiver: ends a channel.
pub const TXCOPY_DESTROY: u64 = 2;
/// x1: [`Attach`]. Sender: takes up a channel.
pub const TXCOPY_ATTACH: u64 = 3;
/// x1: the handle of an attachment. Sender: lets it go.
pub const TXCOPY_DETACH: u64 = 4;
/// x1: handle; x2: bytes of [packet records](PacketHeader) in the batch page; x3: `TXCOPY_SEND_*`; x4: 0.
/// Returns how many packets were taken, from the first on, or an error if it was none: `-EAGAIN` without room now, `-EPIPE`
/// if the channel is gone or broken, `-EINVAL` and `-EFAULT` for what is described.
pub const TXCOPY_SEND: u64 = 5;
/// x1: the channel's number. Receiver: there are new buffers, and [`RING_SENDER_WAITS`] was set.
pub const TXCOPY_POSTED: u64 = 6;
/// x1: [`Stats`], with `channel` filled in. Receiver: counters of a channel.
pub const TXCOPY_STATS: u64 = 7;

/// `TXCOPY_SEND`: if the ring has no room for all packets, raise my port when there is more.
pub const TXCOPY_SEND_WANT_SPACE: u64 = 1 << 0;

/// Pieces of a packet at most.
pub const TXCOPY_MAX_PIECES: u32 = 24;
/// Bytes of a packet at most: a full IP packet with an Ethernet and a VLAN header.
pub const TXCOPY_MAX_PACKET: u32 = 65536 + 32;
/// Bytes of a buffer at least: a slot with less is completed unused. Bounds the slots that a packet takes.
pub const TXCOPY_MIN_BUFFER: u32 = 1024;
/// Pages of slots of a ring at most.
pub const TXCOPY_MAX_SLOT_PAGES: u32 = 32;
/// Channels that a receiver may have.
pub const TXCOPY_MAX_CHANNELS: u32 = 256;
/// Channels that a sender may be attached to.
pub const TXCOPY_MAX_ATTACHMENTS: u32 = 32;

wire! {
    /// What this hypervisor offers.
    Query, 32 bytes {
        /// Out: the highest version.
        0 => version: u32,
        /// Out: [`TXCOPY_MAX_SLOT_PAGES`].
        4 => max_slot_pages: u32,
        /// Out: [`TXCOPY_MAX_PIECES`].
        8 => max_pieces: u32,
        /// Out: [`TXCOPY_MAX_PACKET`].
        12 => max_packet: u32,
        /// Out: [`TXCOPY_MAX_CHANNELS`].
        16 => max_channels: u32,
        /// Out: [`TXCOPY_MAX_ATTACHMENTS`].
        20 => max_attachments: u32,
        /// Out: [`TXCOPY_MIN_BUFFER`].
        24 => min_buffer: u32,
        /// Out: 0.
        28 => _reserved: u32,
    }
}

wire! {
    /// A channel to be made.
    Create, 40 bytes {
        /// In: [`TXCOPY_VERSION`].
        0 => version: u32,
        /// In: the domain that may send.
        4 => sender: u16,
        /// In: 0.
        6 => _pad: u16,
        /// In: frame numbers of the ring: its [header](RingHeader) page, then `slot_pages` pages of [slots](Slot). The caller's own RAM.
        8 => ring_gfns: crate::GuestHandle,
        /// In: pages of slots, a power of two up to [`TXCOPY_MAX_SLOT_PAGES`].
        16 => slot_pages: u32,
        /// In: the port of the caller that is raised for packets.
        20 => port: u32,
        /// Out: the channel's number.
        24 => channel: u32,
        /// In: 0.
        28 => flags: u32,
        /// In: 0.
        32 => _reserved: u64,
    }
}

wire! {
    /// An attachment to be made.
    Attach, 40 bytes {
        /// In: [`TXCOPY_VERSION`].
        0 => version: u32,
        /// In: the domain that made the channel.
        4 => receiver: u16,
        /// In: 0.
        6 => _pad: u16,
        /// In: the channel's number there.
        8 => channel: u32,
        /// In: the port of the caller that is raised when there is room again.
        12 => port: u32,
        /// In: the frame of the batch page. The caller's own RAM.
        16 => batch_gfn: u64,
        /// Out: the handle.
        24 => handle: u32,
        /// In: 0.
        28 => flags: u32,
        /// In: 0.
        32 => _reserved: u64,
    }
}

wire! {
    /// Counters of a channel since it was made.
    Stats, 96 bytes {
        /// In: the channel's number.
        0 => channel: u32,
        /// Out: 1 while a sender is attached.
        4 => attached: u32,
        /// Out: packets taken.
        8 => packets: u64,
        /// Out: bytes copied.
        16 => bytes: u64,
        /// Out: `TXCOPY_SEND` calls.
        24 => batches: u64,
        /// Out: calls that found too little room.
        32 => full: u64,
        /// Out: events raised for the receiver.
        40 => notified: u64,
        /// Out: batches after which the receiver did not want one.
        48 => suppressed: u64,
        /// Out: calls refused for what they described.
        56 => refused: u64,
        /// Out: slots completed with length 0.
        64 => unusable: u64,
        /// Out: events raised for the sender.
        72 => woken: u64,
        /// Out: 0.
        80 => _reserved: [u64; 2],
    }
}

wire! {
    /// The first page of a ring. Counts are of slots and run free (modulo 2^32).
    RingHeader, 128 bytes {
        /// The receiver's: slots that hold a buffer, since the ring was made. Written after the slots (release).
        0 => posted: u32,
        /// The receiver's: raise the port when `completed` goes past this value, as `event_idx` of virtio.
        4 => event_at: u32,
        /// 0.
        8 => _pad0: [u32; 14],
        /// The hypervisor's: slots that hold a packet or a part of one. Written after the slots (release).
        64 => completed: u32,
        /// The hypervisor's: `RING_*`.
        68 => flags: u32,
        /// 0.
        72 => _pad1: [u32; 14],
    }
}

/// The sender waits for room: after posting buffers call [`TXCOPY_POSTED`].
pub const RING_SENDER_WAITS: u32 = 1 << 0;

wire! {
    /// One slot of a ring. The receiver writes the first two fields, the hypervisor the others.
    ///
    /// A completed slot with `len` 0 carries nothing: its buffer could not be used, or it stood before one that could not. It lies between
    /// packets, never amid one.
    Slot, 32 bytes {
        /// Guest physical address of a buffer in the receiver's own RAM; it does not cross a page.
        0 => addr: u64,
        /// Bytes of the buffer, [`TXCOPY_MIN_BUFFER`] to 4096.
        8 => size: u32,
        /// Bytes written to the buffer.
        12 => len: u32,
        /// Bytes of the whole packet; in its first slot, else 0.
        16 => total: u32,
        /// `PACKET_*`, and [`SLOT_MORE`].
        20 => flags: u16,
        /// See [`PacketHeader`].
        22 => csum_start: u16,
        /// See [`PacketHeader`].
        24 => csum_offset: u16,
        /// See [`PacketHeader`].
        26 => gso_size: u16,
        /// See [`PacketHeader`].
        28 => gso_type: u8,
        /// 0.
        29 => _pad: [u8; 3],
    }
}

/// In a slot: the packet goes on in the next one.
pub const SLOT_MORE: u16 = 1 << 15;
/// The checksum from `csum_start` on is to be put at `csum_offset` from there: it holds that of the pseudo header.
pub const PACKET_CSUM_PARTIAL: u16 = 1 << 0;
/// The sender vouches for the checksums.
pub const PACKET_CSUM_VALID: u16 = 1 << 1;

/// `gso_type`: not to be segmented.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = 2;

wire! {
    /// A packet in the batch page; `pieces` times a [`Piece`] follow, then the next packet.
    ///
    /// The checksum lies in the packet, and its fields are 0 without [`PACKET_CSUM_PARTIAL`]; a `gso_type` comes with a `gso_size` and
    /// [`PACKET_CSUM_PARTIAL`].
    PacketHeader, 16 bytes {
        /// Bytes of the packet: the sum of its pieces.
        0 => len: u32,
        /// How many pieces follow, at least 1.
        4 => pieces: u16,
        /// `PACKET_*`.
        6 => flags: u16,
        /// Where the checksum begins to be computed, from the start of the packet.
        8 => csum_start: u16,
        /// Where it goes, from `csum_start`.
        10 => csum_offset: u16,
        /// Payload bytes of a segment, with a `gso_type`.
        12 => gso_size: u16,
        /// `GSO_*`.
        14 => gso_type: u8,
        /// 0.
        15 => _pad: u8,
    }
}

wire! {
    /// A piece of a packet in the sender's own RAM; it may cross pages whose frames follow each other.
    Piece, 16 bytes {
        /// Guest physical address.
        0 => addr: u64,
        /// Bytes, at least 1.
        8 => len: u32,
        /// 0.
        12 => _pad: u32,
    }
}
