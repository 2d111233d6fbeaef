//! Event channels: the one-bit notifications between domains, and from the hypervisor to a domain.
//!
//! An [`EventChannels`] is the ports of one domain and knows other domains by their id only. What spans two domains is either one step
//! on each (sending), or a function of both tables (binding, closing) which locks the one of the lower domain id first. A domain's own
//! loop-back channels take its lock once.
//!
//! Files: [`port`] what a port is; [`bind`] making and closing channels; [`deliver`] raising events; [`two_level`] and [`fifo`] the two
//! ABIs in which the guest learns of them; [`poll`] waiting for them; [`effect`] what callers get back.
//! Layouts are those of the Xen public headers `event_channel.h` and `xen.h`; behaviour and errors are those of Xen 4.20.

mod audit;
mod bind;
mod deliver;
mod effect;
mod fifo;
mod poll;
mod port;
mod shared;
mod two_level;

#[cfg(test)]
mod tests;

pub use bind::{Closed, Closer, Status, bind_interdomain, check_interdomain, close_interdomain};
pub use deliver::{Delivery, Peer};
pub use effect::{EventError, MAX_VCPUS, Notify, VcpuSet};
pub use fifo::LINK_BITS as FIFO_LINK_BITS;
pub use port::Binding;
pub use shared::Released;

use crate::addr::{DomainId, MachineAddr};
use crate::lock::{Guard, Lock};
use crate::machine::Machine;
use alloc::vec::Vec;
use fifo::Fifo;
use poll::Polling;
use port::{Channel, PortTable};
use two_level::TwoLevel;

/// Virtual interrupts, `NR_VIRQS`.
const VIRQS: usize = 24;

/// The event channels of one domain.
#[derive(Debug)]
pub struct EventChannels {
    domain: DomainId,
    shared_info: MachineAddr,
    state: Lock<State>,
}

/// All that the lock protects.
#[derive(Debug)]
struct State {
    ports: PortTable,
    vcpus: Vec<VcpuState>,
    /// The FIFO ABI's structures, once the guest has chosen that ABI.
    fifo: Option<Fifo>,
    /// The vCPUs in `SCHEDOP_poll`: those whose `polling` is not `No`.
    pollers: VcpuSet,
    dying: bool,
    /// The next port that the reset in progress will close.
    reset_cursor: Option<u32>,
}

/// What is kept per vCPU.
#[derive(Clone, Debug)]
struct VcpuState {
    /// Where its `vcpu_info` is; `None` until registered, except for vCPU 0.
    info: Option<MachineAddr>,
    /// Whether the guest registered `info`.
    registered: bool,
    /// The port that each virtual interrupt is bound to, 0 if none. Global ones count for vCPU 0.
    virqs: [u32; VIRQS],
    polling: Polling,
}

/// What an event does to the guest's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge {
    /// It was not pending before: pollers wake.
    newly_pending: bool,
    /// The guest has to be told: an upcall, unless one is pending.
    signal: bool,
}

impl Edge {
    const NONE: Self = Self { newly_pending: false, signal: false };
}

impl EventChannels {
    /// No channels, for a domain of at most `vcpus` vCPUs (at most [`MAX_VCPUS`]) that may use ports up to and including `max_port`.
    /// `shared_info` is its shared info page, which lives as long as the domain.
    ///
    /// # Errors
    /// [`EventError::NoMemory`].
    pub fn new(domain: DomainId, max_port: u32, vcpus: u32, shared_info: MachineAddr) -> Result<Self, EventError> {
        let count = vcpus.min(MAX_VCPUS) as usize;
        let mut states = Vec::new();
        states.try_reserve_exact(count).map_err(|_| EventError::NoMemory)?;
        states.resize(count, VcpuState { info: None, registered: false, virqs: [0; VIRQS], polling: Polling::No });
        if let Some(first) = states.first_mut() {
            first.info = Some(shared_info);
        }
        let ports = PortTable::new(max_port)?;
        let state = State { ports, vcpus: states, fifo: None, pollers: VcpuSet::EMPTY, dying: false, reset_cursor: None };
        Ok(Self { domain, shared_info, state: Lock::new(state) })
    }

    /// The domain whose ports these are.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    fn two_level<'a>(&self, machine: &'a dyn Machine) -> TwoLevel<'a> {
        TwoLevel { machine, shared_info: self.shared_info }
    }

    /// Locks the tables of two different domains, in the order of their ids.
    fn lock_both<'a>(&'a self, other: &'a Self) -> (Guard<'a, State>, Guard<'a, State>) {
        debug_assert_ne!(self.domain, other.domain);
        if self.domain < other.domain {
            let mine = self.state.lock();
            (mine, other.state.lock())
        } else {
            let others = other.state.lock();
            (self.state.lock(), others)
        }
    }
}

impl State {
    /// The number under which a vCPU that exists is kept.
    fn vcpu(&self, vcpu: u32) -> Result<u8, EventError> {
        u8::try_from(vcpu).ok().filter(|&v| usize::from(v) < self.vcpus.len()).ok_or(EventError::NoSuchVcpu)
    }

    fn vcpu_info(&self, vcpu: u8) -> Option<MachineAddr> {
        self.vcpus.get(usize::from(vcpu))?.info
    }

    /// The port, if it is one that the guest may use.
    fn guest_port(&mut self, port: u32) -> Result<&mut Channel, EventError> {
        self.ports.get_mut(port).filter(|c| c.is_usable() && !c.xen_consumer).ok_or(EventError::InvalidPort)
    }

    /// A port that may be bound now. It is not taken yet.
    fn find_free(&mut self, machine: &dyn Machine) -> Result<u32, EventError> {
        if self.dying {
            return Err(EventError::Dying);
        }
        match &self.fifo {
            None => self.ports.find_free(two_level::PORTS, |_| false),
            Some(fifo) => self.ports.find_free(fifo::PORTS, |port| fifo.is_busy(machine, port)),
        }
    }
}
