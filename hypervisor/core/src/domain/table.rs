//! All domains, by id and by VMID.

use super::Domain;
use crate::addr::{DomainId, Vmid};
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::RwLock;

/// VMIDs of the architecture without 16-bit VMIDs: so many domains can exist, less one.
pub const VMIDS: usize = 256;

/// All domains, the dying ones included.
#[derive(Default)]
pub struct DomainTable(RwLock<Table>);

#[derive(Default)]
struct Table {
    /// Sorted by id.
    by_id: Vec<Arc<Domain>>,
    /// Where the search for a free id begins.
    rover: u16,
}

impl Table {
    fn find(&self, id: DomainId) -> Result<usize, usize> {
        self.by_id.binary_search_by_key(&id, |d| d.id)
    }
}

impl DomainTable {
    /// The domain of that id.
    pub fn get(&self, id: DomainId) -> Option<Arc<Domain>> {
        let table = self.0.read();
        let at = table.find(id).ok()?;
        table.by_id.get(at).cloned()
    }

    /// The domain of that VMID.
    pub fn by_vmid(&self, vmid: Vmid) -> Option<Arc<Domain>> {
        self.0.read().by_id.iter().find(|d| d.vmid == vmid).cloned()
    }

    /// The domain with the smallest id not below `id`.
    pub fn at_or_after(&self, id: DomainId) -> Option<Arc<Domain>> {
        let table = self.0.read();
        let at = table.find(id).unwrap_or_else(|at| at);
        table.by_id.get(at).cloned()
    }

    /// Calls `f` for every domain, in order of id.
    pub fn for_each(&self, mut f: impl FnMut(&Arc<Domain>)) {
        self.0.read().by_id.iter().for_each(&mut f);
    }

    /// A VMID that no domain has and that is `clean`: no page is left of whoever had it before. 0 is the hypervisor's.
    pub fn free_vmid(&self, clean: impl Fn(Vmid) -> bool) -> Option<Vmid> {
        let table = self.0.read();
        let mut used = [false; VMIDS];
        for domain in &table.by_id {
            if let Some(u) = used.get_mut(usize::from(domain.vmid.0)) {
                *u = true;
            }
        }
        let free = used.iter().enumerate().skip(1).filter(|(_, used)| !**used).filter_map(|(i, _)| u8::try_from(i).ok());
        free.map(Vmid).find(|vmid| clean(*vmid))
    }

    /// An id that no domain has, next after the one given out last.
    pub fn free_id(&self) -> Option<DomainId> {
        let mut table = self.0.write();
        let first = FIRST_RESERVED.0;
        for step in 0..first {
            let id = DomainId(1 + (table.rover + step) % (first - 1));
            if table.find(id).is_err() {
                table.rover = id.0;
                return Some(id);
            }
        }
        None
    }

    /// Adds a domain whose id and VMID are free; `false` when memory is short or the id is taken.
    pub fn insert(&self, domain: Arc<Domain>) -> bool {
        let mut table = self.0.write();
        let Err(at) = table.find(domain.id) else { return false };
        if table.by_id.try_reserve(1).is_err() {
            return false;
        }
        table.by_id.insert(at, domain);
        true
    }

    /// Removes a domain; `false` if it was not there any more.
    pub fn take(&self, domain: &Arc<Domain>) -> bool {
        let mut table = self.0.write();
        match table.find(domain.id) {
            Ok(at) if table.by_id.get(at).is_some_and(|d| Arc::ptr_eq(d, domain)) => {
                table.by_id.remove(at);
                true
            }
            _ => false,
        }
    }
}

/// The first of the reserved ids, `DOMID_FIRST_RESERVED`.
pub const FIRST_RESERVED: DomainId = DomainId(0x7ff0);
