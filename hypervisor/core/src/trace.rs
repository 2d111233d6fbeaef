//! The trace: what each physical CPU did, as records that Debian's `xentrace` collects. `hypervisor/decisions/trace.md` says what is recorded.
//!
//! It is off until the toolstack starts it, and then costs one load where something would be recorded. Each CPU writes to a [`Ring`] of its
//! own, in pages that Dom0 maps as those of `DOMID_XEN`: they hold nothing but records, and nothing in them is believed but the reader's
//! offset, which is checked.
//!
//! Every subsystem may record, as every one may log; so nothing is imported here but the edge, and a ring's lock is the last one taken.

mod info;
mod record;
mod ring;
#[cfg(test)]
mod tests;

use crate::addr::{CpuId, CpuMask, MachineAddr, Mfn};
use crate::lock::Lock;
use crate::machine::Machine;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use guest_abi::errno::Errno;
use guest_abi::trace::{TRC_ALL, TRC_CLS_SHIFT, TRC_SUBCLS_SHIFT};
pub use info::MAX_PAGES;
use record::Record;
use ring::{Ring, Written};

/// What is traced, and where to.
pub struct Trace {
    machine: &'static dyn Machine,
    on: AtomicBool,
    /// As `set_evt_mask` has it.
    events: AtomicU32,
    /// As `set_cpu_mask` has it.
    cpus: AtomicU64,
    /// A ring became half full, and Dom0 has not been told.
    due: AtomicBool,
    buffers: spin::Once<Buffers>,
}

/// What is made once, and stays.
struct Buffers {
    info: Mfn,
    info_pages: u32,
    pages: u32,
    rings: Vec<Lock<Ring>>,
}

/// What the toolstack is told of the buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// The first frame of `struct t_info`; 0: there are no buffers.
    pub mfn: u64,
    /// Its bytes.
    pub size: u32,
    /// The events that are traced.
    pub events: u32,
}

impl Trace {
    /// No trace, and no memory for one.
    pub fn new(machine: &'static dyn Machine) -> Self {
        Self {
            machine,
            on: AtomicBool::new(false),
            events: AtomicU32::new(TRC_ALL),
            cpus: AtomicU64::new(CpuMask::MAX),
            due: AtomicBool::new(false),
            buffers: spin::Once::new(),
        }
    }

    /// Whether anything is recorded.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Records `event` of this CPU, with what `data` says, if there is a trace.
    #[inline(always)]
    pub fn record<const N: usize>(&self, event: u32, data: impl FnOnce() -> [u32; N]) {
        if self.is_on() {
            self.write(event, &data());
        }
    }

    #[cold]
    #[inline(never)]
    fn write(&self, event: u32, data: &[u32]) {
        if !wanted(self.events.load(Ordering::Relaxed), event) {
            return;
        }
        let cpu = self.machine.cpu();
        let Some(ring) = self.ring(cpu).filter(|_| self.cpus.load(Ordering::Relaxed) & 1 << (cpu.0 & 63) != 0) else { return };
        let written = ring.lock().write(self.machine, &Record::new(event, Some(self.machine.ticks()), data));
        match written {
            Written::Quietly => {}
            Written::HalfFull => self.due.store(true, Ordering::Relaxed),
            Written::Nothing { cons } => {
                self.on.store(false, Ordering::Relaxed);
                log::warn!("trace of CPU {}: the reader's offset {cons:#x} is beyond what was written; the trace is off", cpu.0);
            }
        }
    }

    /// The vCPU (id << 16 | domain) that this CPU runs from now on: told where records are lost.
    #[cold]
    pub fn runs(&self, vcpu: u32) {
        if let Some(ring) = self.ring(self.machine.cpu()) {
            ring.lock().runs(vcpu);
        }
    }

    /// Whether Dom0 is to be told by `VIRQ_TBUF` that there is something to read; once.
    pub fn take_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::Relaxed)
    }

    /// Whether buffers can be made: `EINVAL` where the size is not what it is, or none; `EBUSY` where it is.
    pub fn check_size(&self, pages: u32) -> Result<(), Errno> {
        match self.buffers.get() {
            Some(buffers) if buffers.pages == pages => Err(Errno::EBUSY),
            Some(_) => Err(Errno::EINVAL),
            None if pages == 0 => Err(Errno::EINVAL),
            None => Ok(()),
        }
    }

    /// Starts, with the pages of `info` (zeroed, enough of them: [`info_pages`](Self::info_pages)) and those of each CPU's ring, which are kept
    /// for good.
    ///
    /// # Errors
    /// `ENOMEM`; `EBUSY`: another CPU was faster.
    pub fn start(&self, info: Mfn, rings: Vec<Vec<Mfn>>) -> Result<(), Errno> {
        let pages = rings.first().map_or(0, Vec::len) as u32;
        let info_pages = info::pages(rings.len() as u32, pages);
        let mut locked = Vec::new();
        locked.try_reserve_exact(rings.len()).map_err(|_| Errno::ENOMEM)?;
        let mut made = false;
        self.buffers.call_once(|| {
            made = true;
            info::write(self.machine, info.address(), pages, &rings);
            locked.extend(rings.into_iter().map(|ring| Lock::new(Ring::new(ring))));
            Buffers { info, info_pages, pages, rings: locked }
        });
        if !made {
            return Err(Errno::EBUSY);
        }
        self.on.store(true, Ordering::Release);
        Ok(())
    }

    /// How many pages a description of `cpus` rings of `pages` pages takes, which must follow each other.
    pub fn info_pages(cpus: u32, pages: u32) -> u32 {
        info::pages(cpus, pages)
    }

    /// Starts again, or goes on; `EINVAL` without buffers.
    pub fn enable(&self) -> Result<(), Errno> {
        self.buffers.get().ok_or(Errno::EINVAL)?;
        self.on.store(true, Ordering::Release);
        Ok(())
    }

    /// Stops. What is in the rings stays; what was lost is forgotten. On return no CPU writes.
    pub fn disable(&self) {
        self.on.store(false, Ordering::SeqCst);
        self.buffers.get().into_iter().flat_map(|buffers| &buffers.rings).for_each(|ring| ring.lock().forget_lost());
    }

    /// Records these events only: a class and, in it, subclasses (`TRC_*` of public/trace.h).
    pub fn set_events(&self, mask: u32) {
        self.events.store(mask, Ordering::Relaxed);
    }

    /// Records what happens on these CPUs only.
    pub fn set_cpus(&self, cpus: CpuMask) {
        self.cpus.store(cpus, Ordering::Relaxed);
    }

    /// Where the buffers are.
    pub fn info(&self) -> Info {
        let events = self.events.load(Ordering::Relaxed);
        self.buffers.get().map_or(Info { events, ..Info::default() }, |b| Info { mfn: b.info.0, size: b.info_pages << 12, events })
    }

    /// Whether a page is of the description, which readers must not write.
    pub fn is_info(&self, mfn: Mfn) -> bool {
        self.buffers.get().is_some_and(|b| mfn.0.wrapping_sub(b.info.0) < u64::from(b.info_pages))
    }

    fn ring(&self, cpu: CpuId) -> Option<&Lock<Ring>> {
        self.buffers.get()?.rings.get(usize::from(cpu.0))
    }
}

/// Whether a mask has an event's class, and its subclass.
fn wanted(mask: u32, event: u32) -> bool {
    const SUBCLASSES: u32 = 0xf;
    mask & event != 0 && (mask >> TRC_CLS_SHIFT) & (event >> TRC_CLS_SHIFT) != 0 && (mask & event) >> TRC_SUBCLS_SHIFT & SUBCLASSES != 0
}

/// The machine address `offset` bytes into pages that need not follow each other.
fn at(pages: &[Mfn], offset: u32) -> Option<MachineAddr> {
    let page = pages.get((offset >> 12) as usize)?;
    Some(MachineAddr(page.address().0 + u64::from(offset & 0xfff)))
}
