//! The interrupt controller, a GICv3 or a GICv2 (`gic_v2`), and a count of every interrupt taken.

use super::{cpu, gic_v2, platform};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use guest_abi::arch_arm::{GUEST_TIMER_PHYS_NS_PPI, GUEST_TIMER_VIRT_PPI};
pub use platform::redistributor;

/// Interrupts whose arrival is counted: SGIs, PPIs and the first SPIs.
const COUNTED: usize = 64;

static COUNTS: [[AtomicU32; COUNTED]; cpu::MAX] = [const { [const { AtomicU32::new(0) }; COUNTED] }; cpu::MAX];

const GICR_WAKER: u64 = 0x14;
const SGI_FRAME: u64 = 0x1_0000;
const GICR_IGROUPR0: u64 = SGI_FRAME + 0x80;
const GICR_ISENABLER0: u64 = SGI_FRAME + 0x100;
const GICR_ICENABLER0: u64 = SGI_FRAME + 0x180;

static IS_V2: AtomicBool = AtomicBool::new(false);

/// Whether it is a GICv2.
pub fn is_v2() -> bool {
    IS_V2.load(Relaxed)
}

/// Makes this vCPU take interrupts of group 1; all are still disabled.
pub fn init_cpu(index: usize) {
    // Without a GICv3 the CPU has no system registers for one (`ID_AA64PFR0_EL1.GIC`).
    IS_V2.store(cpu::read_sysreg!("id_aa64pfr0_el1") >> 24 & 0xf == 0, Relaxed);
    if is_v2() {
        return gic_v2::init_cpu(index);
    }
    if index == 0 {
        // GICD_CTLR: ARE, group 1.
        write32(platform::distributor(), 0x12);
    }
    let frame = redistributor(index);
    write32(frame + GICR_WAKER, 0);
    write32(frame + GICR_IGROUPR0, u32::MAX);
    cpu::write_sysreg!("icc_sre_el1", 7);
    cpu::write_sysreg!("icc_pmr_el1", 0xff);
    cpu::write_sysreg!("icc_bpr1_el1", 0);
    cpu::write_sysreg!("icc_ctlr_el1", 0);
    cpu::write_sysreg!("icc_igrpen1_el1", 1);
}

/// Enables an SGI or PPI of this vCPU.
pub fn enable(intid: u32) {
    if is_v2() {
        return gic_v2::set_enabled(intid, true);
    }
    write32(redistributor(cpu::index()) + GICR_ISENABLER0, 1 << intid);
}

/// Disables an SGI or PPI of this vCPU.
pub fn disable(intid: u32) {
    if is_v2() {
        return gic_v2::set_enabled(intid, false);
    }
    write32(redistributor(cpu::index()) + GICR_ICENABLER0, 1 << intid);
}

/// Gives all SGIs of this vCPU a priority.
pub fn set_priorities(priority: u32) {
    const IPRIORITYR: u64 = 0x400;
    let base = if is_v2() { platform::distributor() } else { redistributor(cpu::index()) + SGI_FRAME };
    (0..4).for_each(|word| write32(base + IPRIORITYR + word * 4, priority * 0x0101_0101));
}

/// How often a vCPU has taken an interrupt.
pub fn count(index: usize, intid: u32) -> u32 {
    COUNTS[index][intid as usize].load(Relaxed)
}

/// `ICC_SGI1R_EL1` with a raw value.
pub fn send_sgi(value: u64) {
    if is_v2() {
        return gic_v2::send_sgi(value);
    }
    cpu::write_sysreg!("icc_sgi1r_el1", value);
}

/// Takes one interrupt. Timers are masked at their source, for their level stays up.
pub(super) fn on_irq() {
    let name = if is_v2() { gic_v2::acknowledge().into() } else { cpu::read_sysreg!("icc_iar1_el1") };
    // With a GICv2's SGIs comes the number of their sender.
    let intid = if is_v2() { name & 0x3ff } else { name };
    if let Some(count) = COUNTS[cpu::index()].get(intid as usize) {
        count.fetch_add(1, Relaxed);
    }
    if intid == u64::from(GUEST_TIMER_VIRT_PPI) {
        cpu::write_sysreg!("cntv_ctl_el0", 3);
    }
    if intid == u64::from(GUEST_TIMER_PHYS_NS_PPI) {
        cpu::write_sysreg!("cntp_ctl_el0", 3);
    }
    if intid >= 1020 {
        return;
    }
    if is_v2() {
        gic_v2::complete(name as u32);
    } else {
        cpu::write_sysreg!("icc_eoir1_el1", name);
    }
}

/// Writes a word of the interrupt controller.
pub fn write32(address: u64, value: u32) {
    // SAFETY: Device memory of the interrupt controller, no Rust object.
    unsafe { asm!("str {:w}, [{}]", "dsb sy", in(reg) value, in(reg) address, options(nostack)) };
}

/// Reads a word of the interrupt controller.
pub fn read32(address: u64) -> u32 {
    let value;
    // SAFETY: Device memory of the interrupt controller, no Rust object.
    unsafe { asm!("ldr {:w}, [{}]", "dsb sy", out(reg) value, in(reg) address, options(nostack)) };
    value
}
