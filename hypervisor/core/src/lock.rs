//! The lock of the hypervisor: a fair spin lock.
//!
//! EL2 runs with interrupts masked, so no interrupt-saving form is needed. The order in which locks may be taken is written in
//! `hypervisor/README.md`; host tests hold it to one order (`ordered`). In models of memory order (`cargo xtask loom`) a thread that waits
//! must say so, so there it is the model's.

#[cfg(all(test, loom))]
pub(crate) use modelled::{Guard, Lock};

#[cfg(all(test, not(loom)))]
mod ordered;
#[cfg(all(test, not(loom)))]
pub(crate) use ordered::{Guard, Lock};

/// A fair (ticket) spin lock: waiters get it in the order they came.
#[cfg(not(test))]
pub type Lock<T> = spin::Mutex<T>;
/// What holding a [`Lock`] looks like.
#[cfg(not(test))]
pub type Guard<'a, T> = spin::MutexGuard<'a, T>;

#[cfg(all(test, loom))]
mod modelled {
    #[derive(Debug, Default)]
    pub struct Lock<T>(loom::sync::Mutex<T>);
    pub type Guard<'a, T> = loom::sync::MutexGuard<'a, T>;

    impl<T> Lock<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap()
        }

        pub fn try_lock(&self) -> Option<Guard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}
