//! From a machine that EL2 drives to a running hypervisor: frame table, Dom0 and the domains of the device tree, all CPUs at work.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use log::{info, warn};
use spin::Once;
use xenolith_core::addr::{CpuId, DomainId, Ipa, Mfn, PAGE_SHIFT, PAGE_SIZE};
use xenolith_core::boot::cmdline::{Bootscrub, Level, Xsm};
use xenolith_core::boot::dom0::{self, Dom0Input, Dom0Plan};
use xenolith_core::boot::domu::{self, DomuConfig, DomuDevices};
use xenolith_core::boot::host_tree::{BootModule, GicKind, ModuleKind};
use xenolith_core::boot::image::HEADER_SIZE;
use xenolith_core::boot::{BootError, HostInfo, Region, gzip};
use xenolith_core::clock::Clock;
use xenolith_core::console::ConsoleRing;
use xenolith_core::domain::{Domain, dom0 as build, domu as build_domain};
use xenolith_core::frames::{Frame, FrameTable};
use xenolith_core::hypervisor::{Build, Fixed, Hypervisor};
use xenolith_core::lock::Lock;
use xenolith_core::machine::Machine;
use xenolith_core::policy::Policy;
use xenolith_core::vgic::{CpuInterface, RedistributorRegion, VgicConfig};

use crate::boot::{Host, die};
use crate::machine_impl::Arm64;
use crate::run::{Lines, Runner};
use crate::{console, gic, gic_v3, hyp, mm, timer};

static MACHINE: Arm64 = Arm64;
static HYPERVISOR: Once<Hypervisor> = Once::new();
static LINES: Once<Lines> = Once::new();
/// The console ring until there is a hypervisor to keep it.
static EARLY_RING: Lock<ConsoleRing> = Lock::new(ConsoleRing::new());

/// From now on what is printed is kept for `xl dmesg`. Needs a heap.
pub fn keep_messages() {
    EARLY_RING.lock().allocate();
    console::set_tap(|bytes| match HYPERVISOR.get() {
        Some(hv) => hv.console.lock().write(bytes),
        None => EARLY_RING.lock().write(bytes),
    });
}

/// Builds Dom0 and the domains of the device tree, and runs them, on all CPUs.
pub fn run(mut host: Host) -> ! {
    let (own, guest) = (host.options.loglvl, host.options.guest_loglvl);
    console::set_thresholds(console::Thresholds {
        own: level(own.always),
        guest: level(guest.always),
        guest_limited: level(guest.limited.max(guest.always)),
    });
    let cpus = host.start_secondaries(secondary);
    info!("Brought up {cpus} CPUs");
    unpack_kernels(&mut host).unwrap_or_else(|why| die(&why));
    let version = gic::hardware().version;
    let domus = domu::domains(&host.tree, &host.info, version).unwrap_or_else(|why| die(&why));
    let has_dom0 = host.info.module(ModuleKind::Kernel).is_some();
    if !has_dom0 && !domus.is_empty() {
        info!("Xen dom0less mode detected");
    }
    let frames = frame_table(&mut host);
    let vcpus = host.options.dom0_max_vcpus.unwrap_or(cpus.into()).clamp(1, version.max_vcpus());
    // Without any domain there is nothing to do: that is for the plan to say.
    let dom0 = (has_dom0 || domus.is_empty()).then(|| plan(&host, vcpus));
    dom0.iter().flat_map(|plan| &plan.warnings).for_each(|warning| warn!("{warning}"));

    let scrub = host.options.bootscrub != Bootscrub::Off;
    let give = |region: &Region| frames.give(pages(*region), scrub);
    let free: u64 = host.free_ram().iter().map(give).sum();
    info!("{} MiB of {} MiB are free", free >> 8, frames.total_pages() >> 8);

    let hv = HYPERVISOR.call_once(|| hypervisor(&host, frames, cpus));
    let mut domains = Vec::new();
    if let Some(plan) = &dom0 {
        domains.push(build_dom0(hv, &host, plan, vcpus));
    }
    for (id, config) in (1..).map(DomainId).zip(&domus) {
        domains.push(build_domu(hv, &host, id, config).unwrap_or_else(|why| die(&why)));
    }
    // The modules have been copied.
    for module in &host.info.modules {
        hv.frames.give(pages(module.region.pages_outward()), true);
    }
    let lines = Lines { maintenance: host.info.gic.maintenance, console: host.uart.interrupt.map(|line| line.intid) };
    if let Some(line) = lines.console {
        console::enable_receive_interrupt();
        gic::spi_set_enabled(line, true);
    }
    hv.console.lock().set_switch(host.options.conswitch, domains.last().map_or(DomainId::HARDWARE, |last| last.id));
    if host.options.conswitch_stays {
        hv.give_input(None);
    } else {
        hv.switch_input();
    }
    for domain in &domains {
        if hv.unpause(domain).is_err() {
            die(&"a domain could not be started");
        }
    }
    LINES.call_once(|| lines);
    Runner::new(hv, CpuId(0), lines).run()
}

fn build_dom0(hv: &Hypervisor, host: &Host, plan: &Dom0Plan, vcpus: u32) -> Arc<Domain> {
    info!("*** LOADING DOMAIN 0 ***");
    info!("Loading d0 kernel from boot module @ {:?}", plan.kernel.from.start());
    if let Some(ramdisk) = &plan.ramdisk {
        info!("Loading ramdisk from boot module @ {:?}", ramdisk.from.start());
    }
    plan.banks.iter().for_each(|bank| info!("d0 memory: {bank} ({} MiB)", bank.size() >> 20));
    info!("Allocating PPI {} for event channel interrupt", plan.event_ppi);
    let its = host.info.its.as_ref().and_then(|its| gic_v3::its::config(Ipa(its.registers.start().0), hv.fixed.cpus));
    build::build(hv, plan, vcpus, host.options.dom0_vcpus_pin, vgic(&host.info), its).unwrap_or_else(|why| die(&why))
}

/// Builds a domain that the device tree describes. It has the interrupt controller of the toolstack's domains.
fn build_domu(hv: &Hypervisor, host: &Host, id: DomainId, config: &DomuConfig) -> Result<Arc<Domain>, BootError> {
    info!("*** LOADING DOMU cpus={} memory={:#x}KB ***", config.vcpus, config.memory >> 10);
    let version = hv.fixed.gic.version;
    let blob = config.devices.as_ref().map_or_else(|| Ok(Vec::new()), devices_tree)?;
    let devices = config.devices.as_ref().map(|module| DomuDevices::read(module, &blob, &host.tree, &host.info, &host.uart)).transpose()?;
    let plan = domu::plan(config, &host.tree, &kernel_start(config.kernel.region), devices.as_ref(), version, hv.fixed.ipa_bits)?;
    let n = id.0;
    info!("Loading d{n} kernel from boot module @ {:?}", plan.kernel.from.start());
    if let Some(ramdisk) = &plan.ramdisk {
        info!("Loading ramdisk from boot module @ {:?}", ramdisk.from.start());
    }
    plan.banks.iter().for_each(|bank| info!("d{n} memory: {bank} ({} MiB)", bank.size() >> 20));
    let vgic = hv.fixed.gic.guest(version).ok_or_else(|| BootError::NoDomain { node: config.node.clone() })?;
    build_domain::build(hv, id, config, &plan, vgic)
}

/// The file of a domain's tree of devices.
fn devices_tree(module: &BootModule) -> Result<Vec<u8>, BootError> {
    const LARGEST: u64 = 1 << 20;
    if module.region.size() > LARGEST {
        return Err(BootError::DomainModule { node: module.node.clone(), why: "it is larger than 1 MiB" });
    }
    let mut blob = vec![0; module.region.size() as usize];
    MACHINE.read(module.region.start(), &mut blob);
    Ok(blob)
}

/// A secondary CPU: waits until there are domains.
fn secondary(cpu: CpuId) -> ! {
    let lines = *LINES.wait();
    Runner::new(HYPERVISOR.wait(), cpu, lines).run()
}

fn pages(region: Region) -> core::ops::Range<Mfn> {
    Mfn::containing(region.start())..Mfn::containing(region.end())
}

fn frame_table(host: &mut Host) -> FrameTable {
    let banks: Vec<_> = host.info.ram.iter().map(|bank| pages(*bank)).collect();
    let needed = FrameTable::frames_needed(&banks);
    let size = (needed * size_of::<Frame>()) as u64;
    let Some(at) = host.take(size, 1 << PAGE_SHIFT) else { die(&"there is too little memory: no free RAM for the frame table") };
    MACHINE.zero(at, size as usize);
    // SAFETY: `size` bytes of mapped RAM that were taken for this, for good, and are zero: what an empty table of these atomics is.
    let frames = unsafe { core::slice::from_raw_parts(mm::direct(at).cast::<Frame>(), needed) };
    FrameTable::new(&MACHINE, &banks, frames)
}

/// Puts what a compressed kernel unpacks to in its place among the modules.
fn unpack_kernels(host: &mut Host) -> Result<(), BootError> {
    for index in 0..host.info.modules.len() {
        let (kind, file) = (host.info.modules[index].kind, host.info.modules[index].region);
        let Some(size) = (kind == ModuleKind::Kernel).then(|| gzip::unpacked_size(&MACHINE, file)).flatten() else { continue };
        const NO_ROOM: BootError = BootError::BadKernel("it is compressed with gzip, and there is no memory to unpack it");
        // Not taken for good: it is freed with the other modules.
        let (at, _) = (host.take(size, 1 << PAGE_SHIFT).ok_or(NO_ROOM)?, host.taken.pop());
        let to = Region::new(at.0, size).ok_or(NO_ROOM)?;
        gzip::unpack(&MACHINE, file, to)?;
        info!("Unpacked the kernel: {} KiB", size >> 10);
        // One file may be for several domains.
        for module in host.info.modules.iter_mut().filter(|module| module.region == file) {
            module.region = to;
        }
    }
    Ok(())
}

/// The first bytes of a kernel: enough for its headers.
fn kernel_start(file: Region) -> [u8; HEADER_SIZE] {
    let mut start = [0; HEADER_SIZE];
    let len = HEADER_SIZE.min(file.size() as usize);
    MACHINE.read(file.start(), &mut start[..len]);
    start
}

fn plan(host: &Host, vcpus: u32) -> Dom0Plan {
    let start = host.info.module(ModuleKind::Kernel).map_or([0; HEADER_SIZE], |kernel| kernel_start(kernel.region));
    let own: Vec<_> = host.image().into_iter().collect();
    let input = Dom0Input {
        tree: &host.tree,
        info: &host.info,
        options: &host.options,
        uart: &host.uart,
        command_line: host.command_lines.dom0.as_deref(),
        kernel_start: &start,
        free: &host.free_ram(),
        own: &own,
        vcpus,
    };
    dom0::plan(&input).unwrap_or_else(|why| die(&why))
}

fn hypervisor(host: &Host, frames: FrameTable, cpus: u8) -> Hypervisor {
    let options = &host.options;
    let policy = if options.xsm == Xsm::Dummy { Policy::Dummy } else { Policy::Silo };
    let fixed = Fixed {
        command_line: host.command_lines.xen.clone(),
        cpus,
        ipa_bits: hyp::ipa_bits() as u8,
        gic: gic::hardware(),
        spis: gic::spi_count(),
        max_grant_frames: options.gnttab_max_frames,
        max_maptrack_frames: options.gnttab_max_maptrack_frames,
        max_mfn: frames.max_mfn().0,
        noreboot: options.noreboot,
        midr: crate::sysreg::read!("midr_el1"),
        native_wfi: options.vwfi_native,
        build: Build { compiler: env!("XENOLITH_RUSTC"), by: "xenolith", domain: "localdomain", date: env!("XENOLITH_DATE") },
    };
    let ring = core::mem::take(&mut *EARLY_RING.lock());
    let hv = Hypervisor::new(&MACHINE, frames, Clock::new(timer::ticks(), timer::frequency()), policy, fixed, ring);
    hv.sched.set_ratelimit_us(options.sched_ratelimit_us);
    hv
}

/// Dom0's interrupt controller is where the machine's is.
fn vgic(info: &HostInfo) -> VgicConfig {
    match &info.gic.kind {
        GicKind::V2 { gicd, gicc, gicv, .. } => {
            // All of it: what pages repeat for the hardware they repeat for Dom0.
            let size = gicc.size().min(gicv.size()).next_multiple_of(PAGE_SIZE);
            VgicConfig::v2(Ipa(gicd.start().0), CpuInterface { at: Ipa(gicc.start().0), gicv: gicv.start(), size })
        }
        GicKind::V3 { gicd, redistributors, stride } => {
            let regions = redistributors.iter().map(|r| RedistributorRegion { base: Ipa(r.start().0), size: r.size() }).collect();
            VgicConfig::v3(Ipa(gicd.start().0), regions, *stride, gic_v3::intid_bits())
        }
    }
}

fn level(level: Level) -> log::LevelFilter {
    match level {
        Level::None => log::LevelFilter::Off,
        Level::Error => log::LevelFilter::Error,
        Level::Warning => log::LevelFilter::Warn,
        Level::Info => log::LevelFilter::Info,
        Level::Debug => log::LevelFilter::Debug,
    }
}
