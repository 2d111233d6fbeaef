//! The physical GICv2 (Arm IHI 0048B): distributor and CPU interface, in memory.
//!
//! EOImode is 1, as in `gic_v3`. Groups are left as firmware set them: in the non-secure view, and without security states, there is one that
//! matters and bit 0 enables it.

pub mod list_registers;
mod registers;

use core::sync::atomic::{AtomicU8, Ordering};

use registers::{CpuInterface, Distributor, VirtualInterface};
use spin::Once;
use tock_registers::interfaces::{Readable, Writeable};
use xenolith_core::addr::{CpuId, MachineAddr};
use xenolith_core::boot::Region;
use xenolith_core::machine::Trigger;
use xenolith_core::vgic::FIRST_SPI;

use crate::gic::{GicError, PRIORITY, SGI_STOP, SPECIAL};
use crate::{barrier, mm, percpu};

/// CPU interfaces of a GICv2.
const MAX_CPUS: usize = 8;
/// SGIs are below, PPIs from here on.
const FIRST_PPI: u32 = 16;

struct Gic {
    distributor: &'static Distributor,
    cpu: &'static CpuInterface,
    virtual_: &'static VirtualInterface,
    spis: u32,
    /// List registers of each CPU.
    list_registers: usize,
    /// 8 KiB of virtual CPU interface.
    gicv: MachineAddr,
}

// SAFETY: device registers answer to any CPU, each with its own bank. Shared ones are set by single writes or under the caller's order.
unsafe impl Send for Gic {}
// SAFETY: as above.
unsafe impl Sync for Gic {}

static GIC: Once<Gic> = Once::new();
/// The bit of each CPU in ITARGETSR and SGIR, by its number.
static TARGETS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];

/// Finds and resets the distributor: all SPIs off, level-sensitive, for this CPU. Then [`init_cpu`] on every CPU.
///
/// # Safety
/// A GICv2 with virtualization extensions is at these machine addresses, and nothing else drives it.
pub unsafe fn init(gicd: Region, gicc: Region, gich: Region, gicv: Region) {
    let alias = alias_offset(gicc);
    let map = |at: u64, size: usize| mm::map_device(MachineAddr(at), size as u64);
    let distributor = map(gicd.start().0, size_of::<Distributor>()).cast::<Distributor>();
    let cpu = map(gicc.start().0 + alias, size_of::<CpuInterface>()).cast::<CpuInterface>();
    let virtual_ = map(gich.start().0, size_of::<VirtualInterface>()).cast::<VirtualInterface>();
    // SAFETY: mapped as device memory for good, at least as large; a GICv2 by the caller's word.
    let (distributor, cpu, virtual_) = unsafe { (&*distributor, &*cpu, &*virtual_) };
    let lines = 32 * ((distributor.typer.get() & 0x1f) + 1);
    let gic = GIC.call_once(|| Gic {
        distributor,
        cpu,
        virtual_,
        spis: lines.min(SPECIAL) - FIRST_SPI,
        list_registers: list_registers::existing(virtual_),
        gicv: MachineAddr(gicv.start().0 + alias),
    });
    gic.reset();
}

/// Where the two pages of the CPU interface begin to be contiguous: boards with 64 KiB pages repeat each of them sixteen times.
fn alias_offset(gicc: Region) -> u64 {
    const REPEATED: u64 = 0x2_0000;
    const LAST_OF_FIRST: u64 = 0xf000;
    if gicc.size() < REPEATED {
        return 0;
    }
    let registers = mm::map_device(gicc.start(), REPEATED);
    let iidr = |offset: u64| {
        // SAFETY: two pages within what was just mapped, as device memory for good. The word that is read has no side effect.
        let page = unsafe { &*registers.add(offset as usize).cast::<CpuInterface>() };
        page.iidr.get()
    };
    // The numbers in it differ (QEMU's name no product), but it is never zero.
    if iidr(0) != 0 && iidr(0) == iidr(LAST_OF_FIRST) { LAST_OF_FIRST } else { 0 }
}

impl Gic {
    fn reset(&self) {
        let gicd = self.distributor;
        gicd.ctlr.set(0);
        for n in 1..=(self.spis / 32) as usize {
            gicd.icenabler[n].set(!0);
            gicd.icpendr[n].set(!0);
            gicd.icactiver[n].set(!0);
        }
        let end = (FIRST_SPI + self.spis) as usize;
        let here = u32::from(own_target(gicd)) * 0x0101_0101;
        gicd.ipriorityr[8..end / 4].iter().for_each(|r| r.set(PRIORITY));
        gicd.itargetsr[8..end / 4].iter().for_each(|r| r.set(here));
        gicd.icfgr[2..end / 16].iter().for_each(|r| r.set(0));
        gicd.ctlr.set(1);
    }

    /// Register index and bit of an SPI; `None` if the GIC has no such SPI.
    fn spi(&self, intid: u32) -> Option<(usize, u32)> {
        (FIRST_SPI..FIRST_SPI + self.spis).contains(&intid).then_some((intid as usize / 32, 1 << (intid % 32)))
    }
}

/// The bit of this CPU, which the targets of its private interrupts show. A GIC for one CPU shows none, and needs none.
fn own_target(gicd: &Distributor) -> u8 {
    let shown = gicd.itargetsr[..8].iter().flat_map(|r| r.get().to_le_bytes()).find(|target| *target != 0);
    shown.unwrap_or(1)
}

fn gic() -> &'static Gic {
    GIC.get().expect("gic_v2::init comes first")
}

/// Switches this CPU's interface on. SGIs are enabled, PPIs are not ([`set_ppi_enabled`]).
pub fn init_cpu() -> Result<(), GicError> {
    const ENABLE: u32 = 1;
    const EOIMODE: u32 = 1 << 9;
    /// What reaches the CPU while the interface is off: firmware's choice.
    const BYPASS: u32 = 0x1e0;
    let Gic { distributor, cpu, .. } = gic();
    let target = own_target(distributor);
    TARGETS.get(usize::from(percpu::cpu().0)).ok_or(GicError::TooManyCpus)?.store(target, Ordering::Relaxed);

    distributor.icenabler[0].set(!0);
    distributor.icpendr[0].set(!0);
    distributor.icactiver[0].set(!0);
    distributor.cpendsgir.iter().for_each(|r| r.set(!0));
    distributor.ipriorityr[..8].iter().for_each(|r| r.set(PRIORITY));
    distributor.isenabler[0].set(0xffff);

    cpu.apr.iter().for_each(|r| r.set(0));
    cpu.pmr.set(0xff);
    cpu.bpr.set(0);
    cpu.ctlr.set(cpu.ctlr.get() & BYPASS | EOIMODE | ENABLE);
    list_registers::init_cpu();
    Ok(())
}

/// Enables or disables a PPI (16 to 31) of this CPU.
pub fn set_ppi_enabled(intid: u32, enabled: bool) {
    assert!((FIRST_PPI..FIRST_SPI).contains(&intid));
    let gicd = gic().distributor;
    let registers = if enabled { &gicd.isenabler } else { &gicd.icenabler };
    registers[0].set(1 << intid);
    barrier::dsb_sy();
}

/// Takes the most urgent pending interrupt of this CPU: it is then active, and [`priority_drop`] must follow. `None`: nothing is pending.
///
/// Stops this CPU for good if another one asked for that. An SGI is completed here, where it is known who sent it.
pub fn acknowledge() -> Option<u32> {
    let cpu = gic().cpu;
    let value = cpu.iar.get();
    barrier::dsb_sy();
    let intid = value & 0x3ff;
    if intid < FIRST_PPI {
        cpu.eoir.set(value);
        cpu.dir.set(value);
    }
    if intid == SGI_STOP {
        crate::fault::halt();
    }
    (intid < SPECIAL).then_some(intid)
}

/// Other interrupts may come again; this one stays active until it is deactivated.
pub fn priority_drop(intid: u32) {
    if intid >= FIRST_PPI {
        gic().cpu.eoir.set(intid);
    }
}

/// This interrupt may come again. An SPI may be deactivated from any CPU.
pub fn deactivate(intid: u32) {
    if intid >= FIRST_PPI {
        gic().cpu.dir.set(intid);
    }
}

/// Interrupts one CPU, once it is online.
pub fn send_sgi(intid: u32, to: CpuId) {
    let target = TARGETS.get(usize::from(to.0)).map_or(0, |target| target.load(Ordering::Relaxed));
    generate_sgi(u32::from(target) << 16 | intid);
}

/// Interrupts all other CPUs of the machine.
pub fn send_sgi_to_others(intid: u32) {
    const ALL_BUT_SELF: u32 = 1 << 24;
    generate_sgi(ALL_BUT_SELF | intid);
}

fn generate_sgi(value: u32) {
    // What was written for the other CPU to find is visible before the interrupt is.
    barrier::dsb_ish();
    gic().distributor.sgir.set(value);
}

/// SPIs that the GIC has; the first is 32.
pub fn spi_count() -> u32 {
    gic().spis
}

/// 8 KiB of the virtual CPU interface, for guests.
pub fn gicv() -> MachineAddr {
    gic().gicv
}

/// Whether the GIC is set up, so that [`send_sgi_to_others`] can be used.
pub fn is_ready() -> bool {
    GIC.get().is_some()
}

/// Enables or disables an SPI. The change is in effect on return.
pub fn spi_set_enabled(intid: u32, enabled: bool) {
    let gic = gic();
    let Some((n, bit)) = gic.spi(intid) else { return };
    let registers = if enabled { &gic.distributor.isenabler } else { &gic.distributor.icenabler };
    registers[n].set(bit);
    barrier::dsb_sy();
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
