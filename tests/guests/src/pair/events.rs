//! Events between two domains: who may offer, bind, raise and close, and what the other end sees of it; also of a peer that dies.

use super::jobs::*;
use super::peer::{Peer, exists};
use super::{ops, ports};
use crate::runtime::{control, page::Page, peer::MAILBOX_GFN};
use crate::verdict::Test;
use core::fmt::Display;
use guest_abi::domctl::{XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_UNPAUSEDOMAIN};
use guest_abi::event_channel::*;
use guest_abi::xen::DOMID_SELF;

/// Where a page of a dying peer is held.
const HELD: u64 = 0x120;

pub fn run(test: &mut Test) {
    test.rc("shared", ops::map_shared());
    let (peer, other) = match Peer::build(2).and_then(|peer| Ok((peer, Peer::build(1)?))) {
        Ok(peers) => peers,
        Err(why) => return test.error("build", why),
    };
    test.rc("peer.shared", peer.rc(map_shared, args([])));
    offering(test, &peer);
    both_ends(test, &peer);
    without_privilege(test, &peer, &other);
    resets(test, &peer);
    other.destroy(test);
    dying(test, peer);
    ports::reset(DOMID_SELF);
    ops::remove(ports::shared().gfn());
}

/// The port may be any: only whether there is one is told.
fn port(test: &mut Test, name: impl Display, port: i64) -> u32 {
    test.rc(name, port.min(0));
    port.max(0) as u32
}

fn alloc(dom: u16, remote_dom: u16) -> i64 {
    let mut op = AllocUnbound { dom, remote_dom, port: 0 };
    let rc = crate::runtime::hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op);
    if rc == 0 { op.port.into() } else { rc }
}

/// What a port of `dom` is, as far as it is the same in each run.
fn status(test: &mut Test, name: impl Display, dom: u16, port: u32) {
    let (rc, status) = ports::status(dom, port);
    test.answer(name, format_args!("rc={rc} status={} vcpu={}", status.status, status.vcpu));
}

fn offering(test: &mut Test, peer: &Peer) {
    for (name, dom, remote) in [
        ("self,peer", DOMID_SELF, peer.id),
        ("0,peer", 0, peer.id),
        ("peer,self", peer.id, DOMID_SELF),
        ("peer,0", peer.id, 0),
        ("peer,peer", peer.id, peer.id),
        ("peer,nobody", peer.id, 1000),
        ("nobody,self", 1000, DOMID_SELF),
        ("self,nobody", DOMID_SELF, 1000),
    ] {
        let got = port(test, format_args!("offer({name})"), alloc(dom, remote));
        if got != 0 {
            status(test, format_args!("offer({name}).status"), if dom == peer.id { peer.id } else { DOMID_SELF }, got);
            if dom == peer.id {
                test.rc(format_args!("offer({name}).close"), peer.rc(close, args([got.into()])));
            } else {
                test.rc(format_args!("offer({name}).close"), ops::close(got));
            }
        }
    }
}

fn both_ends(test: &mut Test, peer: &Peer) {
    let theirs = peer.call(0, offer, args([0])) as u32;
    test.rc("bind(peer's, wrong port)", ports::bind(peer.id, theirs + 5));
    test.rc("bind(port 0)", ports::bind(peer.id, 0));
    test.rc("bind(beyond)", ports::bind(peer.id, 4096));
    test.rc("bind(nobody)", ports::bind(1000, theirs));
    let ours = port(test, "bind", ports::bind(peer.id, theirs));
    test.rc("bind(again)", ports::bind(peer.id, theirs));
    status(test, "bound.status(own)", DOMID_SELF, ours);
    status(test, "bound.status(peer's)", peer.id, theirs);
    let seen = |peer: &Peer| (peer.call(0, pending, args([theirs.into()])), ops::is_pending(ours));
    test.answer("bound.pending", format_args!("{:?}", seen(peer)));
    peer.call(0, clear, args([theirs.into()]));
    ops::clear_pending(ours);
    test.rc("send", ports::send(ours));
    test.answer("send.pending", format_args!("{:?}", seen(peer)));
    test.rc("send(back)", peer.rc(send, args([theirs.into()])));
    test.answer("send(back).pending", format_args!("{:?}", seen(peer)));
    test.rc("bind_vcpu(peer's)", peer.rc(|a| ports::bind_vcpu(a[0] as u32, 1).cast_unsigned(), args([theirs.into()])));
    status(test, "bind_vcpu(peer's).status", peer.id, theirs);
    test.rc("close(peer)", peer.rc(close, args([theirs.into()])));
    status(test, "close(peer).status(own)", DOMID_SELF, ours);
    status(test, "close(peer).status(peer's)", peer.id, theirs);
    test.rc("close(peer).send", ports::send(ours));
    // What is left is an offer to the peer again.
    let again = peer.rc(|a| ports::bind(0, a[0] as u32).cast_unsigned(), args([ours.into()]));
    test.rc("close(peer).bind(again)", again.min(0));
    test.rc("close(own)", ops::close(ours));
    test.rc("close(own,again)", ops::close(ours));
    test.rc("close(own).send(back)", peer.rc(send, args([again.cast_unsigned()])));
    status(test, "close(own).status(peer's)", peer.id, again as u32);
    test.rc("close(own).close(peer)", peer.rc(close, args([again.cast_unsigned()])));
}

fn send(a: [u64; 6]) -> u64 {
    ports::send(a[0] as u32).cast_unsigned()
}

fn bind(a: [u64; 6]) -> u64 {
    ports::bind(a[0] as u16, a[1] as u32).min(0).cast_unsigned()
}

/// What a domain without privilege may not, and two of them not with each other.
fn without_privilege(test: &mut Test, peer: &Peer, other: &Peer) {
    let foreign = |a: [u64; 6]| alloc(a[0] as u16, a[1] as u16).min(0).cast_unsigned();
    test.rc("peer.offer(0,self)", peer.rc(foreign, args([0, DOMID_SELF.into()])));
    test.rc("peer.offer(self,other)", peer.rc(foreign, args([DOMID_SELF.into(), other.id.into()])));
    test.rc("peer.offer(other,self)", peer.rc(foreign, args([other.id.into(), DOMID_SELF.into()])));
    test.rc("peer.status(0)", peer.rc(|_| ports::status(0, 1).0.cast_unsigned(), args([])));
    test.rc("peer.reset(0)", peer.rc(|_| ports::reset(0).cast_unsigned(), args([])));
    test.rc("peer.reset(other)", peer.rc(|a| ports::reset(a[0] as u16).cast_unsigned(), args([other.id.into()])));
    let reserved = ops::offer_port(other.id) as u32;
    test.rc("peer.bind(what is for another)", peer.rc(bind, args([0, reserved.into()])));
    test.rc("close(what is for another)", ops::close(reserved));
    let offered = peer.call(0, offer, args([0]));
    test.rc("other.bind(peer's)", other.rc(bind, args([peer.id.into(), offered])));
    test.rc("peer.close(offered)", peer.rc(close, args([offered])));
}

/// The ports of another domain are closed by the toolstack, if that domain is paused.
fn resets(test: &mut Test, peer: &Peer) {
    let theirs = peer.call(0, offer, args([0])) as u32;
    let ours = port(test, "reset.bind", ports::bind(peer.id, theirs));
    test.rc("reset(peer,running)", ports::reset(peer.id));
    test.rc("reset.pause", control::domctl_plain(XEN_DOMCTL_PAUSEDOMAIN, peer.id));
    test.rc("reset(peer,paused)", ports::reset(peer.id));
    status(test, "reset.status(own)", DOMID_SELF, ours);
    status(test, "reset.status(peer's)", peer.id, theirs);
    test.rc("reset.unpause", control::domctl_plain(XEN_DOMCTL_UNPAUSEDOMAIN, peer.id));
    test.rc("reset(nobody)", ports::reset(1000));
    test.rc("reset.close", ops::close(ours));
}

/// The peer dies, and stays while a page of it is held.
fn dying(test: &mut Test, peer: Peer) {
    let theirs = peer.call(0, offer, args([0])) as u32;
    let free = peer.call(0, offer, args([0])) as u32;
    let ours = port(test, "dying.bind", ports::bind(peer.id, theirs));
    let offered = port(test, "dying.offer", ops::offer_port(peer.id));
    test.rc("dying.hold", ops::map_foreign(peer.id, MAILBOX_GFN - 1, Page::hole(HELD).gfn()));
    test.rc("dying.destroy", peer.kill());
    test.answer("dying.exists", exists(peer.id));
    status(test, "dying.status(own)", DOMID_SELF, ours);
    status(test, "dying.status(offered)", DOMID_SELF, offered);
    status(test, "dying.status(peer's)", peer.id, theirs);
    test.rc("dying.send", ports::send(ours));
    test.rc("dying.bind(free)", ports::bind(peer.id, free).min(0));
    test.rc("dying.offer(again)", ops::offer_port(peer.id).min(0));
    test.rc("dying.offer(for it)", alloc(peer.id, 0).min(0));
    test.rc("dying.reset", ports::reset(peer.id));
    test.rc("dying.close", ops::close(ours));
    test.rc("dying.close(offered)", ops::close(offered));
    test.rc("dying.let_go", ops::remove(Page::hole(HELD).gfn()));
    test.answer("dying.gone", ops::within(5_000_000, || !exists(peer.id)));
}
