//! The virtual CPU interface as EL2 sees it (`ICH_*`): the registers as numbers; their meaning is the vGIC's.

use crate::barrier;
use crate::sysreg::{read, write};

/// More than any CPU has.
pub const MAX: usize = 16;

/// How many list registers this CPU has, `ICH_VTR_EL2.ListRegs` + 1.
pub fn count() -> usize {
    (read!("ich_vtr_el2") & 0x1f) as usize + 1
}

/// Bits of priority that the virtual interface implements, `ICH_VTR_EL2.PRIbits` + 1.
pub fn priority_bits() -> u32 {
    (read!("ich_vtr_el2") >> 29 & 7) as u32 + 1
}

/// How many `ICH_AP0R<n>` (and `ICH_AP1R<n>`) there are: 1, 2 or 4.
fn active_priority_registers() -> usize {
    match read!("ich_vtr_el2") >> 26 & 7 {
        6 => 4,
        5 => 2,
        _ => 1,
    }
}

macro_rules! numbered {
    ($($n:literal $lr:literal),*) => {
        /// `ICH_LR<n>_EL2`.
        ///
        /// # Panics
        /// If this CPU has no such list register.
        pub fn read_lr(n: usize) -> u64 {
            assert!(n < count());
            match n {
                $($n => read!($lr),)*
                _ => 0,
            }
        }

        /// Sets `ICH_LR<n>_EL2`; takes effect by the next entry of the guest.
        ///
        /// # Panics
        /// If this CPU has no such list register.
        pub fn write_lr(n: usize, value: u64) {
            assert!(n < count());
            // SAFETY: interrupts of the guest; those linked to hardware can deactivate a physical interrupt, no more.
            unsafe {
                match n {
                    $($n => write!($lr, value),)*
                    _ => {}
                }
            }
        }
    };
}

numbered!(
    0 "ich_lr0_el2", 1 "ich_lr1_el2", 2 "ich_lr2_el2", 3 "ich_lr3_el2", 4 "ich_lr4_el2", 5 "ich_lr5_el2", 6 "ich_lr6_el2", 7 "ich_lr7_el2",
    8 "ich_lr8_el2", 9 "ich_lr9_el2", 10 "ich_lr10_el2", 11 "ich_lr11_el2", 12 "ich_lr12_el2", 13 "ich_lr13_el2", 14 "ich_lr14_el2",
    15 "ich_lr15_el2"
);

/// Stores the first `to.len()` list registers.
pub fn save(to: &mut [u64]) {
    to.iter_mut().enumerate().for_each(|(n, lr)| *lr = read_lr(n));
}

/// Loads list registers; those after `from` keep their values.
pub fn load(from: &[u64]) {
    from.iter().enumerate().for_each(|(n, lr)| write_lr(n, *lr));
}

/// `ICH_HCR_EL2`: En, and which conditions raise the maintenance interrupt.
pub fn hcr() -> u64 {
    read!("ich_hcr_el2")
}

/// Sets `ICH_HCR_EL2`.
pub fn set_hcr(value: u64) {
    // SAFETY: interrupts of the guest.
    unsafe { write!("ich_hcr_el2", value) };
    barrier::isb();
}

/// `ICH_VMCR_EL2`: the guest's priority mask, binary points, group enables, EOI mode.
pub fn vmcr() -> u64 {
    read!("ich_vmcr_el2")
}

/// Sets `ICH_VMCR_EL2`.
pub fn set_vmcr(value: u64) {
    // SAFETY: interrupts of the guest.
    unsafe { write!("ich_vmcr_el2", value) };
}

/// `ICH_MISR_EL2`: why the maintenance interrupt is raised.
pub fn misr() -> u64 {
    read!("ich_misr_el2")
}

/// `ICH_EISR_EL2`: list registers whose interrupt ended and asked for maintenance.
pub fn eisr() -> u64 {
    read!("ich_eisr_el2")
}

/// `ICH_ELRSR_EL2`: list registers that are empty.
pub fn elrsr() -> u64 {
    read!("ich_elrsr_el2")
}

/// The active priorities of a vCPU that does not run: `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ActivePriorities {
    /// Group 0.
    pub ap0r: [u32; 4],
    /// Group 1.
    pub ap1r: [u32; 4],
}

/// Stores the active priorities.
pub fn save_active_priorities() -> ActivePriorities {
    let mut saved = ActivePriorities::default();
    saved.ap0r[0] = read!("ich_ap0r0_el2") as u32;
    saved.ap1r[0] = read!("ich_ap1r0_el2") as u32;
    let registers = active_priority_registers();
    if registers > 1 {
        saved.ap0r[1] = read!("ich_ap0r1_el2") as u32;
        saved.ap1r[1] = read!("ich_ap1r1_el2") as u32;
    }
    if registers > 2 {
        saved.ap0r[2] = read!("ich_ap0r2_el2") as u32;
        saved.ap1r[2] = read!("ich_ap1r2_el2") as u32;
        saved.ap0r[3] = read!("ich_ap0r3_el2") as u32;
        saved.ap1r[3] = read!("ich_ap1r3_el2") as u32;
    }
    saved
}

/// Loads the active priorities.
pub fn load_active_priorities(from: &ActivePriorities) {
    let registers = active_priority_registers();
    // SAFETY: interrupts of the guest; only registers that this CPU has.
    unsafe {
        write!("ich_ap0r0_el2", u64::from(from.ap0r[0]));
        write!("ich_ap1r0_el2", u64::from(from.ap1r[0]));
        if registers > 1 {
            write!("ich_ap0r1_el2", u64::from(from.ap0r[1]));
            write!("ich_ap1r1_el2", u64::from(from.ap1r[1]));
        }
        if registers > 2 {
            write!("ich_ap0r2_el2", u64::from(from.ap0r[2]));
            write!("ich_ap1r2_el2", u64::from(from.ap1r[2]));
            write!("ich_ap0r3_el2", u64::from(from.ap0r[3]));
            write!("ich_ap1r3_el2", u64::from(from.ap1r[3]));
        }
    }
}

/// Empties this CPU's virtual interface, and switches it off.
pub(super) fn init_cpu() {
    set_hcr(0);
    set_vmcr(0);
    for n in 0..count().min(MAX) {
        write_lr(n, 0);
    }
    load_active_priorities(&ActivePriorities::default());
    barrier::isb();
}
