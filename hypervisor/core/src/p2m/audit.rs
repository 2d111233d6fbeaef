//! All that a stage 2 is made of and maps, for the audit.

use super::entry::{Meaning, PAGE_LEVEL, order_at, pages_at};
use super::table::{ENTRIES, Slot};
use super::{Mapping, P2m};
use crate::addr::{Gfn, MachineAddr, Mfn};

/// A part of a stage 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A page of the root table, which is not of the domain's pool.
    Root(Mfn),
    /// A page of the tables below.
    Table(Mfn),
    /// A page or block that it maps. Of a block that is being taken apart, what is left comes page by page.
    Leaf(Gfn, Mapping),
}

impl P2m {
    /// Calls `each` with everything that is there, under the p2m lock, also while the domain dies. Slow: it reads every table.
    pub fn for_each(&self, mut each: impl FnMut(Content)) {
        let state = self.state.lock();
        let (from, detached) = match &*state {
            Some(drain) if drain.finished => return,
            Some(drain) => (drain.at, drain.detached),
            None => (0, None),
        };
        let geometry = self.tables.geometry;
        (0..1 << geometry.root_order).for_each(|page| each(Content::Root(Mfn(Mfn::containing(self.tables.root).0 + page))));
        let span = pages_at(geometry.start_level);
        for start in (0..geometry.limit()).step_by(span as usize) {
            let mut slot = self.tables.slot(self.tables.root, Gfn(start), geometry.start_level);
            if let Some(entry) = detached.filter(|_| from / span == start / span) {
                slot.entry = entry;
            }
            self.visit(&slot, start, from, &mut each);
        }
    }

    /// What is in and below an entry that covers the frames from `start` on, as far as it is not before `from`. At most [`PAGE_LEVEL`] deep.
    fn visit(&self, slot: &Slot, start: u64, from: u64, each: &mut impl FnMut(Content)) {
        let span = pages_at(slot.level);
        if start.saturating_add(span) <= from {
            return;
        }
        match slot.meaning() {
            Meaning::Leaf(mfn, kind) if start >= from => {
                each(Content::Leaf(Gfn(start), Mapping { mfn, kind, order: order_at(slot.level) }))
            }
            Meaning::Leaf(mfn, kind) => {
                let page = |n| Content::Leaf(Gfn(start + n), Mapping { mfn: Mfn(mfn.0 + n), kind, order: order_at(PAGE_LEVEL) });
                (from - start..span).for_each(|n| each(page(n)));
            }
            Meaning::Table(table) => {
                each(Content::Table(Mfn::containing(table)));
                self.visit_table(table, slot.level + 1, start, from, each);
            }
            Meaning::Empty => {}
        }
    }

    fn visit_table(&self, table: MachineAddr, level: u8, start: u64, from: u64, each: &mut impl FnMut(Content)) {
        for n in 0..ENTRIES {
            let at = start + n * pages_at(level);
            self.visit(&self.tables.slot(table, Gfn(at), level), at, from, each);
        }
    }
}
