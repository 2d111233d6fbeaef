//! Delivery by the FIFO ABI.

use super::guest::Guest;
use super::*;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;

/// D1 uses FIFO on vCPUs 0 and 1, with two pages of array.
fn fifo_world() -> (World, Guest) {
    let w = World::with_max_port(i32::MAX as u32);
    let mut guest = Guest::new(w.machine, D1);
    for vcpu in 0..2 {
        w.register(D1, vcpu);
        guest.registered[vcpu as usize] = true;
        guest.upcall(vcpu as usize);
        assert_eq!(w.init_control(D1, vcpu), Ok(Notify::NONE));
    }
    w.expand_array(D1, 0).unwrap();
    w.expand_array(D1, 1).unwrap();
    guest.fifo = true;
    guest.array_pages = 2;
    (w, guest)
}

#[test]
fn init_control_refuses_in_xens_order() {
    let w = World::new();
    let d = &w.domains[D0];
    let page = World::page_of(D0, 2);
    let before = w.snapshot();
    for (vcpu, offset, error) in [
        (4, 1, EventError::NoSuchVcpu),
        (0, 1, EventError::InvalidControlBlock),
        (0, 7, EventError::InvalidControlBlock),
        (0, 4096 - 64, EventError::InvalidControlBlock),
        (0, 4096, EventError::InvalidControlBlock),
        (0, u32::MAX - 7, EventError::InvalidControlBlock),
    ] {
        assert_eq!(d.check_init_control(vcpu, offset), Err(error));
        assert_eq!(d.init_control(w.machine, vcpu, page, offset), Err(error));
    }
    assert_eq!(d.check_expand_array(), Err(EventError::NoEventArray), "XSA-188: nothing is left of the failed init_control");
    assert_eq!(d.expand_array(w.machine, page), Err(EventError::NoEventArray));
    assert_eq!(w.snapshot(), before);
    assert_eq!(d.init_control(w.machine, 1, page, 4096 - 72), Ok(Notify::NONE));
    assert_eq!(d.check_init_control(1, 0), Err(EventError::InvalidControlBlock), "only once");
    assert_eq!(d.check_init_control(0, 0), Ok(()));
}

#[test]
fn the_array_has_128_pages() {
    let (w, _) = fifo_world();
    for n in 2..128 {
        assert_eq!(w.domains[D1].expand_array(w.machine, World::array_of(D1, n % 5)), Ok(Notify::NONE));
    }
    assert_eq!(w.domains[D1].check_expand_array(), Err(EventError::NoSpace));
    assert_eq!(w.expand_array(D1, 0), Err(EventError::NoSpace));
}

#[test]
fn events_come_in_order_of_priority_then_arrival() {
    let (w, mut guest) = fifo_world();
    let ports: Vec<(u32, u32)> = (0..5).map(|_| w.pair(D0, D1)).collect();
    guest.upcall(0);
    w.domains[D1].set_priority(ports[3].1, 2).unwrap();
    assert_eq!(w.send(D0, ports[4].0), Ok((D1, upcall(0))));
    for i in [0, 2, 0, 3, 1] {
        assert_eq!(w.send(D0, ports[i].0), Ok((D1, Notify::NONE)));
    }
    assert_eq!(guest.upcall(0), [3, 4, 0, 2, 1].map(|i: usize| ports[i].1));
    assert_eq!(w.send(D0, ports[0].0), Ok((D1, upcall(0))));
    assert_eq!(guest.upcall(0), [ports[0].1]);
}

#[test]
fn a_masked_event_is_not_linked_until_unmask() {
    let (w, mut guest) = fifo_world();
    let (a, b) = w.pair(D0, D1);
    guest.upcall(0);
    guest.mask(b);
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)));
    assert!(guest.is_pending(b) && !guest.is_linked(b));
    assert_eq!(w.domains[D1].unmask(w.machine, b), Ok(upcall(0)));
    assert_eq!(guest.upcall(0), [b]);
    guest.mask(b);
    assert_eq!(w.domains[D1].unmask(w.machine, b), Ok(Notify::NONE), "nothing pending");
    assert!(!guest.is_masked(b));
}

#[test]
fn an_event_stays_on_its_queue_until_taken() {
    let (w, mut guest) = fifo_world();
    let (a, b) = w.pair(D0, D1);
    let (c, d) = w.pair(D0, D1);
    guest.upcall(0);
    w.send(D0, a).unwrap();
    w.domains[D1].bind_vcpu(b, 1).unwrap();
    w.domains[D1].set_priority(b, 0).unwrap();
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)));
    assert_eq!(w.send(D0, c), Ok((D1, Notify::NONE)), "appended after b on vCPU 0");
    assert_eq!(guest.upcall(0), [b, d]);
    assert_eq!(w.send(D0, a), Ok((D1, upcall(1))), "now on vCPU 1");
    assert_eq!(guest.upcall(1), [b]);
}

#[test]
fn the_tail_of_a_queue_that_moved_on_is_not_appended_to() {
    let (w, mut guest) = fifo_world();
    let (a, b) = w.pair(D0, D1);
    let (c, d) = w.pair(D0, D1);
    guest.upcall(0);
    w.send(D0, a).unwrap();
    guest.upcall(0); // b remains the remembered tail of vCPU 0
    w.domains[D1].bind_vcpu(b, 1).unwrap();
    assert_eq!(w.send(D0, a), Ok((D1, upcall(1))), "b is linked on vCPU 1");
    assert_eq!(w.send(D0, c), Ok((D1, upcall(0))), "d must not go behind b");
    assert_eq!((guest.upcall(0), guest.upcall(1)), (std::vec![d], std::vec![b]));
}

#[test]
fn a_reused_port_is_still_known_as_the_tail_it_was() {
    let (w, mut guest) = fifo_world();
    let (a, b) = w.pair(D0, D1);
    let (c, d) = w.pair(D0, D1);
    guest.upcall(0);
    w.domains[D1].bind_vcpu(b, 1).unwrap();
    w.domains[D1].bind_vcpu(d, 1).unwrap();
    w.send(D0, a).unwrap();
    assert_eq!(guest.upcall(1), [b]);
    w.close(D1, b).unwrap();
    assert_eq!(w.connect(D1, D0, a), Ok((b, upcall(0))), "b is linked on vCPU 0 now");
    assert_eq!(w.send(D0, c), Ok((D1, upcall(1))), "d must not go behind b");
    assert_eq!((guest.upcall(0), guest.upcall(1)), (std::vec![b], std::vec![d]));
}

#[test]
fn a_closed_port_is_not_reused_while_linked() {
    let (w, mut guest) = fifo_world();
    let (a, b) = w.pair(D0, D1);
    guest.upcall(0);
    w.send(D0, a).unwrap();
    w.close(D1, b).unwrap();
    assert!(guest.is_linked(b) && !guest.is_pending(b));
    assert_eq!(w.alloc(D1, D0), Ok(b + 1));
    assert_eq!(guest.upcall(0), []);
    assert_eq!(w.alloc(D1, D0), Ok(b));
    w.audit();
}

#[test]
fn an_event_without_a_word_is_remembered() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D1);
    let (a, b) = w.pair(D0, D1);
    guest.upcall(0);
    w.init_control(D1, 0).unwrap();
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)));
    assert!(!w.domains[D1].is_pending(w.machine, b));
    let (_, second) = w.pair(D0, D1);
    w.close(D1, second).unwrap();
    assert_eq!(w.alloc(D1, D0), Ok(second));
    guest.fifo = true;
    guest.array_pages = 1;
    assert_eq!(w.expand_array(D1, 0), Ok(upcall(0)));
    assert_eq!(guest.upcall(0), [b], "not the one that was closed");
}

#[test]
fn what_is_pending_at_the_switch_is_kept() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D1);
    let (a, b) = w.pair(D0, D1);
    let (_, c) = w.pair(D0, D1);
    guest.upcall(0);
    w.send(D0, a).unwrap();
    w.init_control(D1, 0).unwrap();
    w.machine.swap_u8(guest.info(0), 0);
    guest.fifo = true;
    guest.array_pages = 1;
    assert_eq!(w.expand_array(D1, 0), Ok(upcall(0)));
    assert_eq!(guest.upcall(0), [b]);
    assert!(!guest.is_pending(c));
}

#[test]
fn after_a_reset_no_old_event_hides_a_new_one() {
    let w = World::new();
    let mut guest = Guest::new(w.machine, D1);
    w.pair(D0, D1); // pending in the 2-level words
    w.init_control(D1, 0).unwrap();
    w.reset(D1).unwrap();
    guest.upcall(0);
    let (a, b) = w.pair(D0, D1);
    assert_eq!(guest.upcall(0), [b]);
    assert_eq!(w.send(D0, a), Ok((D1, upcall(0))));
}

#[test]
fn xsa_107_an_event_for_a_vcpu_without_control_block_waits_for_it() {
    let (w, mut guest) = fifo_world();
    let (a, b) = w.pair(D0, D1);
    guest.upcall(0);
    w.domains[D1].bind_vcpu(b, 2).unwrap();
    assert_eq!(w.send(D0, a), Ok((D1, Notify::NONE)));
    assert!(guest.is_pending(b) && !guest.is_linked(b));
    w.register(D1, 2);
    guest.registered[2] = true;
    assert_eq!(guest.upcall(2), []);
    assert_eq!(w.init_control(D1, 2), Ok(upcall(2)));
    assert_eq!(guest.upcall(2), [b]);
}

#[test]
fn random_words_of_the_guest_lead_nowhere() {
    let (w, _) = fifo_world();
    let pairs: Vec<(u32, u32)> = (0..40).map(|_| w.pair(D0, D1)).collect();
    let mut seed = 0x9e37_79b9_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.rotate_left(13)
    };
    for round in 0..500 {
        for page in [2, 4, 5] {
            for _ in 0..64 {
                w.machine.store_u32(MachineAddr(World::page_of(D1, page).0 + u64::from(random() % 1024) * 4), random());
            }
        }
        for &(a, b) in &pairs {
            w.send(D0, a).unwrap();
            w.domains[D1].bind_vcpu(b, random() % 2).unwrap();
            w.domains[D1].set_priority(b, random() % 16).unwrap();
            let _ = w.domains[D1].unmask(w.machine, b).unwrap();
        }
        if round % 50 == 0 {
            w.audit();
        }
    }
    // Nothing outside the pages that the guest gave was written.
    let mut others = [0; 4096];
    for page in [3, 6, 7, 8] {
        w.machine.read(World::page_of(D1, page), &mut others);
        assert_eq!(others, [0; 4096]);
    }
}

/// A guest that changes the word at `at` before every compare-and-swap, by exclusive or with `flip`.
struct Meddler {
    machine: &'static FakeMachine,
    at: MachineAddr,
    flip: u32,
    times: core::sync::atomic::AtomicU32,
}

impl Meddler {
    fn new(w: &World, at: MachineAddr, flip: u32) -> Self {
        Self { machine: w.machine, at, flip, times: 0.into() }
    }

    fn times(&self) -> u32 {
        self.times.load(core::sync::atomic::Ordering::Relaxed)
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        $(fn $name(&self, $($arg: $ty),*) $(-> $ret)? { self.machine.$name($($arg),*) })*
    };
}

impl Machine for Meddler {
    fn cas_u32(&self, at: MachineAddr, old: u32, new: u32) -> Result<u32, u32> {
        if at == self.at {
            self.times.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            self.machine.store_u32(at, self.machine.load_u32(at) ^ self.flip);
        }
        self.machine.cas_u32(at, old, new)
    }
    forward! {
        page(mfn: crate::addr::Mfn) -> &'static crate::machine::SharedPage;
        read(from: MachineAddr, into: &mut [u8]);
        write(to: MachineAddr, bytes: &[u8]);
        copy(from: MachineAddr, to: MachineAddr, len: usize);
        zero(at: MachineAddr, len: usize);
        load_u32(at: MachineAddr) -> u32;
        store_u32(at: MachineAddr, value: u32);
        or_u32(at: MachineAddr, bits: u32) -> u32;
        and_u32(at: MachineAddr, bits: u32) -> u32;
        load_u64(at: MachineAddr) -> u64;
        store_u64(at: MachineAddr, value: u64);
        or_u64(at: MachineAddr, bits: u64) -> u64;
        and_u64(at: MachineAddr, bits: u64) -> u64;
        swap_u8(at: MachineAddr, value: u8) -> u8;
        and_u16(at: MachineAddr, bits: u16) -> u16;
        clean_invalidate(at: MachineAddr, len: usize);
        clean(at: MachineAddr, len: usize);
        flush_tlb(vmid: crate::addr::Vmid);
        sync_tables();
        invalidate_icache();
        ticks() -> u64;
        frequency() -> u64;
        cpu() -> crate::addr::CpuId;
        kick(cpu: crate::addr::CpuId);
        spi_set_enabled(intid: u32, enabled: bool);
        spi_set_trigger(intid: u32, trigger: crate::machine::Trigger);
        spi_deactivate(intid: u32);
        lpi_set_enabled(intid: u32, enabled: bool);
        its(commands: &[crate::its::command::Words], to: crate::addr::CpuId) -> bool;
        console_write(bytes: &[u8]);
        power(action: crate::machine::Power) -> !;
    }
}

#[test]
fn a_guest_that_keeps_changing_the_tail_loses_the_event_and_holds_nobody() {
    let (w, mut guest) = fifo_world();
    let (a, tail) = w.pair(D0, D1);
    let (c, next) = w.pair(D0, D1);
    guest.upcall(0);
    w.send(D0, a).unwrap();
    let at = guest.word(tail).unwrap();
    let meddler = Meddler::new(&w, at, 1); // keeps LINKED, changes LINK
    let Ok(Delivery::Remote(to)) = w.domains[D0].send(&meddler, c) else { panic!() };
    assert_eq!(w.domains[D1].deliver(&meddler, to.port, Peer { domain: id(D0), port: c }), Notify::NONE);
    assert_eq!(meddler.times(), 5, "one free attempt and four with BUSY");
    assert_eq!(w.machine.load_u32(at) & (BUSY | LINKED | MASKED | PENDING), LINKED | PENDING, "BUSY was taken back");
    assert!(guest.is_linked(next), "as if it had been appended");
}

#[test]
fn a_tail_taken_while_appending_starts_the_queue_anew() {
    let (w, mut guest) = fifo_world();
    let (a, tail) = w.pair(D0, D1);
    let (c, next) = w.pair(D0, D1);
    guest.upcall(0);
    w.send(D0, a).unwrap();
    let at = guest.word(tail).unwrap();
    assert_eq!(guest.upcall(0), [tail]);
    w.send(D0, a).unwrap();
    w.machine.swap_u8(guest.info(0), 0);
    w.machine.and_u32(World::page_of(D1, 2), 0); // the guest has taken `ready` and is about to take the tail off
    let meddler = Meddler::new(&w, at, LINKED);
    let notify = w.domains[D1].deliver(&meddler, next, Peer { domain: id(D0), port: c });
    assert_eq!(notify, upcall(0));
    assert_eq!(w.machine.load_u32(MachineAddr(World::page_of(D1, 2).0 + 8 + 7 * 4)), next, "it is the head");
    assert_eq!(w.machine.load_u32(at) & BUSY, 0);
}
