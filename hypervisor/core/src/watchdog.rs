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

/// When each watchdog of a domain bites.
#[derive(Clone, Copy, Default, Debug)]
pub struct Watchdog([Option<Nanos>; TIMERS]);

impl Hypervisor {
    /// `id` 0 and a timeout take a free watchdog and return its id, 1 or 2; a known id sets it anew, with timeout 0 lets it go.
    ///
    /// Errors: `-EINVAL` unknown id, `-ENOSPC` none is free, `-EEXIST` letting go of one that is not set.
    pub fn set_watchdog(&self, domain: &Domain, id: u32, timeout_seconds: u32) -> Answer {
        let bites = self.now() + Nanos::from(timeout_seconds) * 1_000_000_000;
        let answer = domain.watchdog.lock().set(id, (timeout_seconds != 0).then_some(bites));
        if answer.is_ok() && timeout_seconds != 0 {
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
            (None, None) => Err(Errno::EINVAL),
            (None, Some(_)) => {
                let free = self.0.iter().position(Option::is_none).ok_or(Errno::ENOSPC)?;
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
        assert_eq!(w.set(0, Some(5)), Err(Errno::ENOSPC));
        assert_eq!(w.set(3, Some(5)), Err(Errno::EINVAL));
        assert_eq!(w.set(2, Some(9)), Ok(0));
        assert_eq!(w.set(1, None), Ok(0));
        assert_eq!(w.set(1, None), Err(Errno::EINVAL));
        assert_eq!(w.set(0, None), Err(Errno::EINVAL));
        assert_eq!(w.set(0, Some(7)), Ok(1));
    }
}
