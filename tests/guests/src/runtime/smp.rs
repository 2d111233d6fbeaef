//! Other vCPUs: started by PSCI, they run what the boot CPU gives them.

use super::platform::{Role, role};
use super::{cpu, gic, hypercall, peer};
use core::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use guest_abi::psci;

/// A job of each vCPU: the address of a `fn()`; 0: none.
static JOBS: [AtomicUsize; cpu::MAX] = [const { AtomicUsize::new(0) }; cpu::MAX];
/// 1 once a vCPU serves.
static ONLINE: [AtomicUsize; cpu::MAX] = [const { AtomicUsize::new(0) }; cpu::MAX];

unsafe extern "C" {
    fn __secondary();
}

/// The entry of other vCPUs, for CPU_ON.
pub fn entry() -> u64 {
    __secondary as *const () as u64
}

/// Starts a vCPU; returns what PSCI says, after the vCPU is up.
pub fn start(index: usize) -> i64 {
    let result = hypercall::firmware(psci::CPU_ON_64, [index as u64, entry(), index as u64]);
    if result == psci::SUCCESS {
        cpu::wait_until(5_000_000, || ONLINE[index].load(Acquire) != 0);
    }
    result
}

/// Whether a vCPU is up.
pub fn is_online(index: usize) -> bool {
    ONLINE[index].load(Acquire) != 0
}

/// Gives a vCPU a job, without waiting for its end.
pub fn give(index: usize, job: fn()) {
    JOBS[index].store(job as *const () as usize, Release);
}

/// Whether a vCPU has done its job.
pub fn is_idle(index: usize) -> bool {
    JOBS[index].load(Acquire) == 0
}

/// The life of another vCPU: jobs, with interrupts taken in between.
pub(super) fn serve(index: usize) -> ! {
    gic::init_cpu(index);
    ONLINE[index].store(1, Release);
    loop {
        cpu::interrupts(true);
        cpu::interrupts(false);
        let job = JOBS[index].load(Acquire);
        if job != 0 {
            // SAFETY: only `give` stores other values than 0, and they are functions of this type.
            let job: fn() = unsafe { core::mem::transmute(job) };
            job();
            let _ = JOBS[index].fetch_update(AcqRel, Acquire, |_| Some(0));
        } else {
            match role() {
                Role::Peer => peer::poll(index),
                Role::Dom0 => peer::poll_dom0(index),
                Role::DomU => peer::yield_cpu(),
            }
        }
    }
}

/// Says that this vCPU is off, before it calls CPU_OFF.
pub fn offline() {
    ONLINE[cpu::index()].store(0, Release);
    JOBS[cpu::index()].store(0, Release);
}
