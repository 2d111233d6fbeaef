//! `platform_op`: Dom0 sets the wall clock. Source: public/platform.h.

use super::{Answer, Caller};
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::policy;
use guest_abi::errno::Errno;
use guest_abi::platform::{PlatformOp, XENPF_INTERFACE_VERSION, XENPF_SETTIME64};

/// `-EACCES` wrong interface version, `-EPERM` unprivileged, `-ENOSYS` other commands, `-EINVAL` reserved field set.
#[inline(never)]
pub fn platform_op(hv: &Hypervisor, caller: &Caller<'_>, op: GuestPtr<PlatformOp>) -> Answer {
    let op = caller.memory.read(op)?;
    if op.interface_version != XENPF_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    if !policy::may_control(caller.domain.subject()) {
        return Err(Errno::EPERM);
    }
    if op.cmd != XENPF_SETTIME64 {
        return Err(Errno::ENOSYS);
    }
    if op.mbz != 0 {
        return Err(Errno::EINVAL);
    }
    hv.wall_clock.set(op.secs, op.nsecs, op.system_time);
    hv.domains.for_each(|domain| hv.publish_wall_clock(domain));
    Ok(0)
}
