//! `sched_op`: yield, block, poll, shutdown. Source: public/sched.h.

use super::{Answer, Caller};
use crate::addr::DomainId;
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::policy;
use crate::vcpu::BLOCKED;
use core::sync::atomic::Ordering;
use guest_abi::errno::Errno;
use guest_abi::sched as abi;

/// Ports of one poll at most.
const MAX_POLL: u32 = 128;

/// Unknown commands answer `-ENOSYS`.
#[inline(never)]
pub fn sched_op(hv: &Hypervisor, caller: &Caller<'_>, cmd: u32, arg: u64) -> Answer {
    match cmd {
        abi::SCHEDOP_YIELD => {
            hv.sched.yield_now(caller.cpu, hv.now());
            hv.sched.ask(caller.cpu);
            Ok(0)
        }
        abi::SCHEDOP_BLOCK => {
            block(hv, caller);
            Ok(0)
        }
        abi::SCHEDOP_SHUTDOWN => {
            let request = caller.memory.read(GuestPtr::<abi::Shutdown>::new(arg))?;
            hv.shutdown(caller.domain, request.reason as u8);
            Ok(0)
        }
        abi::SCHEDOP_SHUTDOWN_CODE => {
            let request = caller.memory.read(GuestPtr::<abi::Shutdown>::new(arg))?;
            let mut life = caller.domain.life.lock();
            if life.shutdown_code.is_none() {
                life.shutdown_code = Some(request.reason as u8);
            }
            Ok(0)
        }
        abi::SCHEDOP_POLL => poll(hv, caller, arg),
        abi::SCHEDOP_REMOTE_SHUTDOWN => {
            let request = caller.memory.read(GuestPtr::<abi::RemoteShutdown>::new(arg))?;
            let target = hv.domains.get(DomainId(request.domain_id)).ok_or(Errno::ESRCH)?;
            if !policy::may_control(caller.domain.subject()) {
                return Err(Errno::EPERM);
            }
            hv.shutdown(&target, request.reason as u8);
            Ok(0)
        }
        abi::SCHEDOP_WATCHDOG => {
            let request = caller.memory.read(GuestPtr::<abi::Watchdog>::new(arg))?;
            hv.set_watchdog(caller.domain, request.id, request.timeout)
        }
        abi::SCHEDOP_PIN_OVERRIDE if !caller.domain.privileged => Err(Errno::EPERM),
        _ => Err(Errno::ENOSYS),
    }
}

/// The calling vCPU waits until something is pending.
pub fn block(hv: &Hypervisor, caller: &Caller<'_>) {
    caller.vcpu.set(BLOCKED);
    if caller.domain.vgic.has_deliverable(caller.vcpu.id) {
        caller.vcpu.clear(BLOCKED);
    } else {
        hv.sched.ask(caller.cpu);
    }
}

/// Waits until one of the ports is pending or the timeout has passed.
fn poll(hv: &Hypervisor, caller: &Caller<'_>, arg: u64) -> Answer {
    let request = caller.memory.read(GuestPtr::<abi::Poll>::new(arg))?;
    if request.nr_ports > MAX_POLL {
        return Err(Errno::EINVAL);
    }
    let mut ports = [0; MAX_POLL as usize];
    let wanted = ports.get_mut(..request.nr_ports as usize).unwrap_or_default();
    let at = GuestPtr::<u32>::new(request.ports);
    for (i, port) in wanted.iter_mut().enumerate() {
        *port = caller.memory.read(at.offset(i as u64).ok_or(Errno::EFAULT)?)?;
    }
    caller.vcpu.set(BLOCKED);
    if caller.domain.events.poll(hv.machine, caller.vcpu.id, wanted).inspect_err(|_| {
        caller.vcpu.clear(BLOCKED);
    })? || caller.domain.vgic.has_deliverable(caller.vcpu.id)
    {
        caller.domain.events.stop_polling(caller.vcpu.id);
        caller.vcpu.clear(BLOCKED);
        return Ok(0);
    }
    let deadline = if request.timeout == 0 { 0 } else { hv.clock.ticks(request.timeout) };
    caller.vcpu.poll_deadline.store(deadline, Ordering::SeqCst);
    hv.sched.ask(caller.cpu);
    Ok(0)
}
