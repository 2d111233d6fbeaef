use super::*;
use crate::machine::fake::Asked;

#[test]
fn only_devices_of_the_control_domain_are_given_to_others() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, domain) = (bed.domain(0, 1), bed.domain(1, 1));
    const DEVICE: u64 = 0x9030;
    let map = |first_mfn, nr_mfns| {
        let wanted = abi::MemoryMapping { first_gfn: 0x100, first_mfn, nr_mfns, add_mapping: 1, ..Default::default() };
        domctl(&bed, &dom0, abi::XEN_DOMCTL_MEMORY_MAPPING, 1, &wanted)
    };
    let say = |first_mfn, nr_mfns, allow_access| {
        let wanted = abi::IomemPermission { first_mfn, nr_mfns, allow_access, ..Default::default() };
        domctl(&bed, &dom0, abi::XEN_DOMCTL_IOMEM_PERMISSION, 1, &wanted)
    };
    let permit = |first_mfn, nr_mfns| say(first_mfn, nr_mfns, 1);
    let eperm = Errno::EPERM.to_return();
    assert_eq!((permit(DEVICE, 1), map(DEVICE, 1)), (eperm, eperm), "not the control domain's");
    assert_eq!(domain.p2m.lookup(Gfn(0x100)), None);
    dom0.p2m.edit(&bed.hv.frames).map(Gfn(DEVICE), Mfn(DEVICE), 0, P2mType::MmioDirectDev).unwrap();
    assert_eq!((permit(DEVICE, 2), map(DEVICE, 2)), (eperm, eperm), "one too many");
    assert_eq!((map(DEVICE, 1), permit(DEVICE, 1), map(DEVICE, 1)), (eperm, 0, 0), "only with permission");
    let ram = bed.ram(&dom0, 0).0;
    assert_eq!((permit(ram, 1), map(ram, 1)), (eperm, eperm));
    let einval = Errno::EINVAL.to_return();
    assert_eq!((permit(DEVICE, u64::MAX), permit(DEVICE, 0), map(DEVICE, 0)), (einval, einval, einval));
    // What is on offer need not be mapped.
    bed.hv.passthrough.offer_frames(Mfn(DEVICE + 1)..Mfn(DEVICE + 3));
    assert_eq!((permit(DEVICE, 3), permit(DEVICE, 4)), (0, eperm));
    assert_eq!((say(DEVICE + 1, 1, 0), map(DEVICE, 2)), (0, eperm), "taken back");
    assert!(domain.p2m.lookup(Gfn(0x100)).is_some(), "what is mapped stays");
    // It takes the place of RAM, which stays the domain's.
    let (at, pages) = (Gfn(crate::testbed::RAM), bed.hv.frames.account(domain.vmid).tot_pages());
    let wanted = abi::MemoryMapping { first_gfn: at.0, first_mfn: DEVICE, nr_mfns: 1, add_mapping: 1, ..Default::default() };
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_MEMORY_MAPPING, 1, &wanted), 0);
    assert_eq!(domain.p2m.lookup(at).map(|m| m.mfn), Some(Mfn(DEVICE)));
    assert_eq!(bed.hv.frames.account(domain.vmid).tot_pages(), pages);
    bed.hv.audit().unwrap();
}

fn bind(bed: &Testbed, dom0: &Arc<Domain>, cmd: u32, domain: u16, [machine_irq, irq_type, spi]: [u32; 3]) -> i64 {
    let wanted = abi::BindPtIrq { machine_irq, irq_type, spi: spi as u16, ..Default::default() };
    domctl(bed, dom0, cmd, domain, &wanted)
}

/// What Debian's Xen answered with the clock's node marked `xen,passthrough`, in this order.
#[test]
fn an_interrupt_is_given_as_xen_gives_it() {
    const SPI: u32 = abi::PT_IRQ_TYPE_SPI;
    let bed = Testbed::new(Policy::Silo);
    let (dom0, domain, _other) = (bed.domain(0, 1), bed.domain(1, 1), bed.domain(2, 1));
    let (eperm, ebusy, einval) = (Errno::EPERM.to_return(), Errno::EBUSY.to_return(), Errno::EINVAL.to_return());
    let give = |to, wanted| bind(&bed, &dom0, abi::XEN_DOMCTL_BIND_PT_IRQ, to, wanted);
    let take = |from, wanted| bind(&bed, &dom0, abi::XEN_DOMCTL_UNBIND_PT_IRQ, from, wanted);
    assert_eq!((give(1, [34, SPI, 34]), take(1, [34, SPI, 34])), (eperm, eperm), "nobody offers it");
    [34, 40, 64].into_iter().for_each(|intid| bed.hv.passthrough.offer_line(intid));
    bed.hv.passthrough.claim_line(40, dom0.vmid).unwrap();
    assert!(dom0.vgic.link_spi(40, true));
    for (wanted, answer) in [
        ([34, 0, 34], Errno::EOPNOTSUPP.to_return()),
        ([34, 0, 35], Errno::EOPNOTSUPP.to_return()),
        ([34, SPI, 35], einval),
        ([65570, SPI, 34], einval),
        ([40, SPI, 40], ebusy),
        ([33, SPI, 33], eperm),
        ([16, SPI, 16], eperm),
        ([3, SPI, 3], eperm),
        ([64, SPI, 64], ebusy),
        ([5000, SPI, 5000], eperm),
    ] {
        assert_eq!(give(1, wanted), answer, "{wanted:?}");
        assert_eq!((bed.hv.passthrough.owner(34), domain.vgic.is_linked(34)), (None, false));
    }
    assert_eq!(give(9, [34, SPI, 34]), Errno::ESRCH.to_return());
    assert_eq!(take(1, [34, SPI, 34]), einval, "it has not got it");
    assert_eq!((give(1, [34, SPI, 34]), give(1, [34, SPI, 34]), give(2, [34, SPI, 34])), (0, ebusy, ebusy));
    assert_eq!((take(1, [34, SPI, 34]), take(0, [34, SPI, 34]), take(0, [40, SPI, 40])), (ebusy, einval, ebusy));
    bed.hv.audit().unwrap();

    // It comes to the domain, and goes with it.
    assert_eq!(domain.vgic.raise_physical_spi(34), Ok(crate::vgic::VcpuSet::EMPTY), "not enabled yet");
    let _ = bed.machine.take_asked();
    bed.destroy(&domain);
    let asked = bed.machine.take_asked();
    let place = |what: Asked| asked.iter().position(|asked| *asked == what).unwrap_or_else(|| panic!("{what:?} was not asked"));
    assert!(place(Asked::SpiEnabled(34, false)) < place(Asked::SpiDeactivate(34)));
    assert_eq!((bed.hv.passthrough.owner(34), give(2, [34, SPI, 34])), (None, 0));
    bed.hv.audit().unwrap();
}

/// Who holds a page of a dead domain keeps its entry in the list, but not its devices.
#[test]
fn an_interrupt_is_free_before_its_domain_is_buried() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, domain) = (bed.domain(0, 1), bed.domain(1, 1));
    bed.hv.passthrough.offer_line(34);
    assert_eq!(bind(&bed, &dom0, abi::XEN_DOMCTL_BIND_PT_IRQ, 1, [34, abi::PT_IRQ_TYPE_SPI, 34]), 0);
    let held = bed.ram(&domain, 0);
    assert!(bed.hv.frames.get(held, domain.vmid));
    bed.destroy(&domain);
    assert!(bed.hv.domains.get(domain.id).is_some(), "a page of it is held");
    assert_eq!(bed.hv.passthrough.owner(34), None);
    // The next one keeps it when the dead one is buried.
    let next = bed.domain(2, 1);
    assert_eq!(bind(&bed, &dom0, abi::XEN_DOMCTL_BIND_PT_IRQ, 2, [34, abi::PT_IRQ_TYPE_SPI, 34]), 0);
    bed.hv.frames.put(held);
    bed.hv.bury();
    assert!(bed.hv.domains.get(domain.id).is_none());
    assert_eq!(bed.hv.passthrough.owner(34), Some(next.vmid));
    bed.hv.audit().unwrap();
}

#[test]
fn an_interrupt_that_the_guest_uses_already_is_not_replaced() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, domain) = (bed.domain(0, 1), bed.domain(1, 1));
    bed.hv.passthrough.offer_line(34);
    let _ = domain.vgic.raise_spi(34);
    let spi = abi::PT_IRQ_TYPE_SPI;
    assert_eq!(bind(&bed, &dom0, abi::XEN_DOMCTL_BIND_PT_IRQ, 1, [34, spi, 34]), Errno::EBUSY.to_return());
    assert_eq!(bed.hv.passthrough.owner(34), None, "a refused call leaves no trace");
}
