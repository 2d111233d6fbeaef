//! PSCI and the SMC calling convention: the hypervisor is the guest's firmware.

use core::hint::spin_loop;

use xenolith_core::context::VcpuContext;
use xenolith_core::domain::Domain;
use xenolith_core::exit::Conduit;
use xenolith_core::hypervisor::Hypervisor;
use xenolith_core::psci::{Answer, Call, CpuOn, Mitigations};
use xenolith_core::vcpu::{DOWN, Vcpu};

use guest_abi::psci as abi;
use guest_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};

use super::{After, Runner};
use crate::gic::list_registers;

impl Runner {
    pub(super) fn firmware_call(&mut self, conduit: Conduit) -> After {
        if conduit == Conduit::Smc {
            self.advance();
        }
        let Some(loaded) = &mut self.loaded else { return After::Reschedule };
        let call = Call::decode(loaded.context(), &Mitigations::default());
        let status = match call {
            Call::Answer(answer) => {
                answer.apply(loaded.context(), conduit);
                return After::Resume;
            }
            Call::CpuOn(request) => return self.cpu_on(request),
            Call::CpuOff => {
                loaded.context().x[0] = abi::SUCCESS as u64;
                loaded.vcpu.set(DOWN);
                return After::Reschedule;
            }
            Call::AffinityInfo(affinity) => {
                let on = loaded.domain.vcpus().iter().any(|vcpu| affinity.includes(vcpu.id) && vcpu.online());
                if on { abi::AFFINITY_LEVEL_ON } else { abi::AFFINITY_LEVEL_OFF }
            }
            Call::Suspend => {
                loaded.context().x[0] = abi::SUCCESS as u64;
                return self.wait();
            }
            Call::SystemOff => {
                self.hv.shutdown(&loaded.domain, SHUTDOWN_POWEROFF);
                abi::INTERNAL_FAILURE
            }
            Call::SystemReset => {
                self.hv.shutdown(&loaded.domain, SHUTDOWN_REBOOT);
                abi::INTERNAL_FAILURE
            }
            Call::StoreBypassMitigation(_) => return After::Resume,
        };
        loaded.context().x[0] = status as u64;
        if loaded.vcpu.runnable() { After::Resume } else { After::Reschedule }
    }

    fn cpu_on(&mut self, request: CpuOn) -> After {
        let Some(loaded) = &mut self.loaded else { return After::Reschedule };
        let refusal = match loaded.domain.vcpu(request.vcpu) {
            Some(target) => turn_on(self.hv, &loaded.domain, target, &request),
            None => request.refuse(false, false),
        };
        refusal.unwrap_or(Answer::status(abi::SUCCESS)).apply(loaded.context(), Conduit::Hvc);
        After::Resume
    }
}

/// Starts a vCPU that is off; or why not.
fn turn_on(hv: &Hypervisor, domain: &Domain, target: &Vcpu, request: &CpuOn) -> Option<Answer> {
    // Waits for the CPU on which it turned itself off; not for one on which it runs because another vCPU was faster.
    let mut asked = false;
    let mut context = loop {
        if let Some(refusal) = request.refuse(true, target.online()) {
            return Some(refusal);
        }
        // Whoever starts it holds its context, so the flag stays.
        if let Some(context) = target.context.try_lock().filter(|_| !target.online()) {
            break context;
        }
        // It may have been turned off from outside while it slept.
        asked = asked || hv.unload(target);
        spin_loop();
    };
    let mut gic = target.gic.lock();
    let vmpidr = context.sys.vmpidr_el2;
    *context = VcpuContext::starting_at(request.entry, request.context);
    context.sys.vmpidr_el2 = vmpidr;
    target.timer.lock().reset();
    let noticed = domain.vgic.reset_vcpu(hv.machine, target.id, &mut gic.list_registers(list_registers::count()));
    *gic = Default::default();
    hv.start(target, DOWN);
    drop((context, gic));
    noticed.iter().filter_map(|vcpu| domain.vcpu(vcpu)).for_each(|vcpu| hv.notice(vcpu));
    None
}
