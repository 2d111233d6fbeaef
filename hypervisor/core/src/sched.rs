//! The scheduler: shares physical CPUs among vCPUs by weight and cap, and answers as Xen's credit2.
//!
//! Each vCPU has a virtual runtime, nanoseconds it ran scaled by 256/weight; the runnable one with the least runs next. One that wakes
//! starts no further behind the others than [`WAKE_CREDIT`], so that it runs promptly and cannot hoard time; it takes the CPU from one that
//! ran at least as long as the rate limit says. A domain with a cap has a
//! budget for each [`CAP_PERIOD`]; its vCPUs wait for the next period when it is spent.
//!
//! One lock guards all of it; it is taken when a vCPU blocks, wakes, or a time slice ends, never while each vCPU has a CPU of its own
//! and is busy. The registers of a vCPU may stay loaded on an idle CPU: then it runs there next, or is given up by that CPU first.
//!
//! What a CPU is to do is told it by [`Call::take`], one load: call [`Scheduler::schedule`], or set its timer, as
//! [`Scheduler::deadline`] has moved. A deadline moves only forth until it has passed: one that is not needed any more costs a look in vain
//! now and then, moving the timer with each switch would cost more.

use crate::addr::{CpuId, CpuMask, DomainId, Vmid};
use crate::lock::Lock;
use crate::room;
use crate::trace::Trace;
use crate::vcpu::Vcpu;
use alloc::sync::Arc;
use alloc::vec::Vec;

mod call;
mod state;
mod tracing;
mod unit;
pub use call::{Asked, Call};
use state::{Budget, State};
use unit::{Place, Unit};
pub use unit::{Runstate, RunstateTimes};

#[cfg(test)]
mod tests;

/// A vCPU's handle in the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchedId(pub u16);

/// Nanoseconds since boot.
pub type Nanos = u64;

/// Longest uninterrupted run while another vCPU waits.
pub const SLICE: Nanos = 2_000_000;
/// How far behind the busiest competitor a waking vCPU may start.
pub const WAKE_CREDIT: Nanos = 1_000_000;
/// A waking vCPU preempts one that is ahead of it by more than this.
pub const PREEMPT_MARGIN: Nanos = 100_000;
/// How many times the rate limit a vCPU is protected from one that it woke itself, by an event that it sent.
///
/// Two that send to each other do so in batches then: the one fills what the other empties. With the rate limit alone a sender on the same
/// CPU as the receiver interrupts it before it has emptied a socket's buffer, fills the buffer again, and what does not fit is lost.
pub const PARTNER_LIMITS: u64 = 3;
/// The period over which a cap is enforced, as in credit2.
pub const CAP_PERIOD: Nanos = 10_000_000;
/// Weight of a domain that nobody set.
pub const DEFAULT_WEIGHT: u16 = 256;

/// Scheduling parameters of a domain, `xen_domctl_sched_credit2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Share of CPU time relative to others; 256 is the default.
    pub weight: u16,
    /// Limit in percent of one CPU; 0 is none.
    pub cap: u16,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: DEFAULT_WEIGHT, cap: 0 }
    }
}

/// What a physical CPU is to do.
pub struct Next {
    /// Whom it runs.
    pub turn: Turn,
    /// Another CPU that idles and may run what waits here: what this one gave up or did not choose.
    pub kick: Option<CpuId>,
}

/// Whom a physical CPU runs.
pub enum Turn {
    /// The vCPU that it runs.
    GoesOn,
    /// The vCPU whose registers it has loaded, after an idle time.
    Resumes,
    /// Another. What is loaded must be saved before that is.
    Loads(Arc<Vcpu>),
    /// Nobody. Registers that are loaded may stay.
    Idles,
    /// Nobody. What is loaded must be saved.
    GivesUp,
}

/// Where a vCPU may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// CPUs it may run on.
    pub hard: CpuMask,
    /// CPUs it prefers.
    pub soft: CpuMask,
}

/// The scheduler of the machine.
pub struct Scheduler {
    state: Lock<State>,
    trace: Arc<Trace>,
    calls: Vec<Call>,
}

impl Scheduler {
    /// A scheduler for `cpus` physical CPUs, none of them online yet.
    pub fn new(cpus: usize, trace: Arc<Trace>) -> Self {
        Self { state: Lock::new(State::new(cpus)), trace, calls: (0..cpus).map(|_| Call::new()).collect() }
    }

    /// `cpu` takes part from now on.
    pub fn cpu_online(&self, cpu: CpuId, now: Nanos) {
        self.state.lock().set_online(cpu, now);
    }

    /// The CPUs that take part.
    pub fn online(&self) -> CpuMask {
        self.state.lock().online
    }

    /// Nanoseconds that `cpu` was idle.
    pub fn idle_time(&self, cpu: CpuId, now: Nanos) -> Option<Nanos> {
        let state = self.state.lock();
        let c = state.cpu(cpu).filter(|_| state.online & mask(cpu) != 0)?;
        Some(c.idle_time + if c.current.is_none() { now.saturating_sub(c.idle_since) } else { 0 })
    }

    /// Adds vCPU `id` of a domain; `None` when memory is short. It may run on every CPU until [`Scheduler::set_affinity`].
    pub fn add(&self, id: u32, domain: DomainId, vmid: Vmid, now: Nanos) -> Option<Arc<Vcpu>> {
        let mut state = self.state.lock();
        let slot = state.free_slot()?;
        let handle = SchedId(u16::try_from(slot).ok()?);
        if !room::for_arc::<Vcpu>() {
            return None;
        }
        let vcpu = Arc::new(Vcpu::new(id, domain, vmid, handle));
        let share = state.budgets.get(usize::from(vmid.0))?.share;
        let floor = state.floor;
        *state.units.get_mut(slot)? = Some(Unit::new(vcpu.clone(), share.weight, floor, now));
        Some(vcpu)
    }

    /// Forgets a vCPU that neither runs nor is loaded; `false` while it still is, after asking that CPU to give it up.
    pub fn remove(&self, id: SchedId) -> Result<(), CpuId> {
        let mut state = self.state.lock();
        if let Some(cpu) = state.unit(id).and_then(|unit| unit.loaded_on) {
            self.ask(cpu);
            return Err(cpu);
        }
        if let Some(unit) = state.units.get_mut(usize::from(id.0)) {
            *unit = None;
        }
        state.queue.retain(|queued| *queued != id);
        Ok(())
    }

    /// Forgets the parameters of a domain that is gone.
    pub fn reset_share(&self, vmid: Vmid) {
        if let Some(b) = self.state.lock().budgets.get_mut(usize::from(vmid.0)) {
            *b = Budget::default();
        }
    }

    /// A domain's parameters.
    pub fn share(&self, vmid: Vmid) -> Share {
        self.state.lock().budgets.get(usize::from(vmid.0)).map(|b| b.share).unwrap_or_default()
    }

    /// Sets a domain's parameters.
    pub fn set_share(&self, vmid: Vmid, share: Share) {
        let mut state = self.state.lock();
        if let Some(b) = state.budgets.get_mut(usize::from(vmid.0)) {
            b.share = share;
        }
        for unit in state.units.iter_mut().flatten().filter(|u| u.vcpu.vmid == vmid) {
            unit.weight = share.weight.max(1);
        }
    }

    /// How long a vCPU runs at least before one that wakes takes its CPU, in microseconds.
    pub fn ratelimit_us(&self) -> u32 {
        self.state.lock().ratelimit_us
    }

    /// Sets [`Scheduler::ratelimit_us`]; 0 is no limit.
    pub fn set_ratelimit_us(&self, us: u32) {
        self.state.lock().ratelimit_us = us;
    }

    /// Where a vCPU may run.
    pub fn affinity(&self, id: SchedId) -> Option<Affinity> {
        self.state.lock().unit(id).map(|u| u.affinity)
    }

    /// Sets where a vCPU may run; returns the CPUs to kick. The caller has checked that `hard` names an online CPU.
    pub fn set_affinity(&self, id: SchedId, affinity: Affinity, now: Nanos) -> CpuMask {
        let mut state = self.state.lock();
        let Some(unit) = state.unit_mut(id) else { return 0 };
        unit.affinity = affinity;
        let mut kick = 0;
        if let Some(cpu) = unit.loaded_on
            && affinity.hard & mask(cpu) == 0
        {
            kick |= mask(cpu);
        }
        kick |= state.tickle(id, now).map_or(0, mask);
        drop(state);
        (0..64).filter(|cpu| kick & mask(CpuId(*cpu)) != 0).for_each(|cpu| self.ask(CpuId(cpu)));
        kick
    }

    /// Tells that a vCPU's flags were cleared or an interrupt came: queues it if it may run. Returns the CPU to kick.
    ///
    /// `by`: the vCPU whose event it is, if it is one. That vCPU keeps its CPU for [`PARTNER_LIMITS`] rate limits, if it does not wait before.
    pub fn wake(&self, id: SchedId, by: Option<SchedId>, now: Nanos) -> Option<CpuId> {
        let mut state = self.state.lock();
        let floor = state.least(now);
        let unit = state.unit_mut(id)?;
        if !unit.vcpu.runnable() || unit.place != Place::Asleep {
            return None;
        }
        unit.vruntime = unit.vruntime.max(floor.saturating_sub(WAKE_CREDIT));
        unit.woken_by = by;
        if self.trace.is_on() {
            tracing::woken(&self.trace, unit);
        }
        state.enqueue(id, now);
        let cpu = state.tickle(id, now)?;
        match state.protected_on(cpu, id, now) {
            // Not before: until then there is nothing to decide.
            Some(until) => self.look_at(cpu, until).then(|| {
                self.call(cpu).iter().for_each(|call| call.look_at_deadline());
                cpu
            }),
            None => {
                self.ask(cpu);
                Some(cpu)
            }
        }
    }

    /// Tells that a vCPU's flags were set: takes it off the queue. Returns the CPU that runs it and must be kicked.
    pub fn sleep(&self, id: SchedId, now: Nanos) -> Option<CpuId> {
        let mut state = self.state.lock();
        let unit = state.unit_mut(id)?;
        if unit.vcpu.runnable() {
            return None;
        }
        match unit.place {
            Place::Running(cpu) => {
                self.ask(cpu);
                Some(cpu)
            }
            Place::Queued | Place::Asleep => {
                if self.trace.is_on() {
                    tracing::stopped(&self.trace, unit);
                }
                state.rest(id, now);
                None
            }
        }
    }

    /// The current vCPU of `cpu` gives way to all others that wait.
    pub fn yield_now(&self, cpu: CpuId, now: Nanos) {
        let mut state = self.state.lock();
        let Some(id) = state.cpu(cpu).and_then(|c| c.current) else { return };
        if self.trace.is_on() {
            tracing::yielded(&self.trace, state.unit(id));
        }
        state.charge(id, now);
        let last = state.queue.iter().filter_map(|id| state.unit(*id)).map(|u| u.vruntime).max();
        if let (Some(unit), Some(last)) = (state.unit_mut(id), last) {
            unit.vruntime = unit.vruntime.max(last.saturating_add(PREEMPT_MARGIN + 1));
            unit.yielded = true;
        }
    }

    /// Decides what `cpu` does now. The vCPU that it ran goes on, or back to the queue, or sleeps if its flags say so.
    pub fn schedule(&self, cpu: CpuId, now: Nanos) -> Next {
        let mut state = self.state.lock();
        if self.deadline(cpu).is_some_and(|at| at <= now) {
            self.set_deadline(cpu, state.first_alarm(cpu));
        }
        let before = state.cpu(cpu).and_then(|cpu| cpu.current);
        let turn = state.turn(cpu, now);
        if self.trace.is_on() {
            tracing::switched(&self.trace, &state, cpu, before, now);
        }
        if let Some(until) = state.look_again(cpu, now) {
            self.look_at(cpu, until);
        }
        let kick = match turn {
            Turn::GivesUp => state.give_up(cpu).and_then(|id| state.tickle(id, now)),
            _ => state.stranded(cpu, now),
        };
        if let Some(cpu) = kick {
            self.ask(cpu);
        }
        Next { turn, kick }
    }

    /// When `cpu` has to look at its queue and its alarms again, in nanoseconds since boot; `None`: only when it is asked.
    pub fn deadline(&self, cpu: CpuId) -> Option<Nanos> {
        let at = self.call(cpu)?.deadline();
        (at != Nanos::MAX).then_some(at)
    }

    fn set_deadline(&self, cpu: CpuId, at: Nanos) {
        if let Some(call) = self.call(cpu) {
            call.set_deadline(at);
        }
    }

    /// Lets `cpu` look again at `at`, or sooner; whether that is news to it.
    fn look_at(&self, cpu: CpuId, at: Nanos) -> bool {
        let is_news = self.deadline(cpu).is_none_or(|present| at < present);
        if is_news {
            self.set_deadline(cpu, at);
        }
        is_news
    }

    /// Sets when a vCPU that does not run wants attention, [`Nanos::MAX`] for never. Called on the CPU it ran on last, which attends to it
    /// unless it runs before.
    pub fn set_alarm(&self, id: SchedId, at: Nanos) {
        let mut state = self.state.lock();
        // Another CPU may have chosen it already, and waits for its registers: the timer comes with them.
        if let Some(unit) = state.unit_mut(id).filter(|unit| !matches!(unit.place, Place::Running(_))) {
            unit.alarm = at;
            self.look_at(unit.last, at);
        }
    }

    /// Takes one vCPU whose alarm on `cpu` has passed; call until there is none, then [`Scheduler::schedule`].
    pub fn take_due(&self, cpu: CpuId, now: Nanos) -> Option<Arc<Vcpu>> {
        let mut state = self.state.lock();
        let unit = state.units.iter_mut().flatten().find(|u| u.last == cpu && u.alarm <= now)?;
        unit.alarm = Nanos::MAX;
        Some(unit.vcpu.clone())
    }

    /// What is wanted of `cpu`.
    pub fn call(&self, cpu: CpuId) -> Option<&Call> {
        self.calls.get(usize::from(cpu.0))
    }

    /// Makes `cpu` call [`Scheduler::schedule`] soon; the caller kicks it.
    pub fn ask(&self, cpu: CpuId) {
        if let Some(call) = self.call(cpu) {
            call.schedule();
        }
    }

    /// The CPU that has a vCPU's registers loaded.
    pub fn is_loaded(&self, id: SchedId) -> Option<CpuId> {
        self.state.lock().unit(id)?.loaded_on
    }

    /// How long a vCPU was in each runstate.
    pub fn runstate(&self, id: SchedId, now: Nanos) -> Option<RunstateTimes> {
        self.state.lock().unit(id).map(|u| u.times(now))
    }

    /// How long a vCPU was in each runstate before it entered the present one.
    pub fn runstate_before(&self, id: SchedId) -> Option<RunstateTimes> {
        self.state.lock().unit(id).map(|u| u.times_before())
    }

    /// The CPU a vCPU runs on, or ran on last.
    pub fn last_cpu(&self, id: SchedId) -> CpuId {
        self.state.lock().unit(id).map_or(CpuId(0), |u| u.last)
    }
}

/// The set of one CPU.
pub const fn mask(cpu: CpuId) -> CpuMask {
    1 << (cpu.0 & 63)
}
