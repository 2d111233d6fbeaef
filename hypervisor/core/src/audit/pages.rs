//! Pages: each reference has a holder, each mapping is of a page that may be mapped there, and no page is forgotten.

use super::grants::Granted;
use super::{Domains, Imbalance, List};
use crate::addr::{Gfn, Mfn, Vmid};
use crate::domain::Domain;
use crate::frames::{FrameInfo, FrameKind, FrameTable};
use crate::hypervisor::Hypervisor;
use crate::p2m::{Content, Mapping};
use crate::vpl011::Vpl011;
use alloc::vec::Vec;

/// What was found on the way through all stage 2.
struct Found<'a> {
    frames: &'a FrameTable,
    granted: &'a [Granted],
    /// Each reference that somebody has, by its page.
    held: List<Mfn>,
    /// A bit for each page that its owner has mapped.
    mapped: Vec<u64>,
}

impl Hypervisor {
    pub(super) fn check_pages(&self, domains: &Domains, granted: &[Granted]) -> Result<(), Imbalance> {
        let words = (self.frames.total_pages() as usize).div_ceil(64);
        let mut mapped = Vec::new();
        mapped.try_reserve_exact(words).map_err(|_| Imbalance::NoMemory)?;
        mapped.resize(words, 0);
        let mut found = Found { frames: &self.frames, granted, held: List::default(), mapped };
        for domain in domains {
            found.stage_2(domain)?;
            found.shared(domain);
        }
        found.compare()
    }
}

impl Found<'_> {
    fn stage_2(&mut self, domain: &Domain) -> Result<(), Imbalance> {
        let dying = domain.is_dying();
        let (mut tables, mut wrong) = (0, None);
        domain.p2m.for_each(|content| match content {
            Content::Root(mfn) => self.held.push(mfn),
            Content::Table(mfn) => {
                tables += 1;
                self.held.push(mfn);
            }
            Content::Leaf(first, mapping) => {
                let pages = if mapping.kind.is_mmio() { 1 } else { 1 << mapping.order };
                for n in 0..pages {
                    let (gfn, mapping) = (Gfn(first.0 + n), Mapping { mfn: Mfn(mapping.mfn.0 + n), ..mapping });
                    if !self.may_be_mapped(domain.vmid, dying, gfn, mapping) {
                        wrong.get_or_insert(Imbalance::Mapped { domain: domain.id, gfn, mfn: mapping.mfn });
                    }
                }
            }
        });
        let in_books = tables == domain.p2m.pool_used() && tables <= domain.p2m.pool();
        wrong.map_or(if in_books { Ok(()) } else { Err(Imbalance::Pool(domain.id)) }, Err)
    }

    /// Whether a domain may have this page at this place. Notes what the mapping holds.
    fn may_be_mapped(&mut self, vmid: Vmid, dying: bool, gfn: Gfn, mapping: Mapping) -> bool {
        let Mapping { mfn, kind, .. } = mapping;
        let info = self.frames.info(mfn);
        if kind.is_mmio() {
            return info.is_none_or(|info| info.kind == FrameKind::Hypervisor);
        }
        let Some(info) = info else { return false };
        if kind.is_foreign() {
            self.held.push(mfn);
            return matches!(info.kind, FrameKind::Ram | FrameKind::Xen);
        }
        if kind.is_grant() {
            // The stage 2 of a dying domain is taken apart after its grants were given back.
            let wanted = Granted { mapper: vmid, gfn, mfn, write: kind.write_permitted() };
            let found = self.granted.get(self.granted.partition_point(|granted| *granted < wanted));
            return dying || found.is_some_and(|g| (g.mapper, g.gfn, g.mfn) == (vmid, gfn, mfn));
        }
        let own = match info.kind {
            FrameKind::Ram => info.allocated && !info.orphan,
            FrameKind::Xen => self.frames.xen_gfn(mfn) == Some(gfn),
            _ => false,
        };
        own && info.owner == vmid && self.note_mapped(mfn)
    }

    /// False if it was noted before.
    fn note_mapped(&mut self, mfn: Mfn) -> bool {
        let Some(index) = self.frames.index(mfn) else { return false };
        let bit = 1 << (index % 64);
        let Some(word) = self.mapped.get_mut(index / 64) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// What the hypervisor holds for a domain.
    fn shared(&mut self, domain: &Domain) {
        let held = &mut self.held;
        held.push(domain.shared_info);
        (0..domain.grants.frame_count()).filter_map(|n| domain.grants.frame(n)).for_each(|mfn| held.push(mfn));
        domain.grants.for_each_pinned(|pinned| held.push(pinned.mfn));
        domain.events.for_each_page(|page| held.push(Mfn::containing(page)));
        domain.txcopy.for_each_channel(|_, _, channel| channel.pages().for_each(|mfn| held.push(mfn)));
        domain.txcopy.for_each_attachment(|attachment| held.push(attachment.batch.mfn()));
        domain.uart.get().and_then(Vpl011::ring_page).into_iter().for_each(|page| held.push(Mfn::containing(page)));
        for vcpu in domain.vcpus() {
            vcpu.runstate.lock().iter().flat_map(|area| area.pages()).for_each(|mfn| held.push(mfn));
        }
    }

    /// Page by page: references against holders, and whether somebody knows of it.
    fn compare(self) -> Result<(), Imbalance> {
        let held = self.held.sorted()?;
        let mut rest = held.as_slice();
        for (index, (mfn, info)) in self.frames.iter().enumerate() {
            let holders = rest.iter().take_while(|held| **held == mfn).count();
            rest = rest.get(holders..).unwrap_or_default();
            let mapped = self.mapped.get(index / 64).is_some_and(|word| word & 1 << (index % 64) != 0);
            check(self.frames, mfn, info, holders as u32, mapped)?;
        }
        // Somebody holds what is no RAM.
        rest.first().map_or(Ok(()), |mfn| Err(Imbalance::References { mfn: *mfn, has: 0, held: 1 }))
    }
}

fn check(frames: &FrameTable, mfn: Mfn, info: FrameInfo, holders: u32, mapped: bool) -> Result<(), Imbalance> {
    let held = holders + u32::from(info.allocated);
    let own = info.kind == FrameKind::Hypervisor || info.kind == FrameKind::Xen && info.owner == Vmid(0);
    // What the hypervisor has for itself has no holder here.
    if info.references != held && (!own || info.references < held) {
        return Err(Imbalance::References { mfn, has: info.references, held });
    }
    let known = match info.kind {
        FrameKind::Ram => !info.allocated || mapped || info.orphan,
        FrameKind::Xen => frames.xen_gfn(mfn).is_some() == mapped,
        _ => true,
    };
    if known { Ok(()) } else { Err(Imbalance::Lost(mfn)) }
}
