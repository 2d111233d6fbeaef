//! `domctl`: the toolstack's interface to one domain. Source: public/domctl.h, interface version 0x17.
//!
//! Each command's payload is a structure of its own behind the common header. It is read once; commands marked so in the header write it back.

use super::{Args, Caller, Outcome};
use crate::addr::DomainId;
use crate::domain::Domain;
use crate::guest_memory::{Fault, GuestPtr};
use crate::hypervisor::Hypervisor;
use crate::policy;
use alloc::sync::Arc;
use guest_abi::domctl::{self as abi, Domctl};
use guest_abi::errno::Errno;
use guest_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, Immutable, IntoBytes};

mod create;
mod devices;
mod info;
mod memory;
mod scheduler;
mod vcpu;
mod vuart;

#[cfg(test)]
mod tests;

pub use info::domain_info;
pub use vcpu::{read_bitmap, write_bitmap};

/// What a command answers: done, or to be continued.
pub enum Step {
    /// x0.
    Done(i64),
    /// Execute again.
    Again,
    /// Execute again, to see whether what was begun has come about.
    Wait,
}

/// The second argument of a call that waits; a number that no toolstack passes by chance.
const WAITS: u64 = 0x7761_6974;

/// One call: who, on what, and where its payload is.
pub struct Request<'a> {
    hv: &'a Hypervisor,
    caller: &'a Caller<'a>,
    at: u64,
    header: Domctl,
    /// It has begun before: see [`Step::Wait`].
    waits: bool,
}

impl Request<'_> {
    fn payload_at<T>(&self) -> Result<GuestPtr<T>, Errno> {
        self.at.checked_add(abi::DOMCTL_PAYLOAD_OFFSET as u64).map(GuestPtr::new).ok_or(Errno::EFAULT)
    }

    /// The payload, read once.
    fn payload<T: FromBytes + IntoBytes>(&self) -> Result<T, Errno> {
        Ok(self.caller.memory.read(self.payload_at()?)?)
    }

    /// Writes the payload back.
    fn reply<T: IntoBytes + Immutable>(&self, payload: &T) -> Result<(), Errno> {
        Ok(self.caller.memory.write(self.payload_at()?, payload)?)
    }

    /// Writes the header's domain field back.
    fn reply_domain(&self, domain: DomainId) -> Result<(), Errno> {
        let mut header = self.header;
        header.domain = domain.0;
        Ok(self.caller.memory.write(GuestPtr::new(self.at), &header)?)
    }
}

/// `-EACCES` wrong interface version, `-EPERM` unprivileged, `-ESRCH` no such domain, `-ENOSYS` unknown command.
#[inline(never)]
pub fn domctl(hv: &Hypervisor, caller: &Caller<'_>, args: &Args) -> Outcome {
    let [at, progress, ..] = *args;
    match header(hv, caller, at, progress == WAITS).and_then(|request| run(&request)) {
        Ok(Step::Done(value)) => Outcome::Return(value),
        Ok(Step::Again) => Outcome::Again(*args),
        Ok(Step::Wait) => Outcome::Again([at, WAITS, 0, 0, 0]),
        Err(error) => Err(error).into(),
    }
}

fn header<'a>(hv: &'a Hypervisor, caller: &'a Caller<'a>, at: u64, waits: bool) -> Result<Request<'a>, Errno> {
    let header = caller.memory.read(GuestPtr::<Domctl>::new(at)).map_err(|Fault| Errno::EFAULT)?;
    if header.interface_version != abi::XEN_DOMCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    if !policy::may_control(caller.domain.subject()) {
        // Xen looks for the domain first.
        let exists = header.cmd == abi::XEN_DOMCTL_CREATEDOMAIN || hv.domains.get(DomainId(header.domain)).is_some();
        return Err(if exists { Errno::EPERM } else { Errno::ESRCH });
    }
    Ok(Request { hv, caller, at, header, waits })
}

fn run(request: &Request<'_>) -> Result<Step, Errno> {
    if request.header.cmd == abi::XEN_DOMCTL_CREATEDOMAIN {
        return create::create(request).map(|()| Step::Done(0));
    }
    let id = match request.header.domain {
        DOMID_SELF => request.caller.domain.id,
        id => DomainId(id),
    };
    let domain = request.hv.domains.get(id).ok_or(Errno::ESRCH)?;
    match request.header.cmd {
        abi::XEN_DOMCTL_DESTROYDOMAIN => return create::destroy(request, &domain),
        abi::XEN_DOMCTL_PAUSEDOMAIN => return create::pause(request, &domain),
        abi::XEN_DOMCTL_GETVCPUCONTEXT => return vcpu::get_context(request, &domain),
        abi::XEN_DOMCTL_CACHEFLUSH => return memory::cache_flush(request, &domain),
        abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE => memory::set_pool(request, &domain),
        _ => simple(request, &domain),
    }
    .map(|()| Step::Done(0))
}

/// The commands that are done in one go.
fn simple(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    match request.header.cmd {
        abi::XEN_DOMCTL_UNPAUSEDOMAIN => create::unpause(request, domain),
        abi::XEN_DOMCTL_MAX_VCPUS => create::max_vcpus(request, domain),
        abi::XEN_DOMCTL_RESUMEDOMAIN => create::resume(request, domain),
        abi::XEN_DOMCTL_SETDOMAINHANDLE => create::set_handle(request, domain),
        abi::XEN_DOMCTL_SET_ADDRESS_SIZE => create::set_address_size(request, domain),
        abi::XEN_DOMCTL_GETDOMAININFO => info::get_domain_info(request, domain),
        abi::XEN_DOMCTL_GETVCPUINFO => info::get_vcpu_info(request, domain),
        abi::XEN_DOMCTL_SETVCPUCONTEXT => vcpu::set_context(request, domain),
        abi::XEN_DOMCTL_SETVCPUAFFINITY => vcpu::set_affinity(request, domain),
        abi::XEN_DOMCTL_GETVCPUAFFINITY => vcpu::get_affinity(request, domain),
        abi::XEN_DOMCTL_SETNODEAFFINITY => Ok(()),
        abi::XEN_DOMCTL_GETNODEAFFINITY => vcpu::get_node_affinity(request),
        abi::XEN_DOMCTL_SCHEDULER_OP => scheduler::scheduler_op(request, domain),
        abi::XEN_DOMCTL_MAX_MEM => memory::max_mem(request, domain),
        abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE => memory::get_pool(request, domain),
        abi::XEN_DOMCTL_IOMEM_PERMISSION => devices::iomem_permission(request, domain),
        abi::XEN_DOMCTL_VUART_OP => vuart::vuart_op(request, domain),
        abi::XEN_DOMCTL_MEMORY_MAPPING => devices::memory_mapping(request, domain),
        abi::XEN_DOMCTL_BIND_PT_IRQ => devices::bind(request, domain),
        abi::XEN_DOMCTL_UNBIND_PT_IRQ => devices::unbind(request, domain),
        // Neither an IOMMU nor cache colouring.
        abi::XEN_DOMCTL_ASSIGN_DEVICE
        | abi::XEN_DOMCTL_TEST_ASSIGN_DEVICE
        | abi::XEN_DOMCTL_DEASSIGN_DEVICE
        | abi::XEN_DOMCTL_SET_LLC_COLORS
        | abi::XEN_DOMCTL_VM_EVENT_OP => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOSYS),
    }
}
