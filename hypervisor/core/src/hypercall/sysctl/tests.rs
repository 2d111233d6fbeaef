use crate::policy::Policy;
use crate::testbed::Testbed;
use guest_abi::sysctl as abi;
use guest_abi::xen::hypercall;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Makes a sysctl as Dom0; its answer.
fn sysctl<T: FromBytes + IntoBytes + Immutable>(bed: &Testbed, cmd: u32, payload: T) -> (i64, T) {
    let dom0 = bed.domain(0, 1);
    let at = Testbed::va(0, 0);
    bed.poke(&dom0, at, &[abi::Sysctl { cmd, interface_version: abi::XEN_SYSCTL_INTERFACE_VERSION }]);
    let payload_at = at + abi::SYSCTL_PAYLOAD_OFFSET as u64;
    bed.poke(&dom0, payload_at, &[payload]);
    let (result, _) = bed.hypercall(&dom0, hypercall::SYSCTL, [at, 0, 0, 0, 0]);
    (result, bed.peek(&dom0, payload_at, 1).remove(0))
}

#[test]
fn all_cpus_are_cores_of_one_socket() {
    let mut bed = Testbed::new(Policy::Silo);
    bed.hv.fixed.cpus = 4;
    let (result, info) = sysctl(&bed, abi::XEN_SYSCTL_PHYSINFO, abi::PhysInfo::default());
    assert_eq!((result, info.cores_per_socket, info.threads_per_core, info.nr_cpus, info.max_cpu_id), (0, 4, 1, 4, 3));
    assert_eq!(info.capabilities, abi::XEN_SYSCTL_PHYSCAP_HVM | abi::XEN_SYSCTL_PHYSCAP_HAP | abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1);
}
