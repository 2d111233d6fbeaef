//! Grants: each pin belongs to a mapping of a maptrack, and each mapping has its pin.

use super::{Domains, Imbalance, List, first_difference};
use crate::addr::{DomainId, Gfn, Mfn, Vmid};
use crate::hypervisor::Hypervisor;
use alloc::vec::Vec;

/// One pin, as the mapper or as the granter has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pin {
    granter: Vmid,
    reference: u32,
    grantee: DomainId,
    mfn: Mfn,
    write: bool,
}

/// A page that a domain may have mapped as a grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Granted {
    pub mapper: Vmid,
    pub gfn: Gfn,
    pub mfn: Mfn,
    pub write: bool,
}

impl Hypervisor {
    /// All mappings of grants, in order.
    pub(super) fn check_grants(&self, domains: &Domains) -> Result<Vec<Granted>, Imbalance> {
        let (mut granted, mut mapped, mut pinned) = (List::default(), List::default(), List::default());
        for domain in domains {
            if !domain.grants.is_sound() {
                return Err(Imbalance::Handles(domain.id));
            }
            domain.grants.for_each_mapping(|e| {
                granted.push(Granted { mapper: domain.vmid, gfn: e.gfn, mfn: e.mfn, write: e.write });
                mapped.push(Pin { granter: e.granter, reference: e.reference, grantee: domain.id, mfn: e.mfn, write: e.write });
            });
            domain.grants.for_each_pinned(|p| {
                let pin = |write| Pin { granter: domain.vmid, reference: p.reference, grantee: p.grantee, mfn: p.mfn, write };
                (0..p.readers).for_each(|_| pinned.push(pin(false)));
                (0..p.writers).for_each(|_| pinned.push(pin(true)));
            });
        }
        match first_difference(&mapped.sorted()?, &pinned.sorted()?) {
            Some(pin) => Err(Imbalance::Grant { granter: pin.granter, reference: pin.reference }),
            None => granted.sorted(),
        }
    }
}
