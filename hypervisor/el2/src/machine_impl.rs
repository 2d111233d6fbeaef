//! The edge that the core asks: RAM through the direct map, caches, TLBs, the counter, interrupts, console, power.
//!
//! Guests share most of this RAM and write it at any time. So no reference is ever made to it: bytes are copied by assembly, words are
//! accessed as atomics. An address that is not RAM is not mapped, and faults: our own bug, with a register dump.

mod memory;

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use xenolith_core::addr::{CpuId, MachineAddr, Mfn, PAGE_SIZE, Vmid};
use xenolith_core::its::command::Words;
use xenolith_core::machine::{Machine, Power, SharedPage, Trigger};

use crate::gic_v3::its;
use crate::mm::layout::DIRECT_SIZE;
use crate::{barrier, console, fault, gic, mm, percpu, psci, timer};

/// The machine that this runs on.
pub struct Arm64;

/// How often an atomic operation is tried on a word that a guest may be writing all the time (exclusive stores then fail).
const ATTEMPTS: u32 = 1 << 12;

/// `[at, at + len)` in the direct map.
fn range(at: MachineAddr, len: usize) -> *mut u8 {
    assert!(len as u64 <= DIRECT_SIZE && at.0 <= DIRECT_SIZE - len as u64);
    mm::direct(at)
}

macro_rules! atomic {
    ($name:ident, $atomic:ident) => {
        fn $name(at: MachineAddr) -> &'static $atomic {
            let pointer = range(at, size_of::<$atomic>()).cast();
            assert!(at.is_aligned(size_of::<$atomic>() as u64));
            // SAFETY: aligned; RAM that is mapped for good, or a fault; all that EL2 does to shared words is atomic.
            unsafe { $atomic::from_ptr(pointer) }
        }
    };
}
atomic!(word8, AtomicU8);
atomic!(word16, AtomicU16);
atomic!(word32, AtomicU32);
atomic!(word64, AtomicU64);

/// A read-modify-write that ends whatever the guest does: after [`ATTEMPTS`] exclusive stores have failed, a plain store, which can lose a
/// concurrent write of those who hammer the word: guests that this word concerns, by their own doing.
macro_rules! update {
    ($word:expr, |$old:ident| $new:expr) => {{
        let word = $word;
        let mut attempt = 0;
        let mut $old = word.load(Ordering::Relaxed);
        loop {
            match word.compare_exchange_weak($old, $new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(old) => break old,
                Err(now) => $old = now,
            }
            attempt += 1;
            if attempt == ATTEMPTS {
                word.store($new, Ordering::Release);
                break $old;
            }
        }
    }};
}

impl Machine for Arm64 {
    fn page(&self, mfn: Mfn) -> &'static SharedPage {
        let pointer: *const SharedPage = range(mfn.address(), PAGE_SIZE as usize).cast_const().cast();
        // SAFETY: aligned as a page is; RAM that is mapped for good, or a fault; atomics, and what else EL2 does to RAM is assembly or atomic.
        unsafe { &*pointer }
    }

    fn read(&self, from: MachineAddr, into: &mut [u8]) {
        let source = range(from, into.len());
        // SAFETY: RAM or a fault; `into` is ours and cannot overlap what the core reads by machine address.
        unsafe { memory::copy(into.as_mut_ptr(), source, into.len()) };
    }

    fn write(&self, to: MachineAddr, bytes: &[u8]) {
        // SAFETY: as in `read`.
        unsafe { memory::copy(range(to, bytes.len()), bytes.as_ptr(), bytes.len()) };
    }

    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize) {
        let (from, to) = (range(from, len), range(to, len));
        // SAFETY: RAM or a fault.
        unsafe {
            if to.addr().wrapping_sub(from.addr()) < len {
                memory::copy_backward(to, from, len);
            } else if from.addr().wrapping_sub(to.addr()) < len {
                memory::copy_forward(to, from, len);
            } else {
                memory::copy(to, from, len);
            }
        }
    }

    fn zero(&self, at: MachineAddr, len: usize) {
        // SAFETY: RAM or a fault.
        unsafe { memory::zero(range(at, len), len) };
    }

    fn load_u32(&self, at: MachineAddr) -> u32 {
        word32(at).load(Ordering::Acquire)
    }

    fn store_u32(&self, at: MachineAddr, value: u32) {
        word32(at).store(value, Ordering::Release);
    }

    fn cas_u32(&self, at: MachineAddr, old: u32, new: u32) -> Result<u32, u32> {
        let word = word32(at);
        // Only a failure with the old value still there is an exclusive store that failed.
        for _ in 0..ATTEMPTS {
            match word.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Err(now) if now == old => {}
                result => return result,
            }
        }
        Err(word.load(Ordering::Acquire))
    }

    fn or_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        update!(word32(at), |old| old | bits)
    }

    fn and_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        update!(word32(at), |old| old & bits)
    }

    fn load_u64(&self, at: MachineAddr) -> u64 {
        word64(at).load(Ordering::Acquire)
    }

    fn store_u64(&self, at: MachineAddr, value: u64) {
        word64(at).store(value, Ordering::Release);
    }

    fn or_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        update!(word64(at), |old| old | bits)
    }

    fn and_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        update!(word64(at), |old| old & bits)
    }

    fn swap_u8(&self, at: MachineAddr, value: u8) -> u8 {
        update!(word8(at), |old| value)
    }

    fn and_u16(&self, at: MachineAddr, bits: u16) -> u16 {
        update!(word16(at), |old| old & bits)
    }

    fn clean_invalidate(&self, at: MachineAddr, len: usize) {
        // SAFETY: RAM or a fault; nothing is lost.
        unsafe { memory::clean_invalidate(range(at, len), len) };
    }

    fn clean(&self, at: MachineAddr, len: usize) {
        // SAFETY: RAM or a fault; nothing is lost.
        unsafe { memory::clean(range(at, len), len) };
    }

    fn flush_tlb(&self, vmid: Vmid) {
        const VMID_SHIFT: u32 = 48;
        let vmid = u64::from(vmid.0) << VMID_SHIFT;
        // The table writes are visible before the TLBs are asked to forget; the invalidation is complete everywhere before this returns. The
        // guest that is loaded on this CPU may be another: its VTTBR_EL2 is put back.
        // SAFETY: drops cached translations of lower levels, no more. No guest runs on this CPU meanwhile.
        unsafe {
            asm!(
                "dsb ishst",
                "mrs {saved}, vttbr_el2",
                "eor {mine}, {saved}, {vmid}",
                "lsr {mine}, {mine}, #48",
                "cbz {mine}, 2f",
                "bfi {vmid}, {saved}, #0, #48",
                "msr vttbr_el2, {vmid}",
                "isb",
                "tlbi vmalls12e1is",
                "dsb ish",
                "msr vttbr_el2, {saved}",
                "isb",
                "b 3f",
                "2:",
                "tlbi vmalls12e1is",
                "dsb ish",
                "isb",
                "3:",
                saved = out(reg) _,
                mine = out(reg) _,
                vmid = inout(reg) vmid => _,
                options(nostack, preserves_flags),
            );
        }
    }

    fn sync_tables(&self) {
        barrier::publish_tables();
    }

    fn invalidate_icache(&self) {
        // SAFETY: drops cached instructions.
        unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
    }

    fn ticks(&self) -> u64 {
        timer::ticks()
    }

    fn frequency(&self) -> u64 {
        timer::frequency()
    }

    fn cpu(&self) -> CpuId {
        percpu::cpu()
    }

    fn kick(&self, cpu: CpuId) {
        // This CPU looks at its state anyway before it enters a guest.
        if cpu != crate::percpu::cpu() {
            gic::send_sgi(gic::SGI_KICK, cpu);
        }
    }

    fn spi_set_enabled(&self, intid: u32, enabled: bool) {
        gic::spi_set_enabled(intid, enabled);
    }

    fn spi_set_trigger(&self, intid: u32, trigger: Trigger) {
        gic::spi_set_trigger(intid, trigger);
    }

    fn spi_deactivate(&self, intid: u32) {
        gic::spi_deactivate(intid);
    }

    fn lpi_set_enabled(&self, intid: u32, enabled: bool) {
        its::set_enabled(intid, enabled);
    }

    fn its(&self, commands: &[Words], to: CpuId) -> bool {
        its::execute(commands, to)
    }

    fn console_write(&self, bytes: &[u8]) {
        console::write(bytes);
    }

    fn power(&self, action: Power) -> ! {
        match action {
            Power::Off => psci::system_off(),
            Power::Reset => psci::system_reset(),
        }
        log::warn!("The firmware does not do it. Halted.");
        fault::stop()
    }
}
