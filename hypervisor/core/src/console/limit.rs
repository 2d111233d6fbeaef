//! How often messages that a guest can cause are printed: a guest must not fill the log, nor keep a CPU busy with a slow UART.

/// Messages in a row before the limit bites; Xen's default.
const BURST: u64 = 10;
/// Milliseconds that earn one message; Xen's default.
const INTERVAL: u64 = 5_000;

/// A budget of messages that refills with time.
pub struct RateLimit {
    /// Milliseconds saved up.
    credit: u64,
    /// When it was last looked at, in milliseconds since boot.
    last: u64,
    suppressed: u32,
}

impl RateLimit {
    /// A full budget.
    pub const fn new() -> Self {
        Self { credit: BURST * INTERVAL, last: 0, suppressed: 0 }
    }

    /// Whether a message may be printed at `now`; if so, how many were suppressed since the last one.
    pub fn allow(&mut self, now: u64) -> Option<u32> {
        self.credit = self.credit.saturating_add(now.saturating_sub(self.last)).min(BURST * INTERVAL);
        self.last = now;
        match self.credit.checked_sub(INTERVAL) {
            Some(left) => {
                self.credit = left;
                Some(core::mem::take(&mut self.suppressed))
            }
            None => {
                self.suppressed = self.suppressed.saturating_add(1);
                None
            }
        }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_for_each_interval() {
        let mut limit = RateLimit::new();
        assert!((0..BURST).all(|_| limit.allow(0) == Some(0)));
        assert!((0..100).all(|ms| limit.allow(ms).is_none()));
        assert_eq!(limit.allow(INTERVAL), Some(100));
        assert_eq!(limit.allow(INTERVAL + 1), None);
        assert!((0..BURST).all(|_| limit.allow(u64::MAX).is_some()), "a long silence refills it");
        assert_eq!(limit.allow(u64::MAX), None);
    }
}
