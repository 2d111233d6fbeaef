//! The lock of host tests: it sees to it that all tests together take locks in one order.
//!
//! Locks are told apart by the type of what they guard. If one is taken while another is held, and anywhere, in any test, the second while
//! the first is (or by way of others), two CPUs could wait for each other for ever: that is a failure, although here it goes well. Two
//! locks of one type are not looked at; `hypervisor/README.md` says in which order they are taken.

use crate::testbed::heap;
use core::any::type_name;
use core::ops::{Deref, DerefMut};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::vec::Vec;

/// Which was held when which was taken.
static ORDER: Mutex<BTreeSet<(&str, &str)>> = Mutex::new(BTreeSet::new());

std::thread_local! {
    /// What this thread holds. It has room from the beginning: see `testbed/heap.rs`.
    static HELD: RefCell<Vec<&'static str>> = RefCell::new(Vec::with_capacity(64));
}

/// As `spin::Mutex`.
#[derive(Debug, Default)]
pub struct Lock<T>(spin::Mutex<T>);

/// As `spin::MutexGuard`.
pub struct Guard<'a, T>(spin::MutexGuard<'a, T>);

impl<T> Lock<T> {
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        HELD.with_borrow(|held| held.iter().for_each(|held| note(held, type_name::<T>())));
        Guard::taken(self.0.lock())
    }

    /// Never waits, so its order is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.0.try_lock().map(Guard::taken)
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<'a, T> Guard<'a, T> {
    fn taken(guard: spin::MutexGuard<'a, T>) -> Self {
        HELD.with_borrow_mut(|held| held.push(type_name::<T>()));
        Self(guard)
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            let last = held.iter().rposition(|class| *class == type_name::<T>());
            held.remove(last.expect("what is given back was taken"));
        });
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// `second` is taken while `first` is held.
fn note(first: &'static str, second: &'static str) {
    if heap::is_limited() {
        return;
    }
    let mut order = ORDER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if first == second || !order.insert((first, second)) {
        return;
    }
    // What may be held when `first` is taken, and so on back.
    let (mut found, mut next) = (BTreeSet::from([first]), Vec::from([first]));
    while let Some(class) = next.pop() {
        next.extend(order.iter().filter(|(_, taken)| *taken == class).map(|(held, _)| *held).filter(|held| found.insert(held)));
    }
    assert!(!found.contains(second), "{second} is taken while {first} is held, elsewhere it is the other way round: {found:?}");
}

mod tests {
    use super::*;

    /// Types of its own, so that other tests do not see this order.
    struct Outer;
    struct Middle;
    struct Inner;

    #[test]
    fn a_ring_of_locks_is_found() {
        let (outer, middle, inner) = (Lock::new(Outer), Lock::new(Middle), Lock::new(Inner));
        drop((outer.lock(), middle.lock()));
        let held = middle.lock();
        drop((inner.lock(), held));
        let held = inner.lock();
        assert!(outer.try_lock().is_some(), "who does not wait may");
        assert!(std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(outer.lock()))).is_err());
        drop(held);
    }
}
