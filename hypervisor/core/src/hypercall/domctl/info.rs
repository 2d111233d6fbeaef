//! What the toolstack asks about a domain and its vCPUs.

use super::Request;
use super::create::gic_version;
use crate::domain::{Domain, Dying};
use crate::hypervisor::Hypervisor;
use crate::sched::Runstate;
use crate::vcpu::BLOCKED;
use alloc::sync::Arc;
use guest_abi::arch_arm::ArchDomainConfig;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

pub fn get_domain_info(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    request.reply(&domain_info(request.hv, domain))?;
    request.reply_domain(domain.id)
}

/// `xen_domctl_getdomaininfo` of a domain.
pub fn domain_info(hv: &Hypervisor, domain: &Domain) -> abi::GetDomainInfo {
    let now = hv.now();
    let mut cpu_time = 0;
    let (mut online, mut running, mut blocked) = (0, false, true);
    for vcpu in domain.vcpus() {
        if let Some(times) = hv.sched.runstate(vcpu.sched, now) {
            let [ran, ..] = times.time;
            cpu_time += ran;
        }
        if vcpu.online() {
            online += 1;
            running |= vcpu.running_on().is_some();
            blocked &= vcpu.flags() & BLOCKED != 0;
        }
    }
    let life = *domain.life.lock();
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    let code = u32::from(life.shutdown.unwrap_or(u8::MAX));
    abi::GetDomainInfo {
        domain: domain.id.0,
        flags: abi::XEN_DOMINF_HVM_GUEST
            | abi::XEN_DOMINF_HAP
            | flag(life.dying == Dying::Dead, abi::XEN_DOMINF_DYING)
            | flag(life.shutdown.is_some(), abi::XEN_DOMINF_SHUTDOWN)
            | flag(life.pauses > 0, abi::XEN_DOMINF_PAUSED)
            | flag(blocked && online > 0, abi::XEN_DOMINF_BLOCKED)
            | flag(running, abi::XEN_DOMINF_RUNNING)
            | code << abi::XEN_DOMINF_SHUTDOWNSHIFT,
        tot_pages: hv.frames.account(domain.vmid).tot_pages(),
        max_pages: hv.frames.account(domain.vmid).max_pages(),
        shared_info_frame: hv.frames.xen_gfn(domain.shared_info).map_or(u64::MAX, |gfn| gfn.0),
        cpu_time,
        nr_online_vcpus: online,
        max_vcpu_id: u32::try_from(domain.vcpus().len()).unwrap_or(0).wrapping_sub(1),
        handle: *domain.handle.lock(),
        gpaddr_bits: hv.fixed.ipa_bits,
        arch_config: ArchDomainConfig { gic_version: gic_version(domain.vgic.version()), nr_spis: domain.spis, ..Default::default() },
        ..Default::default()
    }
}

pub fn get_vcpu_info(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let mut info: abi::GetVcpuInfo = request.payload()?;
    if info.vcpu >= domain.max_vcpus {
        return Err(Errno::EINVAL);
    }
    let vcpu = domain.vcpu(info.vcpu).ok_or(Errno::ESRCH)?;
    let times = request.hv.sched.runstate(vcpu.sched, request.hv.now()).ok_or(Errno::ESRCH)?;
    let [ran, ..] = times.time;
    info.online = vcpu.online().into();
    info.blocked = (vcpu.flags() & BLOCKED != 0).into();
    info.running = (times.state == Runstate::Running).into();
    info.cpu_time = ran;
    info.cpu = request.hv.sched.last_cpu(vcpu.sched).0.into();
    request.reply(&info)
}
