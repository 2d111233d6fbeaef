//! Exception vectors, and entering the guest as a function.
//!
//! [`enter_guest`] saves what the C ABI asks a callee to keep, loads the guest's general registers and ERETs. Any exception from a lower
//! level stores them back and *returns* from that call. `SP_EL2` stays the stack pointer all the time. An exception from EL2 itself is our
//! own bug and ends in [`report`].
//!
//! A hypercall is the exit that is made most often and needs least: it is *served on the spot*. Only the registers that a C function may
//! change are stored; [`serve_hypercall`] does the rest, as a function that the exception calls; then the guest goes on. Where the run loop
//! has to decide, the other registers are stored, too, and [`enter_guest`] returns.

use core::arch::global_asm;
use core::ffi::c_void;
use core::mem::offset_of;

use aarch64_cpu::registers::{ESR_EL2, FAR_EL2, HPFAR_EL2};
use tock_registers::interfaces::Readable;
use xenolith_core::context::VcpuContext;
use xenolith_core::exit::{HYPERCALL_TAG, RawExit, Vector};

use crate::fault::{Frame, report};
use crate::percpu::PerCpu;
use crate::run::{Runner, serve_hypercall};

/// Why [`enter_guest`] returned.
pub enum Stopped {
    /// The guest needs something.
    Exit(RawExit),
    /// It made a hypercall, which was served; something was asked for.
    Served,
}

/// Runs the guest until something needs the run loop, and says what.
///
/// General registers, pc and PSTATE come from and go to `context`; everything else of the vCPU (`switch`, the list registers, the timer, stage
/// 2) is as the caller left it in the hardware. Physical interrupts are taken by EL2 whatever the guest masks. Hypercalls are served on the
/// spot by `runner`; null: each is an exit.
///
/// # Safety
/// `context` is that of the vCPU that `runner` has loaded, or, without a runner, the caller's own. Until this returns nothing else uses it or
/// `*runner`.
///
/// # Panics
/// If the PSTATE would not lead to EL1 or EL0: the caller lets no such value in.
pub unsafe fn enter_guest(context: *mut VcpuContext, runner: *mut Runner) -> Stopped {
    // EL0t, EL1t, EL1h, and AArch32 user mode. Any other value of M[4:0] would be an illegal return, or one to EL2.
    const MODES: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 16;
    // SAFETY: the caller's promise.
    assert!(MODES & 1 << (unsafe { (*context).pstate } & 0x1f) != 0);
    // SAFETY: the routine keeps the C ABI; it writes no memory but `context` and its own stack frame, and gives `runner` to `serve_hypercall`
    // alone, one call at a time, while nothing else uses it. The guest runs at EL1 or EL0, checked above (what serves a hypercall does not
    // change SPSR_EL2), and HCR_EL2.VM confines it to stage 2.
    let vector = match unsafe { run_guest(context, runner.cast()) } {
        0 => Vector::Synchronous,
        1 => return Stopped::Exit(RawExit { vector: Vector::Irq, esr: 0, far: 0, hpfar: 0 }),
        2 => return Stopped::Exit(RawExit { vector: Vector::Fiq, esr: 0, far: 0, hpfar: 0 }),
        3 => Vector::SError,
        _ => return Stopped::Served,
    };
    Stopped::Exit(RawExit { vector, esr: ESR_EL2.get(), far: FAR_EL2.get(), hpfar: HPFAR_EL2.get() })
}

/// [`serve_hypercall`]: the guest goes on at once, with x0 to x18, x29 and x30 from its context; pc and PSTATE are as they were.
pub const GO_ON: u64 = 0;
/// [`serve_hypercall`]: the run loop is to look first.
pub const SERVED: u64 = 4;

/// `ESR_EL2` of a hypercall: `hvc #0xea1` from AArch64.
const HYPERCALL: u64 = 0x16 << 26 | 1 << 25 | HYPERCALL_TAG;

unsafe extern "C" {
    /// See [`enter_guest`]; returns the number of the vector, 0 to 3, or what [`serve_hypercall`] said, if not [`GO_ON`].
    fn run_guest(context: *mut VcpuContext, runner: *mut c_void) -> u64;
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

    // The same for a synchronous exception from AArch64, which may be a hypercall.
    .macro guest_synchronous
    .balign 128
    stp     x0, x1, [sp, #-16]!
    mrs     x0, esr_el2
    mov     x1, #({hypercall} & 0xffff)
    movk    x1, #({hypercall} >> 16), lsl #16
    cmp     x0, x1
    ldp     x0, x1, [sp, #16]
    ccmp    x1, #0, #4, eq
    b.ne    guest_hypercall
    mov     x1, #0
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
    guest_synchronous
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
    stp     x0, x1, [sp]
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

guest_hypercall:
    // As guest_stopped, but x19 to x29 stay where they are: a C function keeps them.
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    str     x18, [x0, #144]
    ldp     x2, x3, [sp], #16
    stp     x29, x30, [x0, #232]
    stp     x2, x3, [x0]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [x0, #{pc}]
    mov     x0, x1
    add     x29, sp, #96
    bl      {serve_hypercall}
    ldr     x1, [sp]
    cbnz    x0, guest_served
    ldp     x2, x3, [x1, #16]
    ldp     x4, x5, [x1, #32]
    ldp     x6, x7, [x1, #48]
    ldp     x8, x9, [x1, #64]
    ldp     x10, x11, [x1, #80]
    ldp     x12, x13, [x1, #96]
    ldp     x14, x15, [x1, #112]
    ldp     x16, x17, [x1, #128]
    ldr     x18, [x1, #144]
    ldp     x29, x30, [x1, #232]
    ldp     x0, x1, [x1]
    eret
    dsb     nsh
    isb

guest_served:
    // x0: what to return, x1: VcpuContext
    stp     x19, x20, [x1, #152]
    stp     x21, x22, [x1, #168]
    stp     x23, x24, [x1, #184]
    stp     x25, x26, [x1, #200]
    stp     x27, x28, [x1, #216]
    b       guest_left

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
guest_left:
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
    hypercall = const HYPERCALL,
    serve_hypercall = sym serve_hypercall,
    report = sym report,
);

// The assembly takes x0 to x30 as the first words, and pc and pstate as a pair.
const _: () = assert!(offset_of!(VcpuContext, x) == 0 && offset_of!(VcpuContext, pstate) == offset_of!(VcpuContext, pc) + 8);
