//! Asking and waiting under every order of memory.

use super::*;
use crate::atomic::AtomicBool;
use loom::sync::Arc;
use loom::{model, thread};

/// The run loop takes what is asked, looks for work, and waits if then nothing is asked. Who has work for it asks, then kicks: a CPU that waits
/// is kicked, and one that was kicked sees why.
#[test]
fn a_cpu_does_not_wait_with_work() {
    model(|| {
        let cpu = Arc::new((Call::new(), AtomicBool::new(false), AtomicBool::new(false)));
        let other = cpu.clone();
        let other = thread::spawn(move || {
            let (call, work, kicked) = &*other;
            // Relaxed: asking alone makes it seen.
            work.store(true, Ordering::Relaxed);
            call.schedule();
            // The interrupt comes after what was written before it: `kick` has a barrier.
            kicked.store(true, Ordering::Release);
        });
        let (call, work, kicked) = &*cpu;
        call.take();
        let waits = !work.load(Ordering::Relaxed) && call.take() == Asked::Nothing;
        let wakes = kicked.load(Ordering::Acquire);
        if waits && wakes {
            assert_eq!(call.take(), Asked::Schedule, "kicked for nothing");
            assert!(work.load(Ordering::Relaxed));
        }
        other.join().unwrap();
        if waits && !wakes {
            assert!(kicked.load(Ordering::Relaxed), "asleep with work");
            assert_eq!(call.take(), Asked::Schedule);
        }
    });
}

#[test]
fn what_is_asked_is_taken_once() {
    model(|| {
        let cpu = Arc::new(Call::new());
        let other = cpu.clone();
        let other = thread::spawn(move || other.look_at_deadline());
        cpu.schedule();
        let first = cpu.take();
        other.join().unwrap();
        let second = cpu.take();
        assert_eq!(first, Asked::Schedule);
        assert!(second != Asked::Schedule);
        assert_eq!(cpu.take(), Asked::Nothing);
    });
}
