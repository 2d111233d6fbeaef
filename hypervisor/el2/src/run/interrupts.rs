//! Physical interrupts: those of the hypervisor itself, and those of domains' devices.

use xenolith_core::addr::DomainId;
use xenolith_core::vgic::{FIRST_LPI, FIRST_SPI};

use super::Runner;
use crate::{console, gic, timer};

/// The PPI of the virtual timer, physical and virtual (Base System Architecture; Xen's guests).
pub const VIRTUAL_TIMER: u32 = 27;
/// The PPI of the guest's physical timer.
pub const PHYSICAL_TIMER: u32 = 30;
/// The PPI of EL2's timer.
const HYPERVISOR_TIMER: u32 = 26;

/// Which interrupts mean what on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// The maintenance interrupt of the virtual CPU interface, a PPI.
    pub maintenance: u32,
    /// The console's, an SPI.
    pub console: Option<u32>,
}

impl Lines {
    /// Lets this CPU's own interrupts in.
    pub fn enable(&self) {
        for ppi in [HYPERVISOR_TIMER, VIRTUAL_TIMER, self.maintenance] {
            gic::set_ppi_enabled(ppi, true);
        }
    }
}

impl Runner {
    /// Takes every interrupt that is pending.
    pub(super) fn take_interrupts(&mut self) {
        while let Some(intid) = gic::acknowledge() {
            if self.hv.trace.is_on() {
                self.take_traced(intid);
            } else {
                self.take(intid);
            }
        }
    }

    pub(super) fn take(&mut self, intid: u32) {
        match intid {
            HYPERVISOR_TIMER => self.timer_fired(),
            VIRTUAL_TIMER => {
                // Level-sensitive: quiet until the guest writes the register.
                timer::mask_virtual();
                if let Some(loaded) = &self.loaded {
                    self.hv.raise(&loaded.domain, loaded.vcpu.id, VIRTUAL_TIMER);
                }
            }
            _ if intid == self.interrupts.maintenance => {
                if let Some(loaded) = &mut self.loaded {
                    loaded.fill(self.hv);
                }
            }
            _ if Some(intid) == self.interrupts.console => console::receive(|byte| self.hv.console_input(byte)),
            // Never active: there is nothing to deactivate.
            FIRST_LPI.. => {
                gic::priority_drop(intid);
                if let Some(dom0) = self.hv.domains.get(DomainId::HARDWARE) {
                    self.hv.lpi_arrived(&dom0, intid);
                }
                return;
            }
            FIRST_SPI.. => return self.pass_on(intid),
            // A kick: what it is about is looked at before the guest is entered.
            _ => {}
        }
        gic::priority_drop(intid);
        gic::deactivate(intid);
    }

    /// For the domain whose device it comes from. The guest deactivates it.
    fn pass_on(&self, intid: u32) {
        gic::priority_drop(intid);
        let domain = self.hv.passthrough.owner(intid).and_then(|owner| self.hv.domain_of(owner));
        match domain.as_ref().and_then(|domain| domain.vgic.raise_physical_spi(intid).ok().map(|set| (domain, set))) {
            Some((domain, set)) => set.iter().filter_map(|vcpu| domain.vcpu(vcpu)).for_each(|vcpu| {
                self.hv.trace_injection(domain, vcpu.id, intid);
                self.hv.notice(vcpu);
            }),
            None => {
                gic::spi_set_enabled(intid, false);
                gic::deactivate(intid);
            }
        }
    }
}
