//! Delivery by the 2-level ABI.

use super::guest::Guest;
use super::*;

#[test]
fn one_upcall_until_the_guest_has_looked() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D1);
    let (a, b) = w.pair(D0, D1);
    let (c, d) = w.pair(D0, D1);
    assert_eq!(guest.upcall(0), [b, d]);
    assert_eq!(w.send(D0, a), Ok((D1, upcall(0))));
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)));
    assert_eq!(w.send(D0, c), Ok((D1, Notify::NONE)));
    assert_eq!(guest.upcall(0), [b, d]);
    assert_eq!(guest.upcall(0), []);
    assert_eq!(w.send(D0, a), Ok((D1, upcall(0))));
}

#[test]
fn a_masked_event_waits_for_unmask() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D1);
    let (a, b) = w.pair(D0, D1);
    guest.upcall(0);
    guest.mask(b);
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)));
    assert_eq!(guest.upcall(0), []);
    assert!(guest.is_pending(b));
    assert!(!guest.try_unmask(b));
    assert_eq!(w.domains[D1].unmask(w.machine, b), Ok(upcall(0)));
    assert_eq!(w.domains[D1].unmask(w.machine, b), Ok(Notify::NONE), "it was not masked");
    assert_eq!(guest.upcall(0), [b]);
}

#[test]
fn unmask_wants_a_port_of_the_table() {
    let w = World::new();
    let before = w.snapshot();
    assert_eq!(w.domains[D0].unmask(w.machine, 64), Err(EventError::InvalidPort));
    assert_eq!(w.domains[D0].unmask(w.machine, u32::MAX), Err(EventError::InvalidPort));
    assert_eq!(w.domains[D0].unmask(w.machine, 5), Ok(Notify::NONE), "not in use");
    assert_eq!(w.snapshot(), before);
}

#[test]
fn events_go_to_the_vcpu_of_the_port() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D1);
    let (a, b) = w.pair(D0, D1);
    guest.upcall(0);
    w.domains[D1].bind_vcpu(b, 2).unwrap();
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)), "vCPU 2 has no vcpu_info yet");
    assert_eq!(w.register(D1, 2), upcall(2));
    guest.registered[2] = true;
    assert_eq!(guest.upcall(2), [b], "and nothing was lost");
    assert_eq!(w.send(D0, a), Ok((D1, upcall(2))));
}

#[test]
fn virqs_reach_the_port_they_are_bound_to() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D0);
    let d = &w.domains[D0];
    w.register(D0, 1);
    guest.registered[1] = true;
    assert_eq!(d.raise_virq(w.machine, 0, 0), Notify::NONE, "not bound");
    let timer = d.bind_virq(w.machine, 0, 1).unwrap();
    let exception = d.bind_virq(w.machine, 3, 0).unwrap();
    guest.upcall(1);
    assert_eq!(d.raise_virq(w.machine, 0, 1), upcall(1));
    assert_eq!(guest.upcall(1), [timer]);
    assert_eq!(d.raise_global_virq(w.machine, 3), upcall(0));
    assert_eq!(guest.upcall(0), [exception]);
    assert_eq!(d.raise_global_virq(w.machine, 0), Notify::NONE, "not a global one");
    for (virq, vcpu) in [(24, 0), (256, 0), (u32::MAX, 0), (0, 4), (0, 257)] {
        assert_eq!(d.raise_virq(w.machine, virq, vcpu), Notify::NONE);
    }
    d.bind_vcpu(exception, 1).unwrap();
    assert_eq!(d.raise_global_virq(w.machine, 3), upcall(1));
}

#[test]
fn ipi_comes_back_to_its_vcpu() {
    let w = World::new();
    w.register(D0, 3);
    let port = w.domains[D0].bind_ipi(w.machine, 3).unwrap();
    let mut guest = Guest::new(w.machine, D0);
    guest.registered[3] = true;
    guest.upcall(3);
    assert_eq!(w.send(D0, port), Ok((D0, upcall(3))));
    assert_eq!(guest.upcall(3), [port]);
}

#[test]
fn raise_makes_any_port_in_use_pending() {
    let w = World::new();
    let port = w.alloc(D0, D1).unwrap();
    assert_eq!(w.domains[D0].raise(w.machine, port), upcall(0));
    assert_eq!(w.domains[D0].raise(w.machine, 0), Notify::NONE);
    assert_eq!(w.domains[D0].raise(w.machine, 30), Notify::NONE);
    assert_eq!(w.domains[D0].raise(w.machine, u32::MAX), Notify::NONE);
}
