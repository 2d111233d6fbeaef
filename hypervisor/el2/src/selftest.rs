//! Proves the pieces of this crate on a machine: secondary CPUs, a guest of a few instructions on each, its exits, interrupts both ways, memory.
//!
//! Prints one line per check and a last line `selftest: N passed, M failed`. Built with `--features selftest`.

use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use log::info;
use xenolith_core::addr::{CpuId, GuestVa, MachineAddr, Vmid};
use xenolith_core::context::{FpRegisters, VcpuContext};
use xenolith_core::exit::{RawExit, Vector};
use xenolith_core::guest_memory::Stage1;
use xenolith_core::machine::{Machine, Power};
use xenolith_core::vgic::{GicCpuContext, ListRegisters};
use xenolith_core::vtimer::VTimer;

use crate::boot::Host;
use crate::gic;
use crate::gic_v3::list_registers;
use crate::machine_impl::Arm64;
use crate::translate::{Loaded, translate_stage1};
use crate::vectors::{Stopped, enter_guest};
use crate::{barrier, heap, hyp, mm, percpu, switch, timer};

/// Where the guest's 2 MiB of RAM begin.
const GUEST_RAM: u64 = 0x4000_0000;
const MAINTENANCE: u32 = 25;
const HYP_TIMER: u32 = 26;
const VIRTUAL_TIMER: u32 = 27;

static PASSED: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);

// The guest: position independent, MMU off, at GUEST_RAM.
global_asm!(
    r#"
    .section .rodata.guest, "a"
    .balign 2048
    .arch_extension fp
guest_start:
    b       1f
    .balign 2048
    // Vectors of the guest: only the IRQ of the current level.
    .space  0x280
    mrs     x10, ICC_IAR1_EL1
    msr     ICC_EOIR1_EL1, x10
    hvc     #9
    eret
    .balign 2048
1:  hvc     #1
    wfi
    mov     x1, #0x1000
    movk    x1, #0x900, lsl #16
    ldr     w0, [x1]                // not mapped
    // Floating point kept over a switch
    mov     x2, #(3 << 20)
    msr     CPACR_EL1, x2
    isb
    fmov    d8, x0
    hvc     #2
    fmov    x3, d8
    hvc     #3
    // The virtual timer
    mov     x4, #1000
    msr     CNTV_TVAL_EL0, x4
    mov     x4, #1
    msr     CNTV_CTL_EL0, x4
2:  mrs     x4, CNTV_CTL_EL0
    tbz     x4, #1, 2b              // until EL2 has masked it
    hvc     #4
    // A virtual interrupt: EL2 makes 27 pending
    adr     x5, guest_start
    add     x5, x5, #0x800
    msr     VBAR_EL1, x5
    mov     x5, #0xf0
    msr     ICC_PMR_EL1, x5
    mov     x5, #1
    msr     ICC_IGRPEN1_EL1, x5
    isb
    hvc     #5
    msr     DAIFClr, #2
    isb
    hvc     #6
    // Until kicked
3:  b       3b
guest_end:
    .arch_extension nofp
    .text
"#
);

unsafe extern "C" {
    static guest_start: u8;
    static guest_end: u8;
}

fn check(what: &str, ok: bool) {
    let counter = if ok { &PASSED } else { &FAILED };
    counter.fetch_add(1, Ordering::Relaxed);
    info!("CPU{}: {what}: {}", percpu::cpu().0, if ok { "ok" } else { "FAILED" });
}

/// Runs all.
pub fn run(host: &Host) -> ! {
    let n = host.info.cpus.len();
    memory();
    check("stack of the boot CPU", stack_guarded());
    let online = host.start_secondaries(on_secondary);
    check("all CPUs online", usize::from(online) == n);
    guest();
    DONE.fetch_add(1, Ordering::Release);
    // The others sit in their guests' endless loop, or will soon.
    let deadline = timer::ticks() + 2 * timer::frequency();
    while DONE.load(Ordering::Acquire) < n as u32 && timer::ticks() < deadline {
        (1..online).for_each(|cpu| Arm64.kick(CpuId(cpu)));
        for _ in 0..10_000 {
            core::hint::spin_loop();
        }
    }
    check("all CPUs done", DONE.load(Ordering::Acquire) == n as u32);
    info!("selftest: {} passed, {} failed", PASSED.load(Ordering::Relaxed), FAILED.load(Ordering::Relaxed));
    Arm64.power(Power::Off)
}

fn on_secondary(_: CpuId) -> ! {
    guest();
    DONE.fetch_add(1, Ordering::Release);
    crate::fault::halt()
}

/// Zeroed memory of the heap, for good.
fn pages(bytes: usize) -> MachineAddr {
    mm::machine_address(heap::leak_zeroed(bytes, bytes))
}

fn stack_guarded() -> bool {
    let local = 0_u8;
    let at = (&raw const local) as u64;
    (mm::layout::IMAGE_BASE..mm::layout::IMAGE_BASE + mm::layout::IMAGE_LIMIT).contains(&at)
}

fn memory() {
    let page = pages(4096);
    let at = |offset: u64| MachineAddr(page.0 + offset);
    let mut ok = true;
    let pattern: Vec<u8> = (0..1024_u32).map(|i| (i * 7 + 3) as u8).collect();
    for len in [0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 200, 1000] {
        for offset in [0_u64, 1, 8, 13] {
            Arm64.zero(page, 4096);
            Arm64.write(at(offset), &pattern[..len]);
            let mut back = [0_u8; 1024];
            Arm64.read(at(offset), &mut back[..len + 1]);
            ok &= back[..len] == pattern[..len] && back[len] == 0;
            Arm64.copy(at(offset), at(offset + 5), len);
            Arm64.read(at(offset + 5), &mut back[..len]);
            ok &= back[..len] == pattern[..len];
            Arm64.copy(at(offset + 5), at(offset), len);
            Arm64.read(at(offset), &mut back[..len]);
            ok &= back[..len] == pattern[..len];
            Arm64.write(at(offset), &pattern[..len]);
            Arm64.zero(at(offset), len);
            Arm64.read(at(offset), &mut back[..len]);
            ok &= back[..len].iter().all(|b| *b == 0);
        }
    }
    check("copies", ok);
    Arm64.store_u32(page, 5);
    ok = Arm64.cas_u32(page, 4, 9) == Err(5) && Arm64.cas_u32(page, 5, 6) == Ok(5) && Arm64.or_u32(page, 9) == 6;
    ok &= Arm64.and_u32(page, 13) == 15 && Arm64.load_u32(page) == 13 && Arm64.swap_u8(page, 1) == 13 && Arm64.load_u32(page) == 1;
    Arm64.store_u64(page, 1 << 40);
    ok &= Arm64.or_u64(page, 3) == 1 << 40 && Arm64.and_u16(page, 2) == 3 && Arm64.load_u64(page) == 1 << 40 | 2;
    check("atomics", ok);
    Arm64.clean(page, 4096);
    Arm64.clean_invalidate(page, 100);
    Arm64.invalidate_icache();
}

/// A stage 2 that maps 2 MiB of RAM at [`GUEST_RAM`]; returns its root.
fn stage2(ram: MachineAddr) -> MachineAddr {
    const TABLE: u64 = 3;
    // Block, accessed, inner shareable, read and write, normal write-back.
    const BLOCK: u64 = 1 | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2;
    let bits = hyp::ipa_bits();
    let root = pages(4096 << if bits > 43 { 0 } else { bits.saturating_sub(39) });
    let mut level1 = root;
    if bits > 43 {
        level1 = pages(4096);
        Arm64.store_u64(root, level1.0 | TABLE);
    }
    let level2 = pages(4096);
    Arm64.store_u64(MachineAddr(level1.0 + 8 * (GUEST_RAM >> 30)), level2.0 | TABLE);
    Arm64.store_u64(level2, ram.0 | BLOCK);
    Arm64.sync_tables();
    root
}

/// The guest with every kind of exit.
fn guest() {
    let cpu = percpu::cpu();
    let vmid = Vmid(cpu.0 + 1);
    let ram = pages(2 << 20);
    let len = (&raw const guest_end) as usize - (&raw const guest_start) as usize;
    // SAFETY: the guest's code, in .rodata.
    Arm64.write(ram, unsafe { core::slice::from_raw_parts(&raw const guest_start, len) });
    Arm64.clean(ram, len);
    Arm64.invalidate_icache();
    hyp::set_stage2(stage2(ram), vmid);
    hyp::set_guest_control(true);
    let mut vcpu = VcpuContext::starting_at(GUEST_RAM, 0x1234);
    switch::load_system(&vcpu.sys);
    switch::load_fp(&vcpu.fp);
    timer::load_virtual(&VTimer::default(), timer::ticks());

    vcpu.x[30] = 0x5678;
    check("hvc", hvc(&mut vcpu) == Some(1) && vcpu.x[0] == 0x1234 && vcpu.x[30] == 0x5678);
    check("translate", Loaded.translate(GuestVa(GUEST_RAM + 5), true) == Some(MachineAddr(ram.0 + 5)));
    check("translate stage 1", translate_stage1(GuestVa(7), false).map(|ipa| ipa.0) == Some(7));
    check("translate unmapped", Loaded.translate(GuestVa(0x900_1000), false).is_none());

    check("wfi", class(exit(&mut vcpu)) == Some(0x01));
    vcpu.pc += 4;
    let abort = exit(&mut vcpu);
    check("data abort", class(abort) == Some(0x24) && abort.far == 0x900_1000 && abort.hpfar << 8 == 0x900_1000);
    vcpu.x[0] = 0xf00d_0000_0000 | u64::from(cpu.0);
    vcpu.pc += 4;

    let before_fp = hvc(&mut vcpu) == Some(2);
    let mut saved = FpRegisters::default();
    switch::save_fp(&mut saved);
    switch::load_fp(&FpRegisters::default());
    switch::save_system(&mut vcpu.sys);
    switch::load_system(&VcpuContext::default().sys);
    Arm64.flush_tlb(vmid);
    Arm64.flush_tlb(Vmid(200));
    switch::load_system(&vcpu.sys);
    switch::load_fp(&saved);
    check("floating point", before_fp && hvc(&mut vcpu) == Some(3) && vcpu.x[3] == vcpu.x[0] && saved.v[8] == u128::from(vcpu.x[0]));

    gic::set_ppi_enabled(VIRTUAL_TIMER, true);
    gic::set_ppi_enabled(HYP_TIMER, true);
    gic::set_ppi_enabled(MAINTENANCE, true);
    let intid = interrupt(&mut vcpu);
    timer::mask_virtual();
    finish(intid);
    check("virtual timer", intid == Some(VIRTUAL_TIMER));
    check("after the timer", hvc(&mut vcpu) == Some(4));

    // En; the guest's own group 1 enable is in its VMCR.
    list_registers::load(&GicCpuContext { hcr: 1, ..Default::default() }, 0);
    check("before a virtual interrupt", hvc(&mut vcpu) == Some(5));
    gic::list_registers::Hardware.write(0, 1 << 62 | 1 << 60 | 0xa0 << 48 | 27);
    check("virtual interrupt", hvc(&mut vcpu) == Some(9) && vcpu.x[10] == 27);
    check("list register empty", gic::list_registers::Hardware.empty() & 1 == 1 && gic::list_registers::Hardware.read(0) >> 62 == 0);
    check("after the interrupt", hvc(&mut vcpu) == Some(6));
    let mut context = GicCpuContext::default();
    list_registers::save(&mut context, 1);
    let off = list_registers::hcr() == 0;
    list_registers::load(&context, 1);
    let count = gic::list_registers::Hardware.count();
    check(
        "list registers",
        off && (1..=16).contains(&count) && list_registers::priority_bits() >= 5 && context.hcr == 1 && context.vmcr & 2 != 0,
    );

    timer::set_deadline(Some(timer::ticks() + timer::frequency() / 100));
    let intid = interrupt(&mut vcpu);
    timer::set_deadline(None);
    finish(intid);
    check("deadline", intid == Some(HYP_TIMER));

    if cpu != CpuId(0) {
        let exit = enter(&mut vcpu);
        let intid = gic::acknowledge();
        finish(intid);
        check("kick", exit.vector == Vector::Irq && intid == Some(gic::SGI_KICK));
    }
    list_registers::set_hcr(0);
    barrier::isb();
}

/// Runs the guest to its next exit.
fn enter(vcpu: &mut VcpuContext) -> RawExit {
    // SAFETY: the context is the caller's alone.
    match unsafe { enter_guest(vcpu, core::ptr::null_mut()) } {
        Stopped::Exit(exit) => exit,
        Stopped::Served(_) => unreachable!("nobody to serve it"),
    }
}

/// Runs the guest to its next interrupt that is not a kick, and acknowledges that.
fn interrupt(vcpu: &mut VcpuContext) -> Option<u32> {
    while enter(vcpu).vector == Vector::Irq {
        match gic::acknowledge() {
            Some(gic::SGI_KICK) => finish(Some(gic::SGI_KICK)),
            other => return other,
        }
    }
    None
}

fn finish(intid: Option<u32>) {
    if let Some(intid) = intid {
        gic::priority_drop(intid);
        gic::deactivate(intid);
    }
}

/// The exception class of a synchronous exit.
fn class(exit: RawExit) -> Option<u64> {
    (exit.vector == Vector::Synchronous).then_some(exit.esr >> 26)
}

/// Runs the guest to its next exit. A kick on the way does not count.
fn exit(vcpu: &mut VcpuContext) -> RawExit {
    loop {
        let exit = enter(vcpu);
        if exit.vector != Vector::Irq {
            return exit;
        }
        finish(gic::acknowledge());
    }
}

/// Runs the guest to its next exit: the immediate if that is an HVC.
fn hvc(vcpu: &mut VcpuContext) -> Option<u64> {
    let exit = exit(vcpu);
    let is_hvc = class(exit) == Some(0x16);
    if !is_hvc {
        info!("unexpected {exit:x?} at {:#x}", vcpu.pc);
    }
    is_hvc.then_some(exit.esr & 0xffff)
}
