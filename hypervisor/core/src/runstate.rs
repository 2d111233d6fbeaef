//! The runstate area: where a guest wants to read how its vCPU spent its time. Source: public/vcpu.h, `vcpu_runstate_info`.
//!
//! The frames are held from registration on, so that an update cannot fail; Xen translates the guest's virtual address anew each time and
//! silently skips the update when it is not mapped just then.

use crate::addr::{GuestVa, MachineAddr, Mfn, PAGE_SIZE};
use crate::atomic::{AtomicU64, fence};
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

/// Words of `vcpu_runstate_info`.
const WORDS: usize = SIZE as usize / 8;

/// A registered area: one piece, or two when it crosses a page.
#[derive(Debug)]
pub struct Area {
    /// The area, if it is one piece and aligned, as it should be.
    words: Option<&'static [AtomicU64; WORDS]>,
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
            return Ok(Self { words: words(frames.machine(), first), first, split: SIZE as usize, second: None });
        }
        let second = va.checked_add(left).ok_or(Fault).and_then(|at| caller.memory.hold(at, true));
        match second {
            Ok(second) => Ok(Self { words: None, first, split: left as usize, second: Some(second) }),
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
        let values = [times.state as u64, since, running, runnable, blocked, offline];
        if flag {
            self.set_entry_time(machine, since);
            fence(Ordering::SeqCst);
        }
        match self.words {
            Some(words) => words.iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed)),
            None => self.store(machine, 0, values.as_bytes()),
        }
        if flag {
            fence(Ordering::SeqCst);
            self.set_entry_time(machine, times.since);
        }
    }

    fn set_entry_time(&self, machine: &dyn Machine, time: u64) {
        match self.words {
            Some([_, word, ..]) => word.store(time, Ordering::Relaxed),
            None => self.store(machine, ENTRY_TIME, time.as_bytes()),
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

/// The words of an area within a page; none if it is not aligned.
fn words(machine: &dyn Machine, at: MachineAddr) -> Option<&'static [AtomicU64; WORDS]> {
    let from = at.is_aligned(8).then_some(at.page_offset() as usize / 8)?;
    machine.page(Mfn::containing(at)).get(from..)?.first_chunk()
}
