//! GICv2: the distributor register by register, and list registers in the format of its hardware.

use super::*;
use crate::addr::MachineAddr;
use guest_abi::arch_arm::{GUEST_GICC_BASE, GUEST_GICC_SIZE, GUEST_GICD_BASE};

const HARDWARE: HardwareGic = HardwareGic { version: Version::V2, gicv: Some(MachineAddr(0x0804_0000)) };

fn guest(vcpus: u32, spis: u32) -> Vgic {
    Vgic::new(&HARDWARE.guest(Version::V2).unwrap(), vcpus, spis).unwrap()
}

fn load(vgic: &Vgic, vcpu: u32, offset: u64, size: Size) -> Result<u64, Abort> {
    vgic.read(vcpu, Ipa(GUEST_GICD_BASE + offset), size).unwrap()
}

fn store(vgic: &Vgic, vcpu: u32, offset: u64, size: Size, value: u64) -> Result<VcpuSet, Abort> {
    vgic.write(machine(), vcpu, Ipa(GUEST_GICD_BASE + offset), size, value).unwrap()
}

#[test]
fn the_hardware_decides_which_versions_guests_can_have() {
    let config = HARDWARE.guest(Version::V2).unwrap();
    let interface = CpuInterface { at: Ipa(GUEST_GICC_BASE), gicv: MachineAddr(0x0804_0000), size: GUEST_GICC_SIZE };
    assert_eq!((config.version(), config.interface), (Version::V2, Interface::V2(interface)));
    assert_eq!(HARDWARE.guest(Version::V3), None);
    let v3 = HardwareGic { version: Version::V3, gicv: None };
    assert_eq!(v3.guest(Version::V2), None);
    assert_eq!(v3.guest(Version::V3), Some(VgicConfig::guest_v3()));
    let compatible = HardwareGic { version: Version::V3, gicv: HARDWARE.gicv };
    assert!(compatible.guest(Version::V2).is_some() && compatible.guest(Version::V3).is_some());
}

#[test]
fn identification_and_control() {
    let vgic = guest(3, 40);
    for (offset, value) in [(0, 0), (4, 2 | 2 << 5), (8, 0x43b), (0xc00, 0), (0x80, 0), (0xf10, 0), (0xf00, 0xdead_beef)] {
        assert_eq!(load(&vgic, 0, offset, Size::Word), Ok(value), "{offset:#x}");
    }
    assert_eq!(load(&guest(8, 988), 0, 4, Size::Word), Ok(31 | 7 << 5));
    assert_eq!(store(&vgic, 0, 0, Size::Word, 0xffff_ffff), Ok(VcpuSet::EMPTY));
    assert_eq!(load(&vgic, 0, 0, Size::Word), Ok(1));
    assert_eq!(store(&vgic, 0, 0, Size::Word, 0xffff_fffe), Ok(VcpuSet::EMPTY));
    assert_eq!(load(&vgic, 0, 0, Size::Word), Ok(0));
}

#[test]
fn every_offset_and_width_is_answered() {
    let vgic = guest(2, 64);
    for offset in 0..0x1000 {
        for size in [Size::Byte, Size::Half, Size::Word, Size::Double] {
            if let Ok(value) = load(&vgic, 1, offset, size) {
                assert_eq!(value, size.truncate(value), "{offset:#x}");
            }
            for value in [0, u64::MAX] {
                let _ = store(&vgic, 1, offset, size, value);
            }
        }
    }
    for beyond in [GUEST_GICD_BASE - 1, GUEST_GICD_BASE + 0x1000, GUEST_GICC_BASE, GICR] {
        assert_eq!(vgic.read(0, Ipa(beyond), Size::Byte), None, "{beyond:#x}");
    }
}

#[test]
fn widths_are_those_of_xen() {
    use Size::*;
    let vgic = guest(1, 32);
    let ok = |offset, size| (load(&vgic, 0, offset, size).is_ok(), store(&vgic, 0, offset, size, 0).is_ok());
    for (offset, size, expected) in [
        (0x000, Word, (true, true)),
        (0x000, Byte, (false, false)),
        (0x00c, Word, (true, true)), // no register
        (0x100, Byte, (false, false)),
        (0x200, Byte, (true, false)),
        (0x300, Word, (true, true)),
        (0x300, Byte, (true, false)),
        (0x401, Byte, (true, true)),
        (0x402, Half, (false, false)),
        (0x800, Byte, (true, false)),
        (0x823, Byte, (true, true)),
        (0x822, Half, (false, false)),
        (0xf00, Word, (true, true)),
        (0xf00, Byte, (false, false)),
        (0xfe8, Word, (false, false)),
        (0xffc, Word, (true, false)),
        (0xf20, Word, (true, false)),
        (0x822, Word, (false, false)), // not aligned
    ] {
        assert_eq!(ok(offset, size), expected, "{offset:#x} {size:?}");
    }
}

#[test]
fn nothing_is_made_active_and_ppis_keep_their_trigger() {
    let vgic = guest(1, 32);
    assert_eq!(store(&vgic, 0, 0x304, Size::Word, 1), Err(Abort));
    assert_eq!(store(&vgic, 0, 0x384, Size::Word, 1), Ok(VcpuSet::EMPTY));
    for (offset, kept) in [(0xc00, 0), (0xc04, 0), (0xc08, 8), (0xc0c, 8), (0xc10, 0)] {
        assert_eq!(store(&vgic, 0, offset, Size::Word, 8), Ok(VcpuSet::EMPTY));
        assert_eq!(load(&vgic, 0, offset, Size::Word), Ok(kept), "{offset:#x}");
    }
}

#[test]
fn targets_are_masks_of_which_the_first_counts() {
    let vgic = guest(3, 64);
    assert_eq!(load(&vgic, 0, 0x800, Size::Word), Ok(0x0101_0101));
    assert_eq!(load(&vgic, 2, 0x81c, Size::Word), Ok(0x0404_0404), "private: the vCPU that asks");
    assert_eq!(load(&vgic, 2, 0x81d, Size::Byte), Ok(4));
    assert_eq!(store(&vgic, 0, 0x800, Size::Word, 0), Ok(VcpuSet::EMPTY));
    assert_eq!(load(&vgic, 0, 0x800, Size::Word), Ok(0x0101_0101));
    // Of SPIs 32 to 35: vCPU 1; 1 and 2; none that exists; none.
    assert_eq!(store(&vgic, 0, 0x820, Size::Word, 0x00f8_0602), Ok(VcpuSet::EMPTY));
    assert_eq!(load(&vgic, 0, 0x820, Size::Word), Ok(0x0101_0202));
    assert_eq!(store(&vgic, 0, 0x822, Size::Byte, 4), Ok(VcpuSet::EMPTY));
    assert_eq!(load(&vgic, 0, 0x820, Size::Word), Ok(0x0104_0202));
    assert_eq!(load(&vgic, 0, 0x822, Size::Byte), Ok(4));
    // SPIs that do not exist.
    assert_eq!(store(&vgic, 0, 0xb00, Size::Word, 0x0202_0202), Ok(VcpuSet::EMPTY));
    assert_eq!(load(&vgic, 0, 0xb00, Size::Word), Ok(0));
}

#[test]
fn an_spi_goes_to_its_target() {
    let vgic = guest(2, 32);
    store(&vgic, 0, 0x104, Size::Word, 1).unwrap();
    store(&vgic, 0, 0x820, Size::Byte, 2).unwrap();
    assert_eq!(vgic.raise_spi(32), VcpuSet::of(1));
    assert_eq!(store(&vgic, 0, 0x820, Size::Byte, 1), Ok(VcpuSet::of(0)));
}

#[test]
fn software_generated_interrupts_by_list_all_others_or_self() {
    let vgic = guest(3, 0);
    (0..3).for_each(|vcpu| assert!(store(&vgic, vcpu, 0x100, Size::Word, 0xffff).is_ok()));
    let send = |from, value| store(&vgic, from, 0xf00, Size::Word, value).map(|set| set.iter().collect::<Vec<_>>());
    assert_eq!(send(0, 0b110 << 16 | 5), Ok(vec![1, 2]));
    assert_eq!(send(0, 0b110 << 16 | 5), Ok(vec![]), "pending already");
    assert_eq!(send(2, 0b10 << 16 | 5), Ok(vec![]), "whoever sends it");
    assert_eq!(send(0, 0xf8 << 16 | 6), Ok(vec![]), "no such vCPU");
    assert_eq!(send(1, 1 << 24 | 0xff << 16 | 7), Ok(vec![0, 2]));
    assert_eq!(send(1, 2 << 24 | 8), Ok(vec![1]));
    assert_eq!(send(1, 3 << 24 | 9), Err(Abort));
    assert_eq!(send(1, 1 << 15 | 1 << 16 | 10), Ok(vec![0]), "NSATT does not matter");
}

#[test]
fn list_registers_translate() {
    for (v3, v2) in [
        (0x1000_0000_0000_0000_u64, 0_u32),
        // Pending, priority 0xa0, INTID 27.
        (0x50a0_0000_0000_001b, 0x1a00_001b),
        // Active and pending.
        (0xd0f8_0000_0000_0005, 0x3f80_0005),
        // Linked, active: INTID 40.
        (0xb0a0_0028_0000_0028, 0xaa00_a028),
        // A maintenance interrupt at its end.
        (0x90a0_0200_0000_0028, 0x2a08_0028),
    ] {
        assert_eq!(ListRegister(v3).to_v2(), v2, "{v3:#x}");
        assert_eq!(ListRegister::from_v2(v2).0, v3, "{v2:#x}");
    }
    // What hardware sets in the place of the link: the CPU that sent an SGI.
    assert_eq!(ListRegister::from_v2(0x1a00_1c05).0, 0x50a0_0000_0000_0005);
    assert_eq!(ListRegister(0x50a7_0000_0000_001b).to_v2(), 0x1a00_001b, "five bits of priority");
}
