//! Trace events of Xenolith's own, in a subclass of [`TRC_HW`](super::TRC_HW) that Xen does not use.

/// The subclass.
pub const TRC_XENOLITH: u32 = 0x0080_4000;
/// An event was sent: sender << 16 | receiver, port of the sender, port of the receiver (0: nobody listens).
pub const TRC_XENOLITH_EVENT: u32 = TRC_XENOLITH + 1;
/// An interrupt was made pending for a vCPU: domain << 16 | id, INTID.
pub const TRC_XENOLITH_INJECT: u32 = TRC_XENOLITH + 2;
/// A step of tx copy's sending: sender << 16 | receiver, packets taken, bytes of records done.
pub const TRC_XENOLITH_TXCOPY: u32 = TRC_XENOLITH + 3;

/// Reason of [`TRC_HVM_VMEXIT64`](super::TRC_HVM_VMEXIT64): an interrupt. It is an exception class, `ESR_EL2.EC`, that the architecture does
/// not use; other exits have their own class.
pub const EXIT_IRQ: u32 = 0x02;
/// A system error: its exception class.
pub const EXIT_SERROR: u32 = 0x2f;
/// Reasons are less than this, or 0 for those that are not: xenalyze knows no more.
pub const EXIT_REASONS: u32 = 0x38;
