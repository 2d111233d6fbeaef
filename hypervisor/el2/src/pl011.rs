//! The Arm PL011 UART (Arm DDI 0183). The firmware has set speed and format.

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

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
pub struct Pl011(&'static Registers);

// SAFETY: device registers answer to any CPU; a `Pl011` is used by one at a time, as it is not Sync.
unsafe impl Send for Pl011 {}

impl Pl011 {
    /// The UART whose registers are mapped at `registers`. Its interrupts are off until [`Self::enable_receive_interrupt`].
    pub fn new(registers: &'static Registers) -> Self {
        registers.interrupt_mask.set(0);
        registers.control.modify(CONTROL::ENABLE::SET + CONTROL::TX_ENABLE::SET + CONTROL::RX_ENABLE::SET);
        Self(registers)
    }

    /// Writes a byte; waits while the FIFO is full.
    pub fn write(&self, byte: u8) {
        while self.0.flags.is_set(FLAGS::TX_FULL) {
            core::hint::spin_loop();
        }
        self.0.data.set(byte.into());
    }

    /// A received byte, if there is one.
    pub fn try_read(&self) -> Option<u8> {
        (!self.0.flags.is_set(FLAGS::RX_EMPTY)).then(|| self.0.data.get() as u8)
    }

    /// From now on the UART raises its interrupt while bytes wait.
    pub fn enable_receive_interrupt(&self) {
        self.0.interrupt_clear.write(INTERRUPTS::RX::SET + INTERRUPTS::RX_TIMEOUT::SET);
        self.0.interrupt_mask.write(INTERRUPTS::RX::SET + INTERRUPTS::RX_TIMEOUT::SET);
    }

    /// The interrupt was seen; call before the bytes are read, so that one that arrives meanwhile raises it again.
    pub fn clear_receive_interrupt(&self) {
        self.0.interrupt_clear.write(INTERRUPTS::RX::SET + INTERRUPTS::RX_TIMEOUT::SET);
    }
}
