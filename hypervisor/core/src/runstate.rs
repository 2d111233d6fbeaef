//! The runstate area: where a guest wants to read how its vCPU spent its time. Source: public/vcpu.h, `vcpu_runstate_info`.
//!
//! The frames are held from registration on, so that an update cannot fail; Xen translates the guest's virtual address anew each time and
//! silently skips the update when it is not mapped just then.

use crate::addr::{GuestVa, MachineAddr, Mfn, PAGE_SIZE};
use crate::domain::Domain;
use crate::frames::FrameTable;
use crate::guest_memory::Fault;
use crate::hypercall::Caller;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::sched::RunstateTimes;
use crate::vcpu::Vcpu;
use core::sync::atomic::Ordering;
use guest_abi::xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;
use zerocopy::IntoBytes;

/// Bytes of `vcpu_runstate_info`.
const SIZE: u64 = 48;
/// Offset of `state_entry_time`; its top bit says that an update is under way (`XEN_RUNSTATE_UPDATE`).
const ENTRY_TIME: usize = 8;
const UPDATE: u64 = 1 << 63;

impl Hypervisor {
    /// Writes the runstate of a vCPU that starts or stops running to where the guest wants it. As Xen does, the time in the state that
    /// begins is not counted: it is what has passed since `state_entry_time`.
    pub fn publish_runstate(&self, domain: &Domain, vcpu: &Vcpu) {
        if !vcpu.has_runstate.load(Ordering::Acquire) {
            return;
        }
        let Some(times) = self.sched.runstate_before(vcpu.sched) else { return };
        if let Some(area) = &*vcpu.runstate.lock() {
            area.write(self.machine, &times, domain.assists(VMASST_TYPE_RUNSTATE_UPDATE_FLAG));
        }
    }
}

/// A registered area: one piece, or two when it crosses a page.
#[derive(Debug)]
pub struct Area {
    first: MachineAddr,
    /// Bytes in the first piece.
    split: usize,
    second: Option<MachineAddr>,
}

impl Area {
    /// Holds the frames at guest virtual address `va`.
    pub fn pin(caller: &Caller<'_>, frames: &FrameTable, va: GuestVa) -> Result<Self, Fault> {
        let left = PAGE_SIZE - va.page_offset();
        let first = caller.memory.hold(va, true)?;
        if left >= SIZE {
            return Ok(Self { first, split: SIZE as usize, second: None });
        }
        let second = va.checked_add(left).ok_or(Fault).and_then(|at| caller.memory.hold(at, true));
        match second {
            Ok(second) => Ok(Self { first, split: left as usize, second: Some(second) }),
            Err(fault) => {
                frames.put(Mfn::containing(first));
                Err(fault)
            }
        }
    }

    /// Drops the references that [`Area::pin`] took.
    pub fn release(self, frames: &FrameTable) {
        frames.put(Mfn::containing(self.first));
        if let Some(second) = self.second {
            frames.put(Mfn::containing(second));
        }
    }

    /// The pages, one for each reference.
    pub fn pages(&self) -> impl Iterator<Item = Mfn> {
        core::iter::once(self.first).chain(self.second).map(Mfn::containing)
    }

    /// Writes the times; with `flag` the guest can tell that an update is under way.
    pub fn write(&self, machine: &dyn Machine, times: &RunstateTimes, flag: bool) {
        let [running, runnable, blocked, offline] = times.time;
        let since = if flag { times.since | UPDATE } else { times.since };
        let words = [times.state as u64, since, running, runnable, blocked, offline];
        if flag {
            self.set_entry_time(machine, since);
            core::sync::atomic::fence(Ordering::SeqCst);
        }
        self.store(machine, 0, words.as_bytes());
        if flag {
            core::sync::atomic::fence(Ordering::SeqCst);
            self.set_entry_time(machine, times.since);
        }
    }

    fn set_entry_time(&self, machine: &dyn Machine, time: u64) {
        match self.first.checked_add(ENTRY_TIME as u64) {
            Some(at) if self.second.is_none() && at.is_aligned(8) => machine.store_u64(at, time),
            _ => self.store(machine, ENTRY_TIME, time.as_bytes()),
        }
    }

    fn store(&self, machine: &dyn Machine, offset: usize, bytes: &[u8]) {
        if self.second.is_none() {
            return machine.write(MachineAddr(self.first.0.saturating_add(offset as u64)), bytes);
        }
        let in_first = self.split.saturating_sub(offset).min(bytes.len());
        let (head, tail) = bytes.split_at(in_first);
        if let Some(at) = self.first.checked_add(offset as u64).filter(|_| !head.is_empty()) {
            machine.write(at, head);
        }
        let into_second = (offset + in_first).saturating_sub(self.split) as u64;
        if let Some(at) = self.second.and_then(|s| s.checked_add(into_second)).filter(|_| !tail.is_empty()) {
            machine.write(at, tail);
        }
    }
}
