//! The Image header, and what runs before Rust: relocation, page tables, MMU and caches.
//!
//! The map is one to one over 39 bits of address: the first GiB is Device memory but for the grant window and the magic pages
//! (0x3800_0000 to 0x3a00_0000), the rest Normal write-back. Holes of the domain's memory are thus left to stage 2, whose answer
//! the tests want to see. The last GiB (0x7f_c000_0000) is not mapped at all.

use core::arch::global_asm;

/// An address that stage 1 does not map.
pub const UNMAPPED: u64 = 0x7f_c000_0000;

global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       1f
    .long   0
    .quad   0                       // text_offset
    .quad   __image_end             // image_size (linked at 0)
    .quad   0xa                     // little endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
1:  msr     daifset, #0xf
    mov     x19, x0
    adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
2:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    2b
    // R_AARCH64_RELATIVE only: *(base + offset) = base + addend.
    adr     x3, _start
    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
3:  cmp     x1, x2
    b.hs    4f
    ldp     x4, x5, [x1], #16
    ldr     x6, [x1], #8
    add     x6, x6, x3
    str     x6, [x4, x3]
    b       3b
4:  adrp    x1, __tables
    add     x2, x1, #4096
    orr     x4, x2, #3
    str     x4, [x1]                // GiB 0: by 2 MiB blocks
    mov     x5, #1                  // the others but the last: Normal 1 GiB blocks, AF, inner shareable
5:  lsl     x6, x5, #30
    mov     x7, #0x701
    orr     x6, x6, x7
    str     x6, [x1, x5, lsl #3]
    add     x5, x5, #1
    cmp     x5, #511
    b.lo    5b
    mov     x5, #0
6:  lsl     x6, x5, #21
    mov     x7, #0x701
    cmp     x5, #0x1c0
    b.lo    7f
    cmp     x5, #0x1d0
    b.lo    8f
7:  mov     x7, #0x405              // Device nGnRE, never executable
    movk    x7, #0x60, lsl #48
8:  orr     x6, x6, x7
    str     x6, [x2, x5, lsl #3]
    add     x5, x5, #1
    cmp     x5, #512
    b.lo    6b
    mov     x0, #0
    .global __secondary
__secondary:                        // x0: index of this vCPU
    msr     daifset, #0xf
    adrp    x1, __tables
    msr     ttbr0_el1, x1
    mov     x2, #0x04ff             // attribute 0: Normal write-back; 1: Device nGnRE
    msr     mair_el1, x2
    ldr     x2, =0x200803519        // T0SZ 25, walks write-back inner shareable, 4 KiB, no TTBR1, 40-bit output
    msr     tcr_el1, x2
    adrp    x3, __vectors
    add     x3, x3, :lo12:__vectors
    msr     vbar_el1, x3
    dsb     sy
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    ldr     x2, =0x30d01805         // RES1, M, C, I
    msr     sctlr_el1, x2
    isb
    adrp    x3, __stacks
    add     x3, x3, :lo12:__stacks
    add     x4, x0, #1
    add     x3, x3, x4, lsl #15
    mov     sp, x3
    adrp    x3, {cpus}
    add     x3, x3, :lo12:{cpus}
    add     x3, x3, x0, lsl #6
    msr     tpidr_el1, x3
    mov     x1, x19                 // what the boot CPU was started with
    b       {start}
    .ltorg

    .section .bss.tables, "aw", %nobits
    .balign 4096
__tables:
    .skip   8192
    "#,
    cpus = sym super::cpu::CPUS,
    start = sym super::start,
);
