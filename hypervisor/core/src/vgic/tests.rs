use super::*;
use crate::addr::Ipa;
use crate::machine::Trigger;
use crate::machine::fake::{Asked, FakeMachine};
use crate::mmio::Size;
use core::sync::atomic::Ordering;
use list_register::{ListRegister, any_pending};
use std::vec;

mod hardware;
mod lpi;
mod model;
mod v2;

const GICD: u64 = 0x0300_1000;
const GICR: u64 = 0x0302_0000;

fn guest(vcpus: u32, spis: u32) -> Vgic {
    Vgic::new(&VgicConfig::guest_v3(), vcpus, spis).unwrap()
}

impl Vgic {
    fn is_dirty(&self, vcpu: u32) -> bool {
        self.dirty(vcpu).unwrap().load(Ordering::SeqCst)
    }
}

fn machine() -> &'static FakeMachine {
    FakeMachine::leak(0, 0)
}

fn read(vgic: &Vgic, at: u64, size: Size) -> Result<u64, Abort> {
    vgic.read(0, Ipa(at), size).unwrap()
}

fn write(vgic: &Vgic, at: u64, value: u64) -> VcpuSet {
    vgic.write(machine(), 0, Ipa(at), Size::Word, value).unwrap().unwrap()
}

/// Second frame of the redistributor of a vCPU.
fn sgi_frame(vcpu: u64) -> u64 {
    GICR + vcpu * 0x2_0000 + 0x1_0000
}

#[test]
fn identification() {
    let vgic = guest(3, 40);
    for (at, value) in [
        (GICD, 0x10),                       // CTLR: ARE_NS
        (GICD + 0x4, 2 | 2 << 5 | 9 << 19), // TYPER: 64 SPIs, 3 CPUs, 10 bits
        (GICD + 0x8, 0x34c),                // IIDR
        (GICD + 0xffe8, 0x30),              // PIDR2
        (GICR + 0x4, 0x34c),                // GICR_IIDR
        (GICR + 0x14, 0),                   // WAKER
        (GICR + 0xc0, 1),                   // SYNCR
        (GICR + 0x2_ffe8, 0x30),            // PIDR2 of vCPU 1
        (sgi_frame(0) + 0xc00, 0),          // ICFGR0, as Xen
        (GICR + 0x40, 0xdead_beaf),         // SETLPIR
        (GICR + 0xb4, 0xdead_beaf),         // INVALLR
    ] {
        assert_eq!(read(&vgic, at, Size::Word), Ok(value), "{at:#x}");
    }
    assert_eq!(read(&vgic, GICR + 8, Size::Double), Ok(0));
    assert_eq!(read(&vgic, GICR + 0x2_0008, Size::Double), Ok(1 << 32 | 1 << 8));
    assert_eq!(read(&vgic, GICR + 0x4_0008, Size::Double), Ok(2 << 32 | 2 << 8 | 1 << 4), "Last");
    assert_eq!(read(&vgic, GICR + 0x4_000c, Size::Word), Ok(2), "upper half");
    assert_eq!(read(&guest(1, 0), GICD + 4, Size::Word), Ok(9 << 19));
    assert_eq!(read(&guest(128, 988), GICD + 4, Size::Word), Ok(31 | 7 << 5 | 9 << 19));
}

#[test]
fn control_keeps_one_bit() {
    let vgic = guest(1, 32);
    write(&vgic, GICD, 0xffff_ffff);
    assert_eq!(read(&vgic, GICD, Size::Word), Ok(0x12));
    write(&vgic, GICD, 0x1);
    assert_eq!(read(&vgic, GICD, Size::Word), Ok(0x10));
}

#[test]
fn every_offset_and_width_is_answered() {
    let (vgic, machine) = (guest(2, 64), machine());
    let (mut aborts, mut values) = (0, 0);
    for at in (GICD..GICD + 0x1_0000).chain(GICR..GICR + 0x8_0000) {
        for size in [Size::Byte, Size::Half, Size::Word, Size::Double] {
            match vgic.read(1, Ipa(at), size).unwrap() {
                Ok(value) => {
                    values += 1;
                    assert_eq!(value, size.truncate(value));
                }
                Err(Abort) => aborts += 1,
            }
            for value in [0, u64::MAX] {
                let _ = vgic.write(machine, 1, Ipa(at), size, value).unwrap();
            }
        }
    }
    assert!(aborts > 0 && values > 0);
    assert_eq!(vgic.read(0, Ipa(GICD - 1), Size::Byte), None);
    assert_eq!(vgic.read(0, Ipa(GICR + 0x0100_0000), Size::Word), None);
    assert_eq!(vgic.read(0, Ipa(GICR + 0x4_0000), Size::Word), Some(Err(Abort)), "a vCPU that does not exist");
}

#[test]
fn widths_are_those_of_xen() {
    use Size::*;
    let vgic = guest(1, 32);
    let ok = |at, size| (read(&vgic, at, size).is_ok(), vgic.write(machine(), 0, Ipa(at), size, 0).unwrap().is_ok());
    for (at, size, expected) in [
        (GICD, Byte, (false, false)),
        (GICD, Double, (false, false)),
        (GICD + 0x100, Word, (true, true)),
        (GICD + 0x100, Byte, (false, false)),
        (GICD + 0x200, Byte, (true, false)),
        (GICD + 0x300, Word, (true, false)),
        (GICD + 0x380, Word, (true, true)),
        (GICD + 0x380, Double, (true, false)),
        (GICD + 0x401, Byte, (true, true)),
        (GICD + 0x402, Half, (false, false)),
        (GICD + 0x800, Half, (true, true)),
        (GICD + 0xf10, Word, (true, false)),
        (GICD + 0x6100, Double, (true, true)),
        (GICD + 0x6100, Word, (true, true)),
        (GICD + 0x6104, Word, (true, true)),
        (GICD + 0x6100, Byte, (false, false)),
        (GICD + 0x6000, Byte, (true, true)),
        (GICD + 0xc000, Double, (true, true)),
        (GICR, Double, (false, false)),
        (GICR + 0x8, Word, (true, false)),
        (GICR + 0x8, Double, (true, false)),
        (GICR + 0x8, Byte, (false, true)),
        (GICR + 0x40, Double, (true, false)),
        (GICR + 0x40, Half, (true, true)),
        (GICR + 0x70, Byte, (false, true)),
        (GICR + 0x1_0300, Word, (true, false)),
        (GICR + 0x1_0380, Word, (true, true)),
        (GICR + 0x1_0c00, Byte, (false, true)),
        (GICD + 0x102, Word, (false, false)), // not aligned
    ] {
        assert_eq!(ok(at, size), expected, "{at:#x} {size:?}");
    }
}

#[test]
fn enable_priority_and_configuration_read_back() {
    let vgic = guest(2, 64);
    for base in [sgi_frame(1), GICD + 4, GICD + 8] {
        write(&vgic, base + 0x100, 0xf000_000f);
        write(&vgic, base + 0x180, 0x8000_0001);
        for register in [0x100, 0x180] {
            assert_eq!(read(&vgic, base + register, Size::Word), Ok(0x7000_000e), "{base:#x}");
        }
    }
    assert_eq!(read(&vgic, sgi_frame(0) + 0x100, Size::Word), Ok(0));
    assert_eq!(read(&vgic, GICD + 0x100, Size::Word), Ok(0), "bank 0 of the distributor is the caller's own");
    write(&vgic, GICD + 0x100, 1);
    assert_eq!(read(&vgic, sgi_frame(0) + 0x100, Size::Word), Ok(1));

    // INTID 34.
    vgic.write(machine(), 0, Ipa(GICD + 0x422), Size::Byte, 0xa8).unwrap().unwrap();
    assert_eq!(read(&vgic, GICD + 0x420, Size::Word), Ok(0xa8_0000));
    assert_eq!(read(&vgic, GICD + 0x422, Size::Byte), Ok(0xa8));
    write(&vgic, sgi_frame(1) + 0x41c, 0x0102_0304);
    assert_eq!(read(&vgic, sgi_frame(1) + 0x41f, Size::Byte), Ok(1));
    assert_eq!(read(&vgic, sgi_frame(0) + 0x41c, Size::Word), Ok(0));

    write(&vgic, GICD + 0xc08, 0x2);
    write(&vgic, GICD + 0xc0c, 0x8000_0000);
    write(&vgic, sgi_frame(0) + 0xc00, 0);
    write(&vgic, sgi_frame(0) + 0xc04, 0x8);
    assert_eq!(read(&vgic, GICD + 0xc08, Size::Word), Ok(0x2));
    assert_eq!(read(&vgic, GICD + 0xc0c, Size::Word), Ok(0x8000_0000));
    assert_eq!(read(&vgic, GICD + 0xc10, Size::Word), Ok(0));
    assert_eq!(read(&vgic, sgi_frame(0) + 0xc00, Size::Word), Ok(0));
    assert_eq!(read(&vgic, sgi_frame(0) + 0xc04, Size::Word), Ok(0x8));
}

#[test]
fn registers_of_interrupts_that_do_not_exist_are_zero() {
    let vgic = guest(1, 32);
    for (at, value) in
        [(GICD + 0x108, u64::MAX), (GICD + 0x17c, 1), (GICD + 0x440, 1), (GICD + 0xc10, 1), (GICD + 0x208, 1), (GICD + 0x288, 1)]
    {
        assert_eq!(write(&vgic, at, value & 0xffff_ffff), VcpuSet::EMPTY);
        assert_eq!(read(&vgic, at, Size::Word), Ok(0), "{at:#x}");
    }
    assert_eq!(read(&vgic, GICD + 0x7fd8, Size::Double), Ok(0));
    write(&vgic, GICD + 0x7fd8, 0);
    assert_eq!(vgic.raise_spi(64), VcpuSet::EMPTY);
    assert_eq!(vgic.raise_spi(u32::MAX), VcpuSet::EMPTY);
    assert_eq!(vgic.raise_physical_spi(64), Err(NotLinked));
    assert_eq!(vgic.raise_physical_spi(32), Err(NotLinked));
    assert!(!vgic.link_spi(31, true) && !vgic.link_spi(64, true));
    assert!(!vgic.raise(0, 32) && !vgic.raise(1, 5) && !vgic.raise(u32::MAX, 5));
}

#[test]
fn routes_name_existing_vcpus() {
    let vgic = guest(20, 32);
    let at = Ipa(GICD + 0x6100);
    let route = |value| {
        vgic.write(machine(), 0, at, Size::Double, value).unwrap().unwrap();
        vgic.read(0, at, Size::Double).unwrap().unwrap()
    };
    assert_eq!(route(0x103), 0x103);
    assert_eq!(route(0x104), 0x103, "vCPU 20 does not exist");
    assert_eq!(route(0xffff), 0x103);
    assert_eq!(route(1 << 31 | 5), 0, "any vCPU is vCPU 0");
    vgic.write(machine(), 0, at, Size::Word, 7).unwrap().unwrap();
    vgic.write(machine(), 0, Ipa(at.0 + 4), Size::Word, 0xff).unwrap().unwrap();
    assert_eq!(vgic.read(0, at, Size::Double).unwrap(), Ok(7));
}

#[test]
fn linked_interrupts_are_switched_on_the_hardware() {
    let vgic = guest(1, 64);
    let machine = machine();
    assert!(vgic.link_spi(33, true));
    let write = |at: u64, value| vgic.write(machine, 0, Ipa(GICD + at), Size::Word, value).unwrap().unwrap();
    write(0xc08, 0x8);
    write(0x104, 0x7);
    assert_eq!(machine.take_asked(), vec![Asked::SpiTrigger(33, Trigger::Edge), Asked::SpiEnabled(33, true)]);
    write(0x104, 0x7);
    assert_eq!(machine.take_asked(), vec![], "it is enabled already");
    write(0x184, 0xffff_ffff);
    write(0x184, 0xffff_ffff);
    assert_eq!(machine.take_asked(), vec![Asked::SpiEnabled(33, false)]);
    write(0x108, 0xffff_ffff);
    assert_eq!(machine.take_asked(), vec![]);
}

#[test]
fn software_generated_interrupts_go_where_they_are_sent() {
    let vgic = guest(20, 0);
    for vcpu in 0..20 {
        write(&vgic, sgi_frame(vcpu) + 0x100, 0xffff);
    }
    let targets = |from, value| vgic.send_sgi(from, value).iter().collect::<Vec<_>>();
    assert_eq!(targets(0, 5 << 24 | 0b1010), [1, 3]);
    assert_eq!(targets(0, 6 << 24 | 1 << 16 | 0xffff), [16, 17, 18, 19]);
    assert_eq!(targets(3, 7 << 24 | 1 << 40), (0..20).filter(|v| *v != 3).collect::<Vec<_>>());
    assert_eq!(targets(0, 8 << 24 | 2 << 16 | 0xffff), []);
    assert_eq!(targets(0, 8 << 24 | 0xff << 16 | 0xffff), []);
    assert_eq!(targets(0, 9 << 24), []);
    assert_eq!(targets(0, 10 << 24 | 1), [0], "itself");
    assert_eq!(targets(0, 10 << 24 | 1), [], "pending already");
    let single = guest(1, 0);
    assert_eq!(single.send_sgi(0, 1 << 40), VcpuSet::EMPTY);
}

#[test]
fn a_private_interrupt_takes_a_list_register() {
    let vgic = guest(1, 0);
    let mut context = GicCpuContext::default();
    assert!(!vgic.raise(0, 31), "not enabled");
    assert!(!vgic.has_deliverable(0) && !vgic.is_dirty(0));
    write(&vgic, sgi_frame(0) + 0x41c, 0xa000_0000);
    assert_eq!(write(&vgic, sgi_frame(0) + 0x100, 1 << 31), VcpuSet::of(0), "pending when enabled");
    assert!(vgic.has_deliverable(0) && vgic.is_dirty(0));
    assert_eq!(vgic.fill(machine(), 0, &mut context.list_registers(4)), Filled::default());
    // Group 1, pending, priority 0xa0, INTID 31.
    assert_eq!(context.lrs, [0x50a0_0000_0000_001f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(any_pending(&context.list_registers(4)));
    assert_eq!(vgic.used_list_registers(0), 1);
    assert!(!vgic.has_deliverable(0) && !vgic.is_dirty(0));
}

#[test]
fn an_interrupt_raised_while_active_is_active_and_pending() {
    let vgic = guest(1, 0);
    let mut context = GicCpuContext::default();
    write(&vgic, sgi_frame(0) + 0x100, 1 << 31);
    assert!(vgic.raise(0, 31));
    vgic.fill(machine(), 0, &mut context.list_registers(4));
    context.lrs[0] = 0x9000_0000_0000_001f;
    assert!(vgic.raise(0, 31));
    vgic.fill(machine(), 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[0], 0xd000_0000_0000_001f);
}

#[test]
fn a_linked_interrupt_names_the_physical_one() {
    let (vgic, machine) = (guest(1, 32), machine());
    let mut context = GicCpuContext::default();
    vgic.link_spi(40, true);
    vgic.write(machine, 0, Ipa(GICD + 0x104), Size::Word, 1 << 8).unwrap().unwrap();
    machine.take_asked();
    assert_eq!(vgic.raise_physical_spi(40), Ok(VcpuSet::of(0)));
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[0], 0x7000_0028_0000_0028);
    // Raised again by software while active: the link is given up, the device may signal again.
    context.lrs[0] = 0xb000_0028_0000_0028;
    assert_eq!(vgic.raise_spi(40), VcpuSet::of(0));
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[0], 0xd000_0000_0000_0028);
    assert_eq!(machine.take_asked(), vec![Asked::SpiDeactivate(40)]);
    // Which it does: delivered when the guest has completed the other two, announced by a maintenance interrupt.
    assert_eq!(vgic.raise_physical_spi(40), Ok(VcpuSet::of(0)));
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[0], 0x9000_0200_0000_0028);
    assert!(!vgic.has_deliverable(0), "it is active: WFI may block");
    context.lrs[0] = 0x1000_0200_0000_0028;
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[0], 0x7000_0028_0000_0028);
    assert_eq!(machine.take_asked(), vec![]);
}

#[test]
fn what_does_not_fit_waits_and_the_most_urgent_goes_first() {
    let (vgic, machine) = (guest(1, 0), machine());
    let mut context = GicCpuContext::default();
    write(&vgic, sgi_frame(0) + 0x100, 0xffff);
    (0..16).for_each(|n| assert!(vgic.write(machine, 0, Ipa(sgi_frame(0) + 0x400 + n), Size::Byte, 0xf0 - n * 8).unwrap().is_ok()));
    (0..6).for_each(|n| assert!(vgic.raise(0, n)));
    let held = |context: &GicCpuContext| context.lrs[..4].iter().map(|lr| ListRegister(*lr).intid()).collect::<Vec<_>>();
    assert!(vgic.fill(machine, 0, &mut context.list_registers(4)).underflow);
    assert_eq!(held(&context), [5, 4, 3, 2]);
    assert!(vgic.has_deliverable(0));
    assert!(vgic.raise(0, 15));
    assert!(vgic.fill(machine, 0, &mut context.list_registers(4)).underflow);
    assert_eq!(held(&context), [5, 4, 3, 15], "the least urgent makes room");
    context.lrs[..4].fill(0);
    assert!(!vgic.fill(machine, 0, &mut context.list_registers(4)).underflow);
    assert_eq!(held(&context), [2, 1, 0, 0]);
    assert!(!vgic.has_deliverable(0));
}

#[test]
fn an_interrupt_follows_its_route() {
    let (vgic, machine) = (guest(2, 32), machine());
    let (mut first, mut second) = (GicCpuContext::default(), GicCpuContext::default());
    write(&vgic, GICD + 0x104, 1);
    assert_eq!(vgic.raise_spi(32), VcpuSet::of(0));
    vgic.fill(machine, 0, &mut first.list_registers(4));
    assert_eq!(write(&vgic, GICD + 0x6100, 1), VcpuSet::of(0), "it is in a list register of vCPU 0");
    let filled = vgic.fill(machine, 0, &mut first.list_registers(4));
    assert_eq!((first.lrs[0], filled.notice), (0, VcpuSet::of(1)));
    vgic.fill(machine, 1, &mut second.list_registers(4));
    assert_eq!(ListRegister(second.lrs[0]).intid(), 32);
}

#[test]
fn a_vcpu_that_starts_has_no_interrupts_of_its_past() {
    let (vgic, machine) = (guest(2, 32), machine());
    let mut context = GicCpuContext::default();
    (32..36).for_each(|n| assert!(vgic.link_spi(n, true)));
    write(&vgic, sgi_frame(0) + 0x100, 1 << 31 | 1);
    write(&vgic, GICD + 0x104, 0xf);
    assert!(vgic.raise(0, 31) && vgic.raise(0, 0));
    assert!(vgic.raise_physical_spi(32).is_ok() && vgic.raise_physical_spi(33).is_ok());
    vgic.fill(machine, 0, &mut context.list_registers(4));
    // INTID 32 is active.
    context.lrs[2] = 0xb000_0020_0000_0020;
    assert_eq!(vgic.reset_vcpu(machine, 0, &mut context.list_registers(4)), VcpuSet::of(0));
    assert_eq!((context.lrs, vgic.used_list_registers(0)), ([0; 16], 0));
    assert_eq!(machine.take_asked(), vec![Asked::SpiDeactivate(32)]);
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[..2], [0x7000_0021_0000_0021, 0], "an SPI that was pending still is");
}

#[test]
fn clearing_pending_reaches_list_registers_and_the_hardware() {
    let (vgic, machine) = (guest(1, 32), machine());
    let mut context = GicCpuContext::default();
    (32..34).for_each(|n| assert!(vgic.link_spi(n, true)));
    write(&vgic, GICD + 0x104, 1);
    assert!(vgic.raise_physical_spi(32).is_ok() && vgic.raise_physical_spi(33).is_ok());
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(vgic.write(machine, 0, Ipa(GICD + 0x284), Size::Word, 3), Some(Ok(VcpuSet::of(0))));
    assert_eq!(machine.take_asked(), vec![Asked::SpiDeactivate(33)], "33 waited, disabled");
    vgic.fill(machine, 0, &mut context.list_registers(4));
    assert_eq!(context.lrs[0], 0);
    assert_eq!(machine.take_asked(), vec![Asked::SpiDeactivate(32)]);
}

#[test]
fn regions_of_redistributors_follow_each_other() {
    let regions = vec![
        RedistributorRegion { base: Ipa(0x0800_0000), size: 0x4_0000 },
        RedistributorRegion { base: Ipa(0x0a00_0000), size: 0x6_0000 },
    ];
    let vgic = Vgic::new(&VgicConfig::v3(Ipa(0x0700_0000), regions, None, 16), 4, 32).unwrap();
    let typer = |at| vgic.read(0, Ipa(at), Size::Double);
    assert_eq!(typer(0x0800_0008), Some(Ok(0)));
    assert_eq!(typer(0x0802_0008), Some(Ok(1 << 32 | 1 << 8 | 1 << 4)));
    assert_eq!(typer(0x0a00_0008), Some(Ok(2 << 32 | 2 << 8)));
    assert_eq!(typer(0x0a02_0008), Some(Ok(3 << 32 | 3 << 8 | 1 << 4)));
    assert_eq!(typer(0x0a04_0008), Some(Err(Abort)));
    assert_eq!(typer(0x0804_0008), None);
    assert_eq!(vgic.read(0, Ipa(0x0700_0004), Size::Word), Some(Ok(1 | 3 << 5 | 15 << 19)));
}
