//! The architected timer (binding arm,armv8-timer).

use crate::boot::fdt::Node;
use crate::boot::{BootError, HostTree};

/// Interrupts of the architected timer: INTIDs, 16..32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Secure EL1 physical timer: not ours; its number is shown to Dom0.
    pub secure_physical: u32,
    /// EL1 physical timer (CNTP).
    pub physical: u32,
    /// EL1 virtual timer (CNTV).
    pub virtual_: u32,
    /// EL2 physical timer (CNTHP).
    pub hypervisor: u32,
    /// Ticks per second, for boards whose firmware does not program CNTFRQ_EL0.
    pub frequency: Option<u32>,
}

/// Compatibles of the system-register timer.
pub(in crate::boot) const TIMER: &[&str] = &["arm,armv8-timer", "arm,armv7-timer"];

pub(in crate::boot) fn timer_node<'t>(tree: &'t HostTree<'t>) -> Option<Node<'t>> {
    tree.nodes().find(|node| node.is_any_of(TIMER) && node.is_enabled())
}

pub(super) fn timer(tree: &HostTree<'_>) -> Result<Timer, BootError> {
    let node = timer_node(tree).ok_or(BootError::NoTimer)?;
    let gic = tree.gic_node().ok_or(BootError::NoGic)?;
    let interrupts = node.interrupts(gic)?;
    let [secure_physical, physical, virtual_, hypervisor, ..] = *interrupts else {
        return Err(node.bad("interrupts", "does not list the four timers (secure, physical, virtual, hypervisor)"));
    };
    if [secure_physical, physical, virtual_, hypervisor].iter().any(|line| !line.is_private()) {
        return Err(node.bad("interrupts", "names a line that is not a PPI"));
    }
    let frequency = node.u32("clock-frequency").filter(|&hertz| hertz != 0);
    Ok(Timer {
        secure_physical: secure_physical.intid,
        physical: physical.intid,
        virtual_: virtual_.intid,
        hypervisor: hypervisor.intid,
        frequency,
    })
}
