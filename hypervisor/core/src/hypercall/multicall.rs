//! `multicall`: a list of hypercalls in one. Source: public/xen.h, `multicall_entry_t`.

use super::{Caller, Outcome};
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::preempt::steps;
use guest_abi::errno::Errno;
use guest_abi::xen::{MulticallEntry, hypercall};

/// Calls made before the guest may take an interrupt.
const BUDGET: u64 = 32;

/// Performs `count` calls from the list at `list`; each entry gets its result. Nested multicalls answer `-EINVAL`.
#[inline(never)]
pub fn multicall(hv: &Hypervisor, caller: &Caller<'_>, list: u64, count: u64) -> Outcome {
    let entries = GuestPtr::<MulticallEntry>::new(list);
    let now = count.min(steps(BUDGET));
    for i in 0..now {
        let step = (|| {
            let at = entries.offset(i).ok_or(Errno::EFAULT)?;
            let entry = caller.memory.pin(at)?;
            Ok::<_, Errno>((entry.read(), entry))
        })();
        let (mut call, entry) = match step {
            Ok(pinned) => pinned,
            Err(e) => return Err(e).into(),
        };
        let [a0, a1, a2, a3, a4, _] = call.args;
        let outcome = if call.op == hypercall::MULTICALL {
            Outcome::Return(Errno::EINVAL.to_return())
        } else {
            super::call(hv, caller, call.op, &[a0, a1, a2, a3, a4])
        };
        match outcome {
            Outcome::Return(result) => {
                call.result = result as u64;
                entry.write(&call);
            }
            Outcome::Again([a0, a1, a2, a3, a4]) => {
                let [.., a5] = call.args;
                call.args = [a0, a1, a2, a3, a4, a5];
                entry.write(&call);
                return again(entries, i, count);
            }
        }
    }
    if count > now { again(entries, now, count) } else { Outcome::Return(0) }
}

fn again(entries: GuestPtr<MulticallEntry>, done: u64, count: u64) -> Outcome {
    match entries.offset(done) {
        Some(next) => Outcome::Again([next.va().0, count - done, 0, 0, 0]),
        None => Err(Errno::EFAULT).into(),
    }
}
