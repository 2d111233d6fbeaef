//! Registers of a new vCPU, and the address map that the toolstack builds guests with. Source: xen/include/public/arch-arm.h,
//! device_tree_defs.h.

wire! {
    /// `struct vcpu_guest_core_regs`.
    CoreRegs, 312 bytes {
        /// x0 to x30.
        0 => x: [u64; 31],
        /// Where it starts.
        248 => pc64: u64,
        /// `PSTATE`, in the form of `SPSR_EL2`.
        256 => cpsr: u64,
        /// `SPSR_EL1`.
        264 => spsr_el1: u64,
        /// AArch32 only.
        272 => spsr_fiq: u32,
        /// AArch32 only.
        276 => spsr_irq: u32,
        /// AArch32 only.
        280 => spsr_und: u32,
        /// AArch32 only.
        284 => spsr_abt: u32,
        /// `SP_EL0`.
        288 => sp_el0: u64,
        /// `SP_EL1`.
        296 => sp_el1: u64,
        /// `ELR_EL1`.
        304 => elr_el1: u64,
    }
}
wire! {
    /// `struct vcpu_guest_context`, of [`crate::domctl::XEN_DOMCTL_SETVCPUCONTEXT`].
    VcpuGuestContext, 352 bytes {
        /// `VGCF_*`.
        0 => flags: u32,
        #[doc(hidden)]
        4 => _pad: u32,
        /// General registers.
        8 => user_regs: CoreRegs,
        /// `SCTLR_EL1`.
        320 => sctlr: u64,
        /// `TCR_EL1`.
        328 => ttbcr: u64,
        /// `TTBR0_EL1`.
        336 => ttbr0: u64,
        /// `TTBR1_EL1`.
        344 => ttbr1: u64,
    }
}
wire! {
    /// `struct xen_arch_domainconfig`.
    ArchDomainConfig, 12 bytes {
        /// `XEN_DOMCTL_CONFIG_GIC_*`.
        0 => gic_version: u8,
        /// SVE vector length in units of 128 bits; 0 for none.
        1 => sve_vl: u8,
        /// `XEN_DOMCTL_CONFIG_TEE_*`.
        2 => tee_type: u16,
        /// Shared peripheral interrupts.
        4 => nr_spis: u32,
        /// Out: `CNTFRQ_EL0` in Hz if the guest cannot rely on the register, else 0.
        8 => clock_frequency: u32,
    }
}

/// The vCPU is on.
pub const VGCF_ONLINE: u32 = 1 << 0;

/// As the machine's.
pub const XEN_DOMCTL_CONFIG_GIC_NATIVE: u8 = 0;
/// GICv2.
pub const XEN_DOMCTL_CONFIG_GIC_V2: u8 = 1;
/// GICv3.
pub const XEN_DOMCTL_CONFIG_GIC_V3: u8 = 2;
/// No trusted execution environment.
pub const XEN_DOMCTL_CONFIG_TEE_NONE: u16 = 0;
/// OP-TEE.
pub const XEN_DOMCTL_CONFIG_TEE_OPTEE: u16 = 1;
/// FF-A.
pub const XEN_DOMCTL_CONFIG_TEE_FFA: u16 = 2;

/// vCPUs that `shared_info` has room for.
pub const XEN_LEGACY_MAX_VCPUS: u32 = 1;
/// vCPUs of a guest at most. With GICv2: 8.
pub const GUEST_MAX_VCPUS: u32 = 128;

/// FIQ masked.
pub const PSR_FIQ_MASK: u64 = 1 << 6;
/// IRQ masked.
pub const PSR_IRQ_MASK: u64 = 1 << 7;
/// SError masked.
pub const PSR_ABT_MASK: u64 = 1 << 8;
/// Debug exceptions masked.
pub const PSR_DBG_MASK: u64 = 1 << 9;
/// Exception level 0.
pub const PSR_MODE_EL0T: u64 = 0x00;
/// Exception level 1 on `SP_EL0`.
pub const PSR_MODE_EL1T: u64 = 0x04;
/// Exception level 1 on `SP_EL1`.
pub const PSR_MODE_EL1H: u64 = 0x05;
/// The mode bits, with the one of AArch32.
pub const PSR_MODE_MASK: u64 = 0x1f;
/// AArch32.
pub const PSR_MODE_BIT: u64 = 0x10;
/// `PSTATE` of a new vCPU. Up to 4.20.3 Xen left debug exceptions unmasked (0x1c5).
pub const PSR_GUEST64_INIT: u64 = PSR_DBG_MASK | PSR_ABT_MASK | PSR_FIQ_MASK | PSR_IRQ_MASK | PSR_MODE_EL1H;
/// `SCTLR_EL1` of a new vCPU.
pub const SCTLR_GUEST_INIT: u64 = 0x00c5_0078;

/// virtio-mmio devices, 0x200 bytes each.
pub const GUEST_VIRTIO_MMIO_BASE: u64 = 0x0200_0000;
/// Bytes.
pub const GUEST_VIRTIO_MMIO_SIZE: u64 = 0x0010_0000;
/// GICv2 distributor.
pub const GUEST_GICD_BASE: u64 = 0x0300_1000;
/// Bytes.
pub const GUEST_GICD_SIZE: u64 = 0x1000;
/// GICv2 CPU interface.
pub const GUEST_GICC_BASE: u64 = 0x0300_2000;
/// Bytes.
pub const GUEST_GICC_SIZE: u64 = 0x2000;
/// GICv3 distributor; not aligned to its size.
pub const GUEST_GICV3_GICD_BASE: u64 = 0x0300_1000;
/// Bytes.
pub const GUEST_GICV3_GICD_SIZE: u64 = 0x1_0000;
/// Regions of GICv3 redistributors.
pub const GUEST_GICV3_RDIST_REGIONS: u32 = 1;
/// GICv3 redistributors, 128 KiB per vCPU.
pub const GUEST_GICV3_GICR0_BASE: u64 = 0x0302_0000;
/// Bytes.
pub const GUEST_GICV3_GICR0_SIZE: u64 = 0x0100_0000;
/// PCI configuration window.
pub const GUEST_VPCI_ECAM_BASE: u64 = 0x1000_0000;
/// Bytes.
pub const GUEST_VPCI_ECAM_SIZE: u64 = 0x1000_0000;
/// ACPI tables.
pub const GUEST_ACPI_BASE: u64 = 0x2000_0000;
/// Bytes.
pub const GUEST_ACPI_SIZE: u64 = 0x0200_0000;
/// Emulated UART.
pub const GUEST_PL011_BASE: u64 = 0x2200_0000;
/// Bytes.
pub const GUEST_PL011_SIZE: u64 = 0x1000;
/// PCI memory.
pub const GUEST_VPCI_MEM_ADDR: u64 = 0x2300_0000;
/// Bytes.
pub const GUEST_VPCI_MEM_SIZE: u64 = 0x1000_0000;
/// Where the guest maps its grant table.
pub const GUEST_GNTTAB_BASE: u64 = 0x3800_0000;
/// Bytes.
pub const GUEST_GNTTAB_SIZE: u64 = 0x0100_0000;
/// Pages of console, xenstore and others: `*_PFN_OFFSET`.
pub const GUEST_MAGIC_BASE: u64 = 0x3900_0000;
/// Bytes.
pub const GUEST_MAGIC_SIZE: u64 = 0x0100_0000;
/// Page of the console ring. Source: tools/libs/guest/xg_dom_arm.c, as the three below.
pub const CONSOLE_PFN_OFFSET: u64 = 0;
/// Page of the xenstore ring.
pub const XENSTORE_PFN_OFFSET: u64 = 1;
/// Page of the memory access ring.
pub const MEMACCESS_PFN_OFFSET: u64 = 2;
/// Page of the emulated UART's ring.
pub const VUART_PFN_OFFSET: u64 = 3;
/// Banks of RAM.
pub const GUEST_RAM_BANKS: usize = 2;
/// RAM below 4 GiB.
pub const GUEST_RAM0_BASE: u64 = 0x4000_0000;
/// Bytes at most.
pub const GUEST_RAM0_SIZE: u64 = 0xc000_0000;
/// PCI prefetchable memory.
pub const GUEST_VPCI_PREFETCH_MEM_ADDR: u64 = 0x1_0000_0000;
/// Bytes.
pub const GUEST_VPCI_PREFETCH_MEM_SIZE: u64 = 0x1_0000_0000;
/// RAM that the first bank has no room for.
pub const GUEST_RAM1_BASE: u64 = 0x2_0000_0000;
/// Bytes at most.
pub const GUEST_RAM1_SIZE: u64 = 0xfe_0000_0000;

/// Interrupt of the virtual timer.
pub const GUEST_TIMER_VIRT_PPI: u32 = 27;
/// Interrupt of the secure physical timer; never raised.
pub const GUEST_TIMER_PHYS_S_PPI: u32 = 29;
/// Interrupt of the physical timer.
pub const GUEST_TIMER_PHYS_NS_PPI: u32 = 30;
/// Interrupt of event channels. Dom0 has another: the first free one.
pub const GUEST_EVTCHN_PPI: u32 = 31;
/// Interrupt of the emulated UART.
pub const GUEST_VPL011_SPI: u32 = 32;
/// First interrupt of virtio devices.
pub const GUEST_VIRTIO_MMIO_SPI_FIRST: u32 = 33;
/// Last interrupt of virtio devices.
pub const GUEST_VIRTIO_MMIO_SPI_LAST: u32 = 43;

/// Device tree phandle of the interrupt controller.
pub const GUEST_PHANDLE_GIC: u32 = 65000;
/// Device tree phandle of the grant IOMMU of virtio.
pub const GUEST_PHANDLE_IOMMU: u32 = GUEST_PHANDLE_GIC + 1;
/// Device tree `#address-cells` of the root.
pub const GUEST_ROOT_ADDRESS_CELLS: u32 = 2;
/// Device tree `#size-cells` of the root.
pub const GUEST_ROOT_SIZE_CELLS: u32 = 2;
