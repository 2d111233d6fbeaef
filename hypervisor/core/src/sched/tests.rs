use super::*;
use crate::machine::fake::FakeMachine;
use crate::vcpu::{self, BLOCKED, DOWN};

const MS: Nanos = 1_000_000;

fn scheduler(cpus: u8) -> Scheduler {
    let trace = Arc::new(Trace::new(FakeMachine::leak(0, 0)));
    let sched = Scheduler::new(usize::from(cpus), trace);
    (0..cpus).for_each(|c| sched.cpu_online(CpuId(c), 0));
    sched
}

fn add(sched: &Scheduler, vmid: u8, now: Nanos) -> Arc<Vcpu> {
    let vcpu = sched.add(0, DomainId(u16::from(vmid)), Vmid(vmid), now).unwrap();
    vcpu.clear(DOWN);
    vcpu
}

fn runs(sched: &Scheduler, cpu: u8, now: Nanos) -> Option<SchedId> {
    sched.schedule(CpuId(cpu), now);
    current(sched, cpu)
}

fn current(sched: &Scheduler, cpu: u8) -> Option<SchedId> {
    sched.state.lock().cpu(CpuId(cpu)).and_then(|c| c.current)
}

fn must_schedule(sched: &Scheduler, cpu: u8) -> bool {
    let call = sched.call(CpuId(cpu)).unwrap();
    let is_asked = call.is_asked();
    let asked = call.take();
    assert_eq!(is_asked, asked != Asked::Nothing);
    assert!(!call.is_asked(), "asks once");
    asked == Asked::Schedule
}

/// Lets CPU 0 run for `total`, honouring deadlines; returns the nanoseconds that each vCPU ran.
fn share_out(sched: &Scheduler, vcpus: &[Arc<Vcpu>], total: Nanos) -> Vec<Nanos> {
    let mut now = 0;
    while now < total {
        sched.schedule(CpuId(0), now);
        now = sched.deadline(CpuId(0)).unwrap_or(total).min(total);
    }
    vcpus.iter().map(|v| sched.runstate(v.sched, now).unwrap().time[Runstate::Running as usize]).collect()
}

#[test]
fn a_vcpu_that_is_down_does_not_run() {
    let sched = scheduler(1);
    let vcpu = sched.add(0, DomainId(1), Vmid(1), 0).unwrap();
    assert_eq!(sched.wake(vcpu.sched, None, 0), None);
    assert_eq!(runs(&sched, 0, 0), None);
}

#[test]
fn waking_names_an_idle_cpu_and_it_runs_there() {
    let sched = scheduler(2);
    let (a, b) = (add(&sched, 1, 0), add(&sched, 2, 0));
    assert_eq!(sched.wake(a.sched, None, 0), Some(CpuId(0)));
    assert_eq!(runs(&sched, 0, 0), Some(a.sched));
    assert_eq!(a.running_on(), Some(CpuId(0)));
    assert_eq!(sched.wake(b.sched, None, 0), Some(CpuId(1)));
    assert_eq!(runs(&sched, 1, 0), Some(b.sched));
    // Each has a CPU of its own: no deadline, no reason to look again.
    assert_eq!(sched.deadline(CpuId(0)), None);
    assert!(must_schedule(&sched, 1) && !must_schedule(&sched, 1));
}

#[test]
fn equal_weights_share_equally() {
    let sched = scheduler(1);
    let vcpus: Vec<_> = (1..=3).map(|v| add(&sched, v, 0)).collect();
    vcpus.iter().for_each(|v| _ = sched.wake(v.sched, None, 0));
    for ran in share_out(&sched, &vcpus, 300 * MS) {
        assert!((95 * MS..=105 * MS).contains(&ran), "{ran}");
    }
}

#[test]
fn weights_divide_in_proportion() {
    let sched = scheduler(1);
    let vcpus: Vec<_> = (1..=2).map(|v| add(&sched, v, 0)).collect();
    sched.set_share(Vmid(1), Share { weight: 768, cap: 0 });
    vcpus.iter().for_each(|v| _ = sched.wake(v.sched, None, 0));
    let ran = share_out(&sched, &vcpus, 400 * MS);
    assert!((290 * MS..=310 * MS).contains(&ran[0]), "{ran:?}");
}

#[test]
fn a_cap_limits_even_when_nobody_else_wants_the_cpu() {
    let sched = scheduler(1);
    let vcpus = [add(&sched, 1, 0)];
    sched.set_share(Vmid(1), Share { weight: 256, cap: 25 });
    sched.wake(vcpus[0].sched, None, 0);
    let ran = share_out(&sched, &vcpus, 1000 * MS);
    assert!((230 * MS..=270 * MS).contains(&ran[0]), "{ran:?}");
}

#[test]
fn one_that_wakes_runs_before_one_that_computes() {
    let sched = scheduler(1);
    let (busy, io) = (add(&sched, 1, 0), add(&sched, 2, 0));
    sched.wake(busy.sched, None, 0);
    assert_eq!(runs(&sched, 0, 0), Some(busy.sched));
    assert_eq!(sched.wake(io.sched, None, 50 * MS), Some(CpuId(0)));
    assert_eq!(runs(&sched, 0, 50 * MS), Some(io.sched));
    // It cannot hoard the time it slept: it owns the CPU no longer than its credit.
    assert_eq!(runs(&sched, 0, 54 * MS), Some(busy.sched));
}

#[test]
fn the_rate_limit_protects_one_that_has_just_begun() {
    let sched = scheduler(1);
    let (a, b) = (add(&sched, 1, 0), add(&sched, 2, 0));
    sched.wake(a.sched, None, 10 * MS);
    runs(&sched, 0, 10 * MS);
    sched.wake(b.sched, None, 10 * MS + 100_000);
    assert_eq!(runs(&sched, 0, 10 * MS + 100_000), Some(a.sched));
    assert_eq!(sched.deadline(CpuId(0)), Some(11 * MS));
    assert_eq!(runs(&sched, 0, 11 * MS), Some(b.sched));
    // Giving way waives it.
    sched.yield_now(CpuId(0), 11 * MS + 1);
    assert_eq!(runs(&sched, 0, 11 * MS + 1), Some(a.sched));
    sched.set_ratelimit_us(0);
    a.set(BLOCKED);
    runs(&sched, 0, 12 * MS);
    a.clear(BLOCKED);
    sched.wake(a.sched, None, 22 * MS);
    assert_eq!(runs(&sched, 0, 22 * MS), Some(a.sched));
}

#[test]
fn one_that_wakes_waits_no_longer_than_the_rate_limit() {
    let sched = scheduler(1);
    let (busy, io) = (add(&sched, 1, 0), add(&sched, 2, 0));
    sched.wake(busy.sched, None, 0);
    runs(&sched, 0, 0);
    io.set(BLOCKED);
    let (mut now, mut longest) = (0, 0);
    for round in 0..2000 {
        now += 1 + round * 7919 % (3 * MS);
        runs(&sched, 0, now);
        io.clear(BLOCKED);
        sched.wake(io.sched, None, now);
        let woken = now;
        while current(&sched, 0) != Some(io.sched) {
            if sched.call(CpuId(0)).unwrap().take() != Asked::Schedule {
                now = sched.deadline(CpuId(0)).unwrap();
            }
            runs(&sched, 0, now);
        }
        longest = longest.max(now - woken);
        now += 20_000;
        io.set(BLOCKED);
        assert_eq!(runs(&sched, 0, now), Some(busy.sched));
    }
    assert!((1..=MS).contains(&longest), "{longest}");
}

#[test]
fn one_that_sends_goes_on_longer_than_one_that_is_interrupted() {
    let sched = scheduler(1);
    let (sender, receiver, other) = (add(&sched, 1, 0), add(&sched, 2, 0), add(&sched, 3, 0));
    sched.wake(sender.sched, None, 10 * MS);
    runs(&sched, 0, 10 * MS);
    receiver.set(BLOCKED);
    receiver.clear(BLOCKED);
    assert_eq!(sched.wake(receiver.sched, Some(sender.sched), 10 * MS + 1), Some(CpuId(0)));
    assert_eq!(sched.deadline(CpuId(0)), Some(13 * MS));
    assert_eq!(runs(&sched, 0, 11 * MS), Some(sender.sched));
    // A third has nothing to do with them.
    sched.wake(other.sched, None, 11 * MS);
    assert_eq!(runs(&sched, 0, 11 * MS), Some(other.sched));
    assert_eq!(runs(&sched, 0, 12 * MS), Some(receiver.sched), "it was not woken by the one that runs");
    // When it waits, the other goes on at once.
    receiver.set(BLOCKED);
    assert_ne!(runs(&sched, 0, 12 * MS + 1), Some(receiver.sched));
    sched.set_ratelimit_us(0);
    receiver.clear(BLOCKED);
    sched.wake(receiver.sched, current(&sched, 0), 15 * MS);
    assert_eq!(runs(&sched, 0, 15 * MS), Some(receiver.sched), "without a limit it is nothing");
}

#[test]
fn two_that_wake_each_other_do_not_starve_a_third() {
    let sched = scheduler(1);
    let (pair, busy) = ([add(&sched, 1, 0), add(&sched, 2, 0)], add(&sched, 3, 0));
    pair.iter().for_each(|vcpu| _ = vcpu.set(BLOCKED));
    pair[0].clear(BLOCKED);
    sched.wake(pair[0].sched, None, 0);
    sched.wake(busy.sched, None, 0);
    // Each of the pair computes so long, wakes the other and waits.
    const TURN: Nanos = 400_000;
    let (mut now, mut left, mut turn) = (0, TURN, 0);
    while now < 300 * MS {
        let running = runs(&sched, 0, now).unwrap();
        let next = sched.deadline(CpuId(0)).unwrap_or(Nanos::MAX).max(now + 1);
        if running == busy.sched {
            now = next.min(300 * MS);
            continue;
        }
        let ran = left.min(next - now);
        (now, left) = (now + ran, left - ran);
        if left == 0 {
            let (done, other) = (&pair[turn], &pair[1 - turn]);
            other.clear(BLOCKED);
            sched.wake(other.sched, Some(done.sched), now);
            done.set(BLOCKED);
            (left, turn) = (TURN, 1 - turn);
        }
    }
    let ran = |vcpu: &Arc<Vcpu>| sched.runstate(vcpu.sched, now).unwrap().time[Runstate::Running as usize];
    let (ran, of_pair) = (ran(&busy), ran(&pair[0]) + ran(&pair[1]));
    assert!(ran >= 95 * MS && of_pair >= 140 * MS, "{ran} {of_pair}");
}

#[test]
fn a_deadline_that_is_not_needed_any_more_is_dropped_when_it_has_passed() {
    let sched = scheduler(1);
    let a = add(&sched, 1, 0);
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    a.set(BLOCKED);
    runs(&sched, 0, MS);
    sched.set_alarm(a.sched, 7 * MS);
    a.clear(BLOCKED);
    sched.wake(a.sched, None, 2 * MS);
    assert_eq!(runs(&sched, 0, 2 * MS), Some(a.sched));
    assert_eq!(sched.deadline(CpuId(0)), Some(7 * MS));
    assert!(sched.take_due(CpuId(0), 7 * MS).is_none(), "it runs");
    runs(&sched, 0, 7 * MS);
    assert_eq!(sched.deadline(CpuId(0)), None);
}

#[test]
fn blocked_registers_stay_loaded_until_another_runs() {
    let sched = scheduler(1);
    let (a, b) = (add(&sched, 1, 0), add(&sched, 2, 0));
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    a.set(BLOCKED);
    let idle = sched.schedule(CpuId(0), MS);
    assert!(matches!(idle.turn, Turn::Idles));
    assert_eq!(sched.is_loaded(a.sched), Some(CpuId(0)));
    assert_eq!(sched.remove(a.sched), Err(CpuId(0)));
    a.clear(BLOCKED);
    sched.wake(a.sched, None, 2 * MS);
    let again = sched.schedule(CpuId(0), 2 * MS);
    assert!(matches!(again.turn, Turn::Resumes) && current(&sched, 0) == Some(a.sched));
    a.set(BLOCKED);
    sched.wake(b.sched, None, 3 * MS);
    let other = sched.schedule(CpuId(0), 3 * MS);
    assert!(matches!(other.turn, Turn::Loads(vcpu) if vcpu.sched == b.sched));
    assert_eq!(sched.is_loaded(a.sched), None);
}

#[test]
fn an_idle_cpu_gives_up_the_registers_of_a_stopped_vcpu() {
    let sched = scheduler(1);
    let a = add(&sched, 1, 0);
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    a.set(vcpu::STOPPED);
    assert_eq!(sched.sleep(a.sched, 0), Some(CpuId(0)));
    assert!(matches!(sched.schedule(CpuId(0), MS).turn, Turn::GivesUp));
    assert_eq!(sched.remove(a.sched), Ok(()));
}

#[test]
fn a_vcpu_loaded_on_an_idle_cpu_is_run_by_that_one() {
    let sched = scheduler(2);
    let a = add(&sched, 1, 0);
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    a.set(BLOCKED);
    runs(&sched, 0, MS);
    a.clear(BLOCKED);
    assert_eq!(sched.wake(a.sched, None, 2 * MS), Some(CpuId(0)));
    assert_eq!(runs(&sched, 1, 2 * MS), None);
    assert_eq!(runs(&sched, 0, 2 * MS), Some(a.sched));
}

#[test]
fn affinity_moves_even_what_is_loaded() {
    let sched = scheduler(2);
    let a = add(&sched, 1, 0);
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    assert_eq!(sched.set_affinity(a.sched, Affinity { hard: 0b10, soft: u64::MAX }, MS), 0b01);
    let gave_up = sched.schedule(CpuId(0), MS);
    assert!(matches!(gave_up.turn, Turn::GivesUp));
    assert_eq!(gave_up.kick, Some(CpuId(1)));
    assert_eq!(runs(&sched, 1, MS), Some(a.sched));
}

#[test]
fn yielding_lets_all_others_run_first() {
    let sched = scheduler(1);
    let vcpus: Vec<_> = (1..=3).map(|v| add(&sched, v, 0)).collect();
    vcpus.iter().for_each(|v| _ = sched.wake(v.sched, None, 0));
    let first = runs(&sched, 0, 0).unwrap();
    sched.yield_now(CpuId(0), 1);
    let second = runs(&sched, 0, 1).unwrap();
    assert_ne!(first, second);
}

#[test]
fn alarms_belong_to_the_last_cpu() {
    let sched = scheduler(1);
    let a = add(&sched, 1, 0);
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    a.set(BLOCKED);
    runs(&sched, 0, MS);
    sched.set_alarm(a.sched, 7 * MS);
    assert_eq!(sched.deadline(CpuId(0)), Some(7 * MS));
    assert!(sched.take_due(CpuId(0), 6 * MS).is_none());
    assert!(sched.take_due(CpuId(0), 7 * MS).is_some_and(|v| v.sched == a.sched));
    assert!(sched.take_due(CpuId(0), 7 * MS).is_none());
}

#[test]
fn an_alarm_for_one_that_another_cpu_runs_by_now_is_not_that_cpus() {
    let sched = scheduler(2);
    let (a, b) = (add(&sched, 1, 0), add(&sched, 2, 0));
    sched.wake(a.sched, None, 0);
    runs(&sched, 0, 0);
    a.set(BLOCKED);
    sched.wake(b.sched, None, 0);
    assert_eq!(runs(&sched, 0, MS), Some(b.sched));
    // CPU 0 still saves it.
    a.clear(BLOCKED);
    sched.wake(a.sched, None, MS);
    assert_eq!(runs(&sched, 1, MS), Some(a.sched));
    sched.set_alarm(a.sched, 7 * MS);
    assert_eq!((sched.deadline(CpuId(0)), sched.deadline(CpuId(1))), (None, None));
}

#[test]
fn runstates_add_up_to_the_time_that_passed() {
    let sched = scheduler(1);
    let a = add(&sched, 1, 5);
    sched.wake(a.sched, None, 10);
    runs(&sched, 0, 30);
    a.set(BLOCKED);
    runs(&sched, 0, 100);
    let times = sched.runstate(a.sched, 150).unwrap();
    assert_eq!(times.state, Runstate::Blocked);
    assert_eq!(times.time, [70, 20, 50, 5]);
}

#[test]
fn one_of_two_that_woke_for_the_same_idle_cpu_goes_to_the_other() {
    let sched = scheduler(2);
    let (a, b) = (add(&sched, 1, 0), add(&sched, 2, 0));
    assert_eq!(sched.wake(a.sched, None, 0), Some(CpuId(0)));
    assert_eq!(sched.wake(b.sched, None, 0), Some(CpuId(0)));
    let first = sched.schedule(CpuId(0), 0);
    assert!(matches!(first.turn, Turn::Loads(vcpu) if vcpu.sched == a.sched));
    assert_eq!(first.kick, Some(CpuId(1)));
    assert!(must_schedule(&sched, 1));
    let second = sched.schedule(CpuId(1), 0);
    assert!(matches!(second.turn, Turn::Loads(vcpu) if vcpu.sched == b.sched));
    assert_eq!(second.kick, None);
}

#[test]
fn no_cpu_is_kicked_for_what_it_may_not_run() {
    let sched = scheduler(2);
    let (a, b) = (add(&sched, 1, 0), add(&sched, 2, 0));
    sched.set_affinity(b.sched, Affinity { hard: 0b01, soft: u64::MAX }, 0);
    sched.wake(a.sched, None, 0);
    sched.wake(b.sched, None, 0);
    assert_eq!(sched.schedule(CpuId(0), 0).kick, None);
}
