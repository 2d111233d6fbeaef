//! What any domain may ask for.

use super::*;
use crate::addr::{CpuId, DomainId};
use crate::machine::fake::Asked;
use crate::policy::Policy;
use crate::vcpu::BLOCKED;
use guest_abi::errno::Errno;
use guest_abi::hvm::{self, HvmParam};
use guest_abi::sched as sched_abi;
use guest_abi::vcpu as vcpu_abi;
use guest_abi::version as version_abi;
use guest_abi::xen::{self, DOMID_SELF, hypercall};

const NOWHERE: u64 = 8;

#[test]
fn versions_are_told_in_full_to_dom0_alone() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let ask = |domain, cmd: u32| call(&bed, domain, hypercall::XEN_VERSION, cmd.into(), [0_u8; 16]);
    assert_eq!(ask(&guest, version_abi::XENVER_VERSION), 4 << 16 | 20);
    assert_eq!((ask(&guest, version_abi::XENVER_CHANGESET), text(&bed, &guest)), (0, b"".to_vec()));
    assert_eq!((ask(&dom0, version_abi::XENVER_CHANGESET), text(&bed, &dom0)), (0, b"".to_vec()));
    assert_eq!((ask(&guest, version_abi::XENVER_CAPABILITIES), text(&bed, &guest)), (0, b"xen-3.0-aarch64 ".to_vec()));
    assert_eq!((ask(&guest, version_abi::XENVER_COMMANDLINE), text(&bed, &guest)), (0, b"<denied>".to_vec()));
    bed.poke(&guest, Testbed::va(0, AT), &[0xa5_u8; 16]);
    assert_eq!(bed.hypercall(&guest, hypercall::XEN_VERSION, [version_abi::XENVER_COMMANDLINE.into(), Testbed::va(0, AT), 0, 0, 0]).0, 0);
    assert_eq!(bed.peek::<u8>(&guest, Testbed::va(0, AT) + 8, 2), [0, 0xa5], "as Xen, not the whole field");
    assert_eq!((ask(&guest, version_abi::XENVER_COMPILE_INFO), text(&bed, &guest)), (0, b"<denied>".to_vec()));
    assert_eq!((ask(&dom0, version_abi::XENVER_COMPILE_INFO), text(&bed, &dom0)), (0, b"".to_vec()));
    assert_eq!(ask(&guest, version_abi::XENVER_PLATFORM_PARAMETERS), 0);
    assert_eq!(ask(&guest, version_abi::XENVER_GUEST_HANDLE), 0);
    assert_eq!(ask(&guest, version_abi::XENVER_EXTRAVERSION), 0);
    for (cmd, dom0s) in
        [(version_abi::XENVER_BUILD_ID, Errno::ENODATA.to_return()), (version_abi::XENVER_COMMANDLINE2, Errno::EPERM.to_return())]
    {
        assert_eq!(ask(&guest, cmd), Errno::EPERM.to_return());
        if cmd == version_abi::XENVER_BUILD_ID {
            assert_eq!(ask(&dom0, cmd), dom0s);
        }
    }
    assert_eq!(ask(&guest, 15), Errno::ENOSYS.to_return());
    assert_eq!(bed.hypercall(&guest, hypercall::XEN_VERSION, [7, 0, 0, 0, 0]).0, 4096);
    assert_eq!(bed.hypercall(&guest, hypercall::XEN_VERSION, [7, 1, 0, 0, 0]).0, Errno::EINVAL.to_return());
    assert_eq!(bed.hypercall(&guest, hypercall::XEN_VERSION, [3, NOWHERE, 0, 0, 0]).0, Errno::EFAULT.to_return());
}

#[test]
fn features_tell_the_role() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let ask = |domain, submap_idx| {
        let result = call(&bed, domain, hypercall::XEN_VERSION, 6, version_abi::FeatureInfo { submap_idx, submap: 0 });
        (result, bed.peek::<version_abi::FeatureInfo>(domain, Testbed::va(0, AT), 1).remove(0).submap)
    };
    let (result, bits) = ask(&guest, 0);
    assert_eq!((result, bits & version_abi::Features::DOM0.bits()), (0, 0));
    assert_ne!(ask(&dom0, 0).1 & version_abi::Features::DOM0.bits(), 0);
    assert_eq!(ask(&guest, 1).0, Errno::EINVAL.to_return());
}

#[test]
fn a_variable_buffer_is_filled_if_it_is_large_enough() {
    let bed = Testbed::new(Policy::Silo);
    let guest = bed.domain(1, 1);
    let length = bed.hypercall(&guest, hypercall::XEN_VERSION, [12, 0, 0, 0, 0]).0;
    assert_eq!(length, 16);
    assert_eq!(call(&bed, &guest, hypercall::XEN_VERSION, 12, 15_u32), Errno::ENOBUFS.to_return());
    assert_eq!(call(&bed, &guest, hypercall::XEN_VERSION, 12, 16_u32), 16);
    assert_eq!(bed.peek::<u8>(&guest, Testbed::va(0, AT + 4), 16), b"xen-3.0-aarch64 ");
}

#[test]
fn parameters_are_set_by_the_toolstack_and_read_by_the_guest() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let hvm_op = |domain, cmd, domid, index, value| {
        let result = call(&bed, domain, hypercall::HVM_OP, cmd, HvmParam { domid, pad: 0, index, value });
        (result, bed.peek::<HvmParam>(domain, Testbed::va(0, AT), 1).remove(0).value)
    };
    let (set, get) = (hvm::HVMOP_SET_PARAM, hvm::HVMOP_GET_PARAM);
    let (eperm, einval) = (Errno::EPERM.to_return(), Errno::EINVAL.to_return());
    assert_eq!(hvm_op(&dom0, set, 1, hvm::HVM_PARAM_STORE_PFN, 0x39001).0, 0);
    assert_eq!(hvm_op(&guest, get, DOMID_SELF, hvm::HVM_PARAM_STORE_PFN, 0), (0, 0x39001));
    assert_eq!(hvm_op(&guest, get, 1, hvm::HVM_PARAM_STORE_PFN, 0), (0, 0x39001));
    assert_eq!(hvm_op(&guest, set, DOMID_SELF, hvm::HVM_PARAM_STORE_PFN, 7).0, eperm);
    assert_eq!(hvm_op(&dom0, set, DOMID_SELF, hvm::HVM_PARAM_STORE_PFN, 7).0, eperm, "nobody sets his own");
    assert_eq!(hvm_op(&guest, get, 0, hvm::HVM_PARAM_STORE_PFN, 0).0, eperm);
    assert_eq!(hvm_op(&guest, get, 55, hvm::HVM_PARAM_STORE_PFN, 0).0, Errno::ESRCH.to_return());
    assert_eq!(hvm_op(&guest, get, 1, hvm::HVM_PARAM_MONITOR_RING_PFN, 0).0, eperm);
    assert_eq!(hvm_op(&dom0, get, 1, hvm::HVM_PARAM_MONITOR_RING_PFN, 0).0, 0);
    for index in [3, 4, 5, 6, 38, 39, u32::MAX] {
        assert_eq!(hvm_op(&dom0, get, 1, index, 0).0, einval, "index {index}");
    }
    assert_eq!(hvm_op(&guest, 7, 1, 0, 0).0, Errno::ENOSYS.to_return());
    let request = |arg| bed.hypercall(&guest, hypercall::HVM_OP, [hvm::HVMOP_GUEST_REQUEST_VM_EVENT, arg, 0, 0, 0]).0;
    assert_eq!((request(0), request(1)), (0, einval));
    assert_eq!(bed.hypercall(&guest, hypercall::HVM_OP, [get, NOWHERE, 0, 0, 0]).0, Errno::EFAULT.to_return());
}

#[test]
fn a_vcpus_time_is_written_where_the_guest_wants_it_also_across_pages() {
    let bed = Testbed::new(Policy::Silo);
    let guest = bed.domain(1, 3);
    let vcpu = guest.vcpu(0).unwrap();
    let register = |at: u64| {
        bed.poke(&guest, Testbed::va(0, AT), &[at]);
        let cmd = vcpu_abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA;
        bed.hypercall(&guest, hypercall::VCPU_OP, [cmd.into(), 0, Testbed::va(0, AT), 0, 0]).0
    };
    let assist = |cmd: u32, kind: u32| bed.hypercall(&guest, hypercall::VM_ASSIST, [cmd.into(), kind.into(), 0, 0, 0]).0;
    let flag = xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;
    assert_eq!((assist(xen::VMASST_CMD_ENABLE, flag), assist(9, flag)), (0, Errno::ENOSYS.to_return()));
    assert_eq!(assist(xen::VMASST_CMD_ENABLE, flag + 1), Errno::EINVAL.to_return());
    for offset in [0, 4096 - 48, 4096 - 40, 4096 - 8] {
        let at = Testbed::va(1, offset);
        assert_eq!(register(at), 0);
        bed.machine.now.store(625_000 + offset, std::sync::atomic::Ordering::SeqCst);
        bed.hv.publish_runstate(&guest, vcpu);
        let info: vcpu_abi::RunstateInfo = bed.peek(&guest, at, 1).remove(0);
        assert_eq!(info.state, vcpu_abi::RUNSTATE_OFFLINE);
        assert_eq!(info.state_entry_time & vcpu_abi::XEN_RUNSTATE_UPDATE, 0, "the update is over");
        let [.., offline] = info.time;
        assert_eq!((info.state_entry_time, offline), (0, 0), "all its life");
    }
    assert_eq!((bed.references(bed.ram(&guest, 1)), bed.references(bed.ram(&guest, 2))), (2, 2));
    for at in [Testbed::va(2, 4096 - 8), NOWHERE] {
        assert_eq!(register(Testbed::va(1, 0)), 0);
        assert_eq!(register(at), 0, "as Xen: an area that is not there is not written");
        assert_eq!(bed.pages_in_use(), [], "nor is the old one");
        bed.hv.publish_runstate(&guest, vcpu);
    }
    assert_eq!(assist(xen::VMASST_CMD_DISABLE, flag), 0);
    assert_eq!(register(Testbed::va(1, 0)), 0);
    assert_eq!(bed.references(bed.ram(&guest, 2)), 1, "the old area is let go");
    let call = |cmd: u32, vcpu: u64| bed.hypercall(&guest, hypercall::VCPU_OP, [cmd.into(), vcpu, 0, 0, 0]).0;
    assert_eq!(call(vcpu_abi::VCPUOP_GET_RUNSTATE_INFO, 0), Errno::EINVAL.to_return());
    assert_eq!(call(vcpu_abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 1), Errno::ENOENT.to_return());
}

#[test]
fn a_vcpu_info_is_registered_once_and_only_where_it_fits() {
    let bed = Testbed::new(Policy::Silo);
    let guest = bed.domain(1, 2);
    let register = |mfn, offset| {
        let request = vcpu_abi::RegisterVcpuInfo { mfn, offset, rsvd: 0 };
        bed.poke(&guest, Testbed::va(0, AT), &[request]);
        let cmd = vcpu_abi::VCPUOP_REGISTER_VCPU_INFO;
        bed.hypercall(&guest, hypercall::VCPU_OP, [cmd.into(), 0, Testbed::va(0, AT), 0, 0]).0
    };
    let einval = Errno::EINVAL.to_return();
    let ram = crate::testbed::RAM + 1;
    for (mfn, offset) in [(ram, 4096), (ram, u32::MAX), (3, 0), (u64::MAX, 0)] {
        assert_eq!(register(mfn, offset), einval, "{mfn:#x} {offset:#x}");
    }
    assert_eq!(register(ram, 4095), Errno::ENXIO.to_return(), "it does not fit");
    assert!(bed.pages_in_use().is_empty());
    assert_eq!(register(ram, 64), 0);
    assert_eq!(register(ram, 128), Errno::EBUSY.to_return(), "only once");
    assert_eq!(bed.pages_in_use(), [bed.ram(&guest, 1)]);
}

#[test]
fn a_guest_stops_itself_with_a_reason() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let sched = |domain, cmd: u32, reason: u32| call(&bed, domain, hypercall::SCHED_OP, cmd.into(), sched_abi::Shutdown { reason });
    assert_eq!(sched(&guest, sched_abi::SCHEDOP_SHUTDOWN_CODE, 2), 0);
    assert_eq!(sched(&guest, sched_abi::SCHEDOP_SHUTDOWN_CODE, 1), 0, "the first stands");
    assert_eq!(sched(&guest, sched_abi::SCHEDOP_SHUTDOWN, 3), 0);
    assert_eq!(guest.life.lock().shutdown, Some(2));
    assert_eq!(sched(&guest, sched_abi::SCHEDOP_SHUTDOWN, 0), 0, "once is enough");
    assert_eq!(guest.life.lock().shutdown, Some(2));

    let other = bed.domain(2, 1);
    let remote = |caller, domain_id| {
        let request = sched_abi::RemoteShutdown { domain_id, reason: 3, ..Default::default() };
        call(&bed, caller, hypercall::SCHED_OP, sched_abi::SCHEDOP_REMOTE_SHUTDOWN.into(), request)
    };
    assert_eq!(remote(&guest, 2), Errno::EPERM.to_return());
    assert_eq!(remote(&dom0, 44), Errno::ESRCH.to_return());
    assert_eq!((remote(&dom0, 2), other.life.lock().shutdown), (0, Some(3)));
    assert_eq!(sched(&guest, sched_abi::SCHEDOP_PIN_OVERRIDE, 0), Errno::EPERM.to_return());
    assert_eq!(sched(&guest, 8, 0), Errno::ENOSYS.to_return());
}

#[test]
fn a_vcpu_waits_for_an_event_or_for_one_of_its_ports() {
    let bed = Testbed::new(Policy::Silo);
    let guest = bed.domain(1, 1);
    let vcpu = guest.vcpu(0).unwrap();
    bed.hv.sched.cpu_online(CpuId(0), 0);
    let sched = |cmd: u32, arg| bed.hypercall(&guest, hypercall::SCHED_OP, [cmd.into(), arg, 0, 0, 0]).0;
    assert_eq!(sched(sched_abi::SCHEDOP_YIELD, 0), 0);
    assert_eq!(bed.hv.sched.call(CpuId(0)).unwrap().take(), crate::sched::Asked::Schedule);
    assert_eq!(sched(sched_abi::SCHEDOP_BLOCK, 0), 0);
    assert_ne!(vcpu.flags() & BLOCKED, 0);
    bed.hv.notice(vcpu);
    assert_eq!(vcpu.flags() & BLOCKED, 0);

    let poll = |ports: &[u32], nr_ports, timeout| {
        bed.poke(&guest, Testbed::va(0, 0x200), ports);
        let request = sched_abi::Poll { ports: Testbed::va(0, 0x200), nr_ports, timeout, ..Default::default() };
        call(&bed, &guest, hypercall::SCHED_OP, sched_abi::SCHEDOP_POLL.into(), request)
    };
    assert_eq!(poll(&[], 129, 0), Errno::EINVAL.to_return());
    assert_eq!(poll(&[77_000], 1, 0), Errno::EINVAL.to_return(), "no such port");
    assert_eq!(vcpu.flags() & BLOCKED, 0, "a refusal does not block");
    let port = guest.events.alloc_unbound(bed.machine, DomainId(0)).unwrap();
    assert_eq!(poll(&[port], 1, 1_000_000), 0);
    assert_ne!(vcpu.flags() & BLOCKED, 0, "nothing is pending");
    vcpu.clear(BLOCKED);
    let nowhere = sched_abi::Poll { ports: NOWHERE, nr_ports: 1, ..Default::default() };
    assert_eq!(call(&bed, &guest, hypercall::SCHED_OP, sched_abi::SCHEDOP_POLL.into(), nowhere), Errno::EFAULT.to_return());
}

#[test]
fn a_watchdog_bites_when_its_time_has_come() {
    let bed = Testbed::new(Policy::Silo);
    let guest = bed.domain(1, 1);
    let set =
        |id, timeout| call(&bed, &guest, hypercall::SCHED_OP, sched_abi::SCHEDOP_WATCHDOG.into(), sched_abi::Watchdog { id, timeout });
    assert_eq!(set(0, 10), 1);
    bed.hv.check_watchdogs();
    assert_eq!(guest.life.lock().shutdown, None);
    bed.machine.now.store(11 * 62_500_000, std::sync::atomic::Ordering::SeqCst);
    bed.hv.check_watchdogs();
    assert_eq!(guest.life.lock().shutdown, Some(sched_abi::SHUTDOWN_WATCHDOG));
}

#[test]
fn the_console_is_dom0s() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let at = Testbed::va(0, AT);
    bed.poke(&dom0, at, &[b'x'; 1500]);
    let io = |domain, cmd, count, at| bed.hypercall(domain, hypercall::CONSOLE_IO, [cmd, count, at, 0, 0]);
    bed.machine.take_asked();
    assert_eq!(io(&dom0, 0, 1500, at), (0, 3), "in pieces, so that interrupts are taken");
    let printed: usize = bed.machine.take_asked().iter().map(|a| if let Asked::Console(bytes) = a { bytes.len() } else { 0 }).sum();
    assert_eq!(printed, 1500);
    assert_eq!(io(&dom0, 0, 1, NOWHERE).0, Errno::EFAULT.to_return());
    assert_eq!(io(&guest, 0, 1, at).0, Errno::EPERM.to_return());
    assert_eq!(io(&dom0, 2, 1, at).0, Errno::ENOSYS.to_return());
    bed.hv.console.lock().allocate();
    bed.hv.console_input(b'h');
    bed.hv.console_input(b'i');
    assert_eq!((io(&dom0, 1, 16, at).0, bed.peek::<u8>(&dom0, at, 2)), (2, b"hi".to_vec()));
    assert_eq!(io(&dom0, 1, 16, at).0, 0);
}

#[test]
fn what_arm_does_not_have_is_not_implemented() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    for number in [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 14, 15, 16, 19, 22, 23, 25, 26, 27, 28, 30, 31, 37, 39, 40, 48, 49, 50, 63, 1 << 32] {
        assert_eq!(bed.hypercall(&guest, number, [0; 5]).0, Errno::ENOSYS.to_return(), "{number}");
    }
    assert_eq!(bed.hypercall(&guest, hypercall::HYPFS_OP, [0; 5]).0, Errno::EPERM.to_return());
    assert_eq!(bed.hypercall(&dom0, hypercall::HYPFS_OP, [0; 5]).0, Errno::ENOSYS.to_return());
}
