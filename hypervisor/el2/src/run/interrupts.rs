//! Physical interrupts: those of the hypervisor itself, and the hardware domain's.

use xenolith_core::addr::DomainId;
use xenolith_core::vgic::FIRST_SPI;

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
            FIRST_SPI.. => return self.pass_to_dom0(intid),
            // A kick: what it is about is looked at before the guest is entered.
            _ => {}
        }
        gic::priority_drop(intid);
        gic::deactivate(intid);
    }

    /// The guest deactivates it.
    fn pass_to_dom0(&self, intid: u32) {
        gic::priority_drop(intid);
        let dom0 = self.hv.domains.get(DomainId::HARDWARE);
        match dom0.as_ref().and_then(|dom0| dom0.vgic.raise_physical_spi(intid).ok().map(|set| (dom0, set))) {
            Some((dom0, set)) => set.iter().filter_map(|vcpu| dom0.vcpu(vcpu)).for_each(|vcpu| {
                self.hv.trace_injection(dom0, vcpu.id, intid);
                self.hv.notice(vcpu);
            }),
            None => {
                gic::spi_set_enabled(intid, false);
                gic::deactivate(intid);
            }
        }
    }
}
