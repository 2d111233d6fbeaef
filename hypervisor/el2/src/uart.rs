//! UARTs that can be the console: a driver each, chosen by what the device tree says. Firmware has set speed and format.

mod cadence;
mod imx;
mod ns16550;
mod pl011;

use alloc::boxed::Box;

use xenolith_core::boot::Region;
use xenolith_core::boot::host_tree::UartKind;

use crate::mm;

/// What the console needs of a UART. It is used by one CPU at a time.
pub trait Uart: Send {
    /// Writes a byte; waits while there is no room.
    fn write(&self, byte: u8);
    /// A received byte, if there is one.
    fn try_read(&self) -> Option<u8>;
    /// From now on the UART raises its interrupt while bytes wait.
    fn enable_receive_interrupt(&self);
    /// The interrupt was seen; called before the bytes are read, so that one that arrives meanwhile raises it again.
    fn clear_receive_interrupt(&self);
}

/// Starts the UART at `registers`, its interrupts off; `None` if there is no driver for its kind. Needs a heap.
///
/// # Safety
/// Such a UART is there, and nothing else drives it.
pub unsafe fn start(kind: UartKind, registers: Region) -> Option<Box<dyn Uart>> {
    let map = |len: usize| mm::map_device(registers.start(), len as u64);
    macro_rules! start {
        ($driver:ident) => {{
            let mapped = map(size_of::<$driver::Registers>()).cast::<$driver::Registers>();
            // SAFETY: mapped as device memory for good; that UART by the caller's word.
            Some(Box::new($driver::Driver::new(unsafe { &*mapped })))
        }};
    }
    match kind {
        UartKind::Pl011 => start!(pl011),
        UartKind::Cadence => start!(cadence),
        UartKind::Imx => start!(imx),
        UartKind::Ns16550 { shift, width } => {
            let mapped = map(ns16550::REGISTERS << shift);
            // SAFETY: as many registers are mapped as device memory for good; that UART by the caller's word.
            Some(Box::new(unsafe { ns16550::Driver::new(mapped, shift, width) }))
        }
        UartKind::Lpuart | UartKind::Unknown => None,
    }
}
