//! Life of a domain: create, pause, unpause, destroy.

use super::{Request, Step};
use crate::addr::DomainId;
use crate::domain::destroy::Progress;
use crate::domain::{Domain, create::Config};
use crate::room;
use crate::vgic::{RedistributorRegion, Version};
use alloc::sync::Arc;
use guest_abi::arch_arm as arch;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

/// SPIs at most.
const MAX_SPIS: u32 = 988;
/// Free memory, in bytes, below which the hypervisor does not start to build a domain.
const RESERVE: u64 = 2 << 20;
/// Pages for stage-2 tables that a domain with a GICv2 has before the toolstack gives it its pool, as in Xen: its CPU interface is mapped.
const FIRST_POOL: u64 = 16;

pub fn create(request: &Request<'_>) -> Result<(), Errno> {
    let hv = request.hv;
    let mut wanted: abi::CreateDomain = request.payload()?;
    // Port, grant and structure checks in the order of Xen's sanitise_domain_config and arch_sanitise_domain_config.
    let flags = wanted.flags;
    if flags & !(abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP) != 0
        || flags & (abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP) != abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP
        || wanted.iommu_opts != 0
        || wanted.max_vcpus == 0
        || wanted.max_grant_frames == 0
        || wanted.grant_opts != 1
        || wanted.altp2m_opts != 0
        || wanted.vmtrace_size != 0
        || wanted.cpupool_id != 0
    {
        return Err(Errno::EINVAL);
    }
    let version = match wanted.arch.gic_version {
        arch::XEN_DOMCTL_CONFIG_GIC_NATIVE => hv.fixed.gic.version,
        arch::XEN_DOMCTL_CONFIG_GIC_V2 => Version::V2,
        arch::XEN_DOMCTL_CONFIG_GIC_V3 => Version::V3,
        _ => return Err(Errno::EINVAL),
    };
    if wanted.max_vcpus > version.max_vcpus() || wanted.arch.sve_vl != 0 || wanted.arch.tee_type != 0 {
        return Err(Errno::EINVAL);
    }
    let spis = wanted.arch.nr_spis.checked_next_multiple_of(32).filter(|n| *n <= MAX_SPIS).ok_or(Errno::EINVAL)?;
    if hv.free_bytes() < RESERVE {
        return Err(Errno::ENOMEM);
    }
    // The list of its redistributors.
    if !room::for_bytes(size_of::<RedistributorRegion>()) {
        return Err(Errno::ENOMEM);
    }
    let vgic = hv.fixed.gic.guest(version).ok_or(Errno::ENODEV)?;
    let asked = request.header.domain;
    let limit = |n: i32, default: u32| u32::try_from(n).unwrap_or(default);
    let domain = hv.create_domain(Config {
        id: (asked > 0 && asked < crate::domain::FIRST_RESERVED.0).then_some(DomainId(asked)),
        privileged: false,
        is_console: false,
        direct_mapped: false,
        handle: wanted.handle,
        max_vcpus: wanted.max_vcpus,
        max_port: wanted.max_evtchn_port.min(i32::MAX as u32),
        max_grant_frames: limit(wanted.max_grant_frames, hv.fixed.max_grant_frames),
        max_maptrack_frames: limit(wanted.max_maptrack_frames, hv.fixed.max_maptrack_frames),
        spis,
        pool: if version == Version::V2 { FIRST_POOL } else { 0 },
        event_ppi: arch::GUEST_EVTCHN_PPI,
        vgic,
    })?;
    wanted.arch.gic_version = gic_version(version);
    wanted.arch.nr_spis = spis;
    wanted.arch.clock_frequency = 0;
    request.reply(&wanted)?;
    request.reply_domain(domain.id)
}

/// A version as the toolstack knows it.
pub(super) fn gic_version(version: Version) -> u8 {
    match version {
        Version::V2 => arch::XEN_DOMCTL_CONFIG_GIC_V2,
        Version::V3 => arch::XEN_DOMCTL_CONFIG_GIC_V3,
    }
}

pub fn destroy(request: &Request<'_>, domain: &Arc<Domain>) -> Result<Step, Errno> {
    if domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    Ok(match request.hv.destroy(domain) {
        Progress::More => Step::Again,
        Progress::Done => Step::Done(0),
    })
}

/// Done only when none of the domain's vCPUs runs any more.
pub fn pause(request: &Request<'_>, domain: &Arc<Domain>) -> Result<Step, Errno> {
    if domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    // Who says so without having paused it waits for nothing that does not come: a domain that is not paused is paused.
    let has_paused = request.waits && domain.life.lock().pauses > 0;
    if !has_paused {
        request.hv.pause(domain)?;
    }
    Ok(if domain.is_running() { Step::Wait } else { Step::Done(0) })
}

pub fn unpause(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    request.hv.unpause(domain)
}

pub fn resume(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    if domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    request.hv.resume(domain);
    Ok(())
}

pub fn max_vcpus(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::MaxVcpus = request.payload()?;
    if domain.id == request.caller.domain.id || wanted.max != domain.max_vcpus {
        return Err(Errno::EINVAL);
    }
    request.hv.create_vcpus(domain)
}

pub fn set_handle(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::SetDomainHandle = request.payload()?;
    *domain.handle.lock() = wanted.handle;
    Ok(())
}

/// 64-bit guests only: this image does not offer AArch32 at EL1.
pub fn set_address_size(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::AddressSize = request.payload()?;
    let populated = request.hv.frames.account(domain.vmid).tot_pages() != 0;
    match wanted.size {
        64 => Ok(()),
        32 if populated => Err(Errno::EBUSY),
        _ => Err(Errno::EINVAL),
    }
}
