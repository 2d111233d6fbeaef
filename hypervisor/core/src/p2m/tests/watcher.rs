//! A fake machine that holds stage-2 edits to the architecture's rules (Arm ARM D8.17.1): a valid descriptor is never replaced by another
//! without an invalid one and a TLB flush between, and no page is scrubbed (that is, freed) while a TLB may still translate to something
//! that was unmapped.

use crate::addr::{CpuId, MachineAddr, Mfn, Vmid};
use crate::frames::FrameTable;
use crate::machine::fake::FakeMachine;
use crate::machine::{Machine, Power, SharedPage, Trigger};
use std::boxed::Box;
use std::collections::BTreeSet;
use std::sync::Mutex;

#[derive(Default)]
struct Seen {
    /// Descriptors made invalid since the last flush.
    stale: BTreeSet<u64>,
    flushes: u32,
    syncs: u32,
}

pub struct Watcher {
    fake: &'static FakeMachine,
    seen: Mutex<Seen>,
}

// The watcher of each test's thread; a test has one machine.
std::thread_local! {
    static CURRENT: core::cell::Cell<Option<&'static Watcher>> = const { core::cell::Cell::new(None) };
}

impl Watcher {
    pub fn leak(base: u64, pages: usize) -> &'static Self {
        let watcher: &'static Self = Box::leak(Box::new(Self { fake: FakeMachine::leak(base, pages), seen: Mutex::default() }));
        CURRENT.set(Some(watcher));
        watcher
    }
    /// The watcher last made on this thread: that of `_frames`.
    pub fn of(_frames: &FrameTable) -> &'static Self {
        CURRENT.get().unwrap()
    }
    /// Flushes since the last call.
    pub fn flushes(&self) -> u32 {
        core::mem::take(&mut self.seen.lock().unwrap().flushes)
    }
    /// Synchronisations since the last call.
    pub fn syncs(&self) -> u32 {
        core::mem::take(&mut self.seen.lock().unwrap().syncs)
    }
}

impl Machine for Watcher {
    fn store_u64(&self, at: MachineAddr, value: u64) {
        let old = self.fake.load_u64(at);
        let mut seen = self.seen.lock().unwrap();
        let (was_valid, valid) = (old & 1 == 1, value & 1 == 1);
        assert!(!was_valid || !valid, "make without break at {at:?}");
        assert!(!valid || !seen.stale.contains(&at.0), "make without flush at {at:?}");
        if was_valid {
            seen.stale.insert(at.0);
        }
        self.fake.store_u64(at, value);
    }
    fn flush_tlb(&self, vmid: Vmid) {
        let mut seen = self.seen.lock().unwrap();
        seen.stale.clear();
        seen.flushes += 1;
        self.fake.flush_tlb(vmid);
    }
    fn sync_tables(&self) {
        self.seen.lock().unwrap().syncs += 1;
    }
    fn zero(&self, at: MachineAddr, len: usize) {
        assert!(self.seen.lock().unwrap().stale.is_empty(), "page {at:?} freed before the TLB flush");
        self.fake.zero(at, len);
    }

    fn read(&self, from: MachineAddr, into: &mut [u8]) {
        self.fake.read(from, into);
    }
    fn write(&self, to: MachineAddr, bytes: &[u8]) {
        self.fake.write(to, bytes);
    }
    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize) {
        self.fake.copy(from, to, len);
    }
    fn load_u64(&self, at: MachineAddr) -> u64 {
        self.fake.load_u64(at)
    }
    fn clean_invalidate(&self, _: MachineAddr, _: usize) {}

    fn page(&self, _: Mfn) -> &'static SharedPage {
        unimplemented!()
    }
    fn load_u32(&self, _: MachineAddr) -> u32 {
        unimplemented!()
    }
    fn store_u32(&self, _: MachineAddr, _: u32) {
        unimplemented!()
    }
    fn cas_u32(&self, _: MachineAddr, _: u32, _: u32) -> Result<u32, u32> {
        unimplemented!()
    }
    fn or_u32(&self, _: MachineAddr, _: u32) -> u32 {
        unimplemented!()
    }
    fn and_u32(&self, _: MachineAddr, _: u32) -> u32 {
        unimplemented!()
    }
    fn or_u64(&self, _: MachineAddr, _: u64) -> u64 {
        unimplemented!()
    }
    fn and_u64(&self, _: MachineAddr, _: u64) -> u64 {
        unimplemented!()
    }
    fn swap_u8(&self, _: MachineAddr, _: u8) -> u8 {
        unimplemented!()
    }
    fn and_u16(&self, _: MachineAddr, _: u16) -> u16 {
        unimplemented!()
    }
    fn clean(&self, _: MachineAddr, _: usize) {
        unimplemented!()
    }
    fn invalidate_icache(&self) {
        unimplemented!()
    }
    fn ticks(&self) -> u64 {
        unimplemented!()
    }
    fn frequency(&self) -> u64 {
        unimplemented!()
    }
    fn cpu(&self) -> CpuId {
        unimplemented!()
    }
    fn kick(&self, _: CpuId) {
        unimplemented!()
    }
    fn spi_set_enabled(&self, _: u32, _: bool) {
        unimplemented!()
    }
    fn spi_set_trigger(&self, _: u32, _: Trigger) {
        unimplemented!()
    }
    fn spi_deactivate(&self, _: u32) {
        unimplemented!()
    }
    fn lpi_set_enabled(&self, _: u32, _: bool) {
        unimplemented!()
    }
    fn its(&self, _: &[crate::its::command::Words], _: CpuId) -> bool {
        unimplemented!()
    }
    fn console_write(&self, _: &[u8]) {
        unimplemented!()
    }
    fn power(&self, _: Power) -> ! {
        unimplemented!()
    }
}
