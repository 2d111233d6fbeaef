//! The lock of the hypervisor: a fair spin lock.
//!
//! EL2 runs with interrupts masked, so no interrupt-saving form is needed. The order in which locks may be taken is written in
//! `hypervisor/README.md`.

/// A fair (ticket) spin lock: waiters get it in the order they came.
pub type Lock<T> = spin::Mutex<T>;
/// What holding a [`Lock`] looks like.
pub type Guard<'a, T> = spin::MutexGuard<'a, T>;
