//! `hvm_op`: parameters by which a guest finds xenstore and console. Source: xen/include/public/hvm/hvm_op.h, params.h.

/// Set a parameter of a domain: [`HvmParam`].
pub const HVMOP_SET_PARAM: u64 = 0;
/// Read a parameter of a domain: [`HvmParam`].
pub const HVMOP_GET_PARAM: u64 = 1;
/// Flush TLBs of some vCPUs. Not on Arm.
pub const HVMOP_FLUSH_TLBS: u64 = 5;
/// Send an event to a monitor of this domain.
pub const HVMOP_GUEST_REQUEST_VM_EVENT: u64 = 24;
/// Alternative stage 2 tables. Not on Arm.
pub const HVMOP_ALTP2M: u64 = 25;

/// How the event upcall is signalled; see [`hvm_callback_ppi`].
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// Guest frame number of the xenstore ring.
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// Port of the xenstore ring.
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// Guest frame number of the console ring.
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// Port of the console ring.
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Guest frame number of the ring of memory access events.
pub const HVM_PARAM_MONITOR_RING_PFN: u32 = 28;
/// How many indices there are.
pub const HVM_NR_PARAMS: u32 = 39;

/// The bits of [`HVM_PARAM_CALLBACK_IRQ`] that hold its type.
pub const HVM_PARAM_CALLBACK_IRQ_TYPE_MASK: u64 = 0xff00_0000_0000_0000;
/// Type of [`HVM_PARAM_CALLBACK_IRQ`] on Arm: a private peripheral interrupt, its number in bits 7..0.
pub const HVM_PARAM_CALLBACK_TYPE_PPI: u64 = 2;
/// With it: bits that hold flags.
pub const HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK: u64 = 0xff00;
/// Flag: level triggered, active low.
pub const HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL: u64 = 2;

/// The value of [`HVM_PARAM_CALLBACK_IRQ`] for a private peripheral interrupt, 16 to 31.
pub const fn hvm_callback_ppi(ppi: u8) -> u64 {
    HVM_PARAM_CALLBACK_TYPE_PPI << 56 | HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL << 8 | ppi as u64
}

wire! {
    /// `struct xen_hvm_param`.
    HvmParam, 16 bytes {
        /// In: the domain.
        0 => domid: u16,
        /// Unused.
        2 => pad: u16,
        /// In: `HVM_PARAM_*`.
        4 => index: u32,
        /// In or out.
        8 => value: u64,
    }
}

const _: () = assert!(hvm_callback_ppi(31) == 0x0200_0000_0000_021f);
