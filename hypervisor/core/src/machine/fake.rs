//! A machine of plain memory for host tests: RAM in a vector, and a record of what was asked.

use super::{Machine, Power, SharedPage, Trigger};
use crate::addr::{CpuId, MachineAddr, Mfn, PAGE_SIZE, Vmid};
use crate::atomic::{AtomicU8, AtomicU32, AtomicU64};
use crate::its::command::Words;
use crate::testbed::heap;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

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
    /// `lpi_set_enabled`.
    LpiEnabled(u32, bool),
    /// `its`.
    Its(Vec<Words>, CpuId),
    /// `console_write`.
    Console(Vec<u8>),
}

/// RAM from `base`, a clock that tests set, and the record.
pub struct FakeMachine {
    base: u64,
    ram: &'static [AtomicU64],
    /// Held while more than a word, or a part of one, is accessed.
    access: Mutex<()>,
    /// What was asked so far.
    pub asked: Mutex<Vec<Asked>>,
    /// The counter.
    pub now: AtomicU64,
    /// The CPU that everything runs on.
    pub cpu: AtomicU8,
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
            ram: (0..pages * 512).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak(),
            access: Mutex::new(()),
            // What a test with a full heap asks for has room.
            asked: Mutex::new(Vec::with_capacity(1 << 12)),
            now: AtomicU64::new(0),
            cpu: AtomicU8::new(0),
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

    /// Calls `f` with the bytes, and writes back the words that it changed.
    fn with<R>(&self, at: MachineAddr, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let start = at.0.checked_sub(self.base).expect("address below RAM") as usize;
        let _access = self.access.lock().unwrap();
        let words = &self.ram[start / 8..(start + len).div_ceil(8)];
        let mut bytes = [[0; 8]; PAGE_SIZE as usize / 8 + 1];
        for (bytes, word) in bytes.iter_mut().zip(words) {
            *bytes = word.load(Ordering::SeqCst).to_le_bytes();
        }
        let result = f(&mut bytes.as_flattened_mut()[start % 8..][..len]);
        for (bytes, word) in bytes.iter().zip(words) {
            let new = u64::from_le_bytes(*bytes);
            if new != word.load(Ordering::SeqCst) {
                word.store(new, Ordering::SeqCst);
            }
        }
        result
    }

    fn update<const N: usize>(&self, at: MachineAddr, f: impl FnOnce([u8; N]) -> Option<[u8; N]>) -> [u8; N] {
        assert!(at.is_aligned(N as u64), "unaligned atomic at {at:?}");
        let start = at.0.checked_sub(self.base).expect("address below RAM") as usize;
        let word = &self.ram[start / 8];
        let _access = self.access.lock().unwrap();
        let mut bytes = word.load(Ordering::SeqCst).to_le_bytes();
        let part: &mut [u8; N] = bytes[start % 8..].first_chunk_mut().unwrap();
        let old = *part;
        if let Some(new) = f(old) {
            *part = new;
            word.store(u64::from_le_bytes(bytes), Ordering::SeqCst);
        }
        old
    }
}

impl Machine for FakeMachine {
    fn page(&self, mfn: Mfn) -> &'static SharedPage {
        let start = (mfn.address().0 - self.base) as usize / 8;
        self.ram[start..start + 512].try_into().unwrap()
    }
    fn read(&self, from: MachineAddr, into: &mut [u8]) {
        if from.is_aligned(8) {
            let _access = self.access.lock().unwrap();
            let start = (from.0 - self.base) as usize / 8;
            for (bytes, word) in into.chunks_mut(8).zip(&self.ram[start..]) {
                bytes.copy_from_slice(&word.load(Ordering::SeqCst).to_le_bytes()[..bytes.len()]);
            }
        } else {
            self.with(from, into.len(), |b| into.copy_from_slice(b));
        }
    }
    fn write(&self, to: MachineAddr, bytes: &[u8]) {
        let whole = bytes.len() - bytes.len() % 8;
        if to.is_aligned(8) && whole > 0 {
            let access = self.access.lock().unwrap();
            let start = (to.0 - self.base) as usize / 8;
            for (bytes, word) in bytes.as_chunks().0.iter().zip(&self.ram[start..]) {
                word.store(u64::from_le_bytes(*bytes), Ordering::SeqCst);
            }
            drop(access);
            self.write(MachineAddr(to.0 + whole as u64), &bytes[whole..]);
        } else {
            self.with(to, bytes.len(), |b| b.copy_from_slice(bytes));
        }
    }
    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize) {
        let mut bytes = [0; PAGE_SIZE as usize];
        self.read(from, &mut bytes[..len]);
        self.write(to, &bytes[..len]);
    }
    fn zero(&self, at: MachineAddr, len: usize) {
        if at.is_aligned(8) && len.is_multiple_of(8) {
            let start = (at.0 - self.base) as usize / 8;
            self.ram[start..start + len / 8].iter().for_each(|word| word.store(0, Ordering::SeqCst));
        } else {
            self.with(at, len, |b| b.fill(0));
        }
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
    fn cpu(&self) -> CpuId {
        CpuId(self.cpu.load(Ordering::SeqCst))
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
    fn lpi_set_enabled(&self, intid: u32, enabled: bool) {
        self.ask(Asked::LpiEnabled(intid, enabled));
    }
    fn its(&self, commands: &[Words], to: CpuId) -> bool {
        self.ask(Asked::Its(commands.to_vec(), to));
        true
    }
    fn console_write(&self, bytes: &[u8]) {
        // The record has no room for a copy when the heap is full.
        if !heap::is_limited() {
            self.ask(Asked::Console(bytes.to_vec()));
        }
    }
    fn power(&self, action: Power) -> ! {
        panic!("the machine stopped: {action:?}");
    }
}
