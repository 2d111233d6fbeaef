use super::*;
use crate::boot::host_tree::tests::machine;
use crate::boot::tests::Part::{self, Cells, Node, Text};
use crate::boot::tests::{lines, region};
use std::string::String;
use std::vec;

/// Dom0's tree and devices on a small machine with some more nodes.
fn dom0<'a>(chosen: Vec<Part<'a>>, more: Vec<Part<'a>>) -> (Vec<String>, Devices) {
    let blob = machine(chosen, |parts| parts.extend(more));
    let tree = HostTree::parse(&blob).unwrap();
    let info = HostInfo::read(&tree).unwrap();
    let uart = tree.uart(Some("/serial@9000")).unwrap();
    let input = TreeInput {
        tree: &tree,
        info: &info,
        uart: &uart,
        command_line: Some("console=hvc0"),
        ramdisk: Some(region(0x8100_0000, 0x8100_1234)),
        vcpus: 17,
        banks: &[region(0x8000_0000, 0x8800_0000), region(0xa000_0000, 0xb000_0000)],
        grant_window: region(0x9000_0000, 0x9004_0000),
        extended: &[],
        event_ppi: 16,
    };
    let built = build(&input).unwrap();
    (lines(&built), devices(&tree, &info, &uart).unwrap())
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|found| found == line)
}

#[test]
fn what_stays_with_us_is_left_out() {
    let chosen = vec![
        Text("stdout-path", &["/serial@9000"]),
        Text("xen,xen-bootargs", &["ours"]),
        Text("xen,dom0-bootargs", &["dom0's"]),
        Cells("linux,uefi-system-table", vec![0, 1]),
        Cells("rng-seed", vec![7]),
        Node("module@80000000", vec![Text("compatible", &["multiboot,module"]), Cells("reg", vec![0x8000_0000, 0x1000])]),
    ];
    let more = vec![
        Node("pmu", vec![Text("compatible", &["arm,armv8-pmuv3"]), Cells("interrupts", vec![1, 7, 4])]),
        Node("ppi-user", vec![Cells("interrupts", vec![1, 6, 4]), Node("child", vec![])]),
        Node("psci", vec![Text("compatible", &["arm,psci-0.2"]), Text("method", &["smc"])]),
        Node("hypervisor", vec![Text("compatible", &["other,hypervisor"])]),
        Node("gates@9800", vec![Cells("reg", vec![0x9800, 8])]),
    ];
    let (lines, devices) = dom0(chosen, more);
    for path in
        ["/chosen/module@80000000", "/serial@9000", "/gates@9800", "/pmu", "/ppi-user", "/ppi-user/child", "/memory@80000000/status"]
    {
        assert!(!has(&lines, path), "{path}");
    }
    let of_chosen: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("/chosen ")).collect();
    let names: Vec<&str> = of_chosen.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["rng-seed", "bootargs", "linux,initrd-start", "linux,initrd-end"]);
    assert_eq!(lines.iter().filter(|line| *line == "/hypervisor").count(), 1);
    assert_eq!((devices.mmio, devices.interrupts, devices.warnings), (vec![], vec![], vec![]));
}

#[test]
fn the_virtual_machine_is_described() {
    let (lines, _) = dom0(vec![], vec![]);
    assert!(has(&lines, &std::format!("/hypervisor compatible {:02x?}", b"xen,xen-4.20\0xen,xen\0")));
    assert!(has(&lines, "/hypervisor interrupts [00, 00, 00, 01, 00, 00, 00, 00, 00, 00, 0f, 08]"));
    assert!(has(&lines, "/memory@80000000 reg [80, 00, 00, 00, 08, 00, 00, 00, a0, 00, 00, 00, 10, 00, 00, 00]"));
    assert!(has(&lines, "/cpus/cpu@f reg [00, 00, 00, 0f]"));
    assert!(has(&lines, "/cpus/cpu@100 reg [00, 00, 01, 00]"));
    assert!(has(&lines, "/interrupt-controller reg [00, 00, 10, 00, 00, 00, 10, 00, 00, 00, 20, 00, 00, 00, 20, 00]"));
}

#[test]
fn iommus_and_references_to_them_are_left_out() {
    let more = vec![
        Node("iommu@100000", vec![Text("compatible", &["arm,mmu-500"]), Cells("phandle", vec![9]), Cells("reg", vec![0x10_0000, 0x1000])]),
        Node("other@200000", vec![Text("compatible", &["other,iommu"]), Cells("phandle", vec![8])]),
        Node("dma@300000", vec![Cells("iommus", vec![9, 1]), Cells("reg", vec![0x30_0000, 0x800])]),
        Node("dma@400000", vec![Cells("iommus", vec![8, 1]), Cells("iommu-map", vec![0, 9, 0, 1]), Cells("reg", vec![0x40_0400, 4])]),
    ];
    let (lines, devices) = dom0(vec![], more);
    assert!(!has(&lines, "/iommu@100000"));
    assert!(!lines.iter().any(|line| line.starts_with("/dma@300000 iommus") || line.starts_with("/dma@400000 iommu-map")));
    assert!(lines.iter().any(|line| line.starts_with("/dma@400000 iommus")));
    assert_eq!(devices.mmio, [region(0x30_0000, 0x30_1000), region(0x40_0000, 0x40_1000)]);
}

#[test]
fn a_node_that_cannot_be_used_is_left_out_with_a_warning() {
    let (lines, devices) = dom0(vec![], vec![Node("broken@1", vec![Cells("reg", vec![1])])]);
    assert!(!has(&lines, "/broken@1"));
    assert_eq!(devices.warnings, ["device tree node /broken@1: property 'reg' is cut short: Dom0 does not get it"]);
}

#[test]
fn reserved_memory_is_dom0s_to_map_and_other_ram_is_not() {
    let reserved = vec![
        Cells("#address-cells", vec![1]),
        Cells("#size-cells", vec![1]),
        Cells("ranges", vec![]),
        Node("dsp@90000000", vec![Cells("reg", vec![0x9000_0000, 0x10_0000])]),
    ];
    let thief = Node("thief@90000000", vec![Cells("reg", vec![0x8fff_f000, 0x2000])]);
    let (lines, devices) = dom0(vec![], vec![Node("reserved-memory", reserved), thief]);
    assert_eq!(devices.mmio, [region(0x9000_0000, 0x9010_0000)]);
    assert!(has(&lines, "/memory@90000000 reg [90, 00, 00, 00, 00, 10, 00, 00]"));
}

#[test]
fn shared_lines_are_routed_once_and_ours_not_at_all() {
    let more = vec![
        Node("a", vec![Cells("interrupts", vec![0, 9, 4, 0, 8, 1])]),
        Node("b", vec![Cells("interrupts-extended", vec![1, 0, 9, 4, 1, 0, 4, 4])]),
        Node("gpio", vec![Cells("phandle", vec![5]), Cells("#interrupt-cells", vec![2]), Cells("interrupt-controller", vec![])]),
        Node("c", vec![Cells("interrupt-parent", vec![5]), Cells("interrupts", vec![1, 1])]),
    ];
    let (_, devices) = dom0(vec![], more);
    assert_eq!(devices.interrupts.iter().map(|line| line.intid).collect::<Vec<_>>(), [40, 41]);
}

#[test]
fn a_device_to_be_passed_on_is_there_but_disabled() {
    let more = vec![
        Node(
            "rtc@9010000",
            vec![
                Text("xen,passthrough", &[]),
                Text("status", &["okay"]),
                Cells("reg", vec![0x901_0000, 0x1000]),
                Cells("interrupts", vec![0, 2, 4]),
            ],
        ),
        Node("other@9020000", vec![Cells("reg", vec![0x902_0000, 0x1000]), Cells("interrupts", vec![0, 3, 4])]),
        Node("shared@9030000", vec![Text("xen,passthrough", &[]), Cells("interrupts", vec![0, 3, 1])]),
    ];
    let (lines, devices) = dom0(vec![], more);
    let status = |node: &str| lines.iter().filter(|line| line.starts_with(&std::format!("/{node} status"))).cloned().collect::<Vec<_>>();
    assert_eq!(status("rtc@9010000"), [std::format!("/rtc@9010000 status {:02x?}", b"disabled\0")]);
    assert_eq!(status("other@9020000"), [""; 0]);
    assert!(!lines.iter().any(|line| line.contains("xen,passthrough")));
    let intids = |lines: &[crate::boot::fdt::Interrupt]| lines.iter().map(|line| line.intid).collect::<Vec<_>>();
    assert_eq!((devices.mmio, intids(&devices.interrupts)), (vec![region(0x902_0000, 0x902_1000)], vec![35]));
    assert_eq!((devices.offered_mmio, intids(&devices.offered_interrupts)), (vec![region(0x901_0000, 0x901_1000)], vec![34]));
}
