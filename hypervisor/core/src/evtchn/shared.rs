//! Guest memory in use by event channels, given and taken back: `vcpu_info`, FIFO control blocks and array pages; reset and end of life.
//!
//! The caller translates guest frames and takes a reference on each page that it hands in; a refused operation leaves that reference
//! with the caller, and pages given back here are the caller's to put.

use super::{EventChannels, EventError, Fifo, Notify, State, VcpuSet, fifo, two_level};
use crate::addr::{MachineAddr, PAGE_SIZE};
use crate::machine::Machine;
use guest_abi::shared_info::VcpuInfo;

const VCPU_INFO_SIZE: usize = size_of::<VcpuInfo>();

/// FIFO pages that are no longer used; the caller puts a reference of each.
#[must_use]
#[derive(Debug, Default)]
pub struct Released(Option<Fifo>);

impl Released {
    /// The pages: one entry per reference, so a page may come twice.
    pub fn pages(&self) -> impl Iterator<Item = MachineAddr> {
        self.0.iter().flat_map(Fifo::pages)
    }
}

impl EventChannels {
    /// Whether [`Self::register_vcpu_info`] would accept an address at `offset` of a page: asked before the guest's frame number is
    /// looked at.
    ///
    /// # Errors
    /// As [`Self::register_vcpu_info`].
    pub fn check_vcpu_info(&self, vcpu: u32, offset: u64) -> Result<(), EventError> {
        self.state.lock().check_vcpu_info(vcpu, offset).map(|_| ())
    }

    /// Moves the `vcpu_info` of `vcpu` to `info` (`VCPUOP_register_vcpu_info`): its content is copied, then everything is marked pending,
    /// so that nothing is lost.
    ///
    /// # Errors
    /// `NoSuchVcpu`, `VcpuInfoRegistered`, `MisplacedVcpuInfo`.
    pub fn register_vcpu_info(&self, machine: &dyn Machine, vcpu: u32, info: MachineAddr) -> Result<Notify, EventError> {
        let mut state = self.state.lock();
        let number = state.check_vcpu_info(vcpu, info.page_offset())?;
        let slot = state.vcpus.get_mut(usize::from(number)).ok_or(EventError::NoSuchVcpu)?;
        match slot.info {
            Some(old) => machine.copy(old, info, VCPU_INFO_SIZE),
            None => machine.zero(info, VCPU_INFO_SIZE),
        }
        slot.info = Some(info);
        slot.registered = true;
        machine.store_u64(MachineAddr(info.0 + two_level::PENDING_SEL), u64::MAX);
        Ok(Notify { upcall: state.mark_upcall(machine, number), ..Notify::NONE })
    }

    /// Takes back the registered `vcpu_info` of `vcpu`; the caller puts the reference of its page. For a domain whose vCPUs do not run.
    pub fn unregister_vcpu_info(&self, vcpu: u32) -> Option<MachineAddr> {
        let mut state = self.state.lock();
        let slot = state.vcpus.get_mut(vcpu as usize).filter(|v| v.registered)?;
        slot.registered = false;
        let initial = (vcpu == 0).then_some(self.shared_info);
        core::mem::replace(&mut slot.info, initial)
    }

    /// Whether an upcall is pending for `vcpu`.
    pub fn upcall_pending(&self, machine: &dyn Machine, vcpu: u32) -> bool {
        let state = self.state.lock();
        let info = state.vcpu(vcpu).ok().and_then(|v| state.vcpu_info(v));
        info.is_some_and(|info| machine.load_u32(info) & 0xff != 0)
    }

    /// Whether [`Self::init_control`] would accept a block at `offset` of a page: asked before the guest's frame number is looked at.
    ///
    /// # Errors
    /// As [`Self::init_control`].
    pub fn check_init_control(&self, vcpu: u32, offset: u32) -> Result<(), EventError> {
        self.state.lock().check_init_control(vcpu, offset).map(|_| ())
    }

    /// Gives `vcpu` its FIFO control block, `offset` bytes into `page` (`EVTCHNOP_init_control`). The domain's first switches it from
    /// the 2-level to the FIFO ABI; what is pending then is remembered until its array page comes.
    ///
    /// # Errors
    /// `NoSuchVcpu`; `InvalidControlBlock` if `offset` is not a multiple of 8 or the block does not fit in the page, or the vCPU has a
    /// block; `NoMemory`.
    pub fn init_control(&self, machine: &dyn Machine, vcpu: u32, page: MachineAddr, offset: u32) -> Result<Notify, EventError> {
        let mut state = self.state.lock();
        let vcpu = state.check_init_control(vcpu, offset)?;
        let state = &mut *state;
        let fifo = match &mut state.fifo {
            Some(fifo) => fifo,
            none => {
                let fifo = Fifo::new(state.vcpus.len())?;
                let two_level = self.two_level(machine);
                for port in 1..state.ports.len().min(two_level::PORTS) {
                    if let Some(channel) = state.ports.get_mut(port).filter(|c| c.is_usable()) {
                        channel.remembered = two_level.is_pending(port);
                    }
                }
                none.insert(fifo)
            }
        };
        let missed = fifo.set_control(vcpu, MachineAddr(page.0 + u64::from(offset)));
        Ok(if missed { state.link_missed(machine) } else { Notify::NONE })
    }

    /// Whether [`Self::expand_array`] would accept a page: asked before the guest's frame number is looked at.
    ///
    /// # Errors
    /// As [`Self::expand_array`].
    pub fn check_expand_array(&self) -> Result<(), EventError> {
        self.state.lock().check_expand_array().map(|_| ())
    }

    /// Appends `page` to the event array (`EVTCHNOP_expand_array`), and raises the events that were remembered for want of it.
    ///
    /// # Errors
    /// `NoEventArray` for the 2-level ABI; `NoSpace` if the array is complete.
    pub fn expand_array(&self, machine: &dyn Machine, page: MachineAddr) -> Result<Notify, EventError> {
        let mut state = self.state.lock();
        let new_ports = state.check_expand_array()?.add_page(page);
        let mut notify = Notify::NONE;
        for port in new_ports.start..new_ports.end.min(state.ports.len()) {
            let remembered = state.ports.get_mut(port).is_some_and(|c| core::mem::take(&mut c.remembered));
            if remembered {
                let one = self.raise_locked(&mut state, machine, port);
                notify.upcall.add(one.upcall);
                notify.wake.add(one.wake);
            }
        }
        Ok(notify)
    }

    /// Ports that a loop over all ports must look at: 1 up to and without this. It never shrinks, and grows no more once the domain dies.
    pub fn port_count(&self) -> u32 {
        self.state.lock().ports.len()
    }

    /// Starts a reset (`EVTCHNOP_reset`). The caller then closes the ports from [`Self::reset_cursor`] up to [`Self::port_count`], in as
    /// many pieces as it likes, and calls [`Self::finish_reset`].
    ///
    /// # Errors
    /// `Resetting`: one is in progress.
    pub fn begin_reset(&self) -> Result<(), EventError> {
        let mut state = self.state.lock();
        if state.reset_cursor.is_some() {
            return Err(EventError::Resetting);
        }
        state.reset_cursor = Some(1);
        Ok(())
    }

    /// The domain is dying: no new ports from now on. Its ports are then closed as in a reset, starting over if one was in progress.
    pub fn begin_destroy(&self) {
        let mut state = self.state.lock();
        if !state.dying {
            state.dying = true;
            state.reset_cursor = Some(1);
        }
    }

    /// The next port to close.
    pub fn reset_cursor(&self) -> u32 {
        self.state.lock().reset_cursor.unwrap_or(1)
    }

    /// Remembers where the next piece of a reset goes on.
    pub fn set_reset_cursor(&self, port: u32) {
        self.state.lock().reset_cursor = Some(port);
    }

    /// Ends a reset: the domain is back to the 2-level ABI.
    ///
    /// # Errors
    /// `PortsOpen` if ports have been opened meanwhile. The reset has then ended without that.
    pub fn finish_reset(&self, machine: &dyn Machine) -> Result<Released, EventError> {
        let mut state = self.state.lock();
        state.reset_cursor = None;
        if state.ports.open > state.ports.open_xen {
            return Err(EventError::PortsOpen);
        }
        let fifo = state.fifo.take();
        if fifo.is_some() {
            // The words of the 2-level ABI are as they were at the switch to FIFO. A bit that is set already would hide an event.
            self.two_level(machine).clear_pending_all();
            let infos = state.vcpus.iter().filter_map(|v| v.info);
            infos.for_each(|info| machine.store_u64(MachineAddr(info.0 + two_level::PENDING_SEL), 0));
        }
        Ok(Released(fifo))
    }

    /// Calls `f` with every guest page in use, once per reference held (for the audit).
    pub fn for_each_page(&self, mut f: impl FnMut(MachineAddr)) {
        let state = self.state.lock();
        state.fifo.iter().flat_map(Fifo::pages).for_each(&mut f);
        let registered = state.vcpus.iter().filter(|v| v.registered).filter_map(|v| v.info);
        registered.map(|info| MachineAddr(info.0 - info.page_offset())).for_each(f);
    }
}

impl State {
    fn check_vcpu_info(&self, vcpu: u32, offset: u64) -> Result<u8, EventError> {
        let vcpu = self.vcpu(vcpu)?;
        if self.vcpus.get(usize::from(vcpu)).is_some_and(|v| v.registered) {
            return Err(EventError::VcpuInfoRegistered);
        }
        let fits = offset <= PAGE_SIZE - VCPU_INFO_SIZE as u64;
        if fits && offset.is_multiple_of(8) { Ok(vcpu) } else { Err(EventError::MisplacedVcpuInfo) }
    }

    fn check_init_control(&self, vcpu: u32, offset: u32) -> Result<u8, EventError> {
        let vcpu = self.vcpu(vcpu)?;
        let fits = offset <= PAGE_SIZE as u32 - fifo::CONTROL_BLOCK_SIZE;
        let has_one = self.fifo.as_ref().is_some_and(|f| f.has_control(vcpu));
        if fits && offset.is_multiple_of(8) && !has_one { Ok(vcpu) } else { Err(EventError::InvalidControlBlock) }
    }

    /// Links the events that could not be linked when they were raised, as their vCPU had no control block. The port may have been
    /// bound to another vCPU since: all ports are looked at.
    fn link_missed(&mut self, machine: &dyn Machine) -> Notify {
        let mut to_tell = VcpuSet::EMPTY;
        if let Some(fifo) = &mut self.fifo {
            for port in 1..self.ports.len() {
                if let Some(channel) = self.ports.get_mut(port).filter(|c| c.is_usable())
                    && fifo.link_missed(machine, port, channel)
                {
                    to_tell.add(VcpuSet::of(channel.vcpu));
                }
            }
        }
        let mut notify = Notify::NONE;
        for vcpu in to_tell.iter() {
            notify.upcall.add(self.mark_upcall(machine, vcpu as u8));
        }
        notify
    }

    fn check_expand_array(&mut self) -> Result<&mut Fifo, EventError> {
        let fifo = self.fifo.as_mut().ok_or(EventError::NoEventArray)?;
        if fifo.is_full() { Err(EventError::NoSpace) } else { Ok(fifo) }
    }
}
