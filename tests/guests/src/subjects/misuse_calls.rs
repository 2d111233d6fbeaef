//! Misuse of the hypercall interface by one domain. Each operation begins with its row of the catalogue (H01 to H23, A20, A21).

use super::race;
use crate::runtime::page::Page;
use crate::runtime::{cpu, gic, hypercall, probe, timer, unmapped};
use crate::verdict::Test;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_abi::arch_arm::GUEST_TIMER_VIRT_PPI;
use guest_abi::memory::*;
use guest_abi::sched::*;
use guest_abi::version::*;
use guest_abi::xen::{DOMID_SELF, hypercall::*};

pub fn run(test: &mut Test) {
    outputs(test);
    varbufs(test);
    multicalls(test);
    scheduling(test);
    consoles(test);
    immediates(test);
    if race::ready() {
        races(test);
    } else {
        test.skip("races", "one vCPU");
    }
}

/// Which bytes of a page are no longer 0xa5: from, to.
struct Written(Page);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |offset: &u64| self.0.read8(*offset) != 0xa5;
        match ((0..4096).find(written), (0..4096).rev().find(written)) {
            (Some(first), Some(last)) => write!(f, "written={first}..{}", last + 1),
            _ => write!(f, "written=none"),
        }
    }
}

/// H01: how many bytes each operation writes, and that what lies behind a text is zero.
fn outputs(test: &mut Test) {
    let page = Page::take();
    let mut ask = |name: &str, number: u64, args: [u64; 3], text: Option<u64>| {
        let [a, b, c] = args;
        let rc = hypercall::raw(number, [a, b, c, 0, 0]);
        match text {
            None => test.answer(format_args!("H01.{name}"), format_args!("rc={rc} {}", Written(page))),
            Some(size) => {
                // From the NUL on there is nothing but zeroes: no bytes of the hypervisor's own.
                let end = (0..size).find(|at| page.read8(*at) == 0).unwrap_or(size);
                let clean = end < size && (end..size).all(|at| page.read8(at) == 0) && (size..4096).all(|at| page.read8(at) == 0xa5);
                test.answer(format_args!("H01.{name}"), format_args!("rc={rc} clean={clean}"));
            }
        }
        page.fill(0xa5);
    };
    page.fill(0xa5);
    let at = page.address();
    for (name, cmd, size) in [
        ("extraversion", XENVER_EXTRAVERSION, 16),
        ("capabilities", XENVER_CAPABILITIES, 1024),
        ("changeset", XENVER_CHANGESET, 64),
        ("commandline", XENVER_COMMANDLINE, 1024),
    ] {
        ask(name, XEN_VERSION, [cmd.into(), at, 0], Some(size));
    }
    ask("platform_parameters", XEN_VERSION, [XENVER_PLATFORM_PARAMETERS.into(), at, 0], None);
    ask("guest_handle", XEN_VERSION, [XENVER_GUEST_HANDLE.into(), at, 0], None);
    ask("build_id", XEN_VERSION, [XENVER_BUILD_ID.into(), at, 0], None);
    ask("pagesize", XEN_VERSION, [XENVER_PAGESIZE.into(), at, 0], None);
    // Each of the four texts ends with zeroes up to its own length.
    hypercall::raw(XEN_VERSION, [XENVER_COMPILE_INFO.into(), at, 0, 0, 0]);
    let clean = [(0, 64), (64, 16), (80, 32), (112, 32)].map(|(start, size)| {
        let end = (start..start + size).find(|at| page.read8(*at) == 0).unwrap_or(start + size);
        end < start + size && (end..start + size).all(|at| page.read8(at) == 0)
    });
    test.answer("H01.compile_info", format_args!("clean={clean:?} {}", (144..4096).all(|at| page.read8(at) == 0xa5)));
    // Structures that are read as well: the fields that are not the answer stay what they were.
    let fields = |page: Page, words: &[(u64, u32)]| {
        page.fill(0xa5);
        words.iter().for_each(|(at, value)| page.write32(*at, *value));
    };
    let mut inout = |name: &str, number: u64, cmd: u64, words: &[(u64, u32)], count: u64, size: u64| {
        fields(page, words);
        let rc = hypercall::raw(number, [cmd, at, count, 0, 0]);
        let beyond = (size..4096).all(|at| page.read8(at) == 0xa5);
        let kept = (0..size / 2).filter(|n| page.read16(n * 2) == 0xa5a5).count();
        test.answer(format_args!("H01.{name}"), format_args!("rc={rc} kept={kept} beyond={beyond}"));
    };
    let own = 0xa5a5_0000 | u32::from(DOMID_SELF);
    inout("query_size", GRANT_TABLE_OP, 6, &[(0, own)], 1, 16);
    inout("get_version", GRANT_TABLE_OP, 10, &[(0, own)], 1, 8);
    inout("swap", GRANT_TABLE_OP, 11, &[(0, 60), (4, 61)], 1, 12);
    inout("map", GRANT_TABLE_OP, 0, &[(8, 0), (16, own)], 1, 32);
    inout("unmap", GRANT_TABLE_OP, 1, &[], 1, 24);
    inout("copy", GRANT_TABLE_OP, 5, &[(32, 0xffff)], 1, 40);
    inout("transfer", GRANT_TABLE_OP, 4, &[], 1, 24);
    inout("evtchn status", EVENT_CHANNEL_OP, 5, &[(0, own), (4, 0)], 0, 24);
    inout("evtchn status(console)", EVENT_CHANNEL_OP, 5, &[(0, own), (4, 900)], 0, 24);
    inout("alloc_unbound", EVENT_CHANNEL_OP, 6, &[(0, 1000)], 0, 8);
    inout("bind_virq", EVENT_CHANNEL_OP, 1, &[(0, 99), (4, 0)], 0, 12);
    inout("get_param", HVM_OP, 1, &[(0, own), (4, 2)], 0, 16);
    inout("get_param(bad)", HVM_OP, 1, &[(0, own), (4, 99)], 0, 16);
    inout("acquire_resource", MEMORY_OP, XENMEM_ACQUIRE_RESOURCE, &[(0, own), (12, 0)], 0, 32);
}

/// H02: lengths of the texts that have one.
fn varbufs(test: &mut Test) {
    let page = Page::take();
    for cmd in [XENVER_BUILD_ID, XENVER_EXTRAVERSION2, XENVER_CAPABILITIES2, XENVER_CHANGESET2, XENVER_COMMANDLINE2] {
        let length = hypercall::raw(XEN_VERSION, [cmd.into(), 0, 0, 0, 0]);
        for (name, room) in
            [("0", 0), ("length-1", (length - 1).max(0)), ("length", length.max(0)), ("length+1", length + 1), ("huge", 0xffff_ffff)]
        {
            page.fill(0xa5);
            page.write32(0, room as u32);
            let rc = hypercall::raw(XEN_VERSION, [cmd.into(), page.address(), 0, 0, 0]);
            let same = rc == length;
            let end = (4..4096).find(|at| page.read8(*at) == 0xa5).unwrap_or(0) - 4;
            let rc = if rc < 0 { rc } else { 0 };
            let kept = page.read32(0) == room as u32;
            let answer =
                format_args!("rc={rc} length={same} bytes={} kept={kept}", if rc < 0 { end == 0 } else { end == length.cast_unsigned() });
            test.answer(format_args!("H02.varbuf({cmd},{name})"), answer);
        }
        test.rc(format_args!("H02.varbuf({cmd},crossing)"), {
            let at = unmapped() - 4;
            hypercall::raw(XEN_VERSION, [cmd.into(), at, 0, 0, 0])
        });
    }
}

fn entry(list: Page, n: u64, op: u64, args: [u64; 5]) {
    let at = n % 64 * 64;
    let page = list.offset(n / 64);
    page.write64(at, op);
    page.write64(at + 8, 0x7777);
    args.iter().zip(2..).for_each(|(arg, word)| page.write64(at + word * 8, *arg));
    page.write64(at + 56, 0x6666);
}

fn result(list: Page, n: u64) -> i64 {
    list.offset(n / 64).read64(n % 64 * 64 + 8).cast_signed()
}

fn multicalls(test: &mut Test) {
    let list = Page::take_aligned(32);
    // H04: calls that are long themselves, in a long list, while an interrupt is pending.
    let gfns = Page::take();
    let pages = Page::take_aligned(256);
    (0..256).for_each(|n| gfns.write64(n * 8, pages.gfn() + n));
    let mut reservation = MemoryReservation { extent_start: gfns.address(), nr_extents: 256, domid: DOMID_SELF, ..Default::default() };
    let reservation = hypercall::address(&mut reservation);
    for n in 0..40 {
        let op = if n % 2 == 0 { XENMEM_DECREASE_RESERVATION } else { XENMEM_POPULATE_PHYSMAP };
        entry(list, n, MEMORY_OP, [op, reservation, 0, 0, 0]);
    }
    gic::enable(GUEST_TIMER_VIRT_PPI);
    cpu::interrupts(true);
    timer::arm_virtual(100);
    let rc = hypercall::raw(MULTICALL, [list.address(), 40, 0, 0, 0]);
    cpu::interrupts(false);
    timer::stop();
    let all = (0..40).filter(|n| result(list, *n) == 256).count();
    test.answer("H04.long calls in a list", format_args!("rc={rc} done={all}"));
    // H06: a long list goes on where it was interrupted: each call once.
    let mut wrong = 0;
    for n in 0..2048 {
        entry(list, n, if n % 3 == 2 { 63 } else { XEN_VERSION }, [0; 5]);
    }
    let rc = hypercall::raw(MULTICALL, [list.address(), 2048, 0, 0, 0]);
    for n in 0..2048 {
        wrong += u32::from(result(list, n) != if n % 3 == 2 { -38 } else { 0x4_0014 });
    }
    test.answer("H06.list(2048)", format_args!("rc={rc} wrong={wrong}"));
    // H05: lists in lists, unknown calls; the sixth argument is left alone.
    for (n, (op, a0, a1)) in [
        (MULTICALL, list.address(), 1),
        (MULTICALL, 0, 0),
        (0xffff, 0, 0),
        (u64::MAX, 0, 0),
        (1 << 32 | XEN_VERSION, 0, 0),
        (XEN_VERSION, 1 << 32, 0),
        (XEN_VERSION, 0, 0),
    ]
    .into_iter()
    .enumerate()
    {
        entry(list, n as u64, op, [a0, a1, 0, 0, 0]);
    }
    let rc = hypercall::raw(MULTICALL, [list.address(), 7, 0, 0, 0]);
    let results: [i64; 7] = core::array::from_fn(|n| result(list, n as u64));
    test.answer("H05.list", format_args!("rc={rc} results={results:?} sixth={:#x}", list.read64(56)));
    for (name, count) in [
        ("0", 0),
        ("2^31", 1 << 31),
        ("2^31-1", (1 << 31) - 1),
        ("2^32-1", u64::from(u32::MAX)),
        ("2^32", 1 << 32),
        ("2^63", 1 << 63),
        ("~0", u64::MAX),
    ] {
        test.rc(format_args!("H08.multicall(unmapped,{name})"), hypercall::raw(MULTICALL, [unmapped(), count, 0, 0, 0]));
    }
    // The list ends where memory ends: what was done is done.
    let two = Page::take_aligned(2);
    super::memory::decrease(two.gfn() + 1);
    for n in 62..66 {
        if n < 64 {
            entry(two, n, XEN_VERSION, [0; 5]);
        }
    }
    let rc = hypercall::raw(MULTICALL, [two.address() + 62 * 64, 4, 0, 0, 0]);
    test.answer("H05.list leaves memory", format_args!("rc={rc} results={:?}", [result(two, 62), result(two, 63)]));
    let rc = hypercall::raw(MULTICALL, [two.address() + 63 * 64 + 32, 1, 0, 0, 0]);
    test.answer("H05.entry leaves memory", format_args!("rc={rc}"));
    super::memory::populate(two.gfn() + 1);
    // Not aligned, and across two pages that are there.
    let at = two.address() + 4096 - 20;
    (0..64).for_each(|n| {
        let _ = probe::write(at + n, 0, 0);
    });
    let _ = probe::write(at, 0, XEN_VERSION);
    let rc = hypercall::raw(MULTICALL, [at, 1, 0, 0, 0]);
    test.answer("H05.entry across pages", format_args!("rc={rc} result={:#x}", probe::read(at + 8, 3).unwrap_or(0)));
}

fn scheduling(test: &mut Test) {
    // H07: timers that Arm refuses, with every kind of time; poll and its timeouts.
    for cmd in [6, 7, 8, 9] {
        for time in [0, 1, 1 << 63, u64::MAX] {
            let mut arg = [time, time];
            let at = hypercall::address(&mut arg);
            test.rc(format_args!("H07.vcpu_op({cmd},{time:#x})"), hypercall::raw(VCPU_OP, [cmd, 0, at, 0, 0]));
        }
    }
    test.rc("H07.set_timer_op", hypercall::raw(15, [u64::MAX, 0, 0, 0, 0]));
    let list = Page::take();
    list.write32(0, 1000);
    for (name, timeout) in [("1", 1), ("2", 2), ("1000", 1000)] {
        let mut op = Poll { ports: list.address(), nr_ports: 0, timeout, ..Default::default() };
        test.rc(format_args!("H07.poll({name})"), hypercall::sched(SCHEDOP_POLL, &mut op));
    }
    // H20: ids, and times that do not come.
    for id in [3, 4, 0xff, 1 << 31, u32::MAX] {
        for timeout in [0, 1, 10, u32::MAX] {
            test.rc(format_args!("H20.watchdog({id:#x},{timeout:#x})"), hypercall::sched(SCHEDOP_WATCHDOG, &mut Watchdog { id, timeout }));
        }
    }
    // H21: others are not this domain's to stop.
    for domain_id in [0, 1000, 0x7fef, DOMID_SELF, 0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, 0xffff] {
        for reason in [0, 4, 255, u32::MAX] {
            let mut op = RemoteShutdown { domain_id, reason, ..Default::default() };
            test.rc(format_args!("H21.remote_shutdown({domain_id:#x},{reason:#x})"), hypercall::sched(SCHEDOP_REMOTE_SHUTDOWN, &mut op));
        }
    }
}

fn consoles(test: &mut Test) {
    let page = Page::take();
    page.fill(b'\n');
    // H10.
    for (name, count) in [
        ("1", 1),
        ("128", 128),
        ("129", 129),
        ("4096", 4096),
        ("2^31-1", 0x7fff_ffff),
        ("2^31", 1 << 31),
        ("~0", 0xffff_ffff),
        ("2^32", 1 << 32),
    ] {
        for (place, at) in [("page", page.address()), ("end", page.address() + 4095), ("unmapped", unmapped()), ("end of space", u64::MAX)]
        {
            test.rc(format_args!("H10.write({name},{place})"), hypercall::raw(CONSOLE_IO, [0, count, at, 0, 0]));
            test.rc(format_args!("H10.read({name},{place})"), hypercall::raw(CONSOLE_IO, [1, count, at, 0, 0]));
        }
    }
}

fn immediates(test: &mut Test) {
    // A20: every immediate but the two that mean something.
    let (mut undefined, mut odd) = (0, 0);
    for immediate in (1..=0xffff_u16).filter(|immediate| *immediate != 0xea1) {
        match probe::hvc(immediate, [0; 4]) {
            Err(fault) if fault.esr >> 26 == 0 && fault.after == 0 => undefined += 1,
            _ => odd += 1,
        }
    }
    test.answer("A20.hvc(every immediate)", format_args!("undefined={undefined} odd={odd}"));
    let (mut undefined, mut odd) = (0, 0);
    for immediate in (1..=0xffff_u16).step_by(7) {
        match probe::smc(immediate, [0; 4]) {
            Err(fault) if fault.esr >> 26 == 0 && fault.after == 0 => undefined += 1,
            _ => odd += 1,
        }
    }
    test.answer("A20.smc(immediates)", format_args!("undefined={undefined} odd={odd}"));
    // A21: functions at random; PSCI's own are asked elsewhere.
    let (mut state, mut unknown, mut known) = (0x9e37_79b9_u32, 0, 0);
    for _ in 0..5000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let function = u64::from(state.rotate_left(9));
        if function >> 24 & 0x3f == 4 || function < 16 || function >> 31 == 0 {
            continue;
        }
        match probe::smc(0, [function, 1, 2, 3]) {
            Ok([x0, 1, 2, 3]) if x0 == u64::MAX => unknown += 1,
            _ => known += 1,
        }
    }
    test.answer("A21.smc(functions)", format_args!("unknown={unknown} known={known}"));
    // H15: garbage above the 32 bits that count.
    for (name, number, args) in [
        ("xen_version", XEN_VERSION, [1 << 32, 0, 0]),
        ("sched_op", SCHED_OP, [1 << 32, 0, 0]),
        ("event_channel_op", EVENT_CHANNEL_OP, [1 << 32 | 9, unmapped(), 0]),
        ("grant_table_op", GRANT_TABLE_OP, [1 << 32 | 6, unmapped(), 1]),
        ("grant_table_op count", GRANT_TABLE_OP, [6, unmapped(), 1 << 32 | 1]),
        ("vcpu_op", VCPU_OP, [1 << 32 | 10, 1 << 32, 0]),
        ("vm_assist", VM_ASSIST, [1 << 32, 5, 0]),
        ("hvm_op", HVM_OP, [1 << 32 | 1, unmapped(), 0]),
        ("console_io", CONSOLE_IO, [1 << 32, 1 << 32, 0]),
        ("memory_op", MEMORY_OP, [1 << 63 | XENMEM_MAXIMUM_RAM_PAGE, 0, 0]),
        ("domctl", DOMCTL, [1 << 63, 0, 0]),
    ] {
        let [a, b, c] = args;
        test.rc(format_args!("H15.{name}"), hypercall::raw(number, [a, b, c, 0, 0]));
    }
}

static AT: AtomicU64 = AtomicU64::new(0);

fn races(test: &mut Test) {
    // 2.2-7: arguments change while they are read: each call sees one of the two.
    let page = Page::take();
    AT.store(page.address(), SeqCst);
    let mut odd = 0;
    let ended = race::beside(
        || {
            let at = AT.load(SeqCst);
            while !race::stopped() {
                // A parameter that exists, one that does not.
                let _ = (probe::write(at + 4, 2, 2), probe::write(at + 4, 2, 99));
            }
        },
        || {
            page.write16(0, DOMID_SELF);
            for _ in 0..3000 {
                odd += u32::from(!matches!(hypercall::raw(HVM_OP, [1, page.address(), 0, 0, 0]), 0 | -22));
            }
        },
    );
    test.answer("N03.arguments in motion", format_args!("ended={ended} odd={odd}"));
    // A list whose entries change from one call to another that is refused.
    let list = Page::take();
    AT.store(list.address(), SeqCst);
    let mut odd = 0;
    let ended = race::beside(
        || {
            let at = AT.load(SeqCst);
            while !race::stopped() {
                let _ = (probe::write(at, 3, XEN_VERSION), probe::write(at, 3, MULTICALL), probe::write(at, 3, 63));
            }
        },
        || {
            for _ in 0..2000 {
                list.write64(8, 0x7777);
                list.write64(16, 0);
                let rc = hypercall::raw(MULTICALL, [list.address(), 1, 0, 0, 0]);
                odd += u32::from(rc != 0 || !matches!(list.read64(8).cast_signed(), 0x4_0014 | -22 | -38));
            }
        },
    );
    test.answer("N03.list in motion", format_args!("ended={ended} odd={odd}"));
}
