//! What runs a race: its sides begin together, on several vCPUs of one domain or of two; when all have come to an end, what must
//! hold whoever was faster is looked at. A race is an entry [`Race`] and a function for each side.

use super::{channels, domains, events, fifo, grants, memory, vcpus};
use crate::pair::books::{Watch, is_xenolith};
use crate::pair::jobs::{self, args};
use crate::pair::peer::{self, Peer, Refused};
use crate::pair::{ops, ports};
use crate::runtime::peer::{Job, MEMORY, Mailbox, of_dom0, word};
use crate::runtime::{control, cpu, gic, page::Page, smp, timer};
use crate::verdict::{Session, Test};
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use guest_abi::domctl::*;
use guest_abi::xen::DOMID_SELF;

/// All races, by subject.
const ALL: [&[Race]; 7] = [grants::ALL, events::ALL, fifo::ALL, memory::ALL, domains::ALL, vcpus::ALL, channels::ALL];

/// Where a side runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The boot CPU of Dom0, which runs the race.
    Dom0,
    /// The other vCPU of Dom0.
    Second,
    /// A vCPU of the peer.
    Peer(u64),
}

/// How long a peer lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Through all rounds.
    Lives,
    /// For one round.
    Fresh,
    /// For one round, in which a side kills it: its own sides are not waited for, and the check comes when it is gone.
    Dies,
}

/// A race. All sides get the same arguments: the domain of the peer, the four of `setup`, the number of the round.
pub struct Race {
    /// With the row of the catalogue of misuse that it belongs to.
    pub name: &'static str,
    /// How often it is run.
    pub rounds: u64,
    /// The life of the peer.
    pub world: World,
    /// Pages of maptrack that the peer may have.
    pub maptrack: i32,
    /// Before each round.
    pub setup: fn(&Ground) -> [u64; 4],
    /// Who does what.
    pub sides: &'static [(Place, Job)],
    /// After each round; the arguments, and what each side returned.
    pub check: fn(&Ground, [u64; 6], [u64; 3]) -> Verdict,
    /// Why it cannot be run on Xen.
    pub not_on_xen: Option<&'static str>,
}

/// Whether all is well, or what is not.
pub type Verdict = Result<(), &'static str>;

/// A race with a peer that lives, as far as not said otherwise.
pub const LIVING: Race = Race {
    name: "",
    rounds: 8,
    world: World::Lives,
    maptrack: 8,
    setup: |_| [0; 4],
    sides: &[],
    check: |_, _, results| all_well(results),
    not_on_xen: None,
};

/// A race in which the peer is killed.
pub const DYING: Race = Race { rounds: 4, world: World::Dies, ..LIVING };

/// No side has seen anything odd.
pub fn all_well(results: [u64; 3]) -> Verdict {
    must(results == [0; 3], "a side saw what must not be")
}

/// What must be.
pub fn must(holds: bool, otherwise: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// Marks what a side must not see; the rest says what it was.
const ODD: u64 = 1 << 32;

/// 0 if a return code may be, or what a side returns to tell of it.
pub fn among(rc: i64, allowed: &[i64]) -> u64 {
    if allowed.contains(&rc) { 0 } else { odd(rc) }
}

/// 0 for success or any error.
pub fn answered(rc: i64) -> u64 {
    if (-4095..=0).contains(&rc) { 0 } else { odd(rc) }
}

/// What a side returns to tell of a number that must not be.
pub fn odd(rc: i64) -> u64 {
    ODD | u64::from(rc as u32)
}

/// How long a side goes on.
const MICROSECONDS: u64 = 2_000;

/// Repeats `act` for a while; ends early with the first result that is not 0.
pub fn a_while(act: impl FnMut(u64) -> u64) -> u64 {
    let end = cpu::counter() + MICROSECONDS * cpu::frequency() / 1_000_000;
    (0..100_000).take_while(|n| *n < 8 || cpu::counter() < end).map(act).find(|result| *result != 0).unwrap_or(0)
}

static DEAD: AtomicBool = AtomicBool::new(false);

/// Side of Dom0: kills the peer, later in later rounds.
pub fn kill(a: [u64; 6]) -> u64 {
    spin(a[5] * 400);
    let rc = control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, a[0] as u16);
    DEAD.store(true, SeqCst);
    among(rc, &[0, -3])
}

/// Repeats `act` until the peer has been killed, and then some; ends early with the first result that is not 0.
pub fn until_dead(mut act: impl FnMut(u64) -> u64) -> u64 {
    let limit = cpu::counter() + 5 * cpu::frequency();
    let mut more = 0;
    for n in 0.. {
        let result = act(n);
        more += u64::from(DEAD.load(SeqCst));
        if result != 0 || more > 16 || cpu::counter() > limit {
            return result;
        }
    }
    0
}

/// Burns time.
pub fn spin(microseconds: u64) {
    let end = cpu::counter() + microseconds * cpu::frequency() / 1_000_000;
    while cpu::counter() < end {}
}

/// Numbers that look random: xorshift.
pub fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// Where a race is run.
pub struct Ground {
    /// The other domain.
    pub peer: Peer,
    pages: [Cell<u64>; 8],
    begun: Cell<bool>,
}

impl Ground {
    fn build(race: &Race) -> Result<Self, Refused> {
        let peer = Peer::build_with(CreateDomain { max_maptrack_frames: race.maptrack, ..peer::config(3) })?;
        // Room for pages that are taken away and still held.
        control::domctl(XEN_DOMCTL_MAX_MEM, &mut { peer.id }, &mut MaxMem { max_memkb: MEMORY / 1024 + 1024 });
        peer.call(0, jobs::map_table, args([]));
        peer.call(0, jobs::map_shared, args([]));
        for (place, _) in race.sides {
            if let Place::Peer(cpu @ 1..) = place {
                peer.start_cpu(*cpu);
            }
        }
        Ok(Self { peer, pages: [const { Cell::new(0) }; 8], begun: Cell::new(false) })
    }

    /// Frame of page `n` of eight of the peer, the same in all rounds, at first filled with `byte`.
    pub fn page(&self, n: usize, byte: u8) -> u64 {
        if self.pages[n].get() == 0 {
            self.pages[n].set(self.peer.call(0, jobs::take, args([byte.into()])));
        }
        self.pages[n].get()
    }

    /// Whether this is asked for the first time.
    pub fn is_new(&self) -> bool {
        !self.begun.replace(true)
    }

    /// Writes word `n` of 60 that both domains see.
    pub fn set_word(&self, n: u64, value: u64) {
        self.peer.mailbox().page().write64(word(n), value);
    }

    fn mailbox(&self, place: Place) -> Option<(Mailbox, u64)> {
        match place {
            Place::Dom0 => None,
            Place::Second => Some((of_dom0(), 1)),
            Place::Peer(cpu) => Some((self.peer.mailbox(), cpu)),
        }
    }

    fn round(&self, race: &Race, round: u64) -> Result<([u64; 6], [u64; 3]), &'static str> {
        let [a, b, c, d] = (race.setup)(self);
        let arguments = [self.peer.id.into(), a, b, c, d, round];
        let others = || race.sides.iter().filter_map(|(place, job)| Some((self.mailbox(*place)?, *job)));
        DEAD.store(false, SeqCst);
        others().for_each(|((mailbox, cpu), job)| mailbox.hold(cpu, job, arguments));
        if race.sides.iter().any(|(place, _)| *place == Place::Second) {
            gic::send_sgi(WAKE << 24 | 2);
        }
        if !patiently(|| others().all(|((mailbox, cpu), _)| mailbox.is_ready(cpu))) {
            return Err("a side does not begin");
        }
        others().for_each(|((mailbox, cpu), _)| mailbox.go(cpu));
        let mut results = [0; 3];
        for ((place, job), result) in race.sides.iter().zip(&mut results) {
            if *place == Place::Dom0 {
                *result = job(arguments);
            }
        }
        for ((place, _), result) in race.sides.iter().zip(&mut results) {
            let Some((mailbox, cpu)) = self.mailbox(*place) else { continue };
            if race.world == World::Dies && *place != Place::Second {
                continue;
            }
            if !patiently(|| mailbox.answer(cpu).is_some()) {
                assert!(*place != Place::Second, "the other vCPU of Dom0 does not come to an end");
                return Err("a side does not come to an end");
            }
            *result = mailbox.answer(cpu).unwrap_or(0);
        }
        Ok((arguments, results))
    }
}

/// The software interrupt that wakes the other vCPU of Dom0.
const WAKE: u64 = 1;

fn awake(_: [u64; 6]) -> u64 {
    gic::enable(WAKE as u32);
    0
}

/// Waits, and leaves the CPU to the sides.
fn patiently(condition: impl Fn() -> bool) -> bool {
    let limit = cpu::counter() + 60 * cpu::frequency();
    while !condition() {
        if cpu::counter() > limit {
            return false;
        }
        timer::doze(50);
    }
    true
}

/// Runs all races.
pub fn run(session: &mut Session<'_, Watch>) {
    ops::map_table();
    of_dom0();
    let second = smp::is_online(1) || smp::start(1) == 0;
    if second {
        of_dom0().give(1, awake, [0; 6]);
    }
    for race in ALL.into_iter().flatten() {
        session.run(race.name, |test| {
            if let Some(why) = race.not_on_xen.filter(|_| !is_xenolith()) {
                return test.skip("xen", why);
            }
            if !second && race.sides.iter().any(|(place, _)| *place == Place::Second) {
                return test.skip("second", "Dom0 has one vCPU");
            }
            compete(test, race);
        });
    }
    ops::remove(Page::hole(0).gfn());
}

/// What the sides returned.
struct Results([u64; 3]);

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|result| match result & ODD {
            0 => write!(f, " {result:#x}"),
            _ => write!(f, " odd({})", *result as i32),
        })
    }
}

fn compete(test: &mut Test, race: &Race) {
    let mut ground = None;
    for round in 0..race.rounds {
        let on = match ground.take().map_or_else(|| Ground::build(race), Ok) {
            Ok(on) => on,
            Err(why) => return test.error("build", why),
        };
        let ran = on.round(race, round);
        if race.world != World::Dies {
            tell(test, race, &on, round, ran);
        }
        if race.world == World::Lives && ran.is_ok() {
            ground = Some(on);
            continue;
        }
        on.peer.kill();
        if !ops::within(5_000_000, || !peer::exists(on.peer.id)) {
            return test.fail(format_args!("round({round})"), "something of the domain is left");
        }
        if race.world == World::Dies {
            tell(test, race, &on, round, ran);
        }
        if ran.is_err() {
            return;
        }
    }
    if let Some(on) = ground {
        on.peer.destroy(test);
    }
}

fn tell(test: &mut Test, race: &Race, on: &Ground, round: u64, ran: Result<([u64; 6], [u64; 3]), &'static str>) {
    let name = format_args!("round({round})");
    match ran {
        Ok((arguments, results)) => match (race.check)(on, arguments, results) {
            Ok(()) => {}
            Err(why) => test.fail(name, format_args!("{why}:{}", Results(results))),
        },
        Err(why) => test.fail(name, why),
    }
}

/// A channel of events between both: the port of the peer, that of Dom0.
pub fn connect(on: &Ground) -> [u64; 4] {
    let theirs = on.peer.call(0, jobs::offer, args([0]));
    let ours = ports::bind(on.peer.id, theirs as u32);
    [theirs, ours.cast_unsigned(), 0, 0]
}

/// Closes all ports of both, after which the first one has to be free again.
pub fn ports_are_free(on: &Ground) -> Verdict {
    must(on.peer.call(0, free_ports, args([])) == 0, "the peer has lost a port")?;
    must(free_ports([0; 6]) == 0, "Dom0 has lost a port")
}

/// Closes all own ports; 0 if the first one is free then.
pub fn free_ports(_: [u64; 6]) -> u64 {
    u64::from(ports::reset(DOMID_SELF) != 0 || ops::offer_port(DOMID_SELF) != 1 || ops::close(1) != 0)
}
