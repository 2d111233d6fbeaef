//! A machine of plain memory for host tests: RAM in a vector, and a record of what was asked.

use super::{Machine, Power, Trigger};
use crate::addr::{CpuId, MachineAddr, Vmid};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Mutex;
use std::vec::Vec;
use std::{boxed::Box, vec};

/// What was asked of the hardware, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// `flush_tlb`.
    FlushTlb(Vmid),
    /// `kick`.
    Kick(CpuId),
    /// `spi_set_enabled`.
    SpiEnabled(u32, bool),
    /// `spi_set_trigger`.
    SpiTrigger(u32, Trigger),
    /// `spi_deactivate`.
    SpiDeactivate(u32),
    /// `console_write`.
    Console(Vec<u8>),
}

/// RAM from `base`, a clock that tests set, and the record.
pub struct FakeMachine {
    base: u64,
    ram: Mutex<Vec<u8>>,
    /// What was asked so far.
    pub asked: Mutex<Vec<Asked>>,
    /// The counter.
    pub now: AtomicU64,
    /// How many of the next `cas_u32` find that a guest has just changed the word: each flips `meddle_bits` of it first.
    pub meddle: AtomicU32,
    /// Which bits that guest flips.
    pub meddle_bits: AtomicU32,
}

impl FakeMachine {
    /// A machine with `pages` pages of zeroed RAM from machine address `base`; leaked, as the real one lives for ever.
    pub fn leak(base: u64, pages: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            base,
            ram: Mutex::new(vec![0; pages * 4096]),
            asked: Mutex::new(Vec::new()),
            now: AtomicU64::new(0),
            meddle: AtomicU32::new(0),
            meddle_bits: AtomicU32::new(0),
        }))
    }

    /// The record since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        core::mem::take(&mut self.asked.lock().unwrap())
    }

    fn ask(&self, what: Asked) {
        self.asked.lock().unwrap().push(what);
    }

    fn with<R>(&self, at: MachineAddr, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let start = at.0.checked_sub(self.base).expect("address below RAM") as usize;
        f(&mut self.ram.lock().unwrap()[start..start + len])
    }

    fn update<const N: usize>(&self, at: MachineAddr, f: impl FnOnce([u8; N]) -> Option<[u8; N]>) -> [u8; N] {
        assert!(at.is_aligned(N as u64), "unaligned atomic at {at:?}");
        self.with(at, N, |b| {
            let old: [u8; N] = b.try_into().unwrap();
            if let Some(new) = f(old) {
                b.copy_from_slice(&new);
            }
            old
        })
    }
}

impl Machine for FakeMachine {
    fn read(&self, from: MachineAddr, into: &mut [u8]) {
        self.with(from, into.len(), |b| into.copy_from_slice(b));
    }
    fn write(&self, to: MachineAddr, bytes: &[u8]) {
        self.with(to, bytes.len(), |b| b.copy_from_slice(bytes));
    }
    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize) {
        let mut bytes = vec![0; len];
        self.read(from, &mut bytes);
        self.write(to, &bytes);
    }
    fn zero(&self, at: MachineAddr, len: usize) {
        self.with(at, len, |b| b.fill(0));
    }
    fn load_u32(&self, at: MachineAddr) -> u32 {
        u32::from_le_bytes(self.update(at, |_| None))
    }
    fn store_u32(&self, at: MachineAddr, value: u32) {
        self.update(at, |_| Some(value.to_le_bytes()));
    }
    fn cas_u32(&self, at: MachineAddr, old: u32, new: u32) -> Result<u32, u32> {
        if self.meddle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            let bits = self.meddle_bits.load(Ordering::SeqCst);
            self.update(at, |b| Some((u32::from_le_bytes(b) ^ bits).to_le_bytes()));
        }
        let was = u32::from_le_bytes(self.update(at, |b| (b == old.to_le_bytes()).then(|| new.to_le_bytes())));
        if was == old { Ok(was) } else { Err(was) }
    }
    fn or_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        u32::from_le_bytes(self.update(at, |b| Some((u32::from_le_bytes(b) | bits).to_le_bytes())))
    }
    fn and_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        u32::from_le_bytes(self.update(at, |b| Some((u32::from_le_bytes(b) & bits).to_le_bytes())))
    }
    fn load_u64(&self, at: MachineAddr) -> u64 {
        u64::from_le_bytes(self.update(at, |_| None))
    }
    fn store_u64(&self, at: MachineAddr, value: u64) {
        self.update(at, |_| Some(value.to_le_bytes()));
    }
    fn or_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        u64::from_le_bytes(self.update(at, |b| Some((u64::from_le_bytes(b) | bits).to_le_bytes())))
    }
    fn and_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        u64::from_le_bytes(self.update(at, |b| Some((u64::from_le_bytes(b) & bits).to_le_bytes())))
    }
    fn swap_u8(&self, at: MachineAddr, value: u8) -> u8 {
        u8::from_le_bytes(self.update(at, |_| Some([value])))
    }
    fn and_u16(&self, at: MachineAddr, bits: u16) -> u16 {
        u16::from_le_bytes(self.update(at, |b| Some((u16::from_le_bytes(b) & bits).to_le_bytes())))
    }
    fn clean_invalidate(&self, _: MachineAddr, _: usize) {}
    fn clean(&self, _: MachineAddr, _: usize) {}
    fn flush_tlb(&self, vmid: Vmid) {
        self.ask(Asked::FlushTlb(vmid));
    }
    fn sync_tables(&self) {}
    fn invalidate_icache(&self) {}
    fn ticks(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
    fn frequency(&self) -> u64 {
        62_500_000
    }
    fn kick(&self, cpu: CpuId) {
        self.ask(Asked::Kick(cpu));
    }
    fn spi_set_enabled(&self, intid: u32, enabled: bool) {
        self.ask(Asked::SpiEnabled(intid, enabled));
    }
    fn spi_set_trigger(&self, intid: u32, trigger: Trigger) {
        self.ask(Asked::SpiTrigger(intid, trigger));
    }
    fn spi_deactivate(&self, intid: u32) {
        self.ask(Asked::SpiDeactivate(intid));
    }
    fn console_write(&self, bytes: &[u8]) {
        self.ask(Asked::Console(bytes.to_vec()));
    }
    fn power(&self, action: Power) -> ! {
        panic!("the machine stopped: {action:?}");
    }
}
