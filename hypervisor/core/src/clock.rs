//! System time: nanoseconds since the hypervisor booted, and the wall clock that Dom0 sets.

use crate::lock::Lock;
use crate::sched::Nanos;

/// Converts counter ticks into system time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot: u64,
    frequency: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Clock {
    /// A clock whose zero is the counter value `boot`; `frequency` in ticks per second, not 0.
    pub fn new(boot: u64, frequency: u64) -> Self {
        Self { boot, frequency: frequency.max(1) }
    }

    /// System time of a counter value, which may be any: guests set timers with it. `u64::MAX` if it is later than that.
    pub fn nanos(&self, ticks: u64) -> Nanos {
        let ticks = ticks.saturating_sub(self.boot);
        // Frequencies are below 2^32, so the second product does not overflow.
        (ticks / self.frequency).saturating_mul(SECOND).saturating_add(ticks % self.frequency * SECOND / self.frequency)
    }

    /// The counter value at which system time reaches `nanos`; rounded up.
    pub fn ticks(&self, nanos: Nanos) -> u64 {
        let ticks = (nanos / SECOND).saturating_mul(self.frequency).saturating_add((nanos % SECOND * self.frequency).div_ceil(SECOND));
        self.boot.saturating_add(ticks)
    }

    /// The counter value at boot.
    pub fn boot_ticks(&self) -> u64 {
        self.boot
    }
}

/// UTC at system time 0, as Dom0 last set it (`XENPF_settime64`); the epoch until then.
#[derive(Default)]
pub struct WallClock(Lock<(u64, u32)>);

impl WallClock {
    /// Seconds and nanoseconds of UTC at system time 0.
    pub fn at_boot(&self) -> (u64, u32) {
        *self.0.lock()
    }

    /// Sets UTC to `secs` and `nsecs` at `system_time`.
    pub fn set(&self, secs: u64, nsecs: u32, system_time: Nanos) {
        let then = u128::from(secs) * 1_000_000_000 + u128::from(nsecs);
        let at_boot = then.saturating_sub(u128::from(system_time));
        *self.0.lock() = ((at_boot / 1_000_000_000) as u64, (at_boot % 1_000_000_000) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_late() {
        for frequency in [1, 24_000_000, 62_500_000, 999_999_999, 1_000_000_000, u64::from(u32::MAX)] {
            let clock = Clock::new(5, frequency);
            for ticks in (0..64).flat_map(|bit| [u64::MAX << bit, u64::MAX >> bit, 1 << bit]) {
                assert!(clock.nanos(ticks) <= clock.nanos(u64::MAX), "{frequency} {ticks:#x}");
                assert!(clock.ticks(ticks) <= clock.ticks(u64::MAX), "{frequency} {ticks:#x}");
            }
        }
        assert_eq!(Clock::new(0, 62_500_000).nanos(u64::MAX), u64::MAX);
    }

    #[test]
    fn ticks_and_nanos_agree() {
        for frequency in [1, 24_000_000, 62_500_000, 1_000_000_000] {
            let clock = Clock::new(5, frequency);
            assert_eq!(clock.nanos(5), 0);
            for nanos in [0, 1, 999, 1_000_000_007, 86_400_000_000_000] {
                assert!(clock.nanos(clock.ticks(nanos)) >= nanos, "{frequency} {nanos}");
            }
        }
    }

    #[test]
    fn the_wall_clock_counts_from_boot() {
        let clock = WallClock::default();
        clock.set(1000, 5, 2_000_000_000);
        assert_eq!(clock.at_boot(), (998, 5));
        clock.set(1, 0, 2_000_000_000);
        assert_eq!(clock.at_boot(), (0, 0));
    }
}
