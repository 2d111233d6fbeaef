//! `GNTTABOP_unmap_grant_ref` and `GNTTABOP_unmap_and_replace`.
//!
//! A batch is claimed, unmapped with one TLB flush, and only then unpinned: when the granter sees that its page is free, nobody reaches it.

use super::{Call, Refused, map, status};
use crate::addr::{Gfn, Ipa};
use crate::domain::Domain;
use crate::gnttab::{GrantError, Handle, MapEntry};
use crate::guest_memory::Pinned;
use crate::hypercall::Outcome;
use crate::preempt::steps;
use alloc::sync::Arc;
use guest_abi::errno::Errno;
use guest_abi::grant_table::{self as abi, UnmapGrantRef};

/// Operations that share a TLB flush, as in Xen.
const BATCH: u32 = 32;

/// What the second address of an operation means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacement {
    /// It is a device address, and no grant is mapped for devices.
    Ignored,
    /// It is a mapping to move here, which Arm cannot.
    Refused,
}

/// One operation under way.
struct Pending<'a> {
    held: Pinned<'a, UnmapGrantRef>,
    op: UnmapGrantRef,
    claimed: Option<MapEntry>,
}

pub(super) fn unmap(call: &Call<'_, '_>, replacement: Replacement) -> Outcome {
    let now = call.count.min(steps(BATCH));
    let mut batch = [const { None }; BATCH as usize];
    let fetched = fetch(call, now, &mut batch);
    let mapper = call.caller.domain;

    for Pending { op, claimed, .. } in batch.iter_mut().flatten() {
        match claim(mapper, op, replacement) {
            Ok(entry) => *claimed = entry,
            Err(error) => op.status = Refused::from(error).0,
        }
    }
    remove(call, &mut batch);
    complete(call, &mut batch);

    match fetched {
        Ok(()) => call.after::<UnmapGrantRef>(now, 0),
        Err(error) => Err(error).into(),
    }
}

/// Reads and holds operations until one cannot be held.
fn fetch<'m>(call: &Call<'_, 'm>, now: u32, batch: &mut [Option<Pending<'m>>]) -> Result<(), Errno> {
    for (i, slot) in (0..now).zip(batch) {
        let held = call.caller.memory.pin(call.at::<UnmapGrantRef>(i)?)?;
        let op = UnmapGrantRef { status: abi::GNTST_OKAY, ..held.read() };
        *slot = Some(Pending { held, op, claimed: None });
    }
    Ok(())
}

/// Claims the mapping that an operation is to undo; none if it names no address, which is not an error.
fn claim(mapper: &Domain, op: &UnmapGrantRef, replacement: Replacement) -> Result<Option<MapEntry>, GrantError> {
    let handle = Handle(op.handle);
    if op.host_addr == 0 {
        return mapper.grants.mapping(handle).map(|_| None);
    }
    let entry = mapper.grants.claim(handle)?;
    let replace = replacement == Replacement::Refused && op.dev_bus_addr != 0;
    if replace || entry.gfn != Gfn::containing(Ipa(op.host_addr)) {
        mapper.grants.unclaim(handle);
        return Err(GrantError::WrongAddress);
    }
    Ok(Some(entry))
}

/// Takes the claimed mappings out of stage 2; on return no TLB holds them.
fn remove(call: &Call<'_, '_>, batch: &mut [Option<Pending<'_>>]) {
    let mapper = call.caller.domain;
    let mut edit = mapper.p2m.edit(&call.hv.frames);
    for pending in batch.iter_mut().flatten() {
        let Some(entry) = pending.claimed else { continue };
        let removed = match edit.lookup(entry.gfn) {
            // The guest removed it by other means; the pin is still there.
            None => true,
            Some(found) if found.kind.is_grant() && found.mfn == entry.mfn => edit.unmap(entry.gfn).is_ok(),
            Some(_) => false,
        };
        if !removed {
            mapper.grants.unclaim(Handle(pending.op.handle));
            pending.claimed = None;
            pending.op.status = status(Err(GrantError::WrongAddress.into()));
        }
    }
}

/// Gives back what the mappings held, and answers.
fn complete(call: &Call<'_, '_>, batch: &mut [Option<Pending<'_>>]) {
    let mut granter: Option<Arc<Domain>> = None;
    for Pending { held, op, claimed } in batch.iter().flatten() {
        if let Some(entry) = claimed {
            if granter.as_ref().is_none_or(|g| g.vmid != entry.granter) {
                // A granter stays in the list of domains as long as one of its pages is pinned.
                granter = call.hv.domains.by_vmid(entry.granter);
            }
            if let Some(granter) = &granter {
                map::unpin(call.hv, granter, entry.reference, entry.write);
            }
            call.caller.domain.grants.release(Handle(op.handle));
        }
        held.write(op);
    }
}
