//! Random operations of three domains, against a model of bindings and pending bits.
//!
//! No event is lost, none is invented, and a refused operation changes nothing. A guest looks for events only on vCPUs that got an
//! upcall, so a missing upcall shows as a lost event.

use super::guest::Guest;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc { domain: usize, remote: usize },
    Connect { domain: usize, remote: usize, port: u32 },
    BindVirq { domain: usize, virq: u32, vcpu: u32 },
    BindIpi { domain: usize, vcpu: u32 },
    BindVcpu { domain: usize, port: u32, vcpu: u32 },
    SetPriority { domain: usize, port: u32, priority: u32 },
    Close { domain: usize, port: u32 },
    Send { domain: usize, port: u32 },
    RaiseVirq { domain: usize, virq: u32, vcpu: u32 },
    Mask { domain: usize, port: u32 },
    Unmask { domain: usize, port: u32 },
    Handle { domain: usize },
    Register { domain: usize, vcpu: u32 },
    InitControl { domain: usize, vcpu: u32 },
    ExpandArray { domain: usize },
    Reset { domain: usize },
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let d = || 0..3_usize;
    let port = || prop_oneof![20 => 0..8_u32, 1 => 60..70_u32];
    let vcpu = || 0..5_u32;
    prop_oneof![
        6 => (d(), d()).prop_map(|(domain, remote)| Alloc { domain, remote }),
        8 => (d(), d(), port()).prop_map(|(domain, remote, port)| Connect { domain, remote, port }),
        1 => (d(), 0..25_u32, vcpu()).prop_map(|(domain, virq, vcpu)| BindVirq { domain, virq, vcpu }),
        1 => (d(), vcpu()).prop_map(|(domain, vcpu)| BindIpi { domain, vcpu }),
        4 => (d(), port(), vcpu()).prop_map(|(domain, port, vcpu)| BindVcpu { domain, port, vcpu }),
        3 => (d(), port(), 0..17_u32).prop_map(|(domain, port, priority)| SetPriority { domain, port, priority }),
        3 => (d(), port()).prop_map(|(domain, port)| Close { domain, port }),
        20 => (d(), port()).prop_map(|(domain, port)| Send { domain, port }),
        2 => (d(), 0..25_u32, vcpu()).prop_map(|(domain, virq, vcpu)| RaiseVirq { domain, virq, vcpu }),
        4 => (d(), port()).prop_map(|(domain, port)| Mask { domain, port }),
        6 => (d(), port()).prop_map(|(domain, port)| Unmask { domain, port }),
        8 => d().prop_map(|domain| Handle { domain }),
        2 => (d(), vcpu()).prop_map(|(domain, vcpu)| Register { domain, vcpu }),
        2 => (d(), vcpu()).prop_map(|(domain, vcpu)| InitControl { domain, vcpu }),
        2 => d().prop_map(|domain| ExpandArray { domain }),
        1 => d().prop_map(|domain| Reset { domain }),
    ]
}

/// What a domain's ports should be.
#[derive(Clone, Debug)]
struct Model {
    ports: BTreeMap<u32, (Binding, u32)>,
    pending: BTreeSet<u32>,
    valid_ports: u32,
}

struct Run {
    w: World,
    guests: Vec<Guest>,
    models: Vec<Model>,
    /// vCPUs with an interrupt waiting.
    irq: Vec<BTreeSet<u32>>,
}

impl Run {
    fn new() -> Self {
        let w = World::with_max_port(69);
        let guests = (0..3).map(|d| Guest::new(w.machine, d)).collect();
        let models = std::vec![Model { ports: BTreeMap::new(), pending: BTreeSet::new(), valid_ports: 64 }; 3];
        Self { w, guests, models, irq: std::vec![BTreeSet::new(); 3] }
    }

    /// The port that should be allocated next.
    fn next_port(&mut self, domain: usize) -> Result<u32, EventError> {
        let (model, guest) = (&mut self.models[domain], &self.guests[domain]);
        let port = (1..70).find(|p| !model.ports.contains_key(p) && !guest.is_linked(*p)).ok_or(EventError::NoSpace)?;
        model.valid_ports = if port >= 64 { 128 } else { model.valid_ports };
        Ok(port)
    }

    fn told(&mut self, domain: usize, notify: Notify) {
        assert!(notify.wake.is_empty() && !notify.xen_consumer);
        self.irq[domain].extend(notify.upcall.iter());
    }

    fn pend(&mut self, domain: usize, port: u32) {
        if self.models[domain].ports.contains_key(&port) {
            self.models[domain].pending.insert(port);
        }
    }

    /// What the model says of an operation that binds a port; the new port is entered.
    fn expect_bound(&mut self, domain: usize, binding: Binding, vcpu: u32) -> Result<u32, EventError> {
        let port = self.next_port(domain)?;
        self.models[domain].ports.insert(port, (binding, vcpu));
        Ok(port)
    }

    fn model_close(&mut self, domain: usize, port: u32) -> Result<(), EventError> {
        let (binding, _) = self.models[domain].ports.remove(&port).ok_or(EventError::InvalidPort)?;
        self.models[domain].pending.remove(&port);
        if let Binding::Interdomain { domain: peer, port: far } = binding {
            self.models[usize::from(peer.0)].ports.get_mut(&far).unwrap().0 = Binding::Unbound { remote: id(domain) };
        }
        Ok(())
    }

    fn handle(&mut self, domain: usize) {
        for vcpu in core::mem::take(&mut self.irq[domain]) {
            for port in self.guests[domain].upcall(vcpu as usize) {
                assert!(self.models[domain].pending.remove(&port), "d{domain} got event {port} that nobody sent");
            }
        }
    }

    fn step(&mut self, op: Op) {
        let before = self.w.snapshot();
        let machine = self.w.machine;
        let refused = match op {
            Op::Alloc { domain, remote } => {
                let expected = self.expect_bound(domain, Binding::Unbound { remote: id(remote) }, 0);
                assert_eq!(self.w.alloc(domain, remote), expected);
                expected.is_err()
            }
            Op::Connect { domain, remote, port } => {
                let expected = self.next_port(domain).and_then(|local| {
                    let waits = self.models[remote].ports.get(&port).is_some_and(|p| p.0 == Binding::Unbound { remote: id(domain) });
                    if waits { Ok(local) } else { Err(EventError::InvalidPort) }
                });
                let connected = self.w.connect(domain, remote, port);
                assert_eq!(connected.map(|c| c.0), expected);
                if let Ok((local, notify)) = connected {
                    self.models[remote].ports.get_mut(&port).unwrap().0 = Binding::Interdomain { domain: id(domain), port: local };
                    self.models[domain].ports.insert(local, (Binding::Interdomain { domain: id(remote), port }, 0));
                    self.pend(domain, local);
                    self.told(domain, notify);
                }
                expected.is_err()
            }
            Op::BindVirq { domain, virq, vcpu } => {
                let per_vcpu = [0, 1, 7, 13].contains(&virq);
                let bound = |(b, v): &(Binding, u32)| *b == Binding::Virq(virq as u8) && (!per_vcpu || *v == vcpu);
                let expected = if virq >= 24 || (!per_vcpu && vcpu != 0) {
                    Err(EventError::InvalidVirq)
                } else if vcpu >= 4 {
                    Err(EventError::NoSuchVcpu)
                } else if self.models[domain].ports.values().any(bound) {
                    Err(EventError::VirqBound)
                } else {
                    self.expect_bound(domain, Binding::Virq(virq as u8), vcpu)
                };
                assert_eq!(self.w.domains[domain].bind_virq(machine, virq, vcpu), expected);
                expected.is_err()
            }
            Op::BindIpi { domain, vcpu } => {
                let expected = if vcpu >= 4 { Err(EventError::NoSuchVcpu) } else { self.expect_bound(domain, Binding::Ipi, vcpu) };
                assert_eq!(self.w.domains[domain].bind_ipi(machine, vcpu), expected);
                expected.is_err()
            }
            Op::BindVcpu { domain, port, vcpu } => {
                let bound = self.w.domains[domain].bind_vcpu(port, vcpu);
                if bound.is_ok() {
                    self.models[domain].ports.get_mut(&port).unwrap().1 = vcpu;
                }
                bound.is_err()
            }
            Op::SetPriority { domain, port, priority } => {
                let set = self.w.domains[domain].set_priority(port, priority);
                let allowed = priority < 16 && self.guests[domain].fifo && self.models[domain].ports.contains_key(&port);
                assert_eq!(set.is_ok(), allowed);
                set.is_err()
            }
            Op::Close { domain, port } => {
                let expected = self.model_close(domain, port);
                assert_eq!(self.w.close(domain, port), expected);
                expected.is_err()
            }
            Op::Send { domain, port } => {
                let sent = self.w.send(domain, port);
                let binding = self.models[domain].ports.get(&port).map(|p| p.0);
                match binding {
                    Some(Binding::Interdomain { domain: to, port: far }) => self.pend(usize::from(to.0), far),
                    Some(Binding::Ipi) => self.pend(domain, port),
                    _ => {}
                }
                assert_eq!(sent.is_err(), matches!(binding, None | Some(Binding::Virq(_))));
                if let Ok((to, notify)) = sent {
                    self.told(to, notify);
                }
                sent.is_err()
            }
            Op::RaiseVirq { domain, virq, vcpu } => {
                let per_vcpu = [0, 1, 7, 13].contains(&virq);
                let d = &self.w.domains[domain];
                let notify = if per_vcpu { d.raise_virq(machine, virq, vcpu) } else { d.raise_global_virq(machine, virq) };
                let bound = |(_, (b, v)): &(&u32, &(Binding, u32))| *b == Binding::Virq(virq as u8) && (!per_vcpu || *v == vcpu);
                if let Some(port) = self.models[domain].ports.iter().find(bound).map(|(port, _)| *port) {
                    self.pend(domain, port);
                }
                self.told(domain, notify);
                false
            }
            Op::Mask { domain, port } => {
                self.guests[domain].mask(port);
                false
            }
            Op::Unmask { domain, port } => {
                let valid = port < self.models[domain].valid_ports;
                let unmasked = if self.guests[domain].try_unmask(port) {
                    Ok(Notify::NONE)
                } else {
                    // A guest that finds the event pending leaves the rest to the hypervisor.
                    self.guests[domain].mask(port);
                    self.w.domains[domain].unmask(machine, port)
                };
                assert!(unmasked.is_ok() || !valid);
                self.told(domain, unmasked.unwrap_or(Notify::NONE));
                false
            }
            Op::Handle { domain } => {
                self.handle(domain);
                false
            }
            Op::Register { domain, vcpu } => {
                if vcpu >= 4 || self.guests[domain].registered[vcpu as usize] {
                    let refused = self.w.domains[domain].register_vcpu_info(machine, vcpu, World::info_of(domain, vcpu.into()));
                    refused.unwrap_err();
                    true
                } else {
                    let notify = self.w.register(domain, vcpu);
                    self.guests[domain].registered[vcpu as usize] = true;
                    self.told(domain, notify);
                    false
                }
            }
            Op::InitControl { domain, vcpu } => {
                if !self.guests[domain].fifo && vcpu < 4 {
                    self.switch_to_fifo(domain);
                }
                let started = self.w.init_control(domain, vcpu);
                self.told(domain, started.unwrap_or(Notify::NONE));
                started.is_err()
            }
            Op::ExpandArray { domain } => {
                // One page holds the words of all ports; the others are never looked at.
                if self.guests[domain].fifo && self.guests[domain].array_pages == 0 {
                    self.guests[domain].array_pages = 1;
                    let notify = self.w.expand_array(domain, 0).unwrap();
                    self.told(domain, notify);
                    false
                } else if !self.guests[domain].fifo {
                    assert_eq!(self.w.expand_array(domain, 0), Err(EventError::NoEventArray));
                    true
                } else {
                    false
                }
            }
            Op::Reset { domain } => {
                let _ = self.w.reset(domain).unwrap();
                for port in 1..70 {
                    let _ = self.model_close(domain, port);
                }
                self.guests[domain].forget_fifo();
                false
            }
        };
        if refused {
            assert_eq!(self.w.snapshot(), before, "{op:?} was refused and has left a trace");
        }
    }

    /// The guest takes masks along: the words of the array start as the 2-level masks are.
    fn switch_to_fifo(&mut self, domain: usize) {
        let masked: Vec<u32> = (0..70).filter(|port| self.guests[domain].is_masked(*port)).collect();
        self.guests[domain].forget_fifo();
        self.guests[domain].fifo = true;
        for port in masked {
            self.w.machine.store_u32(MachineAddr(World::array_of(domain, 0).0 + u64::from(port) * 4), 1 << 30);
        }
    }

    /// Ports are what the model says, and what is pending shows where the guest can see it.
    fn check(&self) {
        for (d, model) in self.models.iter().enumerate() {
            for port in 1..128 {
                let expected = match model.ports.get(&port) {
                    Some((binding, vcpu)) => Ok(Status { binding: *binding, vcpu: *vcpu }),
                    None if port < model.valid_ports => Ok(Status { binding: Binding::Free, vcpu: 0 }),
                    None => Err(EventError::InvalidPort),
                };
                assert_eq!(self.w.domains[d].status(port), expected, "d{d} port {port}");
                if !self.guests[d].fifo || self.guests[d].array_pages > 0 {
                    assert_eq!(self.guests[d].is_pending(port), model.pending.contains(&port), "d{d} port {port}");
                }
            }
        }
        self.w.audit();
    }

    /// All domains use FIFO on all vCPUs but the last.
    fn start_fifo(&mut self) {
        for domain in 0..3 {
            for vcpu in 0..3 {
                self.step(Op::Register { domain, vcpu });
                self.step(Op::InitControl { domain, vcpu });
            }
            self.step(Op::ExpandArray { domain });
        }
    }

    /// Every vCPU comes up, everything is unmasked: all that is pending must arrive.
    fn drain(&mut self) {
        for domain in 0..3 {
            for vcpu in 0..4 {
                self.step(Op::Register { domain, vcpu });
                if self.guests[domain].fifo {
                    self.step(Op::InitControl { domain, vcpu });
                }
            }
            self.step(Op::ExpandArray { domain });
            for port in (1..70).filter(|port| self.guests[domain].is_masked(*port)).collect::<Vec<_>>() {
                self.step(Op::Unmask { domain, port });
            }
            self.handle(domain);
            assert_eq!(self.models[domain].pending, BTreeSet::new(), "d{domain} has lost events");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_event_is_lost_and_none_invented(fifo: bool, ops in proptest::collection::vec(op(), 1..200)) {
        let mut run = Run::new();
        if fifo {
            run.start_fifo();
        }
        for op in ops {
            run.step(op);
            run.check();
        }
        run.drain();
        run.check();
    }
}
