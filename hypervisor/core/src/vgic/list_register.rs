//! List registers: how a virtual interrupt is handed to the hardware, and where the hardware keeps its state.
//!
//! Source: GICv3 specification IHI 0069H, 12.4.8 (`ICH_LR<n>_EL2`), 12.4.4 (`ICH_HCR_EL2`) and 12.4.5 (`ICH_ELRSR_EL2`).

use super::bank::ones;

/// The most list registers an implementation has.
pub const MAX_LIST_REGISTERS: usize = 16;

/// `ICH_HCR_EL2.En`: the virtual CPU interface is on.
pub const HCR_EN: u64 = 1 << 0;
/// `ICH_HCR_EL2.UIE`: maintenance interrupt when at most one list register is valid.
pub const HCR_UIE: u64 = 1 << 1;

/// The list registers of one vCPU: in hardware while it is loaded (`el2` implements it), in [`SavedListRegisters`] while it is not.
///
/// Indices are below [`Self::count`]; implementations ignore others.
pub trait ListRegisters {
    /// How many there are, 2 (with one, [`HCR_UIE`] would never let the guest run) to [`MAX_LIST_REGISTERS`].
    fn count(&self) -> usize;
    /// `ICH_ELRSR_EL2`: bit n is set when register n holds nothing and asks for no maintenance.
    fn empty(&self) -> u32;
    /// Reads register `n`.
    fn read(&self, n: usize) -> u64;
    /// Writes register `n`.
    fn write(&mut self, n: usize, value: u64);
}

/// State and list registers of the virtual CPU interface of a vCPU that is not loaded: what `el2` saves and restores, as it is.
#[derive(Clone, Debug, Default)]
pub struct GicCpuContext {
    /// `ICH_LR<n>_EL2`. Only those that [`super::Vgic::used_list_registers`] names need to be saved and restored.
    pub lrs: [u64; MAX_LIST_REGISTERS],
    /// `ICH_VMCR_EL2`.
    pub vmcr: u64,
    /// `ICH_AP0R<n>_EL2`.
    pub ap0r: [u64; 4],
    /// `ICH_AP1R<n>_EL2`.
    pub ap1r: [u64; 4],
    /// `ICH_HCR_EL2`.
    pub hcr: u64,
}

impl GicCpuContext {
    /// The saved list registers, for a machine that has `count`.
    pub fn list_registers(&mut self, count: usize) -> SavedListRegisters<'_> {
        SavedListRegisters { lrs: self.lrs.get_mut(..count).unwrap_or_default() }
    }
}

/// List registers in memory.
#[derive(Debug)]
pub struct SavedListRegisters<'a> {
    lrs: &'a mut [u64],
}

impl ListRegisters for SavedListRegisters<'_> {
    fn count(&self) -> usize {
        self.lrs.len()
    }

    fn empty(&self) -> u32 {
        (0..self.count()).filter(|&n| ListRegister(self.read(n)).is_empty()).fold(0, |bits, n| bits | 1 << n)
    }

    fn read(&self, n: usize) -> u64 {
        self.lrs.get(n).copied().unwrap_or(0)
    }

    fn write(&mut self, n: usize, value: u64) {
        if let Some(lr) = self.lrs.get_mut(n) {
            *lr = value;
        }
    }
}

/// Whether an interrupt is pending in any list register: with one, WFI must not block.
pub fn any_pending(lrs: &dyn ListRegisters) -> bool {
    let occupied = !lrs.empty() & ((1 << lrs.count().min(MAX_LIST_REGISTERS)) - 1);
    ones(occupied).any(|n| ListRegister(lrs.read(n as usize)).is_pending())
}

const INTID: u64 = 0xffff_ffff;
const PINTID_SHIFT: u32 = 32;
const PINTID: u64 = 0x1fff;
const EOI: u64 = 1 << 41;
const PRIORITY_SHIFT: u32 = 48;
const GROUP1: u64 = 1 << 60;
const HW: u64 = 1 << 61;
const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;

/// Of `GICH_LR<n>`, GICv2 specification IHI 0048B, 5.3.10.
const V2_INTID: u32 = 0x3ff;
const V2_PINTID_SHIFT: u32 = 10;
const V2_EOI: u32 = 1 << 19;
const V2_PRIORITY_SHIFT: u32 = 23;
const V2_STATE_SHIFT: u32 = 28;
const V2_HW: u32 = 1 << 31;
/// Pending and active, side by side in both formats.
const STATE_SHIFT: u32 = 62;

/// One value of `ICH_LR<n>_EL2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListRegister(pub u64);

impl ListRegister {
    /// A pending group 1 interrupt; with `hardware`, completing it deactivates the physical interrupt of the same number.
    pub const fn pending(intid: u32, priority: u8, hardware: bool) -> Self {
        let link = if hardware { HW | (intid as u64 & PINTID) << PINTID_SHIFT } else { 0 };
        Self(intid as u64 | (priority as u64) << PRIORITY_SHIFT | GROUP1 | PENDING | link)
    }

    /// The virtual interrupt number.
    pub const fn intid(self) -> u32 {
        (self.0 & INTID) as u32
    }

    /// The priority it was given.
    pub const fn priority(self) -> u8 {
        (self.0 >> PRIORITY_SHIFT) as u8
    }

    /// Whether it is pending (it may be active as well).
    pub const fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    /// Whether it is active.
    pub const fn is_active(self) -> bool {
        self.0 & ACTIVE != 0
    }

    /// Whether completing it deactivates a physical interrupt.
    pub const fn is_hardware(self) -> bool {
        self.0 & HW != 0
    }

    /// Neither pending nor active: the guest has completed it.
    pub const fn is_done(self) -> bool {
        self.0 & (PENDING | ACTIVE) == 0
    }

    /// As `ICH_ELRSR_EL2` has it: done, and without a maintenance interrupt to raise.
    pub const fn is_empty(self) -> bool {
        self.is_done() && (self.is_hardware() || self.0 & EOI == 0)
    }

    /// Pending as well.
    pub const fn and_pending(self) -> Self {
        Self(self.0 | PENDING)
    }

    /// Not pending.
    pub const fn not_pending(self) -> Self {
        Self(self.0 & !PENDING)
    }

    /// Linked to the physical interrupt of the same number.
    pub const fn linked(self) -> Self {
        Self(self.unlinked().0 | HW | (self.0 & PINTID) << PINTID_SHIFT)
    }

    /// Not linked to a physical interrupt.
    pub const fn unlinked(self) -> Self {
        Self(self.0 & !(HW | PINTID << PINTID_SHIFT))
    }

    /// Raises a maintenance interrupt when the guest completes it. Only for one that is not linked.
    pub const fn notify_completion(self) -> Self {
        Self(self.0 | EOI)
    }

    /// The same for a GICv2, `GICH_LR<n>`. Its guests know no groups: their interrupts are in group 0. Priorities have five bits.
    pub const fn to_v2(self) -> u32 {
        let link = if self.is_hardware() {
            V2_HW | ((self.0 >> PINTID_SHIFT) as u32 & V2_INTID) << V2_PINTID_SHIFT
        } else if self.0 & EOI != 0 {
            V2_EOI
        } else {
            0
        };
        let state = (self.0 >> STATE_SHIFT) as u32;
        let priority = (self.priority() >> 3) as u32;
        self.intid() & V2_INTID | priority << V2_PRIORITY_SHIFT | state << V2_STATE_SHIFT | link
    }

    /// What a GICv2's list register holds.
    pub const fn from_v2(value: u32) -> Self {
        let link = if value & V2_HW != 0 {
            HW | ((value >> V2_PINTID_SHIFT & V2_INTID) as u64) << PINTID_SHIFT
        } else if value & V2_EOI != 0 {
            EOI
        } else {
            0
        };
        let priority = (value >> V2_PRIORITY_SHIFT & 0x1f) as u64 * 8;
        let state = (value >> V2_STATE_SHIFT & 3) as u64;
        Self((value & V2_INTID) as u64 | priority << PRIORITY_SHIFT | GROUP1 | state << STATE_SHIFT | link)
    }
}
