//! The architected timers, by registers.

use super::cpu::{frequency, read_sysreg, write_sysreg};

/// The physical counter.
pub fn physical_counter() -> u64 {
    read_sysreg!("cntpct_el0")
}

/// `CNTV_CTL_EL0`.
pub fn virtual_control() -> u64 {
    read_sysreg!("cntv_ctl_el0")
}

/// `CNTP_CTL_EL0`.
pub fn physical_control() -> u64 {
    read_sysreg!("cntp_ctl_el0")
}

/// Arms the virtual timer.
pub fn arm_virtual(microseconds: u64) {
    write_sysreg!("cntv_cval_el0", super::cpu::counter() + microseconds * frequency() / 1_000_000);
    write_sysreg!("cntv_ctl_el0", 1);
}

/// Arms the physical timer.
pub fn arm_physical(microseconds: u64) {
    write_sysreg!("cntp_cval_el0", physical_counter() + microseconds * frequency() / 1_000_000);
    write_sysreg!("cntp_ctl_el0", 1);
}

/// Sleeps until an interrupt comes, so many microseconds at most, and takes it.
pub fn doze(microseconds: u64) {
    super::gic::enable(guest_abi::arch_arm::GUEST_TIMER_VIRT_PPI);
    arm_virtual(microseconds);
    super::cpu::wait_for_interrupt();
    super::cpu::interrupts(true);
    super::cpu::interrupts(false);
    write_sysreg!("cntv_ctl_el0", 0);
}

/// Stops both.
pub fn stop() {
    write_sysreg!("cntv_ctl_el0", 0);
    write_sysreg!("cntp_ctl_el0", 0);
}
