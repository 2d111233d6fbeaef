//! The toolstack gives a domain a device of the machine: permissions, registers, interrupts.

use super::Request;
use crate::addr::{Gfn, Mfn};
use crate::domain::{Domain, Dying};
use crate::p2m::{P2m, P2mType};
use crate::vgic::FIRST_SPI;
use alloc::sync::Arc;
use guest_abi::arch_arm::GUEST_VPL011_SPI;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

/// Frames of one memory_mapping at most; libxc splits larger ones.
const MAX_MAPPING: u64 = 64;

/// Says whether a domain may have device memory; what is mapped stays so.
pub fn iomem_permission(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::IomemPermission = request.payload()?;
    let end = end(wanted.first_mfn, wanted.nr_mfns)?;
    if !may_give(request, wanted.first_mfn, end) {
        return Err(Errno::EPERM);
    }
    let (mut access, frames) = (domain.iomem.lock(), wanted.first_mfn..end);
    let done = if wanted.allow_access != 0 { access.permit(frames) } else { access.deny(frames) };
    done.map_err(|_| Errno::ENOMEM)
}

/// Maps device memory into a domain, in the place of what was there, or unmaps it.
pub fn memory_mapping(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::MemoryMapping = request.payload()?;
    let (hv, count) = (request.hv, wanted.nr_mfns);
    let end = end(wanted.first_mfn, count)?;
    wanted.first_gfn.checked_add(count).ok_or(Errno::EINVAL)?;
    if count > MAX_MAPPING {
        return Err(Errno::E2BIG);
    }
    if !may_give(request, wanted.first_mfn, end) || !domain.iomem.lock().is_permitted(wanted.first_mfn..end) {
        return Err(Errno::EPERM);
    }
    for i in 0..count {
        let (gfn, mfn) = (Gfn(wanted.first_gfn + i), Mfn(wanted.first_mfn + i));
        let mut edit = domain.p2m.edit(&hv.frames);
        let is_there = edit.lookup(gfn).is_some_and(|m| m.kind == P2mType::MmioDirectDev && m.mfn == mfn);
        let gone = match (wanted.add_mapping, is_there) {
            (0, false) => Ok(None),
            (0, true) => edit.unmap(gfn),
            (..) => edit.map(gfn, mfn, 0, P2mType::MmioDirectDev),
        };
        drop(edit);
        if let Some(gone) = gone.map_err(|_| Errno::ENOMEM)? {
            gone.displace(&hv.frames, domain.vmid);
        }
    }
    Ok(())
}

/// The frame behind the last of `count` frames, of which there is one at least.
fn end(first: u64, count: u64) -> Result<u64, Errno> {
    first.checked_add(count).filter(|_| count != 0).ok_or(Errno::EINVAL)
}

/// Whether a domain may give away device frames: it has access, and they are on offer, or it has them mapped itself as the machine has them. So nobody gets
/// RAM, which would bypass ownership, nor what the hypervisor drives: interrupt controller and UART. Ends at the first that is not so.
fn may_give(request: &Request<'_>, first: u64, end: u64) -> bool {
    let own = &request.caller.domain.p2m;
    if !request.caller.domain.iomem.lock().is_permitted(first..end) {
        return false;
    }
    let mut mfn = first;
    while mfn < end {
        match request.hv.passthrough.offered_until(Mfn(mfn)).map(|next| next.0).or_else(|| mapped_until(own, mfn)) {
            Some(next) => mfn = next,
            None => return false,
        }
    }
    true
}

/// The first frame behind the block of device memory that holds `mfn`, if the domain has it where the machine has it.
fn mapped_until(owner: &P2m, mfn: u64) -> Option<u64> {
    let found = owner.lookup(Gfn(mfn)).filter(|found| found.kind.is_mmio() && found.mfn == Mfn(mfn))?;
    (mfn | ((1 << found.order) - 1)).checked_add(1)
}

/// Routes an SPI of the machine to a domain, under the same number.
///
/// `-EOPNOTSUPP` another kind of interrupt, `-EINVAL` another number, `-EPERM` not the caller's to give, `-EBUSY` the domain has not got such
/// an SPI, uses it otherwise, or the machine's is another domain's.
pub fn bind(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let intid = line(request)?;
    let life = domain.life.lock();
    if life.dying == Dying::Dead {
        return Err(Errno::EBUSY);
    }
    let is_uart = intid == GUEST_VPL011_SPI && domain.uart.is_completed();
    let lines = &request.hv.passthrough;
    if is_uart || intid >= FIRST_SPI + domain.spis || domain.vgic.is_linked(intid) {
        return Err(Errno::EBUSY);
    }
    lines.claim_line(intid, domain.vmid).map_err(|_| Errno::EBUSY)?;
    if !domain.vgic.give_spi(intid) {
        lines.free_line(intid);
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// Takes it back, which as in Xen no domain that lives suffers; at its death it happens by itself.
pub fn unbind(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let intid = line(request)?;
    if domain.vgic.is_linked(intid) { Err(Errno::EBUSY) } else { Err(Errno::EINVAL) }
}

/// The SPI that a call is about, which the caller may give away.
fn line(request: &Request<'_>) -> Result<u32, Errno> {
    let wanted: abi::BindPtIrq = request.payload()?;
    if wanted.irq_type != abi::PT_IRQ_TYPE_SPI {
        return Err(Errno::EOPNOTSUPP);
    }
    if wanted.machine_irq != u32::from(wanted.spi) {
        return Err(Errno::EINVAL);
    }
    if request.hv.passthrough.is_offered(wanted.machine_irq) { Ok(wanted.machine_irq) } else { Err(Errno::EPERM) }
}
