//! `hvm_op`: the parameters by which toolstack and guest find the store and the console. Source: public/hvm/hvm_op.h, params.h.

use super::{Answer, Caller};
use crate::addr::DomainId;
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::policy;
use guest_abi::errno::Errno;
use guest_abi::hvm as abi;
use guest_abi::xen::DOMID_SELF;

/// Commands other than set, get and the request to a monitor, which nobody hears, answer `-ENOSYS`.
#[inline(never)]
pub fn hvm_op(hv: &Hypervisor, caller: &Caller<'_>, cmd: u64, arg: u64) -> Answer {
    if cmd == abi::HVMOP_GUEST_REQUEST_VM_EVENT {
        return if arg == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    }
    if cmd != abi::HVMOP_SET_PARAM && cmd != abi::HVMOP_GET_PARAM {
        return Err(Errno::ENOSYS);
    }
    let at = GuestPtr::<abi::HvmParam>::new(arg);
    let mut request = caller.memory.read(at)?;
    let domain = if request.domid == DOMID_SELF || request.domid == caller.domain.id.0 {
        caller.domain.clone()
    } else {
        hv.domains.get(DomainId(request.domid)).ok_or(Errno::ESRCH)?
    };
    if !policy::may_target(caller.domain.subject(), domain.subject()) {
        return Err(Errno::EPERM);
    }
    let mut params = domain.params.lock();
    let known = is_known(request.index, caller.domain.privileged)?;
    let slot = params.get_mut(request.index as usize).filter(|_| known).ok_or(Errno::EINVAL)?;
    if cmd == abi::HVMOP_GET_PARAM {
        request.value = *slot;
        caller.memory.write(at, &request)?;
        return Ok(0);
    }
    if !caller.domain.privileged || caller.domain.id == domain.id {
        return Err(Errno::EPERM);
    }
    *slot = request.value;
    Ok(0)
}

/// The parameters Arm has; the monitor ring is the toolstack's.
fn is_known(index: u32, privileged: bool) -> Result<bool, Errno> {
    match index {
        abi::HVM_PARAM_CALLBACK_IRQ
        | abi::HVM_PARAM_STORE_PFN
        | abi::HVM_PARAM_STORE_EVTCHN
        | abi::HVM_PARAM_CONSOLE_PFN
        | abi::HVM_PARAM_CONSOLE_EVTCHN => Ok(true),
        abi::HVM_PARAM_MONITOR_RING_PFN if privileged => Ok(true),
        abi::HVM_PARAM_MONITOR_RING_PFN => Err(Errno::EPERM),
        _ => Ok(false),
    }
}
