//! What only the control domain may: domctl, sysctl and memory operations on another domain, and its pages mapped as the toolstack does
//! it (misuse H03, H12, M03, M20, M22).

use super::jobs::*;
use super::ops;
use super::peer::{Peer, config, create, exists};
use crate::runtime::peer::{BASE, MAILBOX_GFN, MEMORY};
use crate::runtime::probe::{self, Outcome};
use crate::runtime::{control, hypercall, page::Page};
use crate::verdict::Test;
use core::fmt::Display;
use guest_abi::arch_arm::VcpuGuestContext;
use guest_abi::domctl::*;
use guest_abi::memory::*;
use guest_abi::sched::*;
use guest_abi::sysctl::{PhysInfo, XEN_SYSCTL_INTERFACE_VERSION, XEN_SYSCTL_PHYSINFO};
use guest_abi::xen::DOMID_SELF;

/// Where pages of the peer are mapped, of the window; where things are put in the peer's.
const AT: u64 = 0x130;
const BEHIND: u64 = (BASE + MEMORY) / 4096;

pub fn run(test: &mut Test) {
    let peer = match Peer::build(2) {
        Ok(peer) => peer,
        Err(why) => return test.error("build", why),
    };
    foreign(test, &peer);
    memory(test, &peer);
    life(test, &peer);
    vcpus(test, &peer);
    devices(test, &peer);
    shut_down(test, &peer);
    on_the_dying(test, &peer);
    versions(test);
    empty(test);
}

fn add(domid: u16, space: u32, idx: u64, gpfn: u64) -> i64 {
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut AddToPhysmap { domid, size: 0, space, idx, gpfn })
}

fn remove_of(domid: u16, gpfn: u64) -> i64 {
    hypercall::memory(XENMEM_REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid, gpfn, ..Default::default() })
}

fn pages(id: u16) -> i64 {
    let mut info = GetDomainInfo::default();
    control::domctl(XEN_DOMCTL_GETDOMAININFO, &mut { id }, &mut info);
    info.tot_pages.cast_signed() - (MEMORY / 4096).cast_signed()
}

/// Pages of the peer in the own address space.
fn foreign(test: &mut Test, peer: &Peer) {
    let gfn = peer.call(0, take, args([0x5a]));
    peer.call(0, map_table, args([]));
    peer.call(0, map_shared, args([]));
    let window = 0x3_8000;
    let at = Page::hole(AT);
    for (name, dom, gfn) in [
        ("page", peer.id, gfn),
        ("hole", peer.id, window + 0x300),
        ("table", peer.id, window),
        ("shared", peer.id, window + 0x40),
        ("beyond", peer.id, 1 << 40),
        ("all ones", peer.id, u64::MAX),
        ("self", DOMID_SELF, at.gfn()),
        ("nobody", 1000, gfn),
        ("dom_io", 0x7ff1, gfn),
        ("dom_xen", 0x7ff2, gfn),
    ] {
        let rc = ops::map_foreign(dom, gfn, at.gfn());
        test.rc(format_args!("foreign({name})"), rc);
        if rc == 0 {
            test.answer(format_args!("foreign({name}).mapped"), probe::read(at.address(), 3).is_ok());
            test.rc(format_args!("foreign({name}).remove"), ops::remove(at.gfn()));
        }
    }
    test.rc("foreign(add_to_physmap)", add(DOMID_SELF, XENMAPSPACE_GMFN_FOREIGN, gfn, at.gfn()));
    test.rc("foreign(into the peer)", add(peer.id, XENMAPSPACE_GMFN_FOREIGN, gfn, window + 0x301));
    test.rc("peer.foreign(0)", peer.rc(|a| ops::map_foreign(0, a[0], Page::hole(0x302).gfn()).cast_unsigned(), args([at.gfn()])));
    test.rc("foreign(write)", ops::map_foreign(peer.id, gfn, at.gfn()));
    at.write64(8, 0x1234);
    test.answer("foreign(write).seen", format_args!("{:#x}", peer.call(0, |a| Page::own(a[0] * 4096).read64(8), args([gfn]))));
    test.rc("foreign(twice)", ops::map_foreign(peer.id, gfn, at.gfn() + 1));
    // What is mapped elsewhere stays when its owner lets it go.
    test.rc("foreign(ballooned).decrease", peer.rc(decrease, args([gfn])));
    test.answer("foreign(ballooned).data", Outcome(probe::read(at.address() + 8, 3)));
    test.rc("foreign(ballooned).again", ops::map_foreign(peer.id, gfn, at.gfn() + 2));
    test.rc("foreign(ballooned).remove", ops::remove(at.gfn()));
    test.rc("foreign(ballooned).remove(second)", ops::remove(at.gfn() + 1));
    test.rc("foreign(ballooned).populate", peer.rc(populate, args([gfn])));
    test.answer("foreign.pages", pages(peer.id));
}

/// Memory operations on the peer.
fn memory(test: &mut Test, peer: &Peer) {
    for (name, cmd) in [("current", XENMEM_CURRENT_RESERVATION), ("maximum", XENMEM_MAXIMUM_RESERVATION), ("gpfn", XENMEM_MAXIMUM_GPFN)] {
        for (who, domid) in [("peer", peer.id), ("nobody", 1000)] {
            test.rc(format_args!("memory.{name}({who})"), hypercall::memory(cmd, &mut MemoryDomain { domid }));
        }
    }
    let gfn = BEHIND + 4;
    test.rc("memory.populate(at the limit)", ops::reserve(XENMEM_POPULATE_PHYSMAP, &[gfn], 0, peer.id));
    let max = |max_memkb| control::domctl(XEN_DOMCTL_MAX_MEM, &mut { peer.id }, &mut MaxMem { max_memkb });
    test.rc("memory.max_mem(more)", max(MEMORY / 1024 + 64));
    test.rc("memory.populate", ops::reserve(XENMEM_POPULATE_PHYSMAP, &[gfn, gfn + 1], 0, peer.id));
    test.rc("memory.populate(order 10)", ops::reserve(XENMEM_POPULATE_PHYSMAP, &[gfn], 10, peer.id));
    test.rc("memory.populate(nobody)", ops::reserve(XENMEM_POPULATE_PHYSMAP, &[gfn], 0, 1000));
    test.answer("memory.pages(more)", pages(peer.id));
    test.rc("memory.decrease", ops::reserve(XENMEM_DECREASE_RESERVATION, &[gfn, gfn + 1], 0, peer.id));
    test.rc("memory.decrease(again)", ops::reserve(XENMEM_DECREASE_RESERVATION, &[gfn], 0, peer.id));
    test.rc("memory.max_mem(less than it has)", max(MEMORY / 2048));
    test.rc("memory.max_mem(as before)", max(MEMORY / 1024));
    test.rc("memory.shared_info(moved for it)", add(peer.id, XENMAPSPACE_SHARED_INFO, 0, 0x3_8500));
    test.rc("memory.table(for it)", add(peer.id, XENMAPSPACE_GRANT_TABLE, 1, 0x3_8501));
    test.rc("memory.remove(for it)", remove_of(peer.id, 0x3_8501));
    test.rc("memory.remove(hole)", remove_of(peer.id, 0x3_8502));
    test.rc("memory.remove(nobody)", remove_of(1000, 0x3_8502));
    let other = |a: [u64; 6]| ops::reserve(XENMEM_POPULATE_PHYSMAP, &[0x4_0000], 0, a[0] as u16).cast_unsigned();
    test.rc("peer.populate(0)", peer.rc(other, args([0])));
    test.rc(
        "peer.current(0)",
        peer.rc(|_| hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: 0 }).cast_unsigned(), args([])),
    );
    test.rc("peer.remove(0)", peer.rc(|_| remove_of(0, 1).cast_unsigned(), args([])));
    for (name, nr_frames, frame) in [("size", 0, 0), ("first", 1, 0), ("beyond", 1, 64)] {
        let mut list = [Page::hole(AT).gfn()];
        let frame_list = if nr_frames == 0 { 0 } else { hypercall::address(&mut list) };
        let kind = XENMEM_RESOURCE_GRANT_TABLE;
        let mut op = AcquireResource { domid: peer.id, kind, nr_frames, frame, frame_list, ..Default::default() };
        let rc = hypercall::memory(XENMEM_ACQUIRE_RESOURCE, &mut op);
        test.answer(format_args!("memory.resource({name})"), format_args!("rc={rc} nr={}", op.nr_frames));
        ops::remove(Page::hole(AT).gfn());
    }
}

/// Flags of a domain that are its own doing or the toolstack's.
fn flags_of(test: &mut Test, name: impl Display, id: u16) {
    let mut info = GetDomainInfo::default();
    let rc = control::domctl(XEN_DOMCTL_GETDOMAININFO, &mut { id }, &mut info);
    let mask = XEN_DOMINF_DYING | XEN_DOMINF_SHUTDOWN | XEN_DOMINF_PAUSED | XEN_DOMINF_SHUTDOWNMASK << XEN_DOMINF_SHUTDOWNSHIFT;
    test.answer(name, format_args!("rc={rc} flags={:#x}", info.flags & mask));
}

fn life(test: &mut Test, peer: &Peer) {
    let plain = control::domctl_plain;
    for (name, cmd) in [
        ("pause", XEN_DOMCTL_PAUSEDOMAIN),
        ("unpause", XEN_DOMCTL_UNPAUSEDOMAIN),
        ("resume", XEN_DOMCTL_RESUMEDOMAIN),
        ("destroy", XEN_DOMCTL_DESTROYDOMAIN),
    ] {
        for (who, domid) in [("nobody", 1000), ("dom_io", 0x7ff1), ("dom_xen", 0x7ff2), ("itself", 0)] {
            test.rc(format_args!("{name}({who})"), plain(cmd, domid));
        }
    }
    for (name, cmd) in [
        ("pause", XEN_DOMCTL_PAUSEDOMAIN),
        ("pause(again)", XEN_DOMCTL_PAUSEDOMAIN),
        ("unpause", XEN_DOMCTL_UNPAUSEDOMAIN),
        ("unpause(again)", XEN_DOMCTL_UNPAUSEDOMAIN),
        ("unpause(too often)", XEN_DOMCTL_UNPAUSEDOMAIN),
        ("resume", XEN_DOMCTL_RESUMEDOMAIN),
    ] {
        test.rc(format_args!("life.{name}"), plain(cmd, peer.id));
        flags_of(test, format_args!("life.{name}.flags"), peer.id);
    }
    test.answer("life.goes_on", peer.call(0, |a| a[0] + 1, args([41])));
    test.rc("max_vcpus(again)", control::domctl(XEN_DOMCTL_MAX_VCPUS, &mut { peer.id }, &mut MaxVcpus { max: 2 }));
    test.rc("max_vcpus(other)", control::domctl(XEN_DOMCTL_MAX_VCPUS, &mut { peer.id }, &mut MaxVcpus { max: 3 }));
    test.rc("max_vcpus(0)", control::domctl(XEN_DOMCTL_MAX_VCPUS, &mut { peer.id }, &mut MaxVcpus { max: 0 }));
}

fn vcpus(test: &mut Test, peer: &Peer) {
    for vcpu in [0, 1, 2, u32::MAX] {
        let mut info = GetVcpuInfo { vcpu, ..Default::default() };
        let rc = control::domctl(XEN_DOMCTL_GETVCPUINFO, &mut { peer.id }, &mut info);
        test.answer(format_args!("vcpu({vcpu}).info"), format_args!("rc={rc} online={}", info.online));
        // One that runs is stopped for it.
        let mut context = VcpuGuestContext::default();
        let mut op = VcpuContext { vcpu, ctxt: hypercall::address(&mut context), ..Default::default() };
        let rc = control::domctl(XEN_DOMCTL_GETVCPUCONTEXT, &mut { peer.id }, &mut op);
        let inside = context.user_regs.pc64.wrapping_sub(BASE) < MEMORY;
        test.answer(format_args!("vcpu({vcpu}).context"), format_args!("rc={rc} flags={:#x} inside={inside}", context.flags));
    }
    let mut op = VcpuContext { vcpu: 0, ctxt: 0, ..Default::default() };
    test.rc("context(of itself)", control::domctl(XEN_DOMCTL_GETVCPUCONTEXT, &mut 0, &mut op));
    test.rc("context(nobody)", control::domctl(XEN_DOMCTL_GETVCPUCONTEXT, &mut 1000, &mut op));
}

/// Registers of a device, `virt`'s clock, which the peer may have mapped once it is permitted to.
fn devices(test: &mut Test, peer: &Peer) {
    const CLOCK: u64 = 0x901_0000 / 4096;
    let free = peer.call(0, |a| Page::hole(a[0]).gfn(), args([AT]));
    let permit = |first_mfn, nr_mfns, allow_access| {
        let mut op = IomemPermission { first_mfn, nr_mfns, allow_access, ..Default::default() };
        control::domctl(XEN_DOMCTL_IOMEM_PERMISSION, &mut { peer.id }, &mut op)
    };
    let map = |first_gfn, first_mfn, nr_mfns, add_mapping| {
        let mut op = MemoryMapping { first_gfn, first_mfn, nr_mfns, add_mapping, ..Default::default() };
        control::domctl(XEN_DOMCTL_MEMORY_MAPPING, &mut { peer.id }, &mut op)
    };
    // Which PrimeCell it is stands in the low byte of its word at 0xfe0.
    let id = || peer.call(0, |a| probe::read(Page::hole(a[0]).address() + 0xfe0, 2).unwrap_or(u64::MAX), args([AT])).cast_signed();
    test.rc("device.map(not permitted)", map(free, CLOCK, 1, 1));
    test.rc("device.unmap(not permitted)", map(free, CLOCK, 1, 0));
    test.rc("device.permit(0 frames)", permit(CLOCK, 0, 1));
    test.rc("device.permit(wraps)", permit(CLOCK, u64::MAX, 1));
    test.rc("device.deny(never permitted)", permit(CLOCK, 1, 0));
    test.rc("device.permit", permit(CLOCK, 1, 1));
    test.rc("device.permit(again)", permit(CLOCK, 1, 1));
    test.rc("device.map(0 frames)", map(free, CLOCK, 0, 1));
    test.rc("device.map(65 frames)", map(free, CLOCK, 65, 1));
    test.rc("device.map(one too many)", map(free, CLOCK, 2, 1));
    test.rc("device.map(wraps)", map(u64::MAX, CLOCK, 2, 1));
    test.rc("device.map", map(free, CLOCK, 1, 1));
    test.answer("device.id", id());
    test.rc("device.map(again)", map(free, CLOCK, 1, 1));
    test.rc("device.unmap(elsewhere)", map(free + 1, CLOCK, 1, 0));
    test.rc("device.deny", permit(CLOCK, 1, 0));
    test.answer("device.id(denied)", id());
    test.rc("device.map(denied)", map(free + 1, CLOCK, 1, 1));
    test.rc("device.unmap(denied)", map(free, CLOCK, 1, 0));
    test.rc("device.permit(once more)", permit(CLOCK, 1, 1));
    test.rc("device.unmap", map(free, CLOCK, 1, 0));
    test.rc("device.unmap(again)", map(free, CLOCK, 1, 0));
    test.answer("device.id(unmapped)", id());
    let own = peer.call(0, take, args([1]));
    test.rc("device.map(over RAM)", map(own, CLOCK, 1, 1));
    test.rc("device.unmap(over RAM)", map(own, CLOCK, 1, 0));
}

fn shut_down(test: &mut Test, peer: &Peer) {
    for reason in [SHUTDOWN_REBOOT, SHUTDOWN_MAX, 6, 255] {
        let mut op = RemoteShutdown { domain_id: peer.id, reason: reason.into(), ..Default::default() };
        test.rc(format_args!("shutdown({reason})"), hypercall::sched(SCHEDOP_REMOTE_SHUTDOWN, &mut op));
        flags_of(test, format_args!("shutdown({reason}).flags"), peer.id);
    }
    test.rc("shutdown.resume", control::domctl_plain(XEN_DOMCTL_RESUMEDOMAIN, peer.id));
    flags_of(test, "shutdown.resume.flags", peer.id);
    let mut op = RemoteShutdown { domain_id: 1000, ..Default::default() };
    test.rc("shutdown(nobody)", hypercall::sched(SCHEDOP_REMOTE_SHUTDOWN, &mut op));
    test.answer("shutdown.goes_on", peer.call(0, |a| a[0] + 1, args([41])));
}

/// What is left of a domain whose page is held.
fn on_the_dying(test: &mut Test, peer: &Peer) {
    let (id, at) = (peer.id, Page::hole(AT));
    test.rc("dying.hold", ops::map_foreign(id, MAILBOX_GFN - 1, at.gfn()));
    at.write64(0, 0x600d);
    test.rc("dying.destroy", peer.kill());
    flags_of(test, "dying.flags", id);
    test.answer("dying.data", Outcome(probe::read(at.address(), 3)));
    for (name, cmd) in [("pause", XEN_DOMCTL_PAUSEDOMAIN), ("unpause", XEN_DOMCTL_UNPAUSEDOMAIN), ("destroy", XEN_DOMCTL_DESTROYDOMAIN)] {
        test.rc(format_args!("dying.{name}"), control::domctl_plain(cmd, id));
    }
    test.rc("dying.max_mem", control::domctl(XEN_DOMCTL_MAX_MEM, &mut { id }, &mut MaxMem { max_memkb: 1 << 20 }));
    test.rc("dying.populate", ops::reserve(XENMEM_POPULATE_PHYSMAP, &[BEHIND], 0, id));
    test.rc("dying.decrease", ops::reserve(XENMEM_DECREASE_RESERVATION, &[BASE / 4096], 0, id));
    test.rc("dying.foreign", ops::map_foreign(id, MAILBOX_GFN - 1, at.gfn() + 1));
    test.rc("dying.shared_info", add(id, XENMAPSPACE_SHARED_INFO, 0, 0x3_8500));
    test.rc("dying.table", add(id, XENMAPSPACE_GRANT_TABLE, 0, 0x3_8501));
    test.rc("dying.current", hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: id }));
    test.rc("dying.let_go", ops::remove(at.gfn()));
    test.answer("dying.gone", ops::within(5_000_000, || !exists(id)));
}

/// H12: toolstacks of other versions.
fn versions(test: &mut Test) {
    for version in [0, XEN_DOMCTL_INTERFACE_VERSION - 1, XEN_DOMCTL_INTERFACE_VERSION + 1] {
        let rc = control::domctl_of_version(version, XEN_DOMCTL_GETDOMAININFO, &mut 0, &mut GetDomainInfo::default());
        test.rc(format_args!("H12.domctl({version:#x})"), rc);
    }
    for version in [0, XEN_SYSCTL_INTERFACE_VERSION - 1, XEN_SYSCTL_INTERFACE_VERSION + 1] {
        let rc = control::sysctl_of_version(version, XEN_SYSCTL_PHYSINFO, &mut PhysInfo::default());
        test.rc(format_args!("H12.sysctl({version:#x})"), rc);
    }
}

/// A domain that never got anything but vCPUs.
fn empty(test: &mut Test) {
    let id = match create(config(2)) {
        Ok(id) => id,
        Err(why) => return test.error("empty", why),
    };
    flags_of(test, "empty.flags", id);
    test.answer("empty.pages", pages(id) + (MEMORY / 4096).cast_signed());
    test.rc("empty.foreign", ops::map_foreign(id, BASE / 4096, Page::hole(AT).gfn()));
    test.rc("empty.unpause", control::domctl_plain(XEN_DOMCTL_UNPAUSEDOMAIN, id));
    flags_of(test, "empty.unpause.flags", id);
    test.rc("empty.destroy", control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, id));
    test.answer("empty.gone", ops::within(5_000_000, || !exists(id)));
}
