//! The table itself: how large it is, where it is mapped, which version it speaks.

use super::{Call, Refused, status};
use crate::addr::Gfn;
use crate::domain::Domain;
use crate::guest_memory::GuestPtr;
use crate::hypercall::Answer;
use crate::policy;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::grant_table::{self as abi, GetStatusFrames, GetVersion, QuerySize, SetVersion, SetupTable};

/// The only version on Arm.
const VERSION: u32 = 1;

/// Tells where a frame is mapped that is mapped nowhere.
const NOWHERE: Gfn = Gfn(u64::MAX);

/// Grows the table to the number of frames asked for, and lists where they are mapped.
pub(super) fn setup_table(call: &Call<'_, '_>) -> Answer {
    call.single(|op: &mut SetupTable| {
        op.status = status(setup(call, op));
        Ok(0)
    })
}

fn setup(call: &Call<'_, '_>, op: &SetupTable) -> Result<(), Refused> {
    let domain = target(call, op.dom)?;
    call.hv.grow_grant_table(&domain, op.nr_frames)?;
    let list = GuestPtr::<u64>::new(op.frame_list);
    let mut result = Ok(());
    // The table has at least that many frames, and no more than its limit.
    for i in 0..op.nr_frames {
        let gfn = domain.grants.frame(i).and_then(|mfn| call.hv.frames.xen_gfn(mfn)).unwrap_or(NOWHERE);
        let written = list.offset(u64::from(i)).is_some_and(|at| call.caller.memory.write(at, &gfn.0).is_ok());
        if !written {
            result = Err(Refused(abi::GNTST_BAD_VIRT_ADDR));
        }
    }
    result
}

/// Tells how large the table is and may become.
pub(super) fn query_size(call: &Call<'_, '_>) -> Answer {
    call.single(|op: &mut QuerySize| {
        let domain = target(call, op.dom);
        if let Ok(domain) = &domain {
            op.nr_frames = domain.grants.frame_count();
            op.max_nr_frames = domain.grants.max_frames();
        }
        op.status = status(domain.map(|_| ()));
        Ok(0)
    })
}

/// Version 1 is in force and stays so.
pub(super) fn set_version(call: &Call<'_, '_>) -> Answer {
    call.first(|op: &mut SetVersion| {
        let answer = match op.version {
            VERSION => Ok(0),
            2 => Err(Errno::ENOSYS),
            _ => Err(Errno::EINVAL),
        };
        op.version = VERSION;
        answer
    })
}

/// Tells the version in force.
pub(super) fn get_version(call: &Call<'_, '_>) -> Answer {
    call.first(|op: &mut GetVersion| {
        let domain = call.domain(op.dom).ok_or(Errno::ESRCH)?;
        if !policy::may_target(call.caller.domain.subject(), domain.subject()) {
            return Err(Errno::EPERM);
        }
        op.version = VERSION;
        Ok(0)
    })
}

/// Version 2 only: there are no status frames to list.
pub(super) fn get_status_frames(call: &Call<'_, '_>) -> Answer {
    call.single(|op: &mut GetStatusFrames| {
        let none = if op.nr_frames == 0 { Ok(()) } else { Err(Refused(abi::GNTST_GENERAL_ERROR)) };
        op.status = status(target(call, op.dom).and(none));
        Ok(0)
    })
}

/// The domain whose table the caller wants to size.
fn target(call: &Call<'_, '_>, id: u16) -> Result<Arc<Domain>, Refused> {
    let domain = call.domain(id).ok_or(Refused(abi::GNTST_BAD_DOMAIN))?;
    if policy::may_target(call.caller.domain.subject(), domain.subject()) { Ok(domain) } else { Err(Refused(abi::GNTST_PERMISSION_DENIED)) }
}
