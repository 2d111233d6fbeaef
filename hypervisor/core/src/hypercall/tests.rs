//! The small hypercalls, each in a domain that may call it and in one that may not.

mod guest;
mod model;
mod preempted;
mod privileged;

use crate::domain::Domain;
use crate::testbed::Testbed;
use std::sync::Arc;
use std::vec::Vec;
use zerocopy::{Immutable, IntoBytes};

/// Where a call's structure is in the caller's first page.
const AT: u64 = 0x100;

/// Makes a call whose second argument is a structure.
fn call<T: IntoBytes + Immutable>(bed: &Testbed, domain: &Arc<Domain>, number: u64, cmd: u64, argument: T) -> i64 {
    bed.poke(domain, Testbed::va(0, AT), &[argument]);
    bed.hypercall(domain, number, [cmd, Testbed::va(0, AT), 0, 0, 0]).0
}

/// The C string that a call has written.
fn text(bed: &Testbed, domain: &Arc<Domain>) -> Vec<u8> {
    bed.peek::<u8>(domain, Testbed::va(0, AT), 64).into_iter().take_while(|byte| *byte != 0).collect()
}
