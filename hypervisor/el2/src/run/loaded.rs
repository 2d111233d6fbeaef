//! The vCPU whose registers a physical CPU has.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use xenolith_core::context::VcpuContext;
use xenolith_core::domain::Domain;
use xenolith_core::hypervisor::Hypervisor;
use xenolith_core::lock::Guard;
use xenolith_core::mmio::PostIndexed;
use xenolith_core::sched::Nanos;
use xenolith_core::vcpu::{BLOCKED, Vcpu};
use xenolith_core::vgic::GicCpuContext;
use xenolith_core::vgic::list_register::{HCR_EN, HCR_UIE};

use super::interrupts::PHYSICAL_TIMER;
use crate::gic::list_registers::{self, Hardware};
use crate::sysreg::{read, write};
use crate::{hyp, switch, timer};

/// A loaded vCPU. Its context and interrupt state are locked as long as this exists, so that who wants to see them waits for [`Self::save`].
pub struct Loaded {
    pub vcpu: Arc<Vcpu>,
    pub domain: Arc<Domain>,
    /// Into `vcpu.context`, locked.
    context: *mut VcpuContext,
    /// Into `vcpu.gic`, locked.
    gic: *mut GicCpuContext,
    /// Into `domain.vgic`: see [`Self::has_interrupts`].
    dirty: *const AtomicBool,
    /// `ICH_HCR_EL2` as it is.
    hcr: u64,
    /// When the guest's physical timer fires, in ticks.
    pub physical_deadline: Option<u64>,
}

impl Loaded {
    /// Puts a vCPU's registers into the hardware. `flush`: another vCPU of its domain ran here last.
    pub fn load(hv: &Hypervisor, vcpu: Arc<Vcpu>, domain: Arc<Domain>, flush: bool) -> Self {
        // Waits for a CPU that is still saving it.
        let context: *mut _ = Guard::leak(vcpu.context.lock());
        let gic: *mut _ = Guard::leak(vcpu.gic.lock());
        let dirty = ptr::from_ref(domain.vgic.dirty(vcpu.id).expect("each vCPU has its part of the vGIC"));
        let mut this = Self { vcpu, domain, context, gic, dirty, hcr: HCR_EN, physical_deadline: None };
        hyp::set_stage2(this.domain.p2m.root(), this.domain.vmid);
        hyp::set_guest_control(!hv.fixed.native_wfi);
        if flush {
            hyp::flush_current_vmid_local();
        }
        let context = this.context();
        switch::load_system(&context.sys);
        switch::load_fp(&context.fp);
        hyp::set_vmpidr(context.sys.vmpidr_el2);
        {
            let mut timers = this.vcpu.timer.lock();
            timer::load_virtual(&timers, this.domain.counter_offset);
            // The hardware has it now: the copy has no deadline.
            timers.control = 0;
            this.physical_deadline = timers.physical_deadline();
        }
        let used = this.domain.vgic.used_list_registers(this.vcpu.id);
        // SAFETY: locked by this, see above; no other reference exists.
        let gic = unsafe { &mut *this.gic };
        gic.hcr |= HCR_EN;
        list_registers::load(gic, used);
        this.hcr = gic.hcr;
        this.publish_runstate(hv);
        this
    }

    /// Tells the guest that the vCPU runs or stops running.
    pub fn publish_runstate(&self, hv: &Hypervisor) {
        hv.publish_runstate(&self.domain, &self.vcpu);
    }

    /// Takes the vCPU's registers out of the hardware.
    pub fn save(mut self, hv: &Hypervisor) {
        let context = self.context();
        switch::save_system(&mut context.sys);
        switch::save_fp(&mut context.fp);
        let timers = {
            let mut timers = self.vcpu.timer.lock();
            timer::save_virtual(&mut timers);
            timers.deadline(self.domain.counter_offset)
        };
        let used = self.domain.vgic.used_list_registers(self.vcpu.id);
        // SAFETY: as in `load`.
        list_registers::save(unsafe { &mut *self.gic }, used);
        hyp::leave_stage2();
        self.set_alarm(hv, timers);
        self.publish_runstate(hv);
        // SAFETY: locked in `load`, by this; nothing of them is used from here on.
        unsafe {
            self.vcpu.gic.force_unlock();
            self.vcpu.context.force_unlock();
        }
    }

    /// General registers, pc and PSTATE; the rest is in the hardware.
    pub fn context(&mut self) -> &mut VcpuContext {
        // SAFETY: locked by this; the reference borrows `self`, so there is one at a time.
        unsafe { &mut *self.context }
    }

    /// The same, and whose they are.
    pub fn parts(&mut self) -> (&mut VcpuContext, &Arc<Domain>, &Arc<Vcpu>) {
        // SAFETY: as in `context`.
        (unsafe { &mut *self.context }, &self.domain, &self.vcpu)
    }

    /// General registers, pc and PSTATE, for the entry code.
    pub fn context_pointer(&self) -> *mut VcpuContext {
        self.context
    }

    /// Adds the offset of a post-indexed access to its base register, which may be a stack pointer.
    pub fn write_back(&mut self, access: &PostIndexed) {
        let context = self.context();
        context.sys.sp_el0 = read!("sp_el0");
        context.sys.sp_el1 = read!("sp_el1");
        access.write_back(context);
        // SAFETY: the guest's stack pointers.
        unsafe {
            write!("sp_el0", context.sys.sp_el0);
            write!("sp_el1", context.sys.sp_el1);
        }
    }

    /// Whether [`Self::fill`] has work. Two loads: this is asked before each entry.
    pub fn has_interrupts(&self) -> bool {
        // SAFETY: `domain` keeps it, and never moves it: it is in a vector that does not change.
        unsafe { &*self.dirty }.load(Ordering::SeqCst)
    }

    /// Gives the list registers the most urgent interrupts.
    pub fn fill(&mut self, hv: &Hypervisor) {
        let filled = self.domain.vgic.fill(hv.machine, self.vcpu.id, &mut Hardware);
        let hcr = if filled.underflow { HCR_EN | HCR_UIE } else { HCR_EN };
        if hcr != self.hcr {
            self.hcr = hcr;
            list_registers::set_hcr(hcr);
        }
        filled.notice.iter().filter_map(|vcpu| self.domain.vcpu(vcpu)).for_each(|vcpu| hv.notice(vcpu));
    }

    /// Sees to it that a vCPU that waits is attended to when its timers fire, at tick `timers`, or its SCHEDOP_poll ends. One that does not
    /// wait has its timer when it runs.
    pub fn set_alarm(&self, hv: &Hypervisor, timers: Option<u64>) {
        if self.vcpu.flags() & BLOCKED == 0 {
            return;
        }
        let at = next_alarm(hv, &self.vcpu, timers);
        if at != Nanos::MAX {
            hv.sched.set_alarm(self.vcpu.sched, at);
        }
    }

    /// Raises the guest's physical timer if its time has come.
    pub fn expire_physical(&mut self, hv: &Hypervisor) {
        let mut timers = self.vcpu.timer.lock();
        let fires = timers.expire_physical(hv.machine.ticks());
        self.physical_deadline = timers.physical_deadline();
        drop(timers);
        if fires {
            hv.raise(&self.domain, self.vcpu.id, PHYSICAL_TIMER);
        }
    }
}

/// When a vCPU that does not run, and whose timers fire at tick `timers`, wants attention, in system time.
pub fn next_alarm(hv: &Hypervisor, vcpu: &Vcpu, timers: Option<u64>) -> Nanos {
    let poll = Some(vcpu.poll_deadline.load(Ordering::SeqCst)).filter(|at| *at != 0);
    timers.into_iter().chain(poll).min().map_or(Nanos::MAX, |ticks| hv.clock.nanos(ticks))
}
