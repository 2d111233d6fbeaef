//! Xenolith, the binary.
#![no_std]
#![no_main]

extern crate alloc;

mod barrier;
mod console;
mod fault;
mod gic_v3;
mod head;
mod heap;
mod hyp;
mod machine_impl;
mod mm;
mod percpu;
mod pl011;
mod platform;
mod psci;
#[cfg(feature = "selftest")]
mod selftest;
mod smp;
mod switch;
mod sysreg;
mod timer;
mod translate;
mod vectors;

use dtoolkit::fdt::Fdt;
use log::info;
use xenolith_core::addr::MachineAddr;

/// Bytes of the heap.
const HEAP_SIZE: u64 = 64 << 20;

/// Where `head` goes on the boot CPU: the device tree (virtual, 0 if none) and the machine address of the image.
extern "C" fn main(device_tree: u64, image: u64) -> ! {
    mm::init(image);
    heap::init_early();
    let Some(tree) = mm::device_tree(device_tree) else { fault::halt() };
    let Ok(fdt) = Fdt::new(tree) else { fault::halt() };
    let platform = platform::parse(fdt);
    if let Some((uart, _)) = platform.uart {
        // SAFETY: the device tree says that a PL011 is there, and no domain has it yet.
        unsafe { console::init_pl011(MachineAddr(uart)) };
    }
    info!("Xenolith at {image:#x}");
    for bank in &platform.ram {
        info!("RAM: {:#x}-{:#x}", bank.start, bank.end - 1);
        mm::map_ram(MachineAddr(bank.start), bank.end - bank.start);
    }
    let Some(heap) = platform.ram.last().map(|bank| bank.end - HEAP_SIZE) else { fault::halt() };
    // SAFETY: the end of the last bank, which nothing uses yet.
    unsafe { heap::claim(MachineAddr(heap), HEAP_SIZE) };
    let distributor = platform.distributor.clone().expect("a GICv3");
    // SAFETY: the device tree says so, and no domain has it.
    if let Err(why) = unsafe { gic_v3::init(distributor, &platform.redistributors) } {
        panic!("GIC: {why:?}");
    }
    if let Err(why) = smp::init_this_cpu() {
        panic!("GIC: {why:?}");
    }
    #[cfg(feature = "selftest")]
    selftest::run(&platform);
    #[cfg(not(feature = "selftest"))]
    panic!("nothing to run yet");
}
