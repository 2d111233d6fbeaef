//! The physical GICv3 (Arm IHI 0069): distributor, redistributors, and EL2's CPU interface in system registers.
//!
//! EOImode is 1: [`priority_drop`] lets further interrupts in, [`deactivate`] lets this one come again. An interrupt that a guest handles by a
//! hardware-linked list register is only dropped here; the guest's own end of interrupt deactivates it. All interrupts are
//! non-secure group 1 and of one priority.

pub mod its;
pub mod list_registers;
mod registers;

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use registers::{Distributor, Redistributor, TYPER};
use spin::Once;
use tock_registers::interfaces::{Readable, Writeable};
use xenolith_core::addr::{CpuId, MachineAddr};
use xenolith_core::boot::Region;
use xenolith_core::machine::Trigger;

use crate::gic::{GicError, PRIORITY, SGI_STOP, SPECIAL};
use crate::sysreg::{read, write};
use crate::{barrier, mm, percpu, smp};

/// The first SPI.
const FIRST_SPI: u32 = 32;

struct Gic {
    distributor: &'static Distributor,
    redistributors: Vec<Found>,
    spis: u32,
}

/// A redistributor.
struct Found {
    registers: &'static Redistributor,
    affinity: Affinity,
    at: MachineAddr,
}

// SAFETY: device registers answer to any CPU. Distributor registers are set by single writes or under the caller's order (see `spi_*`).
unsafe impl Send for Gic {}
// SAFETY: as above.
unsafe impl Sync for Gic {}

static GIC: Once<Gic> = Once::new();

/// The affinity fields of MPIDR_EL1, in one word as GICR_TYPER has them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Affinity(u32);

impl Affinity {
    const fn of(mpidr: u64) -> Self {
        Self((mpidr & 0xff_ffff) as u32 | (mpidr >> 32 << 24) as u32)
    }
}

/// Finds and resets the distributor: all SPIs off, level-sensitive, routed to this CPU. Then [`init_cpu`] on every CPU. `stride`: bytes from one
/// redistributor to the next, if the hardware does not tell.
///
/// # Safety
/// A GICv3 distributor and redistributors are at these machine addresses, and nothing else drives them.
pub unsafe fn init(distributor: Region, redistributors: &[Region], stride: Option<u64>) -> Result<(), GicError> {
    let registers = mm::map_device(distributor.start(), size_of::<Distributor>() as u64).cast::<Distributor>();
    // SAFETY: mapped as device memory for good; a GICD by the caller's word.
    let distributor = unsafe { &*registers };
    if !matches!(distributor.pidr2.get() >> 4 & 0xf, 3 | 4) {
        return Err(GicError::NotV3);
    }
    let lines = (distributor.typer.get() & 0x1f) + 1;
    let spis = (32 * lines).min(SPECIAL) - FIRST_SPI;
    let gic = GIC.call_once(|| {
        let mut found = Vec::new();
        for region in redistributors {
            // SAFETY: GICRs by the caller's word.
            unsafe { find_redistributors(*region, stride, &mut found) };
        }
        Gic { distributor, redistributors: found, spis }
    });
    gic.reset();
    Ok(())
}

/// Maps a region of redistributors and lists them.
///
/// # Safety
/// GICv3 redistributors are there.
unsafe fn find_redistributors(region: Region, stride: Option<u64>, found: &mut Vec<Found>) {
    const FRAMES: u64 = size_of::<Redistributor>() as u64;
    let base = mm::map_device(region.start(), region.size());
    let mut offset = 0;
    while offset + FRAMES <= region.size() {
        // SAFETY: within the mapped region.
        let redistributor = unsafe { &*base.add(offset as usize).cast::<Redistributor>() };
        let affinity = Affinity(redistributor.typer.read(TYPER::AFFINITY) as u32);
        found.push(Found { registers: redistributor, affinity, at: MachineAddr(region.start().0 + offset) });
        if redistributor.typer.is_set(TYPER::LAST) {
            return;
        }
        // A GICv4 redistributor has two frames more.
        let frames = if redistributor.typer.is_set(TYPER::VLPIS) { 2 * FRAMES } else { FRAMES };
        offset += stride.unwrap_or(frames);
    }
}

impl Gic {
    fn reset(&self) {
        let gicd = self.distributor;
        gicd.ctlr.set(0);
        self.wait();
        for n in 1..=(self.spis / 32) as usize {
            gicd.icenabler[n].set(!0);
            gicd.icpendr[n].set(!0);
            gicd.icactiver[n].set(!0);
            gicd.igroupr[n].set(!0);
        }
        self.wait();
        let end = (FIRST_SPI + self.spis) as usize;
        gicd.ipriorityr[8..end / 4].iter().for_each(|r| r.set(PRIORITY));
        gicd.icfgr[2..end / 16].iter().for_each(|r| r.set(0));
        let here = route(percpu_mpidr());
        gicd.irouter[..self.spis as usize].iter().for_each(|r| r.set(here));
        gicd.ctlr.set(1 << 4 | 1 << 1 | 1); // affinity routing; group 1
        self.wait();
    }

    /// Waits until a change of enables or of the control register is in effect.
    fn wait(&self) {
        while self.distributor.ctlr.get() & 1 << 31 != 0 {
            core::hint::spin_loop();
        }
    }

    /// Register index and bit of an SPI; `None` if the GIC has no such SPI.
    fn spi(&self, intid: u32) -> Option<(usize, u32)> {
        (FIRST_SPI..FIRST_SPI + self.spis).contains(&intid).then_some((intid as usize / 32, 1 << (intid % 32)))
    }
}

fn percpu_mpidr() -> u64 {
    read!("mpidr_el1")
}

/// GICD_IROUTER, and the address fields of ICC_SGI1R.
fn route(mpidr: u64) -> u64 {
    mpidr & 0xff_00ff_ffff
}

fn gic() -> &'static Gic {
    GIC.get().expect("gic_v3::init comes first")
}

/// Wakes this CPU's redistributor and switches its CPU interface on. SGIs are enabled, PPIs are not ([`set_ppi_enabled`]).
pub fn init_cpu() -> Result<(), GicError> {
    const PROCESSOR_SLEEP: u32 = 1 << 1;
    const CHILDREN_ASLEEP: u32 = 1 << 2;
    const SRE: u64 = 1;
    let affinity = Affinity::of(percpu_mpidr());
    let found = gic().redistributors.iter().find(|found| found.affinity == affinity).ok_or(GicError::NoRedistributor)?;
    let gicr = found.registers;
    percpu::this().redistributor.store((gicr as *const Redistributor).expose_provenance(), Ordering::Relaxed);

    gicr.waker.set(gicr.waker.get() & !PROCESSOR_SLEEP);
    while gicr.waker.get() & CHILDREN_ASLEEP != 0 {
        core::hint::spin_loop();
    }
    gicr.icenabler0.set(!0);
    gicr.icpendr0.set(!0);
    gicr.icactiver0.set(!0);
    gicr.igroupr0.set(!0);
    gicr.ipriorityr.iter().for_each(|r| r.set(PRIORITY));
    gicr.isenabler0.set(0xffff);
    wait(gicr);

    // SAFETY: interrupt control; EL2 runs with interrupts masked. SRE, no bypass, and EL1 may use its own.
    unsafe { write!("icc_sre_el2", 0xf_u64) };
    barrier::isb();
    if read!("icc_sre_el2") & SRE == 0 {
        return Err(GicError::NoSystemRegisters);
    }
    // SAFETY: as above.
    unsafe {
        write!("icc_sre_el1", 7_u64);
        write!("icc_pmr_el1", 0xff_u64);
        write!("icc_bpr1_el1", 0_u64);
        write!("icc_ctlr_el1", 1_u64 << 1); // EOImode
        write!("icc_igrpen1_el1", 1_u64);
    }
    barrier::isb();
    list_registers::init_cpu();
    its::init_cpu(found);
    Ok(())
}

fn wait(gicr: &Redistributor) {
    const RWP: u32 = 1 << 3;
    while gicr.ctlr.get() & RWP != 0 {
        core::hint::spin_loop();
    }
}

fn this_redistributor() -> &'static Redistributor {
    let pointer: *const Redistributor = core::ptr::with_exposed_provenance(percpu::this().redistributor());
    assert!(!pointer.is_null());
    // SAFETY: set by `init_cpu` to a mapped redistributor, for good.
    unsafe { &*pointer }
}

/// Enables or disables a PPI (16 to 31) of this CPU.
pub fn set_ppi_enabled(intid: u32, enabled: bool) {
    assert!((16..32).contains(&intid));
    let gicr = this_redistributor();
    let register = if enabled { &gicr.isenabler0 } else { &gicr.icenabler0 };
    register.set(1 << intid);
    wait(gicr);
}

/// Takes the most urgent pending interrupt of this CPU: it is then active, and [`priority_drop`] must follow. `None`: nothing is pending.
///
/// Stops this CPU for good if another one asked for that.
pub fn acknowledge() -> Option<u32> {
    let intid = read!("icc_iar1_el1") as u32 & 0xff_ffff;
    barrier::dsb_sy();
    if intid == SGI_STOP {
        crate::fault::halt();
    }
    (!(SPECIAL..8192).contains(&intid)).then_some(intid)
}

/// Other interrupts may come again; this one stays active until it is deactivated.
pub fn priority_drop(intid: u32) {
    // SAFETY: interrupt control; EL2 runs with interrupts masked.
    unsafe { write!("icc_eoir1_el1", u64::from(intid)) };
    barrier::isb();
}

/// This interrupt may come again. An SPI may be deactivated from any CPU.
pub fn deactivate(intid: u32) {
    // SAFETY: as in `priority_drop`.
    unsafe { write!("icc_dir_el1", u64::from(intid)) };
    barrier::isb();
}

/// Interrupts one CPU, once it is online.
pub fn send_sgi(intid: u32, to: CpuId) {
    let mpidr = smp::mpidr(to);
    let (aff3, aff2, aff1, aff0) = (mpidr >> 32 & 0xff, mpidr >> 16 & 0xff, mpidr >> 8 & 0xff, mpidr & 0xff);
    let target = aff3 << 48 | (aff0 >> 4) << 44 | aff2 << 32 | u64::from(intid) << 24 | aff1 << 16 | 1 << (aff0 & 0xf);
    generate_sgi(target);
}

/// Interrupts all other CPUs of the machine.
pub fn send_sgi_to_others(intid: u32) {
    generate_sgi(1 << 40 | u64::from(intid) << 24);
}

fn generate_sgi(value: u64) {
    // What was written for the other CPU to find is visible before the interrupt is.
    barrier::dsb_ish();
    // SAFETY: an SGI reaches EL2 of CPUs that run this program; it writes no memory.
    unsafe { write!("icc_sgi1r_el1", value) };
    barrier::isb();
}

/// SPIs that the GIC has; the first is 32.
pub fn spi_count() -> u32 {
    gic().spis
}

/// Whether the GIC is set up, so that [`send_sgi_to_others`] can be used.
pub fn is_ready() -> bool {
    GIC.get().is_some() && percpu::this().redistributor() != 0
}

/// Enables or disables an SPI. The change is in effect on return.
pub fn spi_set_enabled(intid: u32, enabled: bool) {
    let gic = gic();
    let Some((n, bit)) = gic.spi(intid) else { return };
    let registers = if enabled { &gic.distributor.isenabler } else { &gic.distributor.icenabler };
    registers[n].set(bit);
    gic.wait();
}

/// Configures an SPI that is disabled. Sixteen share a register: one caller at a time (the hardware domain's vGIC lock).
pub fn spi_set_trigger(intid: u32, trigger: Trigger) {
    let gic = gic();
    if gic.spi(intid).is_some() {
        let register = &gic.distributor.icfgr[intid as usize / 16];
        let edge = 2 << (2 * (intid % 16));
        register.set(register.get() & !edge | if trigger == Trigger::Edge { edge } else { 0 });
    }
}

/// Deactivates an SPI, wherever it was acknowledged.
pub fn spi_deactivate(intid: u32) {
    let gic = gic();
    if let Some((n, bit)) = gic.spi(intid) {
        gic.distributor.icactiver[n].set(bit);
    }
}

/// Width of interrupt numbers, `GICD_TYPER.IDbits` + 1.
pub fn intid_bits() -> u32 {
    (gic().distributor.typer.get() >> 19 & 0x1f) + 1
}
