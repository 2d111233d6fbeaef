//! A hypervisor on a fake machine with domains in it, for tests that span subsystems.
//!
//! Each domain has RAM from guest frame [`RAM`] on and a stage 1 that maps it one to one: a virtual address is a guest physical address.

use crate::addr::{CpuId, DomainId, Gfn, GuestVa, Ipa, MachineAddr, Mfn, PAGE_SIZE};
use crate::clock::Clock;
use crate::console::ConsoleRing;
use crate::domain::Domain;
use crate::domain::create::Config;
use crate::domain::destroy::Progress;
use crate::frames::{Frame, FrameKind, FrameTable};
use crate::guest_memory::{GuestMemory, Stage1};
use crate::hypercall::{Args, Caller, Outcome, dispatch};
use crate::hypervisor::{Build, Fixed, Hypervisor};
use crate::machine::Machine;
use crate::machine::fake::FakeMachine;
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::vgic::{HardwareGic, Version, VgicConfig};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub(crate) mod heap;
pub(crate) mod preempt;

/// The first guest frame of a domain's RAM.
pub(crate) const RAM: u64 = 0x4_0000;
/// Pages of RAM of the machine.
const PAGES: usize = 1024;
/// The first machine frame.
const BASE: u64 = 0x8_0000;

/// The hypervisor and its machine.
pub(crate) struct Testbed {
    pub machine: &'static FakeMachine,
    pub hv: Hypervisor,
}

/// VA = IPA, as far as it is RAM of the domain.
struct OneToOne<'a>(&'a Domain);

impl Stage1 for OneToOne<'_> {
    fn translate(&self, va: GuestVa, write: bool) -> Option<MachineAddr> {
        let found = self.0.p2m.lookup(Gfn::containing(Ipa(va.0)))?;
        (found.kind.write_permitted() || !write).then(|| MachineAddr(found.mfn.address().0 + va.page_offset()))
    }
}

impl Testbed {
    /// A machine with RAM and no domain.
    pub fn new(policy: Policy) -> Self {
        Self::with_pages(policy, PAGES)
    }

    /// The same with less RAM, for tests that need many: it is never given back.
    pub fn with_pages(policy: Policy, pages: usize) -> Self {
        let machine = FakeMachine::leak(BASE << 12, pages);
        let table: Vec<Frame> = (0..pages).map(|_| Frame::default()).collect();
        let ram = Mfn(BASE)..Mfn(BASE + pages as u64);
        let frames = FrameTable::new(machine, core::slice::from_ref(&ram), table.leak());
        frames.give(ram.clone(), false);
        let fixed = Fixed {
            command_line: String::new(),
            cpus: 1,
            ipa_bits: 40,
            gic: HardwareGic { version: Version::V3, gicv: None },
            spis: 32,
            max_grant_frames: 4,
            max_maptrack_frames: 2,
            max_mfn: ram.end.0,
            noreboot: false,
            midr: 0,
            native_wfi: false,
            build: Build { compiler: "", by: "", domain: "", date: "" },
        };
        Self { machine, hv: Hypervisor::new(machine, frames, Clock::new(0, machine.frequency()), policy, fixed, ConsoleRing::new()) }
    }

    /// A domain with one vCPU and `pages` pages of RAM; id 0 is the control domain.
    pub fn domain(&self, id: u16, pages: u64) -> Arc<Domain> {
        self.domain_with(id, pages, 1, VgicConfig::guest_v3())
    }

    /// The same with as many vCPUs, and this interrupt controller.
    pub fn domain_with(&self, id: u16, pages: u64, vcpus: u32, vgic: VgicConfig) -> Arc<Domain> {
        let config = Config {
            id: Some(DomainId(id)),
            privileged: id == 0,
            is_console: false,
            direct_mapped: false,
            handle: [0; 16],
            max_vcpus: vcpus,
            max_port: 1023,
            max_grant_frames: self.hv.fixed.max_grant_frames,
            max_maptrack_frames: self.hv.fixed.max_maptrack_frames,
            spis: 32,
            pool: u64::MAX,
            event_ppi: 31,
            vgic,
        };
        let domain = self.hv.create_domain(config).unwrap();
        self.hv.create_vcpus(&domain).unwrap();
        self.hv.frames.account(domain.vmid).set_max_pages(pages);
        for n in 0..pages {
            let mfn = self.hv.frames.allocate(domain.vmid, 0, FrameKind::Ram).unwrap();
            domain.p2m.edit(&self.hv.frames).map(Gfn(RAM + n), mfn, 0, P2mType::RamRw).unwrap();
        }
        domain
    }

    /// The machine frame of the domain's RAM page `n`.
    pub fn ram(&self, domain: &Domain, n: u64) -> Mfn {
        domain.p2m.lookup(Gfn(RAM + n)).unwrap().mfn
    }

    /// The machine address of a virtual address; RAM pages follow each other in no order.
    pub fn at(domain: &Domain, va: u64) -> MachineAddr {
        OneToOne(domain).translate(GuestVa(va), false).unwrap()
    }

    /// Writes values as the guest would, one after the other from `va` on.
    pub fn poke<T: IntoBytes + Immutable>(&self, domain: &Domain, va: u64, values: &[T]) {
        for (n, byte) in (0..).zip(values.as_bytes()) {
            self.machine.write(Self::at(domain, va + n), &[*byte]);
        }
    }

    /// Reads values as the guest would.
    pub fn peek<T: FromBytes>(&self, domain: &Domain, va: u64, count: usize) -> Vec<T> {
        let size = size_of::<T>();
        let byte = |n: usize| {
            let mut byte = [0];
            self.machine.read(Self::at(domain, va + n as u64), &mut byte);
            byte[0]
        };
        let value = |i: usize| T::read_from_bytes(&(0..size).map(|n| byte(i * size + n)).collect::<Vec<_>>()).unwrap();
        (0..count).map(value).collect()
    }

    /// One execution of the HVC instruction.
    pub fn hvc(&self, domain: &Arc<Domain>, number: u64, args: Args) -> Outcome {
        let stage1 = OneToOne(domain);
        let memory = GuestMemory::new(&self.hv.frames, &stage1, domain.vmid);
        let caller = Caller { domain, vcpu: domain.vcpu(0).unwrap(), memory, cpu: CpuId(0) };
        dispatch(&self.hv, &caller, number, &args)
    }

    /// A hypercall as the guest sees it: repeated until it returns. Also how often it was executed.
    pub fn hypercall(&self, domain: &Arc<Domain>, number: u64, args: Args) -> (i64, u32) {
        self.hypercall_with(domain, number, args, || ())
    }

    /// The same, and what happens each time before it goes on.
    pub fn hypercall_with(&self, domain: &Arc<Domain>, number: u64, mut args: Args, mut meanwhile: impl FnMut()) -> (i64, u32) {
        for times in 1..20_000 {
            match self.hvc(domain, number, args) {
                Outcome::Return(value) => return (value, times),
                Outcome::Again(next) => args = next,
            }
            if preempt::forced().is_some() {
                self.hv.audit().unwrap();
            }
            meanwhile();
        }
        panic!("hypercall {number} with {args:x?} does not end");
    }

    /// Ends a domain, with nothing between the pieces.
    pub fn destroy(&self, domain: &Arc<Domain>) {
        let pieces = (0..20_000).find(|_| self.hv.destroy(domain) == Progress::Done);
        assert!(pieces.is_some(), "domain {} does not end", domain.id.0);
    }

    /// References on a page.
    pub fn references(&self, mfn: Mfn) -> u32 {
        self.hv.frames.info(mfn).unwrap().references
    }

    /// Pages with more references than their allocation.
    pub fn pages_in_use(&self) -> Vec<Mfn> {
        self.hv.frames.iter().filter(|(_, info)| info.references > 1).map(|(mfn, _)| mfn).collect()
    }

    /// A virtual address in RAM page `n`.
    pub const fn va(n: u64, offset: u64) -> u64 {
        (RAM + n) * PAGE_SIZE + offset
    }
}
