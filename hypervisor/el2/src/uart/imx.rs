//! The i.MX UART (NXP i.MX 8M Plus reference manual, chapter UART).

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use super::Uart;

register_bitfields![u32,
    RECEIVED [
        BYTE OFFSET(0) NUMBITS(8) [],
        READY OFFSET(15) NUMBITS(1) [],
    ],
    CONTROL1 [
        ENABLE OFFSET(0) NUMBITS(1) [],
        TX_EMPTY_INTERRUPT OFFSET(6) NUMBITS(1) [],
        RX_READY_INTERRUPT OFFSET(9) NUMBITS(1) [],
        TX_READY_INTERRUPT OFFSET(13) NUMBITS(1) [],
    ],
    CONTROL2 [
        NO_RESET OFFSET(0) NUMBITS(1) [],
        RX_ENABLE OFFSET(1) NUMBITS(1) [],
        TX_ENABLE OFFSET(2) NUMBITS(1) [],
        AGING_INTERRUPT OFFSET(3) NUMBITS(1) [],
    ],
    FIFO [
        RX_TRIGGER OFFSET(0) NUMBITS(6) [],
    ],
    STATUS1 [
        AGING OFFSET(8) NUMBITS(1) [],
    ],
    TEST [
        TX_FULL OFFSET(4) NUMBITS(1) [],
    ],
];

register_structs! {
    /// The registers.
    pub Registers {
        (0x00 => receive: ReadOnly<u32, RECEIVED::Register>),
        (0x04 => _reserved0),
        (0x40 => transmit: WriteOnly<u32>),
        (0x44 => _reserved1),
        (0x80 => control1: ReadWrite<u32, CONTROL1::Register>),
        (0x84 => control2: ReadWrite<u32, CONTROL2::Register>),
        (0x88 => _reserved2),
        (0x90 => fifo: ReadWrite<u32, FIFO::Register>),
        (0x94 => status1: ReadWrite<u32, STATUS1::Register>),
        (0x98 => _reserved3),
        (0xb4 => test: ReadOnly<u32, TEST::Register>),
        (0xb8 => @END),
    }
}

/// An i.MX UART.
pub struct Driver(&'static Registers);

// SAFETY: device registers answer to any CPU; a `Driver` is used by one at a time, as it is not Sync.
unsafe impl Send for Driver {}

impl Driver {
    /// The UART with these registers.
    pub fn new(registers: &'static Registers) -> Self {
        let off = CONTROL1::TX_EMPTY_INTERRUPT::CLEAR + CONTROL1::RX_READY_INTERRUPT::CLEAR + CONTROL1::TX_READY_INTERRUPT::CLEAR;
        registers.control1.modify(CONTROL1::ENABLE::SET + off);
        let on = CONTROL2::NO_RESET::SET + CONTROL2::RX_ENABLE::SET + CONTROL2::TX_ENABLE::SET;
        registers.control2.modify(on + CONTROL2::AGING_INTERRUPT::CLEAR);
        Self(registers)
    }
}

impl Uart for Driver {
    fn write(&self, byte: u8) {
        while self.0.test.is_set(TEST::TX_FULL) {
            core::hint::spin_loop();
        }
        self.0.transmit.set(byte.into());
    }

    fn try_read(&self) -> Option<u8> {
        let received = self.0.receive.extract();
        received.is_set(RECEIVED::READY).then(|| received.read(RECEIVED::BYTE) as u8)
    }

    fn enable_receive_interrupt(&self) {
        self.0.fifo.modify(FIFO::RX_TRIGGER.val(1));
        self.0.control1.modify(CONTROL1::RX_READY_INTERRUPT::SET);
    }

    fn clear_receive_interrupt(&self) {
        // That bytes are ready goes away with them.
        self.0.status1.write(STATUS1::AGING::SET);
    }
}
