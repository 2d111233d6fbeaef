//! Random sequences of operations on pages, stage 2, grants and event channels, against a model of who owns, maps, pins and hears what.
//!
//! After each step every reference, mapping, account and page content is as the model has it. Memory may run out at any allocation of an
//! operation: what is refused must leave no trace.

use super::*;
use crate::addr::{Gfn, MachineAddr, Mfn};
use crate::evtchn::Binding;
use crate::frames::FrameKind;
use crate::machine::Machine;
use crate::p2m::P2mType;
use crate::policy::Policy;
use crate::testbed::RAM;
use guest_abi::event_channel::*;
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::vcpu as vcpu_abi;
use guest_abi::xen::{DOMID_SELF, hypercall};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;
use zerocopy::{FromBytes, IntoBytes};

/// RAM pages of each domain at first: the first two hold arguments and are left alone.
const PAGES: u64 = 6;
/// Guest frames that operations name: RAM, and as many above it.
const FRAMES: u64 = 10;
const GRANTS: usize = 4;
/// Ports that operations name.
const PORTS: u32 = 5;

#[derive(Clone, Debug)]
enum Action {
    Populate {
        domain: usize,
        frame: u64,
    },
    Decrease {
        domain: usize,
        frame: u64,
    },
    Remove {
        domain: usize,
        frame: u64,
    },
    /// Dom0 maps a frame of a guest.
    Foreign {
        owner: usize,
        from: u64,
        to: u64,
    },
    Grant {
        granter: usize,
        reference: usize,
        frame: u64,
        readonly: bool,
    },
    Revoke {
        granter: usize,
        reference: usize,
    },
    /// Dom0 maps a grant.
    Map {
        granter: usize,
        reference: usize,
        to: u64,
        readonly: bool,
    },
    Unmap {
        nth: usize,
    },
    /// A port of a domain that another may connect to.
    Listen {
        domain: usize,
        remote: usize,
    },
    Connect {
        domain: usize,
        remote: usize,
        port: u32,
    },
    Send {
        domain: usize,
        port: u32,
    },
    Close {
        domain: usize,
        port: u32,
    },
    /// A page of the FIFO ABI: the control block, or the next of the event array.
    Fifo {
        domain: usize,
        frame: u64,
        control: bool,
    },
    RegisterInfo {
        domain: usize,
        frame: u64,
    },
    Reset {
        domain: usize,
    },
    Destroy {
        domain: usize,
    },
}

/// An action, and how many pages are free while it runs, if few.
fn step() -> impl Strategy<Value = (Action, Option<u64>)> {
    let (domain, guest, frame, reference) = (0..3_usize, 1..3_usize, 2..FRAMES, 0..GRANTS);
    let (remote, port) = (0..3_usize, 1..PORTS);
    let action = prop_oneof![
        4 => (domain.clone(), frame.clone()).prop_map(|(domain, frame)| Action::Populate { domain, frame }),
        4 => (domain.clone(), frame.clone()).prop_map(|(domain, frame)| Action::Decrease { domain, frame }),
        2 => (domain.clone(), frame.clone()).prop_map(|(domain, frame)| Action::Remove { domain, frame }),
        4 => (guest.clone(), frame.clone(), frame.clone()).prop_map(|(owner, from, to)| Action::Foreign { owner, from, to }),
        6 => (guest.clone(), reference.clone(), frame.clone(), any::<bool>())
            .prop_map(|(granter, reference, frame, readonly)| Action::Grant { granter, reference, frame, readonly }),
        1 => (guest.clone(), reference.clone()).prop_map(|(granter, reference)| Action::Revoke { granter, reference }),
        8 => (guest.clone(), reference, frame.clone(), any::<bool>())
            .prop_map(|(granter, reference, to, readonly)| Action::Map { granter, reference, to, readonly }),
        5 => (0..8_usize).prop_map(|nth| Action::Unmap { nth }),
        4 => (domain.clone(), remote.clone()).prop_map(|(domain, remote)| Action::Listen { domain, remote }),
        5 => (domain.clone(), remote, port.clone()).prop_map(|(domain, remote, port)| Action::Connect { domain, remote, port }),
        4 => (domain.clone(), port.clone()).prop_map(|(domain, port)| Action::Send { domain, port }),
        2 => (domain.clone(), port).prop_map(|(domain, port)| Action::Close { domain, port }),
        3 => (domain.clone(), frame.clone(), any::<bool>()).prop_map(|(domain, frame, control)| Action::Fifo { domain, frame, control }),
        1 => (domain.clone(), frame).prop_map(|(domain, frame)| Action::RegisterInfo { domain, frame }),
        1 => domain.prop_map(|domain| Action::Reset { domain }),
        1 => guest.prop_map(|domain| Action::Destroy { domain }),
    ];
    (action, prop_oneof![3 => Just(None), 1 => (0..3_u64).prop_map(Some)])
}

/// A page, by its machine frame.
#[derive(Clone, Copy)]
struct Page {
    owner: usize,
    /// Still allocated to its owner.
    allocated: bool,
    /// Foreign mappings.
    foreign: u32,
    /// What is written in it.
    tag: u64,
}

/// A grant that Dom0 has mapped.
#[derive(Clone, Copy)]
struct Mapped {
    granter: usize,
    reference: usize,
    mfn: Mfn,
    at: u64,
    handle: u32,
}

/// The event channels of a domain.
#[derive(Default)]
struct Events {
    /// Who may connect, or the other end's domain and port.
    ports: BTreeMap<u32, Result<(usize, u32), usize>>,
    /// Pages that the hypervisor writes to: of the FIFO ABI, and `vcpu_info`.
    fifo: Vec<Mfn>,
    info: Option<Mfn>,
}

struct World {
    bed: Testbed,
    domains: Vec<Arc<Domain>>,
    alive: [bool; 3],
    pages: BTreeMap<Mfn, Page>,
    /// What each domain's frames show.
    maps: [BTreeMap<u64, (Mfn, P2mType)>; 3],
    mapped: Vec<Mapped>,
    events: [Events; 3],
    next_tag: u64,
}

impl World {
    fn new() -> Self {
        let bed = Testbed::new(Policy::Silo);
        let domains: Vec<_> = (0..3).map(|id| bed.domain(id, PAGES)).collect();
        let (pages, maps, events) = (BTreeMap::new(), Default::default(), Default::default());
        let mut world = Self { bed, domains, alive: [true; 3], pages, maps, mapped: Vec::new(), events, next_tag: 1 };
        for domain in 0..3 {
            let account = world.bed.hv.frames.account(world.domains[domain].vmid);
            account.set_max_pages(PAGES + 3);
            for frame in 0..PAGES {
                let mfn = world.bed.ram(&world.domains[domain], frame);
                world.adopt(domain, frame, mfn);
            }
        }
        world
    }

    /// A fresh page of a domain at a frame.
    fn adopt(&mut self, owner: usize, frame: u64, mfn: Mfn) {
        let mut content = [0; 4096];
        self.bed.machine.read(mfn.address(), &mut content);
        assert!(content.iter().all(|byte| *byte == 0), "a page is given out with what was in it");
        let tag = self.next_tag;
        self.next_tag += 1;
        // Arguments are written at the start of a page.
        self.bed.machine.write(MachineAddr(mfn.address().0 + 4088), &tag.to_le_bytes());
        self.pages.insert(mfn, Page { owner, allocated: true, foreign: 0, tag });
        self.maps[owner].insert(frame, (mfn, P2mType::RamRw));
    }

    /// Frames above the RAM each need a table of their own.
    fn gfn(frame: u64) -> u64 {
        if frame < PAGES { RAM + frame } else { RAM + frame * 512 }
    }

    /// What was mapped at a frame is no longer.
    fn displaced(&mut self, domain: usize, frame: u64) {
        if let Some((mfn, kind)) = self.maps[domain].remove(&frame)
            && kind.is_foreign()
        {
            self.pages.get_mut(&mfn).unwrap().foreign -= 1;
        }
    }

    fn memory_op<T: IntoBytes + Immutable>(&self, domain: usize, cmd: u64, argument: T) -> i64 {
        call(&self.bed, &self.domains[domain], hypercall::MEMORY_OP, cmd, argument)
    }

    fn reservation(&self, domain: usize, frame: u64) -> MemoryReservation {
        let list = Testbed::va(1, 0);
        self.bed.poke(&self.domains[domain], list, &[Self::gfn(frame)]);
        MemoryReservation { extent_start: list, nr_extents: 1, extent_order: 0, domid: DOMID_SELF, ..Default::default() }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Populate { domain, frame } if self.alive[domain] => {
                let done = self.memory_op(domain, XENMEM_POPULATE_PHYSMAP, self.reservation(domain, frame));
                if done == 1 {
                    self.displaced(domain, frame);
                    let mfn = self.domains[domain].p2m.lookup(Gfn(Self::gfn(frame))).unwrap().mfn;
                    self.adopt(domain, frame, mfn);
                }
            }
            Action::Decrease { domain, frame } if self.alive[domain] => {
                let done = self.memory_op(domain, XENMEM_DECREASE_RESERVATION, self.reservation(domain, frame));
                let own =
                    self.maps[domain].get(&frame).is_some_and(|(mfn, kind)| *kind == P2mType::RamRw && self.pages[mfn].owner == domain);
                assert!(done == 1 || !own, "own RAM can be given back");
                if done == 1 && own {
                    let (mfn, _) = self.maps[domain].remove(&frame).unwrap();
                    self.pages.get_mut(&mfn).unwrap().allocated = false;
                } else if done == 1 {
                    self.displaced(domain, frame);
                }
            }
            Action::Remove { domain, frame } if self.alive[domain] => {
                let request = RemoveFromPhysmap { domid: DOMID_SELF, gpfn: Self::gfn(frame), ..Default::default() };
                if self.memory_op(domain, XENMEM_REMOVE_FROM_PHYSMAP, request) == 0 {
                    self.displaced(domain, frame);
                }
            }
            Action::Foreign { owner, from, to } => {
                for (page, value) in [(0, Self::gfn(from)), (1, Self::gfn(to))] {
                    self.bed.poke(&self.domains[0], Testbed::va(1, page * 64), &[value]);
                }
                let [idxs, gpfns, errs] = [0, 64, 128].map(|at| Testbed::va(1, at));
                let size = 1;
                let space = XENMAPSPACE_GMFN_FOREIGN as u16;
                let request = AddToPhysmapBatch { domid: DOMID_SELF, space, size, foreign_domid: owner as u16, idxs, gpfns, errs };
                let result = self.memory_op(0, XENMEM_ADD_TO_PHYSMAP_BATCH, request);
                if result == 0 && self.bed.peek::<i32>(&self.domains[0], errs, 1) == [0] {
                    let (mfn, _) = self.maps[owner][&from];
                    self.pages.get_mut(&mfn).unwrap().foreign += 1;
                    self.displaced(0, to);
                    self.maps[0].insert(to, (mfn, P2mType::MapForeignRw));
                }
            }
            Action::Grant { granter, reference, frame, readonly } if self.alive[granter] => {
                // A granter that changes an entry in use breaks its own rules; what was pinned stays pinned.
                let flags = GTF_PERMIT_ACCESS | if readonly { GTF_READONLY } else { 0 };
                self.set_entry(granter, reference, GrantEntryV1 { flags, domid: 0, frame: Self::gfn(frame) as u32 });
            }
            Action::Revoke { granter, reference } if self.alive[granter] => self.set_entry(granter, reference, GrantEntryV1::default()),
            Action::Map { granter, reference, to, readonly } => self.map(granter, reference, to, readonly),
            Action::Unmap { nth } => {
                let Some(mapped) = self.mapped.get(nth).copied() else { return };
                let host_addr = Self::gfn(mapped.at) << 12;
                let op = UnmapGrantRef { host_addr, handle: mapped.handle, status: 0x77, ..Default::default() };
                let list = Testbed::va(1, 0);
                self.bed.poke(&self.domains[0], list, &[op]);
                let cmd = GNTTABOP_UNMAP_GRANT_REF.into();
                assert_eq!(self.bed.hypercall(&self.domains[0], hypercall::GRANT_TABLE_OP, [cmd, list, 1, 0, 0]).0, 0);
                if self.bed.peek::<UnmapGrantRef>(&self.domains[0], list, 1).remove(0).status == GNTST_OKAY {
                    self.mapped.remove(nth);
                    self.maps[0].remove(&mapped.at);
                }
            }
            Action::Destroy { domain } if self.alive[domain] => {
                self.alive[domain] = false;
                self.close_all(domain);
                self.events[domain].info = None;
                self.bed.destroy(&self.domains[domain]);
                self.maps[domain].clear();
                self.pages.values_mut().filter(|page| page.owner == domain).for_each(|page| page.allocated = false);
            }
            Action::Listen { domain, remote } if self.alive[domain] => {
                let request = AllocUnbound { dom: DOMID_SELF, remote_dom: remote as u16, port: 0 };
                let (result, answer) = self.event_op(domain, EVTCHNOP_ALLOC_UNBOUND, request);
                assert_eq!(result == 0, self.may_share(domain, remote), "{result}");
                if result == 0 {
                    assert_eq!(self.events[domain].ports.insert(answer.port, Err(remote)), None);
                }
            }
            Action::Connect { domain, remote, port } if self.alive[domain] => {
                let request = BindInterdomain { remote_dom: remote as u16, remote_port: port, ..Default::default() };
                let (result, answer) = self.event_op(domain, EVTCHNOP_BIND_INTERDOMAIN, request);
                let waits = self.events[remote].ports.get(&port) == Some(&Err(domain));
                assert_eq!(result == 0, waits && self.may_share(domain, remote), "{result}");
                if result == 0 {
                    assert_eq!(self.events[domain].ports.insert(answer.local_port, Ok((remote, port))), None);
                    self.events[remote].ports.insert(port, Ok((domain, answer.local_port)));
                }
            }
            Action::Send { domain, port } if self.alive[domain] => {
                let far = self.events[domain].ports.get(&port).copied();
                assert_eq!(self.event_op(domain, EVTCHNOP_SEND, Send { port }).0 == 0, far.is_some());
                if let Some(Ok((peer, port))) = far
                    && self.events[peer].fifo.is_empty()
                {
                    assert!(self.domains[peer].events.is_pending(self.bed.machine, port), "an event is lost");
                }
            }
            Action::Close { domain, port } if self.alive[domain] => {
                let open = self.events[domain].ports.contains_key(&port);
                assert_eq!(self.event_op(domain, EVTCHNOP_CLOSE, Close { port }).0 == 0, open);
                self.closed(domain, port);
            }
            Action::Fifo { domain, frame, control } if self.alive[domain] => {
                let gfn = Self::gfn(frame);
                let result = match control {
                    true => self.event_op(domain, EVTCHNOP_INIT_CONTROL, InitControl { control_gfn: gfn, ..Default::default() }).0,
                    false => self.event_op(domain, EVTCHNOP_EXPAND_ARRAY, ExpandArray { array_gfn: gfn }).0,
                };
                if result == 0 {
                    let (mfn, kind) = self.maps[domain][&frame];
                    assert_eq!((kind, self.pages[&mfn].owner), (P2mType::RamRw, domain));
                    self.events[domain].fifo.push(mfn);
                }
            }
            Action::RegisterInfo { domain, frame } if self.alive[domain] => {
                let request = vcpu_abi::RegisterVcpuInfo { mfn: Self::gfn(frame), offset: 2048, rsvd: 0 };
                let at = Testbed::va(0, AT);
                self.bed.poke(&self.domains[domain], at, &[request]);
                let cmd = vcpu_abi::VCPUOP_REGISTER_VCPU_INFO.into();
                if self.bed.hypercall(&self.domains[domain], hypercall::VCPU_OP, [cmd, 0, at, 0, 0]).0 == 0 {
                    let (mfn, kind) = self.maps[domain][&frame];
                    assert_eq!((kind, self.pages[&mfn].owner), (P2mType::RamRw, domain));
                    assert_eq!(self.events[domain].info.replace(mfn), None);
                }
            }
            Action::Reset { domain } if self.alive[domain] => {
                assert_eq!(self.event_op(domain, EVTCHNOP_RESET, Reset { dom: DOMID_SELF }).0, 0);
                self.close_all(domain);
            }
            _ => {}
        }
    }

    fn event_op<T: IntoBytes + FromBytes + Immutable + core::marker::Copy>(&self, domain: usize, cmd: u32, op: T) -> (i64, T) {
        let result = call(&self.bed, &self.domains[domain], hypercall::EVENT_CHANNEL_OP, cmd.into(), op);
        (result, self.bed.peek(&self.domains[domain], Testbed::va(0, AT), 1).remove(0))
    }

    /// As SILO has it, and only while the other is there.
    fn may_share(&self, a: usize, b: usize) -> bool {
        self.bed.hv.domains.get(self.domains[b].id).is_some() && (a == b || a == 0 || b == 0)
    }

    /// The other end of a port waits again.
    fn closed(&mut self, domain: usize, port: u32) {
        if let Some(Ok((peer, far))) = self.events[domain].ports.remove(&port)
            && (peer, far) != (domain, port)
            && let Some(end) = self.events[peer].ports.get_mut(&far)
        {
            *end = Err(domain);
        }
    }

    fn close_all(&mut self, domain: usize) {
        while let Some(port) = self.events[domain].ports.keys().next().copied() {
            self.closed(domain, port);
        }
        self.events[domain].fifo.clear();
    }

    fn set_entry(&self, granter: usize, reference: usize, entry: GrantEntryV1) {
        let table = self.domains[granter].grants.frame(0).unwrap();
        self.bed.machine.write(MachineAddr(table.address().0 + 8 * reference as u64), entry.as_bytes());
    }

    fn map(&mut self, granter: usize, reference: usize, to: u64, readonly: bool) {
        let flags = GNTMAP_HOST_MAP | if readonly { GNTMAP_READONLY } else { 0 };
        let host_addr = Self::gfn(to) << 12;
        let op =
            MapGrantRef { host_addr, flags, grant_ref: reference as u32, dom: granter as u16, status: 0x77, handle: 0, dev_bus_addr: 0 };
        let list = Testbed::va(1, 0);
        self.bed.poke(&self.domains[0], list, &[op]);
        let cmd = GNTTABOP_MAP_GRANT_REF.into();
        assert_eq!(self.bed.hypercall(&self.domains[0], hypercall::GRANT_TABLE_OP, [cmd, list, 1, 0, 0]).0, 0);
        let answer = self.bed.peek::<MapGrantRef>(&self.domains[0], list, 1).remove(0);
        if answer.status == GNTST_OKAY {
            let found = self.domains[0].p2m.lookup(Gfn(Self::gfn(to))).unwrap();
            self.displaced(0, to);
            self.maps[0].insert(to, (found.mfn, if readonly { P2mType::GrantMapRo } else { P2mType::GrantMapRw }));
            self.mapped.push(Mapped { granter, reference, mfn: found.mfn, at: to, handle: answer.handle });
        }
    }

    /// Runs an action while no more than `few` pages are free.
    fn step(&mut self, action: Action, few: Option<u64>) {
        let frames = &self.bed.hv.frames;
        let vmid = self.domains[0].vmid;
        let mut hoard = Vec::new();
        if let Some(few) = few {
            while frames.free_pages() > few {
                hoard.push(frames.allocate(vmid, 0, FrameKind::Xen).unwrap());
            }
        }
        self.perform(action);
        hoard.into_iter().for_each(|mfn| self.bed.hv.frames.put(mfn));
        self.check();
    }

    fn check(&mut self) {
        let mapped = &self.mapped;
        // An entry of a grant table that is mapped at all holds one reference, however often it is mapped.
        let pins = |mfn| {
            let mut entries: Vec<_> = mapped.iter().filter(|m| m.mfn == mfn).map(|m| (m.granter, m.reference)).collect();
            entries.sort_unstable();
            entries.dedup();
            entries.len() as u32
        };
        let events = &self.events;
        // What a FIFO page or a vcpu_info lies in, once for each.
        let heard = |mfn| events.iter().flat_map(|e| e.fifo.iter().chain(&e.info)).filter(|held| **held == mfn).count() as u32;
        self.pages.retain(|&mfn, page| page.allocated || page.foreign > 0 || pins(mfn) > 0 || heard(mfn) > 0);
        let frames = &self.bed.hv.frames;
        for (&mfn, page) in &self.pages {
            let info = frames.info(mfn).unwrap();
            let expected = u32::from(page.allocated) + page.foreign + pins(mfn) + heard(mfn);
            assert_eq!((info.references, info.owner, info.kind), (expected, self.domains[page.owner].vmid, FrameKind::Ram), "{mfn:?}");
            let mut tag = [0; 8];
            self.bed.machine.read(MachineAddr(mfn.address().0 + 4088), &mut tag);
            assert_eq!(u64::from_le_bytes(tag), page.tag, "what {mfn:?} holds");
        }
        for (domain, map) in self.maps.iter().enumerate() {
            for frame in 0..FRAMES {
                let found = self.domains[domain].p2m.lookup(Gfn(Self::gfn(frame))).map(|m| (m.mfn, m.kind));
                assert_eq!(found, map.get(&frame).copied(), "frame {frame} of domain {domain}");
            }
            for port in 1..2 * PORTS {
                let binding = self.domains[domain].events.status(port).unwrap().binding;
                let expected = match self.events[domain].ports.get(&port) {
                    None => Binding::Free,
                    Some(Err(remote)) => Binding::Unbound { remote: self.domains[*remote].id },
                    Some(Ok((peer, port))) => Binding::Interdomain { domain: self.domains[*peer].id, port: *port },
                };
                assert_eq!(binding, expected, "port {port} of domain {domain}");
            }
            let pages = self.pages.values().filter(|page| page.owner == domain).count() as u64;
            assert_eq!(frames.account(self.domains[domain].vmid).tot_pages(), pages, "pages of domain {domain}");
        }
        let ram = frames.iter().filter(|(_, info)| info.kind == FrameKind::Ram).count();
        assert_eq!(ram, self.pages.len(), "RAM that the model does not know");
        self.bed.hv.audit().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn pages_stage_2_grants_and_event_channels_stay_consistent(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        world.check();
        let last = [Action::Destroy { domain: 1 }, Action::Destroy { domain: 2 }];
        for (action, few) in steps.into_iter().chain(last.map(|action| (action, None))) {
            world.step(action, few);
        }
        // Dom0 may have mapped something else over a grant: its handle then undoes nothing, and waits for Dom0's own end.
        let mut stuck = 0;
        while stuck < world.mapped.len() {
            let left = world.mapped.len();
            world.step(Action::Unmap { nth: stuck }, None);
            stuck += usize::from(world.mapped.len() == left);
        }
        for domain in [1, 2] {
            let held = world.pages.values().any(|page| page.owner == domain);
            let gone = world.bed.hv.domains.get(world.domains[domain].id).is_none();
            prop_assert_eq!(gone, !held, "a domain is gone with its last page");
        }
    }
}
