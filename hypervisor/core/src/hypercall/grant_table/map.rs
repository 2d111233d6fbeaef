//! `GNTTABOP_map_grant_ref`.
//!
//! Reserve a handle, pin the grant, map: what can fail is done before the mapping is there, and a pin is taken back if it cannot be.

use super::{BUDGET, Call, Peer, Refused, status};
use crate::addr::{Gfn, Ipa, Mfn};
use crate::domain::Domain;
use crate::gnttab::{GrantError, MapEntry, Request, Use};
use crate::hypercall::Outcome;
use crate::hypervisor::Hypervisor;
use crate::p2m::P2mType;
use guest_abi::grant_table::{self as abi, MapGrantRef};

pub(super) fn map_grant_ref(call: &Call<'_, '_>) -> Outcome {
    let mut granter = Peer::default();
    call.each(BUDGET, 1, |op: &mut MapGrantRef| op.status = status(map(call, &mut granter, op)))
}

fn map(call: &Call<'_, '_>, granter: &mut Peer, op: &mut MapGrantRef) -> Result<(), Refused> {
    if op.flags & (abi::GNTMAP_DEVICE_MAP | abi::GNTMAP_HOST_MAP) == 0 {
        return Err(Refused(abi::GNTST_BAD_GNTREF));
    }
    if op.flags & (abi::GNTMAP_DEVICE_MAP | abi::GNTMAP_APPLICATION_MAP | abi::GNTMAP_CONTAINS_PTE) != 0 {
        return Err(Refused(abi::GNTST_GENERAL_ERROR));
    }
    // Not `Call::domain`: here DOMID_SELF names nobody.
    let granter = granter.find(op.dom, || call.hv.domains.get(crate::addr::DomainId(op.dom)))?;
    let mapper = call.caller.domain;
    call.may_share(mapper, granter)?;

    let handle = mapper.grants.reserve()?;
    match pin_and_map(call, granter, op) {
        Ok(entry) => {
            mapper.grants.commit(handle, entry);
            op.handle = handle.0;
            op.dev_bus_addr = entry.mfn.address().0;
            Ok(())
        }
        Err(error) => {
            mapper.grants.release(handle);
            Err(error.into())
        }
    }
}

fn pin_and_map(call: &Call<'_, '_>, granter: &Domain, op: &MapGrantRef) -> Result<MapEntry, GrantError> {
    let write = op.flags & abi::GNTMAP_READONLY == 0;
    let mfn = pin(call, granter, op.grant_ref, write, Use::Map)?;
    let gfn = Gfn::containing(Ipa(op.host_addr));
    let mapped = if op.flags & !(abi::GNTMAP_HOST_MAP | abi::GNTMAP_READONLY) == 0 {
        place(call, gfn, mfn, write)
    } else {
        Err(GrantError::Unmappable)
    };
    match mapped {
        Ok(()) => Ok(MapEntry { gfn, mfn, reference: op.grant_ref, granter: granter.vmid, write }),
        Err(error) => {
            unpin(call.hv, granter, op.grant_ref, write);
            Err(error)
        }
    }
}

/// Maps the frame, in place of whatever was there.
fn place(call: &Call<'_, '_>, gfn: Gfn, mfn: Mfn, write: bool) -> Result<(), GrantError> {
    let mapper = call.caller.domain;
    let kind = if write { P2mType::GrantMapRw } else { P2mType::GrantMapRo };
    let mut edit = mapper.p2m.edit(&call.hv.frames);
    let displaced = edit.map(gfn, mfn, 0, kind).map_err(|_| GrantError::Unmappable)?;
    drop(edit);
    if let Some(displaced) = displaced {
        displaced.displace(&call.hv.frames, mapper.vmid);
    }
    Ok(())
}

/// Pins a grant of `granter` for the caller; its frame must be the granter's RAM, or a page that the hypervisor shares with it.
pub(super) fn pin(call: &Call<'_, '_>, granter: &Domain, reference: u32, write: bool, purpose: Use) -> Result<Mfn, GrantError> {
    let request = Request { reference, grantee: call.caller.domain.id, write, purpose };
    granter.grants.pin(call.hv.machine, request, |gfn| granter.p2m.get_own(&call.hv.frames, gfn, write).ok_or(GrantError::BadFrame))
}

/// Takes a pin back; with the last one goes the reference on the frame.
pub(super) fn unpin(hv: &Hypervisor, granter: &Domain, reference: u32, write: bool) {
    if let Some(mfn) = granter.grants.unpin(hv.machine, reference, write) {
        hv.frames.put(mfn);
    }
}
