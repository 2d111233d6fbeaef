//! The virtual interface as EL2 sees it (GICH). The core's list registers have the format of GICv3: they are translated on the way.

use tock_registers::interfaces::{Readable, Writeable};
use xenolith_core::vgic::GicCpuContext;
use xenolith_core::vgic::list_register::{ListRegister, MAX_LIST_REGISTERS};

use super::gic;
use super::registers::VirtualInterface;

/// How many list registers a CPU has, `GICH_VTR.ListRegs` + 1, as far as they are used.
pub(super) fn existing(gich: &VirtualInterface) -> usize {
    ((gich.vtr.get() & 0x3f) as usize + 1).min(MAX_LIST_REGISTERS)
}

/// How many list registers this CPU has.
pub fn count() -> usize {
    gic().list_registers
}

/// `GICH_ELRSR`: list registers that are empty.
pub fn elrsr() -> u64 {
    gic().virtual_.elrsr[0].get().into()
}

/// List register `n`, in the format of GICv3.
pub fn read_lr(n: usize) -> u64 {
    let gic = gic();
    if n < gic.list_registers { ListRegister::from_v2(gic.virtual_.lr[n].get()).0 } else { 0 }
}

/// Sets list register `n`.
pub fn write_lr(n: usize, value: u64) {
    let gic = gic();
    if n < gic.list_registers {
        gic.virtual_.lr[n].set(ListRegister(value).to_v2());
    }
}

/// Sets `GICH_HCR`, whose bits mean what those of `ICH_HCR_EL2` do.
pub fn set_hcr(value: u64) {
    gic().virtual_.hcr.set(value as u32);
}

/// Stores the virtual interface of the vCPU that ran, and switches it off. `used`: bit n, list register n may hold something.
pub fn save(to: &mut GicCpuContext, used: u32) {
    let gich = gic().virtual_;
    for (n, lr) in to.lrs.iter_mut().enumerate().filter(|(n, _)| used & 1 << n != 0) {
        *lr = read_lr(n);
        gich.lr[n].set(0);
    }
    to.vmcr = gich.vmcr.get().into();
    to.hcr = gich.hcr.get().into();
    to.ap0r[0] = gich.apr.get().into();
    gich.hcr.set(0);
}

/// Loads the virtual interface of the vCPU that will run. List registers not in `used` are empty on entry, and stay so.
pub fn load(from: &GicCpuContext, used: u32) {
    let gich = gic().virtual_;
    for (n, lr) in from.lrs.iter().enumerate().filter(|(n, _)| used & 1 << n != 0) {
        write_lr(n, *lr);
    }
    gich.vmcr.set(from.vmcr as u32);
    gich.apr.set(from.ap0r[0] as u32);
    gich.hcr.set(from.hcr as u32);
}

/// Empties this CPU's virtual interface, and switches it off.
pub(super) fn init_cpu() {
    let gich = gic().virtual_;
    gich.hcr.set(0);
    gich.vmcr.set(0);
    gich.lr[..count()].iter().for_each(|lr| lr.set(0));
    gich.apr.set(0);
}
