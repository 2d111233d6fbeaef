//! `SCHEDOP_poll`: a vCPU that sleeps until one of some ports is pending.

use super::{EventChannels, EventError, State, VcpuSet};
use crate::machine::Machine;

/// What a vCPU polls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Polling {
    /// It does not.
    No,
    /// One port.
    One(u32),
    /// Any port of the domain: more than one was named, and waking early is allowed.
    Any,
}

impl EventChannels {
    /// Whether one of `ports` is pending, masked or not. If none is, `vcpu` counts as polling for them until a
    /// [`super::Notify::wake`] names it or [`Self::stop_polling`].
    ///
    /// The caller must have marked the vCPU as blocked *before*, so that a wake that comes right after is not lost, and takes that back
    /// if the answer is an error or that one is pending.
    ///
    /// # Errors
    /// `NoSuchVcpu`; `InvalidPort` if one of the ports before the first pending one is beyond the table.
    pub fn poll(&self, machine: &dyn Machine, vcpu: u32, ports: &[u32]) -> Result<bool, EventError> {
        let mut state = self.state.lock();
        let vcpu = state.vcpu(vcpu)?;
        for &port in ports {
            state.ports.get(port).filter(|channel| channel.is_usable()).ok_or(EventError::InvalidPort)?;
            if self.is_pending_locked(&state, machine, port) {
                return Ok(true);
            }
        }
        let polling = match ports {
            [port] => Polling::One(*port),
            _ => Polling::Any,
        };
        state.pollers.add(VcpuSet::of(vcpu));
        if let Some(v) = state.vcpus.get_mut(usize::from(vcpu)) {
            v.polling = polling;
        }
        Ok(false)
    }

    /// `vcpu` no longer polls: it was unblocked by something else, or its time is up.
    pub fn stop_polling(&self, vcpu: u32) {
        let mut state = self.state.lock();
        if let Ok(vcpu) = state.vcpu(vcpu) {
            state.end_poll(vcpu);
        }
    }

    /// Whether `port` is in use and pending, masked or not.
    pub fn is_pending(&self, machine: &dyn Machine, port: u32) -> bool {
        let state = self.state.lock();
        state.ports.get(port).is_some_and(|c| c.is_usable()) && self.is_pending_locked(&state, machine, port)
    }

    fn is_pending_locked(&self, state: &State, machine: &dyn Machine, port: u32) -> bool {
        match &state.fifo {
            None => self.two_level(machine).is_pending(port),
            Some(fifo) => fifo.is_pending(machine, port),
        }
    }
}

impl State {
    /// Takes out of the pollers those that wait for `port`.
    #[cold]
    pub(super) fn wake_pollers(&mut self, port: u32) -> VcpuSet {
        let mut woken = VcpuSet::EMPTY;
        for vcpu in self.pollers.iter() {
            let polling = self.vcpus.get(vcpu as usize).map(|v| v.polling);
            if matches!(polling, Some(Polling::Any)) || polling == Some(Polling::One(port)) {
                woken.add(VcpuSet::of(vcpu as u8));
            }
        }
        for vcpu in woken.iter() {
            self.end_poll(vcpu as u8);
        }
        woken
    }

    fn end_poll(&mut self, vcpu: u8) {
        self.pollers.remove(VcpuSet::of(vcpu));
        if let Some(v) = self.vcpus.get_mut(usize::from(vcpu)) {
            v.polling = Polling::No;
        }
    }
}
