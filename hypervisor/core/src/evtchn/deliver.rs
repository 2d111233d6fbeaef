//! Raising events: from send or virtual interrupt to the guest's words, and on to upcall and pollers.

use super::bind::is_global;
use super::{Binding, EventChannels, EventError, Notify, State, VIRQS, VcpuSet};
use crate::addr::{DomainId, MachineAddr};
use crate::machine::Machine;

/// One end of an interdomain channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its domain.
    pub domain: DomainId,
    /// Its port there.
    pub port: u32,
}

/// Where an event that was sent goes.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Nowhere, or to the sender itself: it has been raised, and these are the effects on the sender.
    Local(Notify),
    /// To another domain: call [`EventChannels::deliver`] on its table.
    Remote(Peer),
}

impl EventChannels {
    /// Sends an event on `port` (`EVTCHNOP_send`). On a port that waits for its other end it goes nowhere.
    ///
    /// # Errors
    /// `InvalidPort`: not in use, bound to a virtual interrupt, or the hypervisor's.
    pub fn send(&self, machine: &dyn Machine, port: u32) -> Result<Delivery, EventError> {
        let mut state = self.state.lock();
        match state.guest_port(port)?.binding {
            Binding::Interdomain { domain, port } if domain != self.domain => Ok(Delivery::Remote(Peer { domain, port })),
            Binding::Interdomain { port, .. } => Ok(Delivery::Local(self.raise_locked(&mut state, machine, port))),
            Binding::Ipi => Ok(Delivery::Local(self.raise_locked(&mut state, machine, port))),
            Binding::Unbound { .. } => Ok(Delivery::Local(Notify::NONE)),
            Binding::Virq(_) | Binding::Free | Binding::Reserved => Err(EventError::InvalidPort),
        }
    }

    /// The other end of a port that the hypervisor consumes itself, to raise there; `None` while nothing is connected.
    pub fn xen_peer(&self, port: u32) -> Option<Peer> {
        match self.state.lock().ports.get(port).filter(|c| c.xen_consumer)?.binding {
            Binding::Interdomain { domain, port } => Some(Peer { domain, port }),
            _ => None,
        }
    }

    /// Raises `port` for an event that was sent on `from`. If the two are no longer connected, the event goes nowhere.
    pub fn deliver(&self, machine: &dyn Machine, port: u32, from: Peer) -> Notify {
        let mut state = self.state.lock();
        let binding = state.ports.get(port).map(|c| c.binding);
        if binding == Some(Binding::Interdomain { domain: from.domain, port: from.port }) {
            self.raise_locked(&mut state, machine, port)
        } else {
            Notify::NONE
        }
    }

    /// Raises `port`, if it is in use, whatever it is bound to.
    pub fn raise(&self, machine: &dyn Machine, port: u32) -> Notify {
        self.raise_locked(&mut self.state.lock(), machine, port)
    }

    /// Raises per-vCPU virtual interrupt `virq` of `vcpu`. Nothing happens if it is not bound.
    pub fn raise_virq(&self, machine: &dyn Machine, virq: u32, vcpu: u32) -> Notify {
        let mut state = self.state.lock();
        let port = match (u8::try_from(virq), state.vcpu(vcpu)) {
            (Ok(virq), Ok(vcpu)) if usize::from(virq) < VIRQS => state.virq_port(virq, vcpu),
            _ => 0,
        };
        self.raise_locked(&mut state, machine, port)
    }

    /// Raises global virtual interrupt `virq`. Nothing happens if it is not bound, or is a per-vCPU one.
    pub fn raise_global_virq(&self, machine: &dyn Machine, virq: u32) -> Notify {
        if u8::try_from(virq).is_ok_and(is_global) { self.raise_virq(machine, virq, 0) } else { Notify::NONE }
    }

    /// Unmasks `port` and tells its vCPU if it is pending (`EVTCHNOP_unmask`). On a port not in use nothing happens.
    ///
    /// # Errors
    /// `InvalidPort` beyond the table.
    pub fn unmask(&self, machine: &dyn Machine, port: u32) -> Result<Notify, EventError> {
        let mut state = self.state.lock();
        let State { ports, fifo, vcpus, .. } = &mut *state;
        let channel = ports.get_mut(port).ok_or(EventError::InvalidPort)?;
        if !channel.is_usable() {
            return Ok(Notify::NONE);
        }
        let vcpu = channel.vcpu;
        let info = vcpus.get(usize::from(vcpu)).and_then(|v| v.info);
        let signal = match fifo {
            None => self.two_level(machine).unmask(port, info),
            Some(fifo) => fifo.unmask(machine, port, channel),
        };
        Ok(if signal { Notify { upcall: state.mark_upcall(machine, vcpu), ..Notify::NONE } } else { Notify::NONE })
    }

    pub(super) fn raise_locked(&self, state: &mut State, machine: &dyn Machine, port: u32) -> Notify {
        let State { ports, fifo, vcpus, .. } = &mut *state;
        let Some(channel) = ports.get_mut(port).filter(|c| c.is_usable()) else { return Notify::NONE };
        if channel.xen_consumer {
            return Notify { xen_consumer: true, ..Notify::NONE };
        }
        let vcpu = channel.vcpu;
        let edge = match fifo {
            None => self.two_level(machine).set_pending(port, vcpus.get(usize::from(vcpu)).and_then(|v| v.info)),
            Some(fifo) => fifo.set_pending(machine, port, channel),
        };
        let mut notify = Notify::NONE;
        if edge.signal {
            notify.upcall = state.mark_upcall(machine, vcpu);
        }
        if edge.newly_pending && !state.pollers.is_empty() {
            notify.wake = state.wake_pollers(port);
        }
        notify
    }
}

impl State {
    /// Sets `evtchn_upcall_pending` of `vcpu`; the vCPU itself if it was clear.
    pub(super) fn mark_upcall(&self, machine: &dyn Machine, vcpu: u8) -> VcpuSet {
        match self.vcpu_info(vcpu) {
            Some(MachineAddr(info)) if machine.swap_u8(MachineAddr(info), 1) & 1 == 0 => VcpuSet::of(vcpu),
            _ => VcpuSet::EMPTY,
        }
    }
}
