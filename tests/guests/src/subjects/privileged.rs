//! What only the toolstack may call, called by a DomU.

use crate::runtime::page::Page;
use crate::runtime::{hypercall, unmapped};
use crate::verdict::Test;
use guest_abi::{domctl::XEN_DOMCTL_INTERFACE_VERSION, sysctl::XEN_SYSCTL_INTERFACE_VERSION, xen::hypercall::*};

pub fn run(test: &mut Test) {
    let page = Page::take();
    // cmd, interface version, domain; the rest zero.
    let call = |number: u64, cmd: u32, version: u32, domain: u16| {
        page.fill(0);
        page.write32(0, cmd);
        page.write32(4, version);
        page.write16(8, domain);
        hypercall::raw(number, [page.address(), 0, 0, 0, 0])
    };
    for cmd in 0..=90 {
        for domain in [0, 1, 0x7ff0] {
            let rc = call(DOMCTL, cmd, XEN_DOMCTL_INTERFACE_VERSION, domain);
            test.rc(format_args!("domctl({cmd},dom={domain:#x})"), rc);
        }
    }
    for cmd in 0..=32 {
        test.rc(format_args!("sysctl({cmd})"), call(SYSCTL, cmd, XEN_SYSCTL_INTERFACE_VERSION, 0));
    }
    for cmd in (0..=4).chain(50..=65) {
        test.rc(format_args!("platform({cmd})"), call(PLATFORM_OP, cmd, 0x0300_0001, 0));
    }
    for (name, number) in [("domctl", DOMCTL), ("sysctl", SYSCTL), ("platform", PLATFORM_OP)] {
        test.rc(format_args!("{name}(version=0)"), call(number, 1, 0, 0));
        test.rc(format_args!("{name}(null)"), hypercall::raw(number, [0; 5]));
        test.rc(format_args!("{name}(unmapped)"), hypercall::raw(number, [unmapped(), 0, 0, 0, 0]));
    }
    page.fill(b'x');
    for cmd in [0, 1, 2, 99] {
        test.rc(format_args!("console_io({cmd},4)"), hypercall::raw(CONSOLE_IO, [cmd, 4, page.address(), 0, 0]));
        test.rc(format_args!("console_io({cmd},0)"), hypercall::raw(CONSOLE_IO, [cmd, 0, page.address(), 0, 0]));
        test.rc(format_args!("console_io({cmd},-1)"), hypercall::raw(CONSOLE_IO, [cmd, u64::MAX, page.address(), 0, 0]));
        test.rc(format_args!("console_io({cmd},unmapped)"), hypercall::raw(CONSOLE_IO, [cmd, 4, unmapped(), 0, 0]));
    }
    for cmd in 0..=31 {
        page.fill(0);
        test.rc(format_args!("physdev({cmd})"), hypercall::raw(PHYSDEV_OP, [cmd, page.address(), 0, 0, 0]));
    }
    for (name, number) in [("xsm", XSM_OP), ("argo", ARGO_OP), ("dm", DM_OP), ("hypfs", HYPFS_OP)] {
        for cmd in 0..=3 {
            test.rc(format_args!("{name}({cmd})"), hypercall::raw(number, [cmd, page.address(), 0, 0, 0]));
        }
    }
}
