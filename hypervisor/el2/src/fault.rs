//! The end: our own bug. Registers, a backtrace, all other CPUs stopped, then reset or halt.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::console::PanicConsole;
use crate::mm::layout::*;
use crate::sysreg::read;
use crate::{gic, psci, timer};

/// The registers at a fault of EL2, as `vectors` stores them.
#[repr(C)]
pub struct Frame {
    x: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
}

const VECTORS: [&str; 4] = ["synchronous", "IRQ", "FIQ", "SError"];

/// Tells a fault of EL2. `vector` is the number of the entry in the table.
pub extern "C" fn report(frame: &Frame, vector: u32) -> ! {
    if let Some(mut out) = PanicConsole::take() {
        let kind = VECTORS[vector as usize % 4];
        let (esr, far, hpfar) = (read!("esr_el2"), read!("far_el2"), read!("hpfar_el2"));
        let cpu = crate::percpu::cpu().0;
        let _ = writeln!(out, "\n(XEN) *** Fault of the hypervisor on CPU{cpu}: {kind} exception, vector {vector}");
        let _ = writeln!(out, "(XEN) pc {:016x}  sp {:016x}  pstate {:08x}", frame.pc, frame.sp, frame.pstate);
        let _ = writeln!(out, "(XEN) esr {esr:08x}  far {far:016x}  hpfar {hpfar:016x}");
        for (i, pair) in frame.x.chunks(2).enumerate() {
            let second = pair.get(1).copied().unwrap_or(0);
            let _ = writeln!(out, "(XEN) x{:<2} {:016x}  x{:<2} {second:016x}", 2 * i, pair[0], 2 * i + 1);
        }
        backtrace(&mut out, frame.x[29]);
        restart(&mut out);
    }
    stop()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    if let Some(mut out) = PanicConsole::take() {
        let cpu = crate::percpu::cpu().0;
        let _ = writeln!(out, "\n(XEN) *** Panic on CPU{cpu}: {}", info.message());
        if let Some(at) = info.location() {
            let _ = writeln!(out, "(XEN) at {at}");
        }
        backtrace(&mut out, frame_pointer());
        restart(&mut out);
    }
    stop()
}

/// Whether the machine is reset after a bug of ours: unless `noreboot`.
static REBOOT: AtomicBool = AtomicBool::new(false);

/// From now on a bug of ours ends in a reset (or not), as the command line says.
pub fn set_reboot(reboot: bool) {
    REBOOT.store(reboot, Ordering::Relaxed);
}

/// Resets the machine after five seconds, if that is wanted.
fn restart(out: &mut PanicConsole) {
    const SECONDS: u64 = 5;
    if !REBOOT.load(Ordering::Relaxed) {
        let _ = writeln!(out, "(XEN) Halted.");
        return;
    }
    let _ = writeln!(out, "(XEN) Reboot in {SECONDS} seconds...");
    stop_others();
    let end = timer::ticks() + SECONDS * timer::frequency();
    while timer::ticks() < end {
        core::hint::spin_loop();
    }
    psci::system_reset();
}

/// Prints the return addresses of the frames from `x29` up. Stops at the first frame that is not on a stack of ours.
fn backtrace(out: &mut PanicConsole, mut x29: u64) {
    const FRAMES: usize = 32;
    let _ = writeln!(out, "(XEN) Backtrace (addresses as linked):");
    for _ in 0..FRAMES {
        let in_image = (IMAGE_BASE..IMAGE_BASE + IMAGE_LIMIT).contains(&x29);
        let in_stack = (STACK_BASE..STACK_BASE + (1 << 30)).contains(&x29);
        if !(in_image || in_stack) || !x29.is_multiple_of(16) {
            return;
        }
        let record: *const [u64; 2] = core::ptr::with_exposed_provenance(x29 as usize);
        // SAFETY: a frame record of AAPCS64 on a stack; were it none, the worst is a second fault, which `PanicConsole` ends silently.
        let [next, link] = unsafe { record.read_volatile() };
        let _ = writeln!(out, "(XEN)   {link:#x}");
        if next <= x29 {
            return;
        }
        x29 = next;
    }
}

fn frame_pointer() -> u64 {
    let x29;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) x29, options(nomem, nostack, preserves_flags)) };
    x29
}

/// Stops the other CPUs, then this one.
pub fn stop() -> ! {
    stop_others();
    halt()
}

fn stop_others() {
    if gic::is_ready() {
        gic::send_sgi_to_others(gic::SGI_STOP);
    }
}

/// This CPU does nothing any more.
pub fn halt() -> ! {
    loop {
        // SAFETY: waits; interrupts are masked.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}
