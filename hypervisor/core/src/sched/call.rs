//! What a physical CPU is asked for, by others or by what it does itself: a byte that it looks at before it enters a guest or waits.

use super::Nanos;
use crate::atomic::{AtomicU8, AtomicU64};
use core::sync::atomic::Ordering;

#[cfg(all(test, loom))]
mod memory_order;

const SCHEDULE: u8 = 1;
const DEADLINE: u8 = 2;

/// What a physical CPU is asked to do before it enters a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// To go on.
    Nothing,
    /// To see to it that it looks again at [`Scheduler::deadline`](super::Scheduler::deadline), which has moved.
    Deadline,
    /// To call [`Scheduler::schedule`](super::Scheduler::schedule), and that.
    Schedule,
}

/// What is wanted of a CPU.
pub struct Call {
    /// [`SCHEDULE`] and [`DEADLINE`].
    asked: AtomicU8,
    /// When it is to look again, in nanoseconds since boot. Written under the scheduler's lock.
    deadline: AtomicU64,
}

impl Call {
    pub(super) fn new() -> Self {
        Self { asked: AtomicU8::new(0), deadline: AtomicU64::new(Nanos::MAX) }
    }

    /// Whether [`Call::take`] has something to tell. One load: what another CPU asks for after it comes with a kick.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// What the CPU is asked to do; asks once. What was done before it was asked is seen from here on.
    pub fn take(&self) -> Asked {
        if !self.is_asked() {
            return Asked::Nothing;
        }
        match self.asked.swap(0, Ordering::AcqRel) {
            0 => Asked::Nothing,
            bits if bits & SCHEDULE != 0 => Asked::Schedule,
            _ => Asked::Deadline,
        }
    }

    /// Asks for the scheduler.
    pub(super) fn schedule(&self) {
        self.asked.fetch_or(SCHEDULE, Ordering::Release);
    }

    /// Asks for a look at the deadline.
    pub(super) fn look_at_deadline(&self) {
        self.asked.fetch_or(DEADLINE, Ordering::Release);
    }

    pub(super) fn deadline(&self) -> Nanos {
        self.deadline.load(Ordering::Relaxed)
    }

    pub(super) fn set_deadline(&self, at: Nanos) {
        self.deadline.store(at, Ordering::Relaxed);
    }
}
