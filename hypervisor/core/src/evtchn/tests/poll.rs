//! Waiting by `SCHEDOP_poll`.

use super::*;

fn wakes(notify: Notify) -> Vec<u32> {
    notify.wake.iter().collect()
}

#[test]
fn a_pending_port_ends_the_wait_at_once() {
    let w = World::new();
    let d = &w.domains[D1];
    let (_, pending) = w.pair(D0, D1);
    let idle = w.alloc(D1, D0).unwrap();
    assert_eq!(d.poll(w.machine, 0, &[idle, pending]), Ok(true));
    assert_eq!(d.poll(w.machine, 4, &[idle]), Err(EventError::NoSuchVcpu));
    assert_eq!(d.poll(w.machine, 0, &[idle, 64]), Err(EventError::InvalidPort));
    assert_eq!(d.poll(w.machine, 0, &[u32::MAX]), Err(EventError::InvalidPort));
    assert_eq!(d.poll(w.machine, 0, &[pending, 64]), Ok(true), "the first pending port decides");
    assert_eq!(d.state.lock().pollers, VcpuSet::EMPTY);
}

#[test]
fn pollers_wake_for_their_port_masked_or_not() {
    let w = World::new();
    let d = &w.domains[D1];
    let guest = guest::Guest::new(w.machine, D1);
    let (a, b) = (w.alloc(D1, D0).unwrap(), w.alloc(D1, D0).unwrap());
    guest.mask(a);
    assert_eq!(d.poll(w.machine, 0, &[a]), Ok(false));
    assert_eq!(d.poll(w.machine, 1, &[b]), Ok(false));
    assert_eq!(d.poll(w.machine, 2, &[a, b]), Ok(false));
    assert_eq!(d.poll(w.machine, 3, &[]), Ok(false));
    let raised = d.raise(w.machine, a);
    assert_eq!((wakes(raised), raised.upcall), (std::vec![0, 2, 3], VcpuSet::EMPTY));
    assert_eq!(wakes(d.raise(w.machine, a)), [], "no longer polling");
    assert_eq!(wakes(d.raise(w.machine, b)), [1]);
}

#[test]
fn a_poll_that_ended_is_not_woken() {
    let w = World::new();
    let d = &w.domains[D1];
    let port = w.alloc(D1, D0).unwrap();
    assert_eq!(d.poll(w.machine, 0, &[port]), Ok(false));
    d.stop_polling(0);
    d.stop_polling(77);
    assert!(d.raise(w.machine, port).wake.is_empty());
}

#[test]
fn fifo_events_wake_too() {
    let w = World::new();
    let d = &w.domains[D1];
    let port = w.alloc(D1, D0).unwrap();
    w.init_control(D1, 0).unwrap();
    assert_eq!(d.poll(w.machine, 1, &[port]), Ok(false));
    assert!(d.raise(w.machine, port).wake.is_empty(), "it has no word to be pending in");
    assert_eq!(wakes(w.expand_array(D1, 0).unwrap()), [1]);
    assert_eq!(d.poll(w.machine, 1, &[port]), Ok(true));
}
