//! What a domain's addresses mean: pages of the hypervisor and of other domains come and go.

use super::{Call, Step};
use crate::addr::{DomainId, Gfn, Mfn, Vmid};
use crate::domain::Domain;
use crate::guest_memory::GuestPtr;
use crate::hypercall::Answer;
use crate::hypercall::sysctl::TRACE_OWNER;
use crate::p2m::P2mType;
use crate::policy;
use crate::preempt::steps;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::memory as abi;
use guest_abi::memory::{AddToPhysmap, AddToPhysmapBatch, RemoveFromPhysmap};
use guest_abi::xen::DOMID_XEN;

/// Entries of a batch mapped before the guest may take an interrupt.
const BUDGET: u64 = 64;
/// The frame number that means none.
const INVALID: u64 = u64::MAX;

/// `XENMEM_add_to_physmap`: one page of the hypervisor's.
pub(super) fn add(call: &Call<'_, '_>) -> Answer {
    if call.done > u16::MAX.into() {
        return Err(Errno::EDOM);
    }
    let wanted = call.caller.memory.read(GuestPtr::<AddToPhysmap>::new(call.arg))?;
    if wanted.space == abi::XENMAPSPACE_GMFN_FOREIGN {
        return Err(Errno::ENOSYS);
    }
    let domain = call.target(wanted.domid)?;
    if wanted.gpfn == INVALID {
        return Err(Errno::EINVAL);
    }
    if wanted.space == abi::XENMAPSPACE_GMFN_RANGE {
        return range(&wanted, call.done);
    }
    may_map_devices(&domain, wanted.space)?;
    add_one(call, &domain, wanted.space, wanted.idx, Gfn(wanted.gpfn), || Err(Errno::ESRCH))
}

/// Only Dom0 has the devices of the machine.
fn may_map_devices(domain: &Domain, space: u32) -> Result<(), Errno> {
    if space == abi::XENMAPSPACE_DEV_MMIO && !domain.privileged { Err(Errno::EACCES) } else { Ok(()) }
}

/// A range is checked, and then is not for Arm.
fn range(wanted: &AddToPhysmap, done: u64) -> Answer {
    let size = u64::from(wanted.size);
    if size < done {
        return Err(Errno::EILSEQ);
    }
    if wanted.gpfn.checked_add(size).is_none() || wanted.idx.checked_add(size).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if size == done { Ok(0) } else { Err(Errno::ENOSYS) }
}

/// `XENMEM_add_to_physmap_batch`: many pages, each with an answer of its own.
pub(super) fn add_batch(call: &Call<'_, '_>) -> Result<Step, Errno> {
    if call.done > u16::MAX.into() {
        return Err(Errno::EDOM);
    }
    let wanted = call.caller.memory.read(GuestPtr::<AddToPhysmapBatch>::new(call.arg))?;
    let space = u32::from(wanted.space);
    if space == abi::XENMAPSPACE_GMFN_RANGE {
        return Err(Errno::EOPNOTSUPP);
    }
    let domain = call.target(wanted.domid)?;
    may_map_devices(&domain, space)?;
    let size = u64::from(wanted.size);
    if size <= call.done {
        return if size == 0 && call.done == 0 { Ok(Step::Done) } else { Err(Errno::EILSEQ) };
    }
    if space == abi::XENMAPSPACE_DEV_MMIO && wanted.foreign_domid != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let owner = foreign_domain(call, wanted.foreign_domid);

    let (idxs, gpfns) = (GuestPtr::<u64>::new(wanted.idxs), GuestPtr::<u64>::new(wanted.gpfns));
    let errs = GuestPtr::<i32>::new(wanted.errs);
    let end = size.min(call.done + steps(BUDGET));
    for i in call.done..end {
        let idx = call.caller.memory.read(idxs.offset(i).ok_or(Errno::EFAULT)?)?;
        let gpfn = call.caller.memory.read(gpfns.offset(i).ok_or(Errno::EFAULT)?)?;
        let err = call.caller.memory.pin(errs.offset(i).ok_or(Errno::EFAULT)?)?;
        let added = match gpfn {
            INVALID => Err(Errno::EINVAL),
            _ if space == abi::XENMAPSPACE_GMFN_FOREIGN && wanted.foreign_domid == DOMID_XEN => {
                add_trace(call, &domain, Mfn(idx), Gfn(gpfn))
            }
            _ => add_one(call, &domain, space, idx, Gfn(gpfn), || owner.clone()),
        };
        err.write(&(added.unwrap_or_else(Errno::to_return) as i32));
    }
    Ok(if end < size { Step::From(end) } else { Step::Done })
}

/// Whose pages a foreign mapping shows. The caller's own id names nobody, and nor does DOMID_SELF.
fn foreign_domain(call: &Call<'_, '_>, id: u16) -> Result<Arc<Domain>, Errno> {
    call.hv.domains.get(DomainId(id)).filter(|owner| owner.id != call.caller.domain.id).ok_or(Errno::ESRCH)
}

fn add_one(
    call: &Call<'_, '_>,
    domain: &Domain,
    space: u32,
    idx: u64,
    gfn: Gfn,
    owner: impl FnOnce() -> Result<Arc<Domain>, Errno>,
) -> Answer {
    match space {
        abi::XENMAPSPACE_SHARED_INFO if idx == 0 => map(call, domain, gfn, domain.shared_info, P2mType::RamRw),
        abi::XENMAPSPACE_SHARED_INFO => Err(Errno::EINVAL),
        abi::XENMAPSPACE_GRANT_TABLE => {
            // Xen keeps the index in 32 bits.
            let frame = grant_frame(call, domain, idx & u64::from(u32::MAX))?;
            map(call, domain, gfn, frame, P2mType::RamRw)
        }
        abi::XENMAPSPACE_GMFN_FOREIGN => add_foreign(call, domain, &*owner()?, Gfn(idx), gfn),
        abi::XENMAPSPACE_DEV_MMIO => {
            // RAM is nobody's device: nothing happens, and that is no error.
            if call.hv.frames.info(Mfn(idx)).is_some() {
                return Ok(0);
            }
            map(call, domain, gfn, Mfn(idx), P2mType::MmioDirectC)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// A frame of the grant table, which grows as needed. There is no status table.
pub(super) fn grant_frame(call: &Call<'_, '_>, domain: &Domain, index: u64) -> Result<Mfn, Errno> {
    let index = u32::try_from(index).map_err(|_| Errno::EINVAL)?;
    let count = index.checked_add(1).ok_or(Errno::EINVAL)?;
    if domain.is_dying() {
        return Err(Errno::EINVAL);
    }
    call.hv.grow_grant_table(domain, count).map_err(|_| Errno::EINVAL)?;
    domain.grants.frame(index).ok_or(Errno::EINVAL)
}

/// Maps a page of `owner`, its RAM or one the hypervisor shares with it, into `domain`.
fn add_foreign(call: &Call<'_, '_>, domain: &Domain, owner: &Domain, from: Gfn, gfn: Gfn) -> Answer {
    if owner.id == domain.id {
        return Err(Errno::EINVAL);
    }
    if !policy::may_target(domain.subject(), owner.subject()) {
        return Err(Errno::EPERM);
    }
    let found = owner.p2m.lookup(from).filter(|m| m.kind.is_ram()).ok_or(Errno::EINVAL)?;
    let kind = if found.kind.write_permitted() { P2mType::MapForeignRw } else { P2mType::MapForeignRo };
    map_foreign(call, domain, owner.vmid, found.mfn, gfn, kind)
}

/// Maps a page of the trace into the control domain: what it may know of the hypervisor's own pages. The description is read-only.
fn add_trace(call: &Call<'_, '_>, domain: &Domain, mfn: Mfn, gfn: Gfn) -> Answer {
    if !domain.privileged {
        return Err(Errno::EPERM);
    }
    let kind = if call.hv.trace.is_info(mfn) { P2mType::MapForeignRo } else { P2mType::MapForeignRw };
    map_foreign(call, domain, TRACE_OWNER, mfn, gfn, kind)
}

/// Maps a page of `owner` into `domain`, with a reference to it.
pub(super) fn map_foreign(call: &Call<'_, '_>, domain: &Domain, owner: Vmid, mfn: Mfn, gfn: Gfn, kind: P2mType) -> Answer {
    // The owner may have lost the page since it was looked up: the reference is what counts.
    if !call.hv.frames.get(mfn, owner) {
        return Err(Errno::EINVAL);
    }
    map(call, domain, gfn, mfn, kind).inspect_err(|_| call.hv.frames.put(mfn))
}

fn map(call: &Call<'_, '_>, domain: &Domain, gfn: Gfn, mfn: Mfn, kind: P2mType) -> Answer {
    let mut edit = domain.p2m.edit(&call.hv.frames);
    let displaced = edit.map(gfn, mfn, 0, kind)?;
    drop(edit);
    if let Some(displaced) = displaced {
        displaced.displace(&call.hv.frames, domain.vmid);
    }
    Ok(0)
}

/// `XENMEM_remove_from_physmap`: own RAM, pages of the hypervisor, and foreign mappings; not grants and devices.
pub(super) fn remove(call: &Call<'_, '_>) -> Answer {
    let wanted = call.caller.memory.read(GuestPtr::<RemoveFromPhysmap>::new(call.arg))?;
    let domain = call.target(wanted.domid)?;
    let gfn = Gfn(wanted.gpfn);
    let mut edit = domain.p2m.edit(&call.hv.frames);
    let removable = edit.lookup(gfn).is_some_and(|m| m.kind.is_ram() || m.kind.is_foreign());
    if !removable {
        return Err(Errno::ENOENT);
    }
    let removed = edit.unmap(gfn)?;
    drop(edit);
    if let Some(removed) = removed {
        // RAM stays the domain's own, mapped nowhere.
        removed.displace(&call.hv.frames, domain.vmid);
    }
    Ok(0)
}
