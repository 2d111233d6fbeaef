//! The virtual CPU interface as EL2 sees it (`ICH_*`): the registers as numbers; their meaning is the core's vGIC's.

use xenolith_core::vgic::GicCpuContext;
use xenolith_core::vgic::list_register::MAX_LIST_REGISTERS;

use crate::barrier;
use crate::sysreg::{read, write};

/// How many list registers this CPU has, `ICH_VTR_EL2.ListRegs` + 1.
pub fn count() -> usize {
    (read!("ich_vtr_el2") & 0x1f) as usize + 1
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
        pub fn read_lr(n: usize) -> u64 {
            match n {
                n if n >= count() => 0,
                $($n => read!($lr),)*
                _ => 0,
            }
        }

        /// Sets `ICH_LR<n>_EL2`; takes effect by the next entry of the guest.
        pub fn write_lr(n: usize, value: u64) {
            // SAFETY: interrupts of the guest; those linked to hardware can deactivate a physical interrupt, no more.
            unsafe {
                match n {
                    n if n >= count() => {}
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

/// The numbers of the bits that are set.
fn bits(set: u32) -> impl Iterator<Item = usize> {
    let mut left = set & ((1 << MAX_LIST_REGISTERS) - 1);
    core::iter::from_fn(move || {
        let first = (left != 0).then(|| left.trailing_zeros() as usize)?;
        left &= left - 1;
        Some(first)
    })
}

/// Stores the virtual interface of the vCPU that ran, and switches it off. `used` are the list registers that may hold something: bit n is
/// register n.
pub fn save(to: &mut GicCpuContext, used: u32) {
    for n in bits(used) {
        to.lrs[n] = read_lr(n);
        write_lr(n, 0);
    }
    to.vmcr = read!("ich_vmcr_el2");
    to.hcr = read!("ich_hcr_el2");
    save_active_priorities(&mut to.ap0r, &mut to.ap1r);
    set_hcr(0);
}

/// Loads the virtual interface of the vCPU that will run. List registers not in `used` are empty on entry, and stay so.
pub fn load(from: &GicCpuContext, used: u32) {
    for n in bits(used) {
        write_lr(n, from.lrs[n]);
    }
    set_vmcr(from.vmcr);
    load_active_priorities(&from.ap0r, &from.ap1r);
    set_hcr(from.hcr);
}

/// Sets `ICH_HCR_EL2`: En, and which conditions raise the maintenance interrupt.
pub fn set_hcr(value: u64) {
    // SAFETY: interrupts of the guest.
    unsafe { write!("ich_hcr_el2", value) };
    barrier::isb();
}

/// Sets `ICH_VMCR_EL2`: the guest's priority mask, binary points, group enables, EOI mode.
pub fn set_vmcr(value: u64) {
    // SAFETY: interrupts of the guest.
    unsafe { write!("ich_vmcr_el2", value) };
}

/// `ICH_ELRSR_EL2`: list registers that are empty.
pub fn elrsr() -> u64 {
    read!("ich_elrsr_el2")
}

fn save_active_priorities(ap0r: &mut [u64; 4], ap1r: &mut [u64; 4]) {
    let registers = active_priority_registers();
    ap0r[0] = read!("ich_ap0r0_el2");
    ap1r[0] = read!("ich_ap1r0_el2");
    if registers > 1 {
        ap0r[1] = read!("ich_ap0r1_el2");
        ap1r[1] = read!("ich_ap1r1_el2");
    }
    if registers > 2 {
        ap0r[2] = read!("ich_ap0r2_el2");
        ap1r[2] = read!("ich_ap1r2_el2");
        ap0r[3] = read!("ich_ap0r3_el2");
        ap1r[3] = read!("ich_ap1r3_el2");
    }
}

fn load_active_priorities(ap0r: &[u64; 4], ap1r: &[u64; 4]) {
    let registers = active_priority_registers();
    // SAFETY: interrupts of the guest; only registers that this CPU has.
    unsafe {
        write!("ich_ap0r0_el2", ap0r[0]);
        write!("ich_ap1r0_el2", ap1r[0]);
        if registers > 1 {
            write!("ich_ap0r1_el2", ap0r[1]);
            write!("ich_ap1r1_el2", ap1r[1]);
        }
        if registers > 2 {
            write!("ich_ap0r2_el2", ap0r[2]);
            write!("ich_ap1r2_el2", ap1r[2]);
            write!("ich_ap0r3_el2", ap0r[3]);
            write!("ich_ap1r3_el2", ap1r[3]);
        }
    }
}

/// Empties this CPU's virtual interface, and switches it off.
pub(super) fn init_cpu() {
    set_hcr(0);
    set_vmcr(0);
    for n in 0..count() {
        write_lr(n, 0);
    }
    load_active_priorities(&[0; 4], &[0; 4]);
    barrier::isb();
}
