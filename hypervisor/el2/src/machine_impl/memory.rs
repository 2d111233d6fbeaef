//! Copying, zeroing and cache maintenance in assembly: memory that guests write meanwhile must not be touched by compiled Rust loads and stores,
//! and the compiler's routines know no 64 bytes a turn without floating point registers.

use core::arch::asm;

use crate::sysreg::read;

/// Copies; the ranges do not overlap.
///
/// From 128 bytes on by SIMD registers, which are the guest's and are put back: half the instructions that general registers take. What is
/// left over, and what is short, is copied as two pieces that overlap, so some bytes are read and written twice.
///
/// # Safety
/// Both ranges are mapped, and nothing that Rust holds a reference to changes unexpectedly.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: reads and writes `len` bytes from the pointers on, by the caller's word. The SIMD registers and the stack are as before.
    unsafe {
        asm!(
            ".arch_extension fp",
            "add {from_end}, {from}, {n}",
            "add {to_end}, {to}, {n}",
            "subs {n}, {n}, #128",
            "b.lo 3f",
            "stp q0, q1, [sp, #-128]!",
            "stp q2, q3, [sp, #32]",
            "stp q4, q5, [sp, #64]",
            "stp q6, q7, [sp, #96]",
            "2:",
            "ldp q0, q1, [{from}], #128",
            "ldp q2, q3, [{from}, #-96]",
            "ldp q4, q5, [{from}, #-64]",
            "ldp q6, q7, [{from}, #-32]",
            "stp q0, q1, [{to}], #128",
            "stp q2, q3, [{to}, #-96]",
            "stp q4, q5, [{to}, #-64]",
            "stp q6, q7, [{to}, #-32]",
            "subs {n}, {n}, #128",
            "b.hs 2b",
            "ldp q0, q1, [{from_end}, #-128]",
            "ldp q2, q3, [{from_end}, #-96]",
            "ldp q4, q5, [{from_end}, #-64]",
            "ldp q6, q7, [{from_end}, #-32]",
            "stp q0, q1, [{to_end}, #-128]",
            "stp q2, q3, [{to_end}, #-96]",
            "stp q4, q5, [{to_end}, #-64]",
            "stp q6, q7, [{to_end}, #-32]",
            "ldp q2, q3, [sp, #32]",
            "ldp q4, q5, [sp, #64]",
            "ldp q6, q7, [sp, #96]",
            "ldp q0, q1, [sp], #128",
            "b 9f",
            // Less than 128: bits 0 to 6 of the number are what they were.
            "3:",
            "tbz {n}, #6, 4f",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from}, #16]",
            "ldp {e}, {f}, [{from}, #32]",
            "ldp {g}, {h}, [{from}, #48]",
            "stp {a}, {b}, [{to}]",
            "stp {c}, {d}, [{to}, #16]",
            "stp {e}, {f}, [{to}, #32]",
            "stp {g}, {h}, [{to}, #48]",
            "ldp {a}, {b}, [{from_end}, #-64]",
            "ldp {c}, {d}, [{from_end}, #-48]",
            "ldp {e}, {f}, [{from_end}, #-32]",
            "ldp {g}, {h}, [{from_end}, #-16]",
            "stp {a}, {b}, [{to_end}, #-64]",
            "stp {c}, {d}, [{to_end}, #-48]",
            "stp {e}, {f}, [{to_end}, #-32]",
            "stp {g}, {h}, [{to_end}, #-16]",
            "b 9f",
            "4:",
            "tbz {n}, #5, 5f",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from}, #16]",
            "ldp {e}, {f}, [{from_end}, #-32]",
            "ldp {g}, {h}, [{from_end}, #-16]",
            "stp {a}, {b}, [{to}]",
            "stp {c}, {d}, [{to}, #16]",
            "stp {e}, {f}, [{to_end}, #-32]",
            "stp {g}, {h}, [{to_end}, #-16]",
            "b 9f",
            "5:",
            "tbz {n}, #4, 6f",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from_end}, #-16]",
            "stp {a}, {b}, [{to}]",
            "stp {c}, {d}, [{to_end}, #-16]",
            "b 9f",
            "6:",
            "tbz {n}, #3, 7f",
            "ldr {a}, [{from}]",
            "ldr {b}, [{from_end}, #-8]",
            "str {a}, [{to}]",
            "str {b}, [{to_end}, #-8]",
            "b 9f",
            "7:",
            "tbz {n}, #2, 8f",
            "ldr {a:w}, [{from}]",
            "ldr {b:w}, [{from_end}, #-4]",
            "str {a:w}, [{to}]",
            "str {b:w}, [{to_end}, #-4]",
            "b 9f",
            "8:",
            "ands {n}, {n}, #3",
            "b.eq 9f",
            "lsr {n}, {n}, #1",
            "ldrb {a:w}, [{from}]",
            "ldrb {b:w}, [{from}, {n}]",
            "ldrb {c:w}, [{from_end}, #-1]",
            "strb {a:w}, [{to}]",
            "strb {b:w}, [{to}, {n}]",
            "strb {c:w}, [{to_end}, #-1]",
            "9:",
            n = inout(reg) len => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            from_end = out(reg) _, to_end = out(reg) _,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
        );
    }
}

/// What the compiler calls to move a structure, in place of its library's routine: that takes byte by byte what is not aligned.
///
/// # Safety
/// As for C's: the ranges are valid, and do not overlap unless they are one.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: by the caller's word. Each step of `copy` reads what it writes before it writes it, so one range copied to itself stays as it is.
    unsafe { copy(to, from, len) };
    to
}

/// Copies forward, by words: `to` may lie below `from` within its range.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn copy_forward(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: reads and writes `len` bytes from the pointers on, by the caller's word.
    unsafe {
        asm!(
            "subs {n}, {n}, #8",
            "b.mi 3f",
            "2:",
            "ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "subs {n}, {n}, #8",
            "b.pl 2b",
            "3:",
            "adds {n}, {n}, #8",
            "b.eq 5f",
            "4:",
            "ldrb {a:w}, [{from}], #1",
            "strb {a:w}, [{to}], #1",
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
