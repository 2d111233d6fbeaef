//! Network front and back end. Source: xen/include/public/io/netif.h.

use crate::io::ring::ring_entries;

/// Slots of one packet that every back end takes.
pub const XEN_NETIF_NR_SLOTS_MIN: u32 = 18;
/// Longest packet, bytes.
pub const XEN_NETIF_MAX_TX_SIZE: u32 = 0xffff;
/// Entries of the transmit ring in one page.
pub const NET_TX_RING_SIZE: usize = ring_entries(4096, size_of::<TxRequest>());
/// Entries of the receive ring in one page.
pub const NET_RX_RING_SIZE: usize = ring_entries(4096, size_of::<RxRequest>());

/// The protocol checksum is not filled in.
pub const NETTXF_CSUM_BLANK: u16 = 1 << 0;
/// The checksum is known to be right.
pub const NETTXF_DATA_VALIDATED: u16 = 1 << 1;
/// The packet goes on in the next slot.
pub const NETTXF_MORE_DATA: u16 = 1 << 2;
/// The next slot is an [`ExtraInfo`].
pub const NETTXF_EXTRA_INFO: u16 = 1 << 3;

/// The checksum is known to be right.
pub const NETRXF_DATA_VALIDATED: u16 = 1 << 0;
/// The protocol checksum is not filled in.
pub const NETRXF_CSUM_BLANK: u16 = 1 << 1;
/// The packet goes on in the next slot.
pub const NETRXF_MORE_DATA: u16 = 1 << 2;
/// The next slot is an [`ExtraInfo`].
pub const NETRXF_EXTRA_INFO: u16 = 1 << 3;
/// The first slot is only a header of a segmented packet; obsolete.
pub const NETRXF_GSO_PREFIX: u16 = 1 << 4;

/// Type of [`ExtraInfo`]: none.
pub const XEN_NETIF_EXTRA_TYPE_NONE: u8 = 0;
/// Segmentation offload.
pub const XEN_NETIF_EXTRA_TYPE_GSO: u8 = 1;
/// Join a multicast group.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// Leave a multicast group.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// Hash of the flow.
pub const XEN_NETIF_EXTRA_TYPE_HASH: u8 = 4;
/// Flag of [`ExtraInfo`]: another one follows.
pub const XEN_NETIF_EXTRA_FLAG_MORE: u8 = 1 << 0;

/// No segmentation.
pub const XEN_NETIF_GSO_TYPE_NONE: u8 = 0;
/// TCP over IPv4.
pub const XEN_NETIF_GSO_TYPE_TCPV4: u8 = 1;
/// TCP over IPv6.
pub const XEN_NETIF_GSO_TYPE_TCPV6: u8 = 2;

/// The packet was dropped.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// The request was wrong.
pub const NETIF_RSP_ERROR: i16 = -1;
/// Sent.
pub const NETIF_RSP_OKAY: i16 = 0;
/// No response: the slot was an [`ExtraInfo`].
pub const NETIF_RSP_NULL: i16 = 1;

wire! {
    /// `struct netif_tx_request`.
    TxRequest, 12 bytes {
        /// Grant of the page.
        0 => gref: u32,
        /// First byte in the page.
        4 => offset: u16,
        /// `NETTXF_*`.
        6 => flags: u16,
        /// Returned with the response.
        8 => id: u16,
        /// Bytes; in the first slot of the whole packet.
        10 => size: u16,
    }
}
wire! {
    /// `struct netif_tx_response`.
    TxResponse, 4 bytes {
        /// Of the request.
        0 => id: u16,
        /// `NETIF_RSP_*`.
        2 => status: i16,
    }
}
wire! {
    /// `struct netif_rx_request`.
    RxRequest, 8 bytes {
        /// Returned with the response.
        0 => id: u16,
        #[doc(hidden)]
        2 => _pad: u16,
        /// Grant of the page.
        4 => gref: u32,
    }
}
wire! {
    /// `struct netif_rx_response`.
    RxResponse, 8 bytes {
        /// Of the request.
        0 => id: u16,
        /// First byte in the page.
        2 => offset: u16,
        /// `NETRXF_*`.
        4 => flags: u16,
        /// Bytes, or `NETIF_RSP_*` if negative.
        6 => status: i16,
    }
}
wire! {
    /// `struct netif_extra_info` with segmentation offload in its union.
    ExtraInfo, 8 bytes {
        /// `XEN_NETIF_EXTRA_TYPE_*`; `type` in Xen.
        0 => kind: u8,
        /// `XEN_NETIF_EXTRA_FLAG_*`.
        1 => flags: u8,
        /// Bytes of a segment (`u.gso.size`).
        2 => gso_size: u16,
        /// `XEN_NETIF_GSO_TYPE_*` (`u.gso.type`).
        4 => gso_type: u8,
        #[doc(hidden)]
        5 => _pad: u8,
        /// 0 (`u.gso.features`).
        6 => gso_features: u16,
    }
}
