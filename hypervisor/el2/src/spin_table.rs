//! Starting CPUs that firmware left waiting for an address to appear in memory (devicetree specification 3.8.1).

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use xenolith_core::addr::MachineAddr;
use xenolith_core::machine::Machine;

use crate::machine_impl::Arm64;
use crate::{barrier, mm};

/// The CPU that is being started: its affinity, and its PerCpu. `head` reads it there, with MMU and caches off.
pub static RELEASED: [AtomicU64; 2] = [const { AtomicU64::new(u64::MAX) }; 2];

unsafe extern "C" {
    static released_entry: u8;
}

/// Lets the CPU with this affinity, which waits at `release`, come to `head` with `context`. One at a time.
///
/// # Safety
/// Such a CPU waits there, and `context` is a PerCpu that nothing else uses.
pub unsafe fn cpu_on(affinity: u64, release: MachineAddr, context: u64) {
    RELEASED[0].store(affinity, Ordering::Relaxed);
    RELEASED[1].store(context, Ordering::Relaxed);
    Arm64.clean(mm::machine_address(&raw const RELEASED), size_of_val(&RELEASED));
    let (image, _) = mm::image_range();
    let entry = (&raw const released_entry) as u64 - mm::layout::IMAGE_BASE + image.0;
    let word = mm::map_device(release, 8).cast::<u64>();
    // SAFETY: mapped just now, aligned as `host_tree` has checked. Not cached here, nor by a CPU whose caches are off.
    unsafe { word.write_volatile(entry) };
    barrier::dsb_sy();
    // SAFETY: wakes CPUs that wait in WFE.
    unsafe { asm!("sev", options(nostack, preserves_flags)) };
}
