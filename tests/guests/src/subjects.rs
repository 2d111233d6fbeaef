//! The subjects, one file each. To add one: its file, its `mod`, its line in [`ALL`].

mod events;
mod exhaust;
mod fifo;
mod firmware;
mod grant_races;
mod granter;
mod grants;
mod hvm;
mod interrupts;
mod memory;
mod misuse_calls;
mod misuse_copies;
mod misuse_events;
mod misuse_grants;
mod misuse_instructions;
mod misuse_interrupts;
mod misuse_memory;
mod misuse_registers;
mod misuse_tables;
mod misuse_unmaps;
mod misuse_user;
mod multicall;
mod numbers;
mod privileged;
mod race;
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

/// Each in a domain of its own, for what it does to the hypervisor might be felt by the next: this is where Xen itself has hung.
pub const MISUSE: &[Subject] = &[
    Subject { name: "misuse_grants", run: misuse_grants::run },
    Subject { name: "misuse_unmaps", run: misuse_unmaps::run },
    Subject { name: "misuse_copies", run: misuse_copies::run },
    Subject { name: "grant_races", run: grant_races::run },
    Subject { name: "misuse_events", run: misuse_events::run },
    Subject { name: "misuse_memory", run: misuse_memory::run },
    Subject { name: "misuse_calls", run: misuse_calls::run },
    Subject { name: "misuse_registers", run: misuse_registers::run },
    Subject { name: "misuse_instructions", run: misuse_instructions::run },
    Subject { name: "misuse_interrupts", run: misuse_interrupts::run },
    Subject { name: "misuse_user", run: misuse_user::run },
    Subject { name: "misuse_tables", run: misuse_tables::run },
    Subject { name: "exhaust", run: exhaust::run },
];
