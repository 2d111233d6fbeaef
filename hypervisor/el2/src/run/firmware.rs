//! PSCI and the SMC calling convention: the hypervisor is the guest's firmware.

use xenolith_core::context::VcpuContext;
use xenolith_core::exit::Conduit;
use xenolith_core::psci::{Call, CpuOn, Mitigations};
use xenolith_core::vcpu::DOWN;
use xenolith_core::vgic::VcpuSet;

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
        let target = loaded.domain.vcpu(request.vcpu).cloned();
        let refusal = request.refuse(target.is_some(), target.as_ref().is_some_and(|t| t.online()));
        if let Some(refusal) = refusal {
            refusal.apply(loaded.context(), Conduit::Hvc);
            return After::Resume;
        }
        if let Some(target) = target {
            let noticed = {
                // Waits for the CPU on which it turned itself off.
                let mut context = target.context.lock();
                let mut gic = target.gic.lock();
                // Two may try at once: the flag decides.
                if target.online() {
                    VcpuSet::EMPTY
                } else {
                    let vmpidr = context.sys.vmpidr_el2;
                    *context = VcpuContext::starting_at(request.entry, request.context);
                    context.sys.vmpidr_el2 = vmpidr;
                    target.timer.lock().reset();
                    let noticed =
                        loaded.domain.vgic.reset_vcpu(self.hv.machine, target.id, &mut gic.list_registers(list_registers::count()));
                    *gic = Default::default();
                    self.hv.start(&target, DOWN);
                    noticed
                }
            };
            noticed.iter().filter_map(|vcpu| loaded.domain.vcpu(vcpu)).for_each(|vcpu| self.hv.notice(vcpu));
        }
        loaded.context().x[0] = abi::SUCCESS as u64;
        After::Resume
    }
}
