//! Domain watchdogs: a domain that does not pet its watchdog in time is shut down. Source: public/sched.h, `SCHEDOP_watchdog`.

use crate::domain::Domain;
use crate::hypercall::Answer;
use crate::hypervisor::Hypervisor;
use crate::sched::Nanos;
use core::sync::atomic::Ordering;
use guest_abi::errno::Errno;
use guest_abi::sched::SHUTDOWN_WATCHDOG;

/// Watchdogs of a domain.
const TIMERS: usize = 2;

/// `-ENOSPC` as Xen's Arm build returns it, through 32 bits without a sign.
const NO_SPACE: i64 = 0xffff_ffe4;

/// When each watchdog of a domain bites.
#[derive(Clone, Copy, Default, Debug)]
pub struct Watchdog([Option<Nanos>; TIMERS]);

impl Hypervisor {
    /// `id` 0 takes a free watchdog and returns its id, 1 or 2; a known id sets it anew, with timeout 0 lets it go. One taken with
    /// timeout 0 bites at once.
    ///
    /// Errors: `-EINVAL` unknown id or one that is not taken; [`NO_SPACE`] if none is free.
    pub fn set_watchdog(&self, domain: &Domain, id: u32, timeout_seconds: u32) -> Answer {
        let bites = self.now() + Nanos::from(timeout_seconds) * 1_000_000_000;
        let answer = domain.watchdog.lock().set(id, (id == 0 || timeout_seconds != 0).then_some(bites));
        if answer.is_ok() {
            self.next_bite.fetch_min(bites, Ordering::SeqCst);
        }
        answer
    }

    /// Shuts down the domains whose watchdog has bitten. Called when the time in `next_bite` has come.
    pub fn check_watchdogs(&self) {
        let now = self.now();
        let mut next = Nanos::MAX;
        self.next_bite.store(next, Ordering::SeqCst);
        self.domains.for_each(|domain| {
            let mut watchdog = domain.watchdog.lock();
            let bitten = watchdog.0.iter().flatten().any(|at| *at <= now);
            if bitten {
                *watchdog = Watchdog::default();
                drop(watchdog);
                log::warn!(target: crate::console::GUEST, "{:?}: watchdog timed out", domain.id);
                self.shutdown(domain, SHUTDOWN_WATCHDOG);
            } else {
                next = watchdog.0.iter().flatten().fold(next, |next, at| next.min(*at));
            }
        });
        self.next_bite.fetch_min(next, Ordering::SeqCst);
    }
}

impl Watchdog {
    fn set(&mut self, id: u32, bites: Option<Nanos>) -> Answer {
        if id as usize > TIMERS {
            return Err(Errno::EINVAL);
        }
        match (id.checked_sub(1), bites) {
            (None, _) => {
                let Some(free) = self.0.iter().position(Option::is_none) else { return Ok(NO_SPACE) };
                if let Some(slot) = self.0.get_mut(free) {
                    *slot = bites;
                }
                Ok(free as i64 + 1)
            }
            (Some(n), _) => {
                let slot = self.0.get_mut(n as usize).filter(|s| s.is_some()).ok_or(Errno::EINVAL)?;
                *slot = bites;
                Ok(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_out_set_and_let_go() {
        let mut w = Watchdog::default();
        assert_eq!(w.set(0, Some(5)), Ok(1));
        assert_eq!(w.set(0, Some(5)), Ok(2));
        assert_eq!(w.set(0, Some(5)), Ok(NO_SPACE));
        assert_eq!(w.set(3, Some(5)), Err(Errno::EINVAL));
        assert_eq!(w.set(2, Some(9)), Ok(0));
        assert_eq!(w.set(1, None), Ok(0));
        assert_eq!(w.set(1, None), Err(Errno::EINVAL));
        assert_eq!(w.set(0, Some(7)), Ok(1));
    }
}
