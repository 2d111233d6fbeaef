//! A domain of the device tree, built from its plan: memory, kernel and device tree in place, first vCPU ready to run.

use super::Domain;
use super::create::Config;
use crate::addr::{DomainId, Gfn, Ipa, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE};
use crate::boot::BootError;
use crate::boot::domu::{DomuConfig, DomuPlan, Enhanced};
use crate::context::VcpuContext;
use crate::frames::{FrameKind, MAX_ORDER};
use crate::hypervisor::Hypervisor;
use crate::p2m::P2mType;
use crate::vcpu::DOWN;
use crate::vgic::{MAX_SPIS, VgicConfig};
use crate::vpl011::Vpl011;
use alloc::sync::Arc;
use guest_abi::arch_arm as arch;
use guest_abi::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};

/// The highest event channel port of such a domain.
const MAX_PORT: u32 = 1023;
/// `HVM_PARAM_STORE_PFN` until `init-dom0less` has made the page.
const STORE_COMES_LATER: u64 = u64::MAX;

/// Builds a domain and leaves it paused once.
pub fn build(hv: &Hypervisor, id: DomainId, config: &DomuConfig, plan: &DomuPlan, vgic: VgicConfig) -> Result<Arc<Domain>, BootError> {
    let no_room = || BootError::NoDomain { node: config.node.clone() };
    let spis = config.spis.unwrap_or_else(|| hv.fixed.spis.max(config.vpl011.into()));
    let domain = hv
        .create_domain(Config {
            id: Some(id),
            privileged: false,
            is_console: true,
            direct_mapped: false,
            handle: [0; 16],
            max_vcpus: config.vcpus,
            max_port: MAX_PORT,
            max_grant_frames: config.max_grant_frames.unwrap_or(hv.fixed.max_grant_frames),
            max_maptrack_frames: config.max_maptrack_frames.unwrap_or(hv.fixed.max_maptrack_frames),
            spis: spis.next_multiple_of(32).min(MAX_SPIS),
            pool: config.pool(),
            event_ppi: arch::GUEST_EVTCHN_PPI,
            vgic,
        })
        .map_err(|_| no_room())?;
    give_memory(hv, &domain, config, plan)?;
    give_devices(hv, &domain, config, plan)?;
    for file in [Some(plan.kernel), plan.ramdisk].into_iter().flatten() {
        let done = for_each_piece(&domain, file.to, file.from.size(), |offset, to, len| {
            hv.machine.copy(MachineAddr(file.from.start().0 + offset as u64), to, len);
            hv.machine.clean_invalidate(to, len);
        });
        done.ok_or_else(no_room)?;
    }
    let done = for_each_piece(&domain, plan.tree_at, plan.tree.len() as u64, |offset, to, len| {
        hv.machine.write(to, plan.tree.get(offset..offset + len).unwrap_or_default());
        hv.machine.clean_invalidate(to, len);
    });
    done.ok_or_else(no_room)?;
    hv.machine.invalidate_icache();

    if config.vpl011 {
        domain.uart.call_once(Vpl011::on_console);
    }
    hv.create_vcpus(&domain).map_err(|_| no_room())?;
    if config.enhanced == Enhanced::Full {
        announce_store(hv, &domain).ok_or_else(no_room)?;
    }
    let first = domain.vcpu(0).ok_or_else(no_room)?;
    {
        let mut context = first.context.lock();
        let vmpidr = context.sys.vmpidr_el2;
        *context = VcpuContext::starting_at(plan.kernel.to.0, plan.tree_at.0);
        context.sys.vmpidr_el2 = vmpidr;
    }
    first.clear(DOWN);
    Ok(domain)
}

/// The port on which the store will speak to the domain is there from the beginning, its page is not.
fn announce_store(hv: &Hypervisor, domain: &Domain) -> Option<()> {
    let port = domain.events.alloc_unbound(hv.machine, DomainId::HARDWARE).ok()?;
    let mut params = domain.params.lock();
    *params.get_mut(HVM_PARAM_STORE_EVTCHN as usize)? = port.into();
    *params.get_mut(HVM_PARAM_STORE_PFN as usize)? = STORE_COMES_LATER;
    Some(())
}

/// Maps the registers of the domain's devices, and routes their interrupts to it.
fn give_devices(hv: &Hypervisor, domain: &Domain, config: &DomuConfig, plan: &DomuPlan) -> Result<(), BootError> {
    for device in &plan.mmio {
        let mapped = domain.p2m.edit(&hv.frames).map_range(device.to, device.from, device.pages, P2mType::MmioDirectDev);
        let permitted = domain.iomem.lock().permit(device.from.0..device.from.0 + device.pages);
        if mapped.is_err() || permitted.is_err() {
            return Err(BootError::NoDomain { node: config.node.clone() });
        }
    }
    for line in &plan.interrupts {
        let intid = line.interrupt.intid;
        let refused = |why| BootError::DomainInterrupt { node: config.node.clone(), device: line.node.clone(), intid, why };
        let owner = hv.passthrough.owner(intid);
        if owner.is_some_and(|owner| owner != domain.vmid) {
            return Err(refused("it is another domain's (Dom0's, unless the device says xen,passthrough)"));
        }
        // Two devices may share one.
        if owner.is_none() {
            hv.machine.spi_set_trigger(intid, line.interrupt.trigger);
            if !domain.vgic.give_spi(intid) || hv.passthrough.claim_line(intid, domain.vmid).is_err() {
                return Err(refused("the domain's interrupt controller has no such interrupt"));
            }
        }
    }
    Ok(())
}

/// Allocates the domain's memory in pieces as large as there are, and maps them.
fn give_memory(hv: &Hypervisor, domain: &Domain, config: &DomuConfig, plan: &DomuPlan) -> Result<(), BootError> {
    let wanted = config.memory >> PAGE_SHIFT;
    hv.frames.account(domain.vmid).set_max_pages(wanted);
    let too_much = |free: u64| BootError::DomainMemory { node: config.node.clone(), asked: config.memory, free };
    if hv.frames.free_pages() < wanted {
        return Err(too_much(hv.free_bytes()));
    }
    for bank in &plan.banks {
        let (mut gfn, end) = (bank.start().0 >> PAGE_SHIFT, bank.end().0 >> PAGE_SHIFT);
        let mut largest = MAX_ORDER;
        while gfn < end {
            let fits = |order: u32| gfn.is_multiple_of(1 << order) && gfn + (1 << order) <= end;
            let order = (0..=largest).rev().find(|order| fits(*order)).unwrap_or(0);
            match hv.frames.allocate(domain.vmid, order, FrameKind::Ram) {
                Ok(mfn) => {
                    let mut edit = domain.p2m.edit(&hv.frames);
                    let mapped = edit.map_range(Gfn(gfn), mfn, 1 << order, P2mType::RamRw);
                    mapped.map_err(|_| BootError::NoDomain { node: config.node.clone() })?;
                    gfn += 1 << order;
                }
                Err(_) if order > 0 => largest = order - 1,
                Err(_) => return Err(too_much(hv.free_bytes())),
            }
        }
    }
    Ok(())
}

/// Calls `act` for each run of machine memory behind `size` bytes of the domain's, with how far into them it is. `None`: not all is RAM.
fn for_each_piece(domain: &Domain, at: Ipa, size: u64, mut act: impl FnMut(usize, MachineAddr, usize)) -> Option<()> {
    let mut done = 0;
    while done < size {
        let here = at.0.checked_add(done)?;
        let offset = here % PAGE_SIZE;
        let mapping = domain.p2m.lookup(Gfn(here >> PAGE_SHIFT))?;
        let len = (PAGE_SIZE - offset).min(size - done);
        act(done as usize, MachineAddr(Mfn::address(mapping.mfn).0 + offset), len as usize);
        done += len;
    }
    Some(())
}

#[cfg(test)]
mod tests;
