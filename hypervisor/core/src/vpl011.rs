//! The emulated UART of a guest: an SBSA generic UART, whose registers trap.
//!
//! What is on its other end is one of two: the hypervisor's own serial console (a domain of the device tree), or a ring in a page that
//! xenconsoled in the control domain reads and fills (a domain of the toolstack, `vuart = "sbsa_uart"`).
//!
//! As in Xen the interrupt is raised when a masked-in condition comes about; a condition that goes away is not signalled.
//!
//! Source: Arm Base System Architecture (DEN0094), appendix B; PL011 TRM (DDI 0183), chapter 3; xen/include/public/io/console.h.

use crate::addr::MachineAddr;
use crate::lock::Lock;
use crate::machine::Machine;
use crate::mmio::Size;
use alloc::boxed::Box;

mod line;
mod ring;

pub use line::{LINE, Line};
pub use ring::Ring;

/// Registers, by their offset.
mod register {
    pub const DR: u64 = 0x00;
    pub const FR: u64 = 0x18;
    pub const IMSC: u64 = 0x38;
    pub const RIS: u64 = 0x3c;
    pub const MIS: u64 = 0x40;
    pub const ICR: u64 = 0x44;
}

/// Bits of FR: transmitting, receive FIFO empty, transmit FIFO full, receive FIFO full, transmit FIFO empty.
mod flag {
    pub const BUSY: u32 = 1 << 3;
    pub const RX_EMPTY: u32 = 1 << 4;
    pub const TX_FULL: u32 = 1 << 5;
    pub const RX_FULL: u32 = 1 << 6;
    pub const TX_EMPTY: u32 = 1 << 7;
}

/// Bits of IMSC, RIS, MIS and ICR: bytes to read, room to write, some bytes to read for a while.
mod interrupt {
    pub const RX: u32 = 1 << 4;
    pub const TX: u32 = 1 << 5;
    pub const RX_TIMEOUT: u32 = 1 << 6;
}

/// Entries of the FIFOs that the guest is made to believe in.
const FIFO: usize = 32;
/// Received bytes that the console keeps for a guest that does not read.
const INPUT: usize = 256;

/// The emulated UART.
pub struct Vpl011(Lock<State>);

struct State {
    other_end: OtherEnd,
    mask: u32,
    raw: u32,
    flags: u32,
    /// The masked conditions that the guest was last interrupted for.
    told: u32,
}

enum OtherEnd {
    Console(Box<Console>),
    Ring {
        ring: Ring,
        port: u32,
    },
    /// The domain is dying.
    Nothing,
}

/// The serial console, as far as this guest is concerned.
struct Console {
    line: Line,
    input: Input,
}

/// Bytes typed at the console for this guest.
struct Input {
    bytes: [u8; INPUT],
    first: usize,
    count: usize,
}

/// What an access asks for.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Raise the UART's interrupt.
    pub interrupt: bool,
    /// Print this on the serial console.
    pub said: Option<Line>,
    /// Tell xenconsoled, whose end is connected to this port of the domain.
    pub notify: Option<u32>,
}

impl Vpl011 {
    /// A UART on the serial console.
    pub fn on_console() -> Self {
        let input = Input { bytes: [0; INPUT], first: 0, count: 0 };
        Self::new(OtherEnd::Console(Box::new(Console { line: Line::default(), input })))
    }

    /// A UART on the ring in a page, which the caller holds as long as this lives; `port` of the domain leads to xenconsoled.
    pub fn on_ring(page: MachineAddr, port: u32) -> Self {
        Self::new(OtherEnd::Ring { ring: Ring::new(page), port })
    }

    fn new(other_end: OtherEnd) -> Self {
        Self(Lock::new(State { other_end, mask: 0, raw: 0, flags: flag::RX_EMPTY | flag::TX_EMPTY, told: 0 }))
    }

    /// The page of its ring, if it is on one.
    pub fn ring_page(&self) -> Option<MachineAddr> {
        match &self.0.lock().other_end {
            OtherEnd::Ring { ring, .. } => Some(ring.page()),
            OtherEnd::Console(_) | OtherEnd::Nothing => None,
        }
    }

    /// Takes it off its ring, if it is on one: the page, which is the caller's again.
    pub fn take_ring_page(&self) -> Option<MachineAddr> {
        let mut state = self.0.lock();
        let OtherEnd::Ring { ring, .. } = &state.other_end else { return None };
        let page = ring.page();
        state.other_end = OtherEnd::Nothing;
        Some(page)
    }

    /// A load from a register, `offset` bytes into the device; `None`: it is refused.
    ///
    /// As in Xen a register that an SBSA UART has not reads as zero.
    pub fn read(&self, machine: &dyn Machine, offset: u64, size: Size) -> Option<(u64, Effects)> {
        if size == Size::Double {
            return None;
        }
        let mut state = self.0.lock();
        let (value, effects) = match offset {
            register::DR => {
                let (byte, notify) = state.take_byte(machine);
                let effects = Effects { notify, ..state.update() };
                (byte.into(), effects)
            }
            register::FR => (state.flags, Effects::default()),
            register::IMSC => (state.mask, Effects::default()),
            register::RIS => (state.raw, Effects::default()),
            register::MIS => (state.raw & state.mask, Effects::default()),
            _ => (0, Effects::default()),
        };
        Some((size.truncate(value.into()), effects))
    }

    /// A store to a register; `None`: it is refused. `has_input`: what is typed at the console goes to this guest, whose output then shows
    /// as it comes, without a prefix.
    ///
    /// As in Xen a store to any other register is ignored.
    pub fn write(&self, machine: &dyn Machine, offset: u64, size: Size, value: u64, has_input: bool) -> Option<Effects> {
        if size == Size::Double {
            return None;
        }
        let mut state = self.0.lock();
        let effects = match offset {
            register::DR => {
                let effects = state.put_byte(machine, value as u8, has_input);
                Effects { interrupt: state.update().interrupt, ..effects }
            }
            register::IMSC => {
                state.mask = value as u32;
                state.update()
            }
            register::ICR => {
                state.raw &= !(value as u32);
                state.update()
            }
            _ => Effects::default(),
        };
        Some(effects)
    }

    /// A byte was typed at the console for this guest. It is dropped when the guest does not read.
    pub fn receive(&self, byte: u8) -> Effects {
        let mut state = self.0.lock();
        let OtherEnd::Console(console) = &mut state.other_end else { return Effects::default() };
        console.input.push(byte);
        let (waiting, full) = (console.input.count, console.input.count == INPUT);
        state.has_arrived(waiting, full);
        state.update()
    }

    /// Xenconsoled moved the ring's indices.
    pub fn ring_moved(&self, machine: &dyn Machine) -> Effects {
        let mut state = self.0.lock();
        let OtherEnd::Ring { ring, .. } = &state.other_end else { return Effects::default() };
        let (waiting, full, written) = (ring.waiting(machine), ring.is_input_full(machine), ring.written(machine));
        state.has_arrived(waiting, full);
        state.has_left(written);
        state.update()
    }
}

impl State {
    /// Raises the interrupt if a condition came about that the guest was not told of.
    fn update(&mut self) -> Effects {
        let now = self.raw & self.mask;
        let new = now & !self.told;
        self.told = now;
        Effects { interrupt: new != 0, ..Effects::default() }
    }

    /// `waiting` bytes can be read.
    fn has_arrived(&mut self, waiting: usize, full: bool) {
        if waiting == 0 {
            return;
        }
        self.flags &= !flag::RX_EMPTY;
        if full {
            self.flags |= flag::RX_FULL;
        }
        if waiting >= FIFO / 2 {
            self.raw |= interrupt::RX;
        }
        self.raw |= interrupt::RX_TIMEOUT;
    }

    /// `written` bytes have not been read by xenconsoled.
    fn has_left(&mut self, written: usize) {
        if written < ring::OUTPUT {
            self.flags &= !flag::TX_FULL;
        }
        if written + FIFO / 2 <= ring::OUTPUT {
            self.raw |= interrupt::TX;
        }
        if written == 0 {
            self.flags &= !flag::BUSY;
            self.flags |= flag::TX_EMPTY;
        }
    }

    /// The next received byte, 0 if there is none, and whom to tell that it was taken.
    fn take_byte(&mut self, machine: &dyn Machine) -> (u8, Option<u32>) {
        let (byte, left, notify) = match &mut self.other_end {
            OtherEnd::Console(console) => (console.input.pop(), console.input.count, None),
            OtherEnd::Ring { ring, port } => {
                let byte = ring.take(machine);
                (byte, ring.waiting(machine), byte.and(Some(*port)))
            }
            OtherEnd::Nothing => (None, 0, None),
        };
        if byte.is_some() {
            self.flags &= !flag::RX_FULL;
        }
        if left == 0 {
            self.flags |= flag::RX_EMPTY;
            self.raw &= !interrupt::RX_TIMEOUT;
        }
        if left < FIFO / 2 {
            self.raw &= !interrupt::RX;
        }
        (byte.unwrap_or(0), notify)
    }

    fn put_byte(&mut self, machine: &dyn Machine, byte: u8, has_input: bool) -> Effects {
        match &mut self.other_end {
            OtherEnd::Console(console) => {
                let said = console.line.push(byte, has_input);
                // The console takes everything at once.
                self.raw |= interrupt::TX;
                self.flags |= flag::TX_EMPTY;
                Effects { said, ..Effects::default() }
            }
            OtherEnd::Ring { ring, port } => {
                let (port, taken) = (*port, ring.put(machine, byte));
                let written = ring.written(machine);
                if written >= ring::OUTPUT {
                    self.flags |= flag::TX_FULL;
                }
                if written + FIFO / 2 > ring::OUTPUT {
                    self.raw &= !interrupt::TX;
                } else {
                    self.raw |= interrupt::TX;
                }
                self.flags |= flag::BUSY;
                self.flags &= !flag::TX_EMPTY;
                Effects { notify: taken.then_some(port), ..Effects::default() }
            }
            OtherEnd::Nothing => Effects::default(),
        }
    }
}

impl Input {
    fn push(&mut self, byte: u8) {
        if self.count < INPUT
            && let Some(slot) = self.bytes.get_mut((self.first + self.count) % INPUT)
        {
            *slot = byte;
            self.count += 1;
        }
    }

    fn pop(&mut self) -> Option<u8> {
        self.count = self.count.checked_sub(1)?;
        let byte = self.bytes.get(self.first).copied();
        self.first = (self.first + 1) % INPUT;
        byte
    }
}

#[cfg(test)]
mod tests;
