//! Addresses of the guest whose registers are loaded, translated by the hardware.

use core::arch::asm;

use xenolith_core::addr::{Gfn, GuestVa, Ipa, MachineAddr};
use xenolith_core::guest_memory::Stage1;
use xenolith_core::p2m::P2m;

use crate::barrier;
use crate::sysreg::{read, write};

/// Why there is no translation.
#[derive(PartialEq, Eq)]
enum NoAddress {
    /// Stage 2 has no entry, for the address or for a table on the way to it.
    Stage2Translation,
    /// Anything else.
    Other,
}

/// `PAR_EL1` of a translation that failed: bit 9 is stage 2, bits 6:1 the fault status.
fn no_address(par: u64) -> NoAddress {
    const TRANSLATION: u64 = 0b0001;
    if par & 1 << 9 != 0 && par >> 3 & 0xf == TRANSLATION { NoAddress::Stage2Translation } else { NoAddress::Other }
}

/// One address translation instruction; the guest's own PAR_EL1 is kept.
macro_rules! at {
    ($operation:literal, $va:expr) => {{
        let mine = read!("par_el1");
        // SAFETY: address translation touches no memory but tables; PAR_EL1 is put back.
        unsafe { asm!(concat!("at ", $operation, ", {}"), "isb", in(reg) $va, options(nostack, preserves_flags)) };
        let par = read!("par_el1");
        // SAFETY: the value that was there.
        unsafe { write!("par_el1", mine) };
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        if par & 1 == 0 { Ok(par & ADDRESS | $va & 0xfff) } else { Err(no_address(par)) }
    }};
}

/// The vCPU whose registers are loaded on this CPU, and its domain's stage 2.
pub struct Loaded<'a>(pub &'a P2m);

/// How often a translation is tried that finds a hole in stage 2.
const ATTEMPTS: u32 = 3;

impl Stage1 for Loaded<'_> {
    fn translate(&self, va: GuestVa, write: bool) -> Option<MachineAddr> {
        for _ in 0..ATTEMPTS {
            let address = if write { at!("s12e1w", va.0) } else { at!("s12e1r", va.0) };
            match address {
                Ok(address) => return Some(MachineAddr(address)),
                Err(NoAddress::Other) => return None,
                // Another CPU may be changing the entry, or one next to it (break before make): it holds the lock that this waits for.
                Err(NoAddress::Stage2Translation) => drop(self.0.lookup(Gfn(0))),
            }
        }
        None
    }
}

/// Translates through the stage 1 of the vCPU that is loaded, alone: where an abort without `HPFAR_EL2` happened.
pub fn translate_stage1(va: GuestVa, write: bool) -> Option<Ipa> {
    let address = if write { at!("s1e1w", va.0) } else { at!("s1e1r", va.0) };
    barrier::isb();
    address.ok().map(Ipa)
}
