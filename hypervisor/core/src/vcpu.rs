//! One virtual CPU: what every part of the hypervisor may ask of it, and its saved registers.
//!
//! Whether a vCPU may run is a word of flags and two counts, all atomic, so that an event for it is raised without a lock.
//! The scheduler looks at them under its own lock whenever it is told that something changed.

use crate::addr::{CpuId, DomainId, Vmid};
use crate::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use crate::context::VcpuContext;
use crate::lock::Lock;
use crate::sched::SchedId;
use crate::vgic::GicCpuContext;
use crate::vtimer::VTimer;
use core::sync::atomic::Ordering;

#[cfg(all(test, loom))]
mod memory_order;

/// The vCPU waits for an event or interrupt (WFI, SCHEDOP_block, SCHEDOP_poll).
pub const BLOCKED: u32 = 1 << 0;
/// The vCPU is off (PSCI): never started, or CPU_OFF.
pub const DOWN: u32 = 1 << 1;
/// The domain has shut down or is dying: the vCPU will not run again until resumed.
pub const STOPPED: u32 = 1 << 2;
/// The toolstack paused the domain; the count is the domain's.
pub const PAUSED: u32 = 1 << 3;
/// The toolstack waits to read the vCPU's registers.
pub const INSPECTED: u32 = 1 << 4;

const NOWHERE: u8 = u8::MAX;

/// One virtual CPU.
pub struct Vcpu {
    /// Number within its domain.
    pub id: u32,
    /// Its domain, as the ABI knows it.
    pub domain: DomainId,
    /// Its domain, as hardware and tables know it.
    pub vmid: Vmid,
    /// Its handle in the scheduler.
    pub sched: SchedId,
    /// Registers; held by the physical CPU that has them loaded.
    pub context: Lock<VcpuContext>,
    /// List registers and virtual CPU interface; as `context`.
    pub gic: Lock<GicCpuContext>,
    /// Timers; the virtual one is meaningful only while not loaded.
    pub timer: Lock<VTimer>,
    /// Where the guest wants its runstate written.
    pub runstate: Lock<Option<crate::runstate::Area>>,
    /// Whether a runstate area is registered, to spare the lock.
    pub has_runstate: AtomicBool,
    /// The time at which SCHEDOP_poll gives up, in ticks; 0 is never.
    pub poll_deadline: AtomicU64,
    /// How far cache maintenance by set and way came that is not finished, a guest frame number.
    pub cache_flush: AtomicU64,
    flags: AtomicU32,
    running_on: AtomicU8,
    has_registers: AtomicBool,
}

impl Vcpu {
    /// A vCPU that is down and has never run.
    pub fn new(id: u32, domain: DomainId, vmid: Vmid, sched: SchedId) -> Self {
        Self {
            id,
            domain,
            vmid,
            sched,
            context: Lock::new(VcpuContext::default()),
            gic: Lock::new(GicCpuContext::default()),
            timer: Lock::new(VTimer::default()),
            runstate: Lock::new(None),
            has_runstate: AtomicBool::new(false),
            poll_deadline: AtomicU64::new(0),
            cache_flush: AtomicU64::new(0),
            flags: AtomicU32::new(DOWN),
            running_on: AtomicU8::new(NOWHERE),
            has_registers: AtomicBool::new(false),
        }
    }

    /// Whether it has been given registers to start with, by the toolstack or by CPU_ON.
    pub fn has_registers(&self) -> bool {
        self.has_registers.load(Ordering::SeqCst)
    }

    /// Says whether it has.
    pub fn set_has_registers(&self, given: bool) {
        self.has_registers.store(given, Ordering::SeqCst);
    }

    /// The flags that keep it from running.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::SeqCst)
    }

    /// Whether nothing keeps it from running.
    pub fn runnable(&self) -> bool {
        self.flags() == 0
    }

    /// Whether it was started and not turned off.
    pub fn online(&self) -> bool {
        self.flags() & DOWN == 0
    }

    /// Sets flags; returns what they were.
    pub fn set(&self, flags: u32) -> u32 {
        self.flags.fetch_or(flags, Ordering::SeqCst)
    }

    /// Clears flags; returns what they were. The caller tells the scheduler when that makes it runnable.
    pub fn clear(&self, flags: u32) -> u32 {
        if flags & DOWN != 0 {
            self.set_has_registers(true);
        }
        self.flags.fetch_and(!flags, Ordering::SeqCst)
    }

    /// Something is pending for it: it no longer waits. Whether it did; then the caller tells the scheduler.
    pub fn unblock(&self) -> bool {
        self.flags() & BLOCKED != 0 && self.clear(BLOCKED) & BLOCKED != 0
    }

    /// The physical CPU that runs it now.
    pub fn running_on(&self) -> Option<CpuId> {
        match self.running_on.load(Ordering::SeqCst) {
            NOWHERE => None,
            cpu => Some(CpuId(cpu)),
        }
    }

    /// For the scheduler alone.
    pub(crate) fn set_running_on(&self, cpu: Option<CpuId>) {
        self.running_on.store(cpu.map_or(NOWHERE, |c| c.0), Ordering::SeqCst);
    }
}
