//! `XEN_DOMCTL_scheduler_op`: weight and cap of a domain, as credit2 has them.

use super::Request;
use crate::domain::Domain;
use crate::sched::Share;
use alloc::sync::Arc;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

pub fn scheduler_op(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let mut op: abi::SchedulerOp = request.payload()?;
    if op.sched_id != abi::XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    let sched = &request.hv.sched;
    let mut share = sched.share(domain.vmid);
    match op.cmd {
        abi::XEN_DOMCTL_SCHEDOP_GETINFO => {
            op.weight = share.weight;
            op.cap = share.cap;
            request.reply(&op)
        }
        abi::XEN_DOMCTL_SCHEDOP_PUTINFO => {
            // A weight of 0 leaves it as it is; a cap of all ones does too.
            if op.weight != 0 {
                share.weight = op.weight;
            }
            if op.cap != u16::MAX {
                share.cap = op.cap;
            }
            sched.set_share(domain.vmid, Share { ..share });
            request.reply(&op)
        }
        _ => Err(Errno::EINVAL),
    }
}
