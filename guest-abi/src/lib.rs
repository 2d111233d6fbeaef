//! What a guest and the hypervisor agree on: Xen 4.20's public ABI for Arm64, one module per header under `xen/include/public`.
//!
//! Only layouts and numbers, no behaviour. Every structure is plain bytes without implicit padding (`zerocopy`), so that it can be
//! read from and written to guest memory by value; sizes and offsets are checked at compile time, and against Xen's own headers by
//! `tests/layout.rs`.
//!
//! Constants keep Xen's names in capitals (`XENMEM_populate_physmap` is [`memory::XENMEM_POPULATE_PHYSMAP`]); structures drop the prefix
//! that their module already says (`evtchn_bind_virq` is [`event_channel::BindVirq`]). All numbers are little endian.

#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod wire;

pub mod arch_arm;
pub mod console;
pub mod domctl;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod io;
pub mod memory;
pub mod physdev;
pub mod platform;
pub mod psci;
pub mod sched;
pub mod shared_info;
pub mod smccc;
pub mod sysctl;
pub mod trace;
pub mod txcopy;
pub mod vcpu;
pub mod version;
pub mod xen;

/// A guest virtual address in a structure (`XEN_GUEST_HANDLE`): a claim to be translated with the caller's own tables. 0 is NULL.
pub type GuestHandle = u64;
