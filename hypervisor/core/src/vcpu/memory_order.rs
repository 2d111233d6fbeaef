//! Waiting and waking under every order of memory.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::fence;
use loom::{model, thread};

/// The run loop marks the vCPU as waiting, then looks whether something is pending; who makes it pending looks after that whether the vCPU
/// waits. One of the two sees the other.
#[test]
fn no_wake_up_is_lost() {
    model(|| {
        let vcpu = Arc::new(Vcpu::new(0, DomainId(1), Vmid(1), SchedId(0)));
        vcpu.clear(DOWN);
        let pending = Arc::new(AtomicBool::new(false));
        let (target, raised) = (vcpu.clone(), pending.clone());
        let raiser = thread::spawn(move || {
            raised.store(true, Ordering::SeqCst);
            // The model takes sequentially consistent accesses for acquire and release, the barrier is what they are more.
            fence(Ordering::SeqCst);
            target.unblock()
        });
        vcpu.set(BLOCKED);
        fence(Ordering::SeqCst);
        let seen = pending.load(Ordering::SeqCst);
        if seen {
            vcpu.clear(BLOCKED);
        }
        let woken = raiser.join().unwrap();
        assert!(seen || woken, "asleep with something pending");
        assert!(vcpu.runnable());
    });
}
