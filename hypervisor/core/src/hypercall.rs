//! The hypercall table: number to handler, one file per Xen public header.
//!
//! A handler decodes and pins, then acts, then answers; its errors become a return code in one place, [`Outcome`]'s `From`.

use crate::addr::CpuId;
use crate::domain::Domain;
use crate::guest_memory::{Fault, GuestMemory, GuestPtr};
use crate::hypervisor::Hypervisor;
use crate::vcpu::Vcpu;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::xen::hypercall as nr;

mod console_io;
mod domctl;
mod event_channel;
mod grant_table;
mod hvm;
mod memory;
mod multicall;
mod platform;
mod sched;
mod sysctl;
mod txcopy;
mod vcpu;
mod version;
pub use sysctl::press;

#[cfg(test)]
mod tests;

/// Argument registers, x0 to x4.
pub type Args = [u64; 5];

/// What a hypercall does to its caller's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// x0 becomes this; the guest goes on after the HVC.
    Return(i64),
    /// The arguments become these and the HVC is executed again, after interrupts were taken.
    Again(Args),
}

/// Who calls.
pub struct Caller<'a> {
    /// The calling domain.
    pub domain: &'a Arc<Domain>,
    /// The calling vCPU.
    pub vcpu: &'a Arc<Vcpu>,
    /// Its memory, through the stage-1 tables in force.
    pub memory: GuestMemory<'a>,
    /// The physical CPU it runs on.
    pub cpu: CpuId,
}

/// A result that becomes x0.
pub type Answer = Result<i64, Errno>;

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Return(answer.unwrap_or_else(Errno::to_return))
    }
}

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}

/// Performs hypercall `number` (x16) for `caller`. Numbers above 32 bits, and those Debian's Xen does not implement, answer `-ENOSYS`.
pub fn dispatch(hv: &Hypervisor, caller: &Caller<'_>, number: u64, args: &Args) -> Outcome {
    let outcome = call(hv, caller, number, args);
    if hv.has_zombies() {
        hv.bury();
    }
    outcome
}

fn call(hv: &Hypervisor, caller: &Caller<'_>, number: u64, args: &Args) -> Outcome {
    let [a0, a1, a2, ..] = *args;
    match number {
        nr::PLATFORM_OP => platform::platform_op(hv, caller, GuestPtr::new(a0)).into(),
        nr::MEMORY_OP => memory::memory_op(hv, caller, a0, a1),
        nr::MULTICALL => multicall::multicall(hv, caller, a0, a1),
        nr::XEN_VERSION => version::xen_version(hv, caller, a0 as u32, a1).into(),
        nr::CONSOLE_IO => console_io::console_io(hv, caller, a0 as u32, a1 as u32, a2),
        nr::GRANT_TABLE_OP => grant_table::grant_table_op(hv, caller, a0, a1, a2),
        nr::VM_ASSIST => vcpu::vm_assist(caller, a0 as u32, a1 as u32).into(),
        nr::VCPU_OP => vcpu::vcpu_op(hv, caller, a0 as u32, a1 as u32, a2).into(),
        nr::SCHED_OP => sched::sched_op(hv, caller, a0 as u32, a1).into(),
        nr::EVENT_CHANNEL_OP => event_channel::event_channel_op(hv, caller, a0 as u32, a1),
        nr::HVM_OP => hvm::hvm_op(hv, caller, a0, a1).into(),
        nr::SYSCTL => sysctl::sysctl(hv, caller, a0),
        nr::DOMCTL => domctl::domctl(hv, caller, args),
        // Debian's Xen has the parameter tree, but not for guests.
        nr::HYPFS_OP if !caller.domain.privileged => Err(Errno::EPERM).into(),
        guest_abi::txcopy::TXCOPY_OP => txcopy::txcopy_op(hv, caller, args),
        _ => Err(Errno::ENOSYS).into(),
    }
}
