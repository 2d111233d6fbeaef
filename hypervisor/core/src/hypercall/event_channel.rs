//! `event_channel_op`: making, using and closing event channels. Source: public/event_channel.h.
//!
//! Where the policy refuses, the operation's own errors still come first, as in Xen.

#[cfg(test)]
mod tests;

use super::{Answer, Caller, Outcome};
use crate::addr::{DomainId, Gfn, Mfn};
use crate::domain::Domain;
use crate::domain::destroy::Progress;
use crate::evtchn::{self, Binding, Closer, Delivery, EventError, FIFO_LINK_BITS, Peer};
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::policy;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::event_channel as abi;
use guest_abi::trace::own::TRC_XENOLITH_EVENT;
use guest_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, IntoBytes};

/// [`abi::EVTCHNOP_RESET`] going on: a number that the public header leaves to the hypervisor.
const EVTCHNOP_RESET_CONT: u32 = 14;

/// One call: by whom, and where its structure is.
struct Request<'a> {
    hv: &'a Hypervisor,
    caller: &'a Caller<'a>,
    at: u64,
}

/// Unknown commands answer `-ENOSYS`.
#[inline(never)]
pub fn event_channel_op(hv: &Hypervisor, caller: &Caller<'_>, cmd: u32, at: u64) -> Outcome {
    let request = Request { hv, caller, at };
    match cmd {
        abi::EVTCHNOP_SEND => request.send().into(),
        _ => control(&request, cmd),
    }
}

// Apart from sending, which is to have the registers for itself.
#[inline(never)]
fn control(request: &Request<'_>, cmd: u32) -> Outcome {
    let at = request.at;
    match cmd {
        abi::EVTCHNOP_UNMASK => request.unmask(),
        abi::EVTCHNOP_ALLOC_UNBOUND => request.alloc_unbound(),
        abi::EVTCHNOP_BIND_INTERDOMAIN => request.bind_interdomain(),
        abi::EVTCHNOP_BIND_VIRQ => request.bind_virq(),
        abi::EVTCHNOP_BIND_PIRQ => request.bind_pirq(),
        abi::EVTCHNOP_BIND_IPI => request.bind_ipi(),
        abi::EVTCHNOP_BIND_VCPU => request.bind_vcpu(),
        abi::EVTCHNOP_CLOSE => request.close(),
        abi::EVTCHNOP_STATUS => request.status(),
        abi::EVTCHNOP_INIT_CONTROL => request.init_control(),
        abi::EVTCHNOP_EXPAND_ARRAY => request.expand_array(),
        abi::EVTCHNOP_SET_PRIORITY => request.set_priority(),
        abi::EVTCHNOP_RESET | EVTCHNOP_RESET_CONT => match request.reset(cmd == EVTCHNOP_RESET_CONT) {
            Ok(Progress::More) => return Outcome::Again([EVTCHNOP_RESET_CONT.into(), at, 0, 0, 0]),
            Ok(Progress::Done) => Ok(0),
            Err(error) => Err(error),
        },
        _ => Err(Errno::ENOSYS),
    }
    .into()
}

impl Request<'_> {
    fn send(&self) -> Answer {
        let abi::Send { port } = self.read()?;
        let (domain, by) = (self.caller.domain, Some(self.caller.vcpu.sched));
        // In each arm, so that what was sent need not be kept for it.
        let record = |to: DomainId, there| {
            self.hv.trace.record(TRC_XENOLITH_EVENT, || [u32::from(domain.id.0) << 16 | u32::from(to.0), port, there]);
        };
        match domain.events.send(self.hv.machine, port) {
            Err(error) => return Err(error.into()),
            Ok(Delivery::Local(notify)) => {
                record(domain.id, 0);
                self.hv.deliver_by(by, domain, notify);
            }
            Ok(Delivery::Remote(to)) => {
                record(to.domain, to.port);
                if let Some(remote) = self.hv.domains.get(to.domain) {
                    let notify = remote.events.deliver(self.hv.machine, to.port, Peer { domain: domain.id, port });
                    self.hv.deliver_by(by, &remote, notify);
                }
            }
        }
        Ok(0)
    }

    fn unmask(&self) -> Answer {
        let abi::Unmask { port } = self.read()?;
        let notify = self.caller.domain.events.unmask(self.hv.machine, port)?;
        self.hv.deliver(self.caller.domain, notify);
        Ok(0)
    }

    /// `-ESRCH` also for a remote domain that does not exist, as SILO looks at it.
    fn alloc_unbound(&self) -> Answer {
        let mut request = self.read::<abi::AllocUnbound>()?;
        let domain = self.domain(request.dom)?;
        let remote = self.domain_id(request.remote_dom);
        self.may_listen(&domain, remote).or_else(|refusal| {
            domain.events.check_free_port(self.hv.machine)?;
            Err(refusal)
        })?;
        // That it cannot be written is found last, as in Xen, but before there is a port.
        let pinned = self.caller.memory.pin(GuestPtr::<abi::AllocUnbound>::new(self.at))?;
        request.port = domain.events.alloc_unbound(self.hv.machine, remote)?;
        pinned.write(&request);
        Ok(0)
    }

    /// May the caller make a port of `domain` that `remote` connects to?
    fn may_listen(&self, domain: &Domain, remote: DomainId) -> Result<(), Errno> {
        let remote = self.domain(remote.0)?;
        let allowed = self.hv.policy.may_share(domain.subject(), remote.subject())
            && policy::may_target(self.caller.domain.subject(), domain.subject());
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn bind_interdomain(&self) -> Answer {
        let pinned = self.caller.memory.pin(GuestPtr::<abi::BindInterdomain>::new(self.at))?;
        let mut request = pinned.read();
        let local = self.caller.domain;
        let remote = self.domain(request.remote_dom)?;
        if !self.hv.policy.may_share(local.subject(), remote.subject()) {
            evtchn::check_interdomain(self.hv.machine, &local.events, &remote.events, request.remote_port)?;
            return Err(Errno::EPERM);
        }
        let (port, notify) = evtchn::bind_interdomain(self.hv.machine, &local.events, &remote.events, request.remote_port)?;
        request.local_port = port;
        pinned.write(&request);
        self.hv.deliver(local, notify);
        Ok(0)
    }

    fn bind_virq(&self) -> Answer {
        let pinned = self.caller.memory.pin(GuestPtr::<abi::BindVirq>::new(self.at))?;
        let mut request = pinned.read();
        request.port = self.caller.domain.events.bind_virq(self.hv.machine, request.virq, request.vcpu)?;
        pinned.write(&request);
        Ok(0)
    }

    fn bind_ipi(&self) -> Answer {
        let pinned = self.caller.memory.pin(GuestPtr::<abi::BindIpi>::new(self.at))?;
        let mut request = pinned.read();
        request.port = self.caller.domain.events.bind_ipi(self.hv.machine, request.vcpu)?;
        pinned.write(&request);
        Ok(0)
    }

    /// Arm has none, but the structure must be readable.
    fn bind_pirq(&self) -> Answer {
        self.read::<abi::BindPirq>()?;
        Err(Errno::EOPNOTSUPP)
    }

    fn bind_vcpu(&self) -> Answer {
        let abi::BindVcpu { port, vcpu } = self.read()?;
        self.caller.domain.events.bind_vcpu(port, vcpu)?;
        Ok(0)
    }

    fn close(&self) -> Answer {
        let abi::Close { port } = self.read()?;
        self.hv.close_port(self.caller.domain, port, Closer::Guest)?;
        Ok(0)
    }

    fn status(&self) -> Answer {
        let pinned = self.caller.memory.pin(GuestPtr::<abi::Status>::new(self.at))?;
        let mut request = pinned.read();
        let domain = self.domain(request.dom)?;
        let status = domain.events.status(request.port);
        if status == Err(EventError::InvalidPort) {
            return Err(Errno::EINVAL);
        }
        if !policy::may_target(self.caller.domain.subject(), domain.subject()) {
            return Err(Errno::EPERM);
        }
        let status = status?;
        request.vcpu = status.vcpu;
        // As in Xen, what a binding does not have stays as the caller wrote it.
        let (binding, remote_port) = (request.binding, request.remote_port);
        let with_domain = |id: DomainId| binding & 0xffff_0000 | u32::from(id.0);
        (request.status, request.binding, request.remote_port) = match status.binding {
            Binding::Free | Binding::Reserved => (abi::EVTCHNSTAT_CLOSED, binding, remote_port),
            Binding::Unbound { remote } => (abi::EVTCHNSTAT_UNBOUND, with_domain(remote), remote_port),
            Binding::Interdomain { domain, port } => (abi::EVTCHNSTAT_INTERDOMAIN, with_domain(domain), port),
            Binding::Virq(virq) => (abi::EVTCHNSTAT_VIRQ, virq.into(), remote_port),
            Binding::Ipi => (abi::EVTCHNSTAT_IPI, binding, remote_port),
        };
        pinned.write(&request);
        Ok(0)
    }

    fn init_control(&self) -> Answer {
        let pinned = self.caller.memory.pin(GuestPtr::<abi::InitControl>::new(self.at))?;
        let mut request = pinned.read();
        let domain = self.caller.domain;
        domain.events.check_init_control(request.vcpu, request.offset)?;
        let page = self.hold(request.control_gfn)?;
        let notify = domain
            .events
            .init_control(self.hv.machine, request.vcpu, page.address(), request.offset)
            .inspect_err(|_| self.hv.frames.put(page))?;
        request.link_bits = FIFO_LINK_BITS;
        pinned.write(&request);
        self.hv.deliver(domain, notify);
        Ok(0)
    }

    fn expand_array(&self) -> Answer {
        let abi::ExpandArray { array_gfn } = self.read()?;
        let domain = self.caller.domain;
        domain.events.check_expand_array()?;
        let page = self.hold(array_gfn)?;
        let notify = domain.events.expand_array(self.hv.machine, page.address()).inspect_err(|_| self.hv.frames.put(page))?;
        self.hv.deliver(domain, notify);
        Ok(0)
    }

    fn set_priority(&self) -> Answer {
        let abi::SetPriority { port, priority } = self.read()?;
        self.caller.domain.events.set_priority(port, priority)?;
        Ok(0)
    }

    fn reset(&self, going_on: bool) -> Result<Progress, Errno> {
        let abi::Reset { dom } = self.read()?;
        let domain = self.domain(dom)?;
        if !policy::may_target(self.caller.domain.subject(), domain.subject()) {
            return Err(Errno::EPERM);
        }
        if domain.id != self.caller.domain.id && domain.life.lock().pauses == 0 {
            return Err(Errno::EINVAL);
        }
        if !going_on {
            domain.events.begin_reset()?;
        }
        Ok(self.hv.close_ports(&domain, Closer::Guest)?)
    }

    fn read<T: FromBytes + IntoBytes>(&self) -> Result<T, Errno> {
        Ok(self.caller.memory.read(GuestPtr::new(self.at))?)
    }

    /// The domain that the caller names.
    fn domain(&self, id: u16) -> Result<Arc<Domain>, Errno> {
        match self.domain_id(id) {
            id if id == self.caller.domain.id => Ok(self.caller.domain.clone()),
            id => self.hv.domains.get(id).ok_or(Errno::ESRCH),
        }
    }

    fn domain_id(&self, id: u16) -> DomainId {
        if id == DOMID_SELF { self.caller.domain.id } else { DomainId(id) }
    }

    /// A page of the caller's own RAM that it may write, with a reference.
    fn hold(&self, gfn: u64) -> Result<Mfn, Errno> {
        self.caller.domain.p2m.get_own(&self.hv.frames, Gfn(gfn), true).ok_or(Errno::EINVAL)
    }
}
