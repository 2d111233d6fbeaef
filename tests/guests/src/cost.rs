//! A bare-metal EL1 domain that measures what single operations cost, by the virtual counter.
//!
//! Where every instruction takes the same virtual time (QEMU's `-icount`), counter ticks are instructions, exact over many repetitions.
//! Each line is `COST <operation> <repetitions> <ticks>`: the best of several tries, so that no other domain's turn is in it, less what the
//! loop costs without the operation. `cargo xtask bench` reads them.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(dead_code, reason = "the test domain needs more of it")]
#[path = "pair"]
mod pair {
    pub mod channel;
    pub mod jobs;
    pub mod ops;
    pub mod peer;
}
#[expect(unsafe_code, reason = "the domain's own machine: registers, page tables, vectors, raw memory")]
#[allow(dead_code, reason = "the test domain needs more of it")]
mod runtime;
#[path = "cost/two.rs"]
mod two;
#[macro_use]
#[allow(dead_code, unused_macros, reason = "the test domain needs more of it")]
mod verdict;

use core::hint::black_box;
use guest_abi::arch_arm::GUEST_EVTCHN_PPI;
use guest_abi::event_channel::*;
use guest_abi::grant_table::*;
use guest_abi::memory::{AddToPhysmap, XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP};
use guest_abi::sched::SCHEDOP_YIELD;
use guest_abi::version::XENVER_VERSION;
use guest_abi::xen::{DOMID_SELF, hypercall as nr};
use runtime::page::Page;
use runtime::platform::{Role, role};
use runtime::{console, cpu, gic, hypercall, power_off};

/// Where things are mapped.
const TABLE: u64 = 0x3_8000;
const SHARED_INFO: u64 = 0x3_8200;
const TARGET: u64 = 0x3_8800;
const TRIES: u32 = 24;
/// Repetitions; as many grants are mapped at once.
const MANY: u32 = 128;

/// An interrupt that vCPUs send to each other, and `ICC_SGI1R_EL1` for the first vCPU.
const SGI: u32 = 5;
const SGI_TO_SELF: u64 = (SGI as u64) << 24 | 1;

/// The domain, on its boot CPU with MMU and caches on.
fn main() -> ! {
    console::line(format_args!("COST frequency 1 {}", cpu::frequency()));
    match role() {
        Role::Dom0 => two::measure(),
        _ => alone(),
    }
    console::line(format_args!("COST end 1 0"));
    power_off()
}

/// What a domain can measure alone.
fn alone() {
    let nothing = best(MANY, || {}, |n| n);
    let tell = |name: &str, ticks: u64| console::line(format_args!("COST {name} {MANY} {}", ticks.saturating_sub(nothing)));
    tell("null", best(MANY, || {}, |_| hypercall::raw(nr::XEN_VERSION, [XENVER_VERSION.into(), 0, 0, 0, 0])));
    tell("yield", best(MANY, || {}, |_| hypercall::raw(nr::SCHED_OP, [SCHEDOP_YIELD.into(), 0, 0, 0, 0])));
    events(&tell);
    copies(&tell);
    maps(&tell);
}

/// The fewest ticks that `times` repetitions took; `before` makes ready for them.
fn best<T>(times: u32, mut before: impl FnMut(), mut operation: impl FnMut(u32) -> T) -> u64 {
    let one = |_| {
        before();
        let start = cpu::counter();
        for n in 0..times {
            black_box(operation(n));
        }
        cpu::counter() - start
    };
    (0..TRIES).map(one).min().unwrap_or(0)
}

/// Events that the domain sends to itself.
fn events(tell: &dyn Fn(&str, u64)) {
    let mut map = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_SHARED_INFO, idx: 0, gpfn: SHARED_INFO };
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut map);
    let shared = Page::window(SHARED_INFO);
    let mut a = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
    hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut a);
    let mut b = BindInterdomain { remote_dom: DOMID_SELF, remote_port: a.port, ..Default::default() };
    hypercall::event(EVTCHNOP_BIND_INTERDOMAIN, &mut b);
    // No port is pending, no upcall either.
    let clear = || {
        shared.write64(48, 0);
        shared.write64(8, 0);
        shared.write8(0, 0);
    };
    let send = || hypercall::event(EVTCHNOP_SEND, &mut Send { port: b.local_port });
    clear();
    send();
    tell("evtchn_send (pending)", best(MANY, || {}, |_| send()));
    let clearing = best(MANY, || {}, |_| clear());
    let sending = best(MANY, clear, |_| {
        clear();
        send();
    });
    tell("evtchn_send", sending - clearing);
    gic::enable(GUEST_EVTCHN_PPI);
    let taken = best(MANY, clear, |_| {
        clear();
        send();
        cpu::interrupts(true);
        cpu::interrupts(false);
    });
    tell("event sent and taken", taken - clearing);
    gic::disable(GUEST_EVTCHN_PPI);
    gic::enable(SGI);
    let taken = best(
        MANY,
        || {},
        |_| {
            gic::send_sgi(SGI_TO_SELF);
            cpu::interrupts(true);
            cpu::interrupts(false);
        },
    );
    tell("SGI sent and taken", taken);
    gic::disable(SGI);
}

/// Grant copies between pages of the domain.
fn copies(tell: &dyn Fn(&str, u64)) {
    let (from, to) = (Page::take(), Page::take());
    let end = |page: Page| CopyPtr { u: page.gfn(), domid: DOMID_SELF, ..Default::default() };
    for (name, len) in [("grant copy 64 B", 64), ("grant copy 1514 B", 1514), ("grant copy 4096 B", 4096)] {
        let mut copy = Copy { source: end(from), dest: end(to), len, ..Default::default() };
        tell(name, best(MANY, || {}, |_| hypercall::grant(GNTTABOP_COPY, &mut copy)));
    }
}

/// Maps and unmaps pages that the domain grants to itself.
fn maps(tell: &dyn Fn(&str, u64)) {
    let mut args = AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx: 0, gpfn: TABLE };
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut args);
    let (table, own, first) = (Page::window(TABLE), own_id(), GNTTAB_NR_RESERVED_ENTRIES);
    for reference in first..first + MANY {
        let at = u64::from(reference) * 8;
        table.write32(at + 4, Page::take().gfn() as u32);
        table.write16(at + 2, own);
        table.write16(at, GTF_PERMIT_ACCESS);
    }
    let handles = core::cell::RefCell::new([None; MANY as usize]);
    let target = |n: u32| (TARGET + u64::from(n)) * runtime::page::SIZE;
    let map = |n: u32| {
        let mut op = MapGrantRef { host_addr: target(n), flags: GNTMAP_HOST_MAP, grant_ref: first + n, dom: own, ..Default::default() };
        hypercall::grant(GNTTABOP_MAP_GRANT_REF, &mut op);
        handles.borrow_mut()[n as usize] = (op.status == 0).then_some(op.handle);
    };
    let unmap = |n: u32| {
        if let Some(handle) = handles.borrow_mut()[n as usize].take() {
            let mut op = UnmapGrantRef { host_addr: target(n), handle, ..Default::default() };
            hypercall::grant(GNTTABOP_UNMAP_GRANT_REF, &mut op);
        }
    };
    tell("grant map", best(MANY, || (0..MANY).for_each(unmap), map));
    tell("grant unmap", best(MANY, || (0..MANY).for_each(map), unmap));
}

/// This domain's id as an event channel tells it: a grant must name its grantee.
fn own_id() -> u16 {
    let mut port = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
    hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut port);
    let mut status = Status { dom: DOMID_SELF, port: port.port, ..Default::default() };
    hypercall::event(EVTCHNOP_STATUS, &mut status);
    status.binding as u16
}
