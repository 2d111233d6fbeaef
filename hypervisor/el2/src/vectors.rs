//! Exception vectors, and entering the guest as a function.
//!
//! [`enter_guest`] saves what the C ABI asks a callee to keep, loads the guest's general registers and ERETs. Any exception from a lower
//! level stores them back and *returns* from that call. `SP_EL2` stays the stack pointer all the time. An exception from EL2 itself is our
//! own bug and ends in [`report`].

use core::arch::global_asm;
use core::mem::offset_of;

use aarch64_cpu::registers::{ESR_EL2, FAR_EL2, HPFAR_EL2};
use tock_registers::interfaces::Readable;
use xenolith_core::context::VcpuContext;
use xenolith_core::exit::{RawExit, Vector};

use crate::fault::{Frame, report};
use crate::percpu::PerCpu;

/// Runs the guest until something needs EL2, and says what.
///
/// General registers, pc and PSTATE come from and go to `context`; everything else of the vCPU (`switch`, the list registers, the timer, stage
/// 2) is as the caller left it in the hardware. Physical interrupts are taken by EL2 whatever the guest masks.
///
/// # Panics
/// If the PSTATE would not lead to EL1 or EL0: the caller lets no such value in.
pub fn enter_guest(context: &mut VcpuContext) -> RawExit {
    // EL0t, EL1t, EL1h, and AArch32 user mode. Any other value of M[4:0] would be an illegal return, or one to EL2.
    const MODES: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 16;
    assert!(MODES & 1 << (context.pstate & 0x1f) != 0);
    // SAFETY: the routine keeps the C ABI; it writes no memory but `context` and its own stack frame. The guest runs at EL1 or EL0, checked above,
    // and HCR_EL2.VM confines it to stage 2.
    let vector = match unsafe { run_guest(context) } {
        0 => Vector::Synchronous,
        1 => return RawExit { vector: Vector::Irq, esr: 0, far: 0, hpfar: 0 },
        2 => return RawExit { vector: Vector::Fiq, esr: 0, far: 0, hpfar: 0 },
        _ => Vector::SError,
    };
    RawExit { vector, esr: ESR_EL2.get(), far: FAR_EL2.get(), hpfar: HPFAR_EL2.get() }
}

unsafe extern "C" {
    /// See [`enter_guest`]; returns the number of the vector, 0 to 3.
    fn run_guest(context: *mut VcpuContext) -> u64;
}

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

    // The guest stopped: its x0 and x1 below run_guest's frame, x0: VcpuContext, x1: the vector.
    .macro guest_exit kind
    .balign 128
    stp     x0, x1, [sp, #-16]!
    ldr     x0, [sp, #16]
    mov     x1, #\kind
    b       guest_stopped
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
    guest_exit 0
    guest_exit 1
    guest_exit 2
    guest_exit 3
    guest_exit 0
    guest_exit 1
    guest_exit 2
    guest_exit 3
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

    .global run_guest
run_guest:
    sub     sp, sp, #112
    str     x0, [sp]
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     x29, x30, [sp, #96]
    ldp     x1, x2, [x0, #{pc}]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldr     x30, [x0, #240]
    ldp     x0, x1, [x0]
    eret
    // No speculation past the return.
    dsb     nsh
    isb

guest_stopped:
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    ldp     x2, x3, [sp], #16
    str     x30, [x0, #240]
    stp     x2, x3, [x0]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [x0, #{pc}]
    mov     x0, x1
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp, #96]
    add     sp, sp, #112
    ret
"#,
    pc = const offset_of!(VcpuContext, pc),
    fault_x1 = const offset_of!(PerCpu, fault_x1),
    fault_sp = const offset_of!(PerCpu, fault_sp),
    emergency_end = const offset_of!(PerCpu, emergency_end),
    frame_size = const size_of::<Frame>(),
    report = sym report,
);

// The assembly takes x0 to x30 as the first words, and pc and pstate as a pair.
const _: () = assert!(offset_of!(VcpuContext, x) == 0 && offset_of!(VcpuContext, pstate) == offset_of!(VcpuContext, pc) + 8);
