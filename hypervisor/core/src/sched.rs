//! The scheduler: shares physical CPUs among vCPUs by weight and cap, and answers as Xen's credit2.
//!
//! Each vCPU has a virtual runtime, nanoseconds it ran scaled by 256/weight; the runnable one with the least runs next. One that wakes
//! starts no further behind the others than [`WAKE_CREDIT`], so that it runs promptly and cannot hoard time; it takes the CPU from one that
//! ran at least as long as the rate limit says. A domain with a cap has a
//! budget for each [`CAP_PERIOD`]; its vCPUs wait for the next period when it is spent.
//!
//! One lock guards all of it; it is taken when a vCPU blocks, wakes, or a time slice ends, never while each vCPU has a CPU of its own
//! and is busy. The registers of a vCPU may stay loaded on an idle CPU: then it runs there next, or is given up by that CPU first.

use crate::addr::{CpuId, CpuMask, DomainId, Vmid};
use crate::lock::Lock;
use crate::vcpu::{self, Vcpu};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

mod unit;
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
    /// The vCPU to run, or none: idle.
    pub vcpu: Option<Arc<Vcpu>>,
    /// The vCPU whose registers this CPU has loaded must be saved now, even if the CPU idles.
    pub save: bool,
    /// Another CPU that idles and may run what waits here: what this one gave up or did not choose.
    pub kick: Option<CpuId>,
}

/// Where a vCPU may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// CPUs it may run on.
    pub hard: CpuMask,
    /// CPUs it prefers.
    pub soft: CpuMask,
}

#[derive(Default)]
struct Cpu {
    online: bool,
    /// The unit that runs.
    current: Option<SchedId>,
    /// The unit whose registers are loaded: the current one, or, while idle, the one that ran last.
    loaded: Option<SchedId>,
    idle_since: Nanos,
    idle_time: Nanos,
}

#[derive(Clone, Copy, Default)]
struct Budget {
    share: Share,
    period: Nanos,
    used: Nanos,
}

struct State {
    units: Vec<Option<Unit>>,
    cpus: Vec<Cpu>,
    budgets: Vec<Budget>,
    /// Virtual runtime below which no runnable unit is.
    floor: Nanos,
    ratelimit_us: u32,
}

/// The scheduler of the machine.
pub struct Scheduler {
    state: Lock<State>,
    /// Which CPUs are to call [`Scheduler::schedule`].
    asked: Vec<AtomicBool>,
}

impl Scheduler {
    /// A scheduler for `cpus` physical CPUs, none of them online yet.
    pub fn new(cpus: usize) -> Self {
        let mut budgets = Vec::new();
        budgets.resize(256, Budget::default());
        Self {
            state: Lock::new(State {
                units: Vec::new(),
                cpus: (0..cpus).map(|_| Cpu::default()).collect(),
                budgets,
                floor: 0,
                ratelimit_us: 1000,
            }),
            asked: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// `cpu` takes part from now on.
    pub fn cpu_online(&self, cpu: CpuId, now: Nanos) {
        if let Some(c) = self.state.lock().cpus.get_mut(usize::from(cpu.0)) {
            c.online = true;
            c.idle_since = now;
        }
    }

    /// The CPUs that take part.
    pub fn online(&self) -> CpuMask {
        self.state.lock().online()
    }

    /// Nanoseconds that `cpu` was idle.
    pub fn idle_time(&self, cpu: CpuId, now: Nanos) -> Option<Nanos> {
        let state = self.state.lock();
        let c = state.cpus.get(usize::from(cpu.0)).filter(|c| c.online)?;
        Some(c.idle_time + if c.current.is_none() { now.saturating_sub(c.idle_since) } else { 0 })
    }

    /// Adds vCPU `id` of a domain; `None` when memory is short. It may run on every CPU until [`Scheduler::set_affinity`].
    pub fn add(&self, id: u32, domain: DomainId, vmid: Vmid, now: Nanos) -> Option<Arc<Vcpu>> {
        let mut state = self.state.lock();
        let slot = match state.units.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                state.units.try_reserve(1).ok()?;
                state.units.push(None);
                state.units.len() - 1
            }
        };
        let handle = SchedId(u16::try_from(slot).ok()?);
        let vcpu = Arc::new(Vcpu::new(id, domain, vmid, handle));
        let share = state.budgets.get(usize::from(vmid.0))?.share;
        let floor = state.floor;
        *state.units.get_mut(slot)? = Some(Unit::new(vcpu.clone(), share.weight, floor, now));
        Some(vcpu)
    }

    /// Forgets a vCPU that neither runs nor is loaded; `false` while it still is, after asking that CPU to give it up.
    pub fn remove(&self, id: SchedId) -> Result<(), CpuId> {
        let mut state = self.state.lock();
        if let Some(cpu) = state.loaded_on(id) {
            self.ask(cpu);
            return Err(cpu);
        }
        if let Some(unit) = state.units.get_mut(usize::from(id.0)) {
            *unit = None;
        }
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
        let loaded = state.loaded_on(id);
        let Some(unit) = state.unit_mut(id) else { return 0 };
        unit.affinity = affinity;
        let mut kick = 0;
        if let Some(cpu) = loaded
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
    pub fn wake(&self, id: SchedId, now: Nanos) -> Option<CpuId> {
        let mut state = self.state.lock();
        let floor = state.least(now);
        let unit = state.unit_mut(id)?;
        if !unit.vcpu.runnable() || !matches!(unit.place, Place::Asleep) {
            return None;
        }
        unit.vruntime = unit.vruntime.max(floor.saturating_sub(WAKE_CREDIT));
        unit.enter(Place::Queued, Runstate::Runnable, now);
        let cpu = state.tickle(id, now)?;
        self.ask(cpu);
        Some(cpu)
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
            Place::Queued => {
                let runstate = unit.resting();
                unit.enter(Place::Asleep, runstate, now);
                None
            }
            Place::Asleep => {
                let runstate = unit.resting();
                unit.enter(Place::Asleep, runstate, now);
                None
            }
        }
    }

    /// The current vCPU of `cpu` gives way to all others that wait.
    pub fn yield_now(&self, cpu: CpuId, now: Nanos) {
        let mut state = self.state.lock();
        let Some(id) = state.cpu(cpu).and_then(|c| c.current) else { return };
        state.charge(id, now);
        let last = state.units.iter().flatten().filter(|u| matches!(u.place, Place::Queued)).map(|u| u.vruntime).max();
        if let (Some(unit), Some(last)) = (state.unit_mut(id), last) {
            unit.vruntime = unit.vruntime.max(last.saturating_add(PREEMPT_MARGIN + 1));
            unit.yielded = true;
        }
    }

    /// Decides what `cpu` does now. The vCPU that it ran goes back to the queue, or sleeps if its flags say so.
    pub fn schedule(&self, cpu: CpuId, now: Nanos) -> Next {
        let mut state = self.state.lock();
        let ran = state.retire(cpu, now);
        let chosen = ran.filter(|id| state.is_protected(*id, cpu, now)).or_else(|| state.choose(cpu, now));
        let loaded = state.cpu(cpu).and_then(|c| c.loaded);
        match chosen {
            Some(id) => {
                let vcpu = state.unit_mut(id).map(|unit| {
                    unit.enter(Place::Running(cpu), Runstate::Running, now);
                    unit.started = now;
                    unit.yielded = false;
                    if ran != Some(id) {
                        unit.dispatched = now;
                    }
                    unit.vcpu.set_running_on(Some(cpu));
                    unit.last = cpu;
                    unit.vcpu.clone()
                });
                if let Some(c) = state.cpu_mut(cpu) {
                    if c.current.is_none() {
                        c.idle_time += now.saturating_sub(c.idle_since);
                    }
                    c.current = Some(id);
                    c.loaded = Some(id);
                }
                let kick = state.stranded(cpu, now);
                if let Some(cpu) = kick {
                    self.ask(cpu);
                }
                Next { vcpu, save: loaded.is_some_and(|l| l != id), kick }
            }
            None => {
                // Give up registers that another CPU, or the removal of the vCPU, waits for.
                let keep = loaded.and_then(|id| state.unit(id)).is_some_and(|u| {
                    matches!(u.place, Place::Asleep)
                        && u.vcpu.flags() & (vcpu::STOPPED | vcpu::DOWN | vcpu::PAUSED) == 0
                        && u.may_run_on(cpu)
                });
                if let Some(c) = state.cpu_mut(cpu) {
                    if c.current.take().is_some() {
                        c.idle_since = now;
                    }
                    if !keep {
                        c.loaded = None;
                    }
                }
                let kick = if keep { None } else { loaded.and_then(|id| state.tickle(id, now)) };
                if let Some(cpu) = kick {
                    self.ask(cpu);
                }
                Next { vcpu: None, save: !keep && loaded.is_some(), kick }
            }
        }
    }

    /// When `cpu` has to look at its queue and its alarms again, in nanoseconds since boot.
    pub fn deadline(&self, cpu: CpuId, now: Nanos) -> Option<Nanos> {
        self.state.lock().deadline(cpu, now)
    }

    /// Sets when a vCPU that does not run wants attention, [`Nanos::MAX`] for never. The CPU it ran on last attends to it.
    pub fn set_alarm(&self, id: SchedId, at: Nanos) {
        if let Some(unit) = self.state.lock().unit_mut(id) {
            unit.alarm = at;
        }
    }

    /// Takes one vCPU whose alarm on `cpu` has passed; call until there is none.
    pub fn take_due(&self, cpu: CpuId, now: Nanos) -> Option<Arc<Vcpu>> {
        let mut state = self.state.lock();
        let unit = state.units.iter_mut().flatten().find(|u| u.last == cpu && u.alarm <= now)?;
        unit.alarm = Nanos::MAX;
        Some(unit.vcpu.clone())
    }

    /// Whether [`Scheduler::schedule`] should be called on `cpu`; asks once.
    pub fn must_schedule(&self, cpu: CpuId) -> bool {
        self.asked.get(usize::from(cpu.0)).is_some_and(|a| a.load(Ordering::Relaxed) && a.swap(false, Ordering::AcqRel))
    }

    /// Makes `cpu` call [`Scheduler::schedule`] soon; the caller kicks it.
    pub fn ask(&self, cpu: CpuId) {
        if let Some(a) = self.asked.get(usize::from(cpu.0)) {
            a.store(true, Ordering::Release);
        }
    }

    /// The CPU that has a vCPU's registers loaded.
    pub fn is_loaded(&self, id: SchedId) -> Option<CpuId> {
        self.state.lock().loaded_on(id)
    }

    /// How long a vCPU was in each runstate.
    pub fn runstate(&self, id: SchedId, now: Nanos) -> Option<RunstateTimes> {
        self.state.lock().unit(id).map(|u| u.times(now))
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

impl State {
    fn unit(&self, id: SchedId) -> Option<&Unit> {
        self.units.get(usize::from(id.0))?.as_ref()
    }

    fn unit_mut(&mut self, id: SchedId) -> Option<&mut Unit> {
        self.units.get_mut(usize::from(id.0))?.as_mut()
    }

    fn cpu(&self, cpu: CpuId) -> Option<&Cpu> {
        self.cpus.get(usize::from(cpu.0))
    }

    fn cpu_mut(&mut self, cpu: CpuId) -> Option<&mut Cpu> {
        self.cpus.get_mut(usize::from(cpu.0))
    }

    fn online(&self) -> CpuMask {
        self.cpus.iter().enumerate().filter(|(_, c)| c.online).fold(0, |m, (i, _)| m | 1 << (i & 63))
    }

    fn loaded_on(&self, id: SchedId) -> Option<CpuId> {
        self.cpus.iter().position(|c| c.loaded == Some(id)).and_then(|i| u8::try_from(i).ok()).map(CpuId)
    }

    /// The virtual runtime of the unit that is furthest behind, of those that run or wait to.
    fn least(&self, now: Nanos) -> Nanos {
        let active = self.units.iter().flatten().filter(|u| !matches!(u.place, Place::Asleep));
        active.map(|u| u.vruntime_at(now)).min().unwrap_or(self.floor)
    }

    /// Books the time the running unit used since it was last booked.
    fn charge(&mut self, id: SchedId, now: Nanos) {
        let Some(unit) = self.units.get_mut(usize::from(id.0)).and_then(Option::as_mut) else { return };
        let ran = now.saturating_sub(unit.started);
        unit.vruntime = unit.vruntime_at(now);
        unit.started = now;
        if let Some(budget) = self.budgets.get_mut(usize::from(unit.vcpu.vmid.0)) {
            if now.saturating_sub(budget.period) >= CAP_PERIOD {
                budget.period = now - now % CAP_PERIOD;
                budget.used = 0;
            }
            budget.used += ran;
        }
    }

    /// Whether a unit that was taken off `cpu` just now is to go on: it has not run as long as the rate limit says. Without that, two domains
    /// that send to each other would switch with every packet.
    fn is_protected(&self, id: SchedId, cpu: CpuId, now: Nanos) -> bool {
        self.unit(id).is_some_and(|unit| !unit.yielded && now < self.protected_until(unit) && self.eligible(unit, id, cpu, now))
    }

    fn protected_until(&self, unit: &Unit) -> Nanos {
        unit.dispatched.saturating_add(u64::from(self.ratelimit_us) * 1000)
    }

    /// Takes the current unit of `cpu` off it.
    fn retire(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        let id = self.cpu(cpu).and_then(|c| c.current)?;
        self.charge(id, now);
        let unit = self.unit_mut(id)?;
        unit.vcpu.set_running_on(None);
        if unit.vcpu.runnable() {
            unit.enter(Place::Queued, Runstate::Runnable, now);
        } else {
            let runstate = unit.resting();
            unit.enter(Place::Asleep, runstate, now);
        }
        Some(id)
    }

    fn over_budget(&self, vmid: Vmid, now: Nanos) -> bool {
        self.budgets.get(usize::from(vmid.0)).is_some_and(|b| {
            b.share.cap != 0 && now.saturating_sub(b.period) < CAP_PERIOD && b.used >= CAP_PERIOD / 100 * u64::from(b.share.cap)
        })
    }

    fn eligible(&self, unit: &Unit, id: SchedId, cpu: CpuId, now: Nanos) -> bool {
        matches!(unit.place, Place::Queued)
            && unit.may_run_on(cpu)
            && self.loaded_on(id).is_none_or(|on| on == cpu)
            && !self.over_budget(unit.vcpu.vmid, now)
    }

    /// The unit that `cpu` should run: least virtual runtime; one that ran here and prefers it here goes first when the difference is small.
    fn choose(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        let ran = self.cpu(cpu).and_then(|c| c.current);
        let mut best: Option<(Nanos, SchedId)> = None;
        for (i, unit) in self.units.iter().enumerate() {
            let (Some(unit), Ok(i)) = (unit, u16::try_from(i)) else { continue };
            let id = SchedId(i);
            if !self.eligible(unit, id, cpu, now) {
                continue;
            }
            let penalty = if unit.affinity.soft & mask(cpu) == 0 || ran.is_some_and(|r| r != id) { PREEMPT_MARGIN } else { 0 };
            let key = unit.vruntime.saturating_add(penalty);
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, id));
            }
        }
        let (_, id) = best?;
        if let Some(vruntime) = self.unit(id).map(|u| u.vruntime) {
            self.floor = self.floor.max(vruntime);
        }
        Some(id)
    }

    /// A CPU that idles although a unit waits that it may run: two that woke at once were both promised to `busy`, which took one.
    fn stranded(&self, busy: CpuId, now: Nanos) -> Option<CpuId> {
        let idle = |cpu: &CpuId| *cpu != busy && self.cpu(*cpu).is_some_and(|c| c.online && c.current.is_none());
        let idlers = || (0..self.cpus.len()).filter_map(|i| u8::try_from(i).ok()).map(CpuId).filter(idle);
        idlers().next()?;
        self.units.iter().enumerate().find_map(|(i, unit)| {
            let (unit, id) = (unit.as_ref()?, SchedId(u16::try_from(i).ok()?));
            idlers().find(|cpu| self.eligible(unit, id, *cpu, now))
        })
    }

    /// When `cpu` has to look again: the end of a slice if another waits, a budget that refills, an alarm.
    fn deadline(&self, cpu: CpuId, now: Nanos) -> Option<Nanos> {
        let current = self.cpu(cpu).and_then(|c| c.current);
        let next_period = now - now % CAP_PERIOD + CAP_PERIOD;
        let protected = current.and_then(|id| self.unit(id)).map_or(0, |unit| self.protected_until(unit));
        let slice_end = if protected > now { protected } else { now + SLICE };
        let mut until = Nanos::MAX;
        for unit in self.units.iter().flatten() {
            if unit.last == cpu && !matches!(unit.place, Place::Running(_)) {
                until = until.min(unit.alarm);
            }
            if !matches!(unit.place, Place::Queued) || !unit.may_run_on(cpu) {
                continue;
            }
            if self.over_budget(unit.vcpu.vmid, now) {
                until = until.min(next_period);
            } else if current.is_some() {
                until = until.min(slice_end);
            }
        }
        if let Some(unit) = current.and_then(|id| self.unit(id))
            && let Some(budget) = self.budgets.get(usize::from(unit.vcpu.vmid.0))
            && budget.share.cap != 0
        {
            let used = if now.saturating_sub(budget.period) < CAP_PERIOD { budget.used } else { 0 };
            until = until.min(now + (CAP_PERIOD / 100 * u64::from(budget.share.cap)).saturating_sub(used).max(100_000));
        }
        (until != Nanos::MAX).then_some(until)
    }

    /// The CPU that should look at its queue because `id` was queued: one that idles, else the one whose vCPU is most ahead.
    fn tickle(&self, id: SchedId, now: Nanos) -> Option<CpuId> {
        let unit = self.unit(id)?;
        if !matches!(unit.place, Place::Queued) {
            return None;
        }
        if let Some(cpu) = self.loaded_on(id)
            && self.cpu(cpu).is_some_and(|c| c.current.is_none())
            && unit.may_run_on(cpu)
        {
            return Some(cpu);
        }
        let allowed = unit.affinity.hard & self.online();
        let preferred = if allowed & unit.affinity.soft != 0 { allowed & unit.affinity.soft } else { allowed };
        let idle = |m: CpuMask| {
            let is_idle = |cpu: &CpuId| m & mask(*cpu) != 0 && self.cpu(*cpu).is_some_and(|c| c.current.is_none());
            Some(unit.last).filter(is_idle).or_else(|| (0..self.cpus.len()).filter_map(|i| u8::try_from(i).ok()).map(CpuId).find(is_idle))
        };
        if let Some(cpu) = idle(preferred).or_else(|| idle(allowed)) {
            return Some(cpu);
        }
        // The CPU whose vCPU is most ahead; it is told even if preemption is not due, to set a deadline for its slice.
        (0..self.cpus.len())
            .filter_map(|i| u8::try_from(i).ok())
            .map(CpuId)
            .filter(|cpu| allowed & mask(*cpu) != 0)
            .filter_map(|cpu| {
                let running = self.unit(self.cpu(cpu)?.current?)?;
                Some((running.vruntime_at(now), cpu))
            })
            .max()
            .map(|(_, cpu)| cpu)
    }
}
