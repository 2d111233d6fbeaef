//! The console ring in a page that xenconsoled shares: the hypervisor stands where the guest would.
//!
//! The other side's indices are read once for each operation and never trusted: a distance that cannot be is a full, or an empty, ring.

use crate::addr::MachineAddr;
use crate::machine::Machine;
use core::mem::offset_of;
use guest_abi::io::console::XenconsInterface;

/// Bytes that the other side may leave unread.
pub const OUTPUT: usize = 2048;
const INPUT: usize = 1024;

/// A ring: the machine address of its page.
#[derive(Clone, Copy, Debug)]
pub struct Ring(MachineAddr);

impl Ring {
    /// The ring in the page at `page`.
    pub fn new(page: MachineAddr) -> Self {
        Self(page)
    }

    /// Its page.
    pub fn page(&self) -> MachineAddr {
        self.0
    }

    fn at(&self, offset: usize) -> MachineAddr {
        MachineAddr(self.0.0 + offset as u64)
    }

    fn distance(&self, machine: &dyn Machine, produced: usize, consumed: usize, most: usize) -> Option<usize> {
        let (produced, consumed) = (machine.load_u32(self.at(produced)), machine.load_u32(self.at(consumed)));
        Some(produced.wrapping_sub(consumed) as usize).filter(|distance| *distance <= most)
    }

    /// Bytes to be read.
    pub fn waiting(&self, machine: &dyn Machine) -> usize {
        self.distance(machine, offset_of!(XenconsInterface, in_prod), offset_of!(XenconsInterface, in_cons), INPUT).unwrap_or(0)
    }

    /// Whether no more can come in.
    pub fn is_input_full(&self, machine: &dyn Machine) -> bool {
        self.waiting(machine) == INPUT
    }

    /// Bytes that wait for the other side.
    pub fn written(&self, machine: &dyn Machine) -> usize {
        self.distance(machine, offset_of!(XenconsInterface, out_prod), offset_of!(XenconsInterface, out_cons), OUTPUT).unwrap_or(OUTPUT)
    }

    /// The next byte.
    pub fn take(&self, machine: &dyn Machine) -> Option<u8> {
        if self.waiting(machine) == 0 {
            return None;
        }
        let consumed = machine.load_u32(self.at(offset_of!(XenconsInterface, in_cons)));
        let mut byte = [0];
        machine.read(self.at(offset_of!(XenconsInterface, input) + consumed as usize % INPUT), &mut byte);
        machine.store_u32(self.at(offset_of!(XenconsInterface, in_cons)), consumed.wrapping_add(1));
        let [byte] = byte;
        Some(byte)
    }

    /// Writes a byte; `false`: there is no room.
    pub fn put(&self, machine: &dyn Machine, byte: u8) -> bool {
        if self.written(machine) >= OUTPUT {
            return false;
        }
        let produced = machine.load_u32(self.at(offset_of!(XenconsInterface, out_prod)));
        machine.write(self.at(offset_of!(XenconsInterface, output) + produced as usize % OUTPUT), &[byte]);
        machine.store_u32(self.at(offset_of!(XenconsInterface, out_prod)), produced.wrapping_add(1));
        true
    }
}
