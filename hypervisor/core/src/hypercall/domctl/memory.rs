//! The toolstack and a domain's memory: limits, the paging pool, caches, device memory.

use super::{Request, Step};
use crate::addr::{Gfn, Mfn, PAGE_SIZE};
use crate::domain::Domain;
use crate::p2m::{P2m, P2mType};
use alloc::sync::Arc;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

/// Pages cleaned before Dom0 may take an interrupt.
const BUDGET: u64 = 1024;
/// Frames of one memory_mapping at most; libxc splits larger ones.
const MAX_MAPPING: u64 = 64;
/// Pages of one cache flush at most.
const MAX_FLUSH: u64 = 1 << 18;

pub fn max_mem(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::MaxMem = request.payload()?;
    request.hv.frames.account(domain.vmid).set_max_pages(wanted.max_memkb / (PAGE_SIZE / 1024));
    Ok(())
}

/// Cleans and invalidates guest pages to the point of coherency: the guest starts with its caches off.
pub fn cache_flush(request: &Request<'_>, domain: &Arc<Domain>) -> Result<Step, Errno> {
    let mut wanted: abi::CacheFlush = request.payload()?;
    if wanted.nr_pfns > MAX_FLUSH || wanted.start_pfn.checked_add(wanted.nr_pfns).is_none() {
        return Err(Errno::EINVAL);
    }
    if wanted.nr_pfns == 0 {
        return Ok(Step::Done(0));
    }
    let now = wanted.nr_pfns.min(BUDGET);
    for gfn in (wanted.start_pfn..).take(now as usize) {
        if let Some(mfn) = domain.p2m.get_ram(&request.hv.frames, Gfn(gfn), false) {
            request.hv.machine.clean_invalidate(mfn.address(), PAGE_SIZE as usize);
            request.hv.frames.put(mfn);
        }
    }
    request.hv.machine.invalidate_icache();
    if now == wanted.nr_pfns {
        return Ok(Step::Done(0));
    }
    wanted.start_pfn += now;
    wanted.nr_pfns -= now;
    request.reply(&wanted)?;
    Ok(Step::Again)
}

pub fn set_pool(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::PagingMempool = request.payload()?;
    if !wanted.size.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    domain.p2m.set_pool(wanted.size / PAGE_SIZE).map_err(|_| Errno::ENOMEM)
}

pub fn get_pool(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    request.reply(&abi::PagingMempool { size: domain.p2m.pool() * PAGE_SIZE })
}

/// Permissions are not kept: what may be mapped is checked when it is mapped, and here so that the tools get their answer early.
pub fn iomem_permission(request: &Request<'_>, _domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::IomemPermission = request.payload()?;
    let end = wanted.first_mfn.checked_add(wanted.nr_mfns).ok_or(Errno::EINVAL)?;
    if may_give(&request.caller.domain.p2m, wanted.first_mfn, end) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether a domain may give away device frames: it has them mapped itself, as the machine has them. So nobody gets RAM, which would
/// bypass ownership, nor what the hypervisor drives: interrupt controller and UART. Ends at the first frame that is not so.
fn may_give(owner: &P2m, first: u64, end: u64) -> bool {
    let mut mfn = first;
    while mfn < end {
        match owner.lookup(Gfn(mfn)) {
            Some(found) if found.kind.is_mmio() && found.mfn == Mfn(mfn) => mfn = (mfn | ((1 << found.order) - 1)) + 1,
            _ => return false,
        }
    }
    true
}

/// Maps device memory into a domain, or unmaps it.
pub fn memory_mapping(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::MemoryMapping = request.payload()?;
    let (hv, count) = (request.hv, wanted.nr_mfns);
    if count > MAX_MAPPING {
        return Err(Errno::E2BIG);
    }
    let end = wanted.first_mfn.checked_add(count).ok_or(Errno::EINVAL)?;
    wanted.first_gfn.checked_add(count).ok_or(Errno::EINVAL)?;
    if !may_give(&request.caller.domain.p2m, wanted.first_mfn, end) {
        return Err(Errno::EPERM);
    }
    let mut edit = domain.p2m.edit(&hv.frames);
    for i in 0..count {
        let gfn = Gfn(wanted.first_gfn + i);
        if wanted.add_mapping == 0 {
            let is_device = edit.lookup(gfn).is_some_and(|m| m.kind == P2mType::MmioDirectDev && m.mfn == Mfn(wanted.first_mfn + i));
            if is_device {
                edit.unmap(gfn).map_err(|_| Errno::ENOMEM)?;
            }
        } else if edit.lookup(gfn).is_some() {
            return Err(Errno::EEXIST);
        } else {
            edit.map(gfn, Mfn(wanted.first_mfn + i), 0, P2mType::MmioDirectDev).map_err(|_| Errno::ENOMEM)?;
        }
    }
    Ok(())
}
