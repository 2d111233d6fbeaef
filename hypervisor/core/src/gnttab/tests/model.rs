//! Random sequences of grants, pins and mappings, compared after each step with a model.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const REFS: u32 = 4;

#[derive(Clone, Debug)]
enum Action {
    Grant {
        reference: u32,
        flags: u16,
        grantee: u16,
        frame: u32,
    },
    /// As Linux withdraws: only what is not marked.
    Withdraw {
        reference: u32,
    },
    Map {
        reference: u32,
        grantee: u16,
        write: bool,
        hold_fails: bool,
    },
    Unmap {
        which: usize,
    },
    Copy {
        reference: u32,
        grantee: u16,
        write: bool,
    },
    Swap {
        a: u32,
        b: u32,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let flags = prop_oneof![Just(0u16), Just(1), Just(1), Just(5), Just(2), Just(3), Just(0x101)];
    prop_oneof![
        (0..REFS, flags, 3u16..5, 0u32..3).prop_map(|(reference, flags, grantee, frame)| Action::Grant {
            reference,
            flags,
            grantee,
            frame
        }),
        (0..REFS).prop_map(|reference| Action::Withdraw { reference }),
        (0..=REFS, 3u16..5, any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(reference, grantee, write, hold_fails)| Action::Map {
            reference,
            grantee,
            write,
            hold_fails
        }),
        any::<usize>().prop_map(|which| Action::Unmap { which }),
        (0..=REFS, 3u16..5, any::<bool>()).prop_map(|(reference, grantee, write)| Action::Copy { reference, grantee, write }),
        (0..=REFS, 0..=REFS).prop_map(|(a, b)| Action::Swap { a, b }),
    ]
}

/// What should be so of one reference.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Entry {
    flags: u16,
    domid: u16,
    frame: u32,
    readers: u32,
    writers: u32,
    pinned: Option<(u16, u64)>,
}

impl Entry {
    fn may_pin(&self, grantee: u16, write: bool, map: bool) -> bool {
        match self.pinned {
            Some((by, _)) if by != grantee => false,
            Some(_) => !write || self.writers > 0 || self.flags & GTF_READONLY == 0,
            None => {
                self.flags & 3 == 1
                    && self.domid == grantee
                    && !(map && self.flags & GTF_SUB_PAGE != 0)
                    && !(write && self.flags & GTF_READONLY != 0)
            }
        }
    }

    fn marks(&self) -> u16 {
        let reading = if self.readers + self.writers > 0 { GTF_READING } else { 0 };
        reading | if self.writers > 0 { GTF_WRITING } else { 0 }
    }

    fn pin(&mut self, grantee: u16, write: bool) {
        self.pinned.get_or_insert((grantee, u64::from(self.frame) + 0x1000));
        *(if write { &mut self.writers } else { &mut self.readers }) += 1;
    }

    fn unpin(&mut self, write: bool) -> Option<Mfn> {
        *(if write { &mut self.writers } else { &mut self.readers }) -= 1;
        if self.readers + self.writers == 0 { self.pinned.take().map(|(_, mfn)| Mfn(mfn)) } else { None }
    }
}

fn check(g: &Granter, model: &[Entry], references: i64, mapped: &[(Handle, u32, bool)]) {
    for (reference, expected) in (0..).zip(model) {
        let e = g.read(reference);
        let marks = GTF_READING | GTF_WRITING;
        assert_eq!((e.flags & !marks, e.domid, e.frame), (expected.flags, expected.domid, expected.frame), "entry {reference}");
        assert_eq!(e.flags & marks, expected.marks(), "marks of entry {reference}");
    }
    let mut pinned = Vec::new();
    g.grants.for_each_pinned(|p| pinned.push((p.reference, p.grantee.0, p.mfn.0)));
    let expected: Vec<_> = (0..).zip(model).filter_map(|(r, e)| e.pinned.map(|(d, m)| (r, d, m))).collect();
    assert_eq!(pinned, expected);
    assert_eq!(references, expected.len() as i64, "one reference on the frame per entry in use");
    let mut mappings = 0;
    g.grants.for_each_mapping(|_| mappings += 1);
    assert_eq!(mappings, mapped.len());
}

fn run(actions: Vec<Action>) {
    let g = Granter::new();
    let far = |reference: u32| if reference == REFS { 512 } else { reference };
    let mut model = [Entry::default(); REFS as usize];
    let mut mapped: Vec<(Handle, u32, bool)> = Vec::new();
    let mut references = 0i64;
    for action in actions {
        match action {
            Action::Grant { reference, flags, grantee, frame } => {
                let entry = &mut model[reference as usize];
                // A granter that keeps to the protocol does not touch an entry in use.
                if entry.pinned.is_none() {
                    (entry.flags, entry.domid, entry.frame) = (flags, grantee, frame);
                    g.write(reference, flags, DomainId(grantee), frame);
                }
            }
            Action::Withdraw { reference } => {
                let entry = &mut model[reference as usize];
                if entry.marks() == 0 {
                    entry.flags = 0;
                    g.write(reference, 0, DomainId(entry.domid), entry.frame);
                }
            }
            Action::Map { reference, grantee, write, hold_fails } => {
                let handle = g.grants.reserve().unwrap();
                let request = Request { reference: far(reference), grantee: DomainId(grantee), write, purpose: Use::Map };
                let pinned = g.grants.pin(g.machine, request, |gfn| {
                    if hold_fails {
                        return Err(GrantError::BadFrame);
                    }
                    references += 1;
                    Ok(Mfn(gfn.0 + 0x1000))
                });
                let entry = model.get_mut(reference as usize).filter(|e| e.may_pin(grantee, write, true));
                match entry {
                    Some(entry) if !hold_fails || entry.pinned.is_some() => {
                        entry.pin(grantee, write);
                        assert_eq!(pinned.ok().map(|m| m.0), entry.pinned.map(|(_, m)| m));
                        g.grants.commit(handle, MapEntry { gfn: Gfn(1), mfn: Mfn(2), reference, granter: Vmid(1), write });
                        mapped.push((handle, reference, write));
                    }
                    _ => {
                        assert!(pinned.is_err());
                        g.grants.release(handle);
                    }
                }
            }
            Action::Unmap { which } => {
                if mapped.is_empty() {
                    assert_eq!(g.grants.claim(Handle((which % 300) as u32)), Err(GrantError::BadHandle));
                    continue;
                }
                let (handle, reference, write) = mapped.swap_remove(which % mapped.len());
                let entry = g.grants.claim(handle).unwrap();
                assert_eq!((entry.reference, entry.write), (reference, write));
                let put = g.unpin(reference, write);
                assert_eq!(put, model[reference as usize].unpin(write));
                references -= i64::from(put.is_some());
                g.grants.release(handle);
            }
            Action::Copy { reference, grantee, write } => {
                let entry = model.get_mut(reference as usize).filter(|e| e.may_pin(grantee, write, false));
                let pinned = g.pin_for(far(reference), DomainId(grantee), write, Use::Copy);
                assert_eq!(pinned.is_ok(), entry.is_some());
                if let Some(entry) = entry {
                    entry.pin(grantee, write);
                    assert_eq!(g.unpin(reference, write), entry.unpin(write));
                }
            }
            Action::Swap { a, b } => {
                let expected = if a == REFS || b == REFS {
                    Err(GrantError::BadRef)
                } else if a == b {
                    Ok(())
                } else if model[a as usize].pinned.is_some() || model[b as usize].pinned.is_some() {
                    Err(GrantError::Pinned)
                } else {
                    model.swap(a as usize, b as usize);
                    Ok(())
                };
                assert_eq!(g.grants.swap(g.machine, far(a), far(b)), expected);
            }
        }
        check(&g, &model, references, &mapped);
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(actions in prop::collection::vec(action(), 1..120)) {
        run(actions);
    }
}
