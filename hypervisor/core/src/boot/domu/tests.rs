use super::*;
use crate::boot::host_tree::tests::machine;
use crate::boot::tests::Part::{self, Cells, Node, Text};
use crate::boot::tests::{VIRT_V3, kernel_header, lines, region};
use std::format;
use std::vec;

/// What Debian's Xen 4.20 gave to a domain of 96 MiB with one vCPU, a UART and `xen,enhanced = "no-xenstore"`, by the version of the GIC.
const VIRT_V2_DOMU: &[u8] = include_bytes!("../../../tests/data/virt-gicv2-domu.dtb");
const VIRT_V3_DOMU: &[u8] = include_bytes!("../../../tests/data/virt-gicv3-domu.dtb");

const KERNEL: &[&str] = &["multiboot,kernel", "multiboot,module"];
const RAMDISK: &[&str] = &["multiboot,ramdisk", "multiboot,module"];

fn module<'a>(name: &'a str, at: u32, compatible: &'a [&'a str]) -> Part<'a> {
    Node(name, vec![Text("compatible", compatible), Cells("reg", vec![at, 0x10_0000]), Text("bootargs", &["console=ttyAMA0"])])
}

/// A node that is as it should be, with other properties in place of or beside its own.
fn domain<'a>(more: Vec<Part<'a>>) -> Part<'a> {
    let named = |part: &Part<'a>| match part {
        Text(name, _) | Cells(name, _) | Node(name, _) => *name,
    };
    let mut parts = vec![Text("compatible", &["xen,domain"]), Cells("#address-cells", vec![1]), Cells("#size-cells", vec![1])];
    let own = vec![Cells("memory", vec![0, 0x2_0000]), Cells("cpus", vec![2]), module("kernel@81000000", 0x8100_0000, KERNEL)];
    parts.extend(own.into_iter().filter(|part| !more.iter().any(|other| named(other) == named(part))));
    let (properties, nodes): (Vec<_>, Vec<_>) = more.into_iter().partition(|part| !matches!(part, Node(..)));
    parts.splice(3..3, properties);
    parts.extend(nodes);
    Node("domU1", parts)
}

fn read(chosen: Vec<Part<'_>>, version: Version) -> Result<Vec<DomuConfig>, BootError> {
    let blob = machine(chosen, |_| ());
    let tree = HostTree::parse(&blob).unwrap();
    domains(&tree, &HostInfo::read(&tree)?, version)
}

fn one(more: Vec<Part<'_>>) -> DomuConfig {
    read(vec![domain(more), module("dom0@80000000", 0x8000_0000, KERNEL)], Version::V3).unwrap().remove(0)
}

/// Why a machine with such a domain, and no Dom0, is refused.
fn why(more: Vec<Part<'_>>) -> String {
    format!("{}", read(vec![domain(more)], Version::V3).unwrap_err())
}

#[test]
fn a_node_is_read() {
    let plain = one(vec![]);
    assert_eq!((plain.memory, plain.vcpus, plain.vpl011, plain.enhanced), (128 << 20, 2, false, Enhanced::No));
    assert_eq!((plain.spis, plain.max_grant_frames, plain.ramdisk), (None, None, None));
    assert_eq!(plain.node, "/chosen/domU1");
    assert_eq!(plain.kernel.bootargs.as_deref(), Some("console=ttyAMA0"));
    assert_eq!(plain.pool(), 3 * 256 + 256);
    let rich = one(vec![
        Cells("vpl011", vec![]),
        Text("xen,enhanced", &["enabled"]),
        Cells("nr_spis", vec![7]),
        Cells("max_grant_frames", vec![9]),
        Cells("max_maptrack_frames", vec![10]),
        Cells("xen,domain-p2m-mem-mb", vec![4]),
        module("ramdisk@82000000", 0x8200_0000, RAMDISK),
    ]);
    assert_eq!((rich.vpl011, rich.enhanced, rich.spis), (true, Enhanced::Full, Some(7)));
    assert_eq!((rich.max_grant_frames, rich.max_maptrack_frames, rich.pool()), (Some(9), Some(10), 1024));
    assert_eq!(rich.ramdisk, Some(region(0x8200_0000, 0x8210_0000)));
    assert_eq!(one(vec![Cells("xen,enhanced", vec![])]).enhanced, Enhanced::Full);
    assert_eq!(one(vec![Text("xen,enhanced", &["disabled"])]).enhanced, Enhanced::No);
    assert_eq!(one(vec![Text("status", &["okay"])]).vcpus, 2);
}

#[test]
fn two_domains_may_boot_one_file() {
    let Node(_, second) = domain(vec![]) else { unreachable!() };
    assert_eq!(read(vec![domain(vec![]), Node("domU2", second)], Version::V3).unwrap().len(), 2);
    // But not one as its kernel and the other as its ramdisk.
    let clash = why(vec![module("ramdisk@81000000", 0x8100_0000, RAMDISK)]);
    assert!(clash.contains("/chosen/domU1/ramdisk@81000000") && clash.contains("overlaps"), "{clash}");
}

#[test]
fn a_node_that_cannot_be_is_named() {
    let refused: [(Vec<Part<'_>>, &str); 13] = [
        (vec![Cells("cpus", vec![0])], "property 'cpus' is 0"),
        (vec![Cells("cpus", vec![129])], "property 'cpus' is more than 128"),
        (vec![Cells("cpus", vec![0, 1])], "property 'cpus' is not one cell"),
        (vec![Cells("memory", vec![0x2_0000])], "property 'memory' is not two cells"),
        (vec![Cells("memory", vec![0, 0])], "property 'memory' is 0"),
        (vec![Cells("memory", vec![u32::MAX, 0])], "property 'memory' is more than"),
        (vec![Text("xen,enhanced", &["evtchn"])], "property 'xen,enhanced' is none of"),
        (vec![Text("xen,enhanced", &["enabled"])], "property 'xen,enhanced' asks for the store of a Dom0"),
        (vec![Cells("nr_spis", vec![0]), Cells("vpl011", vec![])], "property 'nr_spis' is 0"),
        (vec![Cells("nr_spis", vec![989])], "property 'nr_spis' is more than 988"),
        (vec![Cells("max_grant_frames", vec![1 << 31])], "property 'max_grant_frames' overflows"),
        (vec![Cells("direct-map", vec![])], "property 'direct-map' is not supported"),
        (vec![module("kernel@81000000", 0x8100_0000, RAMDISK)], "domain /chosen/domU1 has no kernel"),
    ];
    for (parts, reason) in refused {
        let why = why(parts);
        assert!(why.contains(reason) && why.contains("/chosen/domU1"), "{why}");
    }
    let why = format!("{}", read(vec![domain(vec![Cells("cpus", vec![9])])], Version::V2).unwrap_err());
    assert!(why.contains("more than 8"), "{why}");
}

#[test]
fn the_tree_is_xens() {
    let host = HostTree::parse(VIRT_V3).unwrap();
    let mut config = one(vec![
        Cells("memory", vec![0, 0x1_8000]),
        Cells("cpus", vec![1]),
        Cells("vpl011", vec![]),
        Text("xen,enhanced", &["no-xenstore"]),
        module("ramdisk@82000000", 0x8200_0000, RAMDISK),
    ]);
    config.kernel.bootargs = Some("console=ttyAMA0 earlycon=xenboot rdinit=/init loglevel=8 dump".into());
    config.ramdisk = region(0x7800_0000, 0x7824_6e00).into();
    for (version, xens) in [(Version::V2, VIRT_V2_DOMU), (Version::V3, VIRT_V3_DOMU)] {
        let plan = plan(&config, &host, &kernel_header(), None, version, 44).unwrap();
        assert_eq!(lines(&plan.tree), lines(xens));
        assert_eq!((plan.kernel.to, plan.tree_at), (Ipa(0x4000_0000), Ipa(0x45a0_0000)));
    }
}

#[test]
fn memory_beyond_the_first_bank_goes_to_the_second() {
    let large = one(vec![Cells("memory", vec![0, 4 << 20])]);
    assert_eq!(large.banks(), [region(0x4000_0000, 0x1_0000_0000), region(0x2_0000_0000, 0x2_4000_0000)]);
    assert_eq!(extended(&large.banks(), 40), [region(0x2_4000_0000, 0x100_0000_0000)]);
    // Less than the smallest piece is left.
    let nearly = one(vec![Cells("memory", vec![0, 0x2f_e000])]);
    assert_eq!(extended(&nearly.banks(), 36), [region(0x2_0000_0000, 0x10_0000_0000)]);
}

#[test]
fn a_domain_that_is_too_small_for_its_files_is_named() {
    let host = HostTree::parse(VIRT_V3).unwrap();
    let plan = |config: &DomuConfig, kernel: &[u8]| format!("{}", plan(config, &host, kernel, None, Version::V3, 36).unwrap_err());
    let small = one(vec![Cells("memory", vec![0, 0x4000])]);
    let why = plan(&small, &kernel_header());
    assert!(why.contains("16 MiB of domain /chosen/domU1 cannot hold"), "{why}");
    let why = plan(&small, &[0; 64]);
    assert!(why.contains("/chosen/domU1/kernel@81000000") && why.contains("not an arm64 Image"), "{why}");
    let huge = one(vec![Cells("memory", vec![0, 100 << 20])]);
    assert!(plan(&huge, &kernel_header()).contains("too little memory for domain /chosen/domU1"));
}

/// The tree of one device with these properties.
fn fragment(device: Vec<Part<'_>>) -> Vec<u8> {
    let bus = vec![Cells("#address-cells", vec![2]), Cells("#size-cells", vec![1]), Node("rtc@1000", device)];
    let gic = Node("gic", vec![Cells("phandle", vec![7])]);
    crate::boot::tests::tree(&[
        gic,
        Node("aliases", vec![Text("rtc", &["/passthrough/rtc"])]),
        Node("passthrough", bus),
        Node("rest", vec![]),
    ])
}

fn devices(device: Vec<Part<'_>>) -> Result<DomuPlan, BootError> {
    let host = HostTree::parse(VIRT_V3).unwrap();
    let info = HostInfo::read(&host).unwrap();
    let uart = host.uart(Some("/pl011@9000000")).unwrap();
    let mut config = one(vec![module("devices@83000000", 0x8300_0000, &["multiboot,device-tree", "multiboot,module"])]);
    let module = config.devices.take().unwrap();
    let blob = fragment(device);
    let devices = DomuDevices::read(&module, &blob, &host, &info, &uart)?;
    config.devices = Some(module);
    plan(&config, &host, &kernel_header(), Some(&devices), Version::V3, 40)
}

fn clock<'a>(from: u32, to: u32, more: Vec<Part<'a>>) -> Vec<Part<'a>> {
    let mut parts = vec![Cells("xen,reg", vec![0, from, 0x1000, 0, to]), Cells("other", vec![1])];
    parts.extend(more);
    parts
}

#[test]
fn devices_are_mapped_routed_and_told_of() {
    let path = || Text("xen,path", &["/pl031@9010000"]);
    let force = || Cells("xen,force-assign-without-iommu", vec![]);
    let plan = devices(clock(0x901_0000, 0x1000, vec![path(), force()])).unwrap();
    let tree = lines(&plan.tree);
    assert_eq!(plan.mmio, [Mapping { from: crate::addr::Mfn(0x9010), to: crate::addr::Gfn(1), pages: 1 }]);
    let interrupts: Vec<_> = plan.interrupts.iter().map(|line| (line.interrupt.intid, line.node.as_str())).collect();
    assert_eq!(interrupts, [(34, "/pl031@9010000")]);
    let told = |part: &str| tree.iter().any(|line| line.contains(part));
    assert!(told("/passthrough/rtc@1000 other") && told("/aliases rtc") && told("/timer interrupt-parent [00, 00, 00, 07]"));
    assert!(!told("xen,reg") && !told("xen,path") && !told("xen,force") && !told("/rest") && !tree.contains(&"/gic".into()));

    let why = |device| format!("{}", devices(device).unwrap_err());
    for (device, reason) in [
        (clock(0x901_0000, 0x1000, vec![path()]), "there is no IOMMU"),
        (clock(0x901_0000, 0x1000, vec![]), "no property 'xen,path'"),
        (vec![path(), force()], "no property 'xen,reg'"),
        (clock(0x901_0800, 0x1000, vec![path(), force()]), "not whole pages"),
        (clock(0x4000_0000, 0x1000, vec![force()]), "names memory"),
        (clock(0x900_0000, 0x1000, vec![force()]), "the console's UART"),
        (clock(0x800_0000, 0x1000, vec![force()]), "the interrupt controller"),
        (clock(0x901_0000, 0x4000_0000, vec![force()]), "where the domain has memory"),
        (clock(0x901_0000, 0x1000, vec![force(), Text("xen,path", &["/nothing"])]), "names no node"),
        (clock(0x901_0000, 0x1000, vec![force(), Text("xen,path", &["/pl011@9000000"])]), "cannot be given"),
        (vec![Cells("xen,reg", vec![0, 0x901_0000]), force()], "cut short"),
    ] {
        let why = why(device);
        assert!(why.contains(reason), "{why}");
    }
}
