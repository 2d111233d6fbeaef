//! Exception vectors. A fault within a [`super::probe`] is its answer; any other one ends the domain.

use super::cpu::read_sysreg;
use super::{console, cpu, gic};
use core::arch::global_asm;
use core::sync::atomic::Ordering::Relaxed;

/// What the vector code saves: x0 to x30, then `ELR_EL1` and `SPSR_EL1`.
#[repr(C)]
struct Frame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
    _pad: u64,
}

global_asm!(
    r#"
    .macro ENTRY kind
    .balign 128
    sub     sp, sp, #272
    stp     x0, x1, [sp]
    mov     x1, #\kind
    b       2f
    .endm
    .section .text.vectors, "ax"
    .balign 2048
__vectors:
    .irp kind, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ENTRY \kind
    .endr
    .balign 128
2:  stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    str     x2, [sp, #256]
    mov     x0, sp
    bl      {on_exception}
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x30, x2, [sp, #240]
    msr     elr_el1, x2
    ldp     x28, x29, [sp, #224]
    ldp     x26, x27, [sp, #208]
    ldp     x24, x25, [sp, #192]
    ldp     x22, x23, [sp, #176]
    ldp     x20, x21, [sp, #160]
    ldp     x18, x19, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp], #16
    add     sp, sp, #256
    eret
    "#,
    on_exception = sym on_exception,
);

/// Synchronous exception of the current level on `SP_EL1`.
const SYNC: u64 = 4;
/// Interrupt there.
const IRQ: u64 = 5;
/// First vector of exceptions of EL0.
const LOWER: u64 = 8;
/// EL1 on `SP_EL1`, all interrupts masked.
const EL1H: u64 = 0x3c5;

extern "C" fn on_exception(frame: &mut Frame, kind: u64) {
    if kind == IRQ {
        return gic::on_irq();
    }
    let (esr, far) = (read_sysreg!("esr_el1"), read_sysreg!("far_el1"));
    let this = cpu::this();
    let resume = this.resume.swap(0, Relaxed);
    // An SError ends a probe too: the answer says which vector it was.
    if resume != 0 && kind >= SYNC {
        this.vector.store(kind, Relaxed);
        this.esr.store(esr, Relaxed);
        this.far.store(far, Relaxed);
        this.elr.store(frame.elr, Relaxed);
        this.faulted.store(1, Relaxed);
        frame.elr = resume;
        // An illegal return has set PSTATE.IL; EL0 has its own state, and ends there.
        frame.spsr = if kind < LOWER { frame.spsr & !(1 << 20) } else { EL1H };
        return;
    }
    console::line(format_args!(
        "FATAL vector {kind} on CPU {}: ESR {esr:#x} FAR {far:#x} ELR {:#x} SPSR {:#x} LR {:#x}",
        cpu::index(),
        frame.elr,
        frame.spsr,
        frame.x[30]
    ));
    super::power_off()
}
