//! `platform_op`: Dom0 sets the wall clock; nothing else on Arm. Source: xen/include/public/platform.h.

/// What `interface_version` must be.
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;
/// Set the wall clock.
pub const XENPF_SETTIME64: u32 = 62;

wire! {
    /// `struct xen_platform_op` with `struct xenpf_settime64` in its union.
    PlatformOp, 136 bytes {
        /// In: `XENPF_*`.
        0 => cmd: u32,
        /// In: [`XENPF_INTERFACE_VERSION`].
        4 => interface_version: u32,
        /// In: UTC, seconds since 1970.
        8 => secs: u64,
        /// In: and nanoseconds.
        16 => nsecs: u32,
        /// In: must be 0.
        20 => mbz: u32,
        /// In: when that was, nanoseconds of system time.
        24 => system_time: u64,
        #[doc(hidden)]
        32 => _pad: [u8; 104],
    }
}
