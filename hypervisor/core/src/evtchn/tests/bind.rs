//! Each operation on ports and its refusals.

use super::*;

const HYPERVISOR: Closer = Closer::Hypervisor;

#[test]
fn lowest_free_port_is_taken_first() {
    let w = World::new();
    assert_eq!([w.alloc(D0, D1), w.alloc(D0, D1), w.alloc(D0, D1)], [Ok(1), Ok(2), Ok(3)]);
    w.close(D0, 2).unwrap();
    w.close(D0, 1).unwrap();
    assert_eq!([w.alloc(D0, D1), w.alloc(D0, D1), w.alloc(D0, D1)], [Ok(1), Ok(2), Ok(4)]);
    w.audit();
}

#[test]
fn ports_end_at_the_domains_limit_and_are_reusable() {
    let w = World::new();
    for port in 1..=199 {
        assert_eq!(w.alloc(D0, D1), Ok(port));
    }
    for _ in 0..100 {
        assert_eq!(w.alloc(D0, D1), Err(EventError::NoSpace));
    }
    let virq = w.domains[D0].bind_virq(w.machine, 1, 0);
    assert_eq!(virq, Err(EventError::NoSpace));
    (1..=199).for_each(|port| w.close(D0, port).unwrap());
    assert_eq!(w.alloc(D0, D1), Ok(1));
    w.audit();
}

#[test]
fn ports_end_at_the_abis_limit() {
    let w = World::with_max_port(i32::MAX as u32);
    for port in 1..4096 {
        assert_eq!(w.alloc(D0, D1), Ok(port));
    }
    assert_eq!(w.alloc(D0, D1), Err(EventError::NoSpace));
    w.init_control(D0, 0).unwrap();
    assert_eq!(w.alloc(D0, D1), Ok(4096), "FIFO has more");
}

#[test]
fn status_of_buckets_not_yet_allocated_is_refused() {
    let w = World::new();
    let status = |port| w.domains[D0].status(port).map(|s| s.binding);
    assert_eq!(status(0), Ok(Binding::Reserved));
    assert_eq!(status(63), Ok(Binding::Free));
    assert_eq!(status(64), Err(EventError::InvalidPort));
    assert_eq!(status(u32::MAX), Err(EventError::InvalidPort));
}

#[test]
fn interdomain_connects_both_ends_and_makes_the_new_one_pending() {
    let w = World::new();
    let port = w.alloc(D0, D1).unwrap();
    w.alloc(D1, D0).unwrap();
    assert_eq!(w.connect(D1, D0, port), Ok((2, upcall(0))));
    assert_eq!(w.binding(D0, port), Binding::Interdomain { domain: id(D1), port: 2 });
    assert_eq!(w.binding(D1, 2), Binding::Interdomain { domain: id(D0), port });
    assert!(w.domains[D1].is_pending(w.machine, 2));
    assert!(!w.domains[D0].is_pending(w.machine, port));
    w.audit();
}

#[test]
fn interdomain_wants_a_port_that_waits_for_the_caller() {
    let w = World::new();
    let for_d1 = w.alloc(D0, D1).unwrap();
    let ipi = w.domains[D0].bind_ipi(w.machine, 0).unwrap();
    let before = w.snapshot();
    for (caller, port) in [(D2, for_d1), (D1, ipi), (D1, 0), (D1, 50), (D1, 64), (D1, u32::MAX)] {
        assert_eq!(w.connect(caller, D0, port), Err(EventError::InvalidPort));
        assert_eq!(check_interdomain(w.machine, &w.domains[caller], &w.domains[D0], port), Err(EventError::InvalidPort));
    }
    assert_eq!(check_interdomain(w.machine, &w.domains[D1], &w.domains[D0], for_d1), Ok(()));
    assert_eq!(w.snapshot(), before);
    w.connect(D1, D0, for_d1).unwrap();
    assert_eq!(w.connect(D1, D0, for_d1), Err(EventError::InvalidPort), "only once");
}

#[test]
fn a_full_table_is_told_before_a_bad_remote_port() {
    let w = World::with_max_port(1);
    w.alloc(D1, D0).unwrap();
    assert_eq!(w.connect(D1, D0, 77), Err(EventError::NoSpace));
}

#[test]
fn a_domain_connects_to_itself() {
    let w = World::new();
    let port = w.alloc(D0, D0).unwrap();
    assert_eq!(w.connect(D0, D0, port), Ok((2, upcall(0))));
    w.audit();
    assert_eq!(w.send(D0, 2).unwrap().0, D0);
    assert!(w.domains[D0].is_pending(w.machine, port));
    w.close(D0, 2).unwrap();
    assert_eq!(w.binding(D0, port), Binding::Unbound { remote: id(D0) });
    w.audit();
}

#[test]
fn closing_makes_the_other_end_wait_again_without_an_event() {
    let w = World::new();
    let (a, b) = w.pair(D0, D1);
    let before = w.machine.load_u64(MachineAddr(World::page_of(D0, 0).0 + 48));
    w.close(D1, b).unwrap();
    assert_eq!(w.binding(D1, b), Binding::Free);
    assert_eq!(w.binding(D0, a), Binding::Unbound { remote: id(D1) });
    assert_eq!(w.machine.load_u64(MachineAddr(World::page_of(D0, 0).0 + 48)), before);
    assert!(!w.domains[D1].is_pending(w.machine, b), "its pending event is forgotten");
    assert_eq!(w.close(D1, b), Err(EventError::InvalidPort));
    assert_eq!(w.connect(D1, D0, a).unwrap().0, b);
    w.audit();
}

#[test]
fn closing_tells_which_table_is_needed_and_changes_nothing() {
    let w = World::new();
    let (a, _) = w.pair(D0, D1);
    let before = w.snapshot();
    assert_eq!(w.domains[D0].close(w.machine, a, Closer::Guest), Ok(Closed::Peer(id(D1))));
    assert_eq!(close_interdomain(w.machine, &w.domains[D0], &w.domains[D2], a, Closer::Guest), Ok(Closed::Peer(id(D1))));
    assert_eq!(w.snapshot(), before);
}

#[test]
fn closing_what_is_not_open_is_refused() {
    let w = World::new();
    for port in [0, 1, 63, 64, 4096, u32::MAX] {
        assert_eq!(w.close(D0, port), Err(EventError::InvalidPort));
    }
}

#[test]
fn virqs_are_bound_once() {
    let w = World::new();
    let d = &w.domains[D0];
    let bind = |virq, vcpu| d.bind_virq(w.machine, virq, vcpu);
    assert_eq!(bind(24, 0), Err(EventError::InvalidVirq));
    assert_eq!(bind(u32::MAX, 0), Err(EventError::InvalidVirq));
    assert_eq!(bind(3, 1), Err(EventError::InvalidVirq), "global ones belong to vCPU 0");
    assert_eq!(bind(24, 4), Err(EventError::InvalidVirq), "the number is looked at first");
    assert_eq!(bind(0, 4), Err(EventError::NoSuchVcpu));
    assert_eq!(bind(0, 256), Err(EventError::NoSuchVcpu));
    assert_eq!([bind(0, 0), bind(0, 1), bind(3, 0)], [Ok(1), Ok(2), Ok(3)]);
    assert_eq!([bind(0, 0), bind(0, 1), bind(3, 0)], [Err(EventError::VirqBound); 3]);
    assert_eq!(d.status(2), Ok(Status { binding: Binding::Virq(0), vcpu: 1 }));
    w.close(D0, 2).unwrap();
    assert_eq!(bind(0, 1), Ok(2));
    w.audit();
}

#[test]
fn a_rebound_global_virq_can_be_closed_and_bound_again() {
    let w = World::new();
    let port = w.domains[D0].bind_virq(w.machine, 3, 0).unwrap();
    w.domains[D0].bind_vcpu(port, 2).unwrap();
    w.close(D0, port).unwrap();
    assert_eq!(w.domains[D0].bind_virq(w.machine, 3, 0), Ok(port));
    assert_eq!(w.domains[D0].status(port).unwrap().vcpu, 0);
}

#[test]
fn bind_vcpu_takes_ports_that_are_free_to_move() {
    let w = World::new();
    let d = &w.domains[D0];
    let (interdomain, _) = w.pair(D0, D1);
    let unbound = w.alloc(D0, D1).unwrap();
    let global = d.bind_virq(w.machine, 8, 0).unwrap();
    let per_vcpu = d.bind_virq(w.machine, 0, 1).unwrap();
    let ipi = d.bind_ipi(w.machine, 1).unwrap();
    for port in [interdomain, unbound, global] {
        assert_eq!(d.bind_vcpu(port, 3), Ok(()));
        assert_eq!(d.status(port).unwrap().vcpu, 3);
        assert_eq!(d.bind_vcpu(port, 4), Err(EventError::NoSuchVcpu));
        assert_eq!(d.bind_vcpu(port, 259), Err(EventError::NoSuchVcpu), "not taken modulo 256");
    }
    for port in [per_vcpu, ipi, 0, 40, 64, u32::MAX] {
        assert_eq!(d.bind_vcpu(port, 0), Err(EventError::InvalidPort));
    }
    assert_eq!(d.bind_vcpu(u32::MAX, 4), Err(EventError::NoSuchVcpu), "the vCPU is looked at first");
    w.close(D0, unbound).unwrap();
    assert_eq!(w.alloc(D0, D1), Ok(unbound));
    assert_eq!(d.status(unbound).unwrap().vcpu, 0, "a reused port starts anew");
}

#[test]
fn ipi_wants_a_vcpu() {
    let w = World::new();
    assert_eq!(w.domains[D0].bind_ipi(w.machine, 4), Err(EventError::NoSuchVcpu));
    assert_eq!(w.domains[D0].bind_ipi(w.machine, 3), Ok(1));
}

#[test]
fn set_priority_refuses_in_xens_order() {
    let w = World::new();
    let d = &w.domains[D0];
    let port = w.alloc(D0, D1).unwrap();
    assert_eq!(d.set_priority(64, 99), Err(EventError::InvalidPort));
    assert_eq!(d.set_priority(port, 99), Err(EventError::NoPriorities));
    w.init_control(D0, 0).unwrap();
    assert_eq!(d.set_priority(50, 99), Err(EventError::NotInUse));
    assert_eq!(d.set_priority(0, 99), Err(EventError::NotInUse));
    for bad in [16, 256, u32::MAX] {
        assert_eq!(d.set_priority(port, bad), Err(EventError::InvalidPriority));
    }
    assert_eq!(d.set_priority(port, 15), Ok(()));
}

#[test]
fn sending_needs_a_port_to_send_on() {
    let w = World::new();
    let unbound = w.alloc(D0, D1).unwrap();
    let virq = w.domains[D0].bind_virq(w.machine, 3, 0).unwrap();
    let before = w.snapshot();
    assert_eq!(w.send(D0, unbound), Ok((D0, Notify::NONE)), "silently lost");
    for port in [virq, 0, 40, 64, u32::MAX] {
        assert_eq!(w.send(D0, port), Err(EventError::InvalidPort));
    }
    assert_eq!(w.snapshot(), before);
}

#[test]
fn an_event_on_its_way_to_a_port_connected_elsewhere_is_dropped() {
    let w = World::new();
    let (a, b) = w.pair(D0, D1);
    let Ok(Delivery::Remote(to)) = w.domains[D0].send(w.machine, a) else { panic!() };
    w.close(D1, b).unwrap();
    let (_, reused) = w.pair(D2, D1);
    assert_eq!(reused, b);
    w.machine.zero(World::page_of(D1, 0), 1088);
    assert_eq!(w.domains[D1].deliver(w.machine, to.port, Peer { domain: id(D0), port: a }), Notify::NONE);
    assert!(!w.domains[D1].is_pending(w.machine, b));
}

#[test]
fn the_hypervisors_own_ports_are_out_of_reach() {
    let w = World::new();
    let port = w.domains[D1].alloc_unbound_for_xen(w.machine, id(D0), 0).unwrap();
    assert_eq!(w.domains[D1].xen_peer(port), None);
    let (far, _) = w.connect(D0, D1, port).unwrap();
    let before = w.snapshot();
    assert_eq!(w.close(D1, port), Err(EventError::InvalidPort));
    assert_eq!(w.send(D1, port), Err(EventError::InvalidPort));
    assert_eq!(w.domains[D1].bind_vcpu(port, 1), Err(EventError::InvalidPort));
    assert_eq!(w.domains[D1].status(port), Err(EventError::XenConsumer));
    assert_eq!(w.snapshot(), before);
    assert_eq!(w.send(D0, far), Ok((D1, Notify { xen_consumer: true, ..Notify::NONE })));
    assert_eq!(w.domains[D1].xen_peer(port), Some(Peer { domain: id(D0), port: far }));
    w.init_control(D1, 0).unwrap();
    assert_eq!(w.reset(D1).unwrap().len(), 1, "a reset leaves them");
    assert_eq!(w.domains[D1].xen_peer(port), Some(Peer { domain: id(D0), port: far }));
    w.close_as(D1, port, HYPERVISOR).unwrap();
    assert_eq!(w.binding(D0, far), Binding::Unbound { remote: id(D1) });
    w.audit();
}

#[test]
fn reset_closes_all_and_gives_pages_back_once() {
    let w = World::new();
    let (_, b) = w.pair(D0, D1);
    w.domains[D1].bind_virq(w.machine, 0, 2).unwrap();
    w.domains[D1].bind_ipi(w.machine, 2).unwrap();
    w.init_control(D1, 0).unwrap();
    w.init_control(D1, 3).unwrap();
    w.expand_array(D1, 0).unwrap();
    let held = [World::array_of(D1, 0), World::page_of(D1, 2), World::page_of(D1, 2)];
    let mut listed = Vec::new();
    w.domains[D1].for_each_page(|page| listed.push(page));
    assert_eq!(listed, held);
    assert_eq!(w.reset(D1).unwrap(), held);
    assert_eq!(w.binding(D1, b), Binding::Free);
    assert_eq!(w.reset(D1).unwrap(), []);
    assert_eq!(w.expand_array(D1, 0), Err(EventError::NoEventArray), "back to 2-level");
    assert_eq!(w.init_control(D1, 3), Ok(Notify::NONE), "and again to FIFO");
    w.audit();
}

#[test]
fn reset_fails_if_ports_were_opened_meanwhile() {
    let w = World::new();
    w.init_control(D0, 0).unwrap();
    w.domains[D0].begin_reset().unwrap();
    assert_eq!(w.domains[D0].begin_reset(), Err(EventError::Resetting));
    w.alloc(D0, D1).unwrap();
    assert_eq!(w.domains[D0].finish_reset(w.machine).err(), Some(EventError::PortsOpen));
    assert_eq!(w.init_control(D0, 0), Err(EventError::InvalidControlBlock), "still FIFO");
    assert_eq!(w.reset(D0).unwrap().len(), 1);
}

#[test]
fn a_dying_domain_gets_no_ports() {
    let w = World::new();
    let port = w.alloc(D1, D0).unwrap();
    w.domains[D0].begin_destroy();
    assert_eq!(w.alloc(D0, D1), Err(EventError::Dying));
    assert_eq!(w.connect(D0, D1, port), Err(EventError::Dying));
    assert_eq!(w.binding(D1, port), Binding::Unbound { remote: id(D0) });
    w.domains[D0].set_reset_cursor(5);
    w.domains[D0].begin_destroy();
    assert_eq!(w.domains[D0].reset_cursor(), 5, "asking again does not start over");
    w.domains[D0].finish_reset(w.machine).unwrap();
}

#[test]
fn vcpu_info_moves_once_with_its_content() {
    let w = World::new();
    let d = &w.domains[D0];
    let at = World::info_of(D0, 0);
    let register = |vcpu, at| d.register_vcpu_info(w.machine, vcpu, at);
    assert_eq!(register(4, at), Err(EventError::NoSuchVcpu));
    for bad in [4, 4096 - 47, 4096 - 40] {
        assert_eq!(register(0, MachineAddr(World::page_of(D0, 1).0 + bad)), Err(EventError::MisplacedVcpuInfo));
    }
    w.machine.write(World::page_of(D0, 0), &[0xa5; 48]);
    w.machine.write(at, &[0x11; 48]);
    assert_eq!(register(0, at), Ok(Notify::NONE), "the upcall was pending already");
    let mut info = [0; 48];
    w.machine.read(at, &mut info);
    assert_eq!((info[0], &info[8..16], &info[16..]), (1, [0xff; 8].as_slice(), [0xa5; 32].as_slice()));
    assert_eq!(register(0, at), Err(EventError::VcpuInfoRegistered));

    w.machine.write(World::info_of(D0, 1), &[0x11; 48]);
    assert_eq!(register(1, World::info_of(D0, 1)), Ok(upcall(1)), "nothing to copy: starts from zero");
    assert!(d.upcall_pending(w.machine, 1));
    let mut listed = Vec::new();
    d.for_each_page(|page| listed.push(page));
    assert_eq!(listed, [World::page_of(D0, 1); 2]);
    assert_eq!(d.unregister_vcpu_info(1), Some(World::info_of(D0, 1)));
    assert_eq!(d.unregister_vcpu_info(1), None);
    assert_eq!(d.unregister_vcpu_info(9), None);
    assert_eq!(d.unregister_vcpu_info(0), Some(at));
    assert!(!d.upcall_pending(w.machine, 1));
}

#[test]
fn ports_that_do_not_fit_are_named() {
    let w = World::new();
    let d = &w.domains[D0];
    let (virq, port) = (d.bind_virq(w.machine, 3, 0).unwrap(), w.alloc(D0, D1).unwrap());
    assert_eq!(d.check_ports(), Ok(()));
    let break_it = |how: &dyn Fn(&mut State)| {
        how(&mut d.state.lock());
        d.check_ports()
    };
    assert_eq!(break_it(&|s| s.vcpus[0].virqs[3] = port), Err(virq), "the interrupt goes elsewhere");
    assert_eq!(break_it(&|s| s.vcpus[0].virqs[3] = virq), Ok(()));
    assert_eq!(break_it(&|s| s.vcpus[1].virqs[1] = port), Err(port), "the port is bound to something else");
    assert_eq!(break_it(&|s| s.vcpus[1].virqs[1] = 0), Ok(()));
    assert_eq!(break_it(&|s| s.ports.open += 1), Err(0));
    assert_eq!(break_it(&|s| s.ports.open -= 1), Ok(()));
    assert_eq!(break_it(&|s| s.ports.get_mut(port).unwrap().vcpu = 4), Err(port), "no such vCPU");
    assert_eq!(break_it(&|s| s.ports.get_mut(port).unwrap().vcpu = 0), Ok(()));
    assert_eq!(break_it(&|s| s.ports.get_mut(port).unwrap().binding = Binding::Free), Err(port), "would not be found");
}
