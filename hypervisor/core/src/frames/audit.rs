//! Whether the books of the frame table are what its pages say.

use super::account::column;
use super::{FrameKind, FrameTable};
use crate::addr::{Mfn, Vmid};
use alloc::boxed::Box;

/// What [`FrameTable::audit`] found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditError {
    /// The number of free pages, or the lists that hold them.
    Free,
    /// A page that has an owner, or is shared, and has no reference; or a free one that has.
    State(Mfn),
    /// The number of pages of this owner.
    Account(Vmid),
    /// The list of this owner's pages that have left its stage 2.
    Orphans(Vmid),
    /// The pages put aside for domains.
    Claims,
}

/// Pages of one owner.
#[derive(Clone, Copy, Default)]
struct Sum {
    columns: [u64; 3],
    orphans: u64,
}

impl FrameTable {
    /// Checks the books against the pages: free lists, sums of each owner's pages, orphans, claims. The first thing that does not add up.
    ///
    /// Meaningful while no other CPU allocates or frees.
    pub fn audit(&self) -> Result<(), AuditError> {
        let mut free = 0;
        let mut sums: Box<[Sum]> = (0..=u8::MAX).map(|_| Sum::default()).collect();
        for (mfn, info) in self.iter() {
            let (referenced, owned) = (info.references > 0, info.owner != Vmid(0));
            let possible = match info.kind {
                FrameKind::Free => !referenced && !owned,
                FrameKind::Hypervisor => true,
                FrameKind::Xen => referenced,
                FrameKind::Ram | FrameKind::Table => referenced && owned,
            };
            if !possible || (info.allocated || info.orphan) && info.kind != FrameKind::Ram {
                return Err(AuditError::State(mfn));
            }
            free += u64::from(info.kind == FrameKind::Free);
            if let Some(sum) = sums.get_mut(usize::from(info.owner.0)) {
                sum.orphans += u64::from(info.orphan);
                if let Some(n) = column(info.kind).and_then(|at| sum.columns.get_mut(at)) {
                    *n += 1;
                }
            }
        }
        let claimed = {
            let buddy = self.buddy.lock();
            if !buddy.is_sound(&self.map, free) {
                return Err(AuditError::Free);
            }
            buddy.claimed()
        };
        let mut claims = 0;
        for (vmid, sum) in (0..=u8::MAX).map(Vmid).zip(&sums).skip(1) {
            let account = self.account(vmid);
            if account.columns() != sum.columns {
                return Err(AuditError::Account(vmid));
            }
            if !account.orphans_are(&self.map, vmid, sum.orphans) {
                return Err(AuditError::Orphans(vmid));
            }
            claims += account.claimed();
        }
        if claims == claimed { Ok(()) } else { Err(AuditError::Claims) }
    }
}
