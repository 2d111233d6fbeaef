//! CPU pools: there is one, Pool-0, with all CPUs. Source: public/sysctl.h, `xen_sysctl_cpupool_op`.

use super::{Request, reply_cpus};
use guest_abi::domctl::XEN_SCHEDULER_CREDIT2;
use guest_abi::errno::Errno;
use guest_abi::sysctl::{self as abi, CpupoolOp};

/// Making, removing and changing pools answers `-EOPNOTSUPP`.
pub fn cpupool_op(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: CpupoolOp = request.payload()?;
    match op.op {
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            if op.cpupool_id != 0 {
                return Err(Errno::ENOENT);
            }
            let mut domains = 0;
            request.hv.domains.for_each(|_| domains += 1);
            op.sched_id = XEN_SCHEDULER_CREDIT2;
            op.n_dom = domains;
            reply_cpus(request, &op.cpumap, request.hv.sched.online())?;
            request.reply(&op)
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => reply_cpus(request, &op.cpumap, 0),
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN if op.cpupool_id == 0 => {
            let exists = request.hv.domains.get(crate::addr::DomainId(op.domid as u16)).is_some();
            if exists { Ok(()) } else { Err(Errno::ESRCH) }
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}
