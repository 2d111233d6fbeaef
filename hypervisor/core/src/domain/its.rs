//! The hardware domain's ITS, joined with what its commands concern: guest memory, the vGIC, and the ITS of the machine.
//!
//! A command is read once, checked against our own tables, done by the hardware, and only then written into the tables. One that asks for
//! what is not there is ignored, as the architecture allows.

use super::Domain;
use crate::addr::{CpuId, Gfn, Ipa, MachineAddr, Mfn, PAGE_SHIFT, Vmid};
use crate::frames::FrameKind;
use crate::hypervisor::Hypervisor;
use crate::its::command::{self, Command, Event, SIZE, Words};
use crate::its::tables::Mapped;
use crate::its::{Its, State, Written};
use crate::mmio::Size;
use crate::vgic::{FIRST_LPI, LPIS, VcpuSet};
use log::debug;

/// Steps until the vCPU is let go: a command is one, one that concerns all LPIs is more.
const BUDGET: u32 = 64;
/// Steps of a command that looks at all LPIs.
const ALL: u32 = 32;
/// What the architecture defines of a configuration byte.
const ENABLED: u8 = 1;
const PRIORITY: u8 = 0xfc;

/// The command cannot be done.
struct Refused;

/// A run of commands, under the ITS's lock.
struct Commands<'a> {
    hv: &'a Hypervisor,
    domain: &'a Domain,
    its: &'a Its,
    state: &'a mut State,
    /// vCPUs to be noticed.
    notice: VcpuSet,
}

impl Hypervisor {
    /// A load at a guest address that trapped; `None` if the domain has no ITS there.
    pub fn its_read(&self, domain: &Domain, at: Ipa, size: Size) -> Option<u64> {
        let its = domain.its.get()?;
        its.read(its.offset(at)?, size)
    }

    /// A store; commands that it makes visible are done.
    pub fn its_write(&self, domain: &Domain, at: Ipa, size: Size, value: u64) -> Written {
        let Some(its) = domain.its.get() else { return Written::Refused };
        let Some(offset) = its.offset(at).filter(|offset| offset.is_multiple_of(size.bytes())) else { return Written::Refused };
        let mut state = its.state.lock();
        state.store(offset, size, value);
        let mut commands = Commands { hv: self, domain, its, state: &mut state, notice: VcpuSet::EMPTY };
        let done = commands.run();
        let notice = commands.notice;
        drop(state);
        notice.iter().filter_map(|vcpu| domain.vcpu(vcpu)).for_each(|vcpu| self.notice(vcpu));
        if done { Written::Done } else { Written::Again }
    }

    /// A physical LPI came in. It has no active state: nothing is left to be done for it.
    pub fn lpi_arrived(&self, domain: &Domain, intid: u32) {
        domain.vgic.raise_lpi(intid).iter().filter_map(|vcpu| domain.vcpu(vcpu)).for_each(|vcpu| {
            self.trace_injection(domain, vcpu.id, intid);
            self.notice(vcpu);
        });
    }
}

impl Commands<'_> {
    /// Whether all are done.
    fn run(&mut self) -> bool {
        let mut budget = BUDGET;
        while let Some(at) = self.state.next() {
            if budget == 0 {
                return false;
            }
            let Some(words) = self.fetch(at) else {
                self.state.stalled = true;
                break;
            };
            self.state.advance();
            let cost = match Command::decode(words) {
                Some(Command::MapDevice { .. } | Command::MapCollection { .. } | Command::InvalidateAll(_)) => ALL,
                _ => 1,
            };
            budget = budget.saturating_sub(cost);
            let done = Command::decode(words).filter(|_| !self.state.broken).ok_or(Refused).and_then(|command| self.execute(command));
            if done.is_err() {
                debug!(target: crate::console::GUEST, "ITS: command {words:x?} is ignored");
            }
        }
        true
    }

    /// A command from the guest's own memory; it does not cross a page.
    fn fetch(&self, at: Ipa) -> Option<Words> {
        let mut bytes = [0; SIZE as usize];
        self.read(at, &mut bytes)?;
        let mut words = Words::default();
        words.iter_mut().zip(bytes.as_chunks().0).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
        Some(words)
    }

    /// Bytes of one page.
    fn read(&self, at: Ipa, into: &mut [u8]) -> Option<()> {
        let mfn = self.domain.p2m.get_ram(&self.hv.frames, Gfn::containing(at), false)?;
        self.hv.machine.read(MachineAddr(mfn.address().0 + at.page_offset()), into);
        self.hv.frames.put(mfn);
        Some(())
    }

    fn execute(&mut self, command: Command) -> Result<(), Refused> {
        match command {
            Command::MapDevice { device, event_bits: Some(bits) } => self.map_device(device, bits),
            Command::MapDevice { device, event_bits: None } => self.unmap_device(device),
            Command::MapCollection { collection, redistributor } => self.map_collection(collection, redistributor),
            Command::MapEvent { event, lpi, collection } => self.map_event(event, lpi, collection),
            Command::Move(event, collection) => self.move_event(event, collection),
            Command::Discard(event) => self.discard(event),
            Command::Raise(event) => {
                self.notice |= self.domain.vgic.raise_lpi(self.mapped(event)?.0);
                Ok(())
            }
            Command::Clear(event) => {
                let (lpi, mapped) = self.mapped(event)?;
                self.hardware(&[command::clear(event)], mapped.collection)?;
                self.notice |= self.domain.vgic.clear_lpi(self.hv.machine, lpi);
                Ok(())
            }
            Command::Invalidate(event) => {
                let (lpi, mapped) = self.mapped(event)?;
                self.state.tables.target(mapped.collection).ok_or(Refused)?;
                self.configure(lpi);
                self.hardware(&[command::invalidate(event)], mapped.collection)
            }
            Command::InvalidateAll(collection) => self.invalidate_all(collection),
            Command::Nothing => Ok(()),
        }
    }

    /// The LPI of an event that is mapped.
    fn mapped(&self, event: Event) -> Result<(u32, Mapped), Refused> {
        let lpi = self.state.tables.lpi(event).flatten().ok_or(Refused)?;
        Ok((lpi, self.state.tables.mapped(lpi).ok_or(Refused)?))
    }

    /// The hardware's collection for one of the guest's, which is that of a CPU.
    fn physical(&self, collection: u16) -> u16 {
        collection % u16::from(self.its.config.cpus.max(1))
    }

    /// Has the hardware do this, and waits until that has reached the CPU of `collection`.
    fn hardware(&mut self, commands: &[Words], collection: u16) -> Result<(), Refused> {
        if self.hv.machine.its(commands, CpuId(self.physical(collection) as u8)) {
            return Ok(());
        }
        self.state.broken = true;
        log::error!("The ITS does not answer: Dom0's commands to it are ignored");
        Err(Refused)
    }

    fn map_device(&mut self, id: u32, bits: u32) -> Result<(), Refused> {
        if u64::from(id) >> self.its.config.device_bits != 0 || bits > self.its.event_bits() {
            return Err(Refused);
        }
        let pages = (self.its.config.entry_size << bits).div_ceil(1 << PAGE_SHIFT);
        let order = pages.next_power_of_two().trailing_zeros();
        let table = self.hv.frames.allocate(Vmid(0), order, FrameKind::Hypervisor).map_err(|_| Refused)?;
        let Some(device) = self.state.tables.new_device(id, bits, table, order) else {
            self.free(table, order);
            return Err(Refused);
        };
        if self.state.tables.has(id)
            && let Err(refused) = self.unmap_device(id)
        {
            self.free(table, order);
            return Err(refused);
        }
        // If this fails, the hardware may have the table: it is never used for anything else.
        self.hardware(&[command::map_device(id, table.address(), bits)], 0)?;
        self.state.tables.add(device);
        Ok(())
    }

    fn unmap_device(&mut self, id: u32) -> Result<(), Refused> {
        if !self.state.tables.has(id) {
            return Err(Refused);
        }
        self.hardware(&[command::unmap_device(id)], 0)?;
        let (vgic, machine) = (&self.domain.vgic, self.hv.machine);
        let mut notice = VcpuSet::EMPTY;
        let device = self.state.tables.remove(id, |lpi| {
            notice |= vgic.configure_lpi(machine, lpi, false, 0) | vgic.clear_lpi(machine, lpi);
        });
        self.notice |= notice;
        if let Some(device) = device {
            self.free(device.table, device.order);
        }
        Ok(())
    }

    fn free(&self, table: Mfn, order: u32) {
        (0..1 << order).for_each(|n| self.hv.frames.put(Mfn(table.0 + n)));
    }

    /// The hardware's collections stay as they are: only who gets the virtual interrupts changes.
    fn map_collection(&mut self, collection: u16, redistributor: Option<u64>) -> Result<(), Refused> {
        let vcpu = match redistributor {
            Some(redistributor) => Some(self.its.vcpu(redistributor).ok_or(Refused)?),
            None => None,
        };
        if !self.state.tables.set_target(collection, vcpu) {
            return Err(Refused);
        }
        let (vgic, machine) = (&self.domain.vgic, self.hv.machine);
        for lpi in self.state.tables.of_collection(collection) {
            self.notice |= match vcpu {
                Some(vcpu) => vgic.route_lpi(lpi, vcpu),
                // Until it is mapped again, and INV or INVALL follows.
                None => vgic.configure_lpi(machine, lpi, false, 0),
            };
        }
        Ok(())
    }

    fn map_event(&mut self, event: Event, lpi: u32, collection: u16) -> Result<(), Refused> {
        let vcpu = self.state.tables.target(collection).ok_or(Refused)?;
        let old = self.state.tables.lpi(event).ok_or(Refused)?;
        let exists = (FIRST_LPI..FIRST_LPI + LPIS).contains(&lpi);
        let is_free = self.state.tables.mapped(lpi).is_none_or(|mapped| mapped.event == event);
        if !exists || !is_free {
            return Err(Refused);
        }
        if old.is_some() {
            self.discard(event)?;
        }
        // What an earlier event left is not this one's.
        self.notice |= self.domain.vgic.clear_lpi(self.hv.machine, lpi) | self.domain.vgic.route_lpi(lpi, vcpu);
        self.configure(lpi);
        self.hardware(&[command::map_event(event, lpi, self.physical(collection)), command::invalidate(event)], collection)?;
        self.state.tables.map(lpi, Mapped { event, collection });
        Ok(())
    }

    fn move_event(&mut self, event: Event, collection: u16) -> Result<(), Refused> {
        let (lpi, mapped) = self.mapped(event)?;
        let vcpu = self.state.tables.target(collection).ok_or(Refused)?;
        let (from, to) = (self.physical(mapped.collection), self.physical(collection));
        if from != to {
            self.hardware(&[command::move_event(event, to)], mapped.collection)?;
        }
        self.state.tables.set_collection(lpi, collection);
        self.notice |= self.domain.vgic.route_lpi(lpi, vcpu);
        Ok(())
    }

    fn discard(&mut self, event: Event) -> Result<(), Refused> {
        let (lpi, mapped) = self.mapped(event)?;
        self.hardware(&[command::discard(event)], mapped.collection)?;
        self.state.tables.unmap(event);
        let (vgic, machine) = (&self.domain.vgic, self.hv.machine);
        self.notice |= vgic.configure_lpi(machine, lpi, false, 0) | vgic.clear_lpi(machine, lpi);
        Ok(())
    }

    /// Takes over what the guest's table says of an LPI; nothing there: it is off.
    fn configure(&mut self, lpi: u32) {
        let index = lpi.saturating_sub(FIRST_LPI);
        let mut byte = [0];
        if let Some(table) = self.domain.vgic.lpi_properties().filter(|table| index < table.len) {
            let _ = self.read(Ipa(table.at.0 + u64::from(index)), &mut byte);
        }
        self.apply(lpi, byte);
    }

    fn apply(&mut self, lpi: u32, [byte]: [u8; 1]) {
        let enabled = byte & ENABLED != 0;
        self.hv.machine.lpi_set_enabled(lpi, enabled);
        self.notice |= self.domain.vgic.configure_lpi(self.hv.machine, lpi, enabled, byte & PRIORITY);
    }

    fn invalidate_all(&mut self, collection: u16) -> Result<(), Refused> {
        const CHUNK: u32 = 64;
        self.state.tables.target(collection).ok_or(Refused)?;
        let table = self.domain.vgic.lpi_properties();
        for first in (0..LPIS).step_by(CHUNK as usize) {
            let mut bytes = [0; CHUNK as usize];
            if let Some(table) = table.filter(|table| first < table.len) {
                let _ = self.read(Ipa(table.at.0 + u64::from(first)), &mut bytes);
            }
            for (lpi, byte) in (FIRST_LPI + first..).zip(bytes) {
                if self.state.tables.mapped(lpi).is_some_and(|mapped| mapped.collection == collection) {
                    self.apply(lpi, [byte]);
                }
            }
        }
        self.hardware(&[command::invalidate_all(self.physical(collection))], collection)
    }
}
