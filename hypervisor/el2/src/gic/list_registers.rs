//! The virtual CPU interface of this CPU, whichever version it is. List registers have the format of GICv3.

use xenolith_core::vgic::GicCpuContext;
use xenolith_core::vgic::list_register::ListRegisters;

use super::is_v2;
use crate::gic_v2::list_registers as v2;
use crate::gic_v3::list_registers as v3;

/// The list registers in the hardware of this CPU.
pub struct Hardware;

impl ListRegisters for Hardware {
    fn count(&self) -> usize {
        count()
    }

    fn empty(&self) -> u32 {
        (if is_v2() { v2::elrsr() } else { v3::elrsr() }) as u32
    }

    fn read(&self, n: usize) -> u64 {
        if is_v2() { v2::read_lr(n) } else { v3::read_lr(n) }
    }

    fn write(&mut self, n: usize, value: u64) {
        if is_v2() { v2::write_lr(n, value) } else { v3::write_lr(n, value) }
    }
}

/// How many list registers this CPU has.
pub fn count() -> usize {
    if is_v2() { v2::count() } else { v3::count() }
}

/// Stores the virtual interface of the vCPU that ran, and switches it off. `used` are the list registers that may hold something: bit n is
/// register n.
pub fn save(to: &mut GicCpuContext, used: u32) {
    if is_v2() { v2::save(to, used) } else { v3::save(to, used) }
}

/// Loads the virtual interface of the vCPU that will run. List registers not in `used` are empty on entry, and stay so.
pub fn load(from: &GicCpuContext, used: u32) {
    if is_v2() { v2::load(from, used) } else { v3::load(from, used) }
}

/// Switches the virtual interface on, and says which conditions raise the maintenance interrupt.
pub fn set_hcr(value: u64) {
    if is_v2() { v2::set_hcr(value) } else { v3::set_hcr(value) }
}
