//! Two vCPUs at once: the boot CPU does one thing while the second one does another, or both meet and do the same.

use crate::runtime::{cpu, hypercall, smp};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guest_abi::sched::SCHEDOP_YIELD;
use guest_abi::xen::hypercall::SCHED_OP;

static STARTED: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
static ARRIVED: AtomicU32 = AtomicU32::new(0);

/// Starts the second vCPU if it is not up; whether it is.
pub fn ready() -> bool {
    if !smp::is_online(1) {
        smp::start(1);
    }
    smp::is_online(1)
}

/// The second vCPU does `other`, which looks at [`stopped`], until `mine` returns. Whether both came to an end.
pub fn beside(other: fn(), mine: impl FnOnce()) -> bool {
    STARTED.store(false, SeqCst);
    STOP.store(false, SeqCst);
    ARRIVED.store(0, SeqCst);
    smp::give(1, other);
    let started = patiently(|| STARTED.load(SeqCst));
    mine();
    STOP.store(true, SeqCst);
    started && patiently(|| smp::is_idle(1))
}

/// Whether the job of the second vCPU is to end.
pub fn stopped() -> bool {
    STARTED.store(true, SeqCst);
    STOP.load(SeqCst)
}

/// Waits for the other vCPU to come here too, the `round`th time (from 1 on). False if it does not.
pub fn meet(round: u32) -> bool {
    STARTED.store(true, SeqCst);
    ARRIVED.fetch_add(1, SeqCst);
    patiently(|| ARRIVED.load(SeqCst) >= 2 * round || STOP.load(SeqCst)) && !STOP.load(SeqCst)
}

/// Waits, thirty seconds at most; gives the CPU away at times, for both vCPUs may share it.
fn patiently(condition: impl Fn() -> bool) -> bool {
    let start = cpu::counter();
    let mut spins = 0_u32;
    while !condition() {
        spins += 1;
        if spins.is_multiple_of(256) {
            hypercall::raw(SCHED_OP, [SCHEDOP_YIELD.into(), 0, 0, 0, 0]);
            if cpu::counter() - start > 30 * cpu::frequency() {
                return false;
            }
        }
    }
    true
}
