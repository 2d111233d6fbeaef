//! Either side goes at any moment: nothing leaks, the other is told, and nothing reaches what came later.

use super::*;
use crate::domain::destroy::Progress;
use guest_abi::errno::Errno::*;

impl World {
    fn destroy(&self, domain: &Arc<Domain>) {
        let steps = (0..1000).find(|_| self.bed.hv.destroy(domain) == Progress::Done);
        assert!(steps.is_some());
    }

    fn one(&self) -> (PacketHeader, Vec<Piece>) {
        packet(&[(Testbed::va(DATA, 0), 60)])
    }
}

#[test]
fn the_receiver_ends_the_channel() {
    let mut w = World::new();
    w.post_pages(0, 4);
    w.sender_told();
    assert_eq!(w.op(&w.dom0, TXCOPY_DESTROY, w.channel.into()), 0);
    assert!(w.sender_told());
    w.assert_held(1);
    assert_eq!(w.send(&[w.one()]), error(EPIPE));
    assert_eq!(w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), error(ENOENT));
    // Another channel of the same number is another channel.
    w.channel = w.create_channel(w.create()).unwrap();
    w.post_pages(0, 4);
    assert_eq!(w.send(&[w.one()]), error(EPIPE));
    let second = w.attach_to(w.attach()).unwrap();
    assert_eq!(w.op(&w.a, TXCOPY_DETACH, w.handle.into()), 0);
    assert_eq!(w.stats().attached, 1, "the old attachment's end is not the new one's");
    w.handle = second;
    assert_eq!(w.send(&[w.one()]), 1);
    w.assert_held(3);
}

#[test]
fn the_sender_detaches() {
    let mut w = World::new();
    assert_eq!(w.send_and_want(&[w.one()]), error(EAGAIN));
    assert_eq!(w.op(&w.a, TXCOPY_DETACH, w.handle.into()), 0);
    w.assert_held(2);
    assert_eq!((w.stats().attached, w.header().flags), (0, 0));
    w.post_pages(0, 4);
    assert_eq!((w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), w.sender_told()), (0, false));
    assert_eq!(w.send(&[w.one()]), error(ENOENT));
    w.handle = w.attach_to(w.attach()).unwrap();
    assert_eq!(w.send(&[w.one()]), 1);
    w.assert_held(3);
}

#[test]
fn the_sender_dies() {
    let w = World::new();
    w.post_pages(0, 4);
    assert_eq!(w.send(&[w.one()]), 1);
    w.destroy(&w.a);
    assert_eq!(w.stats().attached, 0);
    assert_eq!(w.op(&w.dom0, TXCOPY_POSTED, w.channel.into()), 0);
    assert_eq!(w.bed.pages_in_use().len(), 2);
    assert_eq!(w.bed.hv.frames.account(w.a.vmid).tot_pages(), 0);
    // A later domain of the same id is not the one that the channel was made for.
    let b = w.bed.domain(1, PAGES);
    let again = World { a: b, bed: w.bed, dom0: w.dom0, ..w };
    assert_eq!(again.port(&again.a, 0), again.ports[1]);
    assert_eq!(again.attach_to(again.attach()), Err(error(ENOENT)));
    assert_eq!(again.op(&again.dom0, TXCOPY_DESTROY, again.channel.into()), 0);
    again.assert_held(0);
}

#[test]
fn the_receiver_dies() {
    let bed = Testbed::new(Policy::Dummy);
    // Domain 0 is needed for the virtual interrupt of a death; here 2 receives.
    let (dom0, a) = (bed.domain(2, PAGES), bed.domain(1, PAGES));
    let mut w = World { bed, dom0, a, channel: 0, handle: 0, ports: [0; 2] };
    w.ports = [w.port(&w.dom0, 1), w.port(&w.a, 2)];
    for n in 0..20 {
        assert_eq!(w.create_channel(w.create()), Ok(n));
        assert_eq!(w.attach_to(Attach { receiver: 2, channel: n, ..w.attach() }), Ok(n));
    }
    w.post_pages(0, 4);
    assert_eq!(w.send(&[w.one()]), 1);
    w.sender_told();
    w.destroy(&w.dom0);
    assert!(w.sender_told());
    assert_eq!(w.send(&[w.one()]), error(EPIPE));
    assert_eq!(w.bed.hv.frames.account(w.dom0.vmid).tot_pages(), 0);
    for n in 0..20 {
        assert_eq!(w.op(&w.a, TXCOPY_DETACH, n), 0);
    }
    w.assert_held(0);
}

/// Given back to the hypervisor while the ring or the batch page lies in it: the page stays until the channel ends.
#[test]
fn pages_that_are_given_back_meanwhile() {
    let w = World::new();
    w.post_pages(0, 4);
    let batch = w.bed.ram(&w.a, BATCH);
    let bytes = w.describe(&[w.one()]);
    let gone = w.a.p2m.edit(&w.bed.hv.frames).unmap(crate::addr::Gfn(RAM + BATCH));
    gone.unwrap().unwrap().release(&w.bed.hv.frames, w.a.vmid);
    assert_eq!(w.send_bytes(bytes, 0), 1);
    assert_eq!(w.op(&w.a, TXCOPY_DETACH, w.handle.into()), 0);
    assert_eq!(w.bed.references(batch), 0);
}

/// Each packet is read where its addresses lead when it is sent.
#[test]
fn stage_2_changes_between_packets() {
    use crate::addr::Gfn;
    use crate::p2m::P2mType;
    let w = World::new();
    w.post_pages(0, 16);
    let (gfn, other) = (Gfn(RAM + DATA), Gfn(RAM + DATA + 1));
    w.bed.poke(&w.a, Testbed::va(DATA, 0), &[1_u8; 60]);
    w.bed.poke(&w.a, Testbed::va(DATA + 1, 0), &[2_u8; 60]);
    let sent = |n: u32, expected: u8| {
        assert_eq!(w.send(&[w.one()]), 1);
        assert!(w.buffer(&w.slot(n)).iter().all(|byte| *byte == expected), "packet {n}");
    };
    let edit = || w.a.p2m.edit(&w.bed.hv.frames);
    let refused = || {
        assert_eq!((w.send(&[w.one()]), w.stats().packets), (error(EFAULT), u64::from(w.header().completed)));
    };
    sent(0, 1);
    // Nothing there, the other page, nothing again, a page that may not be written, a device.
    let first = edit().unmap(gfn).unwrap().unwrap().mfn;
    refused();
    let second = edit().unmap(other).unwrap().unwrap().mfn;
    edit().map(gfn, second, 0, P2mType::RamRw).unwrap();
    sent(1, 2);
    edit().unmap(gfn).unwrap();
    refused();
    edit().map(gfn, first, 0, P2mType::RamRo).unwrap();
    sent(2, 1);
    edit().map(gfn, crate::addr::Mfn(9), 0, P2mType::MmioDirectDev).unwrap();
    refused();
    // And pages that are still mapped but have been given up: owned no longer.
    edit().map(gfn, second, 0, P2mType::RamRw).unwrap();
    sent(3, 2);
    w.bed.hv.frames.release(second, w.a.vmid);
    refused();
    edit().unmap(gfn).unwrap();
    assert_eq!(w.bed.pages_in_use().len(), 3);
}
