//! The domain's own machine: the only place with `unsafe`.
//!
//! All of memory is mapped one to one (`head`), so an address is a pointer. What other domains and the hypervisor can change is never
//! under a Rust reference: it lies in a [`page::Page`] and is read and written by value.

pub mod console;
pub mod control;
pub mod cpu;
pub mod gic;
mod gic_v2;
mod head;
pub mod hypercall;
pub mod page;
pub mod peer;
pub mod platform;
pub mod probe;
pub mod smp;
pub mod timer;
pub mod user;
mod vectors;

use core::panic::PanicInfo;
use guest_abi::psci;

/// Powers the domain off by PSCI.
pub fn power_off() -> ! {
    console::flush();
    // xenconsoled reads the ring only while the domain lives: give it time to.
    console::drain();
    hypercall::firmware(psci::SYSTEM_OFF, [0; 3]);
    loop {
        cpu::wait_for_interrupt();
    }
}

/// The start of Rust, once per vCPU.
extern "C" fn start(cpu: u64, x0: u64) -> ! {
    if cpu != 0 {
        smp::serve(cpu as usize)
    }
    platform::init(x0);
    gic::init_cpu(0);
    if platform::role() == platform::Role::Peer {
        peer::serve()
    }
    console::init();
    crate::main()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::line(format_args!("FATAL {info}"));
    power_off()
}

/// An address that stage 1 does not map.
pub fn unmapped() -> u64 {
    head::UNMAPPED
}
