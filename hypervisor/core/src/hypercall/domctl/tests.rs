mod devices;
mod life;
mod vcpus;
mod vuart;

use crate::addr::{Gfn, Mfn};
use crate::domain::Domain;
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::testbed::Testbed;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;
use guest_abi::xen::{XenctlBitmap, hypercall};
use std::sync::Arc;
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where the call's structure and its bitmap are in the caller's first page.
const CALL: u64 = 0;
const MAP: u64 = 0x800;

fn domctl<T: IntoBytes + Immutable + ?Sized>(bed: &Testbed, dom0: &Arc<Domain>, cmd: u32, domain: u16, payload: &T) -> i64 {
    let header = abi::Domctl { cmd, interface_version: abi::XEN_DOMCTL_INTERFACE_VERSION, domain, ..Default::default() };
    let at = Testbed::va(0, CALL);
    bed.poke(dom0, at, &[header]);
    bed.poke(dom0, at + abi::DOMCTL_PAYLOAD_OFFSET as u64, payload.as_bytes());
    bed.hypercall(dom0, hypercall::DOMCTL, [at, 0, 0, 0, 0]).0
}

/// The payload that a call has written back.
fn answer<T: FromBytes>(bed: &Testbed, dom0: &Arc<Domain>) -> T {
    bed.peek(dom0, Testbed::va(0, CALL) + abi::DOMCTL_PAYLOAD_OFFSET as u64, 1).remove(0)
}

fn pin(bed: &Testbed, dom0: &Arc<Domain>, vcpu: u32, flags: u32, cpus: u8) -> i64 {
    bed.poke(dom0, Testbed::va(0, MAP), &[cpus]);
    let map = XenctlBitmap { bitmap: Testbed::va(0, MAP), nr_bits: 8, ..Default::default() };
    let wanted = abi::VcpuAffinity { vcpu, flags, cpumap_hard: map, cpumap_soft: map };
    domctl(bed, dom0, abi::XEN_DOMCTL_SETVCPUAFFINITY, 1, &wanted)
}

#[test]
fn pinning_answers_as_xen() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _domain) = (bed.domain(0, 1), bed.domain(1, 1));
    bed.hv.sched.cpu_online(crate::addr::CpuId(0), 0);
    let einval = Errno::EINVAL.to_return();
    assert_eq!(pin(&bed, &dom0, 0, abi::XEN_VCPUAFFINITY_HARD, 1), 0);
    assert_eq!(pin(&bed, &dom0, 0, abi::XEN_VCPUAFFINITY_HARD, 2), einval, "no such CPU");
    assert_eq!(pin(&bed, &dom0, 9, abi::XEN_VCPUAFFINITY_HARD, 1), einval, "no such vCPU");
    assert_eq!(pin(&bed, &dom0, 0, 0, 1), einval, "nothing to set");
    assert_eq!(pin(&bed, &dom0, 0, abi::XEN_VCPUAFFINITY_SOFT, 2), 0, "out of reach, but it is only a wish");
    let effective: Vec<u8> = bed.peek(&dom0, Testbed::va(0, MAP), 1);
    assert_eq!(effective, [0]);
}
