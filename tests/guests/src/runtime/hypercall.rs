//! Hypercalls and firmware calls.
//!
//! A hypercall may write where its arguments point. Tests only pass addresses of what they own: structures that they borrow mutably
//! ([`with`]), [`super::page::Page`]s, and addresses that are wrong on purpose, which name no Rust object.

use core::arch::asm;
use guest_abi::xen::hypercall as nr;

/// Any hypercall with raw arguments.
pub fn raw(number: u64, args: [u64; 5]) -> i64 {
    let result: u64;
    // SAFETY: the registers that the ABI may clobber are declared; memory is only written where the module header says.
    unsafe {
        asm!("hvc #0xea1", inout("x0") args[0] => result, inout("x1") args[1] => _, inout("x2") args[2] => _,
            inout("x3") args[3] => _, inout("x4") args[4] => _, inout("x16") number => _, options(nostack));
    }
    result.cast_signed()
}

/// `HYPERVISOR_op(cmd, argument)`.
pub fn with<T>(number: u64, cmd: u64, argument: &mut T) -> i64 {
    raw(number, [cmd, address(argument), 0, 0, 0])
}

/// The address of a structure, for another structure or as an argument.
pub fn address<T: ?Sized>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).cast::<u8>().expose_provenance() as u64
}

/// `event_channel_op`.
pub fn event<T>(cmd: u32, argument: &mut T) -> i64 {
    with(nr::EVENT_CHANNEL_OP, cmd.into(), argument)
}

/// `memory_op`.
pub fn memory<T>(cmd: u64, argument: &mut T) -> i64 {
    with(nr::MEMORY_OP, cmd, argument)
}

/// `grant_table_op` with one operation.
pub fn grant<T>(cmd: u32, argument: &mut T) -> i64 {
    raw(nr::GRANT_TABLE_OP, [cmd.into(), address(argument), 1, 0, 0])
}

/// `sched_op`.
pub fn sched<T>(cmd: u32, argument: &mut T) -> i64 {
    with(nr::SCHED_OP, cmd.into(), argument)
}

/// A call by HVC #0 (PSCI, SMCCC); the result in x0.
pub fn firmware(function: u32, args: [u64; 3]) -> i64 {
    firmware4(function.into(), args)[0].cast_signed()
}

/// A call by HVC #0; the results in x0 to x3.
pub fn firmware4(function: u64, args: [u64; 3]) -> [u64; 4] {
    let mut x = [function, args[0], args[1], args[2]];
    // SAFETY: SMCCC lets the callee clobber x0 to x17, which clobber_abi and the outputs declare; no memory is passed but the entry
    // point of CPU_ON, which is `__secondary` or nonsense on purpose.
    unsafe {
        asm!("hvc #0", inout("x0") x[0], inout("x1") x[1], inout("x2") x[2], inout("x3") x[3], clobber_abi("C"), options(nostack));
    }
    x
}
