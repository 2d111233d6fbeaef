//! The UART that is Xen's console.

use alloc::string::String;

use crate::addr::PAGE_SIZE;
use crate::boot::fdt::{Interrupt, Node};
use crate::boot::{BootError, HostTree, Region};

/// The UART that is Xen's console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uart {
    /// Path of its node: Dom0 does not get it.
    pub node: String,
    /// Which driver it needs.
    pub kind: UartKind,
    /// Its registers.
    pub registers: Region,
    /// Its interrupt, if it has one on the GIC.
    pub interrupt: Option<Interrupt>,
    /// What follows the `:` in `dtuart=` or stdout-path: driver options, e.g. `115200n8`. Firmware has set the UART up already.
    pub options: String,
}

/// Which driver a UART needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UartKind {
    /// Arm PL011 (also the SBSA generic UART, a subset).
    Pl011,
    /// Cadence, of Zynq.
    Cadence,
    /// NS16550 and its relatives.
    Ns16550 {
        /// A register's offset is its number shifted left by this.
        shift: u32,
        /// Bytes of an access: 1 or 4.
        width: u32,
    },
    /// Freescale LPUART.
    Lpuart,
    /// i.MX.
    Imx,
    /// There is no driver for it.
    Unknown,
}

impl UartKind {
    /// A UART as `XENOLITH_EARLY_UART` names it: `pl011`, `cadence`, `imx`, `ns16550` (registers of a byte) or `ns16550-32` (a byte every four),
    /// a comma, and the address of its registers in hexadecimal.
    pub fn early(text: &str) -> Option<(Self, Region)> {
        let (name, address) = text.split_once(',')?;
        let kind = match name {
            "pl011" => Self::Pl011,
            "cadence" => Self::Cadence,
            "imx" => Self::Imx,
            "ns16550" => Self::Ns16550 { shift: 0, width: 1 },
            "ns16550-32" => Self::Ns16550 { shift: 2, width: 4 },
            _ => return None,
        };
        let address = u64::from_str_radix(address.strip_prefix("0x").unwrap_or(address), 16).ok()?;
        Some((kind, Region::new(address, PAGE_SIZE)?))
    }
}

impl HostTree<'_> {
    /// The UART that `dtuart` (the option's value: path or alias, then `:options`) or else `/chosen/stdout-path` names.
    pub fn uart(&self, dtuart: Option<&str>) -> Result<Uart, BootError> {
        let chosen = self.root().child("chosen");
        let stdout = || chosen.and_then(|chosen| chosen.text("stdout-path").or_else(|| chosen.text("linux,stdout-path")));
        let named = dtuart.filter(|text| !text.is_empty()).or_else(stdout).ok_or(BootError::NoUart)?;
        let (path, options) = named.split_once(':').unwrap_or((named, ""));
        let node = self.find(path).ok_or_else(|| BootError::UnknownUart(path.into()))?;
        let registers = *node.reg()?.first().ok_or_else(|| node.missing("reg"))?;
        // The console must work before the GIC is known to be usable: a bad interrupt costs input, not output.
        let interrupt = self.gic_node().and_then(|gic| node.interrupts(gic).ok()).and_then(|lines| lines.first().copied());
        Ok(Uart { node: node.path(), kind: kind(node), registers, interrupt, options: options.into() })
    }
}

fn kind(node: Node<'_>) -> UartKind {
    let known = |compatible: &str| match compatible {
        "arm,pl011" | "arm,sbsa-uart" => Some(UartKind::Pl011),
        "cdns,uart-r1p8" | "cdns,uart-r1p12" | "xlnx,xuartps" => Some(UartKind::Cadence),
        "ns16550" | "ns16550a" | "snps,dw-apb-uart" | "nvidia,tegra20-uart" => {
            Some(UartKind::Ns16550 { shift: node.u32("reg-shift").unwrap_or(0).min(4), width: node.u32("reg-io-width").unwrap_or(1) })
        }
        // Of the Raspberry Pi; its tree does not say how far apart the registers are.
        "brcm,bcm2835-aux-uart" => Some(UartKind::Ns16550 { shift: 2, width: 4 }),
        "fsl,ls1021a-lpuart" | "fsl,imx8qxp-lpuart" => Some(UartKind::Lpuart),
        "fsl,imx6q-uart" | "fsl,imx21-uart" => Some(UartKind::Imx),
        _ => None,
    };
    node.texts("compatible").find_map(known).unwrap_or(UartKind::Unknown)
}
