//! Cache maintenance by set and way: it cannot be kept coherent under a guest, so all of the guest's memory is cleaned by address instead.
//!
//! A guest that does this boots, or shuts down its caches for good. It need not be fast, but it must not keep a CPU from its interrupts: the
//! instruction is executed again until all of memory has been visited.

use super::Domain;
use super::destroy::Progress;
use crate::addr::{Gfn, PAGE_SIZE};
use crate::hypervisor::Hypervisor;
use crate::vcpu::Vcpu;
use core::sync::atomic::Ordering;

/// Pages cleaned, and empty stretches passed over, before the guest may take an interrupt.
const BUDGET: u32 = 1024;
/// Guest frames that one table of the last level maps: nothing mapped at one of them and the next stretch is looked at.
const STRETCH: u64 = 512;

impl Hypervisor {
    /// One step of it for `vcpu`; after [`Progress::More`] the guest executes its instruction again.
    pub fn clean_memory(&self, domain: &Domain, vcpu: &Vcpu) -> Progress {
        let mut gfn = vcpu.cache_flush.swap(0, Ordering::Relaxed);
        let last = domain.p2m.max_gfn().0;
        for _ in 0..BUDGET {
            if gfn > last {
                return Progress::Done;
            }
            match domain.p2m.lookup(Gfn(gfn)) {
                Some(mapping) => {
                    if let Some(mfn) = domain.p2m.get_ram(&self.frames, Gfn(gfn), false) {
                        self.machine.clean_invalidate(mfn.address(), PAGE_SIZE as usize);
                        self.frames.put(mfn);
                    }
                    gfn += if mapping.kind.is_ram() { 1 } else { 1 << mapping.order };
                }
                None => gfn = (gfn | (STRETCH - 1)) + 1,
            }
        }
        vcpu.cache_flush.store(gfn, Ordering::Relaxed);
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::testbed::{RAM, Testbed};

    #[test]
    fn all_memory_is_visited_in_steps() {
        let bed = Testbed::new(Policy::Silo);
        let domain = bed.domain(1, 600);
        let vcpu = domain.vcpu(0).unwrap();
        assert_eq!(bed.hv.clean_memory(&domain, vcpu), Progress::More);
        let reached = vcpu.cache_flush.load(Ordering::Relaxed);
        assert!((RAM..RAM + 600).contains(&reached), "{reached:#x}");
        assert_eq!(bed.hv.clean_memory(&domain, vcpu), Progress::Done);
        assert_eq!(vcpu.cache_flush.load(Ordering::Relaxed), 0, "the next one starts over");
    }
}
