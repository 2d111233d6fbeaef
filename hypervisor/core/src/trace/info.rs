//! The description of the rings that tools map first. Source: public/trace.h, `struct t_info`.
//!
//! Two bytes that say how many pages a ring has; two for each CPU that there could be, where in words its list of frames begins (0: it has
//! none); then the lists, a word for each page.

use crate::addr::{MachineAddr, Mfn, PAGE_SIZE};
use crate::machine::Machine;
use alloc::vec::Vec;

/// CPUs that Debian's Xen could have. Its tools do not care, but an offset of 0 is read for each.
const CPUS: u32 = 128;
/// The first list, in words.
const FIRST: u32 = (2 + 2 * CPUS).div_ceil(4);
/// Pages of all rings together: what can be made and described without keeping a CPU for long. Xen's own limit is where offsets end.
pub const MAX_PAGES: u32 = 4096;

/// Pages of the description of `cpus` rings with `pages` pages each.
pub(super) fn pages(cpus: u32, pages: u32) -> u32 {
    (4 * (FIRST + cpus * pages)).div_ceil(PAGE_SIZE as u32)
}

/// Writes it.
pub(super) fn write(machine: &dyn Machine, to: MachineAddr, pages: u32, rings: &[Vec<Mfn>]) {
    machine.write(to, &(pages as u16).to_le_bytes());
    for (cpu, ring) in (0..).zip(rings) {
        let list = FIRST + cpu * pages;
        machine.write(MachineAddr(to.0 + 2 + 2 * u64::from(cpu)), &(list as u16).to_le_bytes());
        for (n, mfn) in (0..).zip(ring) {
            machine.write(MachineAddr(to.0 + 4 * u64::from(list + n)), &(mfn.0 as u32).to_le_bytes());
        }
    }
}
