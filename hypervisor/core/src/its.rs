//! The virtual ITS of the hardware domain: registers, and the command queue's position. What commands do joins this with guest memory and
//! the interrupt controller, in `domain/its.rs`; `decisions/its.md` says why it is as it is.
//!
//! No table of it is in guest memory: there are no `GITS_BASER`, and as many collections as `GITS_TYPER.HCC` says.
//!
//! Source: GICv3 specification IHI 0069H, 12.19 (registers) and 5.3 (commands).

pub mod command;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

use crate::addr::Ipa;
use crate::lock::Lock;
use crate::mmio::Size;
use alloc::collections::TryReserveError;
use command::SIZE;
use tables::{EVENT_BITS, Tables};

/// Bytes of registers: the control frame, and that to which devices write.
pub const FRAMES: u64 = 0x2_0000;

const CTLR: u64 = 0x0000;
const TYPER: u64 = 0x0008;
const CBASER: u64 = 0x0080;
const CWRITER: u64 = 0x0088;
const CREADR: u64 = 0x0090;
const PIDR2: u64 = 0xffe8;

const ENABLED: u64 = 1 << 0;
const QUIESCENT: u64 = 1 << 31;
/// Implementer and product of Xen's GIC registers, in the upper half of the double word at `CTLR`.
const IIDR: u64 = 0x34c << 32;
const PIDR2_ARCH_V3: u64 = 0x30;
const VALID: u64 = 1 << 63;
const STALLED: u64 = 1 << 0;
/// Offsets in the queue, of `GITS_CWRITER` and `GITS_CREADR`.
const OFFSET: u64 = 0xf_ffe0;
/// The address in `GITS_CBASER`.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// What else of `GITS_CBASER` is kept: Valid, InnerCache, OuterCache, Shareability, Size.
const KEPT: u64 = VALID | 7 << 59 | 7 << 53 | ADDRESS | 3 << 10 | 0xff;

/// What the hardware has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ItsConfig {
    /// Where it is, for the hardware domain as for the machine.
    pub base: Ipa,
    /// Width of device numbers.
    pub device_bits: u32,
    /// Width of event numbers.
    pub event_bits: u32,
    /// Bytes of the hardware's table for each event.
    pub entry_size: u64,
    /// CPUs; each has the physical collection of its number.
    pub cpus: u8,
}

/// What became of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is done.
    Done,
    /// Commands are left: the instruction is executed once more, after interrupts.
    Again,
    /// Nothing takes it.
    Refused,
}

/// A virtual ITS.
pub struct Its {
    /// Of what it is made.
    pub config: ItsConfig,
    /// How many vCPUs it may send to.
    vcpus: u32,
    pub(crate) state: Lock<State>,
}

/// What its lock protects.
pub(crate) struct State {
    /// `GITS_CTLR.Enabled`.
    pub enabled: bool,
    /// The command cannot be read: waits for a write of `GITS_CWRITER`.
    pub stalled: bool,
    /// The hardware does not answer: commands are ignored from then on.
    pub broken: bool,
    /// `GITS_CBASER`.
    queue: u64,
    /// `GITS_CWRITER`, below the queue's size.
    write: u64,
    /// `GITS_CREADR`, below the queue's size.
    read: u64,
    pub tables: Tables,
}

impl Its {
    /// One for a guest with that many vCPUs, at least a collection for each.
    pub fn new(config: ItsConfig, vcpus: u32) -> Result<Self, TryReserveError> {
        let tables = Tables::new(collections(vcpus))?;
        let state = State { enabled: false, stalled: false, broken: false, queue: 0, write: 0, read: 0, tables };
        Ok(Self { config, vcpus, state: Lock::new(state) })
    }

    /// Width of event numbers that a guest may use.
    pub fn event_bits(&self) -> u32 {
        self.config.event_bits.min(EVENT_BITS)
    }

    /// The vCPU that an RDbase names.
    pub(crate) fn vcpu(&self, redistributor: u64) -> Option<u8> {
        u8::try_from(redistributor).ok().filter(|vcpu| u32::from(*vcpu) < self.vcpus)
    }

    /// The offset of an address in the registers.
    pub(crate) fn offset(&self, at: Ipa) -> Option<u64> {
        at.0.checked_sub(self.config.base.0).filter(|offset| *offset < FRAMES)
    }

    /// A load. Any size; unaligned ones are refused.
    pub(crate) fn read(&self, offset: u64, size: Size) -> Option<u64> {
        if !offset.is_multiple_of(size.bytes()) {
            return None;
        }
        let whole = match offset & !7 {
            TYPER => self.typer(),
            PIDR2 => PIDR2_ARCH_V3,
            register => self.state.lock().register(register),
        };
        Some(size.truncate(whole >> (offset % 8 * 8)))
    }

    fn typer(&self) -> u64 {
        const PHYSICAL: u64 = 1;
        const ENTRY_SIZE: u64 = 7 << 4; // in the guest's memory: eight bytes, of which we use none
        let (events, devices) = (self.event_bits().saturating_sub(1), self.config.device_bits.saturating_sub(1));
        let hcc = collections(self.vcpus) as u64;
        PHYSICAL | ENTRY_SIZE | u64::from(events & 0x1f) << 8 | u64::from(devices & 0x1f) << 13 | hcc << 24
    }
}

/// `GITS_TYPER.HCC` has eight bits.
fn collections(vcpus: u32) -> usize {
    (vcpus as usize + 1).min(0xff)
}

impl State {
    fn register(&self, register: u64) -> u64 {
        match register {
            CTLR => IIDR | QUIESCENT | if self.enabled { ENABLED } else { 0 },
            CBASER => self.queue,
            CWRITER => self.write,
            CREADR => self.read | if self.stalled { STALLED } else { 0 },
            _ => 0,
        }
    }

    /// A store, aligned.
    pub(crate) fn store(&mut self, offset: u64, size: Size, value: u64) {
        let lane = offset % 8 * 8;
        let mask = size.truncate(u64::MAX) << lane;
        let register = offset & !7;
        let new = self.register(register) & !mask | value << lane & mask;
        match register {
            CTLR => self.enabled = new & ENABLED != 0,
            CBASER if !self.enabled => {
                self.queue = new & KEPT;
                (self.read, self.write, self.stalled) = (0, 0, false);
            }
            CWRITER if new & OFFSET < self.size() => {
                self.write = new & OFFSET;
                self.stalled = false;
            }
            _ => {}
        }
    }

    /// Bytes of the queue.
    fn size(&self) -> u64 {
        ((self.queue & 0xff) + 1) << 12
    }

    /// Where the next command is, if there is one to be read.
    pub(crate) fn next(&self) -> Option<Ipa> {
        let ready = self.enabled && !self.stalled && self.queue & VALID != 0 && self.read != self.write;
        ready.then_some(Ipa((self.queue & ADDRESS) + self.read))
    }

    /// That one was read.
    pub(crate) fn advance(&mut self) {
        self.read = (self.read + SIZE) % self.size();
    }
}
