//! The run loop of a physical CPU: pick a vCPU, enter it, see why it stopped, apply what that asks for.
//!
//! Everything here runs with interrupts masked. A CPU waits for nobody but the holder of a lock.

use alloc::sync::Arc;
use core::arch::asm;
use core::ptr;
use core::sync::atomic::Ordering;

use xenolith_core::addr::CpuId;
use xenolith_core::domain::Domain;
use xenolith_core::hypervisor::Hypervisor;
use xenolith_core::sched::{Asked, Call, Nanos, Next, Turn};
use xenolith_core::vcpu::{BLOCKED, Vcpu};
use xenolith_core::vgic::list_register::any_pending;

use crate::gic::list_registers::Hardware;
use crate::vectors::{self, Stopped};
use crate::{barrier, timer};

mod abort;
mod exits;
mod firmware;
mod interrupts;
mod loaded;
mod registers;
mod traced;

pub use exits::serve_hypercall;
pub use interrupts::Lines;
use loaded::Loaded;

/// One physical CPU at work.
pub struct Runner {
    hv: &'static Hypervisor,
    cpu: CpuId,
    /// What is wanted of it.
    call: &'static Call,
    /// The vCPU whose registers are in the hardware: the one that runs, or, while idle, the one that ran last.
    loaded: Option<Loaded>,
    /// Which vCPU of each VMID ran here last: another one's stage-1 TLB entries are not its own.
    last_of_vmid: [u32; 256],
    /// When the timer of EL2 fires, in system time. It is moved only forth: see `sched`.
    deadline: Nanos,
    interrupts: Lines,
}

/// No vCPU.
const NONE: u32 = u32::MAX;

/// What the loop does after an exit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Enter the guest again, unless the scheduler was asked for.
    Resume,
    /// The vCPU waits: look for another.
    Reschedule,
}

impl Runner {
    /// The CPU that this runs on.
    pub fn new(hv: &'static Hypervisor, cpu: CpuId, interrupts: Lines) -> Self {
        let call = hv.sched.call(cpu).expect("each CPU is one of the scheduler's");
        Self { hv, cpu, call, loaded: None, last_of_vmid: [NONE; 256], deadline: Nanos::MAX, interrupts }
    }

    /// Runs guests for ever.
    pub fn run(mut self) -> ! {
        self.hv.sched.cpu_online(self.cpu, self.hv.now());
        self.interrupts.enable();
        loop {
            if self.pick() {
                self.run_guest();
            } else {
                self.idle();
            }
        }
    }

    /// Gives the CPU to whom the scheduler names; `false`: to nobody.
    fn pick(&mut self) -> bool {
        let hv = self.hv;
        if let Some(loaded) = &self.loaded {
            // What waits in the list registers is known here alone: before a hypercall that waits, or since a maintenance interrupt.
            if loaded.vcpu.flags() & BLOCKED != 0 && any_pending(&Hardware) {
                hv.notice(&loaded.vcpu);
            }
        }
        // Asked anew from here on.
        self.call.take();
        let Next { turn, kick } = hv.sched.schedule(self.cpu, hv.now());
        let runs = match turn {
            Turn::GoesOn => true,
            Turn::Resumes => {
                self.loaded.iter().for_each(|loaded| loaded.publish_runstate(hv));
                true
            }
            Turn::Loads(vcpu) => {
                self.unload();
                self.load(vcpu)
            }
            Turn::Idles => {
                self.loaded.iter().for_each(|loaded| loaded.set_alarm(hv, loaded.vcpu.timer.lock().deadline(loaded.domain.counter_offset)));
                false
            }
            Turn::GivesUp => {
                self.unload();
                false
            }
        };
        if let Some(cpu) = kick {
            hv.machine.kick(cpu);
        }
        self.set_deadline();
        if hv.trace.is_on() {
            hv.tell_of_trace();
        }
        runs
    }

    fn unload(&mut self) {
        if let Some(loaded) = self.loaded.take() {
            loaded.save(self.hv);
        }
    }

    fn load(&mut self, vcpu: Arc<Vcpu>) -> bool {
        let Some(domain) = self.hv.domain_of(vcpu.vmid) else { return false };
        let last = &mut self.last_of_vmid[usize::from(vcpu.vmid.0)];
        let other_ran = *last != vcpu.id && *last != NONE;
        *last = vcpu.id;
        self.loaded = Some(Loaded::load(self.hv, vcpu, domain, other_ran));
        true
    }

    /// Enters the guest until another decision is due.
    fn run_guest(&mut self) {
        // Who starts a trace asks every CPU for the scheduler: nothing is missed by looking here alone.
        let traced = self.hv.trace.is_on();
        loop {
            let Some(loaded) = &mut self.loaded else { return };
            if loaded.has_interrupts() {
                loaded.fill(self.hv);
            }
            if traced {
                traced::entry(self.hv);
            }
            let context = loaded.context_pointer();
            // In a trace each hypercall is an exit.
            let runner = if traced { ptr::null_mut() } else { ptr::from_mut(self) };
            // SAFETY: the context is that of `self.loaded`; `self` is borrowed by this function, which uses nothing of it meanwhile.
            let after = match unsafe { vectors::enter_guest(context, runner) } {
                Stopped::Served => After::Resume,
                Stopped::Exit(exit) => {
                    if traced {
                        self.trace_exit(exit);
                    }
                    self.handle(exit)
                }
            };
            match self.call.take() {
                _ if after == After::Reschedule => return,
                Asked::Nothing => {}
                Asked::Deadline => self.set_deadline(),
                Asked::Schedule => return,
            }
        }
    }

    /// Waits for an interrupt. The registers of the last vCPU may stay loaded, its virtual timer running.
    fn idle(&mut self) {
        if self.call.take() == Asked::Nothing {
            // SAFETY: waits; interrupts are masked but wake.
            unsafe { asm!("dsb sy", "wfi", options(nomem, nostack, preserves_flags)) };
            barrier::isb();
            self.take_interrupts();
        }
    }

    /// Sees to it that EL2's timer fires when this CPU must look at something.
    fn set_deadline(&mut self) {
        let hv = self.hv;
        let mut at = hv.sched.deadline(self.cpu).unwrap_or(Nanos::MAX);
        if let Some(ticks) = self.loaded.as_ref().and_then(|loaded| loaded.physical_deadline) {
            at = at.min(hv.clock.nanos(ticks));
        }
        if self.cpu.0 == 0 {
            at = at.min(hv.next_bite.load(Ordering::Relaxed));
        }
        if at < self.deadline {
            timer::set_deadline(Some(hv.clock.ticks(at)));
            self.deadline = at;
        }
    }

    /// EL2's timer fired: alarms of vCPUs that do not run, the end of a time slice, watchdogs.
    fn timer_fired(&mut self) {
        let hv = self.hv;
        self.deadline = Nanos::MAX;
        timer::set_deadline(None);
        if self.cpu.0 == 0 && hv.next_bite.load(Ordering::Relaxed) <= hv.now() {
            hv.check_watchdogs();
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.expire_physical(hv);
        }
        while let Some(vcpu) = hv.sched.take_due(self.cpu, hv.now()) {
            let is_loaded = self.loaded.as_ref().is_some_and(|loaded| Arc::ptr_eq(&loaded.vcpu, &vcpu));
            if let Some(domain) = hv.domain_of(vcpu.vmid) {
                alarm(hv, &domain, &vcpu, is_loaded);
            }
        }
        hv.sched.ask(self.cpu);
    }
}

/// The time has come that a vCPU that does not run set: its timers, or the end of its SCHEDOP_poll.
fn alarm(hv: &Hypervisor, domain: &Domain, vcpu: &Vcpu, is_loaded: bool) {
    let now = hv.machine.ticks();
    if !is_loaded {
        let fired = vcpu.timer.lock().expire(now, domain.counter_offset);
        if fired.virtual_timer {
            hv.raise(domain, vcpu.id, interrupts::VIRTUAL_TIMER);
        }
        if fired.physical_timer {
            hv.raise(domain, vcpu.id, interrupts::PHYSICAL_TIMER);
        }
    }
    let poll = vcpu.poll_deadline.load(Ordering::SeqCst);
    if poll != 0 && poll <= now {
        vcpu.poll_deadline.store(0, Ordering::SeqCst);
        domain.events.stop_polling(vcpu.id);
        hv.notice(vcpu);
    }
    if !is_loaded && vcpu.running_on().is_none() {
        let timers = vcpu.timer.lock().deadline(domain.counter_offset);
        hv.sched.set_alarm(vcpu.sched, loaded::next_alarm(hv, vcpu, timers));
    }
}
