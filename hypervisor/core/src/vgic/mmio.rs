//! The registers in memory: frames as tables, in `v2` and `v3`, to be read beside the specifications, and what each register does.
//!
//! Widths, and what is ignored or refused, are those of Xen 4.20: an access of the wrong width, and a few writes, are answered with a data
//! abort; registers that do not exist, or that say nothing without LPIs and security states, read as zero and ignore writes. Pending and
//! active state is not readable: the list registers of another vCPU hold it, and "active" would have Linux wait for it.

use super::bank::Bank;
use super::config::Interface;
use super::cpu::BANK;
use super::redistributor::FRAME;
use super::{VcpuSet, Version, Vgic, lpi};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::machine::Machine;
use crate::mmio::Size;
use log::debug;

mod v2;
mod v3;

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
    /// What Xen checks where it ignores 64-bit writes: bytes and half words pass, the register's own widths do not.
    Narrow,
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
    /// Write-only in the architecture: reads as a pattern, as in Xen.
    Unreadable,
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
    /// `ISACTIVER` of a GICv2: making something active is refused.
    Activate,
    /// `IPRIORITYR`.
    Priority,
    /// `ICFGR`.
    Config,
    /// `GICD_IROUTER`.
    Router,
    /// `GICD_ITARGETSR` of SGIs and PPIs: the vCPU that asks.
    OwnTarget,
    /// `GICD_ITARGETSR` of SPIs.
    Target,
    /// `GICD_SGIR`.
    SendSgi,
    /// `GICR_CTLR` where there are LPIs.
    LpiControl,
    /// `GICR_PROPBASER`.
    LpiProperties,
    /// `GICR_PENDBASER`.
    LpiPending,
}

/// A register, or a run of them.
struct Row {
    first: u32,
    last: u32,
    read: Width,
    write: Width,
    register: Register,
}

/// What is in no row.
const UNKNOWN: Row = row(0, u32::MAX, Any, Any, Zero);

const fn row(first: u32, last: u32, read: Width, write: Width, register: Register) -> Row {
    Row { first, last, read, write, register }
}

use Register::*;
use Width::*;

impl Width {
    fn admits(self, size: Size) -> bool {
        match self {
            Any => true,
            Word => size == Size::Word,
            WordOrByte => matches!(size, Size::Word | Size::Byte),
            WordOrDouble => matches!(size, Size::Word | Size::Double),
            Narrow => matches!(size, Size::Byte | Size::Half),
            Never => false,
        }
    }
}

/// A frame that an access goes to.
struct Frame {
    rows: &'static [Row],
    offset: u64,
    /// Whose private interrupts bank 0 stands for.
    vcpu: u32,
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

    /// The bank of an ICFGR, and which half of it.
    fn config(&self) -> (u32, usize) {
        const ICFGR0: u32 = 0xc00;
        let n = self.offset.saturating_sub(ICFGR0) / 4;
        (n / 2, n as usize % 2)
    }

    /// The SPI of an IROUTER.
    fn routed(&self) -> u32 {
        BANK + (self.offset - self.row.first) / 8
    }

    /// The four SPIs of an ITARGETSR; the row begins at the first one's.
    fn targeted(&self) -> [u32; 4] {
        [0, 1, 2, 3].map(|n| BANK + self.word() * 4 + n)
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
        Some(self.store(machine, &place, value))
    }

    /// The register at `at`.
    fn place(&self, vcpu: u32, at: Ipa, size: Size) -> Option<Result<Place, Abort>> {
        let Ok(frame) = self.frame(vcpu, at)? else { return Some(Err(Abort)) };
        if frame.offset % size.bytes() != 0 {
            return Some(Err(Abort));
        }
        let offset = frame.offset as u32;
        let known = frame.rows.iter().find(|row| (row.first..=row.last).contains(&offset));
        if known.is_none() {
            debug!(target: crate::console::GUEST, "vgic: no register at {at:?}");
        }
        Some(Ok(Place { row: known.unwrap_or(&UNKNOWN), offset, vcpu: frame.vcpu, size }))
    }

    /// The frame that `at` lies in.
    fn frame(&self, vcpu: u32, at: Ipa) -> Option<Result<Frame, Abort>> {
        let frame = |rows, offset, vcpu| Ok(Frame { rows, offset, vcpu });
        let offset = at.0.checked_sub(self.config.distributor.0);
        match (&self.config.interface, offset) {
            (Interface::V2(_), Some(offset)) if offset < PAGE_SIZE => Some(frame(v2::GICD, offset, vcpu)),
            (Interface::V2(_), _) => None,
            (Interface::V3(_), Some(offset)) if offset < FRAME => Some(frame(v3::GICD, offset, vcpu)),
            (Interface::V3(redistributors), _) => {
                let (vcpu, offset) = redistributors.find(at)?;
                Some(match offset / FRAME {
                    _ if vcpu as usize >= self.vcpus.len() => Err(Abort),
                    0 if redistributors.has_lpis => frame(v3::GICR_LPI, offset, vcpu),
                    0 => frame(v3::GICR, offset, vcpu),
                    1 => frame(v3::GICR_SGI, offset - FRAME, vcpu),
                    _ => Err(Abort),
                })
            }
        }
    }

    /// The value of the register (all of it, not only what is accessed).
    fn value(&self, place: &Place) -> u64 {
        let word = place.word();
        let bank = |b, f: &dyn Fn(&Bank) -> u32| u64::from(self.with_bank(place.vcpu, b, f).unwrap_or(0));
        match place.row.register {
            Zero | Pending(_) | Activate => 0,
            Constant(value) => value.into(),
            Unreadable => 0xdead_beaf_dead_beaf,
            Control => {
                const V2_ENABLE: u64 = 1;
                const ARE_NS: u64 = 1 << 4;
                const ENABLE_GRP1A: u64 = 1 << 1;
                let enabled = self.distributor.lock().enabled;
                match self.version() {
                    Version::V2 => {
                        if enabled {
                            V2_ENABLE
                        } else {
                            0
                        }
                    }
                    Version::V3 => ARE_NS | if enabled { ENABLE_GRP1A } else { 0 },
                }
            }
            Type => {
                let cpus = self.vcpus.len().clamp(1, 8) as u64;
                let banks = u64::from(self.spis.div_ceil(BANK)) | (cpus - 1) << 5;
                match &self.config.interface {
                    Interface::V2(_) => banks,
                    Interface::V3(redistributors) => {
                        let lpis = if redistributors.has_lpis { lpi::TYPER } else { 0 };
                        banks | u64::from(redistributors.intid_bits.saturating_sub(1)) << 19 | lpis
                    }
                }
            }
            RedistributorType => {
                const PHYSICAL_LPIS: u64 = 1;
                const LAST: u64 = 1 << 4;
                let lpis = if self.config.has_lpis() { PHYSICAL_LPIS } else { 0 };
                let count = self.vcpus.len() as u32;
                let is_last = matches!(&self.config.interface, Interface::V3(all) if all.is_last(place.vcpu, count));
                affinity(place.vcpu) << 32 | u64::from(place.vcpu) << 8 | lpis | if is_last { LAST } else { 0 }
            }
            LpiControl | LpiProperties | LpiPending => {
                let distributor = self.distributor.lock();
                let Some(lpis) = &distributor.lpis else { return 0 };
                match place.row.register {
                    LpiControl => lpis.is_enabled(place.vcpu).into(),
                    LpiProperties => lpis.properties_register(),
                    _ => lpis.pending_register(place.vcpu),
                }
            }
            OwnTarget => u64::from(target_mask(place.vcpu)) * 0x0101_0101,
            Target => {
                let distributor = self.distributor.lock();
                let masks = place.targeted().map(|intid| distributor.target(intid).map_or(0, target_mask));
                u32::from_le_bytes(masks).into()
            }
            SendSgi => SGIR_READS_AS,
            Enable(_) => bank(word, &|bank| bank.enabled),
            Priority => bank(word / 8, &|bank| {
                let at = word as usize % 8 * 4;
                bank.priority.get(at..at + 4).and_then(|p| p.try_into().ok()).map_or(0, u32::from_le_bytes)
            }),
            Config => {
                let (b, half) = place.config();
                bank(b, &|bank| bank.config.get(half).copied().unwrap_or(0))
            }
            Router => self.distributor.lock().target(place.routed()).map_or(0, affinity),
        }
    }

    fn store(&self, machine: &dyn Machine, place: &Place, value: u64) -> Result<VcpuSet, Abort> {
        let word = place.word();
        let bits = value as u32;
        let private = self.vcpus.get(place.vcpu as usize).filter(|_| word == 0);
        let noticed = |look: bool| if look { VcpuSet::of(place.vcpu) } else { VcpuSet::EMPTY };
        let spis = match (place.row.register, private) {
            (Enable(true), Some(gic)) => return Ok(noticed(gic.enable(bits))),
            (Enable(false), Some(gic)) => return Ok(noticed(gic.disable(bits))),
            (Pending(true), Some(gic)) => return Ok(noticed(gic.raise(bits))),
            (Pending(false), Some(gic)) => return Ok(noticed(gic.clear_pending(machine, bits))),
            (Enable(true), None) => self.distributor.lock().enable(machine, word, bits),
            (Enable(false), None) => self.distributor.lock().disable(machine, word, bits),
            (Pending(true), None) => self.distributor.lock().set_pending(word, bits),
            (Pending(false), None) => self.distributor.lock().clear_pending(machine, word, bits),
            (Router, _) => self.route(place, value),
            (Target, _) => self.route_by_mask(place, bits),
            (Activate, _) if bits != 0 => return Err(Abort),
            (SendSgi, _) => return self.send_sgi_v2(place.vcpu, bits).ok_or(Abort),
            (Control, _) => {
                let enable = if self.version() == Version::V2 { 1 } else { 2 };
                self.distributor.lock().enabled = bits & enable != 0;
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
            (LpiControl | LpiProperties | LpiPending, _) => {
                let new = place.replace(self.value(place), value);
                if let Some(lpis) = &mut self.distributor.lock().lpis {
                    match place.row.register {
                        LpiControl => lpis.set_enabled(place.vcpu, new & 1 != 0),
                        LpiProperties => lpis.set_properties_register(new),
                        _ => lpis.set_pending_register(place.vcpu, new),
                    }
                }
                VcpuSet::EMPTY
            }
            (Zero | Activate | Constant(_) | Unreadable | Type | RedistributorType | OwnTarget, _) => VcpuSet::EMPTY,
        };
        Ok(self.mark(spis))
    }

    /// GICD_ITARGETSR: of the vCPUs named the first gets the SPI; where none exists nothing changes. As in Xen.
    fn route_by_mask(&self, place: &Place, value: u32) -> VcpuSet {
        let existing = (1_u64 << self.vcpus.len().min(8)) - 1;
        let accessed = place.targeted().into_iter().skip((place.offset % 4) as usize).take(place.size.bytes() as usize);
        let mut distributor = self.distributor.lock();
        let mut attention = VcpuSet::EMPTY;
        for (intid, mask) in accessed.zip(value.to_le_bytes()) {
            let named = u64::from(mask) & existing;
            if named != 0 && distributor.target(intid).is_some_and(|old| old != named.trailing_zeros()) {
                attention |= distributor.route(intid, named.trailing_zeros() as u8);
            }
        }
        attention
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

/// What Xen reads of a register that cannot be read.
const SGIR_READS_AS: u64 = 0xdead_beef;

/// A vCPU in an ITARGETSR.
fn target_mask(vcpu: u32) -> u8 {
    1_u8.checked_shl(vcpu).unwrap_or(0)
}

/// The affinity of a vCPU, as in MPIDR: 16 to a cluster.
fn affinity(vcpu: u32) -> u64 {
    u64::from(vcpu & 0xf | (vcpu >> 4 & 0xff) << 8)
}

/// The vCPU of an affinity, as Xen computes it: higher levels do not count.
fn vcpu_of(affinity: u64) -> u32 {
    (affinity & 0xff | (affinity >> 8 & 0xff) << 4) as u32
}
