//! Instructions of EL0, of 64 and of 32 bits. How EL0 comes back to EL1 is the answer.
//!
//! The map gives EL0 two windows, which EL1 has no use for and which 32 bits of address reach: one on RAM, one on devices and holes.

use super::page::Page;
use super::{cpu, probe};
use core::arch::{asm, global_asm};
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

/// Where EL0 sees RAM, which begins at [`RAM`].
const RAM_WINDOW: u64 = 0xc000_0000;
/// Where EL0 sees the first GiB.
const DEVICE_WINDOW: u64 = 0x8000_0000;
/// Where a DomU's RAM begins.
const RAM: u64 = 0x4000_0000;

/// What EL0 executes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// AArch64.
    A64,
    /// AArch32, instructions of 32 bits.
    A32,
    /// AArch32, instructions of 16 or 32 bits.
    T32,
}

/// How EL0 came back.
#[derive(Clone, Copy)]
pub struct Left {
    /// The vector: 8 synchronous from AArch64, 12 from AArch32.
    pub vector: u64,
    /// `ESR_EL1`.
    pub esr: u64,
    /// Bytes from the first instruction to the return address.
    pub after: i64,
    /// x0 to x3.
    pub x: [u64; 4],
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vector={} esr={:#x} elr={:+}", self.vector, self.esr, self.after)
    }
}

global_asm!(
    r#"
    .section .text.user, "ax"
    // x0: x0 to x3 of EL0, before and after; x1: where it starts; x2: its state.
__user:
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x0, [sp, #96]
    mrs     x3, tpidr_el1
    adr     x4, 1f
    str     x4, [x3]
    msr     elr_el1, x1
    msr     spsr_el1, x2
    ldp     x2, x3, [x0, #16]
    ldp     x0, x1, [x0]
    eret
1:  ldr     x4, [sp, #96]
    stp     x0, x1, [x4]
    stp     x2, x3, [x4, #16]
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #112
    ret
    "#
);

unsafe extern "C" {
    fn __user(x: &mut [u64; 4], start: u64, state: u64);
}

/// A page of instructions for EL0.
pub struct Code(Page);

impl Code {
    /// Opens both windows and takes the page. For a DomU, whose RAM is where it is expected.
    pub fn new() -> Self {
        let root = probe::read_register(probe::encoding(3, 0, 2, 0, 0)).unwrap_or(0) & 0xffff_ffff_f000;
        // Blocks of 1 GiB that EL0 may use: Device memory that is never executed; Normal memory.
        let _ = probe::write(root + (DEVICE_WINDOW >> 30) * 8, 3, 0x60_0000_0000_0445);
        let _ = probe::write(root + (RAM_WINDOW >> 30) * 8, 3, RAM | 0x741);
        // SAFETY: drops translations of two windows that no Rust object lies in.
        unsafe { asm!("dsb ishst", "tlbi vmalle1", "dsb ish", "isb", options(nostack)) };
        Self(Page::take())
    }

    /// Where EL0 sees a page of RAM.
    pub fn ram(page: Page) -> u64 {
        page.address() - RAM + RAM_WINDOW
    }

    /// Where EL0 sees an address of the first GiB.
    pub fn device(address: u64) -> u64 {
        DEVICE_WINDOW + address
    }

    /// Runs these words, the last of which has to leave EL0, with these x0 to x3.
    pub fn run(&self, state: State, words: &[u32], args: [u64; 4]) -> Left {
        words.iter().zip(0..).for_each(|(word, n)| self.0.write32(n * 4, *word));
        let start = Self::ram(self.0);
        // Interrupts masked in each.
        let spsr = match state {
            State::A64 => 0x3c0,
            State::A32 => 0x1d0,
            State::T32 => 0x1f0,
        };
        let mut x = args;
        // SAFETY: the page is not Rust's. `__user` keeps what a function has to keep; EL0 reaches nothing but two windows, of which
        // tests only name pages that they took and devices; whatever it does ends in a vector, which goes on behind the ERET, at EL1
        // and with its stack.
        unsafe {
            asm!("dc cvau, {}", "dsb ish", "ic iallu", "dsb ish", "isb", in(reg) self.0.address(), options(nostack));
            __user(&mut x, start, spsr);
        }
        cpu::take_fault();
        let this = cpu::this();
        let after = this.elr.load(Relaxed).wrapping_sub(start).cast_signed();
        Left { vector: this.vector.load(Relaxed), esr: this.esr.load(Relaxed), after, x }
    }
}
