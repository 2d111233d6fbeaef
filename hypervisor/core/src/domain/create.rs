//! How a domain comes to be: by the toolstack (`XEN_DOMCTL_createdomain`) or at boot.

use super::{Domain, Dying, IomemAccess, Life, MAX_VCPUS, PARAMS};
use crate::addr::{DomainId, Gfn, Mfn, PAGE_SHIFT, Vmid};
use crate::evtchn::EventChannels;
use crate::frames::FrameKind;
use crate::gnttab::{GrantError, GrantTable};
use crate::hypervisor::Hypervisor;
use crate::lock::Lock;
use crate::machine::Machine;
use crate::p2m::{Drained, P2m, P2mType};
use crate::room;
use crate::txcopy::TxCopy;
use crate::vcpu::PAUSED;
use crate::vgic::{Interface, Vgic, VgicConfig};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64};
use guest_abi::errno::Errno;

/// What is to be created.
pub struct Config {
    /// The id; none: the next free one.
    pub id: Option<DomainId>,
    /// Hardware and control domain.
    pub privileged: bool,
    /// It may write to the serial console without being privileged.
    pub is_console: bool,
    /// gfn equals mfn.
    pub direct_mapped: bool,
    /// UUID.
    pub handle: [u8; 16],
    /// vCPUs, 1 to [`MAX_VCPUS`].
    pub max_vcpus: u32,
    /// The highest event channel port.
    pub max_port: u32,
    /// Pages of the grant table at most.
    pub max_grant_frames: u32,
    /// Pages of the maptrack table at most.
    pub max_maptrack_frames: u32,
    /// SPIs.
    pub spis: u32,
    /// Pages that stage-2 tables may use to begin with.
    pub pool: u64,
    /// The PPI of the event channel upcall.
    pub event_ppi: u32,
    /// Its interrupt controller.
    pub vgic: VgicConfig,
}

impl Hypervisor {
    /// Creates a domain: paused once, without memory, vCPUs down and not yet allocated.
    pub fn create_domain(&self, config: Config) -> Result<Arc<Domain>, Errno> {
        if config.max_vcpus == 0 || config.max_vcpus > MAX_VCPUS {
            return Err(Errno::EINVAL);
        }
        let id = match config.id {
            Some(id) if self.domains.get(id).is_some() => return Err(Errno::EEXIST),
            Some(id) => id,
            None => self.domains.free_id().ok_or(Errno::ENOMEM)?,
        };
        let vmid = self.domains.free_vmid(|vmid| self.frames.account(vmid).is_empty()).ok_or(Errno::ENOMEM)?;
        let shared_info = self.frames.allocate(vmid, 0, FrameKind::Xen).map_err(|_| Errno::ENOMEM)?;
        let Ok(first_grant) = self.frames.allocate(vmid, 0, FrameKind::Xen) else {
            self.frames.put(shared_info);
            return Err(Errno::ENOMEM);
        };
        let domain = match self.assemble(&config, id, vmid, [shared_info, first_grant]) {
            Ok(domain) => Arc::new(domain),
            Err(error) => {
                self.frames.put(shared_info);
                self.frames.put(first_grant);
                return Err(error);
            }
        };
        self.publish_wall_clock(&domain);
        if self.map_cpu_interface(&domain, &config.vgic) && self.domains.insert(domain.clone()) {
            Ok(domain)
        } else {
            while domain.p2m.drain(&self.frames, u64::MAX, |_, _| {}) == Drained::More {}
            self.free_frames_of(&domain);
            Err(Errno::ENOMEM)
        }
    }

    /// Lets a guest with a GICv2 reach the hardware's virtual CPU interface, `false` if there is no memory for the tables.
    fn map_cpu_interface(&self, domain: &Domain, vgic: &VgicConfig) -> bool {
        let Interface::V2(interface) = vgic.interface else { return true };
        let (gfn, mfn) = (Gfn::containing(interface.at), Mfn::containing(interface.gicv));
        let mut edit = domain.p2m.edit(&self.frames);
        edit.map_range(gfn, mfn, interface.size >> PAGE_SHIFT, P2mType::MmioDirectDev).is_ok()
    }

    /// Gives a domain's grant table as many frames as `frames`, if it has fewer.
    pub fn grow_grant_table(&self, domain: &Domain, frames: u32) -> Result<(), GrantError> {
        let missing = domain.grants.missing(frames)?;
        let mut pages = Vec::new();
        pages.try_reserve_exact(missing as usize).map_err(|_| GrantError::OutOfMemory)?;
        for _ in 0..missing {
            match self.frames.allocate(domain.vmid, 0, FrameKind::Xen) {
                Ok(page) => pages.push(page),
                Err(_) => break,
            }
        }
        let grown = domain.grants.grow(frames, &mut pages);
        pages.into_iter().for_each(|page| self.frames.put(page));
        grown
    }

    fn assemble(&self, config: &Config, id: DomainId, vmid: Vmid, [shared_info, first_grant]: [Mfn; 2]) -> Result<Domain, Errno> {
        let counter_offset = if config.privileged { self.clock.boot_ticks() } else { self.machine.ticks() };
        let age = self.clock.nanos(counter_offset) / 1_000_000_000;
        let events = EventChannels::new(id, config.max_port, config.max_vcpus, shared_info.address()).map_err(|e| e.errno())?;
        let grants = GrantTable::new(config.max_grant_frames, config.max_maptrack_frames, first_grant).map_err(|_| Errno::ENOMEM)?;
        let vgic = Vgic::new(&config.vgic, config.max_vcpus, config.spis).map_err(|_| Errno::ENOMEM)?;
        let mut iomem = IomemAccess::default();
        if config.privileged {
            // Whether the machine's device is its to give is another question: see `domctl/devices.rs`.
            iomem.permit(0..u64::MAX).map_err(|_| Errno::ENOMEM)?;
        }
        // The last that can fail takes frames, and nothing of the heap.
        if !room::for_arc::<Domain>() {
            return Err(Errno::ENOMEM);
        }
        let p2m = P2m::new(vmid, self.fixed.ipa_bits.into(), &self.frames, config.pool).map_err(|_| Errno::ENOMEM)?;
        Ok(Domain {
            id,
            vmid,
            privileged: config.privileged,
            direct_mapped: config.direct_mapped,
            event_ppi: config.event_ppi,
            max_vcpus: config.max_vcpus,
            spis: config.spis,
            p2m,
            events,
            grants,
            txcopy: TxCopy::default(),
            vgic,
            iomem: Lock::new(iomem),
            shared_info,
            params: Lock::new([0; PARAMS]),
            life: Lock::new(Life { pauses: 1, shutdown: None, shutdown_code: None, dying: Dying::Alive }),
            counter_offset,
            time_offset_seconds: age,
            handle: Lock::new(config.handle),
            assists: AtomicU64::new(0),
            is_console: config.is_console,
            creation_finished: AtomicBool::new(false),
            watchdog: Lock::new(Default::default()),
            console_line: Lock::default(),
            uart: spin::Once::new(),
            its: spin::Once::new(),
            vcpus: spin::Once::new(),
        })
    }

    /// Allocates the vCPUs of a domain, all down; once.
    pub fn create_vcpus(&self, domain: &Domain) -> Result<(), Errno> {
        // Two calls at once make one set; and whether it is paused is decided under the lock that pausing takes.
        let life = domain.life.lock();
        if !domain.vcpus().is_empty() {
            return Ok(());
        }
        let mut vcpus = Vec::new();
        vcpus.try_reserve_exact(domain.max_vcpus as usize).map_err(|_| Errno::ENOMEM)?;
        for id in 0..domain.max_vcpus {
            match self.sched.add(id, domain.id, domain.vmid, self.now()) {
                Some(vcpu) => vcpus.push(vcpu),
                None => {
                    vcpus.iter().for_each(|v: &Arc<crate::vcpu::Vcpu>| {
                        // It never ran: it is loaded nowhere.
                        let _ = self.sched.remove(v.sched);
                    });
                    return Err(Errno::ENOMEM);
                }
            }
        }
        for vcpu in &vcpus {
            if life.pauses > 0 {
                vcpu.set(PAUSED);
            }
            vcpu.context.lock().sys.vmpidr_el2 = vmpidr(vcpu.id);
        }
        domain.vcpus.call_once(|| vcpus);
        Ok(())
    }

    /// Writes UTC at the guest's clock zero into its shared page.
    pub fn publish_wall_clock(&self, domain: &Domain) {
        let (secs, nsecs) = self.wall_clock.at_boot();
        write_wall_clock(self.machine, domain.shared_info, secs.wrapping_add(domain.time_offset_seconds), nsecs);
    }
}

/// MPIDR of a vCPU: 16 to a cluster, as Xen numbers them.
pub fn vmpidr(vcpu: u32) -> u64 {
    1 << 31 | u64::from(vcpu & 0xf) | u64::from(vcpu >> 4 & 0xff) << 8
}

/// Offsets in `shared_info`: wc_version, wc_sec, wc_nsec, wc_sec_hi.
const WALL_CLOCK: u64 = 1072;

fn write_wall_clock(machine: &dyn Machine, page: Mfn, secs: u64, nsecs: u32) {
    let field = |n: u64| crate::addr::MachineAddr(page.address().0 + WALL_CLOCK + 4 * n);
    let version = machine.load_u32(field(0)) | 1;
    machine.store_u32(field(0), version);
    machine.store_u32(field(1), secs as u32);
    machine.store_u32(field(2), nsecs);
    machine.store_u32(field(3), (secs >> 32) as u32);
    machine.store_u32(field(0), version.wrapping_add(1));
}
