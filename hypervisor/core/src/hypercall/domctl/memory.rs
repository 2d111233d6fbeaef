//! The toolstack and a domain's memory: limits, the paging pool, caches.

use super::{Request, Step};
use crate::addr::{Gfn, PAGE_SIZE};
use crate::domain::Domain;
use crate::preempt::steps;
use alloc::sync::Arc;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

/// Pages cleaned before Dom0 may take an interrupt.
const BUDGET: u64 = 1024;
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
    let now = wanted.nr_pfns.min(steps(BUDGET));
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
