//! The Arm PL011 UART (Arm DDI 0183), and the SBSA generic UART, a subset.

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use super::Uart;

register_bitfields![u32,
    FLAGS [
        RX_EMPTY OFFSET(4) NUMBITS(1) [],
        TX_FULL OFFSET(5) NUMBITS(1) [],
    ],
    CONTROL [
        ENABLE OFFSET(0) NUMBITS(1) [],
        TX_ENABLE OFFSET(8) NUMBITS(1) [],
        RX_ENABLE OFFSET(9) NUMBITS(1) [],
    ],
    INTERRUPTS [
        RX OFFSET(4) NUMBITS(1) [],
        RX_TIMEOUT OFFSET(6) NUMBITS(1) [],
    ],
];

register_structs! {
    /// The registers.
    pub Registers {
        (0x00 => data: ReadWrite<u32>),
        (0x04 => _reserved0),
        (0x18 => flags: ReadOnly<u32, FLAGS::Register>),
        (0x1c => _reserved1),
        (0x30 => control: ReadWrite<u32, CONTROL::Register>),
        (0x34 => _reserved2),
        (0x38 => interrupt_mask: ReadWrite<u32, INTERRUPTS::Register>),
        (0x3c => _reserved3),
        (0x44 => interrupt_clear: WriteOnly<u32, INTERRUPTS::Register>),
        (0x48 => _reserved4),
        (0x1000 => @END),
    }
}

/// A PL011.
pub struct Driver(&'static Registers);

// SAFETY: device registers answer to any CPU; a `Driver` is used by one at a time, as it is not Sync.
unsafe impl Send for Driver {}

impl Driver {
    /// The UART with these registers.
    pub fn new(registers: &'static Registers) -> Self {
        registers.interrupt_mask.set(0);
        registers.control.modify(CONTROL::ENABLE::SET + CONTROL::TX_ENABLE::SET + CONTROL::RX_ENABLE::SET);
        Self(registers)
    }
}

impl Uart for Driver {
    fn write(&self, byte: u8) {
        while self.0.flags.is_set(FLAGS::TX_FULL) {
            core::hint::spin_loop();
        }
        self.0.data.set(byte.into());
    }

    fn try_read(&self) -> Option<u8> {
        (!self.0.flags.is_set(FLAGS::RX_EMPTY)).then(|| self.0.data.get() as u8)
    }

    fn enable_receive_interrupt(&self) {
        self.0.interrupt_clear.write(INTERRUPTS::RX::SET + INTERRUPTS::RX_TIMEOUT::SET);
        self.0.interrupt_mask.write(INTERRUPTS::RX::SET + INTERRUPTS::RX_TIMEOUT::SET);
    }

    fn clear_receive_interrupt(&self) {
        self.0.interrupt_clear.write(INTERRUPTS::RX::SET + INTERRUPTS::RX_TIMEOUT::SET);
    }
}
