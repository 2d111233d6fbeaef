//! Dom0, built from its plan: memory 1:1, devices, kernel and device tree in place, first vCPU ready to run.

use super::Domain;
use super::create::Config;
use crate::addr::{DomainId, Gfn, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE};
use crate::boot::Region;
use crate::boot::dom0::{CopyFile, Dom0Plan};
use crate::context::VcpuContext;
use crate::frames::{FrameKind, MAX_ORDER};
use crate::hypervisor::Hypervisor;
use crate::its::{Its, ItsConfig};
use crate::p2m::P2mType;
use crate::sched::{Affinity, mask};
use crate::vcpu::DOWN;
use crate::vgic::VgicConfig;
use alloc::sync::Arc;
use guest_abi::hvm::HVM_PARAM_CALLBACK_IRQ;

/// `HVM_PARAM_CALLBACK_IRQ` of type PPI, low level triggered, as Xen presets it for Dom0.
const CALLBACK_PPI: u64 = 2 << 56 | 2 << 8;

/// Builds Dom0 and leaves it paused once. With `its` its interrupt controller has LPIs. The error is a line for the console.
pub fn build(
    hv: &Hypervisor,
    plan: &Dom0Plan,
    vcpus: u32,
    pin: bool,
    vgic: VgicConfig,
    its: Option<ItsConfig>,
) -> Result<Arc<Domain>, &'static str> {
    let vgic = if its.is_some() { vgic.with_lpis() } else { vgic };
    let dom0 = hv
        .create_domain(Config {
            id: Some(DomainId::HARDWARE),
            privileged: true,
            is_console: false,
            direct_mapped: true,
            handle: [0; 16],
            max_vcpus: vcpus,
            max_port: i32::MAX as u32,
            max_grant_frames: hv.fixed.max_grant_frames.min((plan.grant_window.size() >> PAGE_SHIFT) as u32),
            max_maptrack_frames: hv.fixed.max_maptrack_frames,
            spis: hv.fixed.spis,
            pool: u64::MAX,
            event_ppi: plan.event_ppi,
            vgic,
        })
        .map_err(|_| "Dom0: not enough memory to create it")?;
    if let Some(config) = its {
        let its = Its::new(config, vcpus).map_err(|_| "Dom0: not enough memory for its ITS")?;
        dom0.its.call_once(|| its);
    }
    map_memory(hv, &dom0, &plan.banks)?;
    map_devices(hv, &dom0, &plan.mmio)?;
    for interrupt in &plan.interrupts {
        hv.machine.spi_set_trigger(interrupt.intid, interrupt.trigger);
        hv.passthrough.offer_line(interrupt.intid);
        if !dom0.vgic.link_spi(interrupt.intid, true) || hv.passthrough.claim_line(interrupt.intid, dom0.vmid).is_err() {
            log::warn!("Dom0: its interrupt {} is beyond the interrupt controller's", interrupt.intid);
        }
    }
    for interrupt in &plan.offered_interrupts {
        hv.machine.spi_set_trigger(interrupt.intid, interrupt.trigger);
        hv.passthrough.offer_line(interrupt.intid);
    }
    for region in &plan.offered_mmio {
        hv.passthrough.offer_frames(Mfn::containing(region.start())..Mfn::containing(region.end()));
    }
    copy(hv, plan.kernel);
    plan.ramdisk.into_iter().for_each(|ramdisk| copy(hv, ramdisk));
    hv.machine.write(plan.tree_at, &plan.tree);
    hv.machine.clean_invalidate(plan.tree_at, plan.tree.len());
    hv.machine.invalidate_icache();

    if let Some(callback) = dom0.params.lock().get_mut(HVM_PARAM_CALLBACK_IRQ as usize) {
        *callback = CALLBACK_PPI | u64::from(plan.event_ppi);
    }
    hv.create_vcpus(&dom0).map_err(|_| "Dom0: not enough memory for its vCPUs")?;
    if pin {
        for vcpu in dom0.vcpus() {
            let cpu = crate::addr::CpuId((vcpu.id % u32::from(hv.fixed.cpus.max(1))) as u8);
            hv.sched.set_affinity(vcpu.sched, Affinity { hard: mask(cpu), soft: u64::MAX }, hv.now());
        }
    }
    let first = dom0.vcpu(0).ok_or("Dom0: it has no vCPU")?;
    {
        let mut context = first.context.lock();
        let vmpidr = context.sys.vmpidr_el2;
        *context = VcpuContext::starting_at(plan.kernel.to.0, plan.tree_at.0);
        context.sys.vmpidr_el2 = vmpidr;
    }
    first.clear(DOWN);
    Ok(dom0)
}

fn map_memory(hv: &Hypervisor, dom0: &Domain, banks: &[Region]) -> Result<(), &'static str> {
    const NO_ROOM: &str = "Dom0: its memory could not be allocated";
    let pages = banks.iter().map(|bank| bank.size() >> PAGE_SHIFT).sum();
    hv.frames.account(dom0.vmid).set_max_pages(pages);
    for bank in banks {
        let (mut mfn, end) = (Mfn::containing(bank.start()), Mfn::containing(bank.end()));
        let start = mfn;
        while mfn < end {
            let order = (0..=MAX_ORDER).rev().find(|o| mfn.is_aligned(*o) && mfn.0 + (1 << o) <= end.0).unwrap_or(0);
            hv.frames.allocate_at(dom0.vmid, mfn, order, FrameKind::Ram).map_err(|_| NO_ROOM)?;
            mfn = mfn.checked_add(1 << order).ok_or(NO_ROOM)?;
        }
        let mut edit = dom0.p2m.edit(&hv.frames);
        edit.map_range(Gfn(start.0), start, end.0 - start.0, P2mType::RamRw).map_err(|_| "Dom0: no memory for its page tables")?;
    }
    Ok(())
}

fn map_devices(hv: &Hypervisor, dom0: &Domain, devices: &[Region]) -> Result<(), &'static str> {
    for device in devices {
        let first = Mfn::containing(device.start());
        let pages = device.size().div_ceil(PAGE_SIZE);
        let mut edit = dom0.p2m.edit(&hv.frames);
        edit.map_range(Gfn(first.0), first, pages, P2mType::MmioDirectC).map_err(|_| "Dom0: a device could not be mapped")?;
    }
    Ok(())
}

fn copy(hv: &Hypervisor, file: CopyFile) {
    const CHUNK: u64 = 2 << 20;
    let mut done = 0;
    while done < file.from.size() {
        let len = CHUNK.min(file.from.size() - done) as usize;
        let to = MachineAddr(file.to.0 + done);
        hv.machine.copy(MachineAddr(file.from.start().0 + done), to, len);
        hv.machine.clean_invalidate(to, len);
        done += len as u64;
    }
}
