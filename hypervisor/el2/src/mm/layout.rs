//! The virtual addresses of EL2: 48 bits, one root table.
//!
//! | from | what | access |
//! |---|---|---|
//! | [`IMAGE_BASE`] | the image, wherever it was loaded | text RX, rodata R, data RW |
//! | [`FDT_WINDOW`] | the boot loader's device tree | R |
//! | [`DEVICE_BASE`] | device registers, in the order they were asked for | RW, device |
//! | [`STACK_BASE`] | one stack per secondary CPU, each below an unmapped gap | RW |
//! | [`DIRECT_BASE`] | all RAM but the image's text and constants, at `DIRECT_BASE + machine address` | RW |

/// Where the image is linked; `image.ld` says the same.
pub const IMAGE_BASE: u64 = 0x0a00_0000_0000;
/// What the image may be with its .bss; `image.ld` asserts it, `head` makes as many tables.
pub const IMAGE_LIMIT: u64 = 0x80_0000;
/// Two 2 MiB blocks that hold the device tree (at most 2 MiB, any alignment).
pub const FDT_WINDOW: u64 = IMAGE_BASE + 0x100_0000;
/// Bytes of it.
pub const FDT_WINDOW_SIZE: u64 = 0x40_0000;
/// Device registers.
pub const DEVICE_BASE: u64 = 0x0b00_0000_0000;
/// Stacks of the secondary CPUs.
pub const STACK_BASE: u64 = 0x0c00_0000_0000;
/// Bytes of a stack; the boot CPU's in `image.ld` is as large.
pub const STACK_SIZE: u64 = 0x1_0000;
/// Distance of two stacks; the rest is never mapped.
pub const STACK_STRIDE: u64 = 0x2_0000;
/// The direct map.
pub const DIRECT_BASE: u64 = 1 << 47;
/// Machine addresses below this can be in the direct map.
pub const DIRECT_SIZE: u64 = 1 << 47;
