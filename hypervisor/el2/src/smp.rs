//! Secondary CPUs.

use crate::percpu::PerCpu;

/// Where `head` goes on a secondary CPU.
pub extern "C" fn secondary_main(_cpu: &'static PerCpu) -> ! {
    crate::fault::halt()
}
