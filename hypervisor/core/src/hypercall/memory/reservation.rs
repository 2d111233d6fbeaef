//! How many pages a domain has: populate, increase, decrease, claim, and the numbers.
//!
//! The operations on extents answer how many extents are done and never an error, as in Xen: a bad argument is "none done".

use super::Call;
use crate::addr::{Gfn, Mfn};
use crate::domain::Domain;
use crate::frames::{AllocError, ClaimError, FrameKind};
use crate::guest_memory::GuestPtr;
use crate::hypercall::{Answer, Outcome};
use crate::p2m::{Mapping, P2mError, P2mType};
use crate::policy;
use crate::preempt::steps;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use guest_abi::errno::Errno;
use guest_abi::memory as abi;
use guest_abi::memory::{MemoryDomain, MemoryExchange, MemoryReservation};

/// Pages handled before the guest may take an interrupt, whole extents.
const BUDGET: u64 = 512;
/// Pages unmapped with one TLB flush.
const BATCH: usize = 32;
/// The largest extent that a DomU may name, Xen's `memop-max-order`.
const DOMU_MAX_ORDER: u32 = 9;
/// The same for the control domain: 1 GiB.
const CONTROL_MAX_ORDER: u32 = 18;
/// The largest extent that is populated page by page where part of it is mapped already.
const PIECEMEAL_MAX_ORDER: u32 = 10;
/// The largest number of extents whose progress fits beside the command.
const MAX_EXTENTS: u64 = (u32::MAX >> abi::MEMOP_EXTENT_SHIFT) as u64;

/// A request that was found valid.
struct Extents {
    domain: Arc<Domain>,
    list: GuestPtr<u64>,
    count: u64,
    order: u32,
    /// Allocate below this frame.
    limit: Option<u64>,
    flags: u32,
}

impl Extents {
    fn pages(&self) -> u64 {
        1 << self.order
    }
}

impl Call<'_, '_> {
    fn max_order(&self) -> u32 {
        if self.caller.domain.privileged { CONTROL_MAX_ORDER } else { DOMU_MAX_ORDER }
    }

    /// The request, if anything is to be done for it.
    fn extents(&self) -> Option<Extents> {
        let wanted = self.caller.memory.read(GuestPtr::<MemoryReservation>::new(self.arg)).ok()?;
        if wanted.nr_extents > MAX_EXTENTS || self.done >= wanted.nr_extents {
            return None;
        }
        let domain = self.target(wanted.domid).ok()?;
        let bits = wanted.mem_flags & abi::XENMEMF_ADDRESS_BITS_MASK;
        if (1..=12).contains(&bits) || wanted.extent_order > self.max_order() || domain.is_dying() {
            return None;
        }
        let limit = (bits != 0 && bits < 64).then(|| 1 << (bits - 12)).filter(|limit| *limit < self.hv.fixed.max_mfn);
        let list = GuestPtr::new(wanted.extent_start);
        Some(Extents { domain, list, count: wanted.nr_extents, order: wanted.extent_order, limit, flags: wanted.mem_flags })
    }

    /// Does `each` extent, given its number, until it fails or the budget is used up.
    fn for_extents(&self, extents: &Extents, mut each: impl FnMut(u64) -> Option<()>) -> Outcome {
        let mut budget = steps(BUDGET);
        for i in self.done..extents.count {
            if budget == 0 {
                return self.again(i);
            }
            if each(i).is_none() {
                return Outcome::Return(i as i64);
            }
            budget = budget.saturating_sub(extents.pages());
        }
        Outcome::Return(extents.count as i64)
    }

    fn gfn(&self, extents: &Extents, i: u64) -> Option<Gfn> {
        self.caller.memory.read(extents.list.offset(i)?).ok().map(Gfn)
    }

    fn allocate(&self, extents: &Extents) -> Result<Mfn, AllocError> {
        // One node, told as 1: any wish is met by it, a demand for another is not. Other domains than Dom0 may demand none.
        let node = (extents.flags >> abi::XENMEMF_NODE_SHIFT) & 0xff;
        let most = u32::from(self.caller.domain.privileged);
        if extents.flags & abi::XENMEMF_EXACT_NODE_REQUEST != 0 && node > most {
            return Err(AllocError::NoMemory);
        }
        let (frames, owner) = (&self.hv.frames, extents.domain.vmid);
        match extents.limit {
            None => frames.allocate(owner, extents.order, FrameKind::Ram),
            Some(limit) => frames.allocate_within(owner, extents.order, FrameKind::Ram, Mfn(0)..Mfn(limit)),
        }
    }
}

/// `XENMEM_populate_physmap`: zeroed pages at the guest frames of the list.
pub(super) fn populate(call: &Call<'_, '_>) -> Outcome {
    let Some(extents) = call.extents().filter(|e| e.flags & abi::XENMEMF_POPULATE_ON_DEMAND == 0) else {
        return Outcome::Return(call.done as i64);
    };
    // A domain that has run may execute a page at once; one that is being built cannot.
    let live = extents.domain.creation_finished.load(Ordering::SeqCst);
    let outcome = call.for_extents(&extents, |i| {
        let gfn = call.gfn(&extents, i)?;
        if extents.domain.direct_mapped {
            return restore(call, &extents, gfn);
        }
        let mfn = call.allocate(&extents).ok()?;
        if live {
            call.hv.machine.invalidate_icache();
        }
        place(call, &extents, gfn, mfn)
    });
    if !live {
        call.hv.machine.invalidate_icache();
    }
    outcome
}

/// Maps freshly allocated pages; those that cannot be mapped are freed again.
fn place(call: &Call<'_, '_>, extents: &Extents, gfn: Gfn, mfn: Mfn) -> Option<()> {
    let mapped = map_pages(call, extents, gfn, mfn);
    for page in mfn.0 + mapped..mfn.0 + extents.pages() {
        call.hv.frames.release(Mfn(page), extents.domain.vmid);
    }
    (mapped == extents.pages()).then_some(())
}

/// Gives a direct-mapped domain a page of its own back, at the only place where it can be.
fn restore(call: &Call<'_, '_>, extents: &Extents, gfn: Gfn) -> Option<()> {
    let (frames, owner) = (&call.hv.frames, extents.domain.vmid);
    let end = gfn.0.checked_add(extents.pages())?;
    let own = |mfn| frames.info(Mfn(mfn)).is_some_and(|info| info.owner == owner && info.kind == FrameKind::Ram);
    if !(gfn.0..end).all(own) {
        return None;
    }
    let mapped = map_pages(call, extents, gfn, Mfn(gfn.0));
    for mfn in gfn.0..gfn.0 + mapped {
        frames.adopt(Mfn(mfn), owner);
    }
    (mapped == extents.pages()).then_some(())
}

/// Maps the extent to the machine frames from `mfn` on, replacing what is there; how many pages it could, from the first on.
fn map_pages(call: &Call<'_, '_>, extents: &Extents, gfn: Gfn, mfn: Mfn) -> u64 {
    let (frames, domain) = (&call.hv.frames, &extents.domain);
    let whole = domain.p2m.edit(frames).map_range(gfn, mfn, extents.pages(), P2mType::RamRw);
    match whole {
        Ok(()) => return extents.pages(),
        Err(P2mError::Occupied) if extents.order <= PIECEMEAL_MAX_ORDER => {}
        Err(_) => return 0,
    }
    for i in 0..extents.pages() {
        let (at, page) = (Gfn(gfn.0 + i), Mfn(mfn.0 + i));
        let mut edit = domain.p2m.edit(frames);
        if edit.lookup(at).is_some_and(|m| m.mfn == page && m.kind == P2mType::RamRw) {
            continue;
        }
        let Ok(displaced) = edit.map(at, page, 0, P2mType::RamRw) else { return i };
        drop(edit);
        if let Some(displaced) = displaced {
            displaced.displace(frames, domain.vmid);
        }
    }
    extents.pages()
}

/// `XENMEM_increase_reservation`: pages that are mapped nowhere.
pub(super) fn increase(call: &Call<'_, '_>) -> Outcome {
    let Some(extents) = call.extents() else { return Outcome::Return(call.done as i64) };
    call.for_extents(&extents, |_| {
        let mfn = call.allocate(&extents).ok()?;
        for page in mfn.0..mfn.0 + extents.pages() {
            call.hv.frames.orphan(Mfn(page), extents.domain.vmid);
        }
        Some(())
    })
}

/// `XENMEM_decrease_reservation`: the guest frames of the list are given up. A direct-mapped domain keeps the machine pages, since it
/// must get the same ones back.
pub(super) fn decrease(call: &Call<'_, '_>) -> Outcome {
    let Some(extents) = call.extents() else { return Outcome::Return(call.done as i64) };
    if extents.order > 0 {
        return call.for_extents(&extents, |i| {
            let gfn = call.gfn(&extents, i)?;
            let end = gfn.0.checked_add(extents.pages())?;
            let mut at = gfn.0;
            while at < end {
                let count = (end - at).min(BATCH as u64);
                at += count;
                let gfns = (at - count..at).map(|gfn| Some(Gfn(gfn)));
                if remove(call, &extents.domain, gfns) < count {
                    return None;
                }
            }
            Some(())
        });
    }
    let end = extents.count.min(call.done.saturating_add(steps(BUDGET)));
    let mut i = call.done;
    while i < end {
        // The list is read before the stage 2 is locked: reading it may walk the same one.
        let count = (end - i).min(BATCH as u64);
        let mut gfns = [None; BATCH];
        for (n, gfn) in (i..i + count).zip(&mut gfns) {
            *gfn = call.gfn(&extents, n);
        }
        let removed = remove(call, &extents.domain, gfns.into_iter().take(count as usize));
        i += removed;
        if removed < count {
            return Outcome::Return(i as i64);
        }
    }
    if i < extents.count { call.again(i) } else { Outcome::Return(i as i64) }
}

/// Gives up to [`BATCH`] guest frames up, as far as they are the domain's own RAM or pages the hypervisor shares with it; how many.
fn remove(call: &Call<'_, '_>, domain: &Domain, gfns: impl Iterator<Item = Option<Gfn>>) -> u64 {
    let mut removed: [Option<Mapping>; BATCH] = [None; BATCH];
    let mut edit = domain.p2m.edit(&call.hv.frames);
    let mut count = 0;
    for (gfn, slot) in gfns.zip(&mut removed) {
        let Some(gfn) = gfn else { break };
        if !edit.lookup(gfn).is_some_and(|m| m.kind.is_ram()) {
            break;
        }
        let Ok(mapping) = edit.unmap(gfn) else { break };
        *slot = mapping;
        count += 1;
    }
    drop(edit);
    for mapping in removed.into_iter().flatten() {
        if domain.direct_mapped {
            mapping.displace(&call.hv.frames, domain.vmid);
        } else {
            mapping.release(&call.hv.frames, domain.vmid);
        }
    }
    count
}

/// `XENMEM_exchange`: as in Xen on Arm no page can be taken from a domain, which it says of the first page that it should take.
pub(super) fn exchange(call: &Call<'_, '_>) -> Answer {
    let wanted = call.caller.memory.read(GuestPtr::<MemoryExchange>::new(call.arg))?;
    if wanted.input.extent_order.max(wanted.output.extent_order) > call.max_order() {
        return Err(Errno::EPERM);
    }
    let (give, get, done) = (&wanted.input, &wanted.output, wanted.nr_exchanged);
    let pages = |side: &MemoryReservation| {
        let fits = side.nr_extents <= u64::MAX >> side.extent_order;
        fits.then_some(side.nr_extents << side.extent_order)
    };
    if done > give.nr_extents || give.domid != get.domid || pages(give).is_none() || pages(give) != pages(get) {
        return Err(Errno::EINVAL);
    }
    let domain = call.target(give.domid)?;
    // So many extents make a larger one to get.
    let chunk = get.extent_order.saturating_sub(give.extent_order);
    if done >> chunk >= give.nr_extents >> chunk {
        return Ok(0);
    }
    let entry = give.extent_start.wrapping_add((done >> chunk << chunk).wrapping_mul(8));
    let gfn = Gfn(call.caller.memory.read(GuestPtr::<u64>::new(entry))?);
    let mfn = domain.p2m.get_own(&call.hv.frames, gfn, false).ok_or(Errno::EINVAL)?;
    call.hv.frames.put(mfn);
    Err(Errno::EOPNOTSUPP)
}

/// `XENMEM_claim_pages`, by the control domain for a domain it builds.
pub(super) fn claim(call: &Call<'_, '_>) -> Answer {
    let wanted = call.caller.memory.read(GuestPtr::<MemoryReservation>::new(call.arg))?;
    if wanted.extent_start != 0 || wanted.extent_order != 0 || wanted.mem_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = call.hv.domains.get(crate::addr::DomainId(wanted.domid)).ok_or(Errno::EINVAL)?;
    if !policy::may_control(call.caller.domain.subject()) {
        return Err(Errno::EPERM);
    }
    call.hv.frames.claim(domain.vmid, wanted.nr_extents).map(|()| 0).map_err(|error| match error {
        ClaimError::Invalid => Errno::EINVAL,
        ClaimError::NoMemory => Errno::ENOMEM,
    })
}

/// Pages a domain has or may have, or the highest guest frame it ever had mapped.
pub(super) fn statistic(call: &Call<'_, '_>) -> Answer {
    let wanted = call.caller.memory.read(GuestPtr::<MemoryDomain>::new(call.arg))?;
    let domain = call.target(wanted.domid)?;
    let account = call.hv.frames.account(domain.vmid);
    let number = match call.op {
        abi::XENMEM_CURRENT_RESERVATION => account.tot_pages(),
        abi::XENMEM_MAXIMUM_RESERVATION => account.max_pages(),
        _ => domain.p2m.max_gfn().0,
    };
    Ok(number as i64)
}
