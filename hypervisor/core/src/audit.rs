//! The audit: does every reference to a page have a holder, and do tables that speak of the same thing agree?
//!
//! A key of the console and of `xl debug-keys`, not a thing to do often: it reads the frame table and all stage 2, one lock at a time. What
//! is under way on other CPUs looks like an imbalance, so one counts only if it is there each time of several. Nothing is changed.

mod grants;
mod pages;
mod peers;
#[cfg(test)]
mod tests;

use crate::addr::{DomainId, Gfn, Mfn, Vmid};
use crate::domain::Domain;
use crate::frames::AuditError;
use crate::hypervisor::Hypervisor;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Looks at a machine that is not quiet, before an imbalance is believed.
const LOOKS: usize = 4;

/// The first thing that does not add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Imbalance {
    /// The frame table alone: owners, counts, free pages.
    Frames(AuditError),
    /// A page has not as many references as there are holders of one.
    References {
        /// The page.
        mfn: Mfn,
        /// References that it has.
        has: u32,
        /// References that somebody can drop, its allocation included.
        held: u32,
    },
    /// A domain has something mapped that it cannot have: not its own, not referenced, not granted, or mapped a second time.
    Mapped {
        /// Whose stage 2.
        domain: DomainId,
        /// Where.
        gfn: Gfn,
        /// What.
        mfn: Mfn,
    },
    /// A page of a domain that is in no stage 2 and on no list: it never comes back.
    Lost(Mfn),
    /// The number of pages of a domain's tables.
    Pool(DomainId),
    /// The pins of a grant are not those of the mappings of it.
    Grant {
        /// Whose grant.
        granter: Vmid,
        /// Which.
        reference: u32,
    },
    /// The lists of a domain's maptrack handles, or of its pinned entries.
    Handles(DomainId),
    /// A port that is not what its other end, its virtual interrupt or the count of ports says; port 0 for the count.
    Port {
        /// Whose port.
        domain: DomainId,
        /// Which.
        port: u32,
    },
    /// A channel of tx copy whose sender is not attached to it, or more than once.
    Channel {
        /// Whose channel.
        receiver: DomainId,
        /// Which.
        channel: u32,
    },
    /// An interrupt of the machine whose owner has not got it, or that somebody has who does not own it.
    Line(u32),
    /// The audit itself has no memory.
    NoMemory,
}

impl Hypervisor {
    /// Looks at all books until they balance, a few times at most.
    ///
    /// # Errors
    /// What the last look found.
    pub fn audit(&self) -> Result<(), Imbalance> {
        let mut found = self.audit_once();
        for _ in 1..LOOKS {
            if found.is_ok() {
                break;
            }
            found = self.audit_once();
        }
        found
    }

    fn audit_once(&self) -> Result<(), Imbalance> {
        self.frames.audit().map_err(Imbalance::Frames)?;
        // The list is not locked while subsystems are.
        let mut domains = List::default();
        self.domains.for_each(|domain| domains.push(domain.clone()));
        let domains = domains.finish()?;
        let granted = self.check_grants(&domains)?;
        self.check_pages(&domains, &granted)?;
        self.check_ports(&domains)?;
        self.check_txcopy(&domains)?;
        self.check_lines(&domains)
    }
}

/// A list filled by a function that cannot fail; whether memory sufficed is asked at the end.
struct List<T> {
    items: Vec<T>,
    short: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), short: false }
    }
}

impl<T> List<T> {
    fn push(&mut self, item: T) {
        if self.items.try_reserve(1).is_ok() {
            self.items.push(item);
        } else {
            self.short = true;
        }
    }

    fn finish(self) -> Result<Vec<T>, Imbalance> {
        if self.short { Err(Imbalance::NoMemory) } else { Ok(self.items) }
    }

    /// The list in order.
    fn sorted(self) -> Result<Vec<T>, Imbalance>
    where
        T: Ord,
    {
        let mut items = self.finish()?;
        items.sort_unstable();
        Ok(items)
    }
}

/// The first of two sorted lists' items that is not in both, as often.
fn first_difference<T: Ord + Copy>(a: &[T], b: &[T]) -> Option<T> {
    let common = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    match (a.get(common), b.get(common)) {
        (Some(a), Some(b)) => Some(*a.min(b)),
        (one, other) => one.or(other).copied(),
    }
}

type Domains = [Arc<Domain>];
