//! Random operations by all domains on a small world: whatever happens, statuses are known ones and all is given back in the end.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    /// The granter writes anything into an entry, whether in use or not.
    Scribble {
        granter: usize,
        reference: u32,
        flags: u16,
        to: u16,
        page: u64,
    },
    Map {
        caller: usize,
        dom: u16,
        reference: u32,
        gfn: u64,
        flags: u32,
    },
    Unmap {
        caller: usize,
        handle: u32,
        gfn: u64,
        replace: bool,
    },
    Copy {
        caller: usize,
        from: (u64, u16, u16),
        to: (u64, u16, u16),
        len: u16,
        flags: u16,
    },
    Swap {
        caller: usize,
        a: u32,
        b: u32,
    },
    /// The guest removes what is mapped at a place.
    Remove {
        caller: usize,
        gfn: u64,
    },
}

fn gfn() -> impl Strategy<Value = u64> {
    prop_oneof![4 => HOLE..HOLE + 4, 2 => RAM + 2..RAM + 6, 1 => Just(0), 1 => any::<u64>().prop_map(|g| g >> 12)]
}

fn dom() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0..3_u16, 1 => Just(DOMID_SELF), 1 => any::<u16>()]
}

fn reference() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..3_u32, 1 => Just(512), 1 => any::<u32>()]
}

fn side() -> impl Strategy<Value = (u64, u16, u16)> {
    let u = prop_oneof![4 => 0..3_u64, 4 => gfn()];
    (u, prop_oneof![2 => dom(), 1 => Just(DOMID_SELF)], prop_oneof![Just(0), Just(4095), any::<u16>()])
}

fn action() -> impl Strategy<Value = Action> {
    let flags = prop_oneof![4 => Just(1_u16), 1 => Just(5), 1 => any::<u16>()];
    let map_flags = prop_oneof![4 => Just(2_u32), 3 => Just(6), 1 => any::<u32>()];
    prop_oneof![
        3 => (0..3_usize, 0..3_u32, flags, 0..3_u16, 0..10_u64)
            .prop_map(|(granter, reference, flags, to, page)| Action::Scribble { granter, reference, flags, to, page }),
        4 => (0..3_usize, dom(), reference(), gfn(), map_flags)
            .prop_map(|(caller, dom, reference, gfn, flags)| Action::Map { caller, dom, reference, gfn, flags }),
        4 => (0..3_usize, prop_oneof![8 => 0..6_u32, 1 => any::<u32>()], gfn(), any::<bool>())
            .prop_map(|(caller, handle, gfn, replace)| Action::Unmap { caller, handle, gfn, replace }),
        3 => (0..3_usize, side(), side(), prop_oneof![Just(1_u16), any::<u16>()], 0..4_u16)
            .prop_map(|(caller, from, to, len, flags)| Action::Copy { caller, from, to, len, flags }),
        1 => (0..3_usize, reference(), reference()).prop_map(|(caller, a, b)| Action::Swap { caller, a, b }),
        1 => (0..3_usize, gfn()).prop_map(|(caller, gfn)| Action::Remove { caller, gfn }),
    ]
}

fn run(actions: Vec<Action>) {
    let w = World::with(Policy::Dummy);
    let domains = [w.dom0.clone(), w.a.clone(), w.b.clone()];
    for action in actions {
        let said = std::format!("{action:?}");
        let status = match action {
            Action::Scribble { granter, reference, flags, to, page } => {
                w.grant(&domains[granter], reference, flags, to, page);
                0
            }
            Action::Map { caller, dom, reference, gfn, flags } => {
                if gfn == RAM {
                    continue;
                }
                w.map(&domains[caller], map_op(dom, reference, gfn, flags)).status
            }
            Action::Unmap { caller, handle, gfn, replace } => {
                let op = UnmapGrantRef { host_addr: gfn << 12, handle, dev_bus_addr: u64::from(replace), ..Default::default() };
                let cmd = if replace { GNTTABOP_UNMAP_AND_REPLACE } else { GNTTABOP_UNMAP_GRANT_REF };
                w.op(&domains[caller], cmd, op).status
            }
            Action::Copy { caller, from, to, len, flags } => {
                // The list itself is not a destination.
                if to.0 == RAM {
                    continue;
                }
                let side = |(u, domid, offset)| CopyPtr { u, domid, offset, _pad: 0 };
                w.copy(&domains[caller], abi::Copy { source: side(from), dest: side(to), len, flags, status: 0x77, _pad: 0 })
            }
            Action::Swap { caller, a, b } => {
                w.op(&domains[caller], GNTTABOP_SWAP_GRANT_REF, SwapGrantRef { ref_a: a, ref_b: b, ..Default::default() }).status
            }
            Action::Remove { caller, gfn } => {
                let found = w.mapped(&domains[caller], gfn).filter(|m| m.1.is_grant());
                if found.is_some() {
                    domains[caller].p2m.edit(&w.bed.hv.frames).unmap(Gfn(gfn)).unwrap();
                }
                0
            }
        };
        assert!((GNTST_NO_SPACE..=GNTST_OKAY).contains(&status), "{said} answers {status}");
        w.bed.hv.audit().unwrap();
    }
    for domain in &domains[1..] {
        w.bed.destroy(domain);
    }
    w.dom0.grants.for_each_mapping(|e| {
        assert!(w.bed.hv.domain_of(e.granter).is_some(), "{e:?} of a domain that is gone");
    });
    w.bed.hv.audit().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..Default::default() })]
    #[test]
    fn all_is_given_back(actions in prop::collection::vec(action(), 1..80)) {
        run(actions);
    }
}
