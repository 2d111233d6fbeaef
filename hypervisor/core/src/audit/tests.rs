//! Imbalances made on purpose, each of which is to be named.

use super::*;
use crate::evtchn;
use crate::frames::FrameKind;
use crate::gnttab::{GrantError, Handle, MapEntry, Request, Use};
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::testbed::{RAM, Testbed};
use crate::txcopy::{Attachment, GuestPage, Ring};
use std::vec;

/// Where nothing is mapped.
const HOLE: Gfn = Gfn(RAM + 0x100);

struct World {
    bed: Testbed,
    dom0: Arc<Domain>,
    a: Arc<Domain>,
}

impl World {
    fn new() -> Self {
        let bed = Testbed::new(Policy::Silo);
        let (dom0, a) = (bed.domain(0, 4), bed.domain(1, 4));
        let world = Self { bed, dom0, a };
        assert_eq!(world.bed.hv.audit(), Ok(()));
        world
    }

    /// What the audit says.
    #[track_caller]
    fn assert_named(&self, expected: Imbalance) {
        assert_eq!(self.bed.hv.audit(), Err(expected));
    }

    fn place(&self, domain: &Domain, gfn: Gfn, mfn: Mfn, kind: P2mType) {
        assert_eq!(domain.p2m.edit(&self.bed.hv.frames).map(gfn, mfn, 0, kind), Ok(None));
    }

    /// Dom0 maps page `n` of `a`, as a grant, at [`HOLE`].
    fn grant(&self, n: u64) -> (Handle, MapEntry) {
        let mfn = self.bed.ram(&self.a, n);
        let entry = guest_abi::grant_table::GrantEntryV1 { flags: 1, domid: 0, frame: (RAM + n) as u32 };
        let table = self.a.grants.frame(0).unwrap().address();
        self.bed.hv.machine.write(crate::addr::MachineAddr(table.0 + 8 * 9), zerocopy::IntoBytes::as_bytes(&entry));
        let request = Request { reference: 9, grantee: DomainId(0), write: true, purpose: Use::Map };
        let hold = |gfn| self.a.p2m.get_own(&self.bed.hv.frames, gfn, true).ok_or(GrantError::BadFrame);
        assert_eq!(self.a.grants.pin(self.bed.machine, request, hold), Ok(mfn));
        self.place(&self.dom0, HOLE, mfn, P2mType::GrantMapRw);
        let entry = MapEntry { gfn: HOLE, mfn, reference: 9, granter: self.a.vmid, write: true };
        let handle = self.dom0.grants.reserve().unwrap();
        self.dom0.grants.commit(handle, entry);
        (handle, entry)
    }
}

#[test]
fn references_nobody_has() {
    let w = World::new();
    let mfn = w.bed.ram(&w.a, 2);
    assert!(w.bed.hv.frames.get(mfn, w.a.vmid));
    w.assert_named(Imbalance::References { mfn, has: 2, held: 1 });
    w.bed.hv.frames.put(mfn);
    assert!(w.bed.hv.frames.get(w.a.shared_info, w.a.vmid));
    w.assert_named(Imbalance::References { mfn: w.a.shared_info, has: 2, held: 1 });
}

#[test]
fn a_foreign_mapping_without_a_reference() {
    let w = World::new();
    let mfn = w.bed.ram(&w.a, 2);
    w.place(&w.dom0, HOLE, mfn, P2mType::MapForeignRo);
    w.assert_named(Imbalance::References { mfn, has: 1, held: 2 });
    assert!(w.bed.hv.frames.get(mfn, w.a.vmid));
    assert_eq!(w.bed.hv.audit(), Ok(()));
}

#[test]
fn pages_that_a_domain_cannot_have_mapped() {
    let w = World::new();
    let frames = &w.bed.hv.frames;
    let free = frames.iter().find(|(_, info)| info.kind == FrameKind::Free).unwrap().0;
    let (own, other) = (w.bed.ram(&w.a, 1), w.bed.ram(&w.dom0, 1));
    let wrong = [
        (own, P2mType::RamRw, "a second time"),
        (other, P2mType::RamRw, "another's"),
        (free, P2mType::RamRo, "free"),
        (free, P2mType::MapForeignRw, "free, too"),
        (Mfn(1), P2mType::RamRw, "not RAM"),
        (other, P2mType::GrantMapRo, "not granted"),
        (own, P2mType::MmioDirectDev, "no device"),
    ];
    for (mfn, kind, what) in wrong {
        w.place(&w.a, HOLE, mfn, kind);
        // Which of two places of a page is the wrong one cannot be told.
        assert_eq!(w.bed.hv.audit(), Err(Imbalance::Mapped { domain: w.a.id, gfn: HOLE, mfn }), "{what}");
        w.a.p2m.edit(frames).unmap(HOLE).unwrap();
    }
    w.place(&w.a, HOLE, w.dom0.shared_info, P2mType::RamRw);
    w.assert_named(Imbalance::Mapped { domain: w.a.id, gfn: HOLE, mfn: w.dom0.shared_info });
    w.a.p2m.edit(frames).unmap(HOLE).unwrap();
    w.place(&w.a, HOLE, Mfn(1), P2mType::MmioDirectDev);
    w.place(&w.a, Gfn(HOLE.0 + 1), w.a.shared_info, P2mType::RamRw);
    assert_eq!(w.bed.hv.audit(), Ok(()));
}

#[test]
fn pages_that_will_not_come_back() {
    let w = World::new();
    let frames = &w.bed.hv.frames;
    let mfn = w.bed.ram(&w.a, 3);
    let mapping = w.a.p2m.edit(frames).unmap(Gfn(RAM + 3)).unwrap().unwrap();
    w.assert_named(Imbalance::Lost(mfn));
    mapping.displace(frames, w.a.vmid);
    assert_eq!(w.bed.hv.audit(), Ok(()), "an orphan is known");
    let shared = frames.allocate(w.a.vmid, 0, FrameKind::Xen).unwrap();
    w.assert_named(Imbalance::References { mfn: shared, has: 1, held: 0 });
    frames.put(shared);
    let table = frames.allocate(w.a.vmid, 0, FrameKind::Table).unwrap();
    w.assert_named(Imbalance::References { mfn: table, has: 1, held: 0 });
    frames.put(table);
    // Someone thinks that it is mapped still, so that it cannot be mapped again.
    frames.set_xen_gfn(w.a.shared_info, Some(HOLE));
    w.assert_named(Imbalance::Lost(w.a.shared_info));
}

#[test]
fn pins_and_mappings_that_do_not_belong_together() {
    let w = World::new();
    let (handle, entry) = w.grant(2);
    assert_eq!(w.bed.hv.audit(), Ok(()));
    let grant = Imbalance::Grant { granter: w.a.vmid, reference: 9 };

    w.dom0.grants.claim(handle).unwrap();
    w.assert_named(Imbalance::Handles(w.dom0.id));
    w.dom0.grants.release(handle);
    w.assert_named(grant);
    let handle = w.dom0.grants.reserve().unwrap();
    w.assert_named(Imbalance::Handles(w.dom0.id));
    w.dom0.grants.commit(handle, MapEntry { write: false, ..entry });
    w.assert_named(grant);
    w.dom0.grants.claim(handle).unwrap();
    w.dom0.grants.release(handle);
    let handle = w.dom0.grants.reserve().unwrap();
    w.dom0.grants.commit(handle, MapEntry { gfn: Gfn(HOLE.0 + 1), ..entry });
    w.assert_named(Imbalance::Mapped { domain: w.dom0.id, gfn: HOLE, mfn: entry.mfn });
    w.dom0.p2m.edit(&w.bed.hv.frames).unmap(HOLE).unwrap();
    assert_eq!(w.bed.hv.audit(), Ok(()), "the guest may have unmapped it by other means");

    assert_eq!(w.a.grants.unpin(w.bed.machine, 9, true), Some(entry.mfn));
    w.assert_named(grant);
}

#[test]
fn the_pages_of_a_dead_domains_grants_are_accounted_for() {
    let w = World::new();
    w.grant(2);
    while w.bed.hv.destroy(&w.a) == crate::domain::destroy::Progress::More {
        assert_eq!(w.bed.hv.audit(), Ok(()));
    }
    assert_eq!(w.bed.hv.audit(), Ok(()));
    w.bed.hv.domains.take(&w.a);
    w.assert_named(Imbalance::Grant { granter: w.a.vmid, reference: 9 });
}

#[test]
fn ports_whose_other_end_disagrees() {
    let w = World::new();
    let machine = w.bed.machine;
    let far = w.dom0.events.alloc_unbound(machine, w.a.id).unwrap();
    let (port, _) = evtchn::bind_interdomain(machine, &w.a.events, &w.dom0.events, far).unwrap();
    assert_eq!(w.bed.hv.audit(), Ok(()));
    let gone = w.bed.hv.domains.get(w.a.id).unwrap();
    w.bed.hv.domains.take(&gone);
    assert!(matches!(w.bed.hv.audit(), Err(Imbalance::Port { .. } | Imbalance::References { .. })));
    assert_eq!(w.bed.hv.check_ports(core::slice::from_ref(&w.dom0)), Err(Imbalance::Port { domain: w.dom0.id, port: far }));
    assert_eq!(w.bed.hv.check_ports(core::slice::from_ref(&w.a)), Err(Imbalance::Port { domain: w.dom0.id, port }));
}

#[test]
fn channels_without_a_sender_and_senders_without_a_channel() {
    let w = World::new();
    let page = |domain: &Domain, n| GuestPage::new(w.bed.machine, domain.p2m.get_ram(&w.bed.hv.frames, Gfn(RAM + n), true).unwrap());
    let ring = Ring::new(page(&w.dom0, 1), vec![page(&w.dom0, 2)]);
    let channel = w.dom0.txcopy.create(Arc::downgrade(&w.a), 1, ring).unwrap_or_else(|_| panic!("no channel"));
    let generation = w.dom0.txcopy.claim(channel, 1, |_| true).unwrap();
    let wrong = Imbalance::Channel { receiver: w.dom0.id, channel };
    w.assert_named(wrong);
    let attachment = || Attachment { receiver: Arc::downgrade(&w.dom0), channel, generation, batch: page(&w.a, 1) };
    w.a.txcopy.attach(|| Ok(attachment())).unwrap();
    assert_eq!(w.bed.hv.audit(), Ok(()));
    let second = w.a.txcopy.attach(|| Ok(attachment())).unwrap();
    w.assert_named(wrong);
    w.bed.hv.frames.put(w.a.txcopy.detach(second).unwrap().batch.mfn());
    w.dom0.txcopy.unclaim(channel, generation);
    w.assert_named(wrong);
}

#[test]
fn the_first_difference_of_lists() {
    assert_eq!(first_difference::<u8>(&[], &[]), None);
    assert_eq!(first_difference(&[1, 2, 2], &[1, 2, 2]), None);
    assert_eq!(first_difference(&[1, 2, 2], &[1, 2]), Some(2));
    assert_eq!(first_difference(&[], &[7]), Some(7));
    assert_eq!(first_difference(&[1, 4, 6], &[1, 3, 4]), Some(3));
}
