//! The shared ring of requests and responses. Source: xen/include/public/io/ring.h.

wire! {
    /// The head of a ring page (`struct *_sring`); the entries follow. Indices run freely and are taken modulo the number of entries.
    Sring, 64 bytes {
        /// Requests produced.
        0 => req_prod: u32,
        /// The back end wants an event when `req_prod` passes this.
        4 => req_event: u32,
        /// Responses produced.
        8 => rsp_prod: u32,
        /// The front end wants an event when `rsp_prod` passes this.
        12 => rsp_event: u32,
        #[doc(hidden)]
        16 => _pad: [u8; 48],
    }
}

/// Entries of `entry_size` bytes that fit behind the head of a ring of `ring_size` bytes, rounded down to a power of two
/// (`__CONST_RING_SIZE`).
pub const fn ring_entries(ring_size: usize, entry_size: usize) -> usize {
    let fit = (ring_size - size_of::<Sring>()) / entry_size;
    1 << fit.ilog2()
}
