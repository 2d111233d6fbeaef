//! Tests of the grant table: each operation, each refusal and its lack of traces, and a model of pins and mappings.

use super::*;
use crate::addr::Vmid;
use crate::machine::fake::FakeMachine;
use core::sync::atomic::Ordering;
use guest_abi::grant_table::{
    GTF_ACCEPT_TRANSFER, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_WRITING, GrantEntryV1,
};
use std::collections::HashSet;
use std::vec;
use zerocopy::{FromBytes, IntoBytes};

mod model;

const BASE: u64 = 0x4000_0000;
/// The machine frame in which the table's frame `n` lies is `TABLE + n`.
const TABLE: u64 = BASE >> 12;
const FRIEND: DomainId = DomainId(3);
const STRANGER: DomainId = DomainId(4);
const LIMIT: u32 = 4;

struct Granter {
    machine: &'static FakeMachine,
    grants: GrantTable,
}

impl Granter {
    fn new() -> Self {
        Self { machine: FakeMachine::leak(BASE, LIMIT as usize), grants: GrantTable::new(LIMIT, 2, Mfn(TABLE)).unwrap() }
    }

    fn at(reference: u32) -> MachineAddr {
        MachineAddr(BASE + 8 * u64::from(reference))
    }

    fn write(&self, reference: u32, flags: u16, grantee: DomainId, frame: u32) {
        self.machine.write(Self::at(reference), GrantEntryV1 { flags, domid: grantee.0, frame }.as_bytes());
    }

    fn read(&self, reference: u32) -> GrantEntryV1 {
        let mut bytes = [0; 8];
        self.machine.read(Self::at(reference), &mut bytes);
        GrantEntryV1::read_from_bytes(&bytes).unwrap()
    }

    fn flags(&self, reference: u32) -> u16 {
        self.read(reference).flags
    }

    /// Pins; the frame number that the entry grants, plus 0x1000, is the machine frame.
    fn pin(&self, reference: u32, write: bool) -> Result<Mfn, GrantError> {
        self.pin_for(reference, FRIEND, write, Use::Copy)
    }

    fn pin_for(&self, reference: u32, grantee: DomainId, write: bool, purpose: Use) -> Result<Mfn, GrantError> {
        let request = Request { reference, grantee, write, purpose };
        self.grants.pin(self.machine, request, |gfn| Ok(Mfn(gfn.0 + 0x1000)))
    }

    fn unpin(&self, reference: u32, write: bool) -> Option<Mfn> {
        self.grants.unpin(self.machine, reference, write)
    }
}

#[test]
fn marks_last_as_long_as_pins() {
    let g = Granter::new();
    g.write(9, GTF_PERMIT_ACCESS, FRIEND, 7);
    assert_eq!(g.pin(9, false), Ok(Mfn(0x1007)));
    assert_eq!(g.flags(9), GTF_PERMIT_ACCESS | GTF_READING);
    assert_eq!(g.pin(9, true), Ok(Mfn(0x1007)));
    assert_eq!(g.flags(9), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    assert_eq!(g.unpin(9, true), None);
    assert_eq!(g.flags(9), GTF_PERMIT_ACCESS | GTF_READING);
    assert_eq!(g.unpin(9, false), Some(Mfn(0x1007)), "the reference comes back with the last pin");
    assert_eq!(g.flags(9), GTF_PERMIT_ACCESS);
}

#[test]
fn a_copy_leaves_the_marks_of_a_mapping() {
    let g = Granter::new();
    g.write(9, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.pin_for(9, FRIEND, true, Use::Map).unwrap();
    for write in [false, true] {
        g.pin(9, write).unwrap();
        assert_eq!(g.unpin(9, write), None);
        assert_eq!(g.flags(9), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING, "XSA-230");
    }
}

#[test]
fn the_frame_is_fixed_while_pinned() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.pin(1, false).unwrap();
    g.write(1, GTF_PERMIT_ACCESS, STRANGER, 8);
    assert_eq!(g.pin(1, false), Ok(Mfn(0x1007)), "domain and frame are those of the first pin");
    assert_eq!(g.pin_for(1, STRANGER, false, Use::Copy), Err(GrantError::NotGranted));
    g.unpin(1, false);
    g.unpin(1, false);
    assert_eq!(g.pin(1, false), Err(GrantError::NotGranted));
    assert_eq!(g.pin_for(1, STRANGER, false, Use::Copy), Ok(Mfn(0x1008)));
}

#[test]
fn only_a_plain_grant_to_the_caller_is_honoured() {
    let g = Granter::new();
    for flags in 0..=u16::MAX {
        g.write(3, flags, FRIEND, 7);
        let plain = flags & 3 == GTF_PERMIT_ACCESS;
        for (purpose, write) in [(Use::Map, false), (Use::Map, true), (Use::Copy, false), (Use::Copy, true)] {
            let expected = plain && !(write && flags & GTF_READONLY != 0) && !(purpose == Use::Map && flags & GTF_SUB_PAGE != 0);
            let got = g.pin_for(3, FRIEND, write, purpose);
            assert_eq!(got.is_ok(), expected, "flags {flags:#x} {purpose:?} write {write}");
            match got {
                Ok(mfn) => {
                    assert_eq!(g.unpin(3, write), Some(mfn));
                    g.write(3, flags, FRIEND, 7);
                }
                Err(error) => {
                    assert_eq!(error.status(), abi::GNTST_GENERAL_ERROR);
                    assert_eq!(g.read(3), GrantEntryV1 { flags, domid: FRIEND.0, frame: 7 }, "no trace");
                }
            }
        }
    }
    g.write(3, GTF_PERMIT_ACCESS, STRANGER, 7);
    assert_eq!(g.pin(3, false), Err(GrantError::NotGranted));
    for flags in [GTF_ACCEPT_TRANSFER, GTF_TRANSITIVE] {
        g.write(3, flags, FRIEND, 7);
        assert_eq!(g.pin(3, false), Err(GrantError::NotGranted));
    }
}

#[test]
fn a_reader_may_pin_what_a_writer_may_not() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS | GTF_READONLY, FRIEND, 7);
    g.pin(1, false).unwrap();
    assert_eq!(g.pin(1, true), Err(GrantError::ReadOnly));
    assert_eq!(g.flags(1), GTF_PERMIT_ACCESS | GTF_READONLY | GTF_READING);
    assert_eq!(g.unpin(1, false), Some(Mfn(0x1007)));
}

#[test]
fn a_frame_that_cannot_be_held_leaves_no_trace() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    let request = Request { reference: 1, grantee: FRIEND, write: true, purpose: Use::Map };
    assert_eq!(g.grants.pin(g.machine, request, |_| Err(GrantError::BadFrame)), Err(GrantError::BadFrame));
    assert_eq!(g.flags(1), GTF_PERMIT_ACCESS);
    g.grants.for_each_pinned(|p| panic!("{p:?}"));
}

#[test]
fn pins_are_counted_up_to_128_of_a_kind() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    for _ in 0..128 {
        g.pin(1, false).unwrap();
    }
    assert_eq!(g.pin(1, false), Err(GrantError::TooManyPins));
    g.pin(1, true).unwrap();
    g.unpin(1, true);
    g.unpin(1, false);
    g.pin(1, false).unwrap();
    for n in (0..128).rev() {
        assert_eq!(g.unpin(1, false).is_some(), n == 0);
    }
}

#[test]
fn references_beyond_the_table_are_bad() {
    let g = Granter::new();
    for reference in [512, 513, 512 * LIMIT, u32::MAX] {
        assert_eq!(g.pin(reference, false), Err(GrantError::BadRef));
        assert_eq!(g.grants.swap(g.machine, 0, reference), Err(GrantError::BadRef));
        assert_eq!(g.grants.swap(g.machine, reference, 0), Err(GrantError::BadRef));
        assert_eq!(g.grants.swap(g.machine, reference, reference), Err(GrantError::BadRef), "XSA-18");
    }
    g.write(511, GTF_PERMIT_ACCESS, FRIEND, 7);
    assert!(g.pin(511, false).is_ok());
}

#[test]
fn an_entry_that_keeps_changing_is_given_up() {
    let g = Granter::new();
    g.machine.meddle_bits.store(u32::from(GTF_READONLY), Ordering::SeqCst);
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.machine.meddle.store(4, Ordering::SeqCst);
    assert_eq!(g.pin(1, false), Ok(Mfn(0x1007)), "the fifth attempt succeeds");
    g.unpin(1, false);
    g.machine.meddle.store(1000, Ordering::SeqCst);
    assert_eq!(g.pin(1, false), Err(GrantError::Unstable), "XSA-295");
    assert_eq!(g.machine.meddle.load(Ordering::SeqCst), 995, "attempts are bounded");
    assert_eq!(g.flags(1) & (GTF_READING | GTF_WRITING), 0);
}

#[test]
fn an_entry_withdrawn_in_between_is_not_marked() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.machine.meddle_bits.store(u32::from(GTF_PERMIT_ACCESS), Ordering::SeqCst);
    g.machine.meddle.store(1, Ordering::SeqCst);
    assert_eq!(g.pin(1, true), Err(GrantError::NotGranted));
    assert_eq!(g.flags(1), 0);
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.machine.meddle_bits.store(u32::from(STRANGER.0 ^ FRIEND.0) << 16, Ordering::SeqCst);
    g.machine.meddle.store(1, Ordering::SeqCst);
    assert_eq!(g.pin(1, true), Err(GrantError::NotGranted));
    assert_eq!(g.read(1), GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: STRANGER.0, frame: 7 });
}

#[test]
fn swap_exchanges_entries_that_are_not_in_use() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.write(2, GTF_PERMIT_ACCESS | GTF_READONLY, STRANGER, 8);
    g.grants.swap(g.machine, 1, 2).unwrap();
    assert_eq!(g.read(1), GrantEntryV1 { flags: GTF_PERMIT_ACCESS | GTF_READONLY, domid: STRANGER.0, frame: 8 });
    assert_eq!(g.read(2), GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: FRIEND.0, frame: 7 });
    g.pin(2, false).unwrap();
    assert_eq!(g.grants.swap(g.machine, 1, 2), Err(GrantError::Pinned));
    assert_eq!(g.grants.swap(g.machine, 2, 1), Err(GrantError::Pinned));
    assert_eq!(g.grants.swap(g.machine, 2, 2), Ok(()), "nothing to do");
    assert_eq!(GrantError::Pinned.status(), abi::GNTST_EAGAIN);
}

#[test]
fn the_table_grows_up_to_its_limit() {
    let g = Granter::new();
    assert_eq!(g.grants.missing(1), Ok(0));
    assert_eq!(g.grants.missing(LIMIT), Ok(3));
    assert_eq!(g.grants.missing(LIMIT + 1), Err(GrantError::TooManyFrames));
    assert_eq!(g.grants.missing(u32::MAX), Err(GrantError::TooManyFrames));
    let mut pages = vec![Mfn(TABLE + 2), Mfn(TABLE + 1)];
    assert_eq!(g.grants.grow(LIMIT, &mut pages), Err(GrantError::OutOfMemory));
    assert_eq!((g.grants.frame_count(), pages.len()), (1, 2), "refused without a trace");
    g.grants.grow(2, &mut pages).unwrap();
    assert_eq!(pages, [Mfn(TABLE + 2)], "what was not needed stays with the caller");
    g.grants.grow(2, &mut pages).unwrap();
    g.grants.grow(0, &mut pages).unwrap();
    assert_eq!((g.grants.frame_count(), pages.len()), (2, 1));
    assert_eq!([0, 1, 2].map(|n| g.grants.frame(n)), [Some(Mfn(TABLE)), Some(Mfn(TABLE + 1)), None]);
    g.write(512 + 3, GTF_PERMIT_ACCESS, FRIEND, 7);
    assert_eq!(g.pin(512 + 3, false), Ok(Mfn(0x1007)));
}

#[test]
fn a_table_has_a_frame() {
    assert_eq!(GrantTable::new(0, 1, Mfn(TABLE)).err(), Some(GrantError::TooManyFrames));
    assert_eq!(GrantTable::new(1, 0, Mfn(TABLE)).unwrap().reserve(), Err(GrantError::NoHandle));
}

#[test]
fn finds_who_uses_a_frame_in_steps() {
    let g = Granter::new();
    g.write(300, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.pin(300, false).unwrap();
    let mut from = 0;
    assert_eq!(g.grants.is_granted(Mfn(0x1007), FRIEND, &mut from, 256), None);
    assert_eq!(from, 256);
    assert_eq!(g.grants.is_granted(Mfn(0x1007), FRIEND, &mut from, 256), Some(true));
    from = 0;
    assert_eq!(g.grants.is_granted(Mfn(0x1007), STRANGER, &mut from, 4096), Some(false));
    assert_eq!(g.grants.is_granted(Mfn(0x1008), FRIEND, &mut 0, 4096), Some(false));
    from = u32::MAX;
    assert_eq!(g.grants.is_granted(Mfn(0x1007), FRIEND, &mut from, 4096), Some(false), "a guest may say where to go on");
}

#[test]
fn users_of_a_dead_granter_let_go_later() {
    let g = Granter::new();
    g.write(1, GTF_PERMIT_ACCESS, FRIEND, 7);
    g.pin(1, true).unwrap();
    assert_eq!(g.grants.retire(), [Mfn(TABLE)]);
    assert_eq!(g.pin(1, true), Err(GrantError::BadRef));
    let mut pinned = vec![];
    g.grants.for_each_pinned(|p| pinned.push((p.reference, p.grantee, p.mfn)));
    assert_eq!(pinned, [(1, FRIEND, Mfn(0x1007))]);
    let before = g.read(1);
    assert_eq!(g.unpin(1, true), Some(Mfn(0x1007)));
    assert_eq!(g.read(1), before, "the page may be someone else's by now");
}

fn entry(n: u32) -> MapEntry {
    MapEntry { gfn: Gfn(u64::from(n) + 100), mfn: Mfn(7), reference: n, granter: Vmid(9), write: n.is_multiple_of(2) }
}

fn map(grants: &GrantTable, n: u32) -> Handle {
    let handle = grants.reserve().unwrap();
    grants.commit(handle, entry(n));
    handle
}

#[test]
fn a_handle_is_claimed_once() {
    let grants = GrantTable::new(1, 1, Mfn(TABLE)).unwrap();
    let handle = grants.reserve().unwrap();
    assert_eq!(grants.claim(handle), Err(GrantError::BadHandle), "a map is under way");
    grants.commit(handle, entry(5));
    assert_eq!(grants.mapping(handle), Ok(entry(5)));
    assert_eq!(grants.claim(handle), Ok(entry(5)));
    assert_eq!((grants.claim(handle), grants.mapping(handle)), (Err(GrantError::BadHandle), Err(GrantError::BadHandle)));
    grants.unclaim(handle);
    assert_eq!(grants.claim(handle), Ok(entry(5)), "a refused unmap may be tried again");
    grants.release(handle);
    assert_eq!(grants.claim(handle), Err(GrantError::BadHandle), "XSA-394");
    grants.release(handle);
    grants.unclaim(handle);
    grants.commit(handle, entry(6));
    assert_eq!(grants.claim(handle), Err(GrantError::BadHandle));
    let two = [map(&grants, 1), map(&grants, 2)];
    assert_ne!(two[0], two[1], "XSA-218");
}

#[test]
fn many_unmaps_at_once_have_one_winner() {
    let grants = GrantTable::new(1, 1, Mfn(TABLE)).unwrap();
    for n in 0..200 {
        let handle = map(&grants, n);
        let wins = std::thread::scope(|s| {
            let claims: std::vec::Vec<_> = (0..4).map(|_| s.spawn(|| grants.claim(handle).is_ok())).collect();
            claims.into_iter().map(|c| c.join().unwrap()).filter(|&won| won).count()
        });
        assert_eq!(wins, 1);
        grants.release(handle);
    }
}

#[test]
fn handles_run_out_at_the_limit() {
    let grants = GrantTable::new(1, 2, Mfn(TABLE)).unwrap();
    let handles: HashSet<_> = (0..2 * HANDLES_PER_FRAME).map(|n| map(&grants, n)).collect();
    assert_eq!(handles.len(), 512);
    assert_eq!(grants.reserve(), Err(GrantError::NoHandle));
    assert_eq!(GrantError::NoHandle.status(), abi::GNTST_NO_SPACE);
    for bad in [512, 513, u32::MAX] {
        assert_eq!(grants.claim(Handle(bad)), Err(GrantError::BadHandle));
    }
    let one = *handles.iter().next().unwrap();
    grants.claim(one).unwrap();
    assert_eq!(grants.reserve(), Err(GrantError::NoHandle), "not before the unmap is complete");
    grants.release(one);
    assert_eq!(grants.reserve(), Ok(one));
}

#[test]
fn a_dying_domain_lets_go_step_by_step() {
    let grants = GrantTable::new(1, 2, Mfn(TABLE)).unwrap();
    assert_eq!(grants.drain(&mut 10), Drained::Done);
    for n in 0..300 {
        map(&grants, n);
    }
    let mut seen = HashSet::new();
    let mut calls = 0;
    loop {
        let mut budget = 7;
        calls += 1;
        assert!(calls < 100);
        loop {
            match grants.drain(&mut budget) {
                Drained::Entry(e) => assert!(seen.insert(e.reference)),
                Drained::Again => break,
                Drained::Done => {
                    assert_eq!(seen.len(), 300);
                    grants.for_each_mapping(|e| panic!("{e:?} is left"));
                    return;
                }
            }
        }
    }
}
