//! Tests of the event channels: domains and their guests' side, in fake memory.

#![expect(unused_must_use, reason = "most tests look at what the guest sees, not at what the caller is told")]

mod bind;
mod fifo;
mod guest;
mod model;
mod poll;
mod race;
mod two_level;

use super::*;
use crate::addr::PAGE_SIZE;
use crate::machine::fake::FakeMachine;
use std::vec::Vec;

pub const RAM: u64 = 0x4000_0000;
/// Pages set aside per domain: shared info, vcpu_info, two of control blocks, event array.
const PAGES: u64 = 9;

pub const D0: usize = 0;
pub const D1: usize = 1;
pub const D2: usize = 2;

/// Three domains of four vCPUs that may use 200 ports each.
pub struct World {
    pub machine: &'static FakeMachine,
    pub domains: Vec<EventChannels>,
}

pub fn id(domain: usize) -> DomainId {
    DomainId(domain as u16)
}

pub fn upcall(vcpu: u8) -> Notify {
    Notify { upcall: VcpuSet::of(vcpu), ..Notify::NONE }
}

impl World {
    pub fn new() -> Self {
        Self::with_max_port(199)
    }

    pub fn with_max_port(max_port: u32) -> Self {
        let machine = FakeMachine::leak(RAM, 3 * PAGES as usize);
        let domains = (0..3).map(|d| EventChannels::new(id(d), max_port, 4, Self::page_of(d, 0)).unwrap()).collect();
        Self { machine, domains }
    }

    /// Page `n` of those set aside for `domain`.
    pub fn page_of(domain: usize, n: u64) -> MachineAddr {
        MachineAddr(RAM + (domain as u64 * PAGES + n) * PAGE_SIZE)
    }

    pub fn info_of(domain: usize, vcpu: u64) -> MachineAddr {
        MachineAddr(Self::page_of(domain, 1).0 + vcpu * 64)
    }

    pub fn control_of(vcpu: u64) -> u32 {
        vcpu as u32 * 128
    }

    pub fn array_of(domain: usize, n: u64) -> MachineAddr {
        Self::page_of(domain, 4 + n)
    }

    pub fn register(&self, domain: usize, vcpu: u32) -> Notify {
        self.domains[domain].register_vcpu_info(self.machine, vcpu, Self::info_of(domain, vcpu.into())).unwrap()
    }

    pub fn init_control(&self, domain: usize, vcpu: u32) -> Result<Notify, EventError> {
        self.domains[domain].init_control(self.machine, vcpu, Self::page_of(domain, 2), Self::control_of(vcpu.into()))
    }

    pub fn expand_array(&self, domain: usize, n: u64) -> Result<Notify, EventError> {
        self.domains[domain].expand_array(self.machine, Self::array_of(domain, n))
    }

    pub fn alloc(&self, domain: usize, remote: usize) -> Result<u32, EventError> {
        self.domains[domain].alloc_unbound(self.machine, id(remote))
    }

    pub fn connect(&self, local: usize, remote: usize, port: u32) -> Result<(u32, Notify), EventError> {
        bind_interdomain(self.machine, &self.domains[local], &self.domains[remote], port)
    }

    /// A new channel between two domains: the ports of `a` and `b`, that of `b` (which connected) not pending.
    pub fn pair(&self, a: usize, b: usize) -> (u32, u32) {
        let port_a = self.alloc(a, b).unwrap();
        let (port_b, _) = self.connect(b, a, port_a).unwrap();
        (port_a, port_b)
    }

    /// Sends as the hypercall layer does: the domain whose guest must be told, and how.
    pub fn send(&self, domain: usize, port: u32) -> Result<(usize, Notify), EventError> {
        Ok(match self.domains[domain].send(self.machine, port)? {
            Delivery::Local(notify) => (domain, notify),
            Delivery::Remote(to) => {
                let from = Peer { domain: id(domain), port };
                (usize::from(to.domain.0), self.domains[usize::from(to.domain.0)].deliver(self.machine, to.port, from))
            }
        })
    }

    /// Closes as the hypercall layer does.
    pub fn close(&self, domain: usize, port: u32) -> Result<(), EventError> {
        self.close_as(domain, port, Closer::Guest)
    }

    pub fn close_as(&self, domain: usize, port: u32, closer: Closer) -> Result<(), EventError> {
        let local = &self.domains[domain];
        let mut closed = local.close(self.machine, port, closer)?;
        while let Closed::Peer(peer) = closed {
            closed = close_interdomain(self.machine, local, &self.domains[usize::from(peer.0)], port, closer)?;
        }
        Ok(())
    }

    pub fn reset(&self, domain: usize) -> Result<Vec<MachineAddr>, EventError> {
        let events = &self.domains[domain];
        events.begin_reset()?;
        for port in events.reset_cursor()..events.port_count() {
            let _ = self.close(domain, port);
        }
        events.finish_reset(self.machine).map(|released| released.pages().collect())
    }

    pub fn binding(&self, domain: usize, port: u32) -> Binding {
        self.domains[domain].status(port).unwrap().binding
    }

    /// All RAM, and what all ports are: to see that nothing has changed.
    pub fn snapshot(&self) -> (Vec<u8>, Vec<Vec<Status>>) {
        let mut ram = std::vec![0; (3 * PAGES * PAGE_SIZE) as usize];
        self.machine.read(MachineAddr(RAM), &mut ram);
        let ports = |d: &EventChannels| (0..256).map_while(|port| d.status(port).ok()).filter(|s| s.binding != Binding::Free).collect();
        (ram, self.domains.iter().map(ports).collect())
    }

    /// What must hold at any time.
    pub fn audit(&self) {
        for (d, domain) in self.domains.iter().enumerate() {
            let state = domain.state.lock();
            let mut open = 0;
            let mut virqs = Vec::new();
            for port in 0..state.ports.len() {
                let channel = state.ports.get(port).unwrap();
                open += u32::from(channel.is_usable());
                assert!(channel.binding != Binding::Free || port >= state.ports.lowest_free(), "free port {port} would not be found");
                match channel.binding {
                    Binding::Interdomain { domain: peer, port: far } => {
                        let mirrored = Binding::Interdomain { domain: id(d), port };
                        let found = if peer == id(d) {
                            state.ports.get(far).unwrap().binding
                        } else {
                            self.domains[usize::from(peer.0)].state.lock().ports.get(far).unwrap().binding
                        };
                        assert_eq!(found, mirrored);
                    }
                    Binding::Virq(virq) => virqs.push((virq, port)),
                    _ => {}
                }
            }
            assert_eq!(state.ports.open, open);
            let bound: usize = state.vcpus.iter().map(|v| v.virqs.iter().filter(|&&p| p != 0).count()).sum();
            assert_eq!(bound, virqs.len());
        }
    }
}
