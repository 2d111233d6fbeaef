//! The NS16550 and its relatives (TI PC16550D data sheet): DesignWare's, the mini UART of the Raspberry Pi. They differ in how far apart the
//! registers are and how wide an access is.

use super::Uart;

/// How many registers there are.
pub const REGISTERS: usize = 8;

/// RBR and THR.
const DATA: usize = 0;
/// IER.
const INTERRUPT_ENABLE: usize = 1;
/// LCR.
const LINE_CONTROL: usize = 3;
/// MCR.
const MODEM_CONTROL: usize = 4;
/// LSR.
const LINE_STATUS: usize = 5;

/// `IER.ERBFI`: a byte was received.
const RECEIVED: u8 = 1;
/// `LCR.DLAB`: the divisor is in place of data and IER.
const DIVISOR_LATCH: u8 = 1 << 7;
/// `MCR.OUT2`: lets the interrupt out, on some.
const OUT2: u8 = 1 << 3;
/// `LSR.DR`: a byte waits.
const DATA_READY: u8 = 1;
/// `LSR.THRE`: there is room for a byte.
const TRANSMIT_EMPTY: u8 = 1 << 5;

/// An NS16550.
pub struct Driver {
    registers: *mut u8,
    shift: u32,
    width: u32,
}

// SAFETY: device registers answer to any CPU; a `Driver` is used by one at a time, as it is not Sync.
unsafe impl Send for Driver {}

impl Driver {
    /// The UART whose register n is at `registers + (n << shift)` and is accessed by `width` bytes, 4 or else 1.
    ///
    /// # Safety
    /// The [`REGISTERS`] are mapped as device memory, for good.
    pub unsafe fn new(registers: *mut u8, shift: u32, width: u32) -> Self {
        let uart = Self { registers, shift, width };
        uart.set(LINE_CONTROL, uart.get(LINE_CONTROL) & !DIVISOR_LATCH);
        uart.set(INTERRUPT_ENABLE, 0);
        uart
    }

    fn get(&self, register: usize) -> u8 {
        debug_assert!(register < REGISTERS);
        // SAFETY: within what `new` was given; aligned, for a shift of 2 or more goes with a width of 4.
        unsafe {
            let at = self.registers.add(register << self.shift);
            if self.is_wide() { at.cast::<u32>().read_volatile() as u8 } else { at.read_volatile() }
        }
    }

    fn set(&self, register: usize, value: u8) {
        debug_assert!(register < REGISTERS);
        // SAFETY: as in `get`.
        unsafe {
            let at = self.registers.add(register << self.shift);
            if self.is_wide() { at.cast::<u32>().write_volatile(value.into()) } else { at.write_volatile(value) }
        }
    }

    fn is_wide(&self) -> bool {
        self.width == 4 && self.shift >= 2
    }
}

impl Uart for Driver {
    fn write(&self, byte: u8) {
        while self.get(LINE_STATUS) & TRANSMIT_EMPTY == 0 {
            core::hint::spin_loop();
        }
        self.set(DATA, byte);
    }

    fn try_read(&self) -> Option<u8> {
        (self.get(LINE_STATUS) & DATA_READY != 0).then(|| self.get(DATA))
    }

    fn enable_receive_interrupt(&self) {
        self.set(MODEM_CONTROL, self.get(MODEM_CONTROL) | OUT2);
        self.set(INTERRUPT_ENABLE, RECEIVED);
    }

    fn clear_receive_interrupt(&self) {
        // It goes away with the bytes.
    }
}
