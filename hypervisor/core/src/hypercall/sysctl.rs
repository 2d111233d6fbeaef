//! `sysctl`: the toolstack's interface to the machine. Source: public/sysctl.h, interface version 0x15.

use super::domctl::{domain_info, write_bitmap};
use super::{Caller, Outcome};
use crate::addr::{CpuId, DomainId, PAGE_SIZE};
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::policy;
use guest_abi::domctl::{GetDomainInfo, XEN_SCHEDULER_CREDIT2};
use guest_abi::errno::Errno;
use guest_abi::sysctl::{self as abi, Sysctl};
use zerocopy::{FromBytes, Immutable, IntoBytes};

mod cpupool;
mod debug_keys;
mod tbuf;
pub use debug_keys::press;
pub use tbuf::OWNER as TRACE_OWNER;

#[cfg(test)]
mod tests;

/// One call: who, and where its payload is.
pub struct Request<'a> {
    hv: &'a Hypervisor,
    caller: &'a Caller<'a>,
    at: u64,
}

impl Request<'_> {
    fn payload_at<T>(&self) -> Result<GuestPtr<T>, Errno> {
        self.at.checked_add(abi::SYSCTL_PAYLOAD_OFFSET as u64).map(GuestPtr::new).ok_or(Errno::EFAULT)
    }

    fn payload<T: FromBytes + IntoBytes>(&self) -> Result<T, Errno> {
        Ok(self.caller.memory.read(self.payload_at()?)?)
    }

    fn reply<T: IntoBytes + Immutable>(&self, payload: &T) -> Result<(), Errno> {
        Ok(self.caller.memory.write(self.payload_at()?, payload)?)
    }
}

/// `-EACCES` wrong interface version, `-EPERM` unprivileged, `-ENOSYS` unknown command.
#[inline(never)]
pub fn sysctl(hv: &Hypervisor, caller: &Caller<'_>, at: u64) -> Outcome {
    let run = || {
        let header = caller.memory.read(GuestPtr::<Sysctl>::new(at))?;
        if header.interface_version != abi::XEN_SYSCTL_INTERFACE_VERSION {
            return Err(Errno::EACCES);
        }
        if !policy::may_control(caller.domain.subject()) {
            return Err(Errno::EPERM);
        }
        command(&Request { hv, caller, at }, header.cmd)
    };
    run().map(|()| 0).into()
}

fn command(request: &Request<'_>, cmd: u32) -> Result<(), Errno> {
    match cmd {
        abi::XEN_SYSCTL_READCONSOLE => read_console(request),
        abi::XEN_SYSCTL_TBUF_OP => tbuf::tbuf_op(request),
        abi::XEN_SYSCTL_PHYSINFO => physinfo(request),
        abi::XEN_SYSCTL_SCHED_ID => request.reply(&abi::SchedId { sched_id: XEN_SCHEDULER_CREDIT2 }),
        abi::XEN_SYSCTL_GETDOMAININFOLIST => domain_info_list(request),
        abi::XEN_SYSCTL_DEBUG_KEYS => debug_keys::debug_keys(request),
        abi::XEN_SYSCTL_GETCPUINFO => cpu_info(request),
        abi::XEN_SYSCTL_AVAILHEAP => avail_heap(request),
        abi::XEN_SYSCTL_CPUTOPOINFO => cpu_topology(request),
        abi::XEN_SYSCTL_NUMAINFO => numa_info(request),
        abi::XEN_SYSCTL_CPUPOOL_OP => cpupool::cpupool_op(request),
        abi::XEN_SYSCTL_SCHEDULER_OP => scheduler_op(request),
        // Not built with coverage.
        abi::XEN_SYSCTL_COVERAGE_OP => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOSYS),
    }
}

/// Bytes of the console ring copied in one call; the tools call until they get none.
const CONSOLE_CHUNK: usize = 1024;

fn read_console(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::ReadConsole = request.payload()?;
    let mut index = (op.incremental != 0).then_some(op.index);
    let (mut copied, mut bytes) = (0_u32, [0; CONSOLE_CHUNK]);
    let buffer = GuestPtr::<u8>::new(op.buffer);
    while copied < op.count {
        let wanted = ((op.count - copied) as usize).min(bytes.len());
        // The bytes leave the ring's lock before they go to the guest.
        let (n, next) = request.hv.console.lock().read(index, bytes.get_mut(..wanted).unwrap_or_default());
        if n == 0 {
            break;
        }
        let at = buffer.offset(u64::from(copied)).ok_or(Errno::EFAULT)?;
        request.caller.memory.write_bytes(at.va(), bytes.get(..n).unwrap_or_default())?;
        copied += n as u32;
        index = Some(next);
        if copied as usize >= crate::console::RING_SIZE {
            break;
        }
    }
    if let Some(next) = index {
        op.index = next;
    }
    if op.clear != 0 {
        request.hv.console.lock().clear();
    }
    op.count = copied;
    request.reply(&op)
}

fn physinfo(request: &Request<'_>) -> Result<(), Errno> {
    let hv = request.hv;
    let cpus = u32::from(hv.fixed.cpus);
    request.reply(&abi::PhysInfo {
        threads_per_core: 1,
        // As Xen counts on Arm: all CPUs are siblings in one socket.
        cores_per_socket: cpus,
        nr_cpus: cpus,
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: u32::try_from(hv.machine.frequency() / 1000).unwrap_or(u32::MAX),
        capabilities: abi::XEN_SYSCTL_PHYSCAP_HVM | abi::XEN_SYSCTL_PHYSCAP_HAP | abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
        total_pages: hv.frames.total_pages(),
        free_pages: hv.frames.free_pages(),
        max_mfn: hv.fixed.max_mfn,
        ..Default::default()
    })
}

/// Domains reported before the tools have to ask again.
const LIST_BUDGET: u32 = 1024;

fn domain_info_list(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::GetDomainInfoList = request.payload()?;
    let buffer = GuestPtr::<GetDomainInfo>::new(op.buffer);
    let mut next = DomainId(op.first_domain);
    op.num_domains = 0;
    while op.num_domains < op.max_domains.min(LIST_BUDGET) {
        let Some(domain) = request.hv.domains.at_or_after(next) else { break };
        let at = buffer.offset(op.num_domains.into()).ok_or(Errno::EFAULT)?;
        request.caller.memory.write(at, &domain_info(request.hv, &domain))?;
        op.num_domains += 1;
        next = DomainId(domain.id.0 + 1);
    }
    request.reply(&op)
}

fn cpu_info(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::GetCpuInfo = request.payload()?;
    let count = op.max_cpus.min(u32::from(request.hv.fixed.cpus));
    let now = request.hv.now();
    for cpu in 0..count as u8 {
        let idletime = request.hv.sched.idle_time(CpuId(cpu), now).unwrap_or(0);
        let at = GuestPtr::<abi::CpuInfo>::new(op.info).offset(cpu.into()).ok_or(Errno::EFAULT)?;
        request.caller.memory.write(at, &abi::CpuInfo { idletime })?;
    }
    op.nr_cpus = count;
    request.reply(&op)
}

fn avail_heap(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::AvailHeap = request.payload()?;
    op.avail_bytes = request.hv.free_bytes();
    request.reply(&op)
}

fn cpu_topology(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::CpuTopoInfo = request.payload()?;
    let cpus = u32::from(request.hv.fixed.cpus);
    if op.cputopo != 0 {
        let count = op.num_cpus.min(cpus);
        for cpu in 0..count {
            let at = GuestPtr::<abi::CpuTopo>::new(op.cputopo).offset(cpu.into()).ok_or(Errno::EFAULT)?;
            request.caller.memory.write(at, &abi::CpuTopo { core: 0, socket: 0, node: 0 })?;
        }
        op.num_cpus = count;
    } else {
        op.num_cpus = cpus;
    }
    request.reply(&op)
}

/// Distance of the node to itself: what Xen answers where there is no NUMA.
const NODE_DISTANCE: u32 = 20;

/// One node with all memory.
fn numa_info(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::NumaInfo = request.payload()?;
    if op.meminfo != 0 || op.distance != 0 {
        op.num_nodes = op.num_nodes.min(1);
        if op.num_nodes == 1 && op.meminfo != 0 {
            let info = abi::MemInfo { memsize: request.hv.frames.total_pages() * PAGE_SIZE, memfree: request.hv.free_bytes() };
            request.caller.memory.write(GuestPtr::new(op.meminfo), &info)?;
        }
        if op.num_nodes == 1 && op.distance != 0 {
            request.caller.memory.write(GuestPtr::new(op.distance), &NODE_DISTANCE)?;
        }
    } else {
        op.num_nodes = 1;
    }
    request.reply(&op)
}

fn scheduler_op(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: abi::SchedulerOp = request.payload()?;
    if op.cpupool_id != 0 {
        return Err(Errno::ESRCH);
    }
    if op.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    match op.cmd {
        abi::XEN_SYSCTL_SCHEDOP_PUTINFO => {
            if op.ratelimit_us != 0 && !(100..=500_000).contains(&op.ratelimit_us) {
                return Err(Errno::EINVAL);
            }
            match (request.hv.sched.ratelimit_us(), op.ratelimit_us) {
                (0, 1..) => log::info!("Enabling context switch rate limiting"),
                (1.., 0) => log::info!("Disabling context switch rate limiting"),
                _ => {}
            }
            request.hv.sched.set_ratelimit_us(op.ratelimit_us);
        }
        abi::XEN_SYSCTL_SCHEDOP_GETINFO => {}
        _ => return Err(Errno::EINVAL),
    }
    op.ratelimit_us = request.hv.sched.ratelimit_us();
    request.reply(&op)
}

/// Writes a CPU set into a tool's bitmap.
fn reply_cpus(request: &Request<'_>, map: &guest_abi::xen::XenctlBitmap, cpus: u64) -> Result<(), Errno> {
    write_bitmap(request.caller, map, cpus)
}
