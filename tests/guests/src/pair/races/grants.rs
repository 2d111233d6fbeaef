//! Grants: mapped, copied and ended at the same time, by both domains (misuse G03 to G25).

use super::arena::Place::{Dom0, Peer, Second};
use super::arena::*;
use crate::pair::books::is_xenolith;
use crate::pair::jobs::{self, args};
use crate::pair::ops;
use crate::runtime::page::Page;
use crate::runtime::{hypercall, peer::yield_cpu, probe};
use core::sync::atomic::{AtomicU8, Ordering::SeqCst};
use guest_abi::grant_table::*;
use guest_abi::memory::*;
use guest_abi::xen::DOMID_SELF;

/// References of the peer's pages 0 and 1, for Dom0; of Dom0's pages, for the peer.
const OF_PEER: u32 = 9;
const OF_DOM0: u32 = 12;
/// All of Dom0's. A reference can be mapped 255 times at most.
const OFFERED: core::ops::Range<u32> = OF_DOM0..OF_DOM0 + 4;
/// Where grants are mapped in the window; where Dom0 maps what its second vCPU does not.
const AT: u64 = 0x100;
const AT_SECOND: u64 = 0x101;

pub const ALL: &[Race] = &[
    Race {
        name: "G03.map_beside_balloon_and_death",
        setup: offer,
        sides: &[(Dom0, map_until_dead), (Peer(0), balloon_on), (Second, kill)],
        ..DYING
    },
    Race {
        name: "G06.unmap_tells_the_granter_last",
        setup: |on| {
            offer(on);
            let (_, handle) = ops::map_grant(on.peer.id, OF_PEER, GNTMAP_HOST_MAP, Page::hole(AT).gfn());
            [on.page(0, 0x5a), handle.into(), 0, 0]
        },
        sides: &[(Dom0, unmap_soon), (Second, write_until_gone), (Peer(0), watch_for_end)],
        ..LIVING
    },
    Race {
        name: "G07.unmap_twice_at_once",
        setup: |on| {
            offer(on);
            let (_, handle) = ops::map_grant(on.peer.id, OF_PEER, GNTMAP_HOST_MAP, Page::hole(AT).gfn());
            [0, handle.into(), 0, 0]
        },
        sides: &[(Dom0, unmap), (Second, unmap)],
        check: |on, _, [a, b, _]| {
            must(matches!((a as i32, b as i32), (0, -4) | (-4, 0)), "not one of two unmaps was the first")?;
            let [first, second] =
                [AT, AT_SECOND].map(|at| (ops::map_grant(on.peer.id, OF_PEER, GNTMAP_HOST_MAP, Page::hole(at).gfn()).1, at));
            let unmapped = [first, second].map(|(handle, at)| ops::unmap_grant(handle, Page::hole(at).gfn()));
            must(first.0 != second.0 && unmapped == [0; 2], "a handle was given out twice")?;
            unused(on)
        },
        ..LIVING
    },
    Race {
        name: "G08.maptrack_grows_beside_unmaps",
        rounds: 3,
        setup: offer,
        sides: &[(Peer(0), map_many), (Peer(1), unmap_nonsense)],
        check: |_, _, results| all_well(results).and(unused_of_dom0()),
        ..LIVING
    },
    Race {
        name: "G12.maptrack_exhausted_by_two",
        rounds: 3,
        maptrack: 1,
        setup: offer,
        sides: &[(Peer(0), map_till_full), (Peer(1), map_till_full)],
        check: |_, _, results| all_well(results).and(unused_of_dom0()),
        ..LIVING
    },
    Race { name: "G17.copy_beside_balloon", setup: offer, sides: &[(Dom0, copy_and_look), (Peer(0), balloon)], ..LIVING },
    Race {
        name: "G20.flags_hammered",
        setup: offer,
        sides: &[(Dom0, map_loosely), (Peer(0), hammer), (Second, copy_loosely)],
        check: check_unused,
        ..LIVING
    },
    Race {
        name: "G25.table_frame_at_two_places",
        setup: |on| {
            let [a, b] = [AT, AT_SECOND].map(|at| on.peer.call(0, remove, args([at])));
            [a, b, 0, 0]
        },
        sides: &[(Peer(0), table_here), (Peer(1), table_there)],
        check: |on, _, [a, b, _]| {
            let seen = [AT, AT_SECOND].map(|at| on.peer.call(0, is_mapped, args([at])));
            must(seen == [u64::from(a == 0), u64::from(b == 0)] && (a == 0) != (b == 0), "a frame of the table is not at one place")
        },
        ..LIVING
    },
    Race {
        name: "G06.revoke_beside_map",
        setup: offer,
        sides: &[(Dom0, map_loosely), (Peer(0), revoke), (Second, copy_loosely)],
        check: check_unused,
        ..LIVING
    },
    Race { name: "G07.maps_by_two", setup: offer, sides: &[(Dom0, map_well), (Second, map_well)], check: check_unused, ..LIVING },
    Race { name: "G13.copy_beside_unmap", setup: offer, sides: &[(Dom0, map_well), (Second, copy_well)], check: check_unused, ..LIVING },
    Race { name: "G01.swap_beside_map", setup: offer, sides: &[(Dom0, map_and_look), (Peer(0), swap)], check: check_unused, ..LIVING },
    Race {
        name: "G02.version_beside_map",
        setup: offer,
        sides: &[(Dom0, map_well), (Peer(0), ask_versions)],
        check: check_unused,
        ..LIVING
    },
    Race {
        name: "G02.table_grows_by_two",
        rounds: 4,
        world: World::Fresh,
        setup: offer,
        sides: &[(Dom0, map_beyond), (Peer(0), grow), (Peer(1), grow_by_mapping)],
        check: |on, _, results| {
            all_well(results).and(must(on.peer.call(0, frames, args([])) == 8, "the table is not as large as it was asked to be"))
        },
        ..LIVING
    },
    Race {
        name: "G15.table_moved_beside_map",
        setup: offer,
        sides: &[(Dom0, map_well), (Peer(1), move_table)],
        check: check_unused,
        ..LIVING
    },
    Race { name: "G14.flush_beside_unmap", setup: offer, sides: &[(Dom0, map_well), (Second, flush)], check: check_unused, ..LIVING },
    Race {
        name: "M03.mapper_dies_mapping",
        setup: offer,
        sides: &[(Peer(0), map_for_ever), (Peer(1), copy_for_ever), (Second, kill)],
        check: |_, _, results| all_well(results).and(unused_of_dom0()),
        ..DYING
    },
    Race { name: "M03.granter_dies_beside_map", setup: offer, sides: &[(Dom0, map_until_dead), (Second, kill)], ..DYING },
    Race { name: "M03.granter_dies_beside_copy", setup: offer, sides: &[(Dom0, copy_until_dead), (Second, kill)], ..DYING },
];

/// Both domains offer pages to the other one. The first argument: the peer's page, filled with 0x5a.
fn offer(on: &Ground) -> [u64; 4] {
    let (pages, new) = ([on.page(0, 0x5a), on.page(1, 0xa5)], on.is_new());
    for (reference, gfn) in (OF_PEER..).zip(pages).filter(|_| new) {
        on.peer.call(0, jobs::grant, args([reference.into(), GTF_PERMIT_ACCESS.into(), 0, gfn]));
    }
    OFFERED.for_each(|reference| ops::grant(reference, GTF_PERMIT_ACCESS, on.peer.id, dom0_page(0).gfn()));
    [pages[0], 0, 0, 0]
}

/// A page of Dom0 for all races.
pub fn dom0_page(n: u64) -> Page {
    static FIRST: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    if FIRST.load(SeqCst) == 0 {
        FIRST.store(Page::take_aligned(4).address(), SeqCst);
    }
    Page::own(FIRST.load(SeqCst)).offset(n % 4)
}

/// No grant of the peer is in use any more.
fn unused(on: &Ground) -> Verdict {
    let used =
        [OF_PEER, OF_PEER + 1].map(|reference| on.peer.call(0, jobs::flags, args([reference.into()])) as u16 & (GTF_READING | GTF_WRITING));
    must(used == [0; 2], "a grant of the peer is still in use")
}

fn unused_of_dom0() -> Verdict {
    must(OFFERED.map(ops::grant_flags).all(|flags| flags == GTF_PERMIT_ACCESS), "a grant of Dom0 is still in use")
}

fn check_unused(on: &Ground, _: [u64; 6], results: [u64; 3]) -> Verdict {
    all_well(results).and(unused(on))
}

/// Maps a grant and unmaps it; the first error, if any.
fn map_once(dom: u16, reference: u32, at: u64) -> i64 {
    let (status, handle) = ops::map_grant(dom, reference, GNTMAP_HOST_MAP, Page::hole(at).gfn());
    if status == 0 && ops::unmap_grant(handle, Page::hole(at).gfn()) != 0 { i64::from(i32::MAX) } else { status }
}

/// Where this vCPU of Dom0 maps.
fn own_place() -> u64 {
    if crate::runtime::cpu::index() == 0 { AT } else { AT_SECOND }
}

fn map_well(a: [u64; 6]) -> u64 {
    a_while(|_| among(map_once(a[0] as u16, OF_PEER, own_place()), &[0]))
}

fn map_loosely(a: [u64; 6]) -> u64 {
    a_while(|_| answered(map_once(a[0] as u16, OF_PEER, own_place())))
}

fn map_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|_| answered(map_once(a[0] as u16, OF_PEER, own_place())))
}

fn map_beyond(a: [u64; 6]) -> u64 {
    a_while(|n| answered(map_once(a[0] as u16, (n * 67 % 4200) as u32, own_place())))
}

fn map_and_look(a: [u64; 6]) -> u64 {
    let at = Page::hole(own_place());
    a_while(|_| {
        let (status, handle) = ops::map_grant(a[0] as u16, OF_PEER, GNTMAP_HOST_MAP, at.gfn());
        let byte = if status == 0 { at.read8(0) } else { 0x5a };
        if status == 0 && ops::unmap_grant(handle, at.gfn()) != 0 || !matches!(byte, 0x5a | 0xa5) {
            odd(byte.into())
        } else {
            answered(status)
        }
    })
}

fn map_for_ever(_: [u64; 6]) -> u64 {
    loop {
        map_once(0, OF_DOM0, AT);
    }
}

fn copy_one(dom: u16, reference: u32, to: Page) -> i64 {
    ops::copy(ops::by_reference(dom, reference, 0), ops::own(to.gfn(), 0), 4096, GNTCOPY_SOURCE_GREF)
}

fn copy_well(a: [u64; 6]) -> u64 {
    a_while(|_| among(copy_one(a[0] as u16, OF_PEER, dom0_page(2)), &[0]))
}

fn copy_loosely(a: [u64; 6]) -> u64 {
    a_while(|_| answered(copy_one(a[0] as u16, OF_PEER, dom0_page(2))))
}

fn copy_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|_| answered(copy_one(a[0] as u16, OF_PEER, dom0_page(2))))
}

fn copy_for_ever(_: [u64; 6]) -> u64 {
    let to = Page::take();
    loop {
        copy_one(0, OF_DOM0 + 1, to);
    }
}

/// What is copied has been in the page: what the peer wrote, or the zeros of a new one.
fn copy_and_look(a: [u64; 6]) -> u64 {
    let page = dom0_page(2);
    a_while(|_| {
        page.fill(0);
        let rc = copy_one(a[0] as u16, OF_PEER, page);
        let other = (0..4096).step_by(64).map(|at| page.read8(at)).find(|byte| !matches!(byte, 0x5a | 0));
        other.map_or(answered(rc), |byte| odd(byte.into()))
    })
}

/// Takes own page `a[1]` away and brings it back.
pub fn balloon(a: [u64; 6]) -> u64 {
    a_while(|_| balloon_once(a[1]))
}

fn balloon_on(a: [u64; 6]) -> u64 {
    loop {
        balloon_once(a[1]);
    }
}

/// Takes an own page away, brings it back and fills it with 0x5a.
pub fn balloon_once(gfn: u64) -> u64 {
    let (out, back) = (jobs::decrease(args([gfn])), jobs::populate(args([gfn])));
    if (out, back) != (1, 1) {
        return odd((out * 16 + back).cast_signed());
    }
    Page::own(gfn * 4096).fill(0x5a);
    0
}

fn unmap(a: [u64; 6]) -> u64 {
    u64::from(ops::unmap_grant(a[2] as u32, Page::hole(AT).gfn()) as u32)
}

fn unmap_soon(a: [u64; 6]) -> u64 {
    spin(200);
    among(ops::unmap_grant(a[2] as u32, Page::hole(AT).gfn()), &[0])
}

/// Writes to the mapped page until it is gone.
fn write_until_gone(_: [u64; 6]) -> u64 {
    let at = Page::hole(AT).address();
    let gone = (0..10_000_000).any(|n| probe::write(at + 8, 3, n).is_err());
    if gone { 0 } else { odd(-1) }
}

/// Once the peer sees that its page is not mapped any more, nobody writes to it.
fn watch_for_end(a: [u64; 6]) -> u64 {
    let page = Page::own(a[1] * 4096);
    ops::within(5_000_000, || ops::grant_flags(OF_PEER) & GTF_WRITING == 0);
    page.write64(8, u64::MAX);
    match (0..20_000).map(|_| page.read64(8)).find(|value| *value != u64::MAX) {
        Some(value) => odd(value as i64),
        None => among((ops::grant_flags(OF_PEER) & GTF_WRITING).into(), &[0]),
    }
}

/// Maps many, so that maptrack grows, and unmaps them.
fn map_many(_: [u64; 6]) -> u64 {
    const MANY: u64 = 300;
    let mut handles = [0; MANY as usize];
    for (n, handle) in (0..).zip(&mut handles) {
        let (status, got) = ops::map_grant(0, OF_DOM0 + n as u32 % 4, GNTMAP_HOST_MAP, Page::hole(AT + n).gfn());
        if status != 0 {
            return odd(status);
        }
        *handle = got;
    }
    (0..).zip(handles).map(|(n, handle)| among(ops::unmap_grant(handle, Page::hole(AT + n).gfn()), &[0])).find(|odd| *odd != 0).unwrap_or(0)
}

/// Unmaps where nothing is, by handles around the ends of pages of maptrack. Xen takes a handle that is in use, whatever it has mapped.
fn unmap_nonsense(_: [u64; 6]) -> u64 {
    let handles = [4096, 0x7fff_ffff, u32::MAX, 255, 256, 257, 511, 512, 513, 1024];
    let count = if is_xenolith() { handles.len() } else { 3 };
    a_while(|n| {
        let rc = ops::unmap_grant(handles[n as usize % count], Page::hole(0x700).gfn());
        if rc < 0 { 0 } else { odd(rc) }
    })
}

/// Maps till there are no handles; none may be given out twice.
fn map_till_full(_: [u64; 6]) -> u64 {
    static GIVEN: [AtomicU8; 1024] = [const { AtomicU8::new(0) }; 1024];
    let own = AT + 0x200 * crate::runtime::cpu::index() as u64;
    let (mut handles, mut count, mut twice) = ([0; 512], 0, 0);
    for n in 0..512 {
        let (status, handle) = ops::map_grant(0, OF_DOM0 + n as u32 % 4, GNTMAP_HOST_MAP, Page::hole(own + n).gfn());
        match status {
            0 => twice += u64::from(GIVEN[handle as usize % 1024].fetch_add(1, SeqCst)),
            -13 => break,
            other => return odd(other),
        }
        handles[count] = handle;
        count += 1;
    }
    for (n, handle) in (0..).zip(&handles[..count]) {
        GIVEN[*handle as usize % 1024].fetch_sub(1, SeqCst);
        if ops::unmap_grant(*handle, Page::hole(own + n).gfn()) != 0 {
            return odd(1000);
        }
    }
    if twice != 0 { odd(twice.cast_signed()) } else { 0 }
}

/// Changes a bit of the flags that means nothing.
fn hammer(_: [u64; 6]) -> u64 {
    let at = u64::from(OF_PEER) * 8;
    let result = a_while(|_| {
        (0..64).for_each(|_| {
            let flags = Page::hole(0).read16(at);
            Page::hole(0).replace16(at, flags, flags ^ 1 << 5);
        });
        0
    });
    let flags = Page::hole(0).read16(at);
    Page::hole(0).replace16(at, flags, flags & !(1 << 5));
    result
}

/// Ends access and grants it again; what has ended is not in use.
fn revoke(a: [u64; 6]) -> u64 {
    let at = u64::from(OF_PEER) * 8;
    a_while(|_| {
        if Page::hole(0).replace16(at, GTF_PERMIT_ACCESS, 0) {
            let page = Page::own(a[1] * 4096);
            page.write64(8, 1);
            let flags = Page::hole(0).read16(at);
            Page::hole(0).replace16(at, 0, GTF_PERMIT_ACCESS);
            return if flags == 0 { 0 } else { odd(flags.into()) };
        }
        0
    })
}

fn swap(_: [u64; 6]) -> u64 {
    a_while(|_| {
        let mut op = SwapGrantRef { ref_a: OF_PEER, ref_b: OF_PEER + 1, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_SWAP_GRANT_REF, &mut op);
        if rc == 0 { answered(op.status.into()) } else { odd(rc) }
    })
}

fn ask_versions(_: [u64; 6]) -> u64 {
    a_while(|_| {
        let answers = [
            hypercall::grant(GNTTABOP_SET_VERSION, &mut SetVersion { version: 1 }),
            hypercall::grant(GNTTABOP_SET_VERSION, &mut SetVersion { version: 2 }) + 38,
            hypercall::grant(GNTTABOP_GET_VERSION, &mut GetVersion { dom: DOMID_SELF, ..Default::default() }),
            hypercall::grant(GNTTABOP_QUERY_SIZE, &mut QuerySize { dom: DOMID_SELF, ..Default::default() }),
        ];
        answers.into_iter().map(|rc| among(rc, &[0])).find(|odd| *odd != 0).unwrap_or(0)
    })
}

fn grow(_: [u64; 6]) -> u64 {
    let mut list = [0_u64; 8];
    for nr_frames in 1..=8 {
        let frame_list = hypercall::address(&mut list);
        let mut op = SetupTable { dom: DOMID_SELF, nr_frames, frame_list, status: 0x77, ..Default::default() };
        let rc = hypercall::grant(GNTTABOP_SETUP_TABLE, &mut op);
        if rc != 0 || op.status != 0 {
            return odd(i64::from(op.status) * 1000 + rc);
        }
    }
    0
}

fn table(idx: u64, at: u64) -> i64 {
    let gpfn = Page::hole(at).gfn();
    hypercall::memory(XENMEM_ADD_TO_PHYSMAP, &mut AddToPhysmap { domid: DOMID_SELF, size: 0, space: XENMAPSPACE_GRANT_TABLE, idx, gpfn })
}

fn grow_by_mapping(_: [u64; 6]) -> u64 {
    (1..8).map(|idx| among(table(idx, AT + idx), &[0])).find(|odd| *odd != 0).unwrap_or(0)
}

fn frames(_: [u64; 6]) -> u64 {
    let mut op = QuerySize { dom: DOMID_SELF, ..Default::default() };
    hypercall::grant(GNTTABOP_QUERY_SIZE, &mut op);
    op.nr_frames.into()
}

fn table_here(_: [u64; 6]) -> u64 {
    u64::from(table(1, AT) as u32)
}

fn table_there(_: [u64; 6]) -> u64 {
    u64::from(table(1, AT_SECOND) as u32)
}

/// Takes away what is at page `a[0]` of the window.
fn remove(a: [u64; 6]) -> u64 {
    ops::remove(Page::hole(a[0]).gfn()).cast_unsigned()
}

fn is_mapped(a: [u64; 6]) -> u64 {
    probe::read(Page::hole(a[0]).address(), 3).is_ok().into()
}

/// Moves the first frame of the table away from its place and back.
fn move_table(_: [u64; 6]) -> u64 {
    let result = a_while(|_| {
        ops::remove(Page::hole(0).gfn());
        answered(table(0, 0))
    });
    yield_cpu();
    result
}

fn flush(a: [u64; 6]) -> u64 {
    let (status, handle) = {
        let mut op = MapGrantRef {
            host_addr: Page::hole(AT_SECOND).address(),
            flags: GNTMAP_HOST_MAP,
            grant_ref: OF_PEER,
            dom: a[0] as u16,
            ..Default::default()
        };
        hypercall::grant(GNTTABOP_MAP_GRANT_REF, &mut op);
        (op.status, (op.handle, op.dev_bus_addr))
    };
    if status != 0 {
        return odd(status.into());
    }
    let result = a_while(|_| {
        let mut op = CacheFlush { dev_bus_addr: handle.1, offset: 0, length: 4096, op: GNTTAB_CACHE_CLEAN };
        answered(hypercall::grant(GNTTABOP_CACHE_FLUSH, &mut op))
    });
    if ops::unmap_grant(handle.0, Page::hole(AT_SECOND).gfn()) != 0 { odd(1000) } else { result }
}
