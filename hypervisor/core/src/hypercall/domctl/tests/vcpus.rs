//! Registers, affinity and state of a vCPU, as the toolstack sets and sees them.

use super::*;
use crate::hypercall::Outcome;
use crate::vcpu::INSPECTED;
use guest_abi::arch_arm::{self as arch, VcpuGuestContext};

/// Where the registers are in the caller's first page.
const REGISTERS: u64 = 0x400;

fn set(bed: &Testbed, dom0: &Arc<Domain>, vcpu: u32, registers: &VcpuGuestContext) -> i64 {
    bed.poke(dom0, Testbed::va(0, REGISTERS), core::slice::from_ref(registers));
    let wanted = abi::VcpuContext { vcpu, ctxt: Testbed::va(0, REGISTERS), ..Default::default() };
    domctl(bed, dom0, abi::XEN_DOMCTL_SETVCPUCONTEXT, 1, &wanted)
}

fn registers() -> VcpuGuestContext {
    let mut r = VcpuGuestContext { flags: arch::VGCF_ONLINE, sctlr: 0x30c5_0838, ttbcr: 2, ttbr0: 3, ttbr1: 4, ..Default::default() };
    r.user_regs.x = core::array::from_fn(|n| n as u64);
    r.user_regs.pc64 = 0x4008_0000;
    r.user_regs.cpsr = 0x1c5;
    r.user_regs.sp_el1 = 0x5000;
    r.user_regs.elr_el1 = 0x6000;
    r
}

#[test]
fn registers_come_back_as_they_were_set() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let wanted = registers();
    assert_eq!(set(&bed, &dom0, 0, &wanted), 0);
    bed.poke(&dom0, Testbed::va(0, REGISTERS), &[0_u8; size_of::<VcpuGuestContext>()]);
    let get = abi::VcpuContext { vcpu: 0, ctxt: Testbed::va(0, REGISTERS), ..Default::default() };
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_GETVCPUCONTEXT, 1, &get), 0);
    let got: VcpuGuestContext = bed.peek(&dom0, Testbed::va(0, REGISTERS), 1).remove(0);
    assert_eq!(got.as_bytes(), wanted.as_bytes());
}

#[test]
fn a_running_vcpu_stops_until_its_registers_are_read() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let get = abi::VcpuContext { vcpu: 0, ctxt: Testbed::va(0, REGISTERS), ..Default::default() };
    let none = abi::VcpuContext { vcpu: 1, ..get };
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_GETVCPUCONTEXT, 1, &none), Errno::EINVAL.to_return());
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_GETVCPUCONTEXT, 1, &get), Errno::ENODATA.to_return(), "never started");
    assert_eq!(set(&bed, &dom0, 0, &registers()), 0);
    let vcpu = guest.vcpu(0).unwrap();
    // Its CPU holds this as long as it runs.
    let loaded = vcpu.context.lock();
    let at = Testbed::va(0, CALL);
    let header = abi::Domctl {
        cmd: abi::XEN_DOMCTL_GETVCPUCONTEXT,
        interface_version: abi::XEN_DOMCTL_INTERFACE_VERSION,
        domain: 1,
        ..Default::default()
    };
    bed.poke(&dom0, at, &[header]);
    bed.poke(&dom0, at + abi::DOMCTL_PAYLOAD_OFFSET as u64, &[get]);
    let Outcome::Again(next) = bed.hvc(&dom0, hypercall::DOMCTL, [at, 0, 0, 0, 0]) else { panic!("it does not wait") };
    assert_ne!(vcpu.flags() & INSPECTED, 0);
    drop(loaded);
    assert_eq!(bed.hypercall(&dom0, hypercall::DOMCTL, next).0, 0);
    assert_eq!(vcpu.flags() & INSPECTED, 0);
}

#[test]
fn a_guest_is_not_started_where_it_must_not_run() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    for (what, cpsr) in
        [("EL2h", 0x3c9_u64), ("EL3h", 0x3cd), ("AArch32", 0x1d3), ("single step", 0x0020_01c5), ("illegal state", 0x0010_01c5)]
    {
        let mut wrong = registers();
        wrong.user_regs.cpsr = cpsr;
        assert_eq!(set(&bed, &dom0, 0, &wrong), Errno::EINVAL.to_return(), "{what}");
    }
    assert!(!guest.vcpu(0).unwrap().online());
    assert_eq!(set(&bed, &dom0, 1, &registers()), Errno::ENOENT.to_return());
    let own = abi::VcpuContext { vcpu: 0, ctxt: Testbed::va(0, REGISTERS), ..Default::default() };
    for cmd in [abi::XEN_DOMCTL_SETVCPUCONTEXT, abi::XEN_DOMCTL_GETVCPUCONTEXT] {
        assert_eq!(domctl(&bed, &dom0, cmd, 0, &own), Errno::EINVAL.to_return(), "its own");
    }
    let nowhere = abi::VcpuContext { vcpu: 0, ctxt: 8, ..Default::default() };
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_SETVCPUCONTEXT, 1, &nowhere), Errno::EFAULT.to_return());
}

#[test]
fn a_vcpu_goes_up_and_down() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let online = || guest.vcpu(0).unwrap().online();
    assert_eq!(set(&bed, &dom0, 0, &registers()), 0);
    assert!(online());
    assert_eq!(set(&bed, &dom0, 0, &VcpuGuestContext { flags: 0, ..registers() }), 0);
    assert!(!online());
    assert_eq!(set(&bed, &dom0, 0, &registers()), 0);
    let none = abi::VcpuContext { vcpu: 0, ctxt: 0, ..Default::default() };
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_SETVCPUCONTEXT, 1, &none), 0);
    assert!(!online(), "no registers: it is taken down");
}

#[test]
fn a_vcpu_is_described() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let ask = |vcpu| domctl(&bed, &dom0, abi::XEN_DOMCTL_GETVCPUINFO, 1, &abi::GetVcpuInfo { vcpu, ..Default::default() });
    assert_eq!(ask(0), 0);
    let told: abi::GetVcpuInfo = answer(&bed, &dom0);
    assert_eq!((told.online, told.running, told.cpu_time), (0, 0, 0));
    assert_eq!(ask(1), Errno::EINVAL.to_return());
}

#[test]
fn affinity_is_read_as_it_was_set() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _guest) = (bed.domain(0, 1), bed.domain(1, 1));
    bed.hv.sched.cpu_online(crate::addr::CpuId(0), 0);
    assert_eq!(pin(&bed, &dom0, 0, abi::XEN_VCPUAFFINITY_HARD, 1), 0);
    let map = XenctlBitmap { bitmap: Testbed::va(0, MAP), nr_bits: 8, ..Default::default() };
    let soft = XenctlBitmap { bitmap: Testbed::va(0, MAP + 8), nr_bits: 8, ..Default::default() };
    let both = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;
    let wanted = abi::VcpuAffinity { vcpu: 0, flags: both, cpumap_hard: map, cpumap_soft: soft };
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_GETVCPUAFFINITY, 1, &wanted), 0);
    assert_eq!(bed.peek::<u8>(&dom0, Testbed::va(0, MAP), 1), [1]);
    assert_eq!(bed.peek::<u8>(&dom0, Testbed::va(0, MAP + 8), 1), [0xff]);
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_GETNODEAFFINITY, 1, &abi::NodeAffinity { nodemap: map }), 0);
    assert_eq!(bed.peek::<u8>(&dom0, Testbed::va(0, MAP), 1), [1]);
}
