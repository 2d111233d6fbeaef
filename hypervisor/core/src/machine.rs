//! The edge: all that the core asks of the hardware.
//!
//! `el2` implements it with the real thing; [`fake`] with plain memory and a record of what was asked, for the host tests.
//! Memory methods take machine addresses of RAM that the frame table knows. Passing any other address is our own bug, not a guest's:
//! implementations assert. Values are little endian. Atomic accesses must be naturally aligned.

use crate::addr::{CpuId, MachineAddr, Mfn, Vmid};
use crate::atomic::AtomicU64;
use crate::its::command::Words;

#[cfg(test)]
pub mod fake;

/// How an interrupt line signals, `GICD_ICFGR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Level-sensitive.
    Level,
    /// Edge-triggered.
    Edge,
}

/// A page of RAM as words that a guest may be reading and writing too.
pub type SharedPage = [AtomicU64; 512];

/// What the core asks of the hardware.
pub trait Machine: Sync {
    /// A page of RAM as words, for what is looked at too often to ask for each of them. RAM is mapped for good, but what the words mean is
    /// known only while a reference to the page is held. A word that is accessed through this is accessed as 64 bits by the core elsewhere.
    fn page(&self, mfn: Mfn) -> &'static SharedPage;
    /// Copies RAM at `from` into `into`. Bytes that a guest changes meanwhile may be torn, never out of bounds.
    fn read(&self, from: MachineAddr, into: &mut [u8]);
    /// Copies `bytes` into RAM at `to`.
    fn write(&self, to: MachineAddr, bytes: &[u8]);
    /// Copies `len` bytes of RAM; overlapping ranges behave as `memmove`.
    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize);
    /// Writes `len` zero bytes.
    fn zero(&self, at: MachineAddr, len: usize);

    /// Atomic load, acquire.
    fn load_u32(&self, at: MachineAddr) -> u32;
    /// Atomic store, release.
    fn store_u32(&self, at: MachineAddr, value: u32);
    /// One attempt at compare-and-swap (strong, acquire-release): the old value, `Err` if it was not `old`.
    fn cas_u32(&self, at: MachineAddr, old: u32, new: u32) -> Result<u32, u32>;
    /// Atomic or, acquire-release; returns the old value. Must finish whatever a guest does to the word.
    fn or_u32(&self, at: MachineAddr, bits: u32) -> u32;
    /// Atomic and, acquire-release; returns the old value.
    fn and_u32(&self, at: MachineAddr, bits: u32) -> u32;
    /// Atomic load, acquire.
    fn load_u64(&self, at: MachineAddr) -> u64;
    /// Atomic store, release.
    fn store_u64(&self, at: MachineAddr, value: u64);
    /// Atomic or, acquire-release; returns the old value.
    fn or_u64(&self, at: MachineAddr, bits: u64) -> u64;
    /// Atomic and, acquire-release; returns the old value.
    fn and_u64(&self, at: MachineAddr, bits: u64) -> u64;
    /// Atomic swap of a byte, acquire-release; returns the old value.
    fn swap_u8(&self, at: MachineAddr, value: u8) -> u8;
    /// Atomic and of a 16-bit word, acquire-release; returns the old value.
    fn and_u16(&self, at: MachineAddr, bits: u16) -> u16;

    /// Cleans and invalidates the data cache by address to the point of coherency.
    fn clean_invalidate(&self, at: MachineAddr, len: usize);
    /// Cleans the data cache by address to the point of coherency.
    fn clean(&self, at: MachineAddr, len: usize);
    /// Makes stage-2 table writes visible to all walkers and drops every TLB entry of `vmid` on all CPUs; on return no CPU uses an old translation.
    fn flush_tlb(&self, vmid: Vmid);
    /// Makes preceding stage-2 table writes visible to all walkers (new entries where there was none: no TLB entry exists).
    fn sync_tables(&self);
    /// Invalidates all instruction caches (a fresh page may hold code).
    fn invalidate_icache(&self);

    /// The counter, `CNTPCT_EL0`, in ticks.
    fn ticks(&self) -> u64;
    /// Ticks per second, `CNTFRQ_EL0`.
    fn frequency(&self) -> u64;

    /// The CPU that this runs on.
    fn cpu(&self) -> CpuId;
    /// Makes `cpu` leave the guest or idle loop and look at its state again.
    fn kick(&self, cpu: CpuId);

    /// Enables or disables a physical SPI of the hardware domain.
    fn spi_set_enabled(&self, intid: u32, enabled: bool);
    /// Configures a physical SPI; it is disabled at that moment.
    fn spi_set_trigger(&self, intid: u32, trigger: Trigger);
    /// Deactivates a physical SPI that the guest will no longer complete itself (its list register was dropped).
    fn spi_deactivate(&self, intid: u32);

    /// Lets a physical LPI through or not; in force when the ITS has done an INV of it.
    fn lpi_set_enabled(&self, intid: u32, enabled: bool);
    /// Has the ITS do these commands (few), and a SYNC for the CPU `to`. False if it has not done them in time.
    fn its(&self, commands: &[Words], to: CpuId) -> bool;

    /// Writes to the serial console, verbatim.
    fn console_write(&self, bytes: &[u8]);
    /// Stops the machine: power off, or reset.
    fn power(&self, action: Power) -> !;
}

/// How the machine stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    /// PSCI SYSTEM_OFF.
    Off,
    /// PSCI SYSTEM_RESET.
    Reset,
}
