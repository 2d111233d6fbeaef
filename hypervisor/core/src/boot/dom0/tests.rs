use super::super::tests::{VIRT_V2, VIRT_V2_DOM0, VIRT_V3, VIRT_V3_DOM0, boot, boot_with, lines, region};
use crate::machine::Trigger;
use std::collections::BTreeSet;
use std::string::String;
use std::vec::Vec;

/// What may differ from one boot to the next: seeds, and the command line that the oracle was booted with. The ends of extended regions
/// differ by intention: Xen loses the last 2 MiB of each.
fn comparable(blob: &[u8]) -> Vec<String> {
    let volatile = ["/chosen rng-seed", "/chosen kaslr-seed", "/chosen bootargs", "/hypervisor reg"];
    lines(blob).into_iter().filter(|line| !volatile.iter().any(|prefix| line.starts_with(prefix))).collect()
}

fn same_tree(ours: &[u8], xens: &[u8]) {
    let (ours, xens) = (comparable(ours), comparable(xens));
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (ours.iter().collect(), xens.iter().collect());
    assert_eq!(a.difference(&b).collect::<Vec<_>>(), Vec::<&&String>::new(), "ours only");
    assert_eq!(b.difference(&a).collect::<Vec<_>>(), Vec::<&&String>::new(), "Xen's only");
    assert_eq!(ours.iter().zip(&xens).find(|(ours, xens)| ours != xens), None);
}

#[test]
fn dom0_sees_the_tree_that_xen_makes_on_gicv3() {
    same_tree(&boot(VIRT_V3).unwrap().tree, VIRT_V3_DOM0);
}

#[test]
fn dom0_sees_the_tree_that_xen_makes_on_gicv2() {
    same_tree(&boot(VIRT_V2).unwrap().tree, VIRT_V2_DOM0);
}

#[test]
fn memory_and_files_are_where_xen_puts_them() {
    let plan = boot(VIRT_V3).unwrap();
    assert_eq!(plan.banks, [region(0x8000_0000, 0xc000_0000)]);
    assert_eq!((plan.kernel.from, plan.kernel.to.0), (region(0x6000_0000, 0x62a1_cfc0), 0x8000_0000));
    let ramdisk = plan.ramdisk.unwrap();
    assert_eq!((ramdisk.from, ramdisk.to.0), (region(0x6800_0000, 0x6a3a_0a9a), 0x8820_0000));
    assert_eq!(plan.tree_at.0, 0x8800_0000);
    assert_eq!(plan.grant_window, region(0x4020_0000, 0x4024_0000));
    assert_eq!(plan.extended, [region(0x4040_0000, 0x8000_0000), region(0xc000_0000, 0x1_0000_0000)]);
    assert_eq!(plan.event_ppi, 16);
    assert_eq!(plan.warnings, Vec::<String>::new());
}

#[test]
fn dom0_gets_the_devices_but_not_the_gic_and_not_our_uart() {
    let plan = boot(VIRT_V3).unwrap();
    let mapped = |start, end| plan.mmio.iter().any(|mmio| mmio.intersection(region(start, end)) == Some(region(start, end)));
    let touched = |start, end| plan.mmio.iter().any(|mmio| mmio.overlaps(region(start, end)));
    for (start, end) in [
        (0xa00_0000, 0xa00_4000),          // virtio,mmio
        (0x901_0000, 0x901_1000),          // RTC
        (0x1000_0000, 0x3eff_0000),        // PCI memory
        (0x3eff_0000, 0x3f00_0000),        // PCI ports
        (0x40_1000_0000, 0x40_2000_0000),  // ECAM
        (0x80_0000_0000, 0x100_0000_0000), // PCI, 64 bits
        (0, 0x800_0000),                   // flash
    ] {
        assert!(mapped(start, end), "{start:#x}");
    }
    for (start, end) in [(0x800_0000, 0x900_0000), (0x900_0000, 0x900_1000), (0x4000_0000, 0x1_0000_0000)] {
        assert!(!touched(start, end), "{start:#x}");
    }
    assert!(plan.mmio.iter().all(|mmio| mmio.start().is_aligned(0x1000) && mmio.end().is_aligned(0x1000)));

    let intids: Vec<u32> = plan.interrupts.iter().map(|line| line.intid).collect();
    let expected: Vec<u32> = [34].into_iter().chain(35..40).chain(48..80).collect();
    assert_eq!(intids, expected);
    let trigger = |intid| plan.interrupts.iter().find(|line| line.intid == intid).map(|line| line.trigger);
    assert_eq!((trigger(48), trigger(35)), (Some(Trigger::Edge), Some(Trigger::Level)));
}

#[test]
fn dom0_gets_the_v2m_frame_of_a_gicv2() {
    let plan = boot(VIRT_V2).unwrap();
    assert!(plan.mmio.iter().any(|mmio| mmio.overlaps(region(0x802_0000, 0x802_1000))));
    assert!(!plan.mmio.iter().any(|mmio| mmio.overlaps(region(0x800_0000, 0x802_0000)) || mmio.overlaps(region(0x803_0000, 0x805_0000))));
    assert_eq!(plan.interrupts.iter().filter(|line| line.intid >= 80).count(), 64);
}

#[test]
fn dom0_gets_the_its_of_a_gicv3_but_not_its_registers() {
    let plan = boot_with(VIRT_V3, true).unwrap();
    assert!(!plan.mmio.iter().any(|mmio| mmio.overlaps(region(0x808_0000, 0x80a_0000))));
    let (with, without) = (lines(&plan.tree), lines(&boot(VIRT_V3).unwrap().tree));
    let added: Vec<_> = with.iter().filter(|line| !without.contains(line)).filter(|line| line.contains("its@")).collect();
    let its = |what| std::format!("/interrupt-controller/its@8080000{what}");
    for line in ["", " compatible", " msi-controller", " #msi-cells [00, 00, 00, 01]", " phandle", " reg"] {
        assert!(added.iter().any(|added| added.starts_with(&its(line))), "{line}: {added:?}");
    }
}

#[test]
fn vcpu_affinities_are_16_to_a_cluster() {
    assert_eq!([0, 15, 16, 127].map(super::vcpu_affinity), [0, 15, 0x100, 0x70f]);
}
