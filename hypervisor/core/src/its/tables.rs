//! What an ITS knows of devices, events, collections and LPIs: in the hypervisor's memory, with limits, whatever a guest's tables say.

use super::command::Event;
use crate::addr::Mfn;
use crate::vgic::{FIRST_LPI, LPIS};
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Width of event numbers at most: 2048, as many as MSI-X has.
pub const EVENT_BITS: u32 = 11;
/// Devices at most.
const DEVICES: usize = 512;
/// Events of all devices at most, mapped or not.
const EVENTS: usize = 4 * LPIS as usize;

/// A device.
pub struct Device {
    /// DeviceID.
    pub id: u32,
    /// The hardware's table of its events.
    pub table: Mfn,
    /// Its pages, as log2.
    pub order: u32,
    /// By event: 1 + the LPI's number among LPIs, 0: not mapped.
    events: Vec<u16>,
}

/// An event that is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// The event.
    pub event: Event,
    /// Its collection.
    pub collection: u16,
}

/// All of it.
pub struct Tables {
    /// In no order; never grows beyond what it has room for.
    devices: Vec<Device>,
    /// By collection: the vCPU it goes to.
    collections: Vec<Option<u8>>,
    /// By LPI.
    lpis: Vec<Option<Mapped>>,
    /// The sum of all devices' events.
    events: usize,
}

impl Tables {
    pub fn new(collections: usize) -> Result<Self, TryReserveError> {
        let mut new = Self { devices: Vec::new(), collections: Vec::new(), lpis: Vec::new(), events: 0 };
        new.devices.try_reserve_exact(DEVICES)?;
        new.collections.try_reserve_exact(collections)?;
        new.collections.resize(collections, None);
        new.lpis.try_reserve_exact(LPIS as usize)?;
        new.lpis.resize(LPIS as usize, None);
        Ok(new)
    }

    fn device(&self, id: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// Whether the device is known.
    pub fn has(&self, device: u32) -> bool {
        self.device(device).is_some()
    }

    /// A device of 2^`event_bits` events, none mapped, in the place of what there was of it; `None` if that is too much.
    pub fn new_device(&self, id: u32, event_bits: u32, table: Mfn, order: u32) -> Option<Device> {
        let (count, old) = (1_usize << event_bits, self.device(id));
        let events = self.events - old.map_or(0, |old| old.events.len());
        if self.devices.len() - usize::from(old.is_some()) >= DEVICES || events + count > EVENTS {
            return None;
        }
        let mut events = Vec::new();
        events.try_reserve_exact(count).ok()?;
        events.resize(count, 0);
        Some(Device { id, table, order, events })
    }

    /// Adds what [`Self::new_device`] made, after [`Self::remove`].
    pub fn add(&mut self, device: Device) {
        self.events += device.events.len();
        self.devices.push(device);
    }

    /// Forgets a device; its LPIs are given to `each`.
    pub fn remove(&mut self, id: u32, mut each: impl FnMut(u32)) -> Option<Device> {
        let at = self.devices.iter().position(|device| device.id == id)?;
        let device = self.devices.swap_remove(at);
        self.events -= device.events.len();
        for index in device.events.iter().filter_map(|entry| entry.checked_sub(1)) {
            self.lpis.iter_mut().skip(usize::from(index)).take(1).for_each(|lpi| *lpi = None);
            each(FIRST_LPI + u32::from(index));
        }
        Some(device)
    }

    /// The vCPU of a collection.
    pub fn target(&self, collection: u16) -> Option<u8> {
        self.collections.get(usize::from(collection)).copied().flatten()
    }

    /// Sets it; false if there is no such collection.
    pub fn set_target(&mut self, collection: u16, vcpu: Option<u8>) -> bool {
        let Some(target) = self.collections.get_mut(usize::from(collection)) else { return false };
        *target = vcpu;
        true
    }

    /// How an LPI is mapped.
    pub fn mapped(&self, lpi: u32) -> Option<Mapped> {
        self.lpis.get(lpi.checked_sub(FIRST_LPI)? as usize).copied().flatten()
    }

    /// The LPIs of a collection.
    pub fn of_collection(&self, collection: u16) -> impl Iterator<Item = u32> + '_ {
        let is_member = move |lpi: &Option<Mapped>| lpi.is_some_and(|mapped| mapped.collection == collection);
        (FIRST_LPI..).zip(&self.lpis).filter(move |(_, lpi)| is_member(lpi)).map(|(intid, _)| intid)
    }

    /// The LPI of an event: `None` if the device is unknown or has no such event, `Some(None)` if it is not mapped.
    pub fn lpi(&self, event: Event) -> Option<Option<u32>> {
        let entry = self.device(event.device)?.events.get(event.id as usize)?;
        Some(entry.checked_sub(1).map(|index| FIRST_LPI + u32::from(index)))
    }

    /// Maps an event that is not mapped to an LPI that is not; false, and nothing done, if they are.
    pub fn map(&mut self, lpi: u32, mapped: Mapped) -> bool {
        let Some(index) = lpi.checked_sub(FIRST_LPI) else { return false };
        let device = self.devices.iter_mut().find(|device| device.id == mapped.event.device);
        let entry = device.and_then(|device| device.events.get_mut(mapped.event.id as usize)).filter(|entry| **entry == 0);
        match (entry, self.lpis.get_mut(index as usize)) {
            (Some(entry), Some(place @ None)) => {
                *entry = index as u16 + 1;
                *place = Some(mapped);
                true
            }
            _ => false,
        }
    }

    /// Moves an LPI that is mapped to another collection.
    pub fn set_collection(&mut self, lpi: u32, collection: u16) {
        let place = lpi.checked_sub(FIRST_LPI).and_then(|index| self.lpis.get_mut(index as usize));
        if let Some(Some(mapped)) = place {
            mapped.collection = collection;
        }
    }

    /// Forgets how an event is mapped.
    pub fn unmap(&mut self, event: Event) {
        let device = self.devices.iter_mut().find(|device| device.id == event.device);
        let entry = device.and_then(|device| device.events.get_mut(event.id as usize)).map(core::mem::take);
        if let Some(index) = entry.and_then(|entry| entry.checked_sub(1)) {
            self.lpis.iter_mut().skip(usize::from(index)).take(1).for_each(|lpi| *lpi = None);
        }
    }

    /// How many events are mapped, and the devices: for tests.
    #[cfg(test)]
    pub fn all(&self) -> (usize, &[Device]) {
        (self.lpis.iter().flatten().count(), &self.devices)
    }
}
