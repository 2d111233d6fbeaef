//! Where the redistributors of a GICv3 are, and what writing the registers of private interrupts does.

use super::bank::Bank;
use super::cpu::VcpuGic;
use crate::addr::Ipa;
use crate::machine::Machine;
use alloc::vec::Vec;

/// Bytes of one register frame.
pub(super) const FRAME: u64 = 0x1_0000;

/// Redistributors that lie one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedistributorRegion {
    /// The first one.
    pub base: Ipa,
    /// Bytes.
    pub size: u64,
}

/// The redistributors of a GICv3, two 64 KiB frames a vCPU, in the order of the vCPUs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redistributors {
    /// Where they are.
    pub regions: Vec<RedistributorRegion>,
    /// Bytes from one to the next, at least 0x2_0000.
    pub stride: u64,
    /// Width of interrupt numbers, `GICD_TYPER.IDbits + 1`.
    pub intid_bits: u32,
    /// Whether there are LPIs.
    pub has_lpis: bool,
}

impl Redistributors {
    /// The redistributor that holds `at`, and the offset in it.
    pub(super) fn find(&self, at: Ipa) -> Option<(u32, u64)> {
        let mut first = 0;
        for region in &self.regions {
            if let Some(offset) = at.0.checked_sub(region.base.0)
                && offset < region.size
            {
                return Some((first + u32::try_from(offset / self.stride).ok()?, offset % self.stride));
            }
            first += u32::try_from(region.size / self.stride).ok()?;
        }
        None
    }

    /// Whether the redistributor of `vcpu` is the last of its region, or of all `vcpus`: `GICR_TYPER.Last`.
    pub(super) fn is_last(&self, vcpu: u32, vcpus: u32) -> bool {
        let ends = self.regions.iter().scan(0, |end, region| {
            *end += region.size / self.stride;
            Some(*end)
        });
        vcpu + 1 == vcpus || ends.into_iter().any(|end| u64::from(vcpu) + 1 == end)
    }
}

/// Private interrupts: what a write to one of their registers does. Each returns whether the vCPU has to look.
impl VcpuGic {
    /// As after reset: SGIs are edge-triggered, everything is disabled.
    pub fn new() -> Self {
        let new = Self::default();
        new.state.lock().private = Bank { config: [0xaaaa_aaaa, 0], ..Bank::default() };
        new
    }

    pub fn enable(&self, bits: u32) -> bool {
        let mut state = self.state.lock();
        let bank = &mut state.private;
        let new = bits & !bank.enabled;
        bank.enabled |= new;
        self.look(new & bank.pending)
    }

    pub fn disable(&self, bits: u32) -> bool {
        let mut state = self.state.lock();
        let bank = &mut state.private;
        bank.enabled &= !bits;
        self.look(bits & bank.loaded)
    }

    pub fn clear_pending(&self, machine: &dyn Machine, bits: u32) -> bool {
        let mut state = self.state.lock();
        state.private.clear_pending(machine, bits, 0);
        self.look(bits & state.private.loaded)
    }

    fn look(&self, why: u32) -> bool {
        if why != 0 {
            self.mark(false);
        }
        why != 0
    }
}
