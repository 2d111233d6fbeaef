//! Preemption at step k: a long hypercall that is cut anywhere answers and does what it does in one piece, the books are balanced at each cut,
//! and what others do meanwhile leaves nothing behind.

use super::*;
use crate::addr::{DomainId, Gfn, MachineAddr};
use crate::frames::FrameInfo;
use crate::hypercall::Args;
use crate::machine::Machine;
use crate::machine::fake::Asked;
use crate::policy::Policy;
use crate::testbed::{RAM, preempt};
use guest_abi::console::CONSOLEIO_WRITE;
use guest_abi::domctl::{self as dom, Domctl};
use guest_abi::event_channel as ev;
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::{DOMID_SELF, MulticallEntry, hypercall};

/// Elements of each operation, and pages of each domain: the first holds arguments, the second a list.
const COUNT: u64 = 6;
const PAGES: u64 = 12;
/// The first RAM page that is granted, given away or filled.
const DATA: u64 = 4;
/// RAM pages of the machine.
const RAM_PAGES: usize = 128;
/// Where nothing is mapped; each frame needs a table of its own.
const fn hole(n: u64) -> u64 {
    0x9_0000 + n * 512
}

/// Dom0, and a domain that has granted it pages and is connected to it.
struct World {
    bed: Testbed,
    dom0: Arc<Domain>,
    a: Arc<Domain>,
    free: u64,
}

/// Who calls, and what.
type Call<'w> = (&'w Arc<Domain>, u64, Args);

/// One kind of hypercall, made ready in a world of its own.
struct Long {
    name: &'static str,
    call: fn(&World) -> Call<'_>,
}

/// Everything that a hypercall can change, but for the page of its arguments.
#[derive(PartialEq)]
struct Seen {
    pages: Vec<(u64, FrameInfo)>,
    content: Vec<u8>,
    maps: Vec<Option<u64>>,
    ports: Vec<ev::Status>,
    console: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let bed = Testbed::with_pages(Policy::Silo, RAM_PAGES);
        let free = bed.hv.frames.free_pages();
        let (dom0, a) = (bed.domain(0, PAGES), bed.domain(1, PAGES));
        let world = Self { bed, dom0, a, free };
        for domain in [&world.dom0, &world.a] {
            world.bed.hv.frames.account(domain.vmid).set_max_pages(4 * PAGES);
            for page in DATA..PAGES {
                world.bed.poke(domain, Testbed::va(page, 0), &[u64::from(domain.id.0) << 32 | page]);
            }
        }
        // All of the grant table is there, so that pages are allocated in one order.
        let frame_list = Testbed::va(1, 0);
        let setup = SetupTable { dom: DOMID_SELF, nr_frames: 4, frame_list, ..Default::default() };
        world.bed.poke(&world.a, Testbed::va(0, AT), &[setup]);
        let args = [GNTTABOP_SETUP_TABLE.into(), Testbed::va(0, AT), 1, 0, 0];
        assert_eq!(world.bed.hypercall(&world.a, hypercall::GRANT_TABLE_OP, args).0, 0);
        for n in 0..COUNT as u32 {
            let entry = GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: 0, frame: (RAM + DATA) as u32 + n };
            let table = world.a.grants.frame(0).unwrap().address();
            world.bed.machine.write(MachineAddr(table.0 + 8 * u64::from(8 + n)), entry.as_bytes());
            let listen = ev::AllocUnbound { dom: DOMID_SELF, remote_dom: 0, port: 0 };
            assert_eq!(call(&world.bed, &world.a, hypercall::EVENT_CHANNEL_OP, ev::EVTCHNOP_ALLOC_UNBOUND.into(), listen), 0);
            let connect = ev::BindInterdomain { remote_dom: 1, remote_port: n + 1, ..Default::default() };
            assert_eq!(call(&world.bed, &world.dom0, hypercall::EVENT_CHANNEL_OP, ev::EVTCHNOP_BIND_INTERDOMAIN.into(), connect), 0);
        }
        world.bed.machine.take_asked();
        world
    }

    /// A list in the caller's second page.
    fn list<T: IntoBytes + Immutable>(&self, domain: &Arc<Domain>, each: impl Fn(u64) -> T) -> u64 {
        let at = Testbed::va(1, 0);
        self.bed.poke(domain, at, &(0..COUNT).map(each).collect::<Vec<_>>());
        at
    }

    fn argument<T: IntoBytes + Immutable>(&self, domain: &Arc<Domain>, argument: T) -> u64 {
        let at = Testbed::va(0, AT);
        self.bed.poke(domain, at, &[argument]);
        at
    }

    fn reservation(&self, gfn: impl Fn(u64) -> u64) -> MemoryReservation {
        let extent_start = self.list(&self.a, gfn);
        MemoryReservation { extent_start, nr_extents: COUNT, extent_order: 0, domid: DOMID_SELF, ..Default::default() }
    }

    fn memory_op<T: IntoBytes + Immutable>(&self, cmd: u64, argument: T) -> Args {
        [cmd, self.argument(&self.a, argument), 0, 0, 0]
    }

    fn grant_op<T: IntoBytes + Immutable>(&self, domain: &Arc<Domain>, cmd: u32, each: impl Fn(u64) -> T) -> Args {
        [cmd.into(), self.list(domain, each), COUNT, 0, 0]
    }

    fn map_all(&self) -> Args {
        self.grant_op(&self.dom0, GNTTABOP_MAP_GRANT_REF, |n| MapGrantRef {
            host_addr: hole(n) << 12,
            flags: GNTMAP_HOST_MAP,
            grant_ref: 8 + n as u32,
            dom: 1,
            status: 0x77,
            ..Default::default()
        })
    }

    fn domctl<T: IntoBytes + Immutable>(&self, cmd: u32, payload: T) -> Args {
        let header = Domctl { cmd, interface_version: dom::XEN_DOMCTL_INTERFACE_VERSION, domain: 1, ..Default::default() };
        let at = self.argument(&self.dom0, header);
        self.bed.poke(&self.dom0, at + dom::DOMCTL_PAYLOAD_OFFSET as u64, &[payload]);
        [at, 0, 0, 0, 0]
    }

    fn seen(&self) -> Seen {
        let frames = &self.bed.hv.frames;
        let pages: Vec<_> = frames.iter().map(|(mfn, info)| (mfn.0, info)).collect();
        let arguments = [&self.dom0, &self.a].map(|domain| domain.p2m.lookup(Gfn(RAM)).map(|m| m.mfn.0));
        let mut content = Vec::new();
        for (mfn, _) in pages.iter().filter(|(mfn, _)| !arguments.contains(&Some(*mfn))) {
            let mut page = [0; 4096];
            self.bed.machine.read(MachineAddr(mfn << 12), &mut page);
            content.extend_from_slice(&page);
        }
        let gfns = || (RAM..RAM + 2 * PAGES).chain((0..COUNT).map(hole));
        let maps = [&self.dom0, &self.a].iter().flat_map(|d| gfns().map(|gfn| d.p2m.lookup(Gfn(gfn)).map(|m| m.mfn.0))).collect();
        let status = |domain: &Arc<Domain>, port| {
            let at = Testbed::va(0, AT);
            self.bed.poke(domain, at, &[ev::Status { dom: DOMID_SELF, port, ..Default::default() }]);
            self.bed.hypercall(domain, hypercall::EVENT_CHANNEL_OP, [ev::EVTCHNOP_STATUS.into(), at, 0, 0, 0]);
            self.bed.peek(domain, at, 1).remove(0)
        };
        let ports = (1..=COUNT as u32 + 1).map(|port| status(&self.dom0, port)).collect();
        let console =
            self.bed.machine.take_asked().into_iter().filter_map(|a| if let Asked::Console(bytes) = a { Some(bytes) } else { None });
        Seen { pages, content, maps, ports, console: console.flatten().collect() }
    }

    /// Both domains end, and nothing is left of them.
    fn end(&self) {
        self.bed.destroy(&self.a);
        self.bed.destroy(&self.dom0);
        self.bed.hv.bury();
        self.bed.hv.audit().unwrap();
        for id in [0, 1] {
            assert!(self.bed.hv.domains.get(DomainId(id)).is_none(), "domain {id} stays");
        }
        assert_eq!(self.bed.hv.frames.free_pages(), self.free);
    }
}

/// Each hypercall that has a budget, with `COUNT` elements.
const LONG: &[Long] = &[
    Long { name: "map_grant_ref", call: |w| (&w.dom0, hypercall::GRANT_TABLE_OP, w.map_all()) },
    Long {
        name: "unmap_grant_ref",
        call: |w| {
            let [cmd, list, ..] = w.map_all();
            assert_eq!(w.bed.hypercall(&w.dom0, hypercall::GRANT_TABLE_OP, [cmd, list, COUNT, 0, 0]).0, 0);
            let mapped = w.bed.peek::<MapGrantRef>(&w.dom0, list, COUNT as usize);
            let unmap =
                |n: u64| UnmapGrantRef { host_addr: hole(n) << 12, handle: mapped[n as usize].handle, status: 0x77, ..Default::default() };
            (&w.dom0, hypercall::GRANT_TABLE_OP, w.grant_op(&w.dom0, GNTTABOP_UNMAP_GRANT_REF, unmap))
        },
    },
    Long {
        name: "copy",
        call: |w| {
            let copy = |n: u64| Copy {
                source: CopyPtr { u: 8 + n, domid: 1, ..Default::default() },
                dest: CopyPtr { u: RAM + DATA + n, domid: DOMID_SELF, ..Default::default() },
                len: 4096,
                flags: GNTCOPY_SOURCE_GREF,
                status: 0x77,
                ..Default::default()
            };
            (&w.dom0, hypercall::GRANT_TABLE_OP, w.grant_op(&w.dom0, GNTTABOP_COPY, copy))
        },
    },
    Long {
        name: "swap_grant_ref",
        call: |w| {
            let swap = |n: u64| SwapGrantRef { ref_a: 8 + n as u32, ref_b: 9 + n as u32, status: 0x77, ..Default::default() };
            (&w.a, hypercall::GRANT_TABLE_OP, w.grant_op(&w.a, GNTTABOP_SWAP_GRANT_REF, swap))
        },
    },
    Long {
        name: "cache_flush",
        call: |w| {
            let page = |n: u64| w.bed.ram(&w.dom0, DATA + n).address().0;
            let flush = |n: u64| CacheFlush { dev_bus_addr: page(n), length: 64, op: GNTTAB_CACHE_CLEAN, ..Default::default() };
            (&w.dom0, hypercall::GRANT_TABLE_OP, w.grant_op(&w.dom0, GNTTABOP_CACHE_FLUSH, flush))
        },
    },
    Long { name: "populate_physmap", call: |w| (&w.a, hypercall::MEMORY_OP, w.memory_op(XENMEM_POPULATE_PHYSMAP, w.reservation(hole))) },
    Long {
        name: "decrease_reservation",
        call: |w| (&w.a, hypercall::MEMORY_OP, w.memory_op(XENMEM_DECREASE_RESERVATION, w.reservation(|n| RAM + DATA + n))),
    },
    Long {
        name: "increase_reservation",
        call: |w| (&w.a, hypercall::MEMORY_OP, w.memory_op(XENMEM_INCREASE_RESERVATION, w.reservation(|_| 0))),
    },
    Long {
        name: "add_to_physmap_batch",
        call: |w| {
            let idxs = w.list(&w.dom0, |n| RAM + DATA + n);
            let (gpfns, errs) = (idxs + 512, idxs + 1024);
            w.bed.poke(&w.dom0, gpfns, &(0..COUNT).map(hole).collect::<Vec<_>>());
            let (size, space) = (COUNT as u16, XENMAPSPACE_GMFN_FOREIGN as u16);
            let at = w.argument(&w.dom0, AddToPhysmapBatch { domid: DOMID_SELF, space, size, foreign_domid: 1, idxs, gpfns, errs });
            (&w.dom0, hypercall::MEMORY_OP, [XENMEM_ADD_TO_PHYSMAP_BATCH, at, 0, 0, 0])
        },
    },
    Long {
        name: "acquire_resource",
        call: |w| {
            let frame_list = w.list(&w.dom0, hole);
            let kind = XENMEM_RESOURCE_GRANT_TABLE;
            let at = w.argument(&w.dom0, AcquireResource { domid: 1, kind, nr_frames: 4, frame_list, ..Default::default() });
            (&w.dom0, hypercall::MEMORY_OP, [XENMEM_ACQUIRE_RESOURCE, at, 0, 0, 0])
        },
    },
    Long {
        name: "multicall",
        call: |w| {
            let [cmd, argument, ..] = w.memory_op(XENMEM_POPULATE_PHYSMAP, w.reservation(hole));
            // The second is itself cut, and the fifth refused.
            let entries = (0..COUNT).map(|n| {
                let at = Testbed::va(0, 2048 + 8 * n);
                w.bed.poke(&w.a, at, &[ev::Send { port: 1 + n as u32 }]);
                let (op, args) = match n {
                    1 => (hypercall::MEMORY_OP, [cmd, argument, 0, 0, 0, 0]),
                    4 => (hypercall::MULTICALL, [0; 6]),
                    _ => (hypercall::EVENT_CHANNEL_OP, [ev::EVTCHNOP_SEND.into(), at, 0, 0, 0, 0]),
                };
                MulticallEntry { op, result: 0x77, args }
            });
            let at = Testbed::va(0, 3072);
            w.bed.poke(&w.a, at, &entries.collect::<Vec<_>>());
            (&w.a, hypercall::MULTICALL, [at, COUNT, 0, 0, 0])
        },
    },
    Long {
        name: "console_io",
        call: |w| {
            let at = w.list(&w.dom0, |n| b'a' + n as u8);
            (&w.dom0, hypercall::CONSOLE_IO, [CONSOLEIO_WRITE.into(), COUNT, at, 0, 0])
        },
    },
    Long {
        name: "cacheflush",
        call: |w| {
            let flush = dom::CacheFlush { start_pfn: RAM + DATA, nr_pfns: COUNT };
            (&w.dom0, hypercall::DOMCTL, w.domctl(dom::XEN_DOMCTL_CACHEFLUSH, flush))
        },
    },
    Long {
        name: "evtchn_reset",
        call: |w| {
            let at = w.argument(&w.a, ev::Reset { dom: DOMID_SELF });
            (&w.a, hypercall::EVENT_CHANNEL_OP, [ev::EVTCHNOP_RESET.into(), at, 0, 0, 0])
        },
    },
    Long { name: "destroydomain", call: |w| (&w.dom0, hypercall::DOMCTL, w.domctl(dom::XEN_DOMCTL_DESTROYDOMAIN, 0_u64)) },
    Long {
        name: "destroydomain of one whose pages are mapped",
        call: |w| {
            let args = w.map_all();
            assert_eq!(w.bed.hypercall(&w.dom0, hypercall::GRANT_TABLE_OP, args).0, 0);
            (&w.dom0, hypercall::DOMCTL, w.domctl(dom::XEN_DOMCTL_DESTROYDOMAIN, 0_u64))
        },
    },
    Long {
        name: "destroydomain of one that has mapped",
        call: |w| {
            for n in 0..COUNT as u32 {
                let entry = GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: 1, frame: (RAM + DATA) as u32 + n };
                let table = w.dom0.grants.frame(0).unwrap().address();
                w.bed.machine.write(MachineAddr(table.0 + 8 * u64::from(8 + n)), entry.as_bytes());
            }
            let map =
                |n: u64| MapGrantRef { host_addr: hole(n) << 12, flags: GNTMAP_HOST_MAP, grant_ref: 8 + n as u32, ..Default::default() };
            let args = w.grant_op(&w.a, GNTTABOP_MAP_GRANT_REF, map);
            assert_eq!(w.bed.hypercall(&w.a, hypercall::GRANT_TABLE_OP, args).0, 0);
            assert!(w.bed.peek::<MapGrantRef>(&w.a, args[1], COUNT as usize).iter().all(|op| op.status == GNTST_OKAY));
            (&w.dom0, hypercall::DOMCTL, w.domctl(dom::XEN_DOMCTL_DESTROYDOMAIN, 0_u64))
        },
    },
];

#[test]
fn a_hypercall_cut_at_any_step_does_the_same() {
    for Long { name, call } in LONG {
        let whole = World::new();
        let (caller, number, args) = call(&whole);
        let (answer, times) = whole.bed.hypercall(caller, number, args);
        assert_eq!(times, 1, "{name}");
        let expected = whole.seen();
        for steps in 1..COUNT as u8 {
            let world = World::new();
            let (caller, number, args) = call(&world);
            let (cut_answer, times) = preempt::after(steps, || world.bed.hypercall(caller, number, args));
            assert_eq!(cut_answer, answer, "{name}, cut after {steps}");
            // The grant table has four frames.
            let elements = if *name == "acquire_resource" { 4 } else { COUNT };
            assert!(u64::from(times) >= elements.div_ceil(steps.into()), "{name} was done {times} times, cut after {steps}");
            assert!(world.seen() == expected, "{name}, cut after {steps}, does something else");
            world.end();
        }
        whole.end();
    }
}

/// Something that another vCPU does.
type Act = (&'static str, fn(&World));

/// What happens at a cut.
const MEANWHILE: &[Act] = &[
    ("the domain ends", |w| w.bed.destroy(&w.a)),
    ("its end begins", |w| {
        let _ = preempt::after(1, || w.bed.hv.destroy(&w.a));
    }),
    ("its RAM is given up", |w| {
        let gfns: Vec<_> = (1..PAGES).map(|n| RAM + n).collect();
        for gfn in gfns {
            let extent_start = Testbed::va(0, 3000);
            if w.a.p2m.lookup(Gfn(RAM)).is_some() {
                w.bed.poke(&w.a, extent_start, &[gfn]);
                let request = MemoryReservation { extent_start, nr_extents: 1, extent_order: 0, domid: DOMID_SELF, ..Default::default() };
                w.bed.poke(&w.a, Testbed::va(0, 2900), &[request]);
                let _ = w.bed.hvc(&w.a, hypercall::MEMORY_OP, [XENMEM_DECREASE_RESERVATION, Testbed::va(0, 2900), 0, 0, 0]);
            }
        }
    }),
    ("the list is given up", |w| {
        for domain in [&w.dom0, &w.a] {
            if domain.p2m.lookup(Gfn(RAM)).is_some() {
                w.bed.poke(domain, Testbed::va(0, 2900), &[RemoveFromPhysmap { domid: DOMID_SELF, gpfn: RAM + 1, ..Default::default() }]);
                let _ = w.bed.hvc(domain, hypercall::MEMORY_OP, [XENMEM_REMOVE_FROM_PHYSMAP, Testbed::va(0, 2900), 0, 0, 0]);
            }
        }
    }),
    ("the list is overwritten", |w| {
        for domain in [&w.dom0, &w.a] {
            if domain.p2m.lookup(Gfn(RAM + 1)).is_some() {
                w.bed.poke(domain, Testbed::va(1, 0), &[u64::MAX; 512]);
            }
        }
    }),
    ("ports are opened and closed", |w| {
        for domain in [&w.dom0, &w.a] {
            for (cmd, port) in [(ev::EVTCHNOP_CLOSE, 2), (ev::EVTCHNOP_CLOSE, 5), (ev::EVTCHNOP_SEND, 3)] {
                if domain.p2m.lookup(Gfn(RAM)).is_some() {
                    w.bed.poke(domain, Testbed::va(0, 2900), &[ev::Close { port }]);
                    let _ = w.bed.hvc(domain, hypercall::EVENT_CHANNEL_OP, [cmd.into(), Testbed::va(0, 2900), 0, 0, 0]);
                }
            }
        }
    }),
];

#[test]
fn what_others_do_at_a_cut_leaves_nothing_behind() {
    for Long { name, call } in LONG {
        for (what, act) in MEANWHILE {
            for cut in 0..COUNT {
                let world = World::new();
                let (caller, number, args) = call(&world);
                let mut times = 0;
                let mut args = Some(args);
                // By hand: a caller that has ended calls no more.
                while let Some(now) = args
                    && !caller.is_dying()
                {
                    args = match preempt::after(1, || world.bed.hvc(caller, number, now)) {
                        crate::hypercall::Outcome::Again(next) => Some(next),
                        crate::hypercall::Outcome::Return(_) => None,
                    };
                    if times == cut {
                        act(&world);
                    }
                    // Not each time: most of a domain's end is ports that are not open.
                    if times < 2 * COUNT {
                        world.bed.hv.audit().unwrap_or_else(|e| panic!("{name}, {what} at cut {cut}: {e:?}"));
                    }
                    times += 1;
                    assert!(times < 10_000, "{name} does not end");
                }
                world.end();
            }
        }
    }
}
