//! Event channels of the FIFO ABI: its pages come, grow and go while events are sent (misuse E11, E12, E14, E16, E19).

use super::arena::Place::{Dom0, Peer};
use super::arena::*;
use super::grants::balloon_once;
use crate::pair::jobs::{self, args};
use crate::pair::{ops, ports};
use crate::runtime::page::Page;
use guest_abi::shared_info::EVTCHN_FIFO_PENDING;
use guest_abi::xen::DOMID_SELF;

/// Pages of the peer: the control blocks, the first page of event words, others.
const CONTROL: usize = 2;
const ARRAY: usize = 3;

pub const ALL: &[Race] = &[
    Race { name: "E11.init_control_beside_send", setup: prepare, sides: &[(Peer(0), start_late), (Dom0, send)], check, ..LIVING },
    Race {
        name: "E12.expand_beside_send",
        setup: begin,
        sides: &[(Peer(0), expand), (Peer(1), offer_on), (Dom0, bind_and_send)],
        check,
        ..LIVING
    },
    Race {
        name: "E14.expand_beside_reset",
        setup: prepare,
        sides: &[(Peer(0), start_on), (Peer(1), reset_on), (Dom0, send)],
        check,
        ..LIVING
    },
    Race { name: "E16.words_scribbled", setup: begin, sides: &[(Peer(0), scribble), (Dom0, send)], check, ..LIVING },
    Race {
        name: "E19.pages_taken_away",
        rounds: 6,
        world: World::Fresh,
        setup: begin,
        sides: &[(Peer(0), balloon_pages), (Dom0, send)],
        ..LIVING
    },
    Race {
        name: "E12.priority_beside_send",
        setup: begin,
        sides: &[(Peer(0), set_priorities), (Dom0, send), (Peer(1), consume)],
        check,
        ..LIVING
    },
    Race {
        name: "E02.control_of_another_vcpu",
        setup: prepare,
        sides: &[(Peer(0), start_and_move), (Dom0, send), (Peer(1), unmask_on)],
        check,
        ..LIVING
    },
];

/// A channel and pages, still two-level: the ports of the peer and of Dom0, the control page, the array page.
fn prepare(on: &Ground) -> [u64; 4] {
    let [theirs, ours, ..] = connect(on);
    (4..8).for_each(|n| {
        on.page(n, 0);
    });
    [theirs, ours, on.page(CONTROL, 0), on.page(ARRAY, 0)]
}

/// The same with the switch to FIFO made.
fn begin(on: &Ground) -> [u64; 4] {
    let a @ [_, _, control, array] = prepare(on);
    on.peer.call(0, start, args([0, 0, 0, control, array]));
    a
}

/// The FIFO ABI works: an event arrives in its word. Then all is closed, and the domain is back at two levels.
fn check(on: &Ground, a: [u64; 6], results: [u64; 3]) -> Verdict {
    all_well(results)?;
    on.peer.call(0, reset, args([]));
    ports::reset(DOMID_SELF);
    must(on.peer.rc(start, a) == 0, "the FIFO ABI does not begin again")?;
    let [theirs, ours, ..] = connect(on);
    must(
        on.peer.call(0, event_word, args([theirs, 0, 0, 0, a[4]])) & 1 << EVTCHN_FIFO_PENDING == 0,
        "an event is pending that nobody sent",
    )?;
    must(ports::send(ours as u32) == 0, "an event cannot be sent")?;
    must(on.peer.call(0, event_word, args([theirs, 0, 0, 0, a[4]])) & 1 << EVTCHN_FIFO_PENDING != 0, "an event did not arrive")?;
    ports_are_free(on)
}

/// Begins with FIFO on the pages `a[3]` and `a[4]`: two control blocks, one page of words.
fn start(a: [u64; 6]) -> u64 {
    Page::own(a[3] * 4096).fill(0);
    Page::own(a[4] * 4096).fill(0);
    let answers = [ports::init_control(a[3], 0, 0), ports::init_control(a[3], 128, 1), ports::expand(a[4])];
    answers.into_iter().find(|rc| *rc != 0).unwrap_or(0).cast_unsigned()
}

fn start_late(a: [u64; 6]) -> u64 {
    spin(200 + a[5] * 50);
    among(start(a).cast_signed(), &[0])
}

fn start_on(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let answers = [ports::init_control(a[3], 0, 0), ports::expand(a[4]), ports::init_control(a[3], 128, 1)];
        answers.into_iter().map(answered).find(|odd| *odd != 0).unwrap_or(0)
    })
}

/// Leads the port to vCPU 1 before that has a control block.
fn start_and_move(a: [u64; 6]) -> u64 {
    let begun = [ports::init_control(a[3], 0, 0), ports::expand(a[4]), ports::bind_vcpu(a[1] as u32, 1)];
    spin(300);
    let moved = [ports::init_control(a[3], 128, 1), ports::bind_vcpu(a[1] as u32, 0)];
    begun.into_iter().chain(moved).map(|rc| among(rc, &[0])).find(|odd| *odd != 0).unwrap_or(0)
}

fn unmask_on(a: [u64; 6]) -> u64 {
    a_while(|_| answered(ports::unmask(a[1] as u32)))
}

fn reset(_: [u64; 6]) -> u64 {
    ports::reset(DOMID_SELF).cast_unsigned()
}

fn reset_on(_: [u64; 6]) -> u64 {
    a_while(|_| {
        spin(50);
        among(ports::reset(DOMID_SELF), &[0, -11])
    })
}

fn send(a: [u64; 6]) -> u64 {
    a_while(|_| among(ports::send(a[2] as u32), &[0, -22]))
}

fn offer_on(_: [u64; 6]) -> u64 {
    a_while(|_| answered(ops::offer_port(0).min(0)))
}

fn bind_and_send(a: [u64; 6]) -> u64 {
    a_while(|n| {
        let port = ports::bind(a[0] as u16, 2 + (n % 900) as u32);
        if port < 0 { answered(port) } else { among(ports::send(port as u32), &[0]) }
    })
}

/// Adds pages of words: the image's memory has some behind the first.
fn expand(_: [u64; 6]) -> u64 {
    let pages: [u64; 3] = core::array::from_fn(|_| jobs::take(args([0])));
    pages.into_iter().map(|gfn| answered(ports::expand(gfn))).find(|odd| *odd != 0).unwrap_or(0)
}

/// The word of own port `a[0]`.
fn event_word(a: [u64; 6]) -> u64 {
    Page::own(a[4] * 4096).read32(a[0] * 4).into()
}

/// Writes anything to words and to heads of queues.
fn scribble(a: [u64; 6]) -> u64 {
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let (control, array) = (Page::own(a[3] * 4096), Page::own(a[4] * 4096));
    a_while(|_| {
        for _ in 0..64 {
            let value = next(&mut random);
            array.write32(value % 8 * 4, (value >> 32) as u32);
            control.write32(value % 64 * 4, (value >> 20) as u32);
        }
        0
    })
}

fn balloon_pages(a: [u64; 6]) -> u64 {
    a_while(|n| balloon_once(a[3 + n as usize % 2]))
}

fn set_priorities(a: [u64; 6]) -> u64 {
    a_while(|n| among(ports::set_priority(a[1] as u32, (n % 16) as u32), &[0]))
}

/// Takes the event off its queue in the simplest way: by forgetting that it is there.
fn consume(a: [u64; 6]) -> u64 {
    let array = Page::own(a[4] * 4096);
    let at = a[1] * 4 / 8 * 8;
    a_while(|_| {
        array.clear64(at, 0xa000_0000_a000_0000);
        0
    })
}
