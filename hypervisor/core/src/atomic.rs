//! Atomics: the machine's, or those of a model that runs threads in every order and lets each load see every value that it may
//! (`cargo xtask loom`). What is lock-free takes them from here.

#[cfg(not(all(test, loom)))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, fence};
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, fence};
