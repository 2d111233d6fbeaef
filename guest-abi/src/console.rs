//! `console_io`: the machine's serial line. Source: xen/include/public/xen.h, `CONSOLEIO_*`.

/// Print `count` bytes.
pub const CONSOLEIO_WRITE: u32 = 0;
/// Take up to `count` bytes of input; returns how many.
pub const CONSOLEIO_READ: u32 = 1;
