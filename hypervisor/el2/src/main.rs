//! Xenolith, the binary: what touches the hardware. All decisions are `xenolith_core`'s; here is the edge under it and the loop over it.
//!
//! | module | what |
//! |---|---|
//! | `head` | the `Image` header and the first instructions, up to Rust with MMU and caches on |
//! | [`efi`] | the same from UEFI firmware |
//! | [`boot`] | device tree → console, RAM, heap, interrupt controller: [`boot::Host`] |
//! | [`mm`] | the address space of EL2: `map_ram`, `map_device`, `direct`, `machine_address` |
//! | [`heap`] | the global allocator |
//! | [`vectors`] | `enter_guest(context) -> Stopped`; hypercalls served on the way |
//! | [`switch`] | the EL1 and floating point registers of a vCPU, saved and loaded |
//! | [`hyp`] | the control registers of EL2, stage 2 of the guest |
//! | [`translate`] | guest virtual addresses by the hardware: `Loaded` is the core's `Stage1` |
//! | [`timer`] | counter, EL2's deadline, the guest's virtual timer |
//! | [`gic`] | the physical interrupt controller; `gic::list_registers` the virtual one (`Hardware` is the core's `ListRegisters`) |
//! | [`gic_v2`], [`gic_v3`] | its versions |
//! | [`start`] | frame table, Dom0, all CPUs at work |
//! | [`run`] | the loop: pick a vCPU, enter it, apply what its exit asks for |
//! | [`smp`], [`percpu`] | secondary CPUs, what each has for itself |
//! | [`psci`], [`spin_table`] | the firmware, and CPUs without any |
//! | [`console`], [`uart`] | the logger, and the UARTs it can print on |
//! | [`machine_impl`] | `Arm64` is the core's `Machine` |
//! | [`fault`] | our own bugs: register dump, backtrace, all CPUs stopped |
//!
//! EL2 runs with interrupts masked all the time: an interrupt ends `enter_guest`, or the wait of an idle CPU, and is then asked for by
//! [`gic::acknowledge`]. Only this crate has `unsafe`, each block with its reason.
#![no_std]
#![no_main]

extern crate alloc;

mod barrier;
mod boot;
mod console;
mod efi;
mod fault;
mod gic;
mod gic_v2;
mod gic_v3;
mod head;
mod heap;
mod hyp;
mod machine_impl;
mod mm;
mod percpu;
mod psci;
mod run;
mod smp;
mod spin_table;
mod start;
mod switch;
mod sysreg;
mod timer;
mod translate;
mod uart;
mod vectors;

use xenolith_core::addr::MachineAddr;

/// Where `head` goes on the boot CPU: the device tree, where it is mapped and its machine address, the machine address of the image, and
/// whether the EFI stub left something.
extern "C" fn main(device_tree: u64, device_tree_at: MachineAddr, image: MachineAddr, handoff: u64) -> ! {
    mm::init(image);
    heap::init_early();
    start::keep_messages();
    let host = boot::start((device_tree, device_tree_at), efi::handoff(handoff));
    start::run(host)
}
