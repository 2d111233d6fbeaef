//! What the scheduler tells the trace: the same records, in the same order, as Xen's. Called under the scheduler's lock, while a trace is on.

use super::state::State;
use super::unit::Unit;
use super::{Nanos, Runstate, SLICE, SchedId};
use crate::addr::CpuId;
use crate::trace::Trace;
use guest_abi::trace as abi;
use guest_abi::xen::DOMID_IDLE;

/// A vCPU, or what an idle CPU is said to run.
#[derive(Clone, Copy)]
struct Who {
    domain: u32,
    id: u32,
}

impl Who {
    fn new(unit: &Unit) -> Self {
        Self { domain: unit.vcpu.domain.0.into(), id: unit.vcpu.id }
    }

    fn idle(cpu: CpuId) -> Self {
        Self { domain: DOMID_IDLE.into(), id: cpu.0.into() }
    }

    fn word(self) -> u32 {
        self.domain << 16 | self.id
    }
}

fn runstate(trace: &Trace, who: Who, old: Runstate, new: Runstate) {
    let event = abi::TRC_SCHED_RUNSTATE_CHANGE | (old as u32) << 8 | (new as u32) << 4;
    trace.record(event, || [who.word()]);
}

/// `unit` waits for a CPU from now on; its state is still the old one.
#[cold]
pub fn woken(trace: &Trace, unit: &Unit) {
    let who = Who::new(unit);
    trace.record(abi::TRC_SCHED_WAKE, || [who.domain, who.id]);
    runstate(trace, who, unit.state, Runstate::Runnable);
}

/// `unit`, which does not run, waits for nothing from now on; its state is still the old one.
#[cold]
pub fn stopped(trace: &Trace, unit: &Unit) {
    let (who, new) = (Who::new(unit), unit.resting());
    trace.record(abi::TRC_SCHED_SLEEP, || [who.domain, who.id]);
    if new != unit.state {
        runstate(trace, who, unit.state, new);
    }
}

/// `unit`, which runs, gives way.
#[cold]
pub fn yielded(trace: &Trace, unit: Option<&Unit>) {
    if let Some(who) = unit.map(Who::new) {
        trace.record(abi::TRC_SCHED_YIELD, || [who.domain, who.id]);
    }
}

/// It has been decided what `cpu` runs; it ran `before`.
#[cold]
pub fn switched(trace: &Trace, state: &State, cpu: CpuId, before: Option<SchedId>, now: Nanos) {
    let after = state.cpu(cpu).and_then(|cpu| cpu.current).and_then(|id| Some((id, state.unit(id)?)));
    let prev = before.and_then(|id| state.unit(id));
    let ran = prev.map_or(0, |unit| now.saturating_sub(unit.dispatched)) as u32;
    let slice = SLICE as u32;
    if let Some((id, unit)) = after
        && before == Some(id)
    {
        let who = Who::new(unit);
        trace.record(abi::TRC_SCHED_SWITCH_INFCONT, || [who.domain, who.id, ran, slice]);
        trace.record(abi::TRC_SCHED_CONTINUE_RUNNING, || [who.word()]);
        return;
    }
    if prev.is_none() && after.is_none() {
        return;
    }
    let from = prev.map_or(Who::idle(cpu), Who::new);
    let to = after.map_or(Who::idle(cpu), |(_, unit)| Who::new(unit));
    let became = prev.map_or(Runstate::Runnable, |unit| unit.state);
    if became == Runstate::Blocked {
        trace.record(abi::TRC_SCHED_BLOCK, || [from.domain, from.id]);
    }
    trace.record(abi::TRC_SCHED_SWITCH_INFPREV, || [from.domain, from.id, ran]);
    // How long it waited is not known any more here.
    trace.record(abi::TRC_SCHED_SWITCH_INFNEXT, || [to.domain, to.id, 0, slice]);
    trace.record(abi::TRC_SCHED_SWITCH, || [from.domain, from.id, to.domain, to.id]);
    runstate(trace, from, Runstate::Running, became);
    runstate(trace, to, Runstate::Runnable, Runstate::Running);
    trace.runs(to.id << 16 | to.domain);
}
