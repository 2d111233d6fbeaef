//! Where a domain stands in its life: paused, shut down, dying.

use super::Domain;
use crate::hypervisor::Hypervisor;
use crate::machine::Power;
use crate::vcpu::{PAUSED, STOPPED};
use core::sync::atomic::Ordering;
use guest_abi::errno::Errno;
use guest_abi::sched as abi;

/// How far a domain's death has gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dying {
    /// It lives.
    Alive,
    /// `XEN_DOMCTL_destroydomain` has begun.
    Dying,
    /// All that could be given back is; it waits for pages that others hold.
    Dead,
}

/// Pauses, shutdown and death of a domain.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Pauses by the toolstack; it runs at 0.
    pub pauses: u32,
    /// Whether it shut down, and why (`SHUTDOWN_*`).
    pub shutdown: Option<u8>,
    /// The reason that SCHEDOP_shutdown_code announced for the next shutdown.
    pub shutdown_code: Option<u8>,
    /// Death.
    pub dying: Dying,
}

/// Pauses by the toolstack at most.
const MAX_PAUSES: u32 = 255;

impl Hypervisor {
    /// Pauses a domain; its vCPUs may run for a moment still, see [`Domain::is_running`].
    pub fn pause(&self, domain: &Domain) -> Result<(), Errno> {
        let mut life = domain.life.lock();
        if life.pauses >= MAX_PAUSES {
            return Err(Errno::EOVERFLOW);
        }
        life.pauses += 1;
        // Under the lock, so that an unpause cannot overtake.
        domain.vcpus().iter().for_each(|v| self.stop(v, PAUSED));
        Ok(())
    }

    /// Takes back one pause.
    pub fn unpause(&self, domain: &Domain) -> Result<(), Errno> {
        let mut life = domain.life.lock();
        life.pauses = life.pauses.checked_sub(1).ok_or(Errno::EINVAL)?;
        if life.pauses == 0 {
            domain.creation_finished.store(true, Ordering::SeqCst);
            domain.vcpus().iter().for_each(|v| self.start(v, PAUSED));
        }
        Ok(())
    }

    /// A domain stops for good, by its own wish or because it broke the contract: its vCPUs run no more, the toolstack is told.
    /// When the hardware domain stops, so does the machine.
    pub fn shutdown(&self, domain: &Domain, reason: u8) {
        if domain.privileged {
            self.stop_machine(reason);
        }
        {
            let mut life = domain.life.lock();
            if life.shutdown.is_some() {
                return;
            }
            life.shutdown = Some(life.shutdown_code.unwrap_or(reason));
            domain.vcpus().iter().for_each(|v| self.stop(v, STOPPED));
        }
        self.raise_global_virq(guest_abi::xen::VIRQ_DOM_EXC);
    }

    fn stop_machine(&self, reason: u8) -> ! {
        let (what, action) = match reason {
            abi::SHUTDOWN_POWEROFF => ("halted: halting machine", Power::Off),
            abi::SHUTDOWN_REBOOT => ("rebooted: resetting machine", Power::Reset),
            abi::SHUTDOWN_CRASH => ("crashed: resetting machine", Power::Reset),
            _ => ("shutdown: resetting machine", Power::Reset),
        };
        log::info!("Hardware Dom0 {what}");
        self.machine.power(if self.fixed.noreboot { Power::Off } else { action })
    }

    /// A domain that shut down to be suspended runs again.
    pub fn resume(&self, domain: &Domain) {
        let mut life = domain.life.lock();
        if life.shutdown.take().is_some() && life.dying == Dying::Alive {
            domain.vcpus().iter().for_each(|v| self.start(v, STOPPED));
        }
    }

    /// A guest broke the contract and cannot be told: it is stopped, alone.
    pub fn crash(&self, domain: &Domain, why: &str) {
        log::warn!(target: crate::console::GUEST, "{:?} crashed: {why}", domain.id);
        self.shutdown(domain, abi::SHUTDOWN_CRASH);
    }
}

impl Domain {
    /// Whether a vCPU still runs on some CPU.
    pub fn is_running(&self) -> bool {
        self.vcpus().iter().any(|v| v.running_on().is_some())
    }
}
