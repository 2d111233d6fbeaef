//! One entry of the shared table, as the granter and the hypervisor change it at the same time.
//!
//! The granter writes an entry with plain stores and withdraws it with a compare-and-swap that succeeds only while the entry is not in use.
//! The hypervisor marks an entry in use with a compare-and-swap over flags and grantee together, so that it never marks an entry that was
//! withdrawn or given to someone else in between. Source: xen/include/public/grant_table.h, "Introducing a valid entry into the grant table".

use super::GrantError;
use crate::addr::{DomainId, Gfn, MachineAddr};
use crate::machine::Machine;
use guest_abi::grant_table::{GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TYPE_MASK, GTF_WRITING};

/// Attempts to mark an entry in use, as in Xen. A granter that changes its entry faster than that is misbehaving.
const ATTEMPTS: usize = 5;

/// Where an entry lies: an 8-byte `GrantEntryV1` in a frame of the shared table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(pub MachineAddr);

/// What an entry must allow to be marked in use.
pub(super) struct Claim {
    /// The grantee; none if the entry is in use already, when neither its type nor its grantee are looked at again.
    pub grantee: Option<DomainId>,
    /// Whether it will be written.
    pub write: bool,
    /// Whether it will be mapped, which a part of a page cannot be.
    pub map: bool,
}

impl Entry {
    /// Marks the entry in use for reading, and for writing if asked.
    ///
    /// # Errors
    /// [`GrantError::NotGranted`], [`GrantError::ReadOnly`], [`GrantError::Unstable`]; the entry is then as the granter left it.
    pub fn mark_in_use(self, machine: &dyn Machine, claim: &Claim) -> Result<(), GrantError> {
        let mut word = machine.load_u32(self.0);
        for _ in 0..ATTEMPTS {
            let flags = word as u16;
            let type_bits = GTF_TYPE_MASK | if claim.map { GTF_SUB_PAGE } else { 0 };
            if let Some(grantee) = claim.grantee
                && (flags & type_bits != GTF_PERMIT_ACCESS || (word >> 16) as u16 != grantee.0)
            {
                return Err(GrantError::NotGranted);
            }
            if claim.write && flags & GTF_READONLY != 0 {
                return Err(GrantError::ReadOnly);
            }
            match machine.cas_u32(self.0, word, word | u32::from(in_use_bits(true, claim.write))) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(GrantError::Unstable)
    }

    /// Takes marks back.
    pub fn unmark(self, machine: &dyn Machine, reading: bool, writing: bool) {
        if reading || writing {
            machine.and_u16(self.0, !in_use_bits(reading, writing));
        }
    }

    /// The page that the entry grants. Stable only while the granter keeps to the protocol: read once per use.
    pub fn frame(self, machine: &dyn Machine) -> Gfn {
        Gfn(u64::from(machine.load_u32(MachineAddr(self.0.0 + 4))))
    }

    /// Exchanges two entries, neither of which is in use. Not atomic for the granter, whose own request it is.
    pub fn swap(self, other: Self, machine: &dyn Machine) {
        let (a, b) = (machine.load_u64(self.0), machine.load_u64(other.0));
        machine.store_u64(self.0, b);
        machine.store_u64(other.0, a);
    }
}

const fn in_use_bits(reading: bool, writing: bool) -> u16 {
    (if reading { GTF_READING } else { 0 }) | (if writing { GTF_WRITING } else { 0 })
}
