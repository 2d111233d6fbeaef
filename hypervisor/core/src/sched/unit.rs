//! A vCPU as the scheduler sees it: where it is, what it is owed, how it spent its time.

use super::{Affinity, Nanos, SchedId};
use crate::addr::CpuId;
use crate::vcpu::{self, Vcpu};
use alloc::sync::Arc;

/// Runstates of the ABI, `RUNSTATE_*` of vcpu.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Runstate {
    /// Runs on a physical CPU.
    Running = 0,
    /// Could run, waits for a CPU.
    Runnable = 1,
    /// Waits for an event.
    Blocked = 2,
    /// Paused, or off.
    Offline = 3,
}

/// Runstate and the nanoseconds spent in each, indexed by [`Runstate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunstateTimes {
    /// The present state.
    pub state: Runstate,
    /// Since when, in nanoseconds since boot.
    pub since: Nanos,
    /// Nanoseconds in each state, the present one included.
    pub time: [Nanos; 4],
}

/// Where a unit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Cannot run.
    Asleep,
    /// Waits for a CPU.
    Queued,
    /// Runs.
    Running(CpuId),
}

pub(super) struct Unit {
    pub vcpu: Arc<Vcpu>,
    pub place: Place,
    pub vruntime: Nanos,
    pub weight: u16,
    pub affinity: Affinity,
    pub last: CpuId,
    /// The CPU that has its registers.
    pub loaded_on: Option<CpuId>,
    /// Whose event woke it.
    pub woken_by: Option<SchedId>,
    /// When it got the CPU that it has or had last.
    pub dispatched: Nanos,
    /// It gave way: the rate limit does not protect it.
    pub yielded: bool,
    /// Up to when its running time is booked.
    pub started: Nanos,
    /// When it wants attention while it does not run.
    pub alarm: Nanos,
    pub state: Runstate,
    since: Nanos,
    time: [Nanos; 4],
}

impl Unit {
    pub fn new(vcpu: Arc<Vcpu>, weight: u16, vruntime: Nanos, now: Nanos) -> Self {
        Self {
            vcpu,
            place: Place::Asleep,
            vruntime,
            weight: weight.max(1),
            affinity: Affinity { hard: u64::MAX, soft: u64::MAX },
            last: CpuId(0),
            loaded_on: None,
            woken_by: None,
            dispatched: 0,
            yielded: false,
            started: now,
            alarm: Nanos::MAX,
            state: Runstate::Offline,
            since: now,
            time: [0; 4],
        }
    }

    pub fn may_run_on(&self, cpu: CpuId) -> bool {
        self.affinity.hard & super::mask(cpu) != 0
    }

    pub fn prefers(&self, cpu: CpuId) -> bool {
        self.affinity.soft & super::mask(cpu) != 0
    }

    /// Its virtual runtime, with what it has run since that was last booked.
    pub fn vruntime_at(&self, now: Nanos) -> Nanos {
        match self.place {
            Place::Running(_) => {
                let ran = now.saturating_sub(self.started).saturating_mul(u64::from(super::DEFAULT_WEIGHT));
                self.vruntime.saturating_add(ran / u64::from(self.weight.max(1)))
            }
            _ => self.vruntime,
        }
    }

    /// The runstate of a unit whose flags keep it from running.
    pub fn resting(&self) -> Runstate {
        if self.vcpu.flags() == vcpu::BLOCKED { Runstate::Blocked } else { Runstate::Offline }
    }

    pub fn enter(&mut self, place: Place, state: Runstate, now: Nanos) {
        self.place = place;
        if state != self.state {
            if let Some(t) = self.time.get_mut(self.state as usize) {
                *t += now.saturating_sub(self.since);
            }
            self.state = state;
            self.since = now;
        }
    }

    pub fn times(&self, now: Nanos) -> RunstateTimes {
        let mut times = self.times_before();
        if let Some(t) = times.time.get_mut(self.state as usize) {
            *t += now.saturating_sub(self.since);
        }
        times
    }

    /// Without the time in the present state.
    pub fn times_before(&self) -> RunstateTimes {
        RunstateTimes { state: self.state, since: self.since, time: self.time }
    }
}
