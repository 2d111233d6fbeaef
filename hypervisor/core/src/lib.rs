//! The logic of Xenolith: everything that is not a register access.
//!
//! No `unsafe`, no hardware, no globals. The edge below is one trait, [`machine::Machine`]; what runs above (the run loop of `el2`)
//! calls in with a guest's exit and gets back an outcome. See `hypervisor/README.md` for the layers and the lock order.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod aarch32;
pub mod addr;
mod atomic;
pub mod audit;
pub mod boot;
pub mod clock;
pub mod console;
pub mod context;
pub mod domain;
pub mod evtchn;
pub mod exit;
pub mod frames;
pub mod gnttab;
pub mod guest_memory;
pub mod hypercall;
pub mod hypervisor;
pub mod inject;
pub mod its;
pub mod lock;
pub mod machine;
pub mod mmio;
pub mod p2m;
pub mod passthrough;
pub mod policy;
mod preempt;
pub mod psci;
mod room;
pub mod runstate;
pub mod sched;
pub mod sysreg;
#[cfg(test)]
mod testbed;
pub mod trace;
pub mod txcopy;
pub mod vcpu;
pub mod vgic;
pub mod vpl011;
pub mod vtimer;
pub mod watchdog;
