//! `memory_op`: a domain's memory. Source: public/memory.h.

use super::{Caller, Outcome};
use crate::hypervisor::Hypervisor;
use guest_abi::errno::Errno;

/// Not there yet: answers `-ENOSYS`.
pub fn memory_op(_hv: &Hypervisor, _caller: &Caller<'_>, _cmd: u64, _arg: u64) -> Outcome {
    Err(Errno::ENOSYS).into()
}
