//! `domctl` and `sysctl`, as the toolstack of Dom0 calls them.

use super::hypercall;
use guest_abi::domctl::{Domctl, XEN_DOMCTL_INTERFACE_VERSION};
use guest_abi::sysctl::{Sysctl, XEN_SYSCTL_INTERFACE_VERSION};
use guest_abi::xen::hypercall as nr;

/// A structure with a union behind its head: at least as large as with the largest member.
#[repr(C)]
struct WithUnion<H, T> {
    head: H,
    member: T,
    _rest: [u64; 16],
}

const _: () = assert!(core::mem::offset_of!(WithUnion<Domctl, u64>, member) == guest_abi::domctl::DOMCTL_PAYLOAD_OFFSET);
const _: () = assert!(core::mem::offset_of!(WithUnion<Sysctl, u64>, member) == guest_abi::sysctl::SYSCTL_PAYLOAD_OFFSET);

/// `domctl` `cmd` on `domain`, which it may change, as it may the member of the union.
pub fn domctl<T: Copy>(cmd: u32, domain: &mut u16, member: &mut T) -> i64 {
    domctl_of_version(XEN_DOMCTL_INTERFACE_VERSION, cmd, domain, member)
}

/// `domctl` by a toolstack of another version.
pub fn domctl_of_version<T: Copy>(version: u32, cmd: u32, domain: &mut u16, member: &mut T) -> i64 {
    let head = Domctl { cmd, interface_version: version, domain: *domain, ..Default::default() };
    let mut op = WithUnion { head, member: *member, _rest: [0; 16] };
    let rc = hypercall::raw(nr::DOMCTL, [hypercall::address(&mut op), 0, 0, 0, 0]);
    *domain = op.head.domain;
    *member = op.member;
    rc
}

/// `domctl` `cmd` without a member of the union.
pub fn domctl_plain(cmd: u32, domain: u16) -> i64 {
    domctl(cmd, &mut { domain }, &mut 0_u64)
}

/// `sysctl`.
pub fn sysctl<T: Copy>(cmd: u32, member: &mut T) -> i64 {
    sysctl_of_version(XEN_SYSCTL_INTERFACE_VERSION, cmd, member)
}

/// `sysctl` by a toolstack of another version.
pub fn sysctl_of_version<T: Copy>(version: u32, cmd: u32, member: &mut T) -> i64 {
    let mut op = WithUnion { head: Sysctl { cmd, interface_version: version }, member: *member, _rest: [0; 16] };
    let rc = hypercall::raw(nr::SYSCTL, [hypercall::address(&mut op), 0, 0, 0, 0]);
    *member = op.member;
    rc
}
