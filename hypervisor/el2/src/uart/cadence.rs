//! The Cadence UART of Zynq and Versal (Xilinx UG1087, module UART).

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use super::Uart;

register_bitfields![u32,
    CONTROL [
        RX_ENABLE OFFSET(2) NUMBITS(1) [],
        TX_ENABLE OFFSET(4) NUMBITS(1) [],
    ],
    STATUS [
        RX_EMPTY OFFSET(1) NUMBITS(1) [],
        TX_FULL OFFSET(4) NUMBITS(1) [],
    ],
    INTERRUPTS [
        RX_TRIGGER OFFSET(0) NUMBITS(1) [],
        RX_TIMEOUT OFFSET(8) NUMBITS(1) [],
    ],
];

register_structs! {
    /// The registers.
    pub Registers {
        (0x00 => control: ReadWrite<u32, CONTROL::Register>),
        (0x04 => _reserved0),
        (0x08 => interrupt_enable: WriteOnly<u32, INTERRUPTS::Register>),
        (0x0c => interrupt_disable: WriteOnly<u32>),
        (0x10 => _reserved1),
        (0x14 => interrupt_status: ReadWrite<u32, INTERRUPTS::Register>),
        (0x18 => _reserved2),
        (0x20 => rx_trigger: ReadWrite<u32>),
        (0x24 => _reserved3),
        (0x2c => status: ReadOnly<u32, STATUS::Register>),
        (0x30 => fifo: ReadWrite<u32>),
        (0x34 => @END),
    }
}

/// A Cadence UART.
pub struct Driver(&'static Registers);

// SAFETY: device registers answer to any CPU; a `Driver` is used by one at a time, as it is not Sync.
unsafe impl Send for Driver {}

impl Driver {
    /// The UART with these registers. A boot loader that printed nothing has not switched it on.
    pub fn new(registers: &'static Registers) -> Self {
        registers.interrupt_disable.set(!0);
        registers.control.write(CONTROL::RX_ENABLE::SET + CONTROL::TX_ENABLE::SET);
        Self(registers)
    }
}

impl Uart for Driver {
    fn write(&self, byte: u8) {
        while self.0.status.is_set(STATUS::TX_FULL) {
            core::hint::spin_loop();
        }
        self.0.fifo.set(byte.into());
    }

    fn try_read(&self) -> Option<u8> {
        (!self.0.status.is_set(STATUS::RX_EMPTY)).then(|| self.0.fifo.get() as u8)
    }

    fn enable_receive_interrupt(&self) {
        self.0.rx_trigger.set(1);
        self.clear_receive_interrupt();
        self.0.interrupt_enable.write(INTERRUPTS::RX_TRIGGER::SET + INTERRUPTS::RX_TIMEOUT::SET);
    }

    fn clear_receive_interrupt(&self) {
        self.0.interrupt_status.write(INTERRUPTS::RX_TRIGGER::SET + INTERRUPTS::RX_TIMEOUT::SET);
    }
}
