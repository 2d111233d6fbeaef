//! What the control domain asks of the machine: sysctl, platform_op, debug keys.

use super::*;
use crate::addr::CpuId;
use crate::policy::Policy;
use guest_abi::domctl::GetDomainInfo;
use guest_abi::errno::Errno;
use guest_abi::platform::{self, PlatformOp};
use guest_abi::sysctl as abi;
use guest_abi::xen::{XenctlBitmap, hypercall};
use zerocopy::FromBytes;

/// Where a sysctl's buffer is.
const BUFFER: u64 = 0x400;

fn sysctl<T: FromBytes + IntoBytes + Immutable>(bed: &Testbed, caller: &Arc<Domain>, cmd: u32, payload: T) -> (i64, T) {
    let at = Testbed::va(0, 0);
    bed.poke(caller, at, &[abi::Sysctl { cmd, interface_version: abi::XEN_SYSCTL_INTERFACE_VERSION }]);
    let payload_at = at + abi::SYSCTL_PAYLOAD_OFFSET as u64;
    bed.poke(caller, payload_at, &[payload]);
    let (result, _) = bed.hypercall(caller, hypercall::SYSCTL, [at, 0, 0, 0, 0]);
    (result, bed.peek(caller, payload_at, 1).remove(0))
}

#[test]
fn the_machine_is_described() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    bed.hv.sched.cpu_online(CpuId(0), 0);
    let buffer = Testbed::va(0, BUFFER);
    assert_eq!(sysctl(&bed, &guest, abi::XEN_SYSCTL_PHYSINFO, abi::PhysInfo::default()).0, Errno::EPERM.to_return());
    assert_eq!(sysctl(&bed, &dom0, 999, 0_u32).0, Errno::ENOSYS.to_return());
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_COVERAGE_OP, 0_u32).0, Errno::EOPNOTSUPP.to_return());
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_SCHED_ID, abi::SchedId { sched_id: 0 }).1.sched_id, 6);
    let heap = sysctl(&bed, &dom0, abi::XEN_SYSCTL_AVAILHEAP, abi::AvailHeap::default()).1;
    assert_eq!(heap.avail_bytes, bed.hv.frames.free_pages() * 4096);

    let cpus = abi::GetCpuInfo { max_cpus: 8, info: buffer, ..Default::default() };
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_GETCPUINFO, cpus).1.nr_cpus, 1);
    let none = abi::CpuTopoInfo { num_cpus: 9, cputopo: 0, ..Default::default() };
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_CPUTOPOINFO, none).1.num_cpus, 1);
    let some = abi::CpuTopoInfo { num_cpus: 9, cputopo: buffer, ..Default::default() };
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_CPUTOPOINFO, some).1.num_cpus, 1);
    let nodes = abi::NumaInfo { num_nodes: 9, meminfo: buffer, distance: buffer + 64, ..Default::default() };
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_NUMAINFO, nodes).1.num_nodes, 1);
    let memory: abi::MemInfo = bed.peek(&dom0, buffer, 1).remove(0);
    assert_eq!(memory.memsize, 1024 * 4096);
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_NUMAINFO, abi::NumaInfo::default()).1.num_nodes, 1);
}

#[test]
fn domains_are_listed_from_where_the_tools_ask() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    let _guests: Vec<_> = [3, 7, 9].map(|id| bed.domain(id, 1)).into();
    let list = |first_domain, max_domains, buffer| {
        let op = abi::GetDomainInfoList { first_domain, max_domains, buffer, ..Default::default() };
        let (result, op) = sysctl(&bed, &dom0, abi::XEN_SYSCTL_GETDOMAININFOLIST, op);
        (result, op.num_domains)
    };
    let buffer = Testbed::va(0, BUFFER);
    assert_eq!(list(0, 10, buffer), (0, 4));
    let ids: Vec<u16> = bed.peek::<GetDomainInfo>(&dom0, buffer, 4).iter().map(|info| info.domain).collect();
    assert_eq!(ids, [0, 3, 7, 9]);
    assert_eq!(list(4, 1, buffer), (0, 1));
    assert_eq!(bed.peek::<GetDomainInfo>(&dom0, buffer, 1).remove(0).domain, 7);
    assert_eq!(list(10, 10, buffer), (0, 0));
    assert_eq!(list(0, 1, 8).0, Errno::EFAULT.to_return());
}

#[test]
fn there_is_one_pool_of_cpus() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _guest) = (bed.domain(0, 1), bed.domain(1, 1));
    bed.hv.sched.cpu_online(CpuId(0), 0);
    let op = |op, cpupool_id, domid| {
        let cpumap = XenctlBitmap { bitmap: Testbed::va(0, BUFFER), nr_bits: 8, ..Default::default() };
        sysctl(&bed, &dom0, abi::XEN_SYSCTL_CPUPOOL_OP, abi::CpupoolOp { op, cpupool_id, domid, cpumap, ..Default::default() })
    };
    let (result, pool) = op(abi::XEN_SYSCTL_CPUPOOL_OP_INFO, 0, 0);
    assert_eq!((result, pool.n_dom, bed.peek::<u8>(&dom0, Testbed::va(0, BUFFER), 1)), (0, 2, [1].to_vec()));
    assert_eq!(op(abi::XEN_SYSCTL_CPUPOOL_OP_INFO, 1, 0).0, Errno::ENOENT.to_return());
    assert_eq!(op(abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0, 0).0, 0);
    assert_eq!(bed.peek::<u8>(&dom0, Testbed::va(0, BUFFER), 1), [0]);
    assert_eq!(op(abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 0, 1).0, 0);
    assert_eq!(op(abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 0, 5).0, Errno::ESRCH.to_return());
    assert_eq!(op(abi::XEN_SYSCTL_CPUPOOL_OP_CREATE, 0, 0).0, Errno::EOPNOTSUPP.to_return());
}

#[test]
fn the_rate_limit_is_read_and_set_within_bounds() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    let op = |cmd, ratelimit_us, sched_id, cpupool_id| {
        let op = abi::SchedulerOp { cpupool_id, sched_id, cmd, ratelimit_us, ..Default::default() };
        let (result, op) = sysctl(&bed, &dom0, abi::XEN_SYSCTL_SCHEDULER_OP, op);
        (result, op.ratelimit_us)
    };
    let (put, get) = (abi::XEN_SYSCTL_SCHEDOP_PUTINFO, abi::XEN_SYSCTL_SCHEDOP_GETINFO);
    for (us, result) in [(99, Errno::EINVAL.to_return()), (100, 0), (500_000, 0), (500_001, Errno::EINVAL.to_return()), (0, 0), (1000, 0)] {
        assert_eq!(op(put, us, 6, 0).0, result, "{us}");
    }
    assert_eq!(op(get, 0, 6, 0), (0, 1000));
    assert_eq!(op(get, 0, 5, 0).0, Errno::EINVAL.to_return());
    assert_eq!(op(get, 0, 6, 1).0, Errno::ESRCH.to_return());
    assert_eq!(op(7, 0, 6, 0).0, Errno::EINVAL.to_return());
}

#[test]
fn the_console_ring_is_read_to_its_end() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    bed.hv.console.lock().allocate();
    bed.hv.console.lock().write(&[b'y'; 1500]);
    let read = |count, buffer, incremental, index, clear| {
        let op = abi::ReadConsole { clear, incremental, index, buffer, count, ..Default::default() };
        let (result, op) = sysctl(&bed, &dom0, abi::XEN_SYSCTL_READCONSOLE, op);
        (result, op.count, op.index)
    };
    let buffer = Testbed::va(0, BUFFER);
    let (result, count, index) = read(1400, buffer, 0, 0, 0);
    assert_eq!((result, count), (0, 1400));
    assert_eq!(read(1400, buffer, 1, index, 0).1, 100);
    assert_eq!(read(1, 8, 0, 0, 0).0, Errno::EFAULT.to_return());
    assert_eq!(read(0, buffer, 0, 0, 1).0, 0);
    assert_eq!(read(1400, buffer, 0, 0, 0).1, 0, "cleared");
}

#[test]
fn every_debug_key_is_harmless() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 2), bed.domain(1, 1));
    guest.events.alloc_unbound(bed.machine, dom0.id).unwrap();
    let keys: Vec<u8> = (0..=255).collect();
    for keys in keys.chunks(32) {
        bed.poke(&dom0, Testbed::va(1, 0), keys);
        let op = abi::DebugKeys { keys: Testbed::va(1, 0), nr_keys: 32, ..Default::default() };
        assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_DEBUG_KEYS, op).0, 0);
    }
    let nowhere = abi::DebugKeys { keys: 8, nr_keys: 1, ..Default::default() };
    assert_eq!(sysctl(&bed, &dom0, abi::XEN_SYSCTL_DEBUG_KEYS, nowhere).0, Errno::EFAULT.to_return());
}

#[test]
fn dom0_sets_the_wall_clock_of_all() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let settime = |caller: &Arc<Domain>, change: fn(&mut PlatformOp)| {
        let mut op = PlatformOp {
            cmd: platform::XENPF_SETTIME64,
            interface_version: platform::XENPF_INTERFACE_VERSION,
            secs: 1_700_000_000,
            ..Default::default()
        };
        change(&mut op);
        bed.poke(caller, Testbed::va(0, 0), &[op]);
        bed.hypercall(caller, hypercall::PLATFORM_OP, [Testbed::va(0, 0), 0, 0, 0, 0]).0
    };
    assert_eq!(settime(&guest, |_| {}), Errno::EPERM.to_return());
    assert_eq!(settime(&dom0, |op| op.interface_version = 1), Errno::EACCES.to_return());
    assert_eq!(settime(&dom0, |op| op.cmd = 1), Errno::ENOSYS.to_return());
    assert_eq!(settime(&dom0, |op| op.mbz = 1), Errno::EINVAL.to_return());
    assert_eq!(settime(&dom0, |_| {}), 0);
    let mut seconds = [0; 4];
    crate::machine::Machine::read(bed.machine, crate::addr::MachineAddr(guest.shared_info.address().0 + 1076), &mut seconds);
    assert_eq!(u32::from_le_bytes(seconds), 1_700_000_000);
}
