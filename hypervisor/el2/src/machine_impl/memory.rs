//! Copying, zeroing and cache maintenance in assembly: memory that guests write meanwhile must not be touched by compiled Rust loads and stores,
//! and the compiler's routines know no 64 bytes a turn without floating point registers.

use core::arch::asm;

use crate::sysreg::read;

/// Copies forward; the ranges do not overlap, or `to` is below `from`.
///
/// # Safety
/// Both ranges are mapped, and nothing that Rust holds a reference to changes unexpectedly.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: reads and writes `len` bytes from the pointers on, by the caller's word.
    unsafe {
        asm!(
            "subs {n}, {n}, #64",
            "b.lo 3f",
            "2:",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from}, #16]",
            "ldp {e}, {f}, [{from}, #32]",
            "ldp {g}, {h}, [{from}, #48]",
            "add {from}, {from}, #64",
            "stp {a}, {b}, [{to}]",
            "stp {c}, {d}, [{to}, #16]",
            "stp {e}, {f}, [{to}, #32]",
            "stp {g}, {h}, [{to}, #48]",
            "add {to}, {to}, #64",
            "subs {n}, {n}, #64",
            "b.hs 2b",
            "3:",
            "adds {n}, {n}, #56", // what is left, minus 8
            "b.mi 5f",
            "4:",
            "ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "subs {n}, {n}, #8",
            "b.pl 4b",
            "5:",
            "adds {n}, {n}, #8",
            "b.eq 7f",
            "6:",
            "ldrb {a:w}, [{from}], #1",
            "strb {a:w}, [{to}], #1",
            "subs {n}, {n}, #1",
            "b.ne 6b",
            "7:",
            n = inout(reg) len => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            options(nostack),
        );
    }
}

/// Copies backward: `to` lies within `from`'s range.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn copy_backward(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: reads and writes `len` bytes from the pointers on, by the caller's word.
    unsafe {
        asm!(
            "add {from}, {from}, {n}",
            "add {to}, {to}, {n}",
            "subs {n}, {n}, #8",
            "b.mi 3f",
            "2:",
            "ldr {a}, [{from}, #-8]!",
            "str {a}, [{to}, #-8]!",
            "subs {n}, {n}, #8",
            "b.pl 2b",
            "3:",
            "adds {n}, {n}, #8",
            "b.eq 5f",
            "4:",
            "ldrb {a:w}, [{from}, #-1]!",
            "strb {a:w}, [{to}, #-1]!",
            "subs {n}, {n}, #1",
            "b.ne 4b",
            "5:",
            n = inout(reg) len => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _,
            options(nostack),
        );
    }
}

/// Writes zeroes: whole blocks by `dc zva` where the CPU has it.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn zero(at: *mut u8, len: usize) {
    const PROHIBITED: u64 = 1 << 4;
    let dczid = read!("dczid_el0");
    let block = 4_usize << (dczid & 0xf);
    let head = at.align_offset(block).min(len);
    let blocks = if dczid & PROHIBITED == 0 { (len - head) / block } else { 0 };
    // SAFETY: head, blocks and tail lie within `len`; `dc zva` gets addresses aligned to its block.
    unsafe {
        zero_plain(at, head);
        let mut line = at.add(head);
        for _ in 0..blocks {
            asm!("dc zva, {}", in(reg) line, options(nostack, preserves_flags));
            line = line.add(block);
        }
        zero_plain(line, len - head - blocks * block);
    }
}

/// Writes zeroes by stores.
///
/// # Safety
/// As for [`copy`].
unsafe fn zero_plain(at: *mut u8, len: usize) {
    // SAFETY: writes `len` bytes from `at` on, by the caller's word.
    unsafe {
        asm!(
            "subs {n}, {n}, #8",
            "b.mi 3f",
            "2:",
            "str xzr, [{at}], #8",
            "subs {n}, {n}, #8",
            "b.pl 2b",
            "3:",
            "adds {n}, {n}, #8",
            "b.eq 5f",
            "4:",
            "strb wzr, [{at}], #1",
            "subs {n}, {n}, #1",
            "b.ne 4b",
            "5:",
            n = inout(reg) len => _,
            at = inout(reg) at => _,
            options(nostack),
        );
    }
}

macro_rules! by_line {
    ($(#[$doc:meta])* $name:ident, $operation:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The range is mapped.
        pub unsafe fn $name(at: *mut u8, len: usize) {
            let line = 4_usize << (read!("ctr_el0") >> 16 & 0xf);
            let end = at.addr() + len;
            let mut address = at.addr() & !(line - 1);
            while address < end {
                // SAFETY: a mapped address; no byte changes.
                unsafe { asm!(concat!($operation, ", {}"), in(reg) address, options(nostack, preserves_flags)) };
                address += line;
            }
            crate::barrier::dsb_sy();
        }
    };
}
by_line!(
    /// Cleans the data cache to the point of coherency.
    clean,
    "dc cvac"
);
by_line!(
    /// Cleans and invalidates the data cache to the point of coherency.
    clean_invalidate,
    "dc civac"
);
