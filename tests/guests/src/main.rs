//! A bare-metal EL1 domain that asks a hypervisor every question of Xen's ABI and prints the answers.
//!
//! Each answer is a line `ABI <subject>.<operation> <answer>`; `cargo xtask test abi` compares those of Debian's Xen with those of
//! Xenolith. Only [`runtime`] touches the machine; a subject is one file of safe code and one line in [`subjects::ALL`].

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[macro_use]
mod verdict;
#[expect(unsafe_code, reason = "the domain's own machine: registers, page tables, vectors, raw memory")]
mod runtime;
mod subjects;

/// The domain, on its boot CPU with MMU and caches on. Powers off at the end, whatever happened.
fn main() -> ! {
    runtime::gic::init_cpu(0);
    verdict::run(subjects::ALL);
    runtime::power_off()
}
