//! How a domain ends: in steps that each take bounded time, so that Dom0 takes its interrupts in between.
//!
//! The order is Xen's: stop it, give back what it mapped of others, close its event channels, unmap and free its memory. What others
//! still hold of it (mapped grants, foreign mappings) keeps its pages and its entry in the domain list until they let go.

use super::{Domain, Dying};
use crate::addr::Mfn;
use crate::evtchn::Closer;
use crate::gnttab::Drained as Grants;
use crate::hypervisor::Hypervisor;
use crate::p2m::Drained;
use crate::preempt::steps;
use crate::vcpu::STOPPED;
use crate::vpl011::Vpl011;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Pages or mappings given back before Dom0 may take an interrupt.
const BUDGET: u32 = 512;
/// Channels and attachments ended before that; a channel has up to 33 pages.
const BUDGET_TXCOPY: u32 = 16;

/// Whether a step of the destruction has to be repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Call again.
    More,
    /// Nothing is left to do.
    Done,
}

impl Hypervisor {
    /// One step of a domain's destruction. The caller is not the domain itself.
    pub fn destroy(&self, domain: &Arc<Domain>) -> Progress {
        {
            let mut life = domain.life.lock();
            match life.dying {
                Dying::Alive => {
                    life.dying = Dying::Dying;
                    domain.vcpus().iter().for_each(|v| self.stop(v, STOPPED));
                }
                Dying::Dying => {}
                Dying::Dead => return Progress::Done,
            }
        }
        if self.evict_vcpus(domain) == Progress::More || self.release_shared(domain) == Progress::More {
            return Progress::More;
        }
        if self.release_memory(domain) == Progress::More {
            return Progress::More;
        }
        {
            let mut life = domain.life.lock();
            // Two CPUs may come here with the same domain.
            if life.dying == Dying::Dead {
                return Progress::Done;
            }
            // Under the lock nobody gives it another, and its VMID is still its own: whoever sees it dead may bury it.
            self.release_lines(domain);
            life.dying = Dying::Dead;
        }
        self.sched.reset_share(domain.vmid);
        self.add_zombie();
        self.raise_global_virq(guest_abi::xen::VIRQ_DOM_EXC);
        self.bury();
        Progress::Done
    }

    /// Takes the vCPUs off their CPUs.
    fn evict_vcpus(&self, domain: &Domain) -> Progress {
        let mut progress = Progress::Done;
        for vcpu in domain.vcpus() {
            if self.unload(vcpu) {
                progress = Progress::More;
            }
        }
        progress
    }

    /// Gives back what the domain has mapped of others, closes its event channels, and lets go of the pages it shared with the hypervisor.
    fn release_shared(&self, domain: &Arc<Domain>) -> Progress {
        if self.release_mapped_grants(domain) == Progress::More
            || self.release_txcopy(domain) == Progress::More
            || self.close_all_ports(domain) == Progress::More
        {
            return Progress::More;
        }
        if let Some(page) = domain.uart.get().and_then(Vpl011::take_ring_page) {
            self.frames.put(Mfn::containing(page));
        }
        for vcpu in domain.vcpus() {
            vcpu.has_runstate.store(false, Ordering::Release);
            if let Some(area) = vcpu.runstate.lock().take() {
                area.release(&self.frames);
            }
            if let Some(info) = domain.events.unregister_vcpu_info(vcpu.id) {
                self.frames.put(Mfn::containing(info));
            }
        }
        Progress::Done
    }

    /// Undoes the grant mappings of a domain that does not run. Its stage 2 keeps the entries until it is drained, but nobody walks it.
    fn release_mapped_grants(&self, domain: &Domain) -> Progress {
        let mut budget = steps(BUDGET);
        loop {
            match domain.grants.drain(&mut budget) {
                Grants::Entry(entry) => {
                    if let Some(granter) = self.domains.by_vmid(entry.granter)
                        && let Some(mfn) = granter.grants.unpin(self.machine, entry.reference, entry.write)
                    {
                        self.frames.put(mfn);
                    }
                }
                Grants::Again => return Progress::More,
                Grants::Done => return Progress::Done,
            }
        }
    }

    /// Ends the channels and attachments of a domain that does not run: it makes no new ones.
    fn release_txcopy(&self, domain: &Domain) -> Progress {
        for _ in 0..steps(BUDGET_TXCOPY) {
            if let Some(attachment) = domain.txcopy.detach_next() {
                self.finish_attachment(attachment);
            } else if let Some(channel) = domain.txcopy.destroy_next() {
                self.finish_channel(channel);
            } else {
                return Progress::Done;
            }
        }
        Progress::More
    }

    fn close_all_ports(&self, domain: &Domain) -> Progress {
        domain.events.begin_destroy();
        // A dying domain opens no ports: there is no error.
        self.close_ports(domain, Closer::Hypervisor).unwrap_or(Progress::Done)
    }

    fn release_memory(&self, domain: &Domain) -> Progress {
        let budget = u64::from(steps(BUDGET));
        if domain.p2m.drain(&self.frames, budget, |_, mapping| mapping.release(&self.frames, domain.vmid)) == Drained::More {
            return Progress::More;
        }
        // Last, because an edit by Dom0 may displace a page until the drain has begun; from then on there are no new orphans.
        for _ in 0..budget {
            let Some(mfn) = self.frames.pop_orphan(domain.vmid) else { return Progress::Done };
            self.frames.release(mfn, domain.vmid);
        }
        Progress::More
    }

    /// Whether dead domains wait to be buried.
    pub fn has_zombies(&self) -> bool {
        self.zombies.load(Ordering::Relaxed) != 0
    }

    /// Removes dead domains whose last page came back, and of whose grants the last was given back: who has one mapped looks for its granter.
    pub fn bury(&self) {
        loop {
            let mut found = None;
            self.domains.for_each(|d| {
                let is_dead = || d.life.lock().dying == Dying::Dead;
                if found.is_none() && is_dead() && self.frames.account(d.vmid).tot_pages() == 0 && !d.grants.is_in_use() {
                    found = Some(d.clone());
                }
            });
            let Some(domain) = found else { return };
            // Two CPUs may find the same one.
            if !self.domains.take(&domain) {
                continue;
            }
            self.zombies.fetch_sub(1, Ordering::SeqCst);
            for vcpu in domain.vcpus() {
                // `evict_vcpus` saw it loaded nowhere and it cannot run any more.
                let _ = self.sched.remove(vcpu.sched);
            }
            self.free_frames_of(&domain);
            self.raise_global_virq(guest_abi::xen::VIRQ_DOM_EXC);
        }
    }

    /// Frees the pages that the hypervisor made for a domain: shared_info and grant frames.
    pub(super) fn free_frames_of(&self, domain: &Domain) {
        for mfn in domain.grants.retire() {
            self.frames.put(mfn);
        }
        self.frames.put(domain.shared_info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::DomainId;
    use crate::frames::FrameKind;
    use crate::policy::Policy;
    use crate::testbed::Testbed;

    #[test]
    fn a_page_orphaned_while_the_domain_dies_comes_back_too() {
        let bed = Testbed::new(Policy::Silo);
        bed.domain(0, 1);
        let free = bed.hv.frames.free_pages();
        let domain = bed.domain(1, u64::from(BUDGET) + 8);
        bed.hv.frames.account(domain.vmid).set_max_pages(u64::MAX);
        assert_eq!(bed.hv.destroy(&domain), Progress::More);
        let late = bed.hv.frames.allocate(domain.vmid, 0, FrameKind::Ram).unwrap();
        bed.hv.frames.orphan(late, domain.vmid);
        bed.destroy(&domain);
        assert!(bed.hv.domains.get(DomainId(1)).is_none());
        assert_eq!(bed.hv.frames.free_pages(), free);
    }
}
