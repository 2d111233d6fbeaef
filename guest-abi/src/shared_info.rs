//! Pages that hypervisor and guest share: events, run states, wall clock. Source: xen/include/public/xen.h, event_channel.h, vcpu.h.

pub use crate::vcpu::RunstateInfo;

/// Ports of the two-level ABI: 64 words of 64 bits.
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;

/// Highest priority of a FIFO event.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a new port.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority of a FIFO event.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Queues of a vCPU, one per priority.
pub const EVTCHN_FIFO_MAX_QUEUES: u32 = 16;

/// Bit of an event word: the event has been raised.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit of an event word: the guest does not want it now.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit of an event word: it is on a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit of an event word: the hypervisor is changing LINK; the guest must not unmask.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Bits of the LINK field, the next port on the queue, from bit 0.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// The LINK field.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;
/// Ports of the FIFO ABI.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 1 << EVTCHN_FIFO_LINK_BITS;

wire! {
    /// `struct vcpu_time_info`; not filled on Arm, where guests use the architected timer.
    VcpuTimeInfo, 32 bytes {
        /// Odd while it is updated.
        0 => version: u32,
        #[doc(hidden)]
        4 => _pad0: u32,
        /// x86.
        8 => tsc_timestamp: u64,
        /// Nanoseconds since boot.
        16 => system_time: u64,
        /// x86.
        24 => tsc_to_system_mul: u32,
        /// x86.
        28 => tsc_shift: i8,
        /// x86.
        29 => flags: u8,
        #[doc(hidden)]
        30 => _pad1: [u8; 2],
    }
}
wire! {
    /// `struct vcpu_info`.
    VcpuInfo, 48 bytes {
        /// Nonzero: the event interrupt is pending. The guest clears it before it looks for events.
        0 => evtchn_upcall_pending: u8,
        #[doc(hidden)]
        1 => _pad0: [u8; 7],
        /// One bit per word of `evtchn_pending` that may have events for this vCPU.
        8 => evtchn_pending_sel: u64,
        /// Not filled.
        16 => time: VcpuTimeInfo,
    }
}
wire! {
    /// `struct shared_info`, one per domain.
    SharedInfo, 1088 bytes {
        /// Of vCPU 0, until it registers another place. Other vCPUs have none here.
        0 => vcpu_info: [VcpuInfo; 1],
        /// One bit per port.
        48 => evtchn_pending: [u64; 64],
        /// One bit per port.
        560 => evtchn_mask: [u64; 64],
        /// Odd while the wall clock is updated.
        1072 => wc_version: u32,
        /// UTC when the guest's counter was 0, seconds since 1970, low half.
        1076 => wc_sec: u32,
        /// And nanoseconds.
        1080 => wc_nsec: u32,
        /// High half of the seconds.
        1084 => wc_sec_hi: u32,
    }
}
wire! {
    /// `struct evtchn_fifo_control_block`, one per vCPU; 8-byte aligned, within one page.
    FifoControlBlock, 72 bytes {
        /// One bit per queue that is not empty.
        0 => ready: u32,
        #[doc(hidden)]
        4 => _rsvd: u32,
        /// The first port of each queue; 0 for none.
        8 => head: [u32; 16],
    }
}
