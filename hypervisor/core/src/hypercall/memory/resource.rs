//! `XENMEM_acquire_resource`: pages that belong to a domain's state, mapped by whoever builds or serves it. On Arm, as Debian builds Xen,
//! that is the grant table.

use super::{Call, Step, physmap};
use crate::addr::{DomainId, Gfn};
use crate::guest_memory::GuestPtr;
use crate::p2m::P2mType;
use crate::policy;
use crate::preempt::steps;
use core::mem::offset_of;
use guest_abi::errno::Errno;
use guest_abi::memory::{self as abi, AcquireResource};

/// Frames mapped before the guest may take an interrupt.
const BUDGET: u64 = 32;
/// The largest number of frames whose progress fits beside the command.
const MAX_FRAMES: u64 = (u32::MAX >> abi::MEMOP_EXTENT_SHIFT) as u64;

/// With a null list and no frames: tells how many there are. Else maps frames at the caller's guest frames of the list.
pub(super) fn acquire(call: &Call<'_, '_>) -> Result<Step, Errno> {
    let at = GuestPtr::<AcquireResource>::new(call.arg);
    let wanted = call.caller.memory.read(at)?;
    let count = u64::from(wanted.nr_frames);
    if wanted.pad != 0 || wanted.frame.checked_add(count).is_none_or(|end| end > u32::MAX.into()) {
        return Err(Errno::EINVAL);
    }
    let domain = call.hv.domains.get(DomainId(wanted.domid)).ok_or(Errno::ESRCH)?;
    let caller = call.caller.domain;
    if domain.id == caller.id || !policy::may_target(caller.subject(), domain.subject()) {
        return Err(Errno::EPERM);
    }
    let entries = wanted.kind == abi::XENMEM_RESOURCE_GRANT_TABLE && wanted.id == abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED;
    if !entries {
        return Err(Errno::EINVAL);
    }
    if wanted.frame_list == 0 {
        if count != 0 {
            return Err(Errno::EINVAL);
        }
        let size = at.cast_at::<u32>(offset_of!(AcquireResource, nr_frames) as u64).ok_or(Errno::EFAULT)?;
        call.caller.memory.write(size, &domain.grants.max_frames())?;
        return Ok(Step::Done);
    }
    if call.done >= count || count > MAX_FRAMES {
        return Err(Errno::EINVAL);
    }

    let list = GuestPtr::<u64>::new(wanted.frame_list);
    let end = count.min(call.done + steps(BUDGET));
    // Grows the table at once to what is wanted.
    physmap::grant_frame(call, &domain, wanted.frame + end - 1)?;
    let mut gfns = [0u64; BUDGET as usize];
    for (i, gfn) in (call.done..end).zip(&mut gfns) {
        *gfn = call.caller.memory.read(list.offset(i).ok_or(Errno::EFAULT)?)?;
    }
    for (i, gfn) in (call.done..end).zip(gfns) {
        let mfn = physmap::grant_frame(call, &domain, wanted.frame + i)?;
        let mapped = physmap::map_foreign(call, caller, domain.vmid, mfn, Gfn(gfn), P2mType::MapForeignRw);
        // Only the first may say what went wrong.
        mapped.map_err(|error| if i > 0 { Errno::EIO } else { error })?;
    }
    Ok(if end < count { Step::From(end) } else { Step::Done })
}
