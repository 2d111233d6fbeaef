//! The whole hypervisor as a value: what all operations share.
//!
//! `el2` makes one at boot and passes it by reference; the host tests make as many as they like.

use crate::addr::{CpuId, DomainId, PAGE_SIZE, Vmid};
use crate::clock::{Clock, WallClock};
use crate::console::{ConsoleRing, InputTo, Received};
use crate::domain::{Domain, DomainTable};
use crate::evtchn::Notify;
use crate::frames::FrameTable;
use crate::lock::Lock;
use crate::machine::Machine;
use crate::passthrough::Passthrough;
use crate::policy::Policy;
use crate::sched::{Nanos, SchedId, Scheduler};
use crate::trace::Trace;
use crate::vcpu::Vcpu;
use crate::vgic::HardwareGic;
use crate::vpl011::{LINE, Line};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use guest_abi::trace::own::TRC_XENOLITH_INJECT;
use guest_abi::xen::VIRQ_TBUF;

/// Bytes before what a guest says, at most: `(XEN) DOM32751: `.
const PREFIX: usize = 16;

/// What all operations share.
pub struct Hypervisor {
    /// The edge.
    pub machine: &'static dyn Machine,
    /// All machine pages.
    pub frames: FrameTable,
    /// The scheduler.
    pub sched: Scheduler,
    /// What CPUs did, if somebody wants to know.
    pub trace: Arc<Trace>,
    /// All domains.
    pub domains: DomainTable,
    /// System time.
    pub clock: Clock,
    /// UTC.
    pub wall_clock: WallClock,
    /// What `xl dmesg` shows.
    pub console: Lock<ConsoleRing>,
    /// Who may do what.
    pub policy: Policy,
    /// Whose the machine's devices are.
    pub passthrough: Passthrough,
    /// What does not change after boot.
    pub fixed: Fixed,
    /// Dying domains that wait for their last pages; looked at after every hypercall.
    pub(crate) zombies: AtomicU32,
    /// When the next watchdog bites, in system time; the first CPU attends to it.
    pub next_bite: AtomicU64,
}

/// Facts fixed at boot.
pub struct Fixed {
    /// The hypervisor's own command line.
    pub command_line: String,
    /// Physical CPUs that came up.
    pub cpus: u8,
    /// Width of guest physical addresses, from VTCR_EL2.
    pub ipa_bits: u8,
    /// What interrupt controllers guests can have.
    pub gic: HardwareGic,
    /// Physical SPIs, INTIDs 32 to 32+n-1.
    pub spis: u32,
    /// Default `max_grant_frames`.
    pub max_grant_frames: u32,
    /// Default `max_maptrack_frames`.
    pub max_maptrack_frames: u32,
    /// The greatest machine frame number plus one.
    pub max_mfn: u64,
    /// Whether the machine may reset or power off when Dom0 stops.
    pub noreboot: bool,
    /// Implementer, part and so on, `MIDR_EL1`: what guests see.
    pub midr: u64,
    /// `vwfi=native`: WFI and WFE do not trap.
    pub native_wfi: bool,
    /// When this image was built and by what: for `xl info`.
    pub build: Build,
}

/// The strings of xen_version.
#[derive(Clone, Copy)]
pub struct Build {
    /// The compiler.
    pub compiler: &'static str,
    /// Who built it.
    pub by: &'static str,
    /// Where.
    pub domain: &'static str,
    /// When.
    pub date: &'static str,
}

/// What a guest says and what goes before it. Not on the heap: a guest may say it when that is full.
struct Said {
    bytes: [u8; PREFIX + LINE],
    len: usize,
}

impl Said {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Adds bytes; what has no room is left out.
    fn add(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let fits = room.len().min(bytes.len());
        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.len += fits;
    }
}

impl Write for Said {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

impl Hypervisor {
    /// A hypervisor without domains. `console` holds what was printed so far.
    pub fn new(
        machine: &'static dyn Machine,
        frames: FrameTable,
        clock: Clock,
        policy: Policy,
        fixed: Fixed,
        console: ConsoleRing,
    ) -> Self {
        let trace = Arc::new(Trace::new(machine));
        Self {
            machine,
            frames,
            sched: Scheduler::new(usize::from(fixed.cpus), trace.clone()),
            trace,
            domains: DomainTable::default(),
            clock,
            wall_clock: WallClock::default(),
            console: Lock::new(console),
            policy,
            passthrough: Passthrough::default(),
            fixed,
            zombies: AtomicU32::new(0),
            next_bite: AtomicU64::new(Nanos::MAX),
        }
    }

    /// System time now.
    pub fn now(&self) -> Nanos {
        self.clock.nanos(self.machine.ticks())
    }

    /// Makes an interrupt pending for a vCPU and sees to it that it is noticed.
    pub fn raise(&self, domain: &Domain, vcpu: u32, intid: u32) {
        self.raise_by(None, domain, vcpu, intid);
    }

    fn raise_by(&self, by: Option<SchedId>, domain: &Domain, vcpu: u32, intid: u32) {
        if let Some(target) = domain.vcpu(vcpu)
            && domain.vgic.raise(vcpu, intid)
        {
            self.trace_injection(domain, vcpu, intid);
            self.notice_by(by, target);
        }
    }

    /// Does for `domain` what an event channel operation asked for.
    pub fn deliver(&self, domain: &Domain, notify: Notify) {
        self.deliver_by(None, domain, notify);
    }

    /// As [`Hypervisor::deliver`], for an event that the vCPU `by` sent: see [`Scheduler::wake`].
    pub fn deliver_by(&self, by: Option<SchedId>, domain: &Domain, notify: Notify) {
        if notify.is_none() {
            return;
        }
        notify.upcall.iter().for_each(|vcpu| self.raise_by(by, domain, vcpu, domain.event_ppi));
        notify.wake.iter().filter_map(|vcpu| domain.vcpu(vcpu)).for_each(|vcpu| self.notice_by(by, vcpu));
        if notify.xen_consumer {
            self.uart_ring_moved(domain);
        }
    }

    /// Something is pending for `vcpu`: wakes it if it waits, makes its CPU leave the guest if it runs.
    pub fn notice(&self, vcpu: &Vcpu) {
        self.notice_by(None, vcpu);
    }

    fn notice_by(&self, by: Option<SchedId>, vcpu: &Vcpu) {
        if vcpu.unblock() {
            self.wake_by(by, vcpu);
        } else if let Some(cpu) = vcpu.running_on() {
            // Its own CPU looks before it enters the guest; the kick is then nothing.
            self.machine.kick(cpu);
        }
    }

    /// The flags of `vcpu` were cleared: lets it run.
    pub fn wake(&self, vcpu: &Vcpu) {
        self.wake_by(None, vcpu);
    }

    fn wake_by(&self, by: Option<SchedId>, vcpu: &Vcpu) {
        if let Some(cpu) = self.sched.wake(vcpu.sched, by, self.now()) {
            self.machine.kick(cpu);
        }
    }

    /// Sets flags that keep `vcpu` from running. It may still run for a moment: see [`Vcpu::running_on`].
    pub fn stop(&self, vcpu: &Vcpu, flags: u32) {
        vcpu.set(flags);
        if let Some(cpu) = self.sched.sleep(vcpu.sched, self.now()) {
            self.machine.kick(cpu);
        }
    }

    /// Has the CPU that holds the registers of `vcpu` look for another one to run, and says whether there is one: they may be there still
    /// while it sleeps. If it cannot run, they are put away soon.
    pub fn unload(&self, vcpu: &Vcpu) -> bool {
        let Some(cpu) = self.sched.is_loaded(vcpu.sched) else { return false };
        self.sched.ask(cpu);
        self.machine.kick(cpu);
        true
    }

    /// Clears flags of `vcpu`, and lets it run if none is left.
    pub fn start(&self, vcpu: &Vcpu, flags: u32) {
        vcpu.clear(flags);
        self.wake(vcpu);
    }

    /// Raises a virtual IRQ that goes to one domain: the control domain.
    pub fn raise_global_virq(&self, virq: u32) {
        if let Some(dom0) = self.domains.get(DomainId::HARDWARE) {
            let raised = dom0.events.raise_global_virq(self.machine, virq);
            self.deliver(&dom0, raised);
        }
    }

    /// Records that an interrupt is pending for a vCPU.
    #[inline(always)]
    pub fn trace_injection(&self, domain: &Domain, vcpu: u32, intid: u32) {
        self.trace.record(TRC_XENOLITH_INJECT, || [u32::from(domain.id.0) << 16 | vcpu, intid]);
    }

    /// Tells Dom0 that a trace is to be read, if it is.
    pub fn tell_of_trace(&self) {
        if self.trace.take_due() {
            self.raise_global_virq(VIRQ_TBUF);
        }
    }

    /// Writes to the serial console what a guest says.
    pub fn print(&self, bytes: &[u8]) {
        self.machine.console_write(bytes);
    }

    /// Writes to the serial console what a guest says on its emulated UART, as a message of the hypervisor's that names the guest; the guest
    /// that has the console's input needs no name.
    pub fn say(&self, domain: &Domain, line: &Line) {
        let mut said = Said { bytes: [0; PREFIX + LINE], len: 0 };
        if self.console.lock().begins_line(line.bytes(), line.verbatim) {
            said.add(b"(XEN) ");
        }
        if !line.verbatim {
            // Adding cannot fail.
            let _ = write!(said, "{}: ", InputTo::Domain(domain.id));
        }
        said.add(line.bytes());
        self.machine.console_write(said.bytes());
        self.console.lock().write(said.bytes());
    }

    /// Logs what a domain other than the control domain says by console_io, line by line: as in Xen it is seen only if option `guest_loglvl`
    /// asks for everything.
    pub fn mutter(&self, domain: &Domain, bytes: &[u8]) {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n');
        for byte in bytes.iter().copied().filter(is_text) {
            let line = domain.console_line.lock().push(byte, false);
            if let Some(text) = line.as_ref().and_then(|line| core::str::from_utf8(line.bytes()).ok()) {
                log::debug!(target: crate::console::GUEST_LINE, "(d{}) {}", domain.id.0, text.trim_end_matches('\n'));
            }
        }
    }

    /// A byte came in on the serial console.
    pub fn console_input(&self, byte: u8) {
        let received = self.console.lock().received(byte);
        match received {
            Received::Kept => self.raise_global_virq(guest_abi::xen::VIRQ_CONSOLE),
            Received::For(domain, held) => self.type_for(domain, held, byte),
            Received::Key(key) => crate::hypercall::press(self, key),
            Received::Switch => self.switch_input(),
            Received::Held => {}
        }
    }

    /// Gives the serial console's input to the next domain that was built at boot, after the last to the hypervisor.
    pub fn switch_input(&self) {
        let mut candidates = self.console.lock().candidates();
        self.give_input(candidates.find(|id| self.domains.get(*id).is_some()));
    }

    /// Gives the serial console's input to a domain, or to the hypervisor, and says so.
    pub fn give_input(&self, domain: Option<DomainId>) {
        let to = domain.map_or(InputTo::Hypervisor, InputTo::Domain);
        let letter = self.console.lock().give_input(to);
        match letter {
            Some(letter) => log::info!("*** Serial input to {to} (type 'CTRL-{}' three times to switch input)", char::from(letter)),
            None => log::info!("*** Serial input to {to}"),
        }
    }

    /// Bytes of RAM that are free.
    pub fn free_bytes(&self) -> u64 {
        self.frames.free_pages() * PAGE_SIZE
    }

    /// Counts a domain as waiting for its last pages.
    pub(crate) fn add_zombie(&self) {
        self.zombies.fetch_add(1, Ordering::SeqCst);
    }

    /// The domain of a VMID.
    pub fn domain_of(&self, vmid: Vmid) -> Option<Arc<Domain>> {
        self.domains.by_vmid(vmid)
    }

    /// A CPU for messages.
    pub fn is_online(&self, cpu: CpuId) -> bool {
        self.sched.online() & crate::sched::mask(cpu) != 0
    }
}
