//! The timers of a vCPU.
//!
//! The virtual one (`CNTV`) is the hardware's while the vCPU is loaded; here is its state while it is not, and the deadline of the software
//! timer that stands in for it. The physical one (`CNTP`) always traps and lives here alone.
//!
//! Both interrupts are edge-like, as in Xen: the virtual timer's line stays high until the guest reprograms it, so when it fires `IMASK`
//! is set behind the guest's back ([`VTimer::mask_virtual`]); the guest's handler writes `CNTV_CTL` anyway and unmasks it.
//!
//! Times are ticks of the physical counter. Source: Arm ARM DDI 0487, D12; Xen 4.20's vtimer.

/// `CNTx_CTL.ENABLE`.
const ENABLE: u64 = 1 << 0;
/// `CNTx_CTL.IMASK`.
const IMASK: u64 = 1 << 1;
/// `CNTx_CTL.ISTATUS`.
const ISTATUS: u64 = 1 << 2;

/// `CNTKCTL_EL1.EL0PTEN`: programs may use the physical timer.
pub const CNTKCTL_EL0PTEN: u64 = 1 << 9;

/// A register of the physical timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerRegister {
    /// `CNTP_CTL_EL0`.
    Control,
    /// `CNTP_CVAL_EL0`.
    CompareValue,
    /// `CNTP_TVAL_EL0`.
    TimerValue,
}

/// Which timers fired.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fired {
    /// Raise the PPI of the virtual timer.
    pub virtual_timer: bool,
    /// Raise the PPI of the physical timer.
    pub physical_timer: bool,
}

/// The timers of a vCPU.
#[derive(Clone, Debug, Default)]
pub struct VTimer {
    /// `CNTV_CTL_EL0`, saved.
    pub control: u64,
    /// `CNTV_CVAL_EL0`, saved.
    pub compare: u64,
    physical: PhysicalTimer,
}

#[derive(Clone, Debug, Default)]
struct PhysicalTimer {
    control: u64,
    compare: u64,
    /// It fired since it was last programmed.
    fired: bool,
}

impl VTimer {
    /// When either timer of a vCPU that is not loaded fires. `offset` is its `CNTVOFF_EL2`.
    pub fn deadline(&self, offset: u64) -> Option<u64> {
        self.virtual_deadline(offset).into_iter().chain(self.physical_deadline()).min()
    }

    /// When the virtual timer fires; none if it is off or masked, or would only fire after the counter wraps.
    fn virtual_deadline(&self, offset: u64) -> Option<u64> {
        if self.control & (ENABLE | IMASK) == ENABLE { self.compare.checked_add(offset) } else { None }
    }

    /// When the physical timer fires: the deadline of a vCPU that is loaded.
    pub fn physical_deadline(&self) -> Option<u64> {
        let timer = &self.physical;
        (timer.control & (ENABLE | IMASK) == ENABLE && !timer.fired).then_some(timer.compare)
    }

    /// The time is `now`: which timers of a vCPU that is not loaded fire. They do not again until the guest programs them.
    pub fn expire(&mut self, now: u64, offset: u64) -> Fired {
        let virtual_timer = self.virtual_deadline(offset).is_some_and(|at| at <= now);
        if virtual_timer {
            self.control = Self::mask_virtual(self.control);
        }
        Fired { virtual_timer, physical_timer: self.expire_physical(now) }
    }

    /// The time is `now`: whether the physical timer fires. For a vCPU that is loaded.
    pub fn expire_physical(&mut self, now: u64) -> bool {
        let fires = self.physical_deadline().is_some_and(|at| at <= now);
        self.physical.fired |= fires;
        fires
    }

    /// The value for `CNTV_CTL_EL0` after its interrupt came in at EL2 and was raised for the guest: it stays quiet until the guest
    /// writes the register.
    pub const fn mask_virtual(control: u64) -> u64 {
        control | IMASK
    }

    /// Turns both timers off, as for a vCPU that starts.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The guest reads a register of the physical timer.
    pub fn read(&self, register: TimerRegister, now: u64) -> u64 {
        let timer = &self.physical;
        match register {
            TimerRegister::Control if timer.control & ENABLE != 0 && timer.compare <= now => timer.control | ISTATUS,
            TimerRegister::Control => timer.control,
            TimerRegister::CompareValue => timer.compare,
            TimerRegister::TimerValue => timer.compare.wrapping_sub(now) & 0xffff_ffff,
        }
    }

    /// The guest writes a register of the physical timer. Afterwards [`Self::expire_physical`] and [`Self::physical_deadline`] tell what
    /// became of it.
    pub fn write(&mut self, register: TimerRegister, now: u64, value: u64) {
        let timer = &mut self.physical;
        timer.fired = false;
        match register {
            TimerRegister::Control => timer.control = value & (ENABLE | IMASK),
            TimerRegister::CompareValue => timer.compare = value,
            // Signed 32 bits from now.
            TimerRegister::TimerValue => timer.compare = now.wrapping_add_signed(i64::from(value as u32 as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimerRegister::*;

    #[test]
    fn the_virtual_timer_fires_once_until_it_is_written() {
        let mut timer = VTimer { control: ENABLE, compare: 100, ..Default::default() };
        assert_eq!(timer.deadline(50), Some(150));
        assert_eq!(timer.expire(149, 50), Fired::default());
        assert_eq!(timer.expire(150, 50), Fired { virtual_timer: true, physical_timer: false });
        assert_eq!((timer.deadline(50), timer.control), (None, ENABLE | IMASK));
        assert_eq!(timer.expire(151, 50), Fired::default());
    }

    #[test]
    fn a_timer_off_masked_or_never_has_no_deadline() {
        for (control, compare) in [(0, 1), (ENABLE | IMASK, 1), (IMASK, 1), (ENABLE, u64::MAX)] {
            assert_eq!(VTimer { control, compare, ..Default::default() }.deadline(1), None);
        }
        assert_eq!(VTimer { control: ENABLE, compare: 0, ..Default::default() }.deadline(0), Some(0));
    }

    #[test]
    fn the_physical_timer_by_its_registers() {
        let mut timer = VTimer::default();
        timer.write(TimerValue, 1000, 500);
        assert_eq!((timer.read(CompareValue, 1000), timer.read(TimerValue, 1100), timer.physical_deadline()), (1500, 400, None));
        timer.write(Control, 1100, ENABLE | ISTATUS);
        assert_eq!((timer.read(Control, 1100), timer.physical_deadline()), (ENABLE, Some(1500)));
        assert!(!timer.expire_physical(1499) && timer.expire_physical(1500) && !timer.expire_physical(1501));
        assert_eq!((timer.read(Control, 1501), timer.physical_deadline()), (ENABLE | ISTATUS, None));
        assert_eq!(timer.read(TimerValue, 1501), 0xffff_ffff);
    }

    #[test]
    fn unmasking_an_expired_timer_fires() {
        let mut timer = VTimer::default();
        timer.write(Control, 0, ENABLE | IMASK);
        timer.write(CompareValue, 0, 10);
        assert!(!timer.expire_physical(20));
        assert_eq!(timer.read(Control, 20), ENABLE | IMASK | ISTATUS);
        timer.write(Control, 20, ENABLE);
        assert!(timer.expire_physical(20) && !timer.expire_physical(21));
    }

    #[test]
    fn a_negative_timer_value_is_in_the_past() {
        let mut timer = VTimer::default();
        timer.write(TimerValue, 1000, 0xffff_ffff);
        assert_eq!(timer.read(CompareValue, 1000), 999);
        timer.write(TimerValue, 0, 0xffff_ffff);
        timer.write(Control, 0, ENABLE);
        assert_eq!(timer.physical_deadline(), Some(u64::MAX), "before the counter began: never");
    }

    #[test]
    fn the_nearer_deadline_counts() {
        let mut timer = VTimer { control: ENABLE, compare: 100, ..Default::default() };
        timer.write(CompareValue, 0, 90);
        timer.write(Control, 0, ENABLE);
        assert_eq!((timer.deadline(0), timer.deadline(u64::MAX)), (Some(90), Some(90)));
        assert_eq!(timer.expire(100, 0), Fired { virtual_timer: true, physical_timer: true });
    }
}
