//! Whether a domain's ports are what its tables say, for the audit.

use super::{Binding, EventChannels, Peer, State};

impl EventChannels {
    /// Checks ports, virtual interrupts and counts against each other.
    ///
    /// # Errors
    /// The first port that does not fit; 0 if the sums do not.
    pub fn check_ports(&self) -> Result<(), u32> {
        let state = self.state.lock();
        let (mut open, mut open_xen) = (0, 0);
        for port in 0..state.ports.len() {
            if !state.is_sound(port) {
                return Err(port);
            }
            if let Some(channel) = state.ports.get(port).filter(|c| c.is_usable()) {
                open += 1;
                open_xen += u32::from(channel.xen_consumer);
            }
        }
        for slots in state.vcpus.iter().map(|vcpu| &vcpu.virqs) {
            for (virq, &port) in (0..).zip(slots).filter(|(_, port)| **port != 0) {
                if state.ports.get(port).map(|c| c.binding) != Some(Binding::Virq(virq)) {
                    return Err(port);
                }
            }
        }
        if (open, open_xen) == (state.ports.open, state.ports.open_xen) { Ok(()) } else { Err(0) }
    }

    /// Calls `each` with every port that is connected, and its other end.
    pub fn for_each_connected(&self, mut each: impl FnMut(u32, Peer)) {
        let state = self.state.lock();
        for port in 0..state.ports.len() {
            if let Some(Binding::Interdomain { domain, port: far }) = state.ports.get(port).map(|c| c.binding) {
                each(port, Peer { domain, port: far });
            }
        }
    }
}

impl State {
    fn is_sound(&self, port: u32) -> bool {
        let Some(channel) = self.ports.get(port) else { return false };
        match channel.binding {
            Binding::Reserved => port == 0,
            Binding::Free => port >= self.ports.lowest_free() && !channel.xen_consumer && !channel.remembered,
            Binding::Virq(virq) => self.virq_port(virq, channel.vcpu) == port,
            Binding::Unbound { .. } | Binding::Interdomain { .. } | Binding::Ipi => usize::from(channel.vcpu) < self.vcpus.len(),
        }
    }
}
