//! The interrupt controller of this machine, whichever version it is: each call goes to `gic_v2` or `gic_v3`, as [`init`] found it.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use xenolith_core::addr::CpuId;
use xenolith_core::boot::host_tree::GicKind;
use xenolith_core::machine::Trigger;
use xenolith_core::vgic::{HardwareGic, Version};

use crate::{gic_v2, gic_v3};

pub mod list_registers;

/// Makes a CPU leave the guest or its idle loop.
pub const SGI_KICK: u32 = 0;
/// Makes a CPU stop for good; [`acknowledge`] obeys by itself.
pub const SGI_STOP: u32 = 1;
/// Interrupt numbers from here on are special: no interrupt is pending.
pub const SPECIAL: u32 = 1020;
/// One priority for all, below the mask.
pub const PRIORITY: u32 = 0xa0a0_a0a0;

/// Why the GIC cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GicError {
    /// GICD_PIDR2 is not that of a GICv3 or v4.
    NotV3,
    /// A CPU without redistributor.
    NoRedistributor,
    /// The CPU interface cannot be used by system registers at EL2.
    NoSystemRegisters,
    /// A CPU beyond the eighth on a GICv2.
    TooManyCpus,
}

impl fmt::Display for GicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotV3 => "the interrupt controller is not a GICv3: GICD_PIDR2 says otherwise",
            Self::NoRedistributor => "the interrupt controller has no redistributor for this CPU",
            Self::NoSystemRegisters => "the interrupt controller cannot be used by system registers: firmware has not set ICC_SRE_EL3",
            Self::TooManyCpus => "the interrupt controller is a GICv2: it has no interface for a ninth CPU",
        })
    }
}

/// Set once, at boot.
static IS_V2: AtomicBool = AtomicBool::new(false);

#[inline]
fn is_v2() -> bool {
    IS_V2.load(Ordering::Relaxed)
}

/// Finds and resets the distributor: all SPIs off, level-sensitive, for this CPU. Then [`init_cpu`] on every CPU.
///
/// # Safety
/// The interrupt controller is as `kind` says, and nothing else drives it.
pub unsafe fn init(kind: &GicKind) -> Result<(), GicError> {
    match kind {
        GicKind::V2 { gicd, gicc, gich, gicv } => {
            IS_V2.store(true, Ordering::Relaxed);
            // SAFETY: the caller's word.
            unsafe { gic_v2::init(*gicd, *gicc, *gich, *gicv) };
            Ok(())
        }
        // SAFETY: the caller's word.
        GicKind::V3 { gicd, redistributors, stride } => unsafe { gic_v3::init(*gicd, redistributors, *stride) },
    }
}

/// What it can give to guests.
pub fn hardware() -> HardwareGic {
    if is_v2() {
        HardwareGic { version: Version::V2, gicv: Some(gic_v2::gicv()) }
    } else {
        HardwareGic { version: Version::V3, gicv: None }
    }
}

macro_rules! either {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            $(#[$doc])*
            #[inline]
            pub fn $name($($argument: $type),*) $(-> $result)? {
                if is_v2() { gic_v2::$name($($argument),*) } else { gic_v3::$name($($argument),*) }
            }
        )*
    };
}

either! {
    /// Switches this CPU's interface on. SGIs are enabled, PPIs are not ([`set_ppi_enabled`]).
    fn init_cpu() -> Result<(), GicError>;
    /// Enables or disables a PPI (16 to 31) of this CPU.
    fn set_ppi_enabled(intid: u32, enabled: bool);
    /// Takes the most urgent pending interrupt of this CPU: it is then active, and [`priority_drop`] must follow. `None`: nothing is
    /// pending. Stops this CPU for good if another one asked for that.
    fn acknowledge() -> Option<u32>;
    /// Other interrupts may come again; this one stays active until it is deactivated.
    fn priority_drop(intid: u32);
    /// This interrupt may come again. An SPI may be deactivated from any CPU.
    fn deactivate(intid: u32);
    /// Interrupts one CPU, once it is online.
    fn send_sgi(intid: u32, to: CpuId);
    /// Interrupts all other CPUs of the machine.
    fn send_sgi_to_others(intid: u32);
    /// SPIs that the GIC has; the first is 32.
    fn spi_count() -> u32;
    /// Whether the GIC is set up, so that [`send_sgi_to_others`] can be used.
    fn is_ready() -> bool;
    /// Enables or disables an SPI. The change is in effect on return.
    fn spi_set_enabled(intid: u32, enabled: bool);
    /// Configures an SPI that is disabled. Sixteen share a register: one caller at a time (the hardware domain's vGIC lock).
    fn spi_set_trigger(intid: u32, trigger: Trigger);
    /// Deactivates an SPI, wherever it was acknowledged.
    fn spi_deactivate(intid: u32);
}
