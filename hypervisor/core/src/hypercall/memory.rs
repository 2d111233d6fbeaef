//! `memory_op`: a domain's pages and what its addresses mean. Source: public/memory.h.
//!
//! The low 6 bits of the command are the operation, the rest how much of it is done: a long operation continues with a new command.

use super::{Answer, Caller, Outcome};
use crate::addr::DomainId;
use crate::domain::Domain;
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::p2m::P2mError;
use crate::policy;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::memory::{self as abi, ReservedDeviceMemoryMap};
use guest_abi::xen::DOMID_SELF;

mod physmap;
mod reservation;
mod resource;
#[cfg(test)]
mod tests;

/// Who calls, which operation, how much of it is done already, and where its argument is.
struct Call<'a, 'c> {
    hv: &'a Hypervisor,
    caller: &'a Caller<'c>,
    op: u64,
    done: u64,
    arg: u64,
}

/// Unknown operations, and those that Xen does not have on Arm, answer `-ENOSYS`.
#[inline(never)]
pub fn memory_op(hv: &Hypervisor, caller: &Caller<'_>, cmd: u64, arg: u64) -> Outcome {
    let (op, done) = (cmd & abi::MEMOP_CMD_MASK, cmd >> abi::MEMOP_EXTENT_SHIFT);
    let call = Call { hv, caller, op, done, arg };
    match op {
        abi::XENMEM_INCREASE_RESERVATION => reservation::increase(&call),
        abi::XENMEM_DECREASE_RESERVATION => reservation::decrease(&call),
        abi::XENMEM_POPULATE_PHYSMAP => reservation::populate(&call),
        abi::XENMEM_ADD_TO_PHYSMAP => physmap::add(&call).into(),
        abi::XENMEM_ADD_TO_PHYSMAP_BATCH => call.stepwise(physmap::add_batch(&call)),
        abi::XENMEM_ACQUIRE_RESOURCE => call.stepwise(resource::acquire(&call)),
        abi::XENMEM_GET_SHARING_FREED_PAGES | abi::XENMEM_GET_SHARING_SHARED_PAGES => Outcome::Return(0),
        _ => call.whole().into(),
    }
}

/// How an operation on a list ended.
enum Step {
    /// All of it is done.
    Done,
    /// It continues with this element.
    From(u64),
}

impl<'a> Call<'a, '_> {
    /// The operations that are done in one go, and so have no progress in their command.
    fn whole(&self) -> Answer {
        let known = matches!(
            self.op,
            abi::XENMEM_MAXIMUM_RAM_PAGE
                | abi::XENMEM_CURRENT_RESERVATION
                | abi::XENMEM_MAXIMUM_RESERVATION
                | abi::XENMEM_MAXIMUM_GPFN
                | abi::XENMEM_REMOVE_FROM_PHYSMAP
                | abi::XENMEM_CLAIM_PAGES
                | abi::XENMEM_GET_VNUMAINFO
                | abi::XENMEM_EXCHANGE
                | abi::XENMEM_RESERVED_DEVICE_MEMORY_MAP
        );
        if !known {
            return Err(Errno::ENOSYS);
        }
        if self.done != 0 {
            return Err(Errno::EINVAL);
        }
        match self.op {
            abi::XENMEM_MAXIMUM_RAM_PAGE => Ok(self.hv.fixed.max_mfn as i64 + 1),
            abi::XENMEM_REMOVE_FROM_PHYSMAP => physmap::remove(self),
            abi::XENMEM_CLAIM_PAGES => reservation::claim(self),
            abi::XENMEM_EXCHANGE => reservation::exchange(self),
            abi::XENMEM_RESERVED_DEVICE_MEMORY_MAP => self.reserved_device_memory(),
            abi::XENMEM_GET_VNUMAINFO => {
                // domid and a field that must be 0; no domain has a virtual NUMA topology.
                let [domid, pad]: [u16; 2] = self.caller.memory.read(GuestPtr::new(self.arg))?;
                if pad != 0 {
                    return Err(Errno::EINVAL);
                }
                self.target(domid)?;
                Err(Errno::EOPNOTSUPP)
            }
            _ => reservation::statistic(self),
        }
    }

    /// No device has memory reserved for it: the list is empty, whatever room the caller has.
    fn reserved_device_memory(&self) -> Answer {
        let at = GuestPtr::<ReservedDeviceMemoryMap>::new(self.arg);
        let mut map = self.caller.memory.read(at)?;
        if map.flags & !abi::XENMEM_RDM_ALL != 0 {
            return Err(Errno::EINVAL);
        }
        map.nr_entries = 0;
        self.caller.memory.write(at, &map)?;
        Ok(0)
    }

    fn stepwise(&self, result: Result<Step, Errno>) -> Outcome {
        match result {
            Ok(Step::Done) => Outcome::Return(0),
            Ok(Step::From(done)) => self.again(done),
            Err(error) => Err(error).into(),
        }
    }

    /// The same call, `done` elements on.
    fn again(&self, done: u64) -> Outcome {
        Outcome::Again([self.op | done << abi::MEMOP_EXTENT_SHIFT, self.arg, 0, 0, 0])
    }

    /// The domain of that id, `DOMID_SELF` included.
    fn domain(&self, id: u16) -> Option<Arc<Domain>> {
        if id == DOMID_SELF { Some(self.caller.domain.clone()) } else { self.hv.domains.get(DomainId(id)) }
    }

    /// The domain of that id, on which the caller may act.
    fn target(&self, id: u16) -> Result<Arc<Domain>, Errno> {
        let domain = self.domain(id).ok_or(Errno::ESRCH)?;
        if policy::may_target(self.caller.domain.subject(), domain.subject()) { Ok(domain) } else { Err(Errno::EPERM) }
    }
}

impl From<P2mError> for Errno {
    fn from(error: P2mError) -> Self {
        match error {
            P2mError::NoMemory => Self::ENOMEM,
            P2mError::Busy => Self::EBUSY,
            P2mError::BadFrame | P2mError::Occupied | P2mError::Dying => Self::EINVAL,
        }
    }
}
