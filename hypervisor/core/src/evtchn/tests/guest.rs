//! A guest's side of the two ABIs, written from the public headers: what it does in its interrupt handler, and to mask and unmask.

use super::World;
use crate::addr::MachineAddr;
use crate::machine::Machine;
use crate::machine::fake::FakeMachine;
use std::vec::Vec;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;
const LINK: u32 = 0x1_ffff;

/// What the guest of one domain knows.
pub struct Guest {
    pub machine: &'static FakeMachine,
    pub domain: usize,
    /// Which vCPUs have moved their `vcpu_info`.
    pub registered: [bool; 4],
    pub fifo: bool,
    /// Pages of the event array.
    pub array_pages: u64,
    heads: [[u32; 16]; 4],
}

impl Guest {
    pub fn new(machine: &'static FakeMachine, domain: usize) -> Self {
        Self { machine, domain, registered: [false; 4], fifo: false, array_pages: 0, heads: [[0; 16]; 4] }
    }

    /// What a guest does before it gives a control block, or after a reset.
    pub fn forget_fifo(&mut self) {
        self.fifo = false;
        self.array_pages = 0;
        self.heads = [[0; 16]; 4];
        self.machine.zero(World::page_of(self.domain, 2), 4096);
        for n in 0..5 {
            self.machine.zero(World::array_of(self.domain, n), 4096);
        }
    }

    /// The interrupt handler of `vcpu`: the events it handles.
    pub fn upcall(&mut self, vcpu: usize) -> Vec<u32> {
        let info = self.info(vcpu);
        let mut handled = Vec::new();
        loop {
            self.machine.swap_u8(info, 0);
            if self.fifo {
                self.scan_fifo(vcpu, &mut handled)
            } else {
                self.scan_two_level(info, &mut handled)
            }
            if self.machine.load_u32(info) & 0xff == 0 {
                return handled;
            }
        }
    }

    pub fn is_masked(&self, port: u32) -> bool {
        if self.fifo { self.word(port).is_some_and(|w| self.machine.load_u32(w) & MASKED != 0) } else { self.test(560, port) }
    }

    pub fn is_pending(&self, port: u32) -> bool {
        if self.fifo { self.word(port).is_some_and(|w| self.machine.load_u32(w) & PENDING != 0) } else { self.test(48, port) }
    }

    pub fn is_linked(&self, port: u32) -> bool {
        self.fifo && self.word(port).is_some_and(|w| self.machine.load_u32(w) & LINKED != 0)
    }

    pub fn mask(&self, port: u32) {
        if !self.fifo {
            self.machine.or_u64(self.bit_word(560, port), 1 << (port % 64));
        } else if let Some(word) = self.word(port) {
            self.machine.or_u32(word, MASKED);
        }
    }

    /// Unmasks without the hypervisor if nothing is pending; otherwise it stays masked and `EVTCHNOP_unmask` is needed.
    pub fn try_unmask(&self, port: u32) -> bool {
        if self.is_pending(port) {
            return false;
        }
        if !self.fifo {
            self.machine.and_u64(self.bit_word(560, port), !(1 << (port % 64)));
        } else if let Some(word) = self.word(port) {
            assert_eq!(self.machine.and_u32(word, !MASKED) & BUSY, 0);
        }
        true
    }

    pub fn word(&self, port: u32) -> Option<MachineAddr> {
        let page = u64::from(port / 1024);
        (page < self.array_pages).then(|| MachineAddr(World::array_of(self.domain, page).0 + u64::from(port % 1024) * 4))
    }

    pub fn info(&self, vcpu: usize) -> MachineAddr {
        if self.registered[vcpu] {
            World::info_of(self.domain, vcpu as u64)
        } else {
            assert_eq!(vcpu, 0, "interrupt on a vCPU without vcpu_info");
            World::page_of(self.domain, 0)
        }
    }

    fn scan_two_level(&self, info: MachineAddr, handled: &mut Vec<u32>) {
        let sel = self.machine.and_u64(MachineAddr(info.0 + 8), 0);
        for port in (0..4096).filter(|port| sel & 1 << (port / 64) != 0) {
            if self.test(48, port) && !self.test(560, port) {
                self.machine.and_u64(self.bit_word(48, port), !(1 << (port % 64)));
                handled.push(port);
            }
        }
    }

    fn scan_fifo(&mut self, vcpu: usize, handled: &mut Vec<u32>) {
        let control = MachineAddr(World::page_of(self.domain, 2).0 + u64::from(World::control_of(vcpu as u64)));
        let mut ready = self.machine.and_u32(control, 0);
        while ready != 0 {
            let priority = ready.trailing_zeros() as usize;
            let head = match self.heads[vcpu][priority] {
                0 => self.machine.load_u32(MachineAddr(control.0 + 8 + 4 * priority as u64)),
                head => head,
            };
            let word = self.word(head).expect("a queue holds a port without a word");
            let old = self.machine.and_u32(word, !(LINKED | LINK));
            assert!(old & LINKED != 0, "port {head} is on a queue and not linked");
            self.heads[vcpu][priority] = old & LINK;
            if old & LINK == 0 {
                ready &= !(1 << priority);
            }
            if old & PENDING != 0 && old & MASKED == 0 {
                self.machine.and_u32(word, !PENDING);
                handled.push(head);
            }
            ready |= self.machine.and_u32(control, 0);
        }
    }

    fn test(&self, array: u64, port: u32) -> bool {
        port < 4096 && self.machine.load_u64(self.bit_word(array, port)) & 1 << (port % 64) != 0
    }

    fn bit_word(&self, array: u64, port: u32) -> MachineAddr {
        MachineAddr(World::page_of(self.domain, 0).0 + array + u64::from(port / 64) * 8)
    }
}
