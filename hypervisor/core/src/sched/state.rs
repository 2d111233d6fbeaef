//! What the scheduler's lock guards, and how it decides.

use super::unit::{Place, Runstate, Unit};
use super::{CAP_PERIOD, Nanos, PARTNER_LIMITS, PREEMPT_MARGIN, SLICE, SchedId, Share, Turn, mask};
use crate::addr::{CpuId, CpuMask, Vmid};
use crate::vcpu;
use alloc::vec::Vec;

/// A physical CPU.
#[derive(Clone, Copy, Default)]
pub(super) struct Cpu {
    /// The unit that runs.
    pub current: Option<SchedId>,
    /// The unit whose registers are loaded: the current one, or, while idle, the one that ran last.
    pub loaded: Option<SchedId>,
    pub idle_since: Nanos,
    pub idle_time: Nanos,
}

/// What a domain may use and has used.
#[derive(Clone, Copy, Default)]
pub(super) struct Budget {
    pub share: Share,
    period: Nanos,
    used: Nanos,
}

pub(super) struct State {
    pub units: Vec<Option<Unit>>,
    /// The units that wait for a CPU; as much is reserved as there are units.
    pub queue: Vec<SchedId>,
    pub cpus: Vec<Cpu>,
    pub online: CpuMask,
    /// Of those, the ones without a unit that runs.
    idle: CpuMask,
    pub budgets: Vec<Budget>,
    /// Virtual runtime below which no runnable unit is.
    pub floor: Nanos,
    pub ratelimit_us: u32,
}

impl State {
    pub fn new(cpus: usize) -> Self {
        let mut budgets = Vec::new();
        budgets.resize(256, Budget::default());
        let cpus = (0..cpus).map(|_| Cpu::default()).collect();
        Self { units: Vec::new(), queue: Vec::new(), cpus, online: 0, idle: 0, budgets, floor: 0, ratelimit_us: 1000 }
    }

    pub fn set_online(&mut self, cpu: CpuId, now: Nanos) {
        if let Some(c) = self.cpu_mut(cpu) {
            c.idle_since = now;
            self.online |= mask(cpu);
            self.idle |= mask(cpu);
        }
    }

    /// Where a new unit goes; `None` when memory is short.
    pub fn free_slot(&mut self) -> Option<usize> {
        if let Some(slot) = self.units.iter().position(Option::is_none) {
            return Some(slot);
        }
        self.units.try_reserve(1).ok()?;
        self.queue.try_reserve(self.units.len() + 1 - self.queue.len()).ok()?;
        self.units.push(None);
        Some(self.units.len() - 1)
    }

    pub fn unit(&self, id: SchedId) -> Option<&Unit> {
        self.units.get(usize::from(id.0))?.as_ref()
    }

    pub fn unit_mut(&mut self, id: SchedId) -> Option<&mut Unit> {
        self.units.get_mut(usize::from(id.0))?.as_mut()
    }

    pub fn cpu(&self, cpu: CpuId) -> Option<&Cpu> {
        self.cpus.get(usize::from(cpu.0))
    }

    fn cpu_mut(&mut self, cpu: CpuId) -> Option<&mut Cpu> {
        self.cpus.get_mut(usize::from(cpu.0))
    }

    fn current(&self, cpu: CpuId) -> Option<&Unit> {
        self.unit(self.cpu(cpu)?.current?)
    }

    fn queued(&self) -> impl Iterator<Item = (SchedId, &Unit)> {
        self.queue.iter().filter_map(|id| Some((*id, self.unit(*id)?)))
    }

    /// The virtual runtime of the unit that is furthest behind, of those that run or wait to.
    pub fn least(&self, now: Nanos) -> Nanos {
        let running = self.cpus.iter().filter_map(|c| self.unit(c.current?)).map(|u| u.vruntime_at(now));
        running.chain(self.queued().map(|(_, u)| u.vruntime)).min().unwrap_or(self.floor)
    }

    /// Lets a unit that is nowhere wait for a CPU.
    pub fn enqueue(&mut self, id: SchedId, now: Nanos) {
        if let Some(unit) = self.unit_mut(id) {
            unit.enter(Place::Queued, Runstate::Runnable, now);
            self.queue.push(id);
        }
    }

    /// A unit whose flags keep it from running, and that does not run, waits for nothing.
    pub fn rest(&mut self, id: SchedId, now: Nanos) {
        if let Some(unit) = self.unit_mut(id) {
            let runstate = unit.resting();
            if unit.place == Place::Queued {
                unit.enter(Place::Asleep, runstate, now);
                self.queue.retain(|queued| *queued != id);
            } else {
                unit.enter(Place::Asleep, runstate, now);
            }
        }
    }

    /// Books the time the running unit used since it was last booked.
    pub fn charge(&mut self, id: SchedId, now: Nanos) {
        let Some(unit) = self.units.get_mut(usize::from(id.0)).and_then(Option::as_mut) else { return };
        let ran = now.saturating_sub(unit.started);
        unit.vruntime = unit.vruntime_at(now);
        unit.started = now;
        if let Some(budget) = self.budgets.get_mut(usize::from(unit.vcpu.vmid.0)).filter(|budget| budget.share.cap != 0) {
            if now.saturating_sub(budget.period) >= CAP_PERIOD {
                budget.period = now - now % CAP_PERIOD;
                budget.used = 0;
            }
            budget.used += ran;
        }
    }

    /// Decides whom `cpu` runs, and books what it ran.
    pub fn turn(&mut self, cpu: CpuId, now: Nanos) -> Turn {
        let Some(Cpu { current, loaded, .. }) = self.cpu(cpu).copied() else { return Turn::Idles };
        if let Some(id) = current {
            self.charge(id, now);
        }
        let staying = current.and_then(|id| Some((id, self.staying(id, cpu, now)?)));
        let chosen = self.choose(cpu, staying, now);
        if let (Some((id, _)), None) = (staying, chosen) {
            if let Some(unit) = self.unit_mut(id) {
                unit.yielded = false;
            }
            return Turn::GoesOn;
        }
        if let Some(id) = current {
            self.stop(id, now);
        }
        match chosen {
            Some(id) => self.start(id, cpu, loaded, now),
            None => self.idle(cpu, loaded, now),
        }
    }

    /// The unit that `cpu` runs, if it can go on.
    fn staying(&self, id: SchedId, cpu: CpuId, now: Nanos) -> Option<&Unit> {
        self.unit(id).filter(|u| u.vcpu.runnable() && u.may_run_on(cpu) && !self.over_budget(u.vcpu.vmid, now))
    }

    /// Until when `running` keeps its CPU although `waiting` wants it: at least as long as the rate limit says. Without that, two domains that
    /// send to each other would switch with every packet.
    fn protected_until(&self, (id, running): (SchedId, &Unit), waiting: &Unit) -> Nanos {
        if running.yielded {
            return 0;
        }
        let limits = if waiting.woken_by == Some(id) { PARTNER_LIMITS } else { 1 };
        running.dispatched.saturating_add(u64::from(self.ratelimit_us) * (1000 * limits))
    }

    /// Until when the unit that `cpu` runs cannot lose it to `waiting`, if that is still to come.
    pub fn protected_on(&self, cpu: CpuId, waiting: SchedId, now: Nanos) -> Option<Nanos> {
        let id = self.cpu(cpu)?.current?;
        let (running, waiting) = (self.unit(id)?, self.unit(waiting)?);
        Some(self.protected_until((id, running), waiting)).filter(|until| now < *until && running.vcpu.runnable())
    }

    fn over_budget(&self, vmid: Vmid, now: Nanos) -> bool {
        self.budgets.get(usize::from(vmid.0)).is_some_and(|b| {
            b.share.cap != 0 && now.saturating_sub(b.period) < CAP_PERIOD && b.used >= CAP_PERIOD / 100 * u64::from(b.share.cap)
        })
    }

    /// Whether `cpu` may run a unit that waits.
    fn eligible(&self, unit: &Unit, cpu: CpuId, now: Nanos) -> bool {
        unit.may_run_on(cpu) && unit.loaded_on.is_none_or(|on| on == cpu) && !self.over_budget(unit.vcpu.vmid, now)
    }

    /// The unit that `cpu` should run instead of `staying`: least virtual runtime, if the difference is not small.
    fn choose(&self, cpu: CpuId, staying: Option<(SchedId, &Unit)>, now: Nanos) -> Option<SchedId> {
        let handicap = |unit: &Unit| if unit.prefers(cpu) { 0 } else { PREEMPT_MARGIN };
        let mut least = staying.map_or(Nanos::MAX, |(_, unit)| unit.vruntime + handicap(unit));
        let change = if staying.is_some() { PREEMPT_MARGIN } else { 0 };
        let mut best = None;
        for (id, unit) in self.queued() {
            let key = unit.vruntime + handicap(unit).max(change);
            let is_protected = staying.is_some_and(|running| now < self.protected_until(running, unit));
            if key < least && !is_protected && self.eligible(unit, cpu, now) {
                least = key;
                best = Some(id);
            }
        }
        best
    }

    /// Takes the unit that ran off its CPU.
    fn stop(&mut self, id: SchedId, now: Nanos) {
        let Some(unit) = self.unit_mut(id) else { return };
        unit.vcpu.set_running_on(None);
        // Looked at again: who clears the flags from here on finds it asleep.
        unit.place = Place::Asleep;
        if unit.vcpu.runnable() {
            self.enqueue(id, now);
        } else {
            self.rest(id, now);
        }
    }

    /// Gives `cpu` to a unit that waits.
    fn start(&mut self, id: SchedId, cpu: CpuId, loaded: Option<SchedId>, now: Nanos) -> Turn {
        self.queue.retain(|queued| *queued != id);
        let Some(unit) = self.unit_mut(id) else { return Turn::Idles };
        unit.enter(Place::Running(cpu), Runstate::Running, now);
        unit.started = now;
        unit.dispatched = now;
        unit.yielded = false;
        unit.woken_by = None;
        unit.alarm = Nanos::MAX;
        unit.vcpu.set_running_on(Some(cpu));
        unit.last = cpu;
        unit.loaded_on = Some(cpu);
        let turn = if loaded == Some(id) { Turn::Resumes } else { Turn::Loads(unit.vcpu.clone()) };
        let vruntime = unit.vruntime;
        self.floor = self.floor.max(vruntime);
        if let Some(old) = loaded.filter(|old| *old != id).and_then(|old| self.unit_mut(old)) {
            old.loaded_on = None;
        }
        self.idle &= !mask(cpu);
        if let Some(c) = self.cpu_mut(cpu) {
            if c.current.is_none() {
                c.idle_time += now.saturating_sub(c.idle_since);
            }
            c.current = Some(id);
            c.loaded = Some(id);
        }
        turn
    }

    fn idle(&mut self, cpu: CpuId, loaded: Option<SchedId>, now: Nanos) -> Turn {
        self.idle |= mask(cpu);
        if let Some(c) = self.cpu_mut(cpu)
            && c.current.take().is_some()
        {
            c.idle_since = now;
        }
        // Registers that another CPU, or the removal of the vCPU, waits for are given up.
        let keeps = |u: &Unit| {
            u.place == Place::Asleep
                && u.vcpu.flags() & (vcpu::STOPPED | vcpu::DOWN | vcpu::PAUSED | vcpu::INSPECTED) == 0
                && u.may_run_on(cpu)
        };
        match loaded.and_then(|id| self.unit(id)) {
            Some(unit) if !keeps(unit) => Turn::GivesUp,
            _ => Turn::Idles,
        }
    }

    /// The unit whose registers `cpu` no longer has.
    pub fn give_up(&mut self, cpu: CpuId) -> Option<SchedId> {
        let id = self.cpu_mut(cpu)?.loaded.take()?;
        self.unit_mut(id)?.loaded_on = None;
        Some(id)
    }

    /// A CPU that idles although a unit waits that it may run: two that woke at once were both promised to `busy`, which took one.
    pub fn stranded(&self, busy: CpuId, now: Nanos) -> Option<CpuId> {
        let idlers = self.idle & !mask(busy);
        if idlers == 0 || self.queue.is_empty() {
            return None;
        }
        self.queued().find_map(|(_, unit)| cpus(idlers).find(|cpu| self.eligible(unit, *cpu, now)))
    }

    /// The first alarm that `cpu` has to attend to.
    pub fn first_alarm(&self, cpu: CpuId) -> Nanos {
        self.units.iter().flatten().filter(|u| u.last == cpu).map(|u| u.alarm).min().unwrap_or(Nanos::MAX)
    }

    /// When `cpu` has to look at its queue again: the end of a slice if another waits, a budget that is used up or refills.
    pub fn look_again(&self, cpu: CpuId, now: Nanos) -> Option<Nanos> {
        let current = self.cpu(cpu).and_then(|c| c.current).and_then(|id| Some((id, self.unit(id)?)));
        let mut until = Nanos::MAX;
        for (_, unit) in self.queued().filter(|(_, unit)| unit.may_run_on(cpu)) {
            if self.over_budget(unit.vcpu.vmid, now) {
                until = until.min(now - now % CAP_PERIOD + CAP_PERIOD);
            } else if let Some(current) = current {
                let protected = self.protected_until(current, unit);
                until = until.min(if protected > now { protected } else { now + SLICE });
            }
        }
        if let Some(budget) = current.and_then(|(_, unit)| self.budgets.get(usize::from(unit.vcpu.vmid.0)))
            && budget.share.cap != 0
        {
            let used = if now.saturating_sub(budget.period) < CAP_PERIOD { budget.used } else { 0 };
            until = until.min(now + (CAP_PERIOD / 100 * u64::from(budget.share.cap)).saturating_sub(used).max(100_000));
        }
        (until != Nanos::MAX).then_some(until)
    }

    /// The CPU that should look at its queue because `id` was queued: one that idles, else the one whose vCPU is most ahead.
    pub fn tickle(&self, id: SchedId, now: Nanos) -> Option<CpuId> {
        let unit = self.unit(id).filter(|unit| unit.place == Place::Queued)?;
        if let Some(cpu) = unit.loaded_on
            && self.idle & mask(cpu) != 0
            && unit.may_run_on(cpu)
        {
            return Some(cpu);
        }
        let allowed = unit.affinity.hard & self.online;
        let idle = allowed & self.idle;
        if idle != 0 {
            let preferred = if idle & unit.affinity.soft != 0 { idle & unit.affinity.soft } else { idle };
            return Some(unit.last).filter(|last| preferred & mask(*last) != 0).or_else(|| cpus(preferred).next());
        }
        // The CPU whose vCPU is most ahead; it is told even if preemption is not due, to set a deadline for its slice.
        cpus(allowed).filter_map(|cpu| Some((self.current(cpu)?.vruntime_at(now), cpu))).max().map(|(_, cpu)| cpu)
    }
}

/// The CPUs of a set.
fn cpus(set: CpuMask) -> impl Iterator<Item = CpuId> {
    let mut left = set;
    core::iter::from_fn(move || {
        let first = (left != 0).then(|| CpuId(left.trailing_zeros() as u8))?;
        left &= left - 1;
        Some(first)
    })
}
