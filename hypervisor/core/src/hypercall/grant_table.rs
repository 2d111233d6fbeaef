//! `grant_table_op`: grants are mapped, copied and sized here. Source: public/grant_table.h; the answers are those of Xen 4.20 on Arm.
//!
//! An operation of a list that fails says so in its own status; the hypercall itself fails only for a list that cannot be read and written.
//! This layer joins what [`crate::gnttab`] does not know: whose page a grant names (stage 2 of the granter, frame table) and where it is mapped.

mod cache;
mod copy;
mod map;
mod size;
#[cfg(test)]
mod tests;
mod unmap;

use super::{Answer, Caller, Outcome};
use crate::addr::DomainId;
use crate::domain::Domain;
use crate::gnttab::GrantError;
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::preempt::steps;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::grant_table as abi;
use guest_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Operations of a list done before the guest may take an interrupt.
const BUDGET: u32 = 64;

/// Bits of the command word below the place to go on from, which only `GNTTABOP_cache_flush` uses.
const CMD_BITS: u32 = 12;
const CMD_MASK: u32 = (1 << CMD_BITS) - 1;

/// Performs `count` operations of the list at `list`. `-EINVAL` for a count that is negative as a 32-bit number, `-EFAULT` for a list that is
/// not the caller's own RAM, `-ENOSYS` for an unknown command.
#[inline(never)]
pub fn grant_table_op(hv: &Hypervisor, caller: &Caller<'_>, cmd: u64, list: u64, count: u64) -> Outcome {
    let (cmd, count) = (cmd as u32, count as u32);
    let (op, progress) = (cmd & CMD_MASK, cmd & !CMD_MASK);
    if count > i32::MAX as u32 || (progress != 0 && op != abi::GNTTABOP_CACHE_FLUSH) {
        return Err(Errno::EINVAL).into();
    }
    let call = Call { hv, caller, op, list, count };
    match op {
        abi::GNTTABOP_MAP_GRANT_REF => map::map_grant_ref(&call),
        abi::GNTTABOP_UNMAP_GRANT_REF => unmap::unmap(&call, unmap::Replacement::Ignored),
        abi::GNTTABOP_UNMAP_AND_REPLACE => unmap::unmap(&call, unmap::Replacement::Refused),
        abi::GNTTABOP_COPY => copy::copy(&call),
        abi::GNTTABOP_SETUP_TABLE => size::setup_table(&call).into(),
        abi::GNTTABOP_QUERY_SIZE => size::query_size(&call).into(),
        abi::GNTTABOP_SET_VERSION => size::set_version(&call).into(),
        abi::GNTTABOP_GET_VERSION => size::get_version(&call).into(),
        abi::GNTTABOP_GET_STATUS_FRAMES => size::get_status_frames(&call).into(),
        abi::GNTTABOP_SWAP_GRANT_REF => call.each(BUDGET, 1, |op: &mut abi::SwapGrantRef| {
            op.status = status(caller.domain.grants.swap(hv.machine, op.ref_a, op.ref_b).map_err(Refused::from));
        }),
        // Pages cannot be given away on Arm.
        abi::GNTTABOP_TRANSFER => Err(Errno::EOPNOTSUPP).into(),
        abi::GNTTABOP_CACHE_FLUSH => cache::cache_flush(&call, progress),
        _ => Err(Errno::ENOSYS).into(),
    }
}

/// One hypercall.
struct Call<'a, 'm> {
    hv: &'a Hypervisor,
    caller: &'a Caller<'m>,
    op: u32,
    list: u64,
    count: u32,
}

/// Why an operation of a list is refused: its status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Refused(i16);

impl From<GrantError> for Refused {
    fn from(error: GrantError) -> Self {
        Self(error.status())
    }
}

fn status(result: Result<(), Refused>) -> i16 {
    match result {
        Ok(()) => abi::GNTST_OKAY,
        Err(Refused(status)) => status,
    }
}

impl Call<'_, '_> {
    fn at<T>(&self, index: u32) -> Result<GuestPtr<T>, Errno> {
        GuestPtr::new(self.list).offset(u64::from(index)).ok_or(Errno::EFAULT)
    }

    /// Performs up to `budget` operations: each is held, so that its answer can be written, before it is done. Up to `at_once` of them that lie
    /// in one page are held together: more than 1 only for operations that map nothing, for they could take away that page.
    fn each<T: FromBytes + IntoBytes + Immutable>(&self, budget: u32, at_once: u32, mut perform: impl FnMut(&mut T)) -> Outcome {
        let now = self.count.min(steps(budget));
        let mut done = 0;
        while done < now {
            let held = match self.at(done).and_then(|at| Ok(self.caller.memory.pin_some::<T>(at, at_once.min(now - done))?)) {
                Ok(held) => held,
                Err(error) => return Err(error).into(),
            };
            for n in 0..held.count() {
                let mut op = T::new_zeroed();
                held.read_nth(n, &mut op);
                perform(&mut op);
                held.write_nth(n, &op);
            }
            done += held.count();
        }
        self.after::<T>(now, 0)
    }

    /// The only operation of a list that must have one.
    fn single<T: FromBytes + IntoBytes + Immutable>(&self, perform: impl FnOnce(&mut T) -> Answer) -> Answer {
        if self.count != 1 {
            return Err(Errno::EINVAL);
        }
        self.first(perform)
    }

    /// The first operation; the count is not looked at.
    fn first<T: FromBytes + IntoBytes + Immutable>(&self, perform: impl FnOnce(&mut T) -> Answer) -> Answer {
        let held = self.caller.memory.pin::<T>(self.at(0)?)?;
        let mut op = held.read();
        let answer = perform(&mut op);
        held.write(&op);
        answer
    }

    /// What follows after `done` operations of type `T`.
    fn after<T>(&self, done: u32, progress: u32) -> Outcome {
        if done >= self.count {
            return Outcome::Return(0);
        }
        match self.at::<T>(done) {
            Ok(next) => {
                let left = u64::from(self.count) - u64::from(done);
                Outcome::Again([u64::from(self.op | progress), next.va().0, left, 0, 0])
            }
            Err(error) => Err(error).into(),
        }
    }

    /// The domain that `id` names for this caller.
    fn domain(&self, id: u16) -> Option<Arc<Domain>> {
        if id == DOMID_SELF || id == self.caller.domain.id.0 { Some(self.caller.domain.clone()) } else { self.hv.domains.get(DomainId(id)) }
    }

    fn may_share(&self, a: &Domain, b: &Domain) -> Result<(), Refused> {
        // The control domain may also copy between two others.
        let allowed = self.caller.domain.privileged || self.hv.policy.may_share(a.subject(), b.subject());
        if allowed { Ok(()) } else { Err(Refused(abi::GNTST_PERMISSION_DENIED)) }
    }
}

/// The domain that the operations of a list name, kept while it is the same one.
#[derive(Default)]
struct Peer(Option<(u16, Arc<Domain>)>);

impl Peer {
    fn find(&mut self, id: u16, find: impl FnOnce() -> Option<Arc<Domain>>) -> Result<&Arc<Domain>, Refused> {
        if self.0.as_ref().is_none_or(|(known, _)| *known != id) {
            self.0 = find().map(|domain| (id, domain));
        }
        self.0.as_ref().map(|(_, domain)| domain).ok_or(Refused(abi::GNTST_BAD_DOMAIN))
    }
}
