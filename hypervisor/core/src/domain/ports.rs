//! Closing a domain's event channels, which takes the tables of its peers: one port, or all in steps (reset and death).

use super::Domain;
use super::destroy::Progress;
use crate::addr::Mfn;
use crate::evtchn::{self, Closed, Closer, EventError};
use crate::hypervisor::Hypervisor;
use crate::preempt::steps;

/// Ports closed before the caller may take an interrupt.
const BUDGET: u32 = 512;

impl Hypervisor {
    /// Closes one port, together with the other end.
    ///
    /// # Errors
    /// [`EventError::InvalidPort`]: not open, or not the closer's.
    pub(crate) fn close_port(&self, domain: &Domain, port: u32, closer: Closer) -> Result<(), EventError> {
        loop {
            let Closed::Peer(peer) = domain.events.close(self.machine, port, closer)? else { return Ok(()) };
            // A peer that is gone has closed its end, and so changed ours, before it went.
            let Some(peer) = self.domains.get(peer) else { continue };
            if evtchn::close_interdomain(self.machine, &domain.events, &peer.events, port, closer)? == Closed::Done {
                return Ok(());
            }
        }
    }

    /// One step of closing all ports, from [`evtchn::EventChannels::reset_cursor`] on; then the domain is back to the 2-level ABI.
    ///
    /// # Errors
    /// [`EventError::PortsOpen`]: some were opened meanwhile.
    pub(crate) fn close_ports(&self, domain: &Domain, closer: Closer) -> Result<Progress, EventError> {
        let start = domain.events.reset_cursor();
        let stop = start.saturating_add(steps(BUDGET)).min(domain.events.port_count());
        for port in start..stop {
            // Most are not open; some may be the hypervisor's own.
            let _ = self.close_port(domain, port, closer);
        }
        if stop < domain.events.port_count() {
            domain.events.set_reset_cursor(stop);
            return Ok(Progress::More);
        }
        let released = domain.events.finish_reset(self.machine)?;
        released.pages().for_each(|page| self.frames.put(Mfn::containing(page)));
        Ok(Progress::Done)
    }
}
