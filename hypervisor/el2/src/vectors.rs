//! Exception vectors.

use core::arch::global_asm;

use crate::fault::{Frame, report};
use crate::percpu::PerCpu;

global_asm!(
    r#"
    // A fault of EL2: save all on the emergency stack, and report. SP_EL0 is the guest's, which is lost anyway.
    .macro el2_fault kind
    .balign 128
    msr     sp_el0, x0
    mrs     x0, tpidr_el2
    str     x1, [x0, #{fault_x1}]
    mov     x1, sp
    str     x1, [x0, #{fault_sp}]
    mov     w1, #\kind
    b       el2_fault_common
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    el2_fault 0
    el2_fault 1
    el2_fault 2
    el2_fault 3
    el2_fault 4
    el2_fault 5
    el2_fault 6
    el2_fault 7
    el2_fault 8
    el2_fault 9
    el2_fault 10
    el2_fault 11
    el2_fault 12
    el2_fault 13
    el2_fault 14
    el2_fault 15
    .balign 128

el2_fault_common:
    // x0: PerCpu, w1: the vector
    add     x0, x0, #({emergency_end} & 0xfff)
    add     x0, x0, #({emergency_end} >> 12), lsl #12
    mov     sp, x0
    sub     sp, sp, #{frame_size}
    stp     x2, x3, [sp, #16]
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
    mrs     x2, tpidr_el2
    mrs     x3, sp_el0
    ldr     x4, [x2, #{fault_x1}]
    ldr     x5, [x2, #{fault_sp}]
    stp     x3, x4, [sp]
    stp     x30, x5, [sp, #240]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [sp, #256]
    mov     x0, sp
    bl      {report}
    b       .
"#,
    fault_x1 = const core::mem::offset_of!(PerCpu, fault_x1),
    fault_sp = const core::mem::offset_of!(PerCpu, fault_sp),
    emergency_end = const core::mem::offset_of!(PerCpu, emergency_end),
    frame_size = const size_of::<Frame>(),
    report = sym report,
);
