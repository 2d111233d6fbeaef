//! GICv2: distributor and CPU interface.

use super::gic::{read32, write32};
use super::platform::{cpu_interface, distributor};

const GICD_CTLR: u64 = 0;
const GICD_ISENABLER: u64 = 0x100;
const GICD_ICENABLER: u64 = 0x180;
const GICD_SGIR: u64 = 0xf00;
const GICC_CTLR: u64 = 0;
const GICC_PMR: u64 = 0x4;
const GICC_BPR: u64 = 0x8;
const GICC_IAR: u64 = 0xc;
const GICC_EOIR: u64 = 0x10;

/// Makes this vCPU take interrupts; all are still disabled.
pub fn init_cpu(index: usize) {
    if index == 0 {
        write32(distributor() + GICD_CTLR, 1);
    }
    write32(cpu_interface() + GICC_PMR, 0xff);
    write32(cpu_interface() + GICC_BPR, 0);
    write32(cpu_interface() + GICC_CTLR, 1);
}

/// Enables or disables an SGI or PPI of this vCPU.
pub fn set_enabled(intid: u32, enabled: bool) {
    write32(distributor() + if enabled { GICD_ISENABLER } else { GICD_ICENABLER }, 1 << intid);
}

/// What a value of `ICC_SGI1R_EL1` asks for, by `GICD_SGIR`: only the first vCPUs can be named.
pub fn send_sgi(value: u64) {
    const AFFINITY: u64 = 0xff_00ff_00ff_0000;
    let all_but_self = value >> 40 & 1;
    let targets = if value & AFFINITY == 0 { value & 0xff } else { 0 };
    write32(distributor() + GICD_SGIR, (all_but_self << 24 | targets << 16 | value >> 24 & 0xf) as u32);
}

/// The interrupt to take, as the CPU interface names it; an SGI's sender is part of the name.
pub fn acknowledge() -> u32 {
    read32(cpu_interface() + GICC_IAR)
}

/// It has been handled.
pub fn complete(name: u32) {
    write32(cpu_interface() + GICC_EOIR, name);
}
