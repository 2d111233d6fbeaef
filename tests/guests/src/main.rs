//! Bare-metal EL1 domains that ask a hypervisor every question of Xen's ABI and print the answers.
//!
//! Each answer is a line `ABI <subject>.<operation> <answer>`; `cargo xtask test abi` compares those of Debian's Xen with those of
//! Xenolith. Only [`runtime`] touches the machine; a subject is one file of safe code and one line in [`subjects::ALL`] for a domain on
//! its own, in [`subjects::MISUSE`] for one that is started for that subject alone, or in [`pair::ALL`] for Dom0 and the domains of the same image that it builds.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[macro_use]
mod verdict;
mod pair;
#[expect(unsafe_code, reason = "the domain's own machine: registers, page tables, vectors, raw memory")]
mod runtime;
mod subjects;

use runtime::platform::{Role, role};

/// The domain, on its boot CPU with MMU and caches on. Powers off at the end, whatever happened.
fn main() -> ! {
    if role() == Role::Dom0 {
        pair::books::warm_up();
        let mut session = verdict::Session::new(&pair::books::Watch);
        pair::ALL.iter().for_each(|subject| session.run(subject.name, subject.run));
        pair::races::arena::run(&mut session);
        session.end();
    } else if subjects::MISUSE.iter().any(|subject| runtime::platform::is_asked_for(subject.name)) {
        verdict::run(subjects::MISUSE, runtime::platform::is_asked_for, &verdict::Nothing);
    } else {
        verdict::run(subjects::ALL, |_| true, &verdict::Nothing);
    }
    runtime::power_off()
}
