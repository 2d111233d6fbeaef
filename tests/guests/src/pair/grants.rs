//! Grants between two domains, in both directions: map, unmap, copy, and what the granter sees of it (misuse G06, G13, G15, M05, M25).

use super::books::is_xenolith;
use super::jobs::*;
use super::ops;
use super::peer::{Peer, exists};
use crate::runtime::page::Page;
use crate::runtime::probe::{self, Outcome};
use crate::runtime::{control, hypercall};
use crate::verdict::{Status, Test};
use guest_abi::domctl::XEN_DOMCTL_DESTROYDOMAIN;
use guest_abi::grant_table::*;
use guest_abi::version::XENVER_GET_FEATURES;
use guest_abi::xen::hypercall as nr;

/// Where grants are mapped, of the window of either domain.
const TARGET: u64 = 0x100;

pub fn run(test: &mut Test) {
    test.rc("table", ops::map_table());
    let peer = match Peer::build(1) {
        Ok(peer) => peer,
        Err(why) => return test.error("build", why),
    };
    test.rc("peer.table", peer.rc(map_table, args([])));
    mapping(test, &peer);
    copying(test, &peer);
    the_other_way(test, &peer);
    output(test, &peer);
    balloon(test, &peer);
    peer.destroy(test);
    granter_dies(test);
    mapper_dies(test);
    ops::remove(Page::hole(0).gfn());
}

/// Dom0 maps pages of the peer.
fn mapping(test: &mut Test, peer: &Peer) {
    let gfn = peer.call(0, take, args([0x5a]));
    let target = Page::hole(TARGET);
    for (entry, how) in [
        (GTF_PERMIT_ACCESS, GNTMAP_HOST_MAP),
        (GTF_PERMIT_ACCESS, GNTMAP_HOST_MAP | GNTMAP_READONLY),
        (GTF_PERMIT_ACCESS | GTF_READONLY, GNTMAP_HOST_MAP),
        (GTF_PERMIT_ACCESS | GTF_READONLY, GNTMAP_HOST_MAP | GNTMAP_READONLY),
        (GTF_PERMIT_ACCESS, 0),
        (GTF_PERMIT_ACCESS, GNTMAP_DEVICE_MAP),
        (GTF_PERMIT_ACCESS, GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP),
        (GTF_PERMIT_ACCESS, GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE),
        (GTF_TRANSITIVE, GNTMAP_HOST_MAP),
        (GTF_PERMIT_ACCESS | GTF_SUB_PAGE, GNTMAP_HOST_MAP),
        (GTF_INVALID, GNTMAP_HOST_MAP),
        (GTF_ACCEPT_TRANSFER, GNTMAP_HOST_MAP),
    ] {
        peer.call(0, grant, args([9, entry.into(), 0, gfn]));
        let (status, handle) = ops::map_grant(peer.id, 9, how, target.gfn());
        let name = format_args!("map(entry={entry:#x},flags={how:#x})");
        test.answer(name, format_args!("status={status} flags={:#x}", peer.call(0, flags, args([9]))));
        if status == 0 {
            test.answer(format_args!("{name}.read"), Outcome(probe::read(target.address(), 3)));
            // Debian's Xen lets a vCPU that writes to what it may only read try for ever.
            if how & GNTMAP_READONLY == 0 {
                let written = probe::write(target.address() + 8, 3, 0x5a5a_5a5a_5a5a_5a5a);
                test.answer(format_args!("{name}.write"), Outcome(written.map(|()| 0)));
            } else if is_xenolith() && probe::write(target.address() + 8, 3, 0).is_ok() {
                test.fail(format_args!("{name}.write"), "a page to be read was written");
            }
            let (again, second) = ops::map_grant(peer.id, 9, how, target.gfn() + 1);
            test.answer(format_args!("{name}.twice"), format_args!("status={again} flags={:#x}", peer.call(0, flags, args([9]))));
            test.rc(format_args!("{name}.unmap"), ops::unmap_grant(handle, target.gfn()));
            test.answer(format_args!("{name}.flags(one left)"), format_args!("{:#x}", peer.call(0, flags, args([9]))));
            test.rc(format_args!("{name}.unmap(again)"), ops::unmap_grant(handle, target.gfn()));
            test.rc(format_args!("{name}.unmap(second)"), ops::unmap_grant(second, target.gfn() + 1));
            test.answer(format_args!("{name}.flags(none left)"), format_args!("{:#x}", peer.call(0, flags, args([9]))));
            test.answer(format_args!("{name}.gone"), Outcome(probe::read(target.address(), 3)));
        }
    }
    // For another domain, of none, of a hole, of the table itself.
    for (name, domid, frame) in [
        ("itself", peer.id, gfn),
        ("nobody", 1000, gfn),
        ("reserved", 0x7ff2, gfn),
        ("hole", 0, 0x3_8400),
        ("beyond", 0, 0xffff_ffff),
        ("table", 0, 0x3_8000),
    ] {
        peer.call(0, grant, args([9, GTF_PERMIT_ACCESS.into(), domid.into(), frame]));
        let (status, handle) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn());
        test.answer(format_args!("map({name})"), format_args!("status={status} flags={:#x}", peer.call(0, flags, args([9]))));
        if status == 0 {
            test.rc(format_args!("map({name}).unmap"), ops::unmap_grant(handle, target.gfn()));
        }
    }
    // G15: another mapping where the first was.
    peer.call(0, grant, args([9, GTF_PERMIT_ACCESS.into(), 0, gfn]));
    peer.call(0, grant, args([10, GTF_PERMIT_ACCESS.into(), 0, gfn]));
    let (first, a) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn());
    test.rc("G15.map(a)", first);
    test.rc("G15.remove", ops::remove(target.gfn()));
    let (second, b) = ops::map_grant(peer.id, 10, GNTMAP_HOST_MAP, target.gfn());
    test.rc("G15.map(b)", second);
    test.rc("G15.unmap(a)", ops::unmap_grant(a, target.gfn()));
    test.answer("G15.read", Outcome(probe::read(target.address(), 3)));
    test.rc("G15.unmap(b)", ops::unmap_grant(b, target.gfn()));
    test.rc("G15.unmap(a,again)", ops::unmap_grant(a, target.gfn()));
    let left = format_args!("{:#x} {:#x}", peer.call(0, flags, args([9])), peer.call(0, flags, args([10])));
    test.answer("G15.flags", left);
    // Two of one page, at one place.
    let (first, a) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn());
    let (second, b) = ops::map_grant(peer.id, 10, GNTMAP_HOST_MAP | GNTMAP_READONLY, target.gfn());
    test.answer("map(over)", format_args!("{first} {second}"));
    test.rc("map(over).unmap(a)", ops::unmap_grant(a, target.gfn()));
    test.answer("map(over).read", Outcome(probe::read(target.address(), 3)));
    test.rc("map(over).unmap(b)", ops::unmap_grant(b, target.gfn()));
}

/// Dom0 copies from and to pages of the peer.
fn copying(test: &mut Test, peer: &Peer) {
    let gfn = peer.call(0, take, args([0x11]));
    let page = Page::take();
    let theirs = |offset| ops::by_reference(peer.id, 9, offset);
    for entry in [GTF_PERMIT_ACCESS, GTF_PERMIT_ACCESS | GTF_READONLY, GTF_TRANSITIVE, GTF_INVALID] {
        peer.call(0, grant, args([9, entry.into(), 0, gfn]));
        page.fill(0x22);
        let name = format_args!("copy(entry={entry:#x})");
        test.rc(format_args!("{name}.from"), ops::copy(theirs(0), ops::own(page.gfn(), 0), 2048, GNTCOPY_SOURCE_GREF));
        test.answer(format_args!("{name}.data"), format_args!("{:#x} {:#x}", page.read8(2047), page.read8(2048)));
        test.rc(format_args!("{name}.to"), ops::copy(ops::own(page.gfn(), 0), theirs(0), 8, GNTCOPY_DEST_GREF));
        test.answer(format_args!("{name}.flags"), format_args!("{:#x}", peer.call(0, flags, args([9]))));
    }
    // G13: a copy does not end a mapping.
    peer.call(0, grant, args([9, GTF_PERMIT_ACCESS.into(), 0, gfn]));
    let target = Page::hole(TARGET);
    let (status, handle) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn());
    test.rc("G13.map", status);
    test.rc("G13.copy", ops::copy(theirs(0), ops::own(page.gfn(), 0), 4096, GNTCOPY_SOURCE_GREF));
    test.answer("G13.flags(mapped)", format_args!("{:#x}", peer.call(0, flags, args([9]))));
    // What is mapped is not the own RAM: a copy names it by its frame.
    test.rc("copy(from mapped)", ops::copy(ops::own(target.gfn(), 0), ops::own(page.gfn(), 0), 8, 0));
    test.rc("copy(to mapped)", ops::copy(ops::own(page.gfn(), 0), ops::own(target.gfn(), 0), 8, 0));
    test.rc("G13.unmap", ops::unmap_grant(handle, target.gfn()));
    test.answer("G13.flags", format_args!("{:#x}", peer.call(0, flags, args([9]))));
    // Its frames by number, which only the control domain may name.
    let frame = |domid, u| CopyPtr { u, domid, ..Default::default() };
    test.rc("copy(frame of the peer)", ops::copy(frame(peer.id, gfn), ops::own(page.gfn(), 0), 8, 0));
    test.rc("copy(to frame of the peer)", ops::copy(ops::own(page.gfn(), 0), frame(peer.id, gfn), 8, 0));
    test.rc("copy(0 bytes of nothing)", ops::copy(ops::by_reference(1000, 77, 0xffff), ops::own(page.gfn(), 0), 0, GNTCOPY_SOURCE_GREF));
}

/// The peer maps and copies pages of Dom0.
fn the_other_way(test: &mut Test, peer: &Peer) {
    let page = Page::take();
    page.write64(0, 0xd0);
    ops::grant(12, GTF_PERMIT_ACCESS, peer.id, page.gfn());
    let answer = peer.call(0, map, args([0, 12, GNTMAP_HOST_MAP.into(), TARGET]));
    test.answer("dom0.map", format_args!("status={} flags={:#x}", answer as i32, ops::grant_flags(12)));
    test.answer("dom0.map.read", format_args!("{:#x}", peer.call(0, read, args([TARGET, 0]))));
    peer.call(0, write, args([TARGET, 8, 0xd1]));
    test.answer("dom0.map.written", format_args!("{:#x}", page.read64(8)));
    test.rc("dom0.unmap", peer.rc(unmap, args([answer >> 32, TARGET])));
    test.answer("dom0.flags", format_args!("{:#x}", ops::grant_flags(12)));
    ops::grant(12, GTF_PERMIT_ACCESS | GTF_READONLY, peer.id, page.gfn());
    test.answer("dom0.map(readonly,write)", peer.call(0, map, args([0, 12, GNTMAP_HOST_MAP.into(), TARGET])) as i32);
    ops::grant(12, GTF_INVALID, 0, 0);
    test.answer("dom0.map(revoked)", peer.call(0, map, args([0, 12, GNTMAP_HOST_MAP.into(), TARGET])) as i32);
}

/// M25: what is mapped for reading, or not the own RAM at all, is no place for answers.
fn output(test: &mut Test, peer: &Peer) {
    let gfn = peer.call(0, take, args([0x33]));
    let target = Page::hole(TARGET);
    for (name, how) in [("readonly", GNTMAP_HOST_MAP | GNTMAP_READONLY), ("writable", GNTMAP_HOST_MAP)] {
        peer.call(0, grant, args([9, GTF_PERMIT_ACCESS.into(), 0, gfn]));
        let (status, handle) = ops::map_grant(peer.id, 9, how, target.gfn());
        test.rc(format_args!("M25.map({name})"), status);
        let rc = hypercall::raw(nr::XEN_VERSION, [XENVER_GET_FEATURES.into(), target.address(), 0, 0, 0]);
        test.rc(format_args!("M25.version({name})"), rc);
        let rc = hypercall::raw(nr::GRANT_TABLE_OP, [GNTTABOP_QUERY_SIZE.into(), target.address(), 1, 0, 0]);
        test.rc(format_args!("M25.query_size({name})"), rc);
        test.rc(format_args!("M25.copy_to({name})"), ops::copy(ops::own(Page::take().gfn(), 0), ops::own(target.gfn(), 0), 8, 0));
        test.answer(format_args!("M25.data({name})"), target.is_filled(0x33));
        test.rc(format_args!("M25.unmap({name})"), ops::unmap_grant(handle, target.gfn()));
    }
    // A foreign mapping, as the toolstack has them.
    test.rc("M25.foreign", ops::map_foreign(peer.id, gfn, target.gfn()));
    let rc = hypercall::raw(nr::XEN_VERSION, [XENVER_GET_FEATURES.into(), target.address(), 0, 0, 0]);
    test.rc("M25.version(foreign)", rc);
    test.rc("M25.foreign.remove", ops::remove(target.gfn()));
}

/// M05: a page that was granted and mapped is taken out of the granter.
fn balloon(test: &mut Test, peer: &Peer) {
    let gfn = peer.call(0, take, args([0x44]));
    let target = Page::hole(TARGET);
    peer.call(0, grant, args([9, GTF_PERMIT_ACCESS.into(), 0, gfn]));
    let (status, handle) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn());
    test.rc("M05.map", status);
    test.rc("M05.decrease", peer.rc(decrease, args([gfn])));
    test.answer("M05.data", target.is_filled(0x44));
    test.rc("M05.populate", peer.rc(populate, args([gfn])));
    test.answer("M05.data(after)", target.is_filled(0x44));
    let page = Page::take();
    test.rc("M05.copy", ops::copy(ops::by_reference(peer.id, 9, 0), ops::own(page.gfn(), 0), 8, GNTCOPY_SOURCE_GREF));
    test.answer("M05.copied", format_args!("{:#x}", page.read8(0)));
    test.rc("M05.unmap", ops::unmap_grant(handle, target.gfn()));
    test.answer("M05.flags", format_args!("{:#x}", peer.call(0, flags, args([9]))));
}

/// A domain dies whose pages are mapped: they live until they are unmapped.
fn granter_dies(test: &mut Test) {
    let peer = match Peer::build(1) {
        Ok(peer) => peer,
        Err(why) => return test.error("granter_dies.build", why),
    };
    peer.rc(map_table, args([]));
    let gfn = peer.call(0, take, args([0x66]));
    let target = Page::hole(TARGET);
    peer.call(0, grant, args([9, GTF_PERMIT_ACCESS.into(), 0, gfn]));
    let (status, handle) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn());
    test.rc("granter_dies.map", status);
    test.rc("granter_dies.destroy", peer.kill());
    test.answer("granter_dies.data", target.is_filled(0x66));
    test.answer("granter_dies.exists", exists(peer.id));
    test.rc("granter_dies.destroy(again)", control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, peer.id));
    let (status, second) = ops::map_grant(peer.id, 9, GNTMAP_HOST_MAP, target.gfn() + 1);
    test.rc("granter_dies.map(dying)", status);
    if status == 0 {
        test.rc("granter_dies.map(dying).unmap", ops::unmap_grant(second, target.gfn() + 1));
    }
    let page = Page::take();
    let copied = ops::copy(ops::by_reference(peer.id, 9, 0), ops::own(page.gfn(), 0), 8, GNTCOPY_SOURCE_GREF);
    test.rc("granter_dies.copy(dying)", copied);
    test.rc("granter_dies.foreign(dying)", ops::map_foreign(peer.id, gfn, target.gfn() + 2));
    let mut size = QuerySize { dom: peer.id, status: 0x77, ..Default::default() };
    let rc = hypercall::grant(GNTTABOP_QUERY_SIZE, &mut size);
    test.answer("granter_dies.query_size", Status(rc, size.status));
    test.rc("granter_dies.unmap", ops::unmap_grant(handle, target.gfn()));
    test.answer("granter_dies.gone", ops::within(2_000_000, || !exists(peer.id)));
    test.rc("granter_dies.destroy(gone)", control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, peer.id));
}

/// A domain dies that has pages of Dom0 mapped: the granter has them back.
fn mapper_dies(test: &mut Test) {
    let peer = match Peer::build(1) {
        Ok(peer) => peer,
        Err(why) => return test.error("mapper_dies.build", why),
    };
    let page = Page::take();
    for reference in 12..16 {
        let readonly = if reference % 2 == 0 { GTF_READONLY } else { 0 };
        ops::grant(reference, GTF_PERMIT_ACCESS | readonly, peer.id, page.gfn());
        let how = if reference % 2 == 0 { GNTMAP_HOST_MAP | GNTMAP_READONLY } else { GNTMAP_HOST_MAP };
        let answer = peer.call(0, map, args([0, reference.into(), how.into(), TARGET + u64::from(reference)]));
        test.answer("mapper_dies.map", format_args!("status={} flags={:#x}", answer as i32, ops::grant_flags(reference)));
    }
    peer.destroy(test);
    for reference in 12..16 {
        test.answer("mapper_dies.flags", format_args!("{:#x}", ops::grant_flags(reference)));
        ops::grant(reference, GTF_INVALID, 0, 0);
    }
}
