//! Making, changing and closing channels, and asking what they are.

use super::{Binding, EventChannels, EventError, Notify, State, VIRQS, fifo};
use crate::addr::DomainId;
use crate::machine::Machine;

/// Whose wish it is that a port be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closer {
    /// A guest's: it cannot close what the hypervisor consumes.
    Guest,
    /// The hypervisor's own.
    Hypervisor,
}

/// How far [`EventChannels::close`] came.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The port is free.
    Done,
    /// Nothing has happened yet: the port is connected to this domain; call [`close_interdomain`] with its table.
    Peer(DomainId),
}

/// What `EVTCHNOP_status` tells of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// What the port is bound to.
    pub binding: Binding,
    /// The vCPU that it notifies.
    pub vcpu: u32,
}

impl EventChannels {
    /// A new port that `remote` may connect to (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// `Dying`, `NoSpace`, `NoMemory`.
    pub fn alloc_unbound(&self, machine: &dyn Machine, remote: DomainId) -> Result<u32, EventError> {
        self.bind(machine, Binding::Unbound { remote }, 0)
    }

    /// Whether a port could be allocated now: so that a refusal by policy is told only where Xen tells it.
    ///
    /// # Errors
    /// `Dying`, `NoSpace`, `NoMemory`.
    pub fn check_free_port(&self, machine: &dyn Machine) -> Result<(), EventError> {
        self.state.lock().find_free(machine).map(|_| ())
    }

    /// As [`Self::alloc_unbound`] for the hypervisor's own use: events sent to the new port come back to the caller as
    /// [`Notify::xen_consumer`], and notify `vcpu` otherwise. The guest cannot send on the port or close it.
    ///
    /// # Errors
    /// `NoSuchVcpu`, `Dying`, `NoSpace`, `NoMemory`.
    pub fn alloc_unbound_for_xen(&self, machine: &dyn Machine, remote: DomainId, vcpu: u32) -> Result<u32, EventError> {
        let mut state = self.state.lock();
        let vcpu = state.vcpu(vcpu)?;
        let port = state.find_free(machine)?;
        state.ports.take(port, Binding::Unbound { remote }, vcpu);
        state.ports.open_xen += 1;
        if let Some(channel) = state.ports.get_mut(port) {
            channel.xen_consumer = true;
        }
        Ok(port)
    }

    /// A new port on which the domain notifies its own `vcpu` (`EVTCHNOP_bind_ipi`).
    ///
    /// # Errors
    /// `NoSuchVcpu`, `Dying`, `NoSpace`, `NoMemory`.
    pub fn bind_ipi(&self, machine: &dyn Machine, vcpu: u32) -> Result<u32, EventError> {
        self.bind(machine, Binding::Ipi, vcpu)
    }

    /// A new port that is raised by virtual interrupt `virq` (`EVTCHNOP_bind_virq`), which is that of `vcpu` if it is a per-vCPU one.
    ///
    /// # Errors
    /// `InvalidVirq` if there is no such interrupt, or it is global and `vcpu` is not 0; `NoSuchVcpu`; `VirqBound`; `Dying`, `NoSpace`,
    /// `NoMemory`.
    pub fn bind_virq(&self, machine: &dyn Machine, virq: u32, vcpu: u32) -> Result<u32, EventError> {
        let number = u8::try_from(virq).ok().filter(|&v| usize::from(v) < VIRQS).ok_or(EventError::InvalidVirq)?;
        if is_global(number) && vcpu != 0 {
            return Err(EventError::InvalidVirq);
        }
        let mut state = self.state.lock();
        let vcpu = state.vcpu(vcpu)?;
        if state.virq_port(number, vcpu) != 0 {
            return Err(EventError::VirqBound);
        }
        let port = state.find_free(machine)?;
        state.ports.take(port, Binding::Virq(number), vcpu);
        state.set_virq_port(number, vcpu, port);
        Ok(port)
    }

    /// Makes `port` notify `vcpu` from now on (`EVTCHNOP_bind_vcpu`). What is pending stays where it is.
    ///
    /// # Errors
    /// `NoSuchVcpu`; `InvalidPort` if the port is not in use, or is bound to one vCPU by its nature.
    pub fn bind_vcpu(&self, port: u32, vcpu: u32) -> Result<(), EventError> {
        let mut state = self.state.lock();
        let vcpu = state.vcpu(vcpu)?;
        let channel = state.guest_port(port)?;
        match channel.binding {
            Binding::Unbound { .. } | Binding::Interdomain { .. } => {}
            Binding::Virq(virq) if is_global(virq) => {}
            _ => return Err(EventError::InvalidPort),
        }
        channel.vcpu = vcpu;
        Ok(())
    }

    /// Sets the FIFO priority with which `port` is linked from now on (`EVTCHNOP_set_priority`).
    ///
    /// # Errors
    /// In the order of Xen's checks: `InvalidPort` (beyond the table), `NoPriorities` (2-level ABI), `NotInUse`, `InvalidPriority`.
    pub fn set_priority(&self, port: u32, priority: u32) -> Result<(), EventError> {
        let mut state = self.state.lock();
        let is_fifo = state.fifo.is_some();
        let channel = state.ports.get_mut(port).ok_or(EventError::InvalidPort)?;
        if !is_fifo {
            return Err(EventError::NoPriorities);
        }
        if !channel.is_usable() {
            return Err(EventError::NotInUse);
        }
        let priority = u8::try_from(priority).map_err(|_| EventError::InvalidPriority)?;
        if priority > fifo::PRIORITY_MIN {
            return Err(EventError::InvalidPriority);
        }
        channel.priority = priority;
        Ok(())
    }

    /// What `port` is (`EVTCHNOP_status`).
    ///
    /// # Errors
    /// `InvalidPort` beyond the table; `XenConsumer`.
    pub fn status(&self, port: u32) -> Result<Status, EventError> {
        let state = self.state.lock();
        let channel = state.ports.get(port).ok_or(EventError::InvalidPort)?;
        if channel.xen_consumer {
            return Err(EventError::XenConsumer);
        }
        Ok(Status { binding: channel.binding, vcpu: u32::from(channel.vcpu) })
    }

    /// Closes `port` (`EVTCHNOP_close`), unless another domain's table is needed for that.
    ///
    /// # Errors
    /// `InvalidPort`: not in use, or not the closer's.
    pub fn close(&self, machine: &dyn Machine, port: u32, closer: Closer) -> Result<Closed, EventError> {
        let mut state = self.state.lock();
        match state.closable(port, closer)? {
            Binding::Interdomain { domain, port: peer } if domain == self.domain => {
                if let Some(channel) = state.ports.get_mut(peer) {
                    channel.binding = Binding::Unbound { remote: self.domain };
                }
            }
            Binding::Interdomain { domain, .. } => return Ok(Closed::Peer(domain)),
            _ => {}
        }
        self.free(&mut state, machine, port);
        Ok(Closed::Done)
    }

    fn bind(&self, machine: &dyn Machine, binding: Binding, vcpu: u32) -> Result<u32, EventError> {
        let mut state = self.state.lock();
        let vcpu = state.vcpu(vcpu)?;
        let port = state.find_free(machine)?;
        state.ports.take(port, binding, vcpu);
        Ok(port)
    }

    /// Frees a port in use, forgetting its pending event.
    fn free(&self, state: &mut State, machine: &dyn Machine, port: u32) {
        let Some(channel) = state.ports.get_mut(port) else { return };
        let (binding, vcpu) = (channel.binding, channel.vcpu);
        match &state.fifo {
            None => self.two_level(machine).clear_pending(port),
            Some(fifo) => fifo.clear_pending(machine, port, channel),
        }
        if let Binding::Virq(virq) = binding {
            state.set_virq_port(virq, vcpu, 0);
        }
        state.ports.release(port);
    }
}

/// Connects a new port of `local` to `remote_port` of `remote` (`EVTCHNOP_bind_interdomain`), which may be the same table.
///
/// The new port is made pending at once: the other end may have sent before anyone listened. The effects are for the local domain.
///
/// # Errors
/// Of the local end `Dying`, `NoSpace`, `NoMemory`; then `InvalidPort` if the remote port does not wait for the local domain.
pub fn bind_interdomain(
    machine: &dyn Machine,
    local: &EventChannels,
    remote: &EventChannels,
    remote_port: u32,
) -> Result<(u32, Notify), EventError> {
    if local.domain == remote.domain {
        let mut state = local.state.lock();
        let port = state.find_free(machine)?;
        state.connect_to(remote_port, local.domain, local.domain, port)?;
        state.ports.take(port, Binding::Interdomain { domain: local.domain, port: remote_port }, 0);
        return Ok((port, local.raise_locked(&mut state, machine, port)));
    }
    let (mut ours, mut theirs) = local.lock_both(remote);
    let port = ours.find_free(machine)?;
    theirs.connect_to(remote_port, local.domain, local.domain, port)?;
    ours.ports.take(port, Binding::Interdomain { domain: remote.domain, port: remote_port }, 0);
    Ok((port, local.raise_locked(&mut ours, machine, port)))
}

/// Whether [`bind_interdomain`] would succeed, but for the policy: so that a refusal by policy is told only where Xen tells it.
///
/// # Errors
/// As [`bind_interdomain`].
pub fn check_interdomain(machine: &dyn Machine, local: &EventChannels, remote: &EventChannels, remote_port: u32) -> Result<(), EventError> {
    local.state.lock().find_free(machine)?;
    remote.state.lock().waits_for(remote_port, local.domain)
}

/// Closes `port` of `local`, which [`EventChannels::close`] said is connected to the domain of `remote`; the other end goes back to
/// waiting for `local`'s domain.
///
/// Returns [`Closed::Peer`] again if the port has been closed and connected elsewhere meanwhile.
///
/// # Errors
/// `InvalidPort`: closed meanwhile, or not the closer's.
pub fn close_interdomain(
    machine: &dyn Machine,
    local: &EventChannels,
    remote: &EventChannels,
    port: u32,
    closer: Closer,
) -> Result<Closed, EventError> {
    if local.domain == remote.domain {
        return local.close(machine, port, closer);
    }
    let (mut ours, mut theirs) = local.lock_both(remote);
    match ours.closable(port, closer)? {
        Binding::Interdomain { domain, port: peer } if domain == remote.domain => {
            if let Some(channel) = theirs.ports.get_mut(peer) {
                channel.binding = Binding::Unbound { remote: local.domain };
            }
        }
        Binding::Interdomain { domain, .. } => return Ok(Closed::Peer(domain)),
        _ => {}
    }
    local.free(&mut ours, machine, port);
    Ok(Closed::Done)
}

impl State {
    fn waits_for(&self, port: u32, domain: DomainId) -> Result<(), EventError> {
        let binding = self.ports.get(port).map(|c| c.binding);
        if binding == Some(Binding::Unbound { remote: domain }) { Ok(()) } else { Err(EventError::InvalidPort) }
    }

    /// Makes `port`, which waits for `waits_for`, the other end of `peer_port` of `peer`.
    fn connect_to(&mut self, port: u32, waits_for: DomainId, peer: DomainId, peer_port: u32) -> Result<(), EventError> {
        self.waits_for(port, waits_for)?;
        let channel = self.ports.get_mut(port).ok_or(EventError::InvalidPort)?;
        channel.binding = Binding::Interdomain { domain: peer, port: peer_port };
        Ok(())
    }

    fn closable(&self, port: u32, closer: Closer) -> Result<Binding, EventError> {
        let channel = self.ports.get(port).filter(|c| c.is_usable()).ok_or(EventError::InvalidPort)?;
        if channel.xen_consumer && closer == Closer::Guest {
            return Err(EventError::InvalidPort);
        }
        Ok(channel.binding)
    }

    /// The port that `virq` (of `vcpu`, if it is a per-vCPU one) is bound to, 0 if none.
    pub(super) fn virq_port(&self, virq: u8, vcpu: u8) -> u32 {
        let vcpu = if is_global(virq) { 0 } else { vcpu };
        let ports = self.vcpus.get(usize::from(vcpu)).map(|v| &v.virqs);
        ports.and_then(|p| p.get(usize::from(virq))).copied().unwrap_or(0)
    }

    fn set_virq_port(&mut self, virq: u8, vcpu: u8, port: u32) {
        let vcpu = if is_global(virq) { 0 } else { vcpu };
        let ports = self.vcpus.get_mut(usize::from(vcpu)).map(|v| &mut v.virqs);
        if let Some(slot) = ports.and_then(|p| p.get_mut(usize::from(virq))) {
            *slot = port;
        }
    }
}

/// Whether a virtual interrupt belongs to the domain and not to each of its vCPUs: all but TIMER, DEBUG, XENOPROF and XENPMU.
pub(super) const fn is_global(virq: u8) -> bool {
    !matches!(virq, 0 | 1 | 7 | 13)
}
