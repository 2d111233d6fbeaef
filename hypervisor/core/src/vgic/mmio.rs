//! The registers in memory: GICD and GICR frames as tables, to be read beside chapter 12 of the specification.
//!
//! Widths, and what is ignored or refused, are those of Xen 4.20: an access of the wrong width, and a few writes, are answered with a data
//! abort; registers that do not exist, or that say nothing without LPIs and security states, read as zero and ignore writes. Pending and
//! active state is not readable: the list registers of another vCPU hold it, and "active" would have Linux wait for it.

use super::bank::Bank;
use super::cpu::BANK;
use super::redistributor::FRAME;
use super::{VcpuSet, Vgic};
use crate::addr::Ipa;
use crate::machine::Machine;
use crate::mmio::Size;
use log::debug;

/// The access is answered with a data abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort;

/// Which accesses a register admits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Width {
    Any,
    Word,
    WordOrByte,
    WordOrDouble,
    /// None: a data abort whatever the width.
    Never,
}

/// What a register means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Register {
    /// Reads as zero, writes ignored.
    Zero,
    /// Reads as this, writes ignored.
    Constant(u32),
    /// `GICD_CTLR`.
    Control,
    /// `GICD_TYPER`.
    Type,
    /// `GICR_TYPER`.
    RedistributorType,
    /// `ISENABLER` (`true`) or `ICENABLER`.
    Enable(bool),
    /// `ISPENDR` (`true`) or `ICPENDR`.
    Pending(bool),
    /// `IPRIORITYR`.
    Priority,
    /// `ICFGR`.
    Config,
    /// `ICFGR` of the SGIs: fixed.
    SgiConfig,
    /// `GICD_IROUTER`.
    Router,
}

/// A register, or a run of them.
struct Row {
    first: u32,
    last: u32,
    read: Width,
    write: Width,
    register: Register,
}

const fn row(first: u32, last: u32, read: Width, write: Width, register: Register) -> Row {
    Row { first, last, read, write, register }
}

use Register::*;
use Width::*;

const IIDR: u32 = 0x34c;
const PIDR2_ARCH_V3: u32 = 0x30;

/// The distributor, 12.9. What is not listed reads as zero.
#[rustfmt::skip]
const GICD: &[Row] = &[
    //  from    to      read          write
    row(0x0000, 0x0003, Word,         Word,         Control),                  // CTLR
    row(0x0004, 0x0007, Word,         Word,         Type),                     // TYPER
    row(0x0008, 0x000b, Word,         Word,         Constant(IIDR)),           // IIDR
    row(0x0010, 0x0013, Word,         Word,         Zero),                     // STATUSR
    row(0x0080, 0x00ff, Word,         Word,         Zero),                     // IGROUPR
    row(0x0100, 0x017f, Word,         Word,         Enable(true)),             // ISENABLER
    row(0x0180, 0x01ff, Word,         Word,         Enable(false)),            // ICENABLER
    row(0x0200, 0x027f, Any,          Word,         Pending(true)),            // ISPENDR
    row(0x0280, 0x02ff, Any,          Word,         Pending(false)),           // ICPENDR
    row(0x0300, 0x037f, Any,          Never,        Zero),                     // ISACTIVER
    row(0x0380, 0x03ff, Any,          Word,         Zero),                     // ICACTIVER
    row(0x0400, 0x07fb, WordOrByte,   WordOrByte,   Priority),                 // IPRIORITYR
    row(0x0c00, 0x0c03, Word,         Word,         SgiConfig),                // ICFGR0
    row(0x0c04, 0x0cff, Word,         Word,         Config),                   // ICFGR
    row(0x0d00, 0x0d7f, Word,         Word,         Zero),                     // IGRPMODR
    row(0x0e00, 0x0eff, Word,         Word,         Zero),                     // NSACR
    row(0x0f00, 0x0f03, Word,         Word,         Zero),                     // SGIR
    row(0x0f10, 0x0f2f, Word,         Never,        Zero),                     // CPENDSGIR, SPENDSGIR
    row(0x6100, 0x7fdf, WordOrDouble, WordOrDouble, Router),                   // IROUTER
    row(0xffe8, 0xffeb, Word,         Word,         Constant(PIDR2_ARCH_V3)),  // PIDR2
];

/// The first frame of a redistributor, 12.10.
#[rustfmt::skip]
const GICR: &[Row] = &[
    row(0x0000, 0x0003, Word,         Word,         Zero),                     // CTLR
    row(0x0004, 0x0007, Word,         Word,         Constant(IIDR)),           // IIDR
    row(0x0008, 0x000f, WordOrDouble, WordOrDouble, RedistributorType),        // TYPER
    row(0x0010, 0x0013, Word,         Word,         Zero),                     // STATUSR
    row(0x0014, 0x0017, Word,         Word,         Zero),                     // WAKER: awake
    row(0x0040, 0x004f, Any,          WordOrDouble, Zero),                     // SETLPIR, CLRLPIR
    row(0x0070, 0x007f, WordOrDouble, WordOrDouble, Zero),                     // PROPBASER, PENDBASER
    row(0x00a0, 0x00a7, Any,          WordOrDouble, Zero),                     // INVLPIR
    row(0x00b0, 0x00b7, Any,          WordOrDouble, Zero),                     // INVALLR
    row(0x00c0, 0x00c3, Word,         Word,         Constant(1)),              // SYNCR, as Xen has it
    row(0xffe8, 0xffeb, Word,         Word,         Constant(PIDR2_ARCH_V3)),  // PIDR2
];

/// The second frame of a redistributor: SGIs and PPIs.
#[rustfmt::skip]
const GICR_SGI: &[Row] = &[
    row(0x0080, 0x0083, Word,         Word,         Zero),                     // IGROUPR0
    row(0x0100, 0x0103, Word,         Word,         Enable(true)),             // ISENABLER0
    row(0x0180, 0x0183, Word,         Word,         Enable(false)),            // ICENABLER0
    row(0x0200, 0x0203, Any,          Word,         Pending(true)),            // ISPENDR0
    row(0x0280, 0x0283, Any,          Word,         Pending(false)),           // ICPENDR0
    row(0x0300, 0x0303, Any,          Never,        Zero),                     // ISACTIVER0
    row(0x0380, 0x0383, Any,          Word,         Zero),                     // ICACTIVER0
    row(0x0400, 0x041f, WordOrByte,   WordOrByte,   Priority),                 // IPRIORITYR0-7
    row(0x0c00, 0x0c03, Word,         Any,          SgiConfig),                // ICFGR0
    row(0x0c04, 0x0c07, Word,         Word,         Config),                   // ICFGR1
    row(0x0d00, 0x0d03, Word,         Word,         Zero),                     // IGRPMODR0
    row(0x0e00, 0x0e03, Word,         Word,         Zero),                     // NSACR
];

const UNKNOWN: Row = row(0, u32::MAX, Any, Any, Zero);

impl Width {
    fn admits(self, size: Size) -> bool {
        match self {
            Any => true,
            Word => size == Size::Word,
            WordOrByte => matches!(size, Size::Word | Size::Byte),
            WordOrDouble => matches!(size, Size::Word | Size::Double),
            Never => false,
        }
    }
}

/// A register that an access goes to.
struct Place {
    row: &'static Row,
    /// From the start of the frame.
    offset: u32,
    /// Whose private interrupts bank 0 stands for.
    vcpu: u32,
    size: Size,
}

impl Place {
    /// Number of the 32-bit word, from the start of the row.
    fn word(&self) -> u32 {
        (self.offset - self.row.first) / 4
    }

    /// The bank of an ICFGR, and which half of it; the row begins at ICFGR1.
    fn config(&self) -> (u32, usize) {
        let n = self.word() + 1;
        (n / 2, n as usize % 2)
    }

    /// The SPI of an IROUTER.
    fn routed(&self) -> u32 {
        BANK + (self.offset - self.row.first) / 8
    }

    /// What an access reads of the register with value `whole` (32 or 64 bits, little endian).
    fn extract(&self, whole: u64) -> u64 {
        self.size.truncate(whole >> self.lane())
    }

    /// `whole` with the bytes of the access replaced by `value`.
    fn replace(&self, whole: u64, value: u64) -> u64 {
        let mask = self.size.truncate(u64::MAX) << self.lane();
        whole & !mask | value << self.lane() & mask
    }

    /// The lowest bit of the register that is accessed; accesses are aligned.
    fn lane(&self) -> u32 {
        let bytes = if self.row.read == WordOrDouble { 8 } else { 4 };
        self.offset % bytes * 8
    }
}

impl Vgic {
    /// A load by `vcpu` from `at`: `None` if no register of the interrupt controller is there.
    pub fn read(&self, vcpu: u32, at: Ipa, size: Size) -> Option<Result<u64, Abort>> {
        let place = match self.place(vcpu, at, size)? {
            Ok(place) if place.row.read.admits(size) => place,
            _ => return Some(Err(Abort)),
        };
        Some(Ok(place.extract(self.value(&place))))
    }

    /// A store by `vcpu` to `at`: `None` if no register of the interrupt controller is there. Who should be noticed; `vcpu` itself need not.
    pub fn write(&self, machine: &dyn Machine, vcpu: u32, at: Ipa, size: Size, value: u64) -> Option<Result<VcpuSet, Abort>> {
        let place = match self.place(vcpu, at, size)? {
            Ok(place) if place.row.write.admits(size) => place,
            _ => return Some(Err(Abort)),
        };
        Some(Ok(self.store(machine, &place, value)))
    }

    /// The register at `at`.
    fn place(&self, vcpu: u32, at: Ipa, size: Size) -> Option<Result<Place, Abort>> {
        let (frame, offset, vcpu) = match at.0.checked_sub(self.config.distributor.0) {
            Some(offset) if offset < FRAME => (GICD, offset, vcpu),
            _ => {
                let (vcpu, offset) = self.config.redistributor(at)?;
                if vcpu as usize >= self.vcpus.len() {
                    return Some(Err(Abort));
                }
                match offset / FRAME {
                    0 => (GICR, offset, vcpu),
                    1 => (GICR_SGI, offset - FRAME, vcpu),
                    _ => return Some(Err(Abort)),
                }
            }
        };
        if offset % size.bytes() != 0 {
            return Some(Err(Abort));
        }
        let offset = (offset % FRAME) as u32;
        let row = frame.iter().find(|row| (row.first..=row.last).contains(&offset)).unwrap_or(&UNKNOWN);
        if core::ptr::eq(row, &UNKNOWN) {
            debug!(target: crate::console::GUEST, "vgic: no register at {at:?}");
        }
        Some(Ok(Place { row, offset, vcpu, size }))
    }

    /// The value of the register (all of it, not only what is accessed).
    fn value(&self, place: &Place) -> u64 {
        let word = place.word();
        let bank = |b, f: &dyn Fn(&Bank) -> u32| u64::from(self.with_bank(place.vcpu, b, f).unwrap_or(0));
        match place.row.register {
            Zero | Pending(_) => 0,
            Constant(value) => value.into(),
            Control => {
                const ARE_NS: u64 = 1 << 4;
                const ENABLE_GRP1A: u64 = 1 << 1;
                ARE_NS | if self.distributor.lock().enabled { ENABLE_GRP1A } else { 0 }
            }
            Type => {
                let cpus = self.vcpus.len().clamp(1, 8) as u64;
                u64::from(self.spis.div_ceil(BANK)) | (cpus - 1) << 5 | u64::from(self.config.intid_bits.saturating_sub(1)) << 19
            }
            RedistributorType => {
                const LAST: u64 = 1 << 4;
                let last = if self.config.is_last(place.vcpu, self.vcpus.len() as u32) { LAST } else { 0 };
                affinity(place.vcpu) << 32 | u64::from(place.vcpu) << 8 | last
            }
            Enable(_) => bank(word, &|bank| bank.enabled),
            Priority => bank(word / 8, &|bank| {
                let at = word as usize % 8 * 4;
                bank.priority.get(at..at + 4).and_then(|p| p.try_into().ok()).map_or(0, u32::from_le_bytes)
            }),
            SgiConfig => bank(0, &|bank| bank.config[0]),
            Config => {
                let (b, half) = place.config();
                bank(b, &|bank| bank.config.get(half).copied().unwrap_or(0))
            }
            Router => self.distributor.lock().target(place.routed()).map_or(0, affinity),
        }
    }

    fn store(&self, machine: &dyn Machine, place: &Place, value: u64) -> VcpuSet {
        let word = place.word();
        let bits = value as u32;
        let private = self.vcpus.get(place.vcpu as usize).filter(|_| word == 0);
        let noticed = |look: bool| if look { VcpuSet::of(place.vcpu) } else { VcpuSet::EMPTY };
        let spis = match (place.row.register, private) {
            (Enable(true), Some(gic)) => return noticed(gic.enable(bits)),
            (Enable(false), Some(gic)) => return noticed(gic.disable(bits)),
            (Pending(true), Some(gic)) => return noticed(gic.raise(bits)),
            (Pending(false), Some(gic)) => return noticed(gic.clear_pending(machine, bits)),
            (Enable(true), None) => self.distributor.lock().enable(machine, word, bits),
            (Enable(false), None) => self.distributor.lock().disable(machine, word, bits),
            (Pending(true), None) => self.distributor.lock().set_pending(word, bits),
            (Pending(false), None) => self.distributor.lock().clear_pending(machine, word, bits),
            (Router, _) => self.route(place, value),
            (Control, _) => {
                self.distributor.lock().enabled = value & 2 != 0;
                VcpuSet::EMPTY
            }
            (Priority, _) => {
                let new = place.replace(self.value(place), value) as u32;
                self.with_bank_mut(place.vcpu, word / 8, |bank| {
                    let at = word as usize % 8 * 4;
                    bank.priority.iter_mut().skip(at).zip(new.to_le_bytes()).for_each(|(old, new)| *old = new);
                });
                VcpuSet::EMPTY
            }
            (Config, _) => {
                let (b, half) = place.config();
                self.with_bank_mut(place.vcpu, b, |bank| bank.config.iter_mut().skip(half).take(1).for_each(|config| *config = bits));
                VcpuSet::EMPTY
            }
            (Zero | Constant(_) | Type | RedistributorType | SgiConfig, _) => VcpuSet::EMPTY,
        };
        self.mark(spis)
    }

    /// GICD_IROUTER: to a vCPU, or to any, which is vCPU 0. A vCPU that does not exist changes nothing.
    fn route(&self, place: &Place, value: u64) -> VcpuSet {
        const ANY: u64 = 1 << 31;
        let intid = place.routed();
        let mut distributor = self.distributor.lock();
        let Some(old) = distributor.target(intid) else { return VcpuSet::EMPTY };
        let wanted = place.replace(affinity(old), value);
        let vcpu = if wanted & ANY != 0 { 0 } else { vcpu_of(wanted) };
        match u8::try_from(vcpu) {
            Ok(new) if (vcpu as usize) < self.vcpus.len() && vcpu != old => distributor.route(intid, new),
            _ => VcpuSet::EMPTY,
        }
    }

    /// Bank `b` as `vcpu` sees it: the first is its own.
    fn with_bank<R>(&self, vcpu: u32, b: u32, f: impl FnOnce(&Bank) -> R) -> Option<R> {
        if b == 0 {
            return Some(f(&self.vcpus.get(vcpu as usize)?.state.lock().private));
        }
        self.distributor.lock().bank(b).map(|bank| f(&bank.state))
    }

    fn with_bank_mut(&self, vcpu: u32, b: u32, f: impl FnOnce(&mut Bank)) {
        if b != 0 {
            if let Some((bank, _)) = self.distributor.lock().bank_mut(b * BANK) {
                f(bank);
            }
        } else if let Some(gic) = self.vcpus.get(vcpu as usize) {
            f(&mut gic.state.lock().private);
        }
    }
}

/// The affinity of a vCPU, as in MPIDR: 16 to a cluster.
fn affinity(vcpu: u32) -> u64 {
    u64::from(vcpu & 0xf | (vcpu >> 4 & 0xff) << 8)
}

/// The vCPU of an affinity, as Xen computes it: higher levels do not count.
fn vcpu_of(affinity: u64) -> u32 {
    (affinity & 0xff | (affinity >> 8 & 0xff) << 4) as u32
}
