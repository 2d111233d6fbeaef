//! Addresses of the guest whose registers are loaded, translated by the hardware.

use core::arch::asm;

use xenolith_core::addr::{GuestVa, Ipa, MachineAddr};
use xenolith_core::guest_memory::Stage1;

use crate::barrier;
use crate::sysreg::{read, write};

/// One address translation instruction; the guest's own PAR_EL1 is kept. `None` is a fault.
macro_rules! at {
    ($operation:literal, $va:expr) => {{
        let mine = read!("par_el1");
        // SAFETY: address translation touches no memory but tables; PAR_EL1 is put back.
        unsafe { asm!(concat!("at ", $operation, ", {}"), "isb", in(reg) $va, options(nostack, preserves_flags)) };
        let par = read!("par_el1");
        // SAFETY: the value that was there.
        unsafe { write!("par_el1", mine) };
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        (par & 1 == 0).then_some(par & ADDRESS | $va & 0xfff)
    }};
}

/// The vCPU whose registers are loaded on this CPU.
pub struct Loaded;

impl Stage1 for Loaded {
    fn translate(&self, va: GuestVa, write: bool) -> Option<MachineAddr> {
        let address = if write { at!("s12e1w", va.0) } else { at!("s12e1r", va.0) };
        address.map(MachineAddr)
    }
}

/// Translates through the stage 1 of the vCPU that is loaded, alone: where an abort without `HPFAR_EL2` happened.
pub fn translate_stage1(va: GuestVa, write: bool) -> Option<Ipa> {
    let address = if write { at!("s1e1w", va.0) } else { at!("s1e1r", va.0) };
    barrier::isb();
    address.map(Ipa)
}
