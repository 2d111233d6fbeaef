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

    /// System time of a counter value.
    pub fn nanos(&self, ticks: u64) -> Nanos {
        let ticks = ticks.saturating_sub(self.boot);
        // Frequencies are below 2^32, so the second product does not overflow.
        (ticks / self.frequency).saturating_mul(SECOND) + ticks % self.frequency * SECOND / self.frequency
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
