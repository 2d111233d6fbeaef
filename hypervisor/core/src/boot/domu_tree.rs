//! The device tree of a domain that is built without a toolstack: the same nodes as Xen 4.20 writes, in the same order.

use alloc::format;
use alloc::vec::Vec;

use super::dom0_tree::{cpus, psci};
use super::domu::{DomuConfig, DomuDevices, Enhanced};
use super::fdt::TreeWriter;
use super::{HostTree, Region};
use crate::vgic::Version;
use guest_abi::arch_arm as arch;

/// PPIs are active low, for all CPUs; the UART's SPI is active high. Bindings arm,gic and arm,gic-v3.
const PPI: u32 = 1;
const PPI_FLAGS: u32 = 0xf08;
const SPI: u32 = 0;
const SPI_FLAGS: u32 = 0xf04;

/// What a domain's tree is made from.
pub struct TreeInput<'a> {
    /// The host's tree: for the CPUs' kind.
    pub host: &'a HostTree<'a>,
    /// What the domain asked for.
    pub config: &'a DomuConfig,
    /// Version of its interrupt controller.
    pub version: Version,
    /// Its memory.
    pub banks: &'a [Region],
    /// Address space for foreign pages.
    pub extended: &'a [Region],
    /// Where it finds its ramdisk.
    pub ramdisk: Option<Region>,
    /// Devices of the machine that it gets.
    pub devices: Option<&'a DomuDevices<'a>>,
}

/// Makes the tree, a flattened blob.
pub fn build(input: &TreeInput<'_>) -> Vec<u8> {
    let mut writer = TreeWriter::default();
    writer.begin("");
    writer.cells("#address-cells", &[arch::GUEST_ROOT_ADDRESS_CELLS]);
    writer.cells("#size-cells", &[arch::GUEST_ROOT_SIZE_CELLS]);
    chosen(&mut writer, input);
    psci(&mut writer);
    cpus(&mut writer, input.host, input.config.vcpus);
    memory(&mut writer, input.banks);
    if let Some(devices) = input.devices {
        devices.write(&mut writer);
    }
    let phandle = input.devices.map_or(arch::GUEST_PHANDLE_GIC, DomuDevices::gic_phandle);
    gic(&mut writer, input.version, phandle);
    timer(&mut writer, phandle);
    if input.config.vpl011 {
        uart(&mut writer, phandle);
    }
    if input.config.enhanced != Enhanced::No {
        hypervisor(&mut writer, input.extended, phandle);
    }
    writer.end();
    writer.finish()
}

fn chosen(writer: &mut TreeWriter, input: &TreeInput<'_>) {
    writer.begin("chosen");
    if let Some(bootargs) = &input.config.kernel.bootargs {
        writer.text("bootargs", bootargs);
    }
    if let Some(ramdisk) = input.ramdisk {
        writer.property("linux,initrd-start", &ramdisk.start().0.to_be_bytes());
        writer.property("linux,initrd-end", &ramdisk.end().0.to_be_bytes());
    }
    writer.end();
}

fn memory(writer: &mut TreeWriter, banks: &[Region]) {
    let Some(first) = banks.first() else { return };
    writer.begin(&format!("memory@{:x}", first.start().0));
    writer.text("device_type", "memory");
    let all: Vec<_> = banks.iter().map(|bank| (bank.start().0, bank.size())).collect();
    reg(writer, &all);
    writer.end();
}

fn gic(writer: &mut TreeWriter, version: Version, phandle: u32) {
    writer.begin(&format!("interrupt-controller@{:x}", arch::GUEST_GICD_BASE));
    writer.cells("#address-cells", &[0]);
    writer.cells("#interrupt-cells", &[3]);
    writer.property("interrupt-controller", &[]);
    match version {
        Version::V2 => {
            writer.text("compatible", "arm,gic-400");
            reg(writer, &[(arch::GUEST_GICD_BASE, arch::GUEST_GICD_SIZE), (arch::GUEST_GICC_BASE, arch::GUEST_GICC_SIZE)]);
        }
        Version::V3 => {
            writer.text("compatible", "arm,gic-v3");
            writer.cells("#redistributor-regions", &[arch::GUEST_GICV3_RDIST_REGIONS]);
            let distributor = (arch::GUEST_GICV3_GICD_BASE, arch::GUEST_GICV3_GICD_SIZE);
            reg(writer, &[distributor, (arch::GUEST_GICV3_GICR0_BASE, arch::GUEST_GICV3_GICR0_SIZE)]);
        }
    }
    writer.cells("linux,phandle", &[phandle]);
    writer.cells("phandle", &[phandle]);
    writer.end();
}

fn timer(writer: &mut TreeWriter, phandle: u32) {
    writer.begin("timer");
    writer.text("compatible", "arm,armv8-timer");
    let lines = [arch::GUEST_TIMER_PHYS_S_PPI, arch::GUEST_TIMER_PHYS_NS_PPI, arch::GUEST_TIMER_VIRT_PPI];
    writer.cells("interrupts", lines.map(|intid| [PPI, intid - 16, PPI_FLAGS]).as_flattened());
    interrupt_parent(writer, phandle);
    writer.end();
}

fn uart(writer: &mut TreeWriter, phandle: u32) {
    writer.begin(&format!("sbsa-uart@{:x}", arch::GUEST_PL011_BASE));
    writer.text("compatible", "arm,sbsa-uart");
    reg(writer, &[(arch::GUEST_PL011_BASE, arch::GUEST_PL011_SIZE)]);
    writer.cells("interrupts", &[SPI, arch::GUEST_VPL011_SPI - 32, SPI_FLAGS]);
    interrupt_parent(writer, phandle);
    // Of no consequence, but the binding wants it.
    writer.cells("current-speed", &[115_200]);
    writer.end();
}

/// Linux knows Xen by this node, and finds its grant table and address space for foreign pages in it.
fn hypervisor(writer: &mut TreeWriter, extended: &[Region], phandle: u32) {
    writer.begin("hypervisor");
    writer.texts("compatible", &["xen,xen-4.20", "xen,xen"]);
    let grants = core::iter::once((arch::GUEST_GNTTAB_BASE, arch::GUEST_GNTTAB_SIZE));
    let all: Vec<_> = grants.chain(extended.iter().map(|region| (region.start().0, region.size()))).collect();
    reg(writer, &all);
    writer.cells("interrupts", &[PPI, arch::GUEST_EVTCHN_PPI - 16, PPI_FLAGS]);
    interrupt_parent(writer, phandle);
    writer.end();
}

fn interrupt_parent(writer: &mut TreeWriter, phandle: u32) {
    writer.cells("interrupt-parent", &[phandle]);
}

/// `reg` below the root: addresses and sizes of two cells each.
fn reg(writer: &mut TreeWriter, ranges: &[(u64, u64)]) {
    let bytes: Vec<u8> = ranges.iter().flat_map(|(start, size)| [start.to_be_bytes(), size.to_be_bytes()]).flatten().collect();
    writer.property("reg", &bytes);
}
