//! `vcpu_op` and `vm_assist`: where a vCPU's shared structures are. Source: public/vcpu.h, public/xen.h.

use super::{Answer, Caller};
use crate::addr::{Gfn, GuestVa, PAGE_SIZE};
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use core::sync::atomic::Ordering;
use guest_abi::errno::Errno;
use guest_abi::vcpu as abi;
use guest_abi::xen;

/// Only the two sub-operations that Xen has on Arm; others answer `-EINVAL`. `-ENOENT` for a vCPU that does not exist.
#[inline(never)]
pub fn vcpu_op(hv: &Hypervisor, caller: &Caller<'_>, cmd: u32, vcpu: u32, arg: u64) -> Answer {
    let domain = caller.domain;
    let target = domain.vcpu(vcpu).ok_or(Errno::ENOENT)?;
    match cmd {
        abi::VCPUOP_REGISTER_VCPU_INFO => {
            let request = caller.memory.read(GuestPtr::<abi::RegisterVcpuInfo>::new(arg))?;
            let offset = u64::from(request.offset);
            if offset >= PAGE_SIZE || request.mfn > u64::MAX / PAGE_SIZE {
                return Err(Errno::EINVAL);
            }
            domain.events.check_vcpu_info(vcpu, offset)?;
            let frame = domain.p2m.get_own(&hv.frames, Gfn(request.mfn), true).ok_or(Errno::EINVAL)?;
            let at = frame.address().checked_add(offset).ok_or(Errno::EINVAL)?;
            match domain.events.register_vcpu_info(hv.machine, vcpu, at) {
                Ok(raised) => {
                    hv.deliver(domain, raised);
                    Ok(0)
                }
                Err(error) => {
                    hv.frames.put(frame);
                    Err(error.errno())
                }
            }
        }
        abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let request = caller.memory.read(GuestPtr::<u64>::new(arg))?;
            // As in Xen an address that cannot be written is no error: nothing is written.
            let area = crate::runstate::Area::pin(caller, &hv.frames, GuestVa(request)).ok();
            if let (Some(area), Some(times)) = (&area, hv.sched.runstate(target.sched, hv.now())) {
                area.write(hv.machine, &times, domain.assists(xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG));
            }
            let mut registered = target.runstate.lock();
            target.has_runstate.store(area.is_some(), Ordering::Release);
            let old = core::mem::replace(&mut *registered, area);
            drop(registered);
            if let Some(old) = old {
                old.release(&hv.frames);
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Turns an assist on or off. `-EINVAL` for a type Arm does not have, `-ENOSYS` for another command.
#[inline(never)]
pub fn vm_assist(caller: &Caller<'_>, cmd: u32, kind: u32) -> Answer {
    if kind != xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG {
        return Err(Errno::EINVAL);
    }
    if !matches!(cmd, xen::VMASST_CMD_ENABLE | xen::VMASST_CMD_DISABLE) {
        return Err(Errno::ENOSYS);
    }
    if cmd == xen::VMASST_CMD_ENABLE {
        caller.domain.assists.fetch_or(1 << kind, Ordering::Relaxed);
    } else {
        caller.domain.assists.fetch_and(!(1 << kind), Ordering::Relaxed);
    }
    Ok(0)
}
