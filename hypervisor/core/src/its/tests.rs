//! The ITS as the hardware domain's kernel uses it, as it should not, and at random against a model of the machine's.

use super::command::{Command, Event, Words};
use super::*;
use crate::addr::{MachineAddr, Mfn};
use crate::domain::Domain;
use crate::frames::FrameKind;
use crate::machine::fake::Asked;
use crate::policy::Policy;
use crate::testbed::Testbed;
use crate::vgic::list_register::ListRegister;
use crate::vgic::{FIRST_LPI, GicCpuContext, LPIS, VgicConfig};
use guest_abi::arch_arm as arch;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

const BASE: Ipa = Ipa(0x0808_0000);
const VCPUS: u32 = 3;
const CPUS: u8 = 2;
/// RAM pages: the queue, then the configuration table.
const QUEUE: u64 = 0;
const TABLE: u64 = 4;
const QUEUE_PAGES: u64 = 2;
const GICR: u64 = arch::GUEST_GICV3_GICR0_BASE;

/// What the machine's ITS was told, and what it must never be.
#[derive(Default)]
struct Hardware {
    devices: BTreeMap<u32, (u64, u32)>,
    events: BTreeMap<(u32, u32), (u32, u16)>,
}

impl Hardware {
    fn take(&mut self, bed: &Testbed) {
        for asked in bed.machine.take_asked() {
            let Asked::Its(commands, cpu) = asked else { continue };
            assert!(cpu.0 < CPUS);
            commands.iter().for_each(|words| self.command(*words));
        }
        for (at, bits) in self.devices.values() {
            for page in (*at..at + (12 << bits)).step_by(4096) {
                let info = bed.hv.frames.info(Mfn::containing(MachineAddr(page))).unwrap();
                assert_eq!((info.kind, info.references), (FrameKind::Hypervisor, 1), "no other's memory");
            }
        }
    }

    fn command(&mut self, words: Words) {
        match Command::decode(words).unwrap() {
            Command::MapDevice { device, event_bits: Some(bits) } => {
                assert!(!self.devices.contains_key(&device));
                let table = words[2] & 0x000f_ffff_ffff_ff00;
                let size = 12 << bits;
                assert!(self.devices.values().all(|(other, bits)| table + size <= *other || other + (12 << bits) <= table));
                self.devices.insert(device, (table, bits));
            }
            Command::MapDevice { device, event_bits: None } => {
                self.devices.remove(&device).unwrap();
                self.events.retain(|(of, _), _| *of != device);
            }
            Command::MapEvent { event, lpi, collection } => {
                self.check(event);
                assert!(collection < CPUS.into() && (FIRST_LPI..FIRST_LPI + LPIS).contains(&lpi));
                assert!(self.events.values().all(|(other, _)| *other != lpi), "an LPI of two events");
                assert!(self.events.insert((event.device, event.id), (lpi, collection)).is_none());
            }
            Command::Move(event, collection) => {
                assert!(collection < CPUS.into());
                self.events.get_mut(&(event.device, event.id)).unwrap().1 = collection;
            }
            Command::Discard(event) => assert!(self.events.remove(&(event.device, event.id)).is_some()),
            Command::Clear(event) | Command::Invalidate(event) => assert!(self.events.contains_key(&(event.device, event.id))),
            Command::InvalidateAll(collection) => assert!(collection < CPUS.into()),
            other => panic!("{other:?}"),
        }
    }

    fn check(&self, event: Event) {
        assert!(event.id < 1 << self.devices[&event.device].1);
    }
}

/// A hardware domain, its kernel's view of the queue, and the machine's ITS.
struct Guest {
    bed: Testbed,
    dom0: Arc<Domain>,
    write: u64,
    hardware: Hardware,
}

impl Guest {
    /// As the kernel has it after `its_init`, but for collections.
    fn new() -> Self {
        let guest = Self::off();
        for vcpu in 0..u64::from(VCPUS) {
            let frame = GICR + vcpu * 0x2_0000;
            guest.gic(frame + 0x70, Size::Double, Testbed::va(TABLE, 0) | 0x0700_0000_0000_0780 | 13);
            guest.gic(frame + 0x78, Size::Double, Testbed::va(8, 0));
            guest.gic(frame, Size::Word, 1);
        }
        guest.set(CBASER, VALID | Testbed::va(QUEUE, 0) | (QUEUE_PAGES - 1));
        guest.set(CTLR, ENABLED);
        guest
    }

    fn off() -> Self {
        let bed = Testbed::new(Policy::Silo);
        let dom0 = bed.domain_with(0, 16, VCPUS, VgicConfig::guest_v3().with_lpis());
        let config = ItsConfig { base: BASE, device_bits: 16, event_bits: 16, entry_size: 12, cpus: CPUS };
        dom0.its.call_once(|| Its::new(config, VCPUS).unwrap());
        bed.machine.take_asked();
        Self { bed, dom0, write: 0, hardware: Hardware::default() }
    }

    fn gic(&self, at: u64, size: Size, value: u64) {
        let _ = self.dom0.vgic.write(self.bed.machine, 0, Ipa(at), size, value);
    }

    /// A store, once.
    fn set(&self, register: u64, value: u64) -> Written {
        self.bed.hv.its_write(&self.dom0, Ipa(BASE.0 + register), Size::Double, value)
    }

    fn get(&self, register: u64) -> u64 {
        self.bed.hv.its_read(&self.dom0, Ipa(BASE.0 + register), Size::Double).unwrap()
    }

    fn put(&mut self, words: Words) {
        self.bed.poke(&self.dom0, Testbed::va(QUEUE, self.write), &words);
        self.write = (self.write + SIZE) % (QUEUE_PAGES << 12);
    }

    /// Writes commands and lets them be done; how often the store was executed.
    fn run(&mut self, commands: &[Words]) -> u32 {
        commands.iter().for_each(|words| self.put(*words));
        self.finish()
    }

    fn finish(&mut self) -> u32 {
        for times in 1..1000 {
            let written = self.set(CWRITER, self.write);
            self.hardware.take(&self.bed);
            if written == Written::Done {
                return times;
            }
        }
        panic!("commands do not end");
    }

    fn configure(&self, lpi: u32, byte: u8) {
        self.bed.poke(&self.dom0, Testbed::va(TABLE, u64::from(lpi - FIRST_LPI)), &[byte]);
    }

    /// What vCPU `vcpu` finds in its list registers, and completes, until there is no more.
    fn delivered(&self, vcpu: u32) -> Vec<u32> {
        let mut context = GicCpuContext::default();
        let mut all = Vec::new();
        loop {
            self.dom0.vgic.fill(self.bed.machine, vcpu, &mut context.list_registers(4));
            let before = all.len();
            all.extend(context.lrs.map(ListRegister).iter().filter(|lr| lr.is_pending()).map(|lr| lr.intid()));
            context.lrs.fill(0);
            if all.len() == before {
                return all;
            }
        }
    }

    /// The machine's LPI of an event, as a device makes it pending.
    fn device_sends(&self, device: u32, event: u32) {
        let (lpi, _) = self.hardware.events[&(device, event)];
        self.bed.hv.lpi_arrived(&self.dom0, lpi);
    }

    fn mapped(&self) -> usize {
        self.dom0.its.get().unwrap().state.lock().tables.all().0
    }
}

const DEVICE: u32 = 0x10;

fn mapc(collection: u16, vcpu: u32) -> Words {
    command::map_collection(collection, u64::from(vcpu) << 16)
}

fn mapd(device: u32, bits: u32) -> Words {
    command::map_device(device, MachineAddr(0xdead_0000), bits)
}

fn mapti(device: u32, id: u32, lpi: u32, collection: u16) -> Words {
    command::map_event(Event { device, id }, lpi, collection)
}

fn inv(device: u32, id: u32) -> Words {
    command::invalidate(Event { device, id })
}

fn setup() -> Guest {
    let mut guest = Guest::new();
    guest.configure(8192, 0xa1);
    guest.run(&[mapc(0, 0), mapc(1, 1), mapc(2, 2), mapd(DEVICE, 5), mapti(DEVICE, 3, 8192, 1), inv(DEVICE, 3)]);
    guest
}

#[test]
fn a_message_becomes_an_lpi_of_the_collections_vcpu() {
    let mut guest = setup();
    assert_eq!(guest.get(CREADR), guest.write);
    assert_eq!(guest.hardware.events[&(DEVICE, 3)], (8192, 1));
    guest.device_sends(DEVICE, 3);
    assert_eq!((guest.delivered(0), guest.delivered(1)), (vec![], vec![8192]));
    guest.run(&[command::move_event(Event { device: DEVICE, id: 3 }, 2)]);
    assert_eq!(guest.hardware.events[&(DEVICE, 3)], (8192, 0), "the third of two CPUs is the first");
    guest.run(&[mapc(2, 0)]);
    guest.device_sends(DEVICE, 3);
    assert_eq!((guest.delivered(2), guest.delivered(0)), (vec![], vec![8192]), "a collection that moved takes its LPIs with it");
}

#[test]
fn configuration_is_taken_over_when_asked() {
    let mut guest = setup();
    guest.configure(8192, 0xa0);
    guest.device_sends(DEVICE, 3);
    guest.run(&[inv(DEVICE, 3)]);
    assert_eq!(guest.delivered(1), []);
    guest.configure(8192, 0x61);
    guest.run(&[command::invalidate_all(1)]);
    assert_eq!(guest.delivered(1), [8192], "it was pending");
}

#[test]
fn int_clear_and_discard() {
    let mut guest = setup();
    let event = Event { device: DEVICE, id: 3 };
    let int = [u64::from(DEVICE) << 32 | 3, 3, 0, 0];
    guest.run(&[int, command::clear(event)]);
    assert_eq!(guest.delivered(1), []);
    guest.run(&[int]);
    assert_eq!(guest.delivered(1), [8192]);
    guest.run(&[command::discard(event), int]);
    assert_eq!((guest.delivered(1), guest.mapped()), (vec![], 0));
    guest.bed.hv.lpi_arrived(&guest.dom0, 8192);
    assert_eq!(guest.delivered(1), [], "one that was under way is lost");
    guest.run(&[mapti(DEVICE, 5, 8192, 1), inv(DEVICE, 5)]);
    assert_eq!(guest.delivered(1), [], "and is not the next event's");
    guest.device_sends(DEVICE, 5);
    assert_eq!(guest.delivered(1), [8192]);
}

#[test]
fn what_is_not_there_is_ignored_and_never_gets_to_the_hardware() {
    let mut guest = setup();
    let hostile = [
        mapd(0x1_0000, 5),
        mapd(7, 12),
        mapti(DEVICE, 32, 8193, 1),
        mapti(DEVICE, u32::MAX, 8193, 1),
        mapti(DEVICE + 1, 0, 8193, 1),
        mapti(DEVICE, 4, 8191, 1),
        mapti(DEVICE, 4, FIRST_LPI + LPIS, 1),
        mapti(DEVICE, 4, u32::MAX, 1),
        mapti(DEVICE, 4, 8192, 1),
        mapti(DEVICE, 4, 8193, 3),
        mapti(DEVICE, 4, 8193, u16::MAX),
        mapc(4, 0),
        mapc(1, VCPUS),
        command::map_collection(1, 0x7_ffff_ffff << 16),
        inv(DEVICE, 4),
        inv(DEVICE, 32),
        inv(1, 3),
        command::invalidate_all(3),
        command::discard(Event { device: DEVICE, id: 4 }),
        command::clear(Event { device: 1, id: 3 }),
        command::move_event(Event { device: DEVICE, id: 3 }, 3),
        command::move_event(Event { device: DEVICE, id: 4 }, 1),
        command::unmap_device(1),
        [0; 4],
        [u64::MAX; 4],
        [0x2b, 0, 0, 0],
    ];
    let free = guest.bed.hv.frames.free_pages();
    for words in hostile {
        guest.put(words);
        while guest.set(CWRITER, guest.write) == Written::Again {}
        let asked = guest.bed.machine.take_asked();
        assert!(!asked.iter().any(|asked| matches!(asked, Asked::Its(..) | Asked::LpiEnabled(..))), "{words:x?}: {asked:?}");
    }
    assert_eq!((guest.get(CREADR), guest.mapped()), (guest.write, 1));
    assert_eq!(guest.bed.hv.frames.free_pages(), free);
}

#[test]
fn many_commands_are_done_in_several_turns() {
    let mut guest = setup();
    assert_eq!(guest.run(&vec![inv(DEVICE, 3); 200]), 4);
    assert!(guest.run(&vec![command::invalidate_all(1); 10]) >= 5);
    assert_eq!(guest.get(CREADR), guest.write);
}

#[test]
fn the_queue_wraps_and_its_registers_hold_what_they_may() {
    let mut guest = setup();
    for _ in 0..3 {
        guest.run(&vec![inv(DEVICE, 3); 200]);
    }
    let (read, queue) = (guest.get(CREADR), guest.get(CBASER));
    assert_eq!(read, guest.write);
    guest.set(CWRITER, QUEUE_PAGES << 12);
    guest.set(CWRITER, u64::MAX);
    guest.set(CREADR, 0);
    guest.set(CBASER, 0);
    assert_eq!((guest.get(CWRITER), guest.get(CREADR), guest.get(CBASER)), (read, read, queue));
    guest.set(CTLR, 0);
    guest.set(CBASER, queue);
    assert_eq!((guest.get(CWRITER), guest.get(CREADR), guest.get(CTLR) & 1), (0, 0, 0));
}

#[test]
fn a_queue_that_is_no_ram_stalls() {
    let mut guest = Guest::off();
    for base in [0, Testbed::va(15, 0), 0x000f_ffff_ffff_f000] {
        guest.set(CTLR, 0);
        guest.set(CBASER, VALID | base | 0xff);
        guest.set(CTLR, ENABLED);
        guest.hardware.take(&guest.bed);
        // The last page of RAM is one: zeroes are no commands, and the page behind it is missing.
        let stop = if base == Testbed::va(15, 0) { 4096 } else { 0 };
        while guest.set(CWRITER, 0x2000) == Written::Again {}
        assert_eq!(guest.get(CREADR), stop | STALLED);
    }
}

#[test]
fn a_configuration_table_that_is_no_ram_means_off() {
    let mut guest = Guest::off();
    guest.gic(GICR + 0x70, Size::Double, 0x000f_ffff_ffff_f000 | 13);
    guest.gic(GICR, Size::Word, 1);
    guest.set(CBASER, VALID | Testbed::va(QUEUE, 0) | (QUEUE_PAGES - 1));
    guest.set(CTLR, ENABLED);
    guest.run(&[mapc(0, 0), mapd(DEVICE, 5), mapti(DEVICE, 3, 8192, 0), inv(DEVICE, 3), command::invalidate_all(0)]);
    guest.device_sends(DEVICE, 3);
    assert_eq!(guest.delivered(0), []);
}

#[test]
fn devices_and_events_are_limited_and_tables_come_back() {
    let mut guest = Guest::new();
    let free = guest.bed.hv.frames.free_pages();
    for device in 0..600 {
        guest.run(&[mapd(device, 1)]);
    }
    assert_eq!(guest.hardware.devices.len(), 512);
    for device in 0..600 {
        guest.run(&[command::unmap_device(device)]);
    }
    for device in 0..16 {
        guest.run(&[mapd(device, 11), mapd(device, 11)]);
    }
    assert_eq!(guest.hardware.devices.len(), 8);
    for device in 0..16 {
        guest.run(&[command::unmap_device(device)]);
    }
    assert_eq!((guest.hardware.devices.len(), guest.bed.hv.frames.free_pages()), (0, free));
}

#[test]
fn it_says_what_it_has() {
    let guest = Guest::off();
    let typer = guest.get(TYPER);
    assert_eq!((typer & 1, typer >> 8 & 0x1f, typer >> 13 & 0x1f, typer >> 24 & 0xff), (1, 10, 15, 4));
    assert_eq!(guest.get(PIDR2), 0x30);
    assert_eq!(guest.get(0x100), 0);
    let word = |offset| guest.bed.hv.its_read(&guest.dom0, Ipa(BASE.0 + offset), Size::Word);
    assert_eq!((word(CTLR), word(4), word(TYPER + 4)), (Some(QUIESCENT), Some(0x34c), Some(typer >> 32)));
    assert_eq!((word(2), word(FRAMES)), (None, None));
    let other = guest.bed.domain(1, 1);
    assert_eq!(guest.bed.hv.its_read(&other, BASE, Size::Word), None);
    assert_eq!(guest.bed.hv.its_write(&other, BASE, Size::Word, 1), Written::Refused);
}

#[derive(Clone, Debug)]
enum Action {
    Command(Words),
    Register(u64, u64),
    Gic(u64, u64),
    Configure(u32, u8),
    Arrive(u32),
    Enter(u32),
}

fn action() -> impl Strategy<Value = Action> {
    let (device, event, lpi, collection) = (|| 0..4_u32, || 0..6_u32, || FIRST_LPI - 2..FIRST_LPI + 8, || 0..5_u16);
    let of = |f: fn(Event) -> Words| (device(), event()).prop_map(move |(device, id)| Action::Command(f(Event { device, id })));
    let words = prop_oneof![any::<u64>(), 0..16_u64];
    let words =
        (0..16_u64, any::<u32>(), words.clone(), words).prop_map(|(command, device, b, c)| [command | u64::from(device) << 32, b, c, 0]);
    let register = prop::sample::select(vec![CTLR, TYPER, CBASER, CWRITER, CREADR, 0x100, 0x1_0040]);
    let value = prop_oneof![
        any::<u64>(),
        0..0x40_u64,
        Just(VALID | Testbed::va(QUEUE, 0) | (QUEUE_PAGES - 1)),
        Just(VALID | Testbed::va(14, 0) | 0xff)
    ];
    prop_oneof![
        6 => (device(), 1..4_u32).prop_map(|(device, bits)| Action::Command(mapd(device, bits))),
        2 => device().prop_map(|device| Action::Command(command::unmap_device(device))),
        6 => (collection(), 0..VCPUS + 1).prop_map(|(collection, vcpu)| Action::Command(mapc(collection, vcpu))),
        1 => collection().prop_map(|collection| Action::Command([9, 0, collection.into(), 0])),
        12 => (device(), event(), lpi(), collection()).prop_map(|(d, e, lpi, c)| Action::Command(mapti(d, e, lpi, c))),
        4 => (device(), event(), collection())
            .prop_map(|(device, id, c)| Action::Command(command::move_event(Event { device, id }, c))),
        4 => of(command::invalidate),
        2 => of(command::discard),
        2 => of(command::clear),
        2 => of(|event| [u64::from(event.device) << 32 | 3, event.id.into(), 0, 0]),
        1 => collection().prop_map(|collection| Action::Command(command::invalidate_all(collection))),
        3 => words.prop_map(Action::Command),
        2 => (register, value.clone()).prop_map(|(register, value)| Action::Register(register, value)),
        2 => (prop::sample::select(vec![0, 0x70, 0x78]), value).prop_map(|(register, value)| Action::Gic(register, value)),
        4 => (FIRST_LPI..FIRST_LPI + 8, any::<u8>()).prop_map(|(lpi, byte)| Action::Configure(lpi, byte)),
        4 => lpi().prop_map(Action::Arrive),
        4 => (0..VCPUS).prop_map(Action::Enter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_guests_do_no_harm(actions in proptest::collection::vec(action(), 1..120)) {
        let mut guest = Guest::new();
        let free = guest.bed.hv.frames.free_pages();
        for action in actions {
            match action {
                Action::Command(words) => {
                    guest.put(words);
                    guest.finish();
                }
                Action::Register(register, value) => {
                    for _ in 0..1000 {
                        if guest.set(register, value) != Written::Again {
                            break;
                        }
                    }
                    guest.hardware.take(&guest.bed);
                    prop_assert!(guest.get(CREADR) & !STALLED < 0x10_0000);
                }
                Action::Gic(register, value) => guest.gic(GICR + register, Size::Double, value),
                Action::Configure(lpi, byte) => guest.configure(lpi, byte),
                Action::Arrive(lpi) => guest.bed.hv.lpi_arrived(&guest.dom0, lpi),
                Action::Enter(vcpu) => {
                    let pending = guest.delivered(vcpu);
                    prop_assert!(pending.iter().all(|intid| (FIRST_LPI..FIRST_LPI + LPIS).contains(intid)));
                }
            }
            prop_assert_eq!(guest.mapped(), guest.hardware.events.len(), "ours and the hardware's tables agree");
        }
        // Whatever it did, a kernel that starts anew finds an ITS that works.
        guest.set(CTLR, 0);
        guest.set(CBASER, VALID | Testbed::va(QUEUE, 0) | (QUEUE_PAGES - 1));
        guest.set(CTLR, ENABLED);
        guest.write = 0;
        let devices: Vec<u32> = guest.hardware.devices.keys().copied().collect();
        for device in devices {
            guest.run(&[command::unmap_device(device)]);
        }
        prop_assert_eq!((guest.mapped(), guest.bed.hv.frames.free_pages()), (0, free));
    }
}
