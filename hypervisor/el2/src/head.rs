//! The first instructions: from the boot loader's entry, MMU off, to Rust at the link address with MMU and caches on.
//!
//! The image starts with the header that boot loaders know as an arm64 Linux `Image` (Linux Documentation/arch/arm64/booting.rst):
//! any 4 KiB aligned place, any amount of code before, x0 = device tree. It is the header of an EFI application, too (see `efi`). Rust needs working atomics, and those need cacheable memory:
//! so the tables are built here, by the addresses of the linker script, with final permissions, and `mm` only adds to them.
//!
//! Two roots: `BOOT_ROOT` has the identity map of the first page besides, for the moment when translation is switched on, here and on
//! each secondary CPU; the root that `mm` makes has not.
//!
//! What is written with caches off is invalidated before (a dirty line must not be evicted over it) and after (a line fetched meanwhile is old).

use core::arch::global_asm;

use crate::mm::layout::{FDT_WINDOW, IMAGE_BASE};
use crate::percpu::PerCpu;

/// `SCTLR_EL2` with everything off: the RES1 bits (Arm ARM D24.2.118).
pub const SCTLR_OFF: u64 = 0x30c5_0830;
/// M, C, SA, I and WXN: what is writable never executes.
const SCTLR_ON: u64 = SCTLR_OFF | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;
/// Attribute 0 normal write-back, 1 device nGnRE, 2 normal non-cacheable. The order is that of [`crate::mm::table`].
const MAIR: u64 = 0x44_04_ff;
/// 48-bit input, 4 KiB granule, walks write-back inner shareable, RES1 bits. The output size (PS) is added at run time.
const TCR: u64 = 1 << 31 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;

global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    // "MZ" for those who take the image for a PE file; does nothing.
    add     x13, x18, #0x16
    b       primary_entry
    .quad   0                       // text_offset
    .quad   __image_size
    .quad   0xa                     // little endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   pe_header - _start

    // The same file as an EFI application (Microsoft PE/COFF): the sections of `image.ld`, to be entered at `efi_entry`.
    .balign 8
pe_header:
    .ascii  "PE\0\0"
    .short  0xaa64                  // Arm64
    .short  2                       // sections
    .long   0, 0, 0
    .short  section_table - optional_header
    .short  0x206                   // executable, no line numbers, no debug information
optional_header:
    .short  0x20b                   // PE32+
    .byte   0, 0
    .long   __pe_text_size          // code
    .long   __pe_data_file_size     // initialised data
    .long   0
    .long   __pe_entry
    .long   4096                    // base of code
    .quad   0                       // image base
    .long   4096                    // section alignment
    .long   512                     // file alignment
    .short  0, 0, 0, 0, 0, 0
    .long   0
    .long   __image_size
    .long   4096                    // headers
    .long   0
    .short  10                      // EFI application
    .short  0x100                   // no executable data
    .quad   0, 0, 0, 0
    .long   0
    .long   6                       // data directories, all empty
    .quad   0, 0, 0, 0, 0, 0
section_table:
    .ascii  ".text\0\0\0"
    .long   __pe_text_size, 4096, __pe_text_size, 4096, 0, 0, 0
    .long   0x60000020              // code, executable, readable
    .ascii  ".data\0\0\0"
    .long   __pe_data_size, __pe_data_start, __pe_data_file_size, __pe_data_start, 0, 0, 0
    .long   0xc0000040              // data, readable, writable

primary_entry:
    mov     x25, #0
    .global primary_stub
    // x25: whether the EFI stub was here.
primary_stub:
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    not_el2
    mov     x19, x0
    mov     x1, #(1 << 31)          // HCR_EL2.RW; E2H off, whatever firmware left
    msr     hcr_el2, x1
    isb
    ldr     x1, ={sctlr_off}
    msr     sctlr_el2, x1
    isb

    // x20, x21: where the image is; x22, x23: its bss.
    adrp    x20, __image_start
    adrp    x21, __image_end
    adrp    x22, __bss_start
    adrp    x23, __bss_end
    mov     x0, x22
    mov     x1, x23
    bl      invalidate
    mov     x0, x22
0:  stp     xzr, xzr, [x0], #16
    cmp     x0, x23
    b.lo    0b

    // The image: root -> l1 -> l2 -> four page tables in a row, with the permissions of each section.
    adrp    x1, boot_root
    adrp    x2, image_l1
    adrp    x3, image_l2
    adrp    x4, image_l3
    ldr     x5, ={image_base}
    orr     x6, x2, #3
    ubfx    x7, x5, #39, #9
    str     x6, [x1, x7, lsl #3]
    orr     x6, x3, #3
    ubfx    x7, x5, #30, #9
    str     x6, [x2, x7, lsl #3]
    orr     x6, x4, #3
    ubfx    x7, x5, #21, #9
    add     x7, x3, x7, lsl #3
    add     x8, x6, #4096
    stp     x6, x8, [x7]
    add     x6, x6, #(2 * 4096)
    add     x8, x8, #(2 * 4096)
    stp     x6, x8, [x7, #16]

    adrp    x8, __text_end
    adrp    x9, __rodata_end
    adrp    x10, __boot_stack_guard
    mov     x11, x20
    mov     x12, #0x7c3             // page, read-only, inner shareable, accessed: text
    mov     x13, #(1 << 54)         // never execute
    orr     x14, x13, x12           // rodata
    bic     x15, x14, #0x80         // data
1:  cmp     x11, x8
    csel    x6, x12, x14, lo
    cmp     x11, x9
    csel    x6, x6, x15, lo
    orr     x6, x6, x11
    cmp     x11, x10
    csel    x6, xzr, x6, eq
    str     x6, [x4], #8
    add     x11, x11, #4096
    cmp     x11, x21
    b.lo    1b

    // The device tree, at most 2 MiB anywhere, read-only: two blocks of its window.
    mov     x24, x19                // where it is, for Rust
    cbz     x19, 2f
    and     x6, x19, #~0x1fffff
    orr     x6, x6, x14
    bic     x6, x6, #2
    ldr     x5, ={fdt_window}
    ubfx    x7, x5, #21, #9
    add     x7, x3, x7, lsl #3
    add     x9, x6, #0x200000
    stp     x6, x9, [x7]
    and     x6, x19, #0x1fffff
    add     x19, x5, x6
2:
    // The identity map of this page.
    adrp    x2, identity_l1
    adrp    x3, identity_l2
    adrp    x4, identity_l3
    orr     x6, x2, #3
    ubfx    x7, x20, #39, #9
    str     x6, [x1, x7, lsl #3]
    orr     x6, x3, #3
    ubfx    x7, x20, #30, #9
    str     x6, [x2, x7, lsl #3]
    orr     x6, x4, #3
    ubfx    x7, x20, #21, #9
    str     x6, [x3, x7, lsl #3]
    orr     x6, x20, x12
    ubfx    x7, x20, #12, #9
    str     x6, [x4, x7, lsl #3]

    mov     x0, x22
    mov     x1, x23
    bl      invalidate
    bl      mmu_on
    ldr     x1, =primary_high
    br      x1

    // From a spin table, where no register says anything: whoever is being started finds its PerCpu in RELEASED. Others came too late.
    .global released_entry
released_entry:
    mrs     x1, MPIDR_EL1
    ldr     x2, ={affinity}
    and     x1, x1, x2
    adrp    x2, {released}
    add     x2, x2, :lo12:{released}
    ldp     x3, x0, [x2]
    cmp     x1, x3
    b.eq    secondary_entry
10: wfe
    b       10b

    // x0: a PerCpu, by its virtual address, as PSCI CPU_ON hands it over.
    .global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    mov     x1, #(1 << 31)          // HCR_EL2.RW; E2H off, whatever firmware left
    msr     hcr_el2, x1
    isb
    ldr     x1, ={sctlr_off}
    msr     sctlr_el2, x1
    isb
    bl      mmu_on
    ldr     x1, =secondary_high
    br      x1

    // Switches translation and caches on with the boot root.
mmu_on:
    adrp    x0, boot_root
    ldr     x1, ={mair}
    ldr     x2, ={tcr}
    mrs     x3, ID_AA64MMFR0_EL1
    and     x3, x3, #0xf            // PARange; above 48 bits needs another page table format
    mov     x4, #5
    cmp     x3, x4
    csel    x3, x3, x4, lo
    bfi     x2, x3, #16, #3
    msr     mair_el2, x1
    msr     tcr_el2, x2
    msr     ttbr0_el2, x0
    ldr     x1, ={sctlr_on}
    dsb     sy
    isb
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x1
    isb
    ret

    // Drops the cache lines of [x0, x1); both ends are page aligned.
invalidate:
    mrs     x2, CTR_EL0
    ubfx    x2, x2, #16, #4
    mov     x3, #4
    lsl     x3, x3, x2
    dsb     sy
3:  dc      ivac, x0
    add     x0, x0, x3
    cmp     x0, x1
    b.lo    3b
    dsb     sy
    ret

    // x0: the device tree, physical. MMU off, at whatever level: tells the PL011 of the device tree, if one is found there by name.
not_el2:
    cbz     x0, 9f
    ldr     w1, [x0]
    ldr     w2, =0xedfe0dd0
    cmp     w1, w2
    b.ne    9f
    ldr     w2, [x0, #4]
    rev     w2, w2
    add     x2, x0, x2
    sub     x2, x2, #16
    ldr     x3, =0x403131306c70     // "pl011@"
4:  ldr     w4, [x0]                // node names are 4-byte aligned
    ldrh    w5, [x0, #4]
    orr     x4, x4, x5, lsl #32
    cmp     x4, x3
    b.eq    5f
    add     x0, x0, #4
    cmp     x0, x2
    b.lo    4b
    b       9f
5:  add     x0, x0, #6
    mov     x6, #0
6:  ldrb    w4, [x0], #1            // the unit address, in hexadecimal
    cbz     w4, 7f
    sub     w5, w4, #'0'
    sub     w7, w4, #('a' - 10)
    cmp     w5, #10
    csel    w5, w5, w7, lo
    add     x6, x5, x6, lsl #4
    b       6b
7:  adr     x1, not_el2_text
8:  ldrb    w2, [x1], #1
    cbz     w2, 9f
    strb    w2, [x6]
    b       8b
9:  wfi
    b       9b
not_el2_text:
    .asciz  "(XEN) Not entered at EL2: the machine has no virtualization or the firmware keeps it. Halted.\r\n"
    .balign 8
    .ltorg

    .section .text.high, "ax"
primary_high:
    adrp    x1, __boot_stack_top
    mov     sp, x1
    adrp    x1, {boot_cpu}
    add     x1, x1, :lo12:{boot_cpu}
    msr     tpidr_el2, x1
    ldr     x1, =exception_vectors
    msr     vbar_el2, x1
    isb
    mov     x29, #0
    mov     x30, #0
    mov     x0, x19
    mov     x1, x24
    mov     x2, x20
    mov     x3, x25
    b       {main}

secondary_high:
    adrp    x1, {root}
    ldr     x1, [x1, :lo12:{root}]
    msr     ttbr0_el2, x1
    isb
    tlbi    alle2
    dsb     nsh
    isb
    ldr     x1, [x19, #{stack_top}]
    mov     sp, x1
    msr     tpidr_el2, x19
    ldr     x1, =exception_vectors
    msr     vbar_el2, x1
    isb
    mov     x29, #0
    mov     x30, #0
    mov     x0, x19
    b       {secondary_main}
    .ltorg

    .section .bss.boot_tables, "aw", @nobits
    .balign 4096
boot_root:      .space 4096
    .global image_l1
image_l1:       .space 4096
image_l2:       .space 4096
image_l3:       .space 4 * 4096
identity_l1:    .space 4096
identity_l2:    .space 4096
identity_l3:    .space 4096
    .text
"#,
    sctlr_off = const SCTLR_OFF,
    sctlr_on = const SCTLR_ON,
    mair = const MAIR,
    tcr = const TCR,
    image_base = const IMAGE_BASE,
    fdt_window = const FDT_WINDOW,
    stack_top = const core::mem::offset_of!(PerCpu, stack_top),
    boot_cpu = sym crate::percpu::BOOT_CPU,
    root = sym crate::mm::ROOT,
    main = sym crate::main,
    secondary_main = sym crate::smp::secondary_main,
    released = sym crate::spin_table::RELEASED,
    affinity = const crate::smp::AFFINITY,
);
