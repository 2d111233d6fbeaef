//! Secondary CPUs: started one after the other, by PSCI or from a spin table, each with a stack of its own.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use log::warn;
use spin::Once;
use xenolith_core::addr::{CpuId, PAGE_SIZE};
use xenolith_core::boot::host_tree::{EnableMethod, HostCpu};

use crate::mm::layout::STACK_SIZE;
use crate::percpu::PerCpu;
use crate::sysreg::read;
use crate::{fault, gic, heap, hyp, mm, psci, spin_table, timer};

/// As many CPUs as a [`xenolith_core::addr::CpuMask`] has bits.
pub const MAX_CPUS: usize = 64;

/// The affinity fields of MPIDR_EL1.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

static MPIDRS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static COUNT: AtomicU8 = AtomicU8::new(1);
static ENTRY: Once<fn(CpuId) -> !> = Once::new();

/// [`PerCpu::state`]: asked to start, as it is at first.
const STARTING: u8 = 0;
/// It runs.
const ONLINE: u8 = 1;
/// It took too long, and must not run when it comes after all: its number may be another's.
const GIVEN_UP: u8 = 2;

unsafe extern "C" {
    static secondary_entry: u8;
}

/// The affinity of a CPU that is online.
pub fn mpidr(cpu: CpuId) -> u64 {
    MPIDRS[usize::from(cpu.0)].load(Ordering::Relaxed)
}

/// The affinity of the boot CPU, on which this is called.
pub fn boot_mpidr() -> u64 {
    read!("mpidr_el1") & AFFINITY
}

/// CPUs that are online: numbers 0 to `count() - 1`.
pub fn count() -> u8 {
    COUNT.load(Ordering::Acquire)
}

/// What every CPU sets up for itself. The boot CPU calls it after `gic::init`; secondary CPUs have done it when they get to their entry.
pub fn init_this_cpu() -> Result<(), gic::GicError> {
    hyp::init_cpu();
    timer::init_cpu();
    gic::init_cpu()
}

/// Starts these CPUs, the boot CPU passed over. Each calls `entry` with its number as soon as it is up.
/// Returns how many CPUs are online then, the boot CPU included.
///
/// A CPU that does not come up is told on the console, and left out.
pub fn start_secondaries<'a>(cpus: impl Iterator<Item = &'a HostCpu>, entry: fn(CpuId) -> !) -> u8 {
    ENTRY.call_once(|| entry);
    let boot = boot_mpidr();
    MPIDRS[0].store(boot, Ordering::Relaxed);
    for HostCpu { mpidr: affinity, enable, .. } in cpus.filter(|cpu| cpu.mpidr != boot) {
        if usize::from(count()) == MAX_CPUS {
            warn!("CPU {affinity:#x}: only {MAX_CPUS} CPUs are supported");
            break;
        }
        let cpu = CpuId(count());
        match start(cpu, *affinity, *enable) {
            Ok(()) => {
                MPIDRS[usize::from(cpu.0)].store(*affinity, Ordering::Relaxed);
                COUNT.store(cpu.0 + 1, Ordering::Release);
            }
            Err(why) => warn!("CPU {affinity:#x} does not start: {why}"),
        }
    }
    count()
}

fn start(cpu: CpuId, affinity: u64, enable: EnableMethod) -> Result<(), &'static str> {
    let stack = page_aligned_stack();
    let block = per_cpu(cpu, mm::map_stack(stack));
    let context = (&raw const *block).expose_provenance() as u64;
    match enable {
        EnableMethod::Psci => by_psci(affinity, context)?,
        // SAFETY: the device tree says that it waits there; the block is this CPU's alone.
        EnableMethod::SpinTable { release } => unsafe { spin_table::cpu_on(affinity, release, context) },
        EnableMethod::None => return Err("the device tree does not say how"),
    }
    let deadline = timer::ticks() + timer::frequency();
    while block.state.load(Ordering::Acquire) != ONLINE {
        let late = timer::ticks() > deadline;
        if late && block.state.compare_exchange(STARTING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Err("it has not come up within a second");
        }
        core::hint::spin_loop();
    }
    Ok(())
}

fn by_psci(affinity: u64, context: u64) -> Result<(), &'static str> {
    let (image, _) = mm::image_range();
    let entry = (&raw const secondary_entry) as u64 - mm::layout::IMAGE_BASE + image.0;
    // SAFETY: `secondary_entry` is written for this, with a PerCpu that nothing else uses. What it reads with MMU off is code.
    unsafe { psci::cpu_on(affinity, entry, context) }.map_err(|error| match error {
        -2 => "PSCI: invalid parameters",
        -4 => "PSCI: already on",
        _ => "PSCI refuses",
    })
}

/// A stack, from the heap.
fn page_aligned_stack() -> &'static mut [u8] {
    let bytes = heap::leak_zeroed(STACK_SIZE as usize, PAGE_SIZE as usize);
    // SAFETY: that many bytes, zeroed, and nobody else's.
    unsafe { core::slice::from_raw_parts_mut(bytes, STACK_SIZE as usize) }
}

/// The block of a CPU, from the heap.
fn per_cpu(cpu: CpuId, stack_top: u64) -> &'static PerCpu {
    let block = heap::leak_zeroed(size_of::<PerCpu>(), align_of::<PerCpu>()).cast::<PerCpu>();
    // SAFETY: large enough, aligned, nobody else's. Zeroes are a valid PerCpu: numbers, cells and atomics.
    let block = unsafe { &mut *block };
    block.id = cpu;
    block.stack_top = stack_top;
    block
}

/// Where `head` goes on a secondary CPU.
pub extern "C" fn secondary_main(cpu: &'static PerCpu) -> ! {
    let id = cpu.id;
    if init_this_cpu().is_err() || cpu.state.compare_exchange(STARTING, ONLINE, Ordering::AcqRel, Ordering::Acquire).is_err() {
        fault::halt();
    }
    while count() <= id.0 {
        core::hint::spin_loop();
    }
    match ENTRY.get() {
        Some(entry) => entry(id),
        None => fault::halt(),
    }
}
