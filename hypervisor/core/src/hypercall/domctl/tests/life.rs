//! A domain from `createdomain` to its last page, as the toolstack makes it.

use super::*;
use crate::addr::{DomainId, MachineAddr};
use crate::frames::FrameKind;
use crate::hypercall::Outcome;
use crate::testbed::heap;
use crate::vgic::{HardwareGic, Version};
use guest_abi::arch_arm::{self as arch, ArchDomainConfig};

/// What `xl` asks for.
fn wanted() -> abi::CreateDomain {
    abi::CreateDomain {
        handle: *b"0123456789abcdef",
        flags: abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP,
        max_vcpus: 2,
        max_evtchn_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 2,
        grant_opts: 1,
        arch: ArchDomainConfig { nr_spis: 1, ..Default::default() },
        ..Default::default()
    }
}

/// The domain field of the header that a call has written back.
fn named(bed: &Testbed, dom0: &Arc<Domain>) -> u16 {
    bed.peek::<abi::Domctl>(dom0, Testbed::va(0, CALL), 1).remove(0).domain
}

fn info(bed: &Testbed, dom0: &Arc<Domain>, id: u16) -> abi::GetDomainInfo {
    assert_eq!(domctl(bed, dom0, abi::XEN_DOMCTL_GETDOMAININFO, id, &abi::GetDomainInfo::default()), 0);
    answer(bed, dom0)
}

#[test]
fn a_domain_is_made_filled_run_and_destroyed() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    let free = bed.hv.frames.free_pages();
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted()), 0);
    let id = named(&bed, &dom0);
    let made: abi::CreateDomain = answer(&bed, &dom0);
    assert_eq!((id, made.arch.gic_version, made.arch.nr_spis), (1, arch::XEN_DOMCTL_CONFIG_GIC_V3, 32));
    let call = |cmd, payload: &[u8]| domctl(&bed, &dom0, cmd, id, payload);

    let einval = Errno::EINVAL.to_return();
    assert_eq!(call(abi::XEN_DOMCTL_MAX_VCPUS, abi::MaxVcpus { max: 3 }.as_bytes()), einval, "not as many as at creation");
    assert_eq!(call(abi::XEN_DOMCTL_MAX_VCPUS, abi::MaxVcpus { max: 2 }.as_bytes()), 0);
    assert_eq!(call(abi::XEN_DOMCTL_MAX_MEM, abi::MaxMem { max_memkb: 64 }.as_bytes()), 0);
    assert_eq!(call(abi::XEN_DOMCTL_SETDOMAINHANDLE, abi::SetDomainHandle { handle: [7; 16] }.as_bytes()), 0);
    for (size, result) in [(64, 0), (32, einval), (16, einval)] {
        assert_eq!(call(abi::XEN_DOMCTL_SET_ADDRESS_SIZE, abi::AddressSize { size }.as_bytes()), result);
    }
    assert_eq!(call(abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, abi::PagingMempool { size: 1 }.as_bytes()), einval);
    assert_eq!(call(abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, abi::PagingMempool { size: 64 << 12 }.as_bytes()), 0);
    assert_eq!(call(abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, &[]), 0);
    assert_eq!(answer::<abi::PagingMempool>(&bed, &dom0).size, 64 << 12);

    let domain = bed.hv.domains.get(DomainId(id)).unwrap();
    for n in 0..4 {
        let mfn = bed.hv.frames.allocate(domain.vmid, 0, FrameKind::Ram).unwrap();
        domain.p2m.edit(&bed.hv.frames).map(Gfn(crate::testbed::RAM + n), mfn, 0, P2mType::RamRw).unwrap();
    }
    let told = info(&bed, &dom0, id);
    assert_eq!((told.tot_pages, told.max_pages, told.handle, told.max_vcpu_id, told.nr_online_vcpus), (4, 16, [7; 16], 1, 0));
    assert_ne!(told.flags & abi::XEN_DOMINF_PAUSED, 0, "created paused");
    let flush = abi::CacheFlush { start_pfn: crate::testbed::RAM, nr_pfns: 3000 };
    assert_eq!(call(abi::XEN_DOMCTL_CACHEFLUSH, flush.as_bytes()), 0, "holes are passed over");
    assert_eq!(call(abi::XEN_DOMCTL_CACHEFLUSH, abi::CacheFlush { start_pfn: u64::MAX, nr_pfns: 2 }.as_bytes()), einval);
    assert_eq!(call(abi::XEN_DOMCTL_CACHEFLUSH, abi::CacheFlush { start_pfn: 0, nr_pfns: 0 }.as_bytes()), 0);

    assert_eq!(call(abi::XEN_DOMCTL_UNPAUSEDOMAIN, &[]), 0);
    assert_eq!(call(abi::XEN_DOMCTL_UNPAUSEDOMAIN, &[]), einval, "it is not paused");
    assert_eq!(call(abi::XEN_DOMCTL_PAUSEDOMAIN, &[]), 0);
    assert_eq!(call(abi::XEN_DOMCTL_RESUMEDOMAIN, &[]), 0);

    drop(domain);
    assert_eq!(call(abi::XEN_DOMCTL_DESTROYDOMAIN, &[]), 0);
    assert_eq!(call(abi::XEN_DOMCTL_GETDOMAININFO, &[0; 120]), Errno::ESRCH.to_return());
    assert_eq!(bed.hv.frames.free_pages(), free, "to the page");
    bed.hv.audit().unwrap();
}

#[test]
fn on_a_gicv2_a_domain_has_one_and_at_most_eight_vcpus() {
    const GICV: MachineAddr = MachineAddr(0x0804_0000);
    let mut bed = Testbed::new(Policy::Silo);
    bed.hv.fixed.gic = HardwareGic { version: Version::V2, gicv: Some(GICV) };
    let dom0 = bed.domain(0, 1);
    let free = bed.hv.frames.free_pages();
    let create = |max_vcpus, gic_version| {
        let config = abi::CreateDomain { max_vcpus, arch: ArchDomainConfig { gic_version, ..wanted().arch }, ..wanted() };
        domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 0, &config)
    };
    assert_eq!(create(1, arch::XEN_DOMCTL_CONFIG_GIC_V3), Errno::ENODEV.to_return());
    assert_eq!(create(9, arch::XEN_DOMCTL_CONFIG_GIC_V3), Errno::ENODEV.to_return());
    assert_eq!(create(9, arch::XEN_DOMCTL_CONFIG_GIC_NATIVE), Errno::EINVAL.to_return());
    assert_eq!(bed.hv.frames.free_pages(), free);
    for version in [arch::XEN_DOMCTL_CONFIG_GIC_NATIVE, arch::XEN_DOMCTL_CONFIG_GIC_V2] {
        assert_eq!(create(8, version), 0);
        let made: abi::CreateDomain = answer(&bed, &dom0);
        assert_eq!(made.arch.gic_version, arch::XEN_DOMCTL_CONFIG_GIC_V2);
        let domain = bed.hv.domains.get(DomainId(named(&bed, &dom0))).unwrap();
        let interface = [0, 1, 2].map(|page| domain.p2m.lookup(Gfn(arch::GUEST_GICC_BASE / 4096 + page)).map(|m| (m.mfn, m.kind)));
        let device = |page| Some((Mfn(GICV.0 / 4096 + page), P2mType::MmioDirectDev));
        assert_eq!(interface, [device(0), device(1), None]);
        let id = domain.id.0;
        drop(domain);
        assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_DESTROYDOMAIN, id, &[0_u8; 0]), 0);
        assert_eq!(bed.hv.frames.free_pages(), free, "to the page");
    }
    bed.hv.audit().unwrap();
}

#[test]
fn what_cannot_be_built_is_refused_and_leaves_nothing() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    let free = bed.hv.frames.free_pages();
    let (einval, enodev) = (Errno::EINVAL, Errno::ENODEV);
    type Change = fn(&mut abi::CreateDomain);
    let changes: [(Change, Errno); 14] = [
        (|c| c.flags = abi::XEN_DOMCTL_CDF_HVM, einval),
        (|c| c.flags = !0, einval),
        (|c| c.iommu_opts = 1, einval),
        (|c| c.max_vcpus = 0, einval),
        (|c| c.max_vcpus = crate::domain::MAX_VCPUS + 1, einval),
        (|c| c.max_grant_frames = 0, einval),
        (|c| c.grant_opts = 2, einval),
        (|c| c.altp2m_opts = 1, einval),
        (|c| c.vmtrace_size = 4096, einval),
        (|c| c.cpupool_id = 1, einval),
        (|c| c.arch.gic_version = 9, einval),
        (|c| c.arch.sve_vl = 1, einval),
        (|c| c.arch.nr_spis = 4000, einval),
        (|c| c.arch.gic_version = arch::XEN_DOMCTL_CONFIG_GIC_V2, enodev),
    ];
    for (n, (change, error)) in changes.iter().enumerate() {
        let mut config = wanted();
        change(&mut config);
        assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 0, &config), error.to_return(), "change {n}");
        assert_eq!(bed.hv.frames.free_pages(), free, "change {n}");
    }
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 5, &wanted()), 0);
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 5, &wanted()), Errno::EEXIST.to_return());
}

#[test]
fn memory_that_runs_out_at_any_step_leaves_nothing() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    let hog = bed.domain(9, 1);
    // All pages go to the hog, then come back one by one, until a domain can be made.
    bed.hv.frames.account(hog.vmid).set_max_pages(u64::MAX);
    let mut hoard = Vec::new();
    while let Ok(mfn) = bed.hv.frames.allocate(hog.vmid, 0, FrameKind::Ram) {
        hoard.push(mfn);
    }
    let config = |id| crate::domain::create::Config {
        id: Some(DomainId(id)),
        privileged: false,
        is_console: false,
        direct_mapped: false,
        handle: [0; 16],
        max_vcpus: 1,
        max_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 2,
        spis: 32,
        pool: 16,
        event_ppi: 31,
        vgic: HardwareGic { version: Version::V2, gicv: Some(MachineAddr(0x0804_0000)) }.guest(Version::V2).unwrap(),
    };
    let mut refused = 0;
    loop {
        let free = bed.hv.frames.free_pages();
        match bed.hv.create_domain(config(3)) {
            Ok(_) => break,
            Err(error) => {
                refused += 1;
                assert_eq!(error, Errno::ENOMEM);
                assert_eq!(bed.hv.frames.free_pages(), free, "with {free} pages");
                assert!(bed.hv.domains.get(DomainId(3)).is_none());
                bed.hv.frames.audit().unwrap();
            }
        }
        assert!(bed.hv.frames.release(hoard.pop().unwrap(), hog.vmid));
    }
    assert!(refused >= 3, "shared page, grant table and stage 2 each failed once: {refused}");
    // The toolstack is told before anything is tried.
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted()), Errno::ENOMEM.to_return());
}

#[test]
fn nobody_destroys_or_pauses_himself_and_nobody_else_may() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let einval = Errno::EINVAL.to_return();
    for cmd in [abi::XEN_DOMCTL_DESTROYDOMAIN, abi::XEN_DOMCTL_PAUSEDOMAIN, abi::XEN_DOMCTL_RESUMEDOMAIN] {
        assert_eq!(domctl(&bed, &dom0, cmd, 0, &[0_u8; 0]), einval, "command {cmd}");
        assert_eq!(domctl(&bed, &guest, cmd, 1, &[0_u8; 0]), Errno::EPERM.to_return(), "command {cmd}");
        assert_eq!(domctl(&bed, &guest, cmd, 77, &[0_u8; 0]), Errno::ESRCH.to_return(), "command {cmd}");
    }
    for cmd in [abi::XEN_DOMCTL_ASSIGN_DEVICE, abi::XEN_DOMCTL_VM_EVENT_OP, abi::XEN_DOMCTL_SET_LLC_COLORS] {
        assert_eq!(domctl(&bed, &dom0, cmd, 1, &[0_u8; 0]), Errno::EOPNOTSUPP.to_return());
    }
    assert_eq!(domctl(&bed, &dom0, 0xffff, 1, &[0_u8; 0]), Errno::ENOSYS.to_return());
    let header = abi::Domctl { cmd: abi::XEN_DOMCTL_PAUSEDOMAIN, interface_version: 1, domain: 1, ..Default::default() };
    bed.poke(&dom0, Testbed::va(0, 0), &[header]);
    let call = |at| bed.hypercall(&dom0, hypercall::DOMCTL, [at, 0, 0, 0, 0]).0;
    assert_eq!(call(Testbed::va(0, 0)), Errno::EACCES.to_return(), "another interface version");
    assert_eq!(call(8), Errno::EFAULT.to_return());
}

#[test]
fn pausing_waits_outside_the_hypervisor_for_a_vcpu_that_runs() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let header = abi::Domctl {
        cmd: abi::XEN_DOMCTL_PAUSEDOMAIN,
        interface_version: abi::XEN_DOMCTL_INTERFACE_VERSION,
        domain: 1,
        ..Default::default()
    };
    bed.poke(&dom0, Testbed::va(0, CALL), &[header]);
    let call = |args| bed.hvc(&dom0, hypercall::DOMCTL, args);
    let pauses = || guest.life.lock().pauses;
    let (vcpu, before) = (guest.vcpu(0).unwrap(), pauses());
    vcpu.set_running_on(Some(crate::addr::CpuId(1)));
    let Outcome::Again(wait) = call([Testbed::va(0, CALL), 0, 0, 0, 0]) else { panic!("it runs still") };
    assert_eq!(call(wait), Outcome::Again(wait));
    assert_eq!(pauses(), before + 1, "paused once");
    vcpu.set_running_on(None);
    assert_eq!((call(wait), pauses()), (Outcome::Return(0), before + 1));
}

#[test]
fn two_that_allocate_vcpus_at_once_make_one_set() {
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    assert_eq!(domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted()), 0);
    let domain = bed.hv.domains.get(DomainId(named(&bed, &dom0))).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bed.hv.create_vcpus(&domain).unwrap());
        }
    });
    let slots: Vec<_> = domain.vcpus().iter().map(|vcpu| vcpu.sched.0).collect();
    let new = bed.hv.sched.add(0, domain.id, domain.vmid, 0).unwrap();
    assert_eq!((slots.len(), new.sched.0), (2, slots[1] + 1), "no unit is left over");
}

#[test]
fn pauses_are_counted_to_a_limit() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let call = |cmd| domctl(&bed, &dom0, cmd, 1, &[0_u8; 0]);
    // One pause it was created with.
    for _ in 0..254 {
        assert_eq!(call(abi::XEN_DOMCTL_PAUSEDOMAIN), 0);
    }
    assert_eq!(call(abi::XEN_DOMCTL_PAUSEDOMAIN), Errno::EOVERFLOW.to_return());
    for _ in 0..255 {
        assert_eq!(call(abi::XEN_DOMCTL_UNPAUSEDOMAIN), 0);
    }
    assert_eq!(call(abi::XEN_DOMCTL_UNPAUSEDOMAIN), Errno::EINVAL.to_return());
}

#[test]
fn weight_and_cap_are_read_and_set() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, _guest) = (bed.domain(0, 1), bed.domain(1, 1));
    let op = |cmd, weight, cap, sched_id| {
        let wanted = abi::SchedulerOp { sched_id, cmd, weight, cap, ..Default::default() };
        let result = domctl(&bed, &dom0, abi::XEN_DOMCTL_SCHEDULER_OP, 1, &wanted);
        let told: abi::SchedulerOp = answer(&bed, &dom0);
        (result, told.weight, told.cap)
    };
    let credit2 = abi::XEN_SCHEDULER_CREDIT2;
    let (get, put) = (abi::XEN_DOMCTL_SCHEDOP_GETINFO, abi::XEN_DOMCTL_SCHEDOP_PUTINFO);
    assert_eq!(op(get, 0, 0, credit2), (0, 256, 0));
    assert_eq!(op(put, 512, 50, credit2).0, 0);
    assert_eq!(op(get, 0, 0, credit2), (0, 512, 50));
    assert_eq!(op(put, 0, u16::MAX, credit2).0, 0, "both left as they are");
    assert_eq!(op(get, 0, 0, credit2), (0, 512, 50));
    assert_eq!(op(get, 0, 0, 99).0, Errno::EINVAL.to_return());
    assert_eq!(op(77, 0, 0, credit2).0, Errno::EINVAL.to_return());
}

#[test]
fn with_a_full_heap_no_domain_is_made() {
    if !heap::is_ours() {
        return;
    }
    let bed = Testbed::new(Policy::Silo);
    let dom0 = bed.domain(0, 1);
    let enomem = Errno::ENOMEM.to_return();
    let free = bed.hv.frames.free_pages();
    let (answer, refused) = heap::rising(&bed, enomem, || {
        assert_eq!(bed.hv.frames.free_pages(), free);
        domctl(&bed, &dom0, abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted())
    });
    assert!(answer == 0 && refused > 0, "{answer}, {refused} times refused");
    let id = named(&bed, &dom0);
    for (cmd, payload) in [
        (abi::XEN_DOMCTL_MAX_VCPUS, abi::MaxVcpus { max: 2 }.as_bytes()),
        (
            abi::XEN_DOMCTL_IOMEM_PERMISSION,
            abi::IomemPermission { first_mfn: 9, nr_mfns: 1, allow_access: 1, ..Default::default() }.as_bytes(),
        ),
    ] {
        bed.hv.passthrough.offer_frames(Mfn(9)..Mfn(10));
        let (answer, refused) = heap::rising(&bed, enomem, || domctl(&bed, &dom0, cmd, id, payload));
        assert!(answer == 0 && refused > 0, "{cmd}: {answer}, {refused} times refused");
    }
}
