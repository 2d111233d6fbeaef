//! Misuse of memory by one domain. Each operation begins with its row of the catalogue (M01 to M28, H14).

use super::granter::{Granter, map, unmap};
use super::race;
use crate::pair::books::is_xenolith;
use crate::runtime::page::Page;
use crate::runtime::{hypercall, probe, probe::Outcome, unmapped};
use crate::verdict::Test;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_abi::grant_table::{GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTTABOP_QUERY_SIZE};
use guest_abi::memory::*;
use guest_abi::version::*;
use guest_abi::xen::{DOMID_SELF, hypercall::*};

const HOLE: u64 = 0x3_8d00;

pub fn run(test: &mut Test) {
    exchanges(test);
    sizes(test);
    frames(test);
    read_only(test);
    special(test);
    set_way(test);
    if race::ready() {
        races(test);
    } else {
        test.skip("races", "one vCPU");
    }
    test.rc("audit.pages", hypercall::memory(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF }));
}

fn reserve(cmd: u64, args: MemoryReservation) -> i64 {
    hypercall::memory(cmd, &mut MemoryReservation { domid: DOMID_SELF, ..args })
}

fn add(space: u32, idx: u64, gpfn: u64) -> i64 {
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn })
}

fn remove(gpfn: u64) -> i64 {
    hypercall::memory(XENMEM_REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn, ..Default::default() })
}

fn exchanges(test: &mut Test) {
    let list = Page::take();
    list.write64(0, list.gfn());
    let side = |extent_start, nr_extents, extent_order| MemoryReservation {
        extent_start,
        nr_extents,
        extent_order,
        domid: DOMID_SELF,
        ..Default::default()
    };
    let lists = [
        ("own", list.address(), list.address()),
        ("in unmapped", unmapped(), list.address()),
        ("out unmapped", list.address(), unmapped()),
        ("out EL2", list.address(), 0xffff_8000_0000_0000),
        ("out low", list.address(), 0x0000_0a00_0020_0000),
    ];
    for (name, from, to) in lists {
        for (extents, orders, done) in [
            ((1, 1), (0, 0), 0),
            ((1, 2), (0, 0), 0),
            ((512, 1), (0, 9), 0),
            ((1, 1), (9, 9), 0),
            ((1, 1), (0, 0), 1),
            ((1, 1), (0, 0), 1 << 63),
            ((u64::MAX, u64::MAX), (0, 0), u64::MAX - 1),
            ((1, 1), (64, 64), 0),
        ] {
            let mut args =
                MemoryExchange { input: side(from, extents.0, orders.0), output: side(to, extents.1, orders.1), nr_exchanged: done };
            let rc = hypercall::memory(XENMEM_EXCHANGE, &mut args);
            let moved = args.nr_exchanged.wrapping_sub(done);
            test.answer(format_args!("M01.exchange({name},{extents:x?},{orders:?},{done:#x})"), format_args!("rc={rc} done={moved:+}"));
        }
    }
    test.answer("M01.own page", list.read64(0) == list.gfn());
}

fn sizes(test: &mut Test) {
    let list = Page::take();
    list.write64(0, 0x10_0000);
    for cmd in [XENMEM_INCREASE_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
        for order in [10, 20, 31, 32, 52, 63, 64, 255, 0x8000_0000] {
            let rc =
                reserve(cmd, MemoryReservation { extent_start: list.address(), nr_extents: 1, extent_order: order, ..Default::default() });
            test.rc(format_args!("M02.op{cmd}(order={order})"), rc);
        }
        for extents in [1 << 31, 1 << 32, u64::MAX >> 6, 1 << 58, 1 << 63, u64::MAX] {
            let rc = reserve(cmd, MemoryReservation { extent_start: unmapped(), nr_extents: extents, ..Default::default() });
            test.rc(format_args!("M02.op{cmd}(extents={extents:#x})"), rc);
        }
        // H06: progress that nobody made.
        for start in [1, 2, 0xffff, 1 << 32, u64::MAX >> 6] {
            let mut args = MemoryReservation { extent_start: list.address(), nr_extents: 1, domid: DOMID_SELF, ..Default::default() };
            test.rc(format_args!("H06.op{cmd}(start={start:#x})"), hypercall::memory(cmd | start << MEMOP_EXTENT_SHIFT, &mut args));
        }
        // M04: nodes.
        for node in [1, 2, 64, 254, 255] {
            let mem_flags = node << XENMEMF_NODE_SHIFT | XENMEMF_EXACT_NODE_REQUEST;
            list.write64(0, HOLE);
            let rc = reserve(cmd, MemoryReservation { extent_start: list.address(), nr_extents: 1, mem_flags, ..Default::default() });
            test.rc(format_args!("M04.op{cmd}(node={node})"), rc);
        }
    }
    for op in [
        XENMEM_ADD_TO_PHYSMAP,
        XENMEM_ADD_TO_PHYSMAP_BATCH,
        XENMEM_REMOVE_FROM_PHYSMAP,
        XENMEM_ACQUIRE_RESOURCE,
        XENMEM_MAXIMUM_GPFN,
        XENMEM_CLAIM_PAGES,
        XENMEM_EXCHANGE,
        XENMEM_GET_VNUMAINFO,
        XENMEM_RESERVED_DEVICE_MEMORY_MAP,
    ] {
        for start in [1, 0x1_0000, u64::MAX >> 6] {
            let page = Page::take();
            test.rc(
                format_args!("H06.op{op}(start={start:#x})"),
                hypercall::raw(MEMORY_OP, [op | start << MEMOP_EXTENT_SHIFT, page.address(), 0, 0, 0]),
            );
        }
    }
    // M13.
    for (size, idx, gpfn) in [
        (0, 0, HOLE),
        (1, 0, HOLE),
        (15, 0, HOLE),
        (16, 0, HOLE),
        (17, 0, HOLE),
        (65535, 0, HOLE),
        (2, u64::MAX, HOLE),
        (2, 0, u64::MAX - 1),
        (65535, 0, u64::MAX - 5),
    ] {
        let mut args = AddToPhysmap { domid: DOMID_SELF, size, space: XENMAPSPACE_GMFN_RANGE, idx, gpfn };
        test.rc(format_args!("M13.range({size},{idx:#x},{gpfn:#x})"), hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args));
    }
    // M27.
    for cmd in [XENMEM_POPULATE_PHYSMAP, XENMEM_INCREASE_RESERVATION] {
        list.write64(0, HOLE);
        let args =
            MemoryReservation { extent_start: list.address(), nr_extents: 1, mem_flags: XENMEMF_POPULATE_ON_DEMAND, ..Default::default() };
        test.rc(format_args!("M27.op{cmd}(on demand)"), reserve(cmd, args));
    }
    // The whole space of XENMEM_reserved_device_memory_map, and a list of devices that are not there.
    for (flags, nr_entries, buffer) in [(1, 0, 0), (1, 4, list.address()), (0, 0, 0), (2, 0, 0), (u32::MAX, 1, unmapped())] {
        let mut args = ReservedDeviceMemoryMap { flags, nr_entries, buffer, ..Default::default() };
        let rc = hypercall::memory(XENMEM_RESERVED_DEVICE_MEMORY_MAP, &mut args);
        test.answer(format_args!("reserved_device_memory({flags:#x},{nr_entries})"), format_args!("rc={rc} nr={}", args.nr_entries));
    }
    for foreign_domid in [0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7fff, 0x8000, 0xffff] {
        list.write64(8, HOLE);
        let mut args = AddToPhysmapBatch {
            domid: DOMID_SELF,
            space: 4,
            size: 1,
            foreign_domid,
            idxs: list.address(),
            gpfns: list.address() + 8,
            errs: list.address() + 16,
        };
        let rc = hypercall::memory(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut args);
        test.answer(format_args!("foreign({foreign_domid:#x})"), format_args!("rc={rc} err={}", list.read32(16).cast_signed()));
    }
}

/// M12: frame numbers with bits beyond the address, and what lies there afterwards.
fn frames(test: &mut Test) {
    let own = Page::take();
    let frames = [
        ("2^27", 1 << 27),
        ("2^28", 1 << 28),
        ("2^28+own", (1 << 28) + own.gfn()),
        ("2^36", 1 << 36),
        ("2^36+own", (1 << 36) + own.gfn()),
        ("2^40", 1 << 40),
        ("2^44", 1 << 44),
        ("2^51", 1 << 51),
        ("2^52+own", (1 << 52) + own.gfn()),
        ("~1", u64::MAX - 1),
        ("~0", u64::MAX),
    ];
    for (name, gfn) in frames {
        let added = add(0, 0, gfn);
        let removed = remove(gfn);
        let granted = add(1, 1, gfn);
        let rest = remove(gfn);
        let decreased = super::memory::decrease(gfn);
        test.answer(format_args!("M12.gfn({name})"), format_args!("shared={added},{removed} grant={granted},{rest} decrease={decreased}"));
        own.write64(0, gfn);
    }
    test.answer("M12.own", Outcome(probe::read(own.address(), 3).map(|_| 0)));
    let addresses = [
        ("2^31", 1 << 31),
        ("2^36", 1 << 36),
        ("2^37", 1 << 37),
        ("2^38", 1 << 38),
        ("2^38+own", (1 << 38) + own.address()),
        ("last", 0x7f_8000_0000),
    ];
    for (name, address) in addresses {
        match probe::read(address, 3) {
            Ok(_) => test.answer(format_args!("M12.read({name})"), "readable"),
            Err(fault) => test.answer(format_args!("M12.read({name})"), fault),
        }
    }
}

/// M05, M14, M28, H14: pages of a special kind, in every operation that takes a frame number.
fn special(test: &mut Test) {
    let Some(granter) = Granter::new() else { return test.error("M28", "no grant table") };
    let page = Page::take();
    granter.grant(40, page);
    let mapped = map(GNTMAP_HOST_MAP, 40, granter.own, HOLE << 12);
    test.answer("M28.map", mapped.status);
    // Xen gives back the page behind a domain's own grant, although the domain has it mapped at its first place too.
    let grant = is_xenolith().then_some(("own grant", HOLE));
    let places = [("gicd", 0x3001), ("gicr", 0x3020), ("hole", 0x8_0000), ("pl011", 0x2_2000), ("~0", u64::MAX)];
    for (name, gfn) in places.into_iter().chain(grant) {
        let decrease = super::memory::decrease(gfn);
        let remove = remove(gfn);
        let populate = super::memory::populate(gfn);
        let again = super::memory::decrease(gfn);
        let table = probe::read(0x3800_0000, 2).is_ok();
        test.answer(
            format_args!("M14.{name}"),
            format_args!("decrease={decrease} remove={remove} populate={populate} decrease={again} table={table}"),
        );
    }
    test.answer("M14.grant.unmap", unmap(mapped.handle, HOLE << 12, 0));
    test.answer("M14.gicd", Outcome(probe::read(0x0300_1008, 2)));
    if is_xenolith() {
        grant_frame(test);
    }
    // Hypercall arguments in pages of each kind.
    for (name, at) in [
        ("grant table", (0x3_8000 << 12) + 2048),
        ("console ring", (0x3_9000 << 12) + 3200),
        ("gicd", 0x0300_1000),
        ("hole", 0x8000_0000),
        ("hole, crossing", 0x8000_0000 - 8),
    ] {
        test.rc(format_args!("M28.argument in {name}"), hypercall::raw(MEMORY_OP, [XENMEM_MAXIMUM_GPFN, at, 0, 0, 0]));
        test.rc(format_args!("M28.result in {name}"), hypercall::raw(XEN_VERSION, [XENVER_PLATFORM_PARAMETERS.into(), at, 0, 0, 0]));
    }
    // A structure across two pages, the second of which is gone.
    let two = Page::take_aligned(2);
    super::memory::decrease(two.gfn() + 1);
    for before in [1, 4, 7, 8] {
        let at = two.address() + 4096 - before;
        test.rc(
            format_args!("M28.crossing(platform_parameters,{before})"),
            hypercall::raw(XEN_VERSION, [XENVER_PLATFORM_PARAMETERS.into(), at, 0, 0, 0]),
        );
        test.rc(
            format_args!("M28.crossing(guest_handle,{before})"),
            hypercall::raw(XEN_VERSION, [XENVER_GUEST_HANDLE.into(), at, 0, 0, 0]),
        );
        test.rc(
            format_args!("M28.crossing(query_size,{before})"),
            hypercall::raw(GRANT_TABLE_OP, [GNTTABOP_QUERY_SIZE.into(), at, 1, 0, 0]),
        );
    }
    super::memory::populate(two.gfn() + 1);
}

/// A frame of the grant table is mapped, given away, mapped again; what was written is still there. On Xen it is lost for good, and not
/// always without harm.
fn grant_frame(test: &mut Test) {
    let window = Page::window(HOLE + 1);
    let first = add(1, 5, HOLE + 1);
    window.write32(8, 0x4711);
    let decrease = super::memory::decrease(HOLE + 1);
    let second = add(1, 5, HOLE + 1);
    let read = probe::read(window.address() + 8, 2);
    test.answer("M14.grant frame", format_args!("map={first} decrease={decrease} map={second} read={}", Outcome(read)));
    test.answer("M14.grant frame.remove", format_args!("{} map={}", remove(HOLE + 1), add(1, 5, HOLE + 2)));
    let over = super::memory::populate(HOLE + 2);
    let again = add(1, 5, HOLE + 3);
    test.answer("M14.grant frame.populate over", format_args!("populate={over} map={again} {}", super::memory::decrease(HOLE + 2)));
}

/// M25: results that would be written into a page mapped for reading, or granted.
fn read_only(test: &mut Test) {
    let Some(granter) = Granter::new() else { return };
    let page = Page::take();
    page.fill(0x5a);
    granter.grant(42, page);
    for (name, flags) in [("read-only", GNTMAP_HOST_MAP | GNTMAP_READONLY), ("writable", GNTMAP_HOST_MAP)] {
        let op = map(flags, 42, granter.own, HOLE << 12);
        let at = HOLE << 12;
        test.answer(format_args!("M25.{name}.map"), op.status);
        let calls = [
            ("version", XEN_VERSION, [u64::from(XENVER_PLATFORM_PARAMETERS), at, 0]),
            ("extraversion", XEN_VERSION, [XENVER_EXTRAVERSION.into(), at, 0]),
            ("features", XEN_VERSION, [XENVER_GET_FEATURES.into(), at, 0]),
            ("query_size", GRANT_TABLE_OP, [GNTTABOP_QUERY_SIZE.into(), at, 1]),
            ("copy", GRANT_TABLE_OP, [5, at, 1]),
            ("alloc_unbound", EVENT_CHANNEL_OP, [6, at, 0]),
            ("get_param", HVM_OP, [1, at, 0]),
            ("multicall", MULTICALL, [at, 1, 0]),
            ("maximum_gpfn", MEMORY_OP, [XENMEM_MAXIMUM_GPFN, at, 0]),
        ];
        for (call, number, [a, b, c]) in calls {
            let rc = hypercall::raw(number, [a, b, c, 0, 0]);
            test.answer(format_args!("M25.{name}.{call}"), format_args!("rc={rc} untouched={}", page.is_filled(0x5a)));
            page.fill(0x5a);
        }
        test.answer(format_args!("M25.{name}.unmap"), unmap(op.handle, at, 0));
    }
    granter.entry(42, 0, 0, 0);
}

/// M17, A17: cache maintenance by set and way, then a page is given away.
fn set_way(test: &mut Test) {
    let page = Page::take();
    page.fill(0x33);
    for (name, instruction) in [("isw", 0xd508_7640_u32), ("csw", 0xd508_7a40), ("cisw", 0xd508_7e40)] {
        let mut fault = None;
        for set in 0..4_u64 {
            // Level 1 and 2, way 0 and the last.
            for operand in [set << 6, set << 6 | 1 << 1, 3 << 30 | set << 6] {
                fault = fault.or(probe::execute(instruction, [operand, 0, 0, 0]).err());
            }
        }
        match fault {
            None => test.answer(format_args!("A17.dc {name}"), format_args!("filled={}", page.is_filled(0x33))),
            Some(fault) => test.answer(format_args!("A17.dc {name}"), fault),
        }
    }
    test.rc("M17.decrease", super::memory::decrease(page.gfn()));
    test.answer("M17.read", Outcome(probe::read(page.address(), 3)));
    test.rc("M17.populate", super::memory::populate(page.gfn()));
    test.answer("M17.memory", Outcome(probe::write(page.address(), 3, 7).map(|()| page.read64(0))));
    // What AT says of addresses: mapped, a hole of stage 2, a hole of stage 1.
    for (name, instruction) in [("s1e1r", 0xd508_7800_u32), ("s1e1w", 0xd508_7820), ("s1e0r", 0xd508_7840), ("s1e0w", 0xd508_7860)] {
        for (place, address) in [("ram", page.address()), ("hole", 0x8000_0000), ("gicd", 0x0300_1000), ("unmapped", unmapped())] {
            let done = probe::execute(instruction, [address, 0, 0, 0]).err();
            let par = probe::read_register(probe::encoding(3, 0, 7, 4, 0)).unwrap_or(0);
            let par = if par & 1 == 0 { par & 0xff00_0000_0000_0f81 } else { par };
            match done {
                None => test.answer(format_args!("at.{name}({place})"), format_args!("{par:#x}")),
                Some(fault) => test.answer(format_args!("at.{name}({place})"), fault),
            }
        }
    }
}

static GFN: AtomicU64 = AtomicU64::new(0);

fn races(test: &mut Test) {
    // M26, M03: one vCPU writes a page all the time that the other gives away and takes back: the new page begins with zeroes or with
    // what was written to it since, never with what somebody else left.
    let page = Page::take();
    GFN.store(page.gfn(), SeqCst);
    let (mut odd, mut done) = (0, 0);
    let ended = race::beside(
        || {
            let at = GFN.load(SeqCst) << 12;
            while !race::stopped() {
                let _ = probe::write(at, 3, 0x1111);
            }
        },
        || {
            for _ in 0..500 {
                done += u32::from(super::memory::decrease(GFN.load(SeqCst)) == 1);
                done += u32::from(super::memory::populate(GFN.load(SeqCst)) == 1);
                let seen = page.read64(0);
                odd += u32::from(seen != 0 && seen != 0x1111) + u32::from(page.read64(8) != 0);
            }
        },
    );
    // Xen may give a page out as its last owner left it.
    if odd > 0 && is_xenolith() {
        test.fail("M26.write beside decrease", format_args!("{odd} times another's data"));
    }
    test.answer("M26.write beside decrease", format_args!("ended={ended} done={done}"));
    // A hypercall's result goes to a page that comes and goes.
    let mut odd = 0;
    let ended = race::beside(
        || {
            while !race::stopped() {
                super::memory::decrease(GFN.load(SeqCst));
                super::memory::populate(GFN.load(SeqCst));
            }
        },
        || {
            for _ in 0..1000 {
                let rc = hypercall::raw(XEN_VERSION, [XENVER_CAPABILITIES.into(), GFN.load(SeqCst) << 12, 0, 0, 0]);
                odd += u32::from(!matches!(rc, 0 | -14));
            }
        },
    );
    super::memory::populate(page.gfn());
    test.answer("M03.result beside decrease", format_args!("ended={ended} odd={odd}"));
}
