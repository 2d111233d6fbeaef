//! Misuse of event channels by one domain. Each operation begins with its row of the catalogue (E02 to E19).
//!
//! The domain resets its event channels several times, which leads from the FIFO ABI back to the two-level one; the channels of the
//! console and of the store are bound anew each time.

use super::race;
use crate::runtime::page::Page;
use crate::runtime::{console, cpu, gic, hypercall, power_off, probe, probe::Outcome, smp, unmapped};
use crate::verdict::Test;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guest_abi::arch_arm::GUEST_EVTCHN_PPI;
use guest_abi::event_channel::*;
use guest_abi::memory::{AddToPhysmap, RemoveFromPhysmap, XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP};
use guest_abi::sched::{Poll, SCHEDOP_POLL};
use guest_abi::xen::DOMID_SELF;

/// Where the shared page is mapped.
const SHARED_INFO: u64 = 0x3_8200;

pub fn run(test: &mut Test) {
    let mut map = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_SHARED_INFO, idx: 0, gpfn: SHARED_INFO };
    expect_eq!(test, "shared_info", hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut map), 0);
    for (remote, port) in REMOTES.iter().zip([1, 2]) {
        let mut status = Status { dom: DOMID_SELF, port, ..Default::default() };
        // The toolstack's daemons bind their ends when they hear of the domain, which may already run then. xenconsoled looks again a
        // little later, and gives up a console that is not connected just then.
        let bound = cpu::wait_until(30_000_000, || {
            let mut seen = Status { dom: DOMID_SELF, port, ..Default::default() };
            hypercall::event(EVTCHNOP_STATUS, &mut seen) != 0 || seen.status == EVTCHNSTAT_INTERDOMAIN
        });
        hypercall::event(EVTCHNOP_STATUS, &mut status);
        if !bound || status.status != EVTCHNSTAT_INTERDOMAIN {
            return test.error("channels", "store and console do not bind theirs");
        }
        remote.store(status.remote_port, SeqCst);
    }
    cpu::wait_until(2_000_000, || false);
    expect_eq!(test, "reset", reset(), 0);
    polls(test);
    two_level(test);
    fifo(test);
    expect_eq!(test, "reset again", reset(), 0);
    pages(test);
    expect_eq!(test, "reset after pages", reset(), 0);
    all_ports(test);
    if race::ready() {
        races(test);
        expect_eq!(test, "reset after races", reset(), 0);
    } else {
        test.skip("races", "one vCPU");
    }
}

/// Where the channels of store and console lead.
static REMOTES: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// Closes all ports, then binds those of store and console again, in this order, so that they get their old numbers. If the other ends are
/// gone, nothing can be told any more: the domain powers off, and is started again.
fn reset() -> i64 {
    let rc = hypercall::event(EVTCHNOP_RESET, &mut Reset { dom: DOMID_SELF });
    for remote in &REMOTES {
        let remote_port = remote.load(SeqCst);
        let bound = hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut BindInterdomain { remote_dom: 0, remote_port, ..Default::default() });
        if bound != 0 {
            power_off()
        }
    }
    console::flush();
    rc
}

fn init(control_gfn: u64, offset: u32, vcpu: u32) -> i64 {
    hypercall::event(EVTCHNOP_INIT_CONTROL, &mut InitControl { control_gfn, offset, vcpu, ..Default::default() })
}

fn expand(array_gfn: u64) -> i64 {
    hypercall::event(EVTCHNOP_EXPAND_ARRAY, &mut ExpandArray { array_gfn })
}

fn send(port: u32) -> i64 {
    hypercall::event(EVTCHNOP_SEND, &mut Send { port })
}

fn close(port: u32) -> i64 {
    hypercall::event(EVTCHNOP_CLOSE, &mut Close { port })
}

fn bind_ipi(vcpu: u32) -> (i64, u32) {
    let mut op = BindIpi { vcpu, port: 0 };
    (hypercall::event(EVTCHNOP_BIND_IPI, &mut op), op.port)
}

fn unmask(port: u32) -> i64 {
    hypercall::event(EVTCHNOP_UNMASK, &mut Unmask { port })
}

fn polls(test: &mut Test) {
    // E04: ports that were never bound, up to the last that there could be.
    let list = Page::take();
    let poll = |ports, nr_ports| hypercall::sched(SCHEDOP_POLL, &mut Poll { ports, nr_ports, timeout: 1, ..Default::default() });
    let (mut first, mut odd) = (0, 0);
    for port in (32..131_072).step_by(97) {
        list.write32(0, port);
        let rc = poll(list.address(), 1);
        first = if port == 32 { rc } else { first };
        odd += u32::from(rc != 0 && rc != -22);
    }
    test.answer("E04.poll(each port)", format_args!("first={first} odd={odd}"));
    for (name, nr) in [("0", 0), ("1", 1), ("128", 128), ("129", 129), ("2^31", 1 << 31), ("~0", u32::MAX)] {
        (0..128).for_each(|n| list.write32(n * 4, 32 + n as u32));
        test.rc(format_args!("E04.poll(nr={name})"), poll(list.address(), nr));
        test.rc(format_args!("E04.poll(nr={name},unmapped)"), poll(unmapped(), nr));
        test.rc(format_args!("E04.poll(nr={name},end of space)"), poll(u64::MAX - 3, nr));
    }
    // The list crosses into what is not mapped.
    test.rc("E04.poll(crossing)", poll(unmapped() - 8, 4));
    // E15.
    for pirq in [0, 16, 1023, u32::MAX] {
        test.rc(format_args!("E15.bind_pirq({pirq:#x})"), hypercall::event(EVTCHNOP_BIND_PIRQ, &mut BindPirq { pirq, flags: 1, port: 0 }));
    }
}

fn two_level(test: &mut Test) {
    // E05: all ports, a hundred refusals, all back; the highest is usable.
    let (mut last, mut count) = (0, 0);
    let rc = loop {
        let (rc, port) = bind_ipi(0);
        if rc != 0 {
            break rc;
        }
        (last, count) = (port, count + 1);
    };
    let refused = (0..100).filter(|_| bind_ipi(0).0 == rc).count();
    test.answer("E05.exhaust", format_args!("rc={rc} ports={count} last={last} refused={refused} send={}", send(last)));
    for port in [last, last + 1, 1023, 1024, 4095, 4096, 4097] {
        let ops = [send(port), unmask(port), hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port, vcpu: 0 })];
        test.answer(format_args!("E08.port({port})"), format_args!("{ops:?}"));
    }
    // E08: the switch to the other ABI keeps what is pending.
    let (control, array) = (Page::take(), Page::take());
    let shared = Page::window(SHARED_INFO);
    let pending = shared.read64(48 + u64::from(last / 64) * 8) >> (last % 64) & 1;
    let switched = init(control.gfn(), 0, 0);
    let expanded = expand(array.gfn());
    let word = array.read32(u64::from(last) * 4) >> 28;
    test.answer("E08.switch", format_args!("pending={pending} init={switched} expand={expanded} word={word:#x}"));
    let closed = (3..=last).filter(|port| close(*port) == 0).count();
    test.answer("E05.close", format_args!("{closed}"));
    test.rc("E05.reset", reset());
    let (rc, port) = bind_ipi(0);
    test.answer("E05.again", format_args!("rc={rc} port={port} close={}", close(port)));
}

fn fifo(test: &mut Test) {
    let (control, array) = (Page::take(), Page::take());
    // E03: a refusal leaves the two-level ABI in force.
    for (name, gfn, offset, vcpu) in [
        ("gfn", u64::MAX - 1, 0, 0),
        ("offset", control.gfn(), 4096 - 71, 0),
        ("align", control.gfn(), 4, 0),
        ("vcpu", control.gfn(), 0, 9),
    ] {
        test.answer(
            format_args!("E03.init_control({name})"),
            format_args!("init={} expand={}", init(gfn, offset, vcpu), expand(array.gfn())),
        );
    }
    // E02: a control block for the first vCPU only; an event for the second is kept until it has one.
    test.rc("E02.init_control(0)", init(control.gfn(), 0, 0));
    test.rc("E02.expand_array", expand(array.gfn()));
    let (_, port) = bind_ipi(1);
    test.rc("E02.send", send(port));
    let word = || array.read32(u64::from(port) * 4) >> 28;
    test.answer("E02.before", format_args!("word={:#x}", word()));
    let blocks = Page::take();
    let rc = init(blocks.gfn(), 0, 1);
    test.answer(
        "E02.init_control(1)",
        format_args!("rc={rc} word={:#x} ready={:#x} head={}", word(), blocks.read32(0), blocks.read32(8 + 7 * 4) == port),
    );
    test.rc("E02.send again", send(port));
    test.answer("E02.after", format_args!("word={:#x} ready={:#x}", word(), blocks.read32(0)));
    test.rc("E02.close", close(port));
    // E17: the guest writes nonsense into links and heads; Xen follows none of it.
    let ports: [u32; 8] = core::array::from_fn(|_| bind_ipi(0).1);
    ports.iter().for_each(|port| {
        unmask(*port);
    });
    let mut state = 0x1234_5678_u32;
    let mut refused = 0;
    for round in 0..2000_u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        array.write32(u64::from(ports[(state >> 20) as usize % 8]) * 4, state.rotate_left(round));
        control.write32(8 + u64::from(state >> 7 & 15) * 4, state);
        control.write32(0, state & 0xffff);
        refused += u32::from(send(ports[(state >> 11) as usize % 8]) != 0);
    }
    test.answer("E17.nonsense in links", format_args!("refused={refused}"));
    // In order again: the events arrive.
    (0..1024).for_each(|n| array.write32(n * 4, 0));
    let rest: [i64; 8] = ports.map(close);
    test.answer("E17.close", format_args!("{rest:?}"));
    // Order: three events of three priorities, sent backwards; the heads tell which queue each is on.
    let three: [u32; 3] = core::array::from_fn(|_| bind_ipi(0).1);
    for (port, priority) in three.into_iter().zip([15, 7, 0]) {
        let set = hypercall::event(EVTCHNOP_SET_PRIORITY, &mut SetPriority { port, priority });
        test.answer(format_args!("order.priority({priority})"), format_args!("set={set} unmask={}", unmask(port)));
    }
    control.write32(0, 0);
    let sent = three.map(send);
    let heads = [15, 7, 0].map(|queue: u64| control.read32(8 + queue * 4));
    let right = heads == three;
    test.answer("order.sent", format_args!("{sent:?} ready={:#x} heads={right}", control.read32(0)));
    // Two of one priority make a list; a third while the tail was taken off starts a new one.
    (0..1024).for_each(|n| array.write32(n * 4, 0));
    control.write32(0, 0);
    three.iter().for_each(|port| {
        hypercall::event(EVTCHNOP_SET_PRIORITY, &mut SetPriority { port: *port, priority: 7 });
    });
    let sent = three.map(send);
    let links = three.map(|port| array.read32(u64::from(port) * 4));
    let chained = links[0] & 0x1_ffff == three[1] && links[1] & 0x1_ffff == three[2] && links[2] & 0x1_ffff == 0;
    test.answer(
        "order.chain",
        format_args!("{sent:?} chained={chained} top={:x?} ready={:#x}", links.map(|word| word >> 28), control.read32(0)),
    );
    // Masked: pending but on no queue; unmasking links it.
    array.write32(u64::from(three[0]) * 4, 1 << 30);
    test.answer("order.masked", format_args!("send={} word={:#x}", send(three[0]), array.read32(u64::from(three[0]) * 4) >> 28));
    test.answer("order.unmask", format_args!("rc={} word={:#x}", unmask(three[0]), array.read32(u64::from(three[0]) * 4) >> 28));
    // A free port that is still on a queue is not given out.
    let closed = close(three[2]);
    let (_, next) = bind_ipi(0);
    test.answer(
        "order.busy",
        format_args!("close={closed} word={:#x} same={}", array.read32(u64::from(three[2]) * 4) >> 28, next == three[2]),
    );
}

/// E10: every port that there may be, half of them bound to the other half, all pending; then none is left.
fn all_ports(test: &mut Test) {
    let control = Page::take();
    let started = init(control.gfn(), 0, 0);
    let arrays = (0..128).filter(|_| expand(Page::take().gfn()) == 0).count();
    test.answer("E10.fifo", format_args!("init={started} arrays={arrays}"));
    let (mut ports, mut sent, mut last) = (0_u32, 0_u32, 0);
    loop {
        let mut one = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
        if hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut one) != 0 {
            break;
        }
        (ports, last) = (ports + 1, one.port);
        let mut two = BindInterdomain { remote_dom: DOMID_SELF, remote_port: one.port, ..Default::default() };
        if hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut two) != 0 {
            break;
        }
        (ports, last) = (ports + 1, two.local_port);
        sent += u32::from(send(one.port) == 0) + u32::from(send(two.local_port) == 0);
    }
    test.answer("E10.ports", format_args!("ports={ports} last={last} sent={sent}"));
    let start = cpu::counter();
    let rc = reset();
    let quick = cpu::counter() - start < 5 * cpu::frequency();
    let (again, port) = bind_ipi(0);
    test.answer("E10.reset", format_args!("rc={rc} quick={quick} again={again} close={}", close(port)));
}

/// E18, E19: pages of the wrong kind, and pages that go away while the hypervisor uses them.
fn pages(test: &mut Test) {
    let (control, array) = (Page::take(), Page::take());
    for (name, gfn) in [
        ("gicd", 0x3001),
        ("hole", 0x8_0000),
        ("grant table", 0x3_8000),
        ("console ring", 0x3_9000),
        ("2^28", 1 << 28),
        ("2^36", 1 << 36),
        ("2^40", 1 << 40),
        ("2^52", 1 << 52),
        ("~0", u64::MAX),
    ] {
        test.answer(format_args!("E18.init_control({name})"), format_args!("rc={} expand={}", init(gfn, 0, 0), expand(array.gfn())));
        reset();
    }
    for offset in [1, 7, 4096 - 72, 4096 - 64, 4096 - 63, 4088, 4096, 1 << 31] {
        test.rc(format_args!("E18.init_control(offset={offset})"), init(control.gfn(), offset, 0));
        reset();
    }
    // Control block and array are given away; then events are sent.
    test.rc("E19.init_control", init(control.gfn(), 0, 0));
    test.rc("E19.expand_array", expand(array.gfn()));
    let (_, port) = bind_ipi(0);
    unmask(port);
    test.rc("E19.decrease(control)", super::memory::decrease(control.gfn()));
    test.rc(
        "E19.remove(array)",
        hypercall::memory(
            XENMEM_REMOVE_FROM_PHYSMAP,
            &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn: array.gfn(), ..Default::default() },
        ),
    );
    test.rc("E19.send", send(port));
    test.rc("E19.populate", super::memory::populate(control.gfn()));
    test.rc("E19.send again", send(port));
    test.answer("E19.new page", format_args!("zero={}", control.read64(0) == 0 && control.read64(8) == 0));
    test.answer("E19.removed", Outcome(probe::read(array.address(), 2)));
    test.rc("E19.close", close(port));
    super::memory::populate(array.gfn());
}

static PORT: AtomicU32 = AtomicU32::new(0);
static PAGES: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static ARRIVED: AtomicU32 = AtomicU32::new(0);

fn races(test: &mut Test) {
    // E06, E09: everything is reset while the other vCPU binds, sends, asks and closes.
    let mut resets = 0;
    let ended = race::beside(
        || {
            while !race::stopped() {
                let (rc, port) = bind_ipi(0);
                if rc == 0 {
                    send(port);
                    unmask(port);
                    hypercall::event(EVTCHNOP_STATUS, &mut Status { dom: DOMID_SELF, port, ..Default::default() });
                    hypercall::event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port, vcpu: 1 });
                    close(port);
                }
                let mut op = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
                if hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op) == 0 {
                    let mut bind = BindInterdomain { remote_dom: DOMID_SELF, remote_port: op.port, ..Default::default() };
                    hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut bind);
                    close(op.port);
                    close(bind.local_port);
                }
                DONE.fetch_add(1, SeqCst);
            }
        },
        || {
            let start = cpu::counter();
            while cpu::counter() - start < cpu::frequency() / 4 {
                let rc = reset();
                resets += u32::from(rc == 0 || rc == -11);
                if rc != 0 && rc != -11 {
                    resets = 0;
                    break;
                }
            }
        },
    );
    test.answer("E06.reset beside all", format_args!("ended={ended} resets={} others={}", resets > 0, DONE.load(SeqCst) > 0));
    // E11, E12, E14: control blocks and array pages appear, and go, while events are sent.
    let pages = Page::take_aligned(4);
    PAGES.store(pages.gfn(), SeqCst);
    let mut odd = 0;
    let ended = race::beside(
        || {
            while !race::stopped() {
                let (rc, port) = bind_ipi(1);
                if rc == 0 {
                    unmask(port);
                    send(port);
                    close(port);
                }
            }
        },
        || {
            let pages = PAGES.load(SeqCst);
            for _ in 0..300 {
                let answers = [init(pages, 0, 0), expand(pages + 1), init(pages + 2, 0, 1), expand(pages + 3)];
                odd += u32::from(!answers.iter().all(|rc| matches!(rc, 0 | -22 | -95)));
                reset();
            }
        },
    );
    (0..4).for_each(|n| pages.offset(n).fill(0));
    test.answer("E14.expand beside send", format_args!("ended={ended} odd={odd}"));
    // E16, G20: the words change while events are sent.
    test.rc("E16.init_control", init(pages.gfn(), 0, 0));
    test.rc("E16.expand_array", expand(pages.gfn() + 1));
    let two = [bind_ipi(0).1, bind_ipi(0).1];
    two.iter().for_each(|port| {
        unmask(*port);
    });
    PORT.store(two[0], SeqCst);
    let mut refused = 0;
    let ended = race::beside(
        || {
            let at = (PAGES.load(SeqCst) + 1) * 4096 + u64::from(PORT.load(SeqCst)) * 4;
            while !race::stopped() {
                for word in [0, 1 << 29, 1 << 31, 1 << 30, 7 << 29, 1 << 29 | 0x1_ffff, 1 << 28] {
                    let _ = (probe::write(at, 2, word), probe::write(at + 4, 2, word));
                }
            }
        },
        || {
            for n in 0..5000 {
                refused += u32::from(send(two[n % 2]) != 0);
            }
        },
    );
    test.answer("E16.words in motion", format_args!("ended={ended} refused={refused}"));
    (0..4).for_each(|n| pages.offset(n).fill(0));
    reset();
    // E20: a storm of events for the other vCPU; the last is seen.
    let (rc, port) = bind_ipi(1);
    PORT.store(port, SeqCst);
    test.rc("E20.bind", rc);
    smp::give(1, || gic::enable(GUEST_EVTCHN_PPI));
    cpu::wait_until(1_000_000, || smp::is_idle(1));
    let sent = (0..20_000).filter(|_| send(port) == 0).count();
    test.answer("E20.storm", format_args!("sent={sent} close={}", close(port)));
    ARRIVED.store(0, SeqCst);
    smp::give(1, || {
        gic::disable(GUEST_EVTCHN_PPI);
        ARRIVED.store(1, SeqCst);
    });
    test.answer("E20.alive", cpu::wait_until(2_000_000, || ARRIVED.load(SeqCst) != 0));
}
