//! Xenolith, the binary.
#![no_std]
#![no_main]

extern crate alloc;

mod barrier;
mod console;
mod fault;
mod head;
mod heap;
mod mm;
mod percpu;
mod pl011;
mod platform;
mod smp;
mod sysreg;
mod vectors;

use dtoolkit::fdt::Fdt;
use log::info;
use xenolith_core::addr::MachineAddr;

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
    info!("{platform:x?}");
    panic!("nothing to run yet");
}
