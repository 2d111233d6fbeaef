//! The toolstack's operations on a domain that runs, dies, or is worked on by another vCPU of Dom0 (misuse M30, H03, H11, H18).

use super::arena::Place::{Dom0, Peer, Second};
use super::arena::*;
use crate::pair::jobs::args;
use crate::pair::{ops, peer};
use crate::runtime::peer::{page, word};
use crate::runtime::{control, hypercall};
use core::sync::atomic::{AtomicU8, Ordering::SeqCst};
use guest_abi::arch_arm::VcpuGuestContext;
use guest_abi::console::CONSOLEIO_WRITE;
use guest_abi::domctl::*;
use guest_abi::hvm::*;
use guest_abi::sched::*;
use guest_abi::sysctl::{GetDomainInfoList, XEN_SYSCTL_GETDOMAININFOLIST};
use guest_abi::xen::{DOMID_SELF, XenctlBitmap, hypercall as nr};

/// The word of the mailbox in which the peer counts.
const COUNT: u64 = 2;

pub const ALL: &[Race] = &[
    Race { name: "M30.queries_beside_death", sides: &[(Dom0, query_until_dead), (Second, kill)], ..DYING },
    Race { name: "M30.domctls_beside_death", sides: &[(Dom0, work_until_dead), (Second, kill), (Peer(0), count_for_ever)], ..DYING },
    Race { name: "M24.killed_by_two", rounds: 6, sides: &[(Dom0, kill), (Second, kill), (Peer(0), count_for_ever)], ..DYING },
    Race {
        name: "H21.shutdown_beside_death",
        rounds: 6,
        sides: &[(Peer(0), shut_down), (Peer(1), count_for_ever), (Second, kill)],
        ..DYING
    },
    Race {
        name: "H21.remote_shutdown_beside_death",
        sides: &[(Dom0, shut_down_from_outside), (Second, kill), (Peer(0), count_for_ever)],
        ..DYING
    },
    Race { name: "M21.domains_created_by_two", rounds: 3, sides: &[(Dom0, create_some), (Second, create_some)], ..LIVING },
    Race {
        name: "H18.vcpus_made_beside_death",
        rounds: 4,
        setup: |_| [bare(), 0, 0, 0],
        sides: &[(Dom0, make_vcpus), (Second, kill_bare)],
        check: bare_is_gone,
        ..LIVING
    },
    Race {
        name: "H03.pauses_by_two",
        sides: &[(Dom0, pause_on), (Second, pause_on), (Peer(0), count)],
        check: |on, _, results| {
            all_well(results)?;
            must(on.peer.call(0, count, args([0])) == 0, "the domain does not go on")
        },
        ..LIVING
    },
    Race { name: "H03.paused_is_paused", sides: &[(Dom0, pause_and_look), (Peer(0), count), (Peer(1), count)], ..LIVING },
    Race { name: "H22.context_beside_running", sides: &[(Dom0, read_context), (Second, pause_on), (Peer(0), count)], ..LIVING },
    Race { name: "H19.affinity_beside_running", sides: &[(Dom0, move_about), (Second, read_affinity), (Peer(0), count)], ..LIVING },
    Race { name: "H18.weights_beside_running", sides: &[(Dom0, weigh), (Second, pause_on), (Peer(0), count)], ..LIVING },
    Race { name: "H23.params_set_beside_get", sides: &[(Dom0, set_params), (Second, get_params), (Peer(0), get_own_params)], ..LIVING },
    Race { name: "H11.unprivileged_storm", sides: &[(Peer(0), storm), (Peer(1), storm), (Dom0, query)], ..LIVING },
    Race { name: "H09.consoles_of_three", rounds: 2, sides: &[(Peer(0), write), (Peer(1), write), (Dom0, write)], ..LIVING },
    Race { name: "H20.watchdog_by_two", sides: &[(Peer(0), watch), (Peer(1), watch)], ..LIVING },
];

fn plain(cmd: u32, a: [u64; 6]) -> i64 {
    control::domctl_plain(cmd, a[0] as u16)
}

fn query_once(a: [u64; 6], n: u64) -> u64 {
    let id = &mut { a[0] as u16 };
    let rc = match n % 4 {
        0 => control::domctl(XEN_DOMCTL_GETDOMAININFO, id, &mut GetDomainInfo::default()),
        1 => control::domctl(XEN_DOMCTL_GETVCPUINFO, id, &mut GetVcpuInfo { vcpu: (n % 3) as u32, ..Default::default() }),
        2 => control::domctl(XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, id, &mut PagingMempool::default()),
        _ => {
            let mut list = [GetDomainInfo::default(); 4];
            let buffer = hypercall::address(&mut list);
            let mut op = GetDomainInfoList { first_domain: 1, max_domains: 4, buffer, ..Default::default() };
            control::sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut op)
        }
    };
    answered(rc)
}

fn query_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|n| query_once(a, n))
}

fn query(a: [u64; 6]) -> u64 {
    a_while(|n| query_once(a, n))
}

/// What a toolstack may do with a domain; it stays unpaused in the end, as long as it lives.
fn work_until_dead(a: [u64; 6]) -> u64 {
    until_dead(|n| {
        let id = &mut { a[0] as u16 };
        let rc = match n % 8 {
            0 => control::domctl(XEN_DOMCTL_MAX_VCPUS, id, &mut MaxVcpus { max: 3 }),
            1 => plain(XEN_DOMCTL_PAUSEDOMAIN, a),
            2 => {
                let mut context = VcpuGuestContext::default();
                let mut op = VcpuContext { vcpu: 2, ctxt: hypercall::address(&mut context), ..Default::default() };
                control::domctl(XEN_DOMCTL_GETVCPUCONTEXT, id, &mut op)
            }
            3 => plain(XEN_DOMCTL_UNPAUSEDOMAIN, a),
            4 => control::domctl(XEN_DOMCTL_MAX_MEM, id, &mut MaxMem { max_memkb: 16 << 10 }),
            5 => control::domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, id, &mut PagingMempool { size: 1 << 20 | n << 12 & 0x1f_000 }),
            6 => control::domctl(XEN_DOMCTL_SCHEDULER_OP, id, &mut weight(n)),
            _ => hypercall::with(
                nr::HVM_OP,
                HVMOP_SET_PARAM,
                &mut HvmParam { domid: a[0] as u16, index: HVM_PARAM_STORE_PFN, value: n, ..Default::default() },
            ),
        };
        answered(rc)
    })
}

fn weight(n: u64) -> SchedulerOp {
    SchedulerOp { sched_id: XEN_SCHEDULER_CREDIT2, cmd: XEN_DOMCTL_SCHEDOP_PUTINFO, weight: 100 + (n % 300) as u16, ..Default::default() }
}

fn weigh(a: [u64; 6]) -> u64 {
    a_while(|n| among(control::domctl(XEN_DOMCTL_SCHEDULER_OP, &mut { a[0] as u16 }, &mut weight(n)), &[0]))
}

fn count_up() {
    page().write64(word(COUNT), page().read64(word(COUNT)).wrapping_add(1));
}

fn count(_: [u64; 6]) -> u64 {
    a_while(|_| {
        count_up();
        0
    })
}

fn count_for_ever(_: [u64; 6]) -> u64 {
    loop {
        count_up();
    }
}

fn shut_down(a: [u64; 6]) -> u64 {
    spin(a[5] * 300);
    hypercall::sched(SCHEDOP_SHUTDOWN, &mut Shutdown { reason: SHUTDOWN_POWEROFF.into() }).cast_unsigned()
}

fn shut_down_from_outside(a: [u64; 6]) -> u64 {
    until_dead(|n| {
        let op = &mut RemoteShutdown { domain_id: a[0] as u16, reason: (n % 4) as u32, ..Default::default() };
        let answers = answered(hypercall::sched(SCHEDOP_REMOTE_SHUTDOWN, op));
        answers | answered(plain(XEN_DOMCTL_RESUMEDOMAIN, a))
    })
}

/// Creates domains and ends them; nobody else gets their numbers meanwhile.
fn create_some(_: [u64; 6]) -> u64 {
    static LIVE: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
    for n in 0..4 {
        let id = match peer::create(peer::config(1 + n % 2)) {
            Ok(id) => id,
            Err(_) => return odd(1),
        };
        let live = &LIVE[usize::from(id) % 256];
        let others = live.fetch_add(1, SeqCst);
        spin(100);
        live.fetch_sub(1, SeqCst);
        let rc = control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, id);
        if others != 0 || rc != 0 || !ops::within(5_000_000, || !peer::exists(id)) {
            return odd(i64::from(others) * 1000 + rc);
        }
    }
    0
}

/// A domain without vCPUs; its number.
fn bare() -> u64 {
    let mut id = 0;
    if control::domctl(XEN_DOMCTL_CREATEDOMAIN, &mut id, &mut peer::config(4)) == 0 { id.into() } else { 0 }
}

fn make_vcpus(a: [u64; 6]) -> u64 {
    let id = &mut { a[1] as u16 };
    let answers = [
        control::domctl(XEN_DOMCTL_MAX_VCPUS, id, &mut MaxVcpus { max: 4 }),
        control::domctl(XEN_DOMCTL_SET_ADDRESS_SIZE, id, &mut AddressSize { size: 64 }),
        control::domctl(XEN_DOMCTL_MAX_MEM, id, &mut MaxMem { max_memkb: 4096 }),
        control::domctl_plain(XEN_DOMCTL_UNPAUSEDOMAIN, *id),
        control::domctl_plain(XEN_DOMCTL_PAUSEDOMAIN, *id),
    ];
    answers.into_iter().map(answered).find(|odd| *odd != 0).unwrap_or(0)
}

fn kill_bare(a: [u64; 6]) -> u64 {
    spin(a[5] * 20);
    among(control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, a[1] as u16), &[0])
}

fn bare_is_gone(_: &Ground, a: [u64; 6], results: [u64; 3]) -> Verdict {
    all_well(results)?;
    must(a[1] != 0 && ops::within(5_000_000, || !peer::exists(a[1] as u16)), "something of the third domain is left")
}

fn pause_on(a: [u64; 6]) -> u64 {
    a_while(|_| among(plain(XEN_DOMCTL_PAUSEDOMAIN, a), &[0]) | among(plain(XEN_DOMCTL_UNPAUSEDOMAIN, a), &[0]))
}

/// While it is paused, it does not count.
fn pause_and_look(a: [u64; 6]) -> u64 {
    let mailbox = peer::mailbox_of(a[0] as u16);
    a_while(|_| {
        let paused = among(plain(XEN_DOMCTL_PAUSEDOMAIN, a), &[0]);
        let before = mailbox.read64(word(COUNT));
        spin(50);
        let after = mailbox.read64(word(COUNT));
        let moved = if before == after { 0 } else { odd(1) };
        paused | moved | among(plain(XEN_DOMCTL_UNPAUSEDOMAIN, a), &[0])
    })
}

/// What is read of a vCPU that runs is where it was when it stopped for that.
fn read_context(a: [u64; 6]) -> u64 {
    a_while(|_| {
        let mut context = VcpuGuestContext::default();
        let mut op = VcpuContext { vcpu: 0, ctxt: hypercall::address(&mut context), ..Default::default() };
        let rc = control::domctl(XEN_DOMCTL_GETVCPUCONTEXT, &mut { a[0] as u16 }, &mut op);
        let inside = context.user_regs.pc64.wrapping_sub(crate::runtime::peer::BASE) < crate::runtime::peer::MEMORY;
        if rc == 0 && !inside { odd(1) } else { among(rc, &[0]) }
    })
}

fn affinity(cmd: u32, a: [u64; 6], n: u64) -> (i64, u64) {
    let mut map = [1_u64 << (n % 2)];
    let cpumap_hard = XenctlBitmap { bitmap: hypercall::address(&mut map), nr_bits: 64, ..Default::default() };
    let mut op = VcpuAffinity { vcpu: 0, flags: XEN_VCPUAFFINITY_HARD, cpumap_hard, ..Default::default() };
    let rc = control::domctl(cmd, &mut { a[0] as u16 }, &mut op);
    (rc, map[0])
}

/// Has the first vCPU of the peer run on one CPU and the other.
pub fn move_about(a: [u64; 6]) -> u64 {
    // There may be one CPU only.
    let result = a_while(|n| among(affinity(XEN_DOMCTL_SETVCPUAFFINITY, a, n).0, &[0, -22]));
    let mut all = [u64::MAX];
    let cpumap_hard = XenctlBitmap { bitmap: hypercall::address(&mut all), nr_bits: 64, ..Default::default() };
    let mut op = VcpuAffinity { vcpu: 0, flags: XEN_VCPUAFFINITY_HARD, cpumap_hard, ..Default::default() };
    result | among(control::domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut { a[0] as u16 }, &mut op), &[0])
}

fn read_affinity(a: [u64; 6]) -> u64 {
    a_while(|n| {
        let (rc, map) = affinity(XEN_DOMCTL_GETVCPUAFFINITY, a, n);
        if map == 0 { odd(1) } else { among(rc, &[0]) }
    })
}

fn param(op: u64, domid: u16, value: u64) -> (i64, u64) {
    let mut param = HvmParam { domid, index: HVM_PARAM_STORE_PFN, value, ..Default::default() };
    let rc = hypercall::with(nr::HVM_OP, op, &mut param);
    (rc, param.value)
}

fn set_params(a: [u64; 6]) -> u64 {
    a_while(|n| among(param(HVMOP_SET_PARAM, a[0] as u16, if n % 2 == 0 { 0 } else { u64::MAX }).0, &[0]))
}

/// A parameter is one of those that were set, never half of each.
fn get_params(a: [u64; 6]) -> u64 {
    a_while(|_| match param(HVMOP_GET_PARAM, a[0] as u16, 1) {
        (0, 0 | u64::MAX) => 0,
        (rc, value) => odd(rc * 1000 + value.cast_signed()),
    })
}

fn get_own_params(mut a: [u64; 6]) -> u64 {
    a[0] = DOMID_SELF.into();
    get_params(a)
}

/// What is not for this domain is refused, and holds nobody up.
fn storm(a: [u64; 6]) -> u64 {
    a_while(|n| {
        let rc = match n % 4 {
            0 => control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, 0),
            1 => control::sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut GetDomainInfoList::default()),
            2 => plain(XEN_DOMCTL_PAUSEDOMAIN, a),
            _ => hypercall::raw(nr::PLATFORM_OP, [0; 5]),
        };
        if rc < 0 { 0 } else { odd(rc) }
    })
}

fn write(_: [u64; 6]) -> u64 {
    let text = ["one voice\n", "an", "other ", "voice\n"];
    for n in 0..12 {
        let mut part = [0_u8; 16];
        let from = text[n % 4].as_bytes();
        part[..from.len()].copy_from_slice(from);
        let rc = hypercall::raw(nr::CONSOLE_IO, [CONSOLEIO_WRITE.into(), from.len() as u64, hypercall::address(&mut part), 0, 0]);
        // Only Dom0 may, where nobody listens to the others.
        if rc != 0 && rc != -1 {
            return odd(rc);
        }
    }
    0
}

/// Both start and stop the watchdogs, which never bite.
fn watch(_: [u64; 6]) -> u64 {
    a_while(|n| {
        // One that is taken with timeout 0 bites at once.
        let (id, timeout) = ((n % 3) as u32, if n % 2 == 0 || n % 3 == 0 { 60 } else { 0 });
        // Debian's Xen returns one of its errors without the sign.
        let rc = hypercall::sched(SCHEDOP_WATCHDOG, &mut Watchdog { id, timeout });
        if (0..=2).contains(&rc) { 0 } else { answered((rc as i32).into()) }
    })
}
