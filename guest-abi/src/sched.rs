//! `sched_op`: what a vCPU does when it has nothing to do, and shutdown. Source: xen/include/public/sched.h.

use crate::GuestHandle;

/// Give up the CPU.
pub const SCHEDOP_YIELD: u32 = 0;
/// Wait for an event.
pub const SCHEDOP_BLOCK: u32 = 1;
/// Shut the domain down: [`Shutdown`].
pub const SCHEDOP_SHUTDOWN: u32 = 2;
/// Wait for one of some ports: [`Poll`].
pub const SCHEDOP_POLL: u32 = 3;
/// Shut another domain down: [`RemoteShutdown`].
pub const SCHEDOP_REMOTE_SHUTDOWN: u32 = 4;
/// Say in advance why the domain will shut down: [`Shutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u32 = 5;
/// Set, poke or stop a watchdog: [`Watchdog`].
pub const SCHEDOP_WATCHDOG: u32 = 6;
/// Tie the vCPU to a CPU for a while: [`PinOverride`].
pub const SCHEDOP_PIN_OVERRIDE: u32 = 7;

/// Clean exit.
pub const SHUTDOWN_POWEROFF: u8 = 0;
/// Restart.
pub const SHUTDOWN_REBOOT: u8 = 1;
/// Save.
pub const SHUTDOWN_SUSPEND: u8 = 2;
/// Crash.
pub const SHUTDOWN_CRASH: u8 = 3;
/// A watchdog expired.
pub const SHUTDOWN_WATCHDOG: u8 = 4;
/// Restart, keeping memory.
pub const SHUTDOWN_SOFT_RESET: u8 = 5;
/// The last reason.
pub const SHUTDOWN_MAX: u8 = 5;

wire! {
    /// `struct sched_shutdown`.
    Shutdown, 4 bytes {
        /// In: `SHUTDOWN_*`.
        0 => reason: u32,
    }
}
wire! {
    /// `struct sched_poll`.
    Poll, 24 bytes {
        /// In: array of `u32` port numbers.
        0 => ports: GuestHandle,
        /// In: how many; at most 128.
        8 => nr_ports: u32,
        #[doc(hidden)]
        12 => _pad: u32,
        /// In: until when, nanoseconds of system time; 0 for ever.
        16 => timeout: u64,
    }
}
wire! {
    /// `struct sched_remote_shutdown`.
    RemoteShutdown, 8 bytes {
        /// In: the domain.
        0 => domain_id: u16,
        #[doc(hidden)]
        2 => _pad: u16,
        /// In: `SHUTDOWN_*`.
        4 => reason: u32,
    }
}
wire! {
    /// `struct sched_watchdog`.
    Watchdog, 8 bytes {
        /// In: which one; 0 asks for a new one.
        0 => id: u32,
        /// In: seconds; 0 stops it.
        4 => timeout: u32,
    }
}
wire! {
    /// `struct sched_pin_override`.
    PinOverride, 4 bytes {
        /// In: the CPU; negative undoes.
        0 => pcpu: i32,
    }
}
