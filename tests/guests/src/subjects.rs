//! The subjects, one file each. To add one: its file, its `mod`, its line in [`ALL`].

mod events;
mod fifo;
mod firmware;
mod grants;
mod hvm;
mod interrupts;
mod memory;
mod multicall;
mod numbers;
mod privileged;
mod registers;
mod sched;
mod vcpus;
mod version;
mod vgic;

use crate::verdict::Subject;

/// In the order in which they run. `fifo` comes after `events`, for there is no way back to the two-level ABI.
pub const ALL: &[Subject] = &[
    Subject { name: "version", run: version::run },
    Subject { name: "numbers", run: numbers::run },
    Subject { name: "multicall", run: multicall::run },
    Subject { name: "hvm", run: hvm::run },
    Subject { name: "privileged", run: privileged::run },
    Subject { name: "memory", run: memory::run },
    Subject { name: "grants", run: grants::run },
    Subject { name: "events", run: events::run },
    Subject { name: "sched", run: sched::run },
    Subject { name: "firmware", run: firmware::run },
    Subject { name: "interrupts", run: interrupts::run },
    Subject { name: "fifo", run: fifo::run },
    Subject { name: "vcpus", run: vcpus::run },
    Subject { name: "registers", run: registers::run },
    Subject { name: "vgic", run: vgic::run },
];
