//! A domain of this image, built as a toolstack does it, and told what to do.

use super::ops;
use crate::runtime::peer::{self as mailbox, Job, Mailbox};
use crate::runtime::{console, control, cpu, hypercall, page::Page, timer};
use crate::verdict::Test;
use core::fmt;
use guest_abi::arch_arm::{PSR_GUEST64_INIT, SCTLR_GUEST_INIT, VGCF_ONLINE, VcpuGuestContext};
use guest_abi::domctl::*;
use guest_abi::errno::Errno;
use guest_abi::memory::*;

/// Pages of Dom0's window where images are written through, and where mailboxes stay.
const LOADER: u64 = 0x80;
const MAILBOXES: u64 = 0x90;
/// Peers at a time.
const PEERS: u64 = 8;
/// How long a peer may take for a job.
const PATIENCE: u64 = 60;

/// A running peer.
pub struct Peer {
    /// Its domain.
    pub id: u16,
    mailbox: Mailbox,
    place: u64,
}

/// A step of building that was refused.
pub struct Refused(&'static str, i64);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rc={}", self.0, self.1)
    }
}

fn must(step: &'static str, rc: i64) -> Result<(), Refused> {
    if rc == 0 { Ok(()) } else { Err(Refused(step, rc)) }
}

/// The configuration that xl would pass for a domain of so many vCPUs.
pub fn config(max_vcpus: u32) -> CreateDomain {
    CreateDomain {
        flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
        max_vcpus,
        max_evtchn_port: 1023,
        max_grant_frames: 8,
        max_maptrack_frames: 8,
        grant_opts: 1,
        ..Default::default()
    }
}

impl Peer {
    /// A running domain of `vcpus` vCPUs, of which the first is up.
    pub fn build(vcpus: u32) -> Result<Self, Refused> {
        Self::build_with(config(vcpus))
    }

    /// As [`Self::build`], with another configuration.
    pub fn build_with(config: CreateDomain) -> Result<Self, Refused> {
        let id = create(config)?;
        Self::fill(id).inspect_err(|_| {
            control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, id);
        })
    }

    fn fill(id: u16) -> Result<Self, Refused> {
        load(id)?;
        let place = MAILBOXES + u64::from(id) % PEERS;
        must("map the mailbox", ops::map_foreign(id, mailbox::MAILBOX_GFN, Page::hole(place).gfn()))?;
        must("unpausedomain", control::domctl_plain(XEN_DOMCTL_UNPAUSEDOMAIN, id))?;
        Ok(Self { id, mailbox: Mailbox::new(Page::hole(place)), place })
    }

    /// Its mailbox.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox
    }

    /// Gives vCPU `cpu` a job and does not wait.
    pub fn give(&self, cpu: u64, job: Job, args: [u64; 6]) {
        self.mailbox.give(cpu, job, args);
    }

    /// Waits until vCPU `cpu` has done its job; its answer.
    pub fn wait(&self, cpu: u64) -> u64 {
        let start = cpu::counter();
        for n in 0_u64.. {
            if let Some(answer) = self.mailbox.answer(cpu) {
                return answer;
            }
            if cpu::counter() - start > PATIENCE * cpu::frequency() {
                self.mailbox.said().for_each(|c| console::line(format_args!("peer: {c}")));
                panic!("vCPU {cpu} of the peer does not answer");
            }
            // Asleep for long answers: on a busy machine the peer gets its CPU sooner.
            if n < 20 { mailbox::yield_cpu() } else { timer::doze(50) }
        }
        0
    }

    /// Whether vCPU `cpu` has done its job.
    pub fn is_idle(&self, cpu: u64) -> bool {
        self.mailbox.answer(cpu).is_some()
    }

    /// Has vCPU `cpu` do a job; its answer.
    pub fn call(&self, cpu: u64, job: Job, args: [u64; 6]) -> u64 {
        self.give(cpu, job, args);
        self.wait(cpu)
    }

    /// Has the first vCPU make a hypercall or the like.
    pub fn rc(&self, job: Job, args: [u64; 6]) -> i64 {
        self.call(0, job, args).cast_signed()
    }

    /// Starts another vCPU.
    pub fn start_cpu(&self, cpu: u64) {
        assert_eq!(self.rc(mailbox::start_cpu, [cpu, 0, 0, 0, 0, 0]), 0, "a vCPU of the peer does not start");
    }

    /// Destroys it, whatever it does at the moment. Pages of it that others hold keep its rest alive.
    pub fn kill(&self) -> i64 {
        let rc = control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, self.id);
        ops::remove(Page::hole(self.place).gfn());
        rc
    }

    /// Destroys it and waits until nothing of it is left.
    pub fn destroy(self, test: &mut Test) {
        let rc = self.kill();
        if rc != 0 {
            test.fail("destroy", format_args!("rc={rc}"));
        }
        if !ops::within(2_000_000, || !exists(self.id)) {
            test.fail("destroy", "something of the domain is left");
        }
    }
}

/// The mailbox page of a peer, as Dom0 sees it.
pub fn mailbox_of(id: u16) -> Page {
    Page::hole(MAILBOXES + u64::from(id) % PEERS)
}

/// Whether there is such a domain, be it dying.
pub fn exists(id: u16) -> bool {
    let mut info = GetDomainInfo::default();
    control::domctl(XEN_DOMCTL_GETDOMAININFO, &mut { id }, &mut info) != -i64::from(Errno::ESRCH as i32)
}

/// A domain with memory and nothing in it.
pub fn create(mut config: CreateDomain) -> Result<u16, Refused> {
    let vcpus = config.max_vcpus;
    let mut id = 0;
    must("createdomain", control::domctl(XEN_DOMCTL_CREATEDOMAIN, &mut id, &mut config))?;
    let built = (|| {
        must("max_vcpus", control::domctl(XEN_DOMCTL_MAX_VCPUS, &mut { id }, &mut MaxVcpus { max: vcpus }))?;
        // After the vCPUs: Xen switches those that there are.
        must("set_address_size", control::domctl(XEN_DOMCTL_SET_ADDRESS_SIZE, &mut { id }, &mut AddressSize { size: 64 }))?;
        must(
            "set_paging_mempool_size",
            control::domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, &mut { id }, &mut PagingMempool { size: 1 << 20 }),
        )?;
        must("max_mem", control::domctl(XEN_DOMCTL_MAX_MEM, &mut { id }, &mut MaxMem { max_memkb: mailbox::MEMORY / 1024 }))
    })();
    built.map(|()| id).inspect_err(|_| {
        control::domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, id);
    })
}

/// Gives a domain its memory, with the image in it, and its first vCPU a start.
fn load(id: u16) -> Result<(), Refused> {
    const ORDER: u32 = 9;
    let extents = (mailbox::MEMORY / 4096) >> ORDER;
    let gfns: [u64; 4] = core::array::from_fn(|n| mailbox::BASE / 4096 + ((n as u64) << ORDER));
    let done = ops::reserve(XENMEM_POPULATE_PHYSMAP, &gfns[..extents as usize], ORDER, id);
    if done != extents.cast_signed() {
        return Err(Refused("populate_physmap", done));
    }
    let window = Page::hole(LOADER);
    for (page, gfn) in mailbox::image().zip(mailbox::BASE / 4096..) {
        must("map memory", ops::map_foreign(id, gfn, window.gfn()))?;
        (0..512).for_each(|word| window.write64(word * 8, page.read64(word * 8)));
        must("unmap memory", ops::remove(window.gfn()))?;
    }
    let mut flush = CacheFlush { start_pfn: mailbox::BASE / 4096, nr_pfns: mailbox::image_size().div_ceil(4096) };
    must("cacheflush", control::domctl(XEN_DOMCTL_CACHEFLUSH, &mut { id }, &mut flush))?;
    let mut context = VcpuGuestContext { flags: VGCF_ONLINE, sctlr: SCTLR_GUEST_INIT, ..Default::default() };
    context.user_regs.pc64 = mailbox::BASE;
    context.user_regs.cpsr = PSR_GUEST64_INIT;
    context.user_regs.x[0] = crate::runtime::platform::PEER;
    let mut op = VcpuContext { ctxt: hypercall::address(&mut context), ..Default::default() };
    must("setvcpucontext", control::domctl(XEN_DOMCTL_SETVCPUCONTEXT, &mut { id }, &mut op))
}
