//! Commands of an ITS: what a guest's words ask for, and the words that the hardware gets (IHI 0069H, 5.3). Four words each.

use crate::addr::MachineAddr;

/// One command.
pub type Words = [u64; 4];
/// Bytes of one.
pub const SIZE: u64 = 32;

const MOVI: u8 = 0x01;
const INT: u8 = 0x03;
const CLEAR: u8 = 0x04;
const SYNC: u8 = 0x05;
const MAPD: u8 = 0x08;
const MAPC: u8 = 0x09;
const MAPTI: u8 = 0x0a;
const MAPI: u8 = 0x0b;
const INV: u8 = 0x0c;
const INVALL: u8 = 0x0d;
const MOVALL: u8 = 0x0e;
const DISCARD: u8 = 0x0f;
const VALID: u64 = 1 << 63;

/// What a device sends: who it is and which of its interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// DeviceID.
    pub device: u32,
    /// EventID.
    pub id: u32,
}

/// A guest's command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// MAPD: the device has 2^`event_bits` events; `None`: it is no longer known.
    MapDevice {
        /// DeviceID.
        device: u32,
        /// Width of its events' numbers.
        event_bits: Option<u32>,
    },
    /// MAPC: the collection goes to a redistributor, or to none.
    MapCollection {
        /// ICID.
        collection: u16,
        /// RDbase, a processor number.
        redistributor: Option<u64>,
    },
    /// MAPTI, MAPI: the event is this LPI, in this collection.
    MapEvent {
        /// The event.
        event: Event,
        /// pINTID.
        lpi: u32,
        /// ICID.
        collection: u16,
    },
    /// MOVI: the event is in this collection now.
    Move(Event, u16),
    /// DISCARD: the event is nothing any more.
    Discard(Event),
    /// INT: as if the device had sent it.
    Raise(Event),
    /// CLEAR: its LPI is not pending.
    Clear(Event),
    /// INV: its LPI's configuration has changed.
    Invalidate(Event),
    /// INVALL: configurations of the collection have changed.
    InvalidateAll(u16),
    /// SYNC, and MOVALL, since what is pending follows the collection: there is nothing to wait for, and nothing to move.
    Nothing,
}

impl Command {
    /// What the words say; `None`: no command that we know.
    pub fn decode([first, second, third, _]: Words) -> Option<Self> {
        let event = Event { device: (first >> 32) as u32, id: second as u32 };
        let is_valid = third & VALID != 0;
        let collection = third as u16;
        Some(match first as u8 {
            MAPD => Self::MapDevice { device: event.device, event_bits: is_valid.then_some((second & 0x1f) as u32 + 1) },
            MAPC => Self::MapCollection { collection, redistributor: is_valid.then_some(third >> 16 & 0x7_ffff_ffff) },
            MAPTI => Self::MapEvent { event, lpi: (second >> 32) as u32, collection },
            MAPI => Self::MapEvent { event, lpi: event.id, collection },
            MOVI => Self::Move(event, collection),
            DISCARD => Self::Discard(event),
            INT => Self::Raise(event),
            CLEAR => Self::Clear(event),
            INV => Self::Invalidate(event),
            INVALL => Self::InvalidateAll(collection),
            SYNC | MOVALL => Self::Nothing,
            _ => return None,
        })
    }
}

const fn of_event(command: u8, event: Event) -> Words {
    [(event.device as u64) << 32 | command as u64, event.id as u64, 0, 0]
}

/// MAPD: the translation table, which is zero, has room for 2^`event_bits` events.
pub const fn map_device(device: u32, table: MachineAddr, event_bits: u32) -> Words {
    [(device as u64) << 32 | MAPD as u64, event_bits.saturating_sub(1) as u64, VALID | table.0, 0]
}

/// MAPD: the table is not used any more.
pub const fn unmap_device(device: u32) -> Words {
    [(device as u64) << 32 | MAPD as u64, 0, 0, 0]
}

/// MAPC. `redistributor`: as RDbase has it, in place.
pub const fn map_collection(collection: u16, redistributor: u64) -> Words {
    [MAPC as u64, 0, VALID | redistributor | collection as u64, 0]
}

/// MAPTI.
pub const fn map_event(event: Event, lpi: u32, collection: u16) -> Words {
    [(event.device as u64) << 32 | MAPTI as u64, (lpi as u64) << 32 | event.id as u64, collection as u64, 0]
}

/// MOVI.
pub const fn move_event(event: Event, collection: u16) -> Words {
    [(event.device as u64) << 32 | MOVI as u64, event.id as u64, collection as u64, 0]
}

/// DISCARD.
pub const fn discard(event: Event) -> Words {
    of_event(DISCARD, event)
}

/// CLEAR.
pub const fn clear(event: Event) -> Words {
    of_event(CLEAR, event)
}

/// INV.
pub const fn invalidate(event: Event) -> Words {
    of_event(INV, event)
}

/// INVALL.
pub const fn invalidate_all(collection: u16) -> Words {
    [INVALL as u64, 0, collection as u64, 0]
}

/// SYNC. `redistributor`: as RDbase has it, in place.
pub const fn sync(redistributor: u64) -> Words {
    [SYNC as u64, 0, redistributor, 0]
}
