//! The generic timer: counter, EL2's own deadline (CNTHP), and the guest's virtual timer (CNTV).

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2};
use tock_registers::interfaces::{Readable, Writeable};
use xenolith_core::vtimer::VTimer;

use crate::barrier;
use crate::sysreg::{read, write};

/// `CNT*_CTL`: the timer runs.
const ENABLE: u64 = 1;
/// `CNT*_CTL`: its interrupt is masked.
const IMASK: u64 = 2;

/// The counter, `CNTPCT_EL0`, in ticks; not read ahead of what comes before.
pub fn ticks() -> u64 {
    barrier::isb();
    read!("cntpct_el0")
}

/// Ticks a second.
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// EL2's timer interrupt comes when the counter reaches `deadline`; `None`: never. Each CPU has its own.
///
/// The interrupt is level-sensitive: it stays until the deadline is moved.
pub fn set_deadline(deadline: Option<u64>) {
    if let Some(deadline) = deadline {
        // SAFETY: the time of an interrupt.
        unsafe { write!("cnthp_cval_el2", deadline) };
    }
    CNTHP_CTL_EL2.set(if deadline.is_some() { ENABLE } else { 0 });
    barrier::isb();
}

/// Stores the virtual timer of the vCPU that ran, and stops it.
pub fn save_virtual(to: &mut VTimer) {
    to.control = CNTV_CTL_EL0.get();
    to.compare = CNTV_CVAL_EL0.get();
    CNTV_CTL_EL0.set(0);
    barrier::isb();
}

/// Loads the virtual timer of the vCPU that will run. `offset` (`CNTVOFF_EL2`) is the domain's.
pub fn load_virtual(from: &VTimer, offset: u64) {
    CNTVOFF_EL2.set(offset);
    CNTV_CVAL_EL0.set(from.compare);
    CNTV_CTL_EL0.set(from.control & (ENABLE | IMASK));
}

/// On the virtual timer's interrupt: masks it, as Xen does. The guest unmasks it by its next write to the control register.
pub fn mask_virtual() {
    CNTV_CTL_EL0.set(VTimer::mask_virtual(CNTV_CTL_EL0.get()));
    barrier::isb();
}

/// Stops all timers of this CPU. Once on every CPU.
pub fn init_cpu() {
    set_deadline(None);
    CNTV_CTL_EL0.set(0);
    // SAFETY: EL1's physical timer, which no guest has yet.
    unsafe { write!("cntp_ctl_el0", 0_u64) };
    barrier::isb();
}
