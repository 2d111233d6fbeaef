//! `GNTTABOP_copy`: between two pages, each named by a grant or as the caller's own.
//!
//! Consecutive operations often share a page (netback fills one receive buffer from several pieces), so each side stays pinned until an
//! operation names another page or fails.

use super::{BUDGET, Call, Peer, Refused, map, status};
use crate::addr::{Gfn, MachineAddr, Mfn, PAGE_SIZE};
use crate::domain::Domain;
use crate::gnttab::Use;
use crate::hypercall::Outcome;
use alloc::sync::Arc;
use guest_abi::grant_table::{self as abi, Copy, CopyPtr};
use guest_abi::xen::DOMID_SELF;

pub(super) fn copy(call: &Call<'_, '_>) -> Outcome {
    let mut source = Side::new(call, false);
    let mut dest = Side::new(call, true);
    call.each(BUDGET, BUDGET, |op: &mut Copy| {
        let result = copy_one(call, &mut source, &mut dest, op);
        if result.is_err() {
            source.release();
            dest.release();
        }
        op.status = status(result);
    })
}

fn copy_one(call: &Call<'_, '_>, source: &mut Side<'_, '_, '_>, dest: &mut Side<'_, '_, '_>, op: &Copy) -> Result<(), Refused> {
    if op.len == 0 {
        return Ok(());
    }
    let from = Page::new(&op.source, op.flags & abi::GNTCOPY_SOURCE_GREF != 0)?;
    source.find_domain(from.domid)?;
    let to = Page::new(&op.dest, op.flags & abi::GNTCOPY_DEST_GREF != 0)?;
    dest.find_domain(to.domid)?;
    call.may_share(source.domain()?, dest.domain()?)?;
    let from = source.claim(from)?;
    let to = dest.claim(to)?;
    let from = piece(from, op.source.offset, op.len)?;
    let to = piece(to, op.dest.offset, op.len)?;
    call.hv.machine.copy(from, to, usize::from(op.len));
    Ok(())
}

/// Where `len` bytes from `offset` on lie, within the page.
fn piece(mfn: Mfn, offset: u16, len: u16) -> Result<MachineAddr, Refused> {
    if u64::from(offset) + u64::from(len) > PAGE_SIZE {
        return Err(Refused(abi::GNTST_BAD_COPY_ARG));
    }
    Ok(MachineAddr(mfn.address().0 + u64::from(offset)))
}

/// How an operation names a page.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Page {
    domid: u16,
    name: Name,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Grant(u32),
    Own(Gfn),
}

impl Page {
    fn new(ptr: &CopyPtr, is_grant: bool) -> Result<Self, Refused> {
        let name = if is_grant {
            Name::Grant(ptr.u as u32)
        } else if ptr.domid == DOMID_SELF {
            Name::Own(Gfn(ptr.u))
        } else {
            return Err(Refused(abi::GNTST_PERMISSION_DENIED));
        };
        Ok(Self { domid: ptr.domid, name })
    }
}

/// One side of the copies, and the page it has pinned.
struct Side<'c, 'a, 'm> {
    call: &'c Call<'a, 'm>,
    write: bool,
    peer: Peer,
    pinned: Option<(Page, Mfn)>,
}

impl<'c, 'a, 'm> Side<'c, 'a, 'm> {
    fn new(call: &'c Call<'a, 'm>, write: bool) -> Self {
        Self { call, write, peer: Peer::default(), pinned: None }
    }

    /// Makes `domid` the domain of this side.
    fn find_domain(&mut self, domid: u16) -> Result<(), Refused> {
        if self.pinned.is_some_and(|(page, _)| page.domid != domid) {
            self.release();
        }
        let call = self.call;
        // Xen copies nothing of a dying domain, though it still maps its grants.
        self.peer.find(domid, || call.domain(domid).filter(|domain| !domain.is_dying())).map(|_| ())
    }

    fn domain(&self) -> Result<&Arc<Domain>, Refused> {
        self.peer.0.as_ref().map(|(_, domain)| domain).ok_or(Refused(abi::GNTST_BAD_DOMAIN))
    }

    /// Pins `page` of this side's domain, unless it is pinned already.
    fn claim(&mut self, page: Page) -> Result<Mfn, Refused> {
        if let Some((known, mfn)) = self.pinned
            && known == page
        {
            return Ok(mfn);
        }
        self.release();
        let domain = self.domain()?;
        let mfn = match page.name {
            Name::Grant(reference) => map::pin(self.call, domain, reference, self.write, Use::Copy)?,
            Name::Own(gfn) => domain.p2m.get_own(&self.call.hv.frames, gfn, self.write).ok_or(Refused(abi::GNTST_BAD_PAGE))?,
        };
        self.pinned = Some((page, mfn));
        Ok(mfn)
    }

    fn release(&mut self) {
        let Some((page, mfn)) = self.pinned.take() else { return };
        match (page.name, self.domain()) {
            (Name::Grant(reference), Ok(domain)) => map::unpin(self.call.hv, domain, reference, self.write),
            _ => self.call.hv.frames.put(mfn),
        }
    }
}

impl Drop for Side<'_, '_, '_> {
    fn drop(&mut self) {
        self.release();
    }
}
