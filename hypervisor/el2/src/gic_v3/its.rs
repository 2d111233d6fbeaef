//! LPIs and the ITS of this machine: one for the hardware domain's devices. All tables are ours; commands are done one after the other, and
//! waited for.
//!
//! Each CPU has the collection of its number. What a guest's commands become is the core's to say (`xenolith_core::its`).

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use log::error;
use spin::Once;
use tock_registers::interfaces::{Readable, Writeable};
use xenolith_core::addr::{CpuId, Ipa, MachineAddr};
use xenolith_core::boot::Region;
use xenolith_core::its::ItsConfig;
use xenolith_core::its::command::{self, SIZE, Words};
use xenolith_core::lock::Lock;
use xenolith_core::machine::Machine;
use xenolith_core::vgic::{FIRST_LPI, LPI_BITS};

use super::Found;
use super::registers::{TYPER, Translation};
use crate::gic::PRIORITY;
use crate::machine_impl::Arm64;
use crate::{barrier, mm, percpu, smp, timer};

/// Bytes of the command queue, and what it is aligned to.
const QUEUE: u64 = 0x1_0000;
/// Bytes of a CPU's table of pending LPIs, and what it is aligned to.
const PENDING: u64 = 0x1_0000;
/// Bytes of the table of configurations.
const PROPERTIES: u64 = (1 << LPI_BITS) - FIRST_LPI as u64;
/// Width of device numbers at most: what a flat table has room for.
const DEVICE_BITS: u32 = 16;
const VALID: u64 = 1 << 63;
/// Inner shareable, in all registers that tell of tables.
const SHAREABLE: u64 = 1 << 10;
const SHAREABILITY: u64 = 3 << 10;

/// Why LPIs cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// No GICv3's ITS, or one without physical LPIs.
    NoIts,
    /// The distributor or a redistributor has no LPIs, or too few.
    NoLpis,
    /// A redistributor uses the firmware's tables and does not stop.
    InUse,
    /// No free RAM for tables.
    NoMemory,
    /// It does not become quiet.
    Busy,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoIts => "it is no ITS of a GICv3: GITS_PIDR2 or GITS_TYPER says otherwise",
            Self::NoLpis => "the interrupt controller has no LPIs, or numbers of fewer than 14 bits",
            Self::InUse => "the firmware has LPIs in use",
            Self::NoMemory => "no free RAM for its tables",
            Self::Busy => "it does not become quiescent",
        })
    }
}

struct Its {
    registers: &'static Translation,
    queue: MachineAddr,
    /// Where the next command goes, in the queue.
    next: Lock<u64>,
    properties: MachineAddr,
    /// One for each CPU.
    pending: MachineAddr,
    device_bits: u32,
}

// SAFETY: device registers answer to any CPU; the command registers are used under the lock of `next`.
unsafe impl Send for Its {}
// SAFETY: as above.
unsafe impl Sync for Its {}

static ITS: Once<Its> = Once::new();
/// RDbase of each CPU.
static TARGETS: [AtomicU64; smp::MAX_CPUS] = [const { AtomicU64::new(0) }; smp::MAX_CPUS];

/// Starts it, before the first [`init_cpu`]. `take`: RAM for good, of that size and alignment.
///
/// # Safety
/// `registers` is an ITS, and nothing else drives it.
pub unsafe fn init(registers: Region, cpus: usize, mut take: impl FnMut(u64, u64) -> Option<MachineAddr>) -> Result<(), Unusable> {
    let mapped = mm::map_device(registers.start(), size_of::<Translation>() as u64).cast::<Translation>();
    // SAFETY: mapped as device memory for good; an ITS by the caller's word.
    let registers = unsafe { &*mapped };
    if !matches!(registers.pidr2.get() >> 4 & 0xf, 3 | 4) || registers.typer.get() & 1 == 0 {
        return Err(Unusable::NoIts);
    }
    check_lpis()?;
    registers.ctlr.set(registers.ctlr.get() & !1);
    if !wait(|| registers.ctlr.get() & 1 << 31 != 0) {
        return Err(Unusable::Busy);
    }
    let mut zeroed = |size: u64, align: u64| {
        let at = take(size, align).ok_or(Unusable::NoMemory)?;
        Arm64.zero(at, size as usize);
        Arm64.clean_invalidate(at, size as usize);
        Ok(at)
    };
    let device_bits = device_bits(registers);
    for n in 0..registers.baser.len() {
        const DEVICES: u64 = 1;
        const COLLECTIONS: u64 = 4;
        let entry = (registers.baser[n].get() >> 48 & 0x1f) + 1;
        match registers.baser[n].get() >> 56 & 7 {
            DEVICES => table(registers, n, entry << device_bits, &mut zeroed)?,
            COLLECTIONS => table(registers, n, entry * cpus as u64, &mut zeroed)?,
            _ => {}
        }
    }
    let queue = zeroed(QUEUE, QUEUE)?;
    set_table(VALID | 7 << 59 | SHAREABLE | queue.0 | (QUEUE / 4096 - 1), 59, |value| {
        registers.cbaser.set(value);
        registers.cbaser.get()
    });
    registers.cwriter.set(0);
    let properties = zeroed(PROPERTIES, 0x1_0000)?;
    let pending = zeroed(PENDING * cpus as u64, PENDING)?;
    registers.ctlr.set(registers.ctlr.get() | 1);
    ITS.call_once(|| Its { registers, queue, next: Lock::new(0), properties, pending, device_bits });
    Ok(())
}

/// Whether all of the GIC has enough LPIs, and none is in use.
fn check_lpis() -> Result<(), Unusable> {
    let gic = super::gic();
    let has_lpis = gic.distributor.typer.get() & 1 << 17 != 0 && super::intid_bits() >= LPI_BITS;
    if !has_lpis || gic.redistributors.iter().any(|found| !found.registers.typer.is_set(TYPER::PLPIS)) {
        return Err(Unusable::NoLpis);
    }
    for found in &gic.redistributors {
        let ctlr = &found.registers.ctlr;
        if ctlr.get() & 1 != 0 {
            ctlr.set(ctlr.get() & !1);
            super::wait(found.registers);
        }
        if ctlr.get() & 1 != 0 {
            return Err(Unusable::InUse);
        }
    }
    Ok(())
}

fn device_bits(registers: &Translation) -> u32 {
    ((registers.typer.get() >> 13 & 0x1f) as u32 + 1).min(DEVICE_BITS)
}

/// Gives the ITS a flat table of at least `len` bytes.
fn table(
    registers: &Translation,
    n: usize,
    len: u64,
    zeroed: &mut impl FnMut(u64, u64) -> Result<MachineAddr, Unusable>,
) -> Result<(), Unusable> {
    const PAGE_SIZE: u64 = 3 << 8;
    let register = &registers.baser[n];
    // The page size may be fixed: the largest is asked for, and what is there is used.
    register.set(2 << 8);
    let page_size = register.get() & PAGE_SIZE;
    let page: u64 = [0x1000, 0x4000, 0x1_0000, 0x1_0000][(page_size >> 8) as usize];
    let pages = len.div_ceil(page).clamp(1, 256);
    let at = zeroed(pages * page, page)?;
    set_table(VALID | 7 << 59 | at.0 | SHAREABLE | page_size | (pages - 1), 59, |value| {
        register.set(value);
        register.get()
    });
    Ok(())
}

/// Tells a register of a table in coherent memory; where the hardware does not look into caches, of the same as not cacheable. `cache`: the
/// lowest bit of the register's InnerCache.
fn set_table(value: u64, cache: u32, set: impl Fn(u64) -> u64) {
    if set(value) & SHAREABILITY == 0 {
        set(value & !SHAREABILITY & !(7 << cache) | 1 << cache);
    }
}

/// Waits, not for ever.
fn wait(until: impl Fn() -> bool) -> bool {
    let deadline = timer::ticks() + timer::frequency() / 10;
    while !until() {
        if timer::ticks() > deadline {
            return until();
        }
        core::hint::spin_loop();
    }
    true
}

/// This CPU gets LPIs from now on, if there is an ITS.
pub(super) fn init_cpu(found: &Found) {
    const PENDING_IS_ZERO: u64 = 1 << 62;
    const CACHE: u32 = 7;
    const PTA: u64 = 1 << 19;
    let Some(its) = ITS.get() else { return };
    let (cpu, gicr) = (percpu::cpu(), found.registers);
    set_table(its.properties.0 | SHAREABLE | 7 << CACHE | u64::from(LPI_BITS - 1), CACHE, |value| {
        gicr.propbaser.set(value);
        gicr.propbaser.get()
    });
    let pending = its.pending.0 + u64::from(cpu.0) * PENDING;
    set_table(pending | SHAREABLE | 7 << CACHE | PENDING_IS_ZERO, CACHE, |value| {
        gicr.pendbaser.set(value);
        gicr.pendbaser.get()
    });
    gicr.ctlr.set(gicr.ctlr.get() | 1);
    barrier::dsb_sy();
    let by_address = its.registers.typer.get() & PTA != 0;
    let target = if by_address { found.at.0 } else { gicr.typer.read(TYPER::PROCESSOR_NUMBER) << 16 };
    TARGETS[usize::from(cpu.0)].store(target, Ordering::Relaxed);
    if !execute(&[command::map_collection(cpu.0.into(), target)], cpu) {
        error!("The ITS does not answer CPU {}", cpu.0);
    }
}

/// What there is for the hardware domain, which has it at `base`.
pub fn config(base: Ipa, cpus: u8) -> Option<ItsConfig> {
    let its = ITS.get()?;
    let typer = its.registers.typer.get();
    let (event_bits, entry_size) = ((typer >> 8 & 0x1f) as u32 + 1, (typer >> 4 & 0xf) + 1);
    Some(ItsConfig { base, device_bits: its.device_bits, event_bits, entry_size, cpus })
}

/// Lets an LPI through or not, from its next INV on.
pub fn set_enabled(intid: u32, enabled: bool) {
    const ENABLED: u8 = 1;
    let index = u64::from(intid.saturating_sub(FIRST_LPI));
    if let Some(its) = ITS.get().filter(|_| index < PROPERTIES) {
        let at = MachineAddr(its.properties.0 + index);
        Arm64.write(at, &[PRIORITY as u8 | if enabled { ENABLED } else { 0 }]);
        Arm64.clean(at, 1);
    }
}

/// Does these commands (fewer than the queue holds) and a SYNC for the CPU `to`. False if they are not done in time.
pub fn execute(commands: &[Words], to: CpuId) -> bool {
    let Some(its) = ITS.get() else { return false };
    let sync = command::sync(TARGETS[usize::from(to.0)].load(Ordering::Relaxed));
    let mut next = its.next.lock();
    for words in commands.iter().chain([&sync]) {
        let at = MachineAddr(its.queue.0 + *next);
        let mut bytes = [0; SIZE as usize];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        Arm64.write(at, &bytes);
        Arm64.clean(at, bytes.len());
        *next = (*next + SIZE) % QUEUE;
    }
    barrier::dsb_sy();
    its.registers.cwriter.set(*next);
    wait(|| its.registers.creadr.get() & 0xf_ffff == *next)
}
