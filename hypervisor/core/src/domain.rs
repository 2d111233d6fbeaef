//! A domain: what it owns, in one place, and where it stands in its life.

use crate::addr::{DomainId, Mfn, Vmid};
use crate::evtchn::EventChannels;
use crate::gnttab::GrantTable;
use crate::its::Its;
use crate::lock::Lock;
use crate::p2m::P2m;
use crate::policy::Subject;
use crate::txcopy::TxCopy;
use crate::vcpu::Vcpu;
use crate::vgic::Vgic;
use crate::vpl011::{Line, Vpl011};
use crate::watchdog::Watchdog;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

mod caches;
pub mod create;
pub mod destroy;
pub mod dom0;
pub mod domu;
mod iomem;
mod its;
pub mod life;
mod ports;
mod table;
mod uart;
pub use iomem::IomemAccess;
pub use life::{Dying, Life};
pub use table::{DomainTable, FIRST_RESERVED};

/// vCPUs of a domain at most, `GUEST_MAX_VCPUS`.
pub const MAX_VCPUS: u32 = 128;

/// A domain.
pub struct Domain {
    /// Its number in the ABI.
    pub id: DomainId,
    /// Its number in hardware and in tables.
    pub vmid: Vmid,
    /// Whether it is the hardware and control domain.
    pub privileged: bool,
    /// Whether gfn equals mfn for its RAM.
    pub direct_mapped: bool,
    /// The PPI that signals event channels.
    pub event_ppi: u32,
    /// vCPUs it was created for.
    pub max_vcpus: u32,
    /// SPIs of its interrupt controller.
    pub spis: u32,
    /// Stage 2.
    pub p2m: P2m,
    /// Event channels.
    pub events: EventChannels,
    /// What it grants, and what it has mapped of others' grants.
    pub grants: GrantTable,
    /// Its channels and attachments of tx copy.
    pub txcopy: TxCopy<Weak<Self>>,
    /// Its interrupt controller.
    pub vgic: Vgic,
    /// Device frames that it may have.
    pub iomem: Lock<IomemAccess>,
    /// The page of `shared_info`.
    pub shared_info: Mfn,
    /// `HVM_PARAM_*`, by index.
    pub params: Lock<[u64; PARAMS]>,
    /// Pauses, shutdown and death.
    pub life: Lock<Life>,
    /// The counter value that the guest sees as zero, CNTVOFF_EL2.
    pub counter_offset: u64,
    /// Seconds to add to UTC at boot so that the guest's own clock zero fits (arch_shared_info wallclock).
    pub time_offset_seconds: u64,
    /// UUID.
    pub handle: Lock<[u8; 16]>,
    /// VM assists that are on, bit n is `VMASST_TYPE_*` n.
    pub assists: AtomicU64,
    /// Whether console_io may be used without being privileged.
    pub is_console: bool,
    /// Whether it was unpaused for the first time.
    pub creation_finished: AtomicBool,
    /// SCHEDOP_watchdog timers.
    pub watchdog: Lock<Watchdog>,
    /// What it said by console_io, up to the end of the line.
    pub console_line: Lock<Line>,
    /// Its emulated UART, if it has one.
    pub uart: spin::Once<Vpl011>,
    /// Its ITS, which the hardware domain may have.
    pub its: spin::Once<Its>,
    vcpus: spin::Once<Vec<Arc<Vcpu>>>,
}

/// HVM parameters that are stored, indices below this.
pub const PARAMS: usize = 39;

impl Domain {
    /// What policy needs to know.
    pub fn subject(&self) -> Subject {
        Subject { id: self.id, privileged: self.privileged }
    }

    /// Its vCPUs; none before `XEN_DOMCTL_max_vcpus`.
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], Vec::as_slice)
    }

    /// One vCPU.
    pub fn vcpu(&self, id: u32) -> Option<&Arc<Vcpu>> {
        self.vcpus().get(id as usize)
    }

    /// Whether its death has begun.
    pub fn is_dying(&self) -> bool {
        self.life.lock().dying != Dying::Alive
    }

    /// Whether the assist of that number is on.
    pub fn assists(&self, number: u32) -> bool {
        self.assists.load(Ordering::Relaxed) & 1 << (number & 63) != 0
    }
}
