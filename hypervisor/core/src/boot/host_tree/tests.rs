use super::super::tests::Part::{Cells, Node, Text};
use super::super::tests::{Part, VIRT_V2, VIRT_V3, region, tree};
use super::*;
use crate::addr::MachineAddr;
use crate::boot::fdt::Interrupt;
use crate::machine::Trigger;
use std::string::String;
use std::vec;

fn read(blob: &[u8]) -> Result<HostInfo, BootError> {
    HostInfo::read(&HostTree::parse(blob).unwrap())
}

fn why(blob: &[u8]) -> String {
    std::format!("{}", read(blob).unwrap_err())
}

/// A small machine: `chosen` is what the loader adds; `change` edits the rest.
pub(in crate::boot) fn machine<'a>(chosen: Vec<Part<'a>>, change: impl FnOnce(&mut Vec<Part<'a>>)) -> Vec<u8> {
    let gic = vec![
        Text("compatible", &["arm,gic-400"]),
        Cells("interrupt-controller", vec![]),
        Cells("#interrupt-cells", vec![3]),
        Cells("phandle", vec![1]),
        Cells("reg", vec![0x1000, 0x1000, 0x2000, 0x2000, 0x4000, 0x2000, 0x6000, 0x2000]),
        Cells("interrupts", vec![1, 9, 0xf04]),
    ];
    let timer =
        vec![Text("compatible", &["arm,armv8-timer"]), Cells("interrupts", vec![1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08, 1, 10, 0xf08])];
    let cpu = vec![Text("device_type", &["cpu"]), Cells("reg", vec![0])];
    let mut parts = vec![
        Cells("#address-cells", vec![1]),
        Cells("#size-cells", vec![1]),
        Cells("interrupt-parent", vec![1]),
        Node("memory@80000000", vec![Text("device_type", &["memory"]), Cells("reg", vec![0x8000_0000, 0x4000_0000])]),
        Node("cpus", vec![Cells("#address-cells", vec![1]), Cells("#size-cells", vec![0]), Node("cpu@0", cpu)]),
        Node("interrupt-controller@1000", gic),
        Node("timer", timer),
        Node(
            "serial@9000",
            vec![Text("compatible", &["arm,pl011"]), Cells("reg", vec![0x9000, 0x1000]), Cells("interrupts", vec![0, 4, 4])],
        ),
        Node("chosen", chosen),
    ];
    change(&mut parts);
    tree(&parts)
}

fn module<'a>(at: u32, compatible: &'a [&'a str], bootargs: &'a [&'a str]) -> Vec<Part<'a>> {
    let mut parts = vec![Text("compatible", compatible), Cells("reg", vec![at, 0x1000])];
    if !bootargs.is_empty() {
        parts.push(Text("bootargs", bootargs));
    }
    parts
}

const PLAIN: &[&str] = &["multiboot,module"];

fn without(name: &str) -> impl FnOnce(&mut Vec<Part<'_>>) {
    move |parts| parts.retain(|part| !matches!(part, Node(node, _) if node.starts_with(name)))
}

#[test]
fn qemu_virt_with_gicv3() {
    let info = read(VIRT_V3).unwrap();
    assert_eq!(info.ram, [region(0x4000_0000, 0x1_0000_0000)]);
    assert_eq!(info.reserved, []);
    assert_eq!(info.cpus.iter().map(|cpu| (cpu.mpidr, cpu.enable)).collect::<Vec<_>>(), [(0, EnableMethod::Psci), (1, EnableMethod::Psci)]);
    assert_eq!(info.psci, Some(Psci { conduit: Conduit::Smc, cpu_on: 0xc400_0003, has_system_calls: true }));
    let redistributors = vec![region(0x80a_0000, 0x900_0000)];
    assert_eq!(info.gic.kind, GicKind::V3 { gicd: region(0x800_0000, 0x801_0000), redistributors, stride: None });
    assert_eq!(info.gic.maintenance, 25);
    let timer = info.timer;
    assert_eq!((timer.secure_physical, timer.physical, timer.virtual_, timer.hypervisor), (29, 30, 27, 26));
    let kernel = info.module(ModuleKind::Kernel).unwrap();
    assert_eq!(kernel.region, region(0x6000_0000, 0x62a1_cfc0));
    assert!(kernel.bootargs.as_deref().unwrap().starts_with("console=hvc0"));
    assert_eq!(info.module(ModuleKind::Ramdisk).unwrap().region.start(), MachineAddr(0x6800_0000));
    assert_eq!(info.free_ram(&[region(0x4020_0000, 0x4034_4000)]).len(), 4);
}

#[test]
fn qemu_virt_with_gicv2() {
    let info = read(VIRT_V2).unwrap();
    let GicKind::V2 { gicd, gicc, gich, gicv } = info.gic.kind else { panic!("{:?}", info.gic) };
    assert_eq!([gicd, gicc, gich, gicv].map(|part| part.start().0), [0x800_0000, 0x801_0000, 0x803_0000, 0x804_0000]);
    let mut frame = info.v2m[0].clone();
    assert_eq!((frame.registers.start().0, frame.spis), (0x802_0000, None));
    frame.set_typer(80 << 16 | 64);
    assert_eq!(frame.spis, Some((80, 64)));
    frame.spis = None;
    frame.set_typer(1000 << 16 | 64);
    assert_eq!(frame.spis, None);
}

#[test]
fn an_early_uart_is_named_by_kind_and_address() {
    let ns16550 = UartKind::Ns16550 { shift: 2, width: 4 };
    assert_eq!(UartKind::early("pl011,0x9000000"), Some((UartKind::Pl011, region(0x900_0000, 0x900_1000))));
    assert_eq!(UartKind::early("ns16550-32,fe215040"), Some((ns16550, region(0xfe21_5040, 0xfe21_6040))));
    for bad in ["", "pl011", "pl011,", "pl011,xyz", "teletype,0x9000000", "imx,0xffffffffffffffff"] {
        assert_eq!(UartKind::early(bad), None, "{bad}");
    }
}

#[test]
fn the_uart_is_the_one_named() {
    let tree = HostTree::parse(VIRT_V3).unwrap();
    let uart = tree.uart(Some("/pl011@9000000:115200n8")).unwrap();
    assert_eq!((uart.kind, uart.options.as_str()), (UartKind::Pl011, "115200n8"));
    assert_eq!(uart.registers, region(0x900_0000, 0x900_1000));
    assert_eq!(uart.interrupt, Some(Interrupt { intid: 33, trigger: Trigger::Level }));
    assert_eq!(tree.uart(None).unwrap().node, "/pl011@9000000");
    assert_eq!(tree.uart(Some("serial7")), Err(BootError::UnknownUart("serial7".into())));
    let blob = machine(vec![], |_| ());
    assert_eq!(HostTree::parse(&blob).unwrap().uart(None), Err(BootError::NoUart));
}

#[test]
fn modules_that_state_no_kind_are_kernel_and_ramdisk_in_order() {
    let blob = machine(
        vec![
            Node("module@80100000", module(0x8010_0000, &["xen,xsm-policy", "multiboot,module"], &[])),
            Node("module@80000000", module(0x8000_0000, PLAIN, &["root=/dev/sda"])),
            Node("module@80200000", module(0x8020_0000, PLAIN, &[])),
            Node("module@80300000", module(0x8030_0000, PLAIN, &[])),
        ],
        |_| (),
    );
    let kinds: Vec<_> = read(&blob).unwrap().modules.iter().map(|module| module.kind).collect();
    assert_eq!(kinds, [ModuleKind::Policy, ModuleKind::Kernel, ModuleKind::Ramdisk, ModuleKind::Unknown]);
}

#[test]
fn modules_of_domus_are_marked() {
    let domu = vec![
        Text("compatible", &["xen,domain"]),
        Node("module@81000000", module(0x8100_0000, &["multiboot,kernel", "multiboot,module"], &["domu"])),
    ];
    let blob = machine(vec![Node("domU1", domu), Node("module@80000000", module(0x8000_0000, PLAIN, &["dom0"]))], |_| ());
    let modules = read(&blob).unwrap().modules;
    assert_eq!(modules.iter().map(|module| module.for_domu).collect::<Vec<_>>(), [true, false]);
    let lines = HostTree::parse(&blob).unwrap().command_lines();
    assert_eq!(lines.dom0.as_deref(), Some("dom0"));
}

#[test]
fn the_ramdisk_of_the_linux_boot_protocol() {
    let initrd = |end| machine(vec![Cells("linux,initrd-start", vec![0x8000_0000]), Cells("linux,initrd-end", vec![0, end])], |_| ());
    let info = read(&initrd(0x8010_0000)).unwrap();
    assert_eq!(info.module(ModuleKind::Ramdisk).unwrap().region, region(0x8000_0000, 0x8010_0000));
    assert!(why(&initrd(0x8000_0000)).contains("linux,initrd-end"));
}

#[test]
fn whose_command_line_is_which() {
    let module = |args: &'static [&'static str]| Node("module@80000000", module(0x8000_0000, PLAIN, args));
    let lines = |chosen: Vec<Part<'_>>| {
        let blob = machine(chosen, |_| ());
        let lines = HostTree::parse(&blob).unwrap().command_lines();
        (lines.xen, lines.dom0)
    };
    let (bootargs, for_xen, for_dom0) =
        (|| Text("bootargs", &["plain"]), || Text("xen,xen-bootargs", &["xen"]), || Text("xen,dom0-bootargs", &["dom0"]));
    let some = |text: &str| Some(text.into());
    assert_eq!(lines(vec![bootargs(), for_xen(), for_dom0(), module(&["kernel"])]), ("xen".into(), some("dom0")));
    assert_eq!(lines(vec![bootargs(), for_xen(), module(&["kernel"])]), ("xen".into(), some("kernel")));
    assert_eq!(lines(vec![bootargs(), for_xen(), module(&[])]), ("xen".into(), some("plain")));
    assert_eq!(lines(vec![bootargs(), for_dom0(), module(&["kernel"])]), ("plain".into(), some("dom0")));
    assert_eq!(lines(vec![bootargs(), module(&["kernel"])]), ("plain".into(), some("kernel")));
    assert_eq!(lines(vec![bootargs(), module(&[])]), ("".into(), some("plain")));
    assert_eq!(lines(vec![]), ("".into(), None));
}

#[test]
fn reserved_memory_is_not_free() {
    let reserved = vec![
        Cells("#address-cells", vec![1]),
        Cells("#size-cells", vec![1]),
        Cells("ranges", vec![]),
        Node("frame@80000800", vec![Cells("reg", vec![0x8000_0800, 0x1000])]),
        Node("pool", vec![Cells("size", vec![0x1000])]),
    ];
    let info = read(&machine(vec![], |parts| parts.push(Node("reserved-memory", reserved)))).unwrap();
    assert_eq!(info.reserved, [region(0x8000_0000, 0x8000_2000)]);
    assert_eq!(info.free_ram(&[]), [region(0x8000_2000, 0xc000_0000)]);
}

#[test]
fn spin_table_cpus_have_a_release_address() {
    let cpus = |method: &'static [&'static str], release: u32| {
        machine(vec![], |parts| {
            without("cpus")(parts);
            let cpu = vec![
                Text("device_type", &["cpu"]),
                Cells("reg", vec![0x101]),
                Text("enable-method", method),
                Cells("cpu-release-addr", vec![0, release]),
            ];
            parts.push(Node("cpus", vec![Node("cpu@101", cpu)]));
        })
    };
    let cpu = read(&cpus(&["spin-table"], 0x80d8)).unwrap().cpus[0].clone();
    assert_eq!((cpu.mpidr, cpu.enable), (0x101, EnableMethod::SpinTable { release: MachineAddr(0x80d8) }));
    assert!(why(&cpus(&["spin-table"], 0x80d9)).contains("/cpus/cpu@101: property 'cpu-release-addr'"));
    assert!(why(&cpus(&["magic"], 0)).contains("enable-method \"magic\""));
}

#[test]
fn what_is_missing_is_named() {
    assert!(read(&machine(vec![], |_| ())).is_ok());
    assert_eq!(read(&machine(vec![], without("memory"))), Err(BootError::NoRam));
    assert_eq!(read(&machine(vec![], without("interrupt-controller"))), Err(BootError::NoGic));
    assert_eq!(read(&machine(vec![], without("timer"))), Err(BootError::NoTimer));
    assert_eq!(read(&machine(vec![], without("cpus"))), Err(BootError::NoCpus));
}

#[test]
fn modules_must_be_in_ram_and_apart() {
    let two = |a, b| {
        let chosen = vec![Node("module@a", module(a, PLAIN, &[])), Node("module@b", module(b, PLAIN, &[]))];
        why(&machine(chosen, |_| ()))
    };
    assert_eq!(
        two(0x8000_0000, 0x8000_0800),
        "/chosen/module@a at 0x80000000-0x80001000 overlaps /chosen/module@b at 0x80000800-0x80001800"
    );
    assert!(two(0x7fff_f800, 0x8100_0000).contains("/chosen/module@a at 0x7ffff800-0x80000800 is not in RAM"));
    let info = read(VIRT_V3).unwrap();
    assert_eq!(info.check_apart("the hypervisor", region(0x4020_0000, 0x4034_4000)), Ok(()));
    let clash = info.check_apart("the hypervisor", region(0x5fff_f000, 0x6000_1000)).unwrap_err();
    assert!(std::format!("{clash}").starts_with("the hypervisor at 0x5ffff000-0x60001000 overlaps /chosen/module@0x60000000"));
    let chosen = vec![Node("module@a", vec![Text("compatible", PLAIN)])];
    assert_eq!(why(&machine(chosen, |_| ())), "device tree node /chosen/module@a has no property 'reg'");
}

#[test]
fn a_gic_without_virtualization_is_refused() {
    let edited = |name: &'static str, value: Vec<u32>| {
        why(&machine(vec![], |parts| {
            for part in parts {
                if let Node("interrupt-controller@1000", gic) = part {
                    gic.retain(|part| !matches!(part, Cells(found, _) if *found == name));
                    gic.push(Cells(name, value.clone()));
                }
            }
        }))
    };
    assert!(edited("reg", vec![0x1000, 0x1000, 0x2000, 0x1000]).contains("/interrupt-controller@1000 cannot be used: its reg lacks GICH"));
    assert!(edited("interrupts", vec![0, 9, 4]).contains("not a PPI"));
    assert!(edited("#interrupt-cells", vec![1]).contains("'#interrupt-cells'"));
}

#[test]
fn device_addresses_go_through_the_buses_above() {
    let serial = || vec![Text("compatible", &["arm,pl011"]), Cells("reg", vec![0x100, 0x10])];
    let bus = |ranges: Option<Vec<u32>>| {
        let mut parts = vec![Cells("#address-cells", vec![1]), Cells("#size-cells", vec![1]), Node("serial@100", serial())];
        parts.splice(0..0, ranges.map(|ranges| Cells("ranges", ranges)));
        machine(vec![], |all| all.push(Node("soc", parts)))
    };
    let at = |blob: &[u8]| HostTree::parse(blob).unwrap().uart(Some("/soc/serial@100")).map(|uart| uart.registers.start().0);
    assert_eq!(at(&bus(Some(vec![]))), Ok(0x100));
    assert_eq!(at(&bus(Some(vec![0, 0x4000_0000, 0x80, 0x80, 0x5000_0000, 0x1000]))), Ok(0x5000_0080));
    assert!(at(&bus(Some(vec![0, 0x4000_0000, 0x108]))).is_err());
    assert!(at(&bus(None)).is_err());
    assert!(at(&bus(Some(vec![0, 0x4000_0000]))).is_err());
}
