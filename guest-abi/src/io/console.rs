//! The ring between a guest's console and xenconsoled. Source: xen/include/public/io/console.h.

wire! {
    /// `struct xencons_interface`: the ring page. Indices run freely and are taken modulo the size of their buffer.
    XenconsInterface, 3088 bytes {
        /// To the guest.
        0 => input: [u8; 1024],
        /// From the guest.
        1024 => output: [u8; 2048],
        /// Input bytes consumed.
        3072 => in_cons: u32,
        /// Input bytes produced.
        3076 => in_prod: u32,
        /// Output bytes consumed.
        3080 => out_cons: u32,
        /// Output bytes produced.
        3084 => out_prod: u32,
    }
}
