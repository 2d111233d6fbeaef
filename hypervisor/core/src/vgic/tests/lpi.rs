//! LPIs: the registers that tell of them, and their way into list registers.

use super::*;

fn with_lpis(vcpus: u32) -> Vgic {
    Vgic::new(&VgicConfig::guest_v3().with_lpis(), vcpus, 32).unwrap()
}

/// Fills the list registers of `vcpu`: what is pending in them.
fn fill(vgic: &Vgic, vcpu: u32, context: &mut GicCpuContext) -> Vec<u32> {
    vgic.fill(machine(), vcpu, &mut context.list_registers(4));
    context.lrs.map(ListRegister).iter().filter(|lr| lr.is_pending()).map(|lr| lr.intid()).collect()
}

#[test]
fn registers_tell_of_them() {
    let vgic = with_lpis(2);
    assert_eq!(read(&vgic, GICD + 4, Size::Word), Ok(1 | 1 << 5 | 11 << 11 | 1 << 17 | 13 << 19));
    assert_eq!(read(&vgic, GICR + 8, Size::Double), Ok(1));
    assert_eq!(read(&vgic, GICR + 0x2_0008, Size::Double), Ok(1 << 32 | 1 << 8 | 1 << 4 | 1));
    assert_eq!(vgic.lpi_properties(), None);
    let double = |at, value| vgic.write(machine(), 0, Ipa(at), Size::Double, value).unwrap().unwrap();
    double(GICR + 0x70, u64::MAX);
    assert_eq!(read(&vgic, GICR + 0x70, Size::Double), Ok(0x070f_ffff_ffff_ff9f));
    double(GICR + 0x70, 0x8000_078d);
    write(&vgic, GICR + 0x74, 7);
    double(GICR + 0x2_0078, u64::MAX);
    assert_eq!(read(&vgic, GICR + 0x2_0070, Size::Double), Ok(7 << 32 | 0x8000_078d), "one for all vCPUs");
    assert_eq!(read(&vgic, GICR + 0x2_0078, Size::Double), Ok(0x070f_ffff_ffff_0f80), "PTZ reads as zero");
    assert_eq!((vgic.lpi_properties(), read(&vgic, GICR + 0x78, Size::Double)), (None, Ok(0)));
    write(&vgic, GICR + 0x2_0000, 1);
    assert_eq!((read(&vgic, GICR, Size::Word), read(&vgic, GICR + 0x2_0000, Size::Word)), (Ok(0), Ok(1)));
    assert_eq!(vgic.lpi_properties(), Some(Properties { at: Ipa(7 << 32 | 0x8000_0000), len: LPIS }));
    double(GICR + 0x70, 0);
    assert_eq!(read(&vgic, GICR + 0x70, Size::Double), Ok(7 << 32 | 0x8000_078d), "in use");
    let small = with_lpis(1);
    write(&small, GICR + 0x70, 0x8000_0000 | 11);
    write(&small, GICR, 1);
    assert_eq!(small.lpi_properties().unwrap().len, 0);
}

#[test]
fn who_has_none_sees_none() {
    let vgic = guest(1, 32);
    for at in [GICR, GICR + 0x70, GICR + 0x78] {
        write(&vgic, GICR, 1);
        assert_eq!(read(&vgic, at, Size::Word), Ok(0));
    }
    assert_eq!(vgic.raise_lpi(FIRST_LPI) | vgic.route_lpi(FIRST_LPI, 0), VcpuSet::EMPTY);
    assert_eq!(vgic.configure_lpi(machine(), FIRST_LPI, true, 0) | vgic.clear_lpi(machine(), FIRST_LPI), VcpuSet::EMPTY);
}

#[test]
fn other_numbers_are_no_lpis() {
    let vgic = with_lpis(1);
    for intid in [0, 31, 32, 1023, FIRST_LPI - 1, FIRST_LPI + LPIS, u32::MAX] {
        let set = vgic.route_lpi(intid, 0) | vgic.configure_lpi(machine(), intid, true, 0) | vgic.raise_lpi(intid);
        assert_eq!(set | vgic.clear_lpi(machine(), intid), VcpuSet::EMPTY, "{intid}");
    }
    assert_eq!(fill(&vgic, 0, &mut GicCpuContext::default()), []);
}

#[test]
fn all_come_once_and_the_most_urgent_first() {
    let (vgic, mut context) = (with_lpis(1), GicCpuContext::default());
    let all: Vec<u32> = (0..30).map(|n| FIRST_LPI + n * 137).collect();
    for (n, intid) in (0..).zip(&all) {
        assert_eq!(vgic.raise_lpi(*intid), VcpuSet::EMPTY, "not enabled");
        assert_eq!(vgic.configure_lpi(machine(), *intid, true, 0xf0 - n * 8), VcpuSet::of(0));
    }
    let mut seen = vec![];
    loop {
        let mut now = fill(&vgic, 0, &mut context);
        if now.is_empty() {
            break;
        }
        now.sort_unstable_by(|a, b| b.cmp(a));
        seen.extend(now);
        context.lrs.fill(0);
    }
    assert_eq!(seen, all.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn raised_while_it_is_handled_it_comes_again() {
    let (vgic, mut context) = (with_lpis(1), GicCpuContext::default());
    let _ = vgic.configure_lpi(machine(), 8200, true, 0xa0);
    assert_eq!(vgic.raise_lpi(8200), VcpuSet::of(0));
    assert_eq!(fill(&vgic, 0, &mut context), [8200]);
    assert!(!ListRegister(context.lrs[0]).is_hardware());
    const STATE: u64 = 3 << 62;
    context.lrs[0] = context.lrs[0] & !STATE | 2 << 62;
    assert_eq!(vgic.raise_lpi(8200), VcpuSet::of(0));
    assert_eq!(fill(&vgic, 0, &mut context), [8200], "active and pending");
}

#[test]
fn it_follows_its_route_and_outlives_a_vcpu() {
    let (vgic, mut contexts) = (with_lpis(2), [GicCpuContext::default(), GicCpuContext::default()]);
    let _ = vgic.configure_lpi(machine(), 8192, true, 0xa0) | vgic.raise_lpi(8192);
    assert_eq!(fill(&vgic, 0, &mut contexts[0]), [8192]);
    assert_eq!(vgic.route_lpi(8192, 1), VcpuSet::of(0), "who holds it");
    assert_eq!(vgic.route_lpi(8192, 2), VcpuSet::EMPTY, "no such vCPU");
    let filled = vgic.fill(machine(), 0, &mut contexts[0].list_registers(4));
    assert_eq!((filled.notice, fill(&vgic, 1, &mut contexts[1])), (VcpuSet::of(1), vec![8192]));
    assert_eq!(vgic.reset_vcpu(machine(), 1, &mut contexts[1].list_registers(4)), VcpuSet::of(1));
    assert_eq!(fill(&vgic, 1, &mut contexts[1]), [8192]);
}
