//! Jobs that the test domain which is Dom0 gives to another one of the same image, by a page that both see.
//!
//! A job is a function of the image, named by its offset, for the two run at different addresses.

use super::{hypercall, page::Page, smp};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};
use guest_abi::sched::SCHEDOP_YIELD;
use guest_abi::xen::hypercall::SCHED_OP;

/// A job: what it gets and what it answers.
pub type Job = fn([u64; 6]) -> u64;

/// Guest address of a peer's first page, where its image is put.
pub const BASE: u64 = 0x4000_0000;
/// Bytes of a peer's memory.
pub const MEMORY: u64 = 8 << 20;
/// Guest frame of its mailbox: the last page.
pub const MAILBOX_GFN: u64 = (BASE + MEMORY) / 4096 - 1;

// A slot of the mailbox, one per vCPU.
const SLOT: u64 = 128;
/// Counts jobs given.
const GIVEN: u64 = 0;
const JOB: u64 = 8;
const ARGS: u64 = 16;
/// Counts jobs done.
const DONE: u64 = 64;
const RESULT: u64 = 72;
/// Counts jobs that a vCPU has seen; it begins with one once `GO` has come there, too.
const READY: u64 = 80;
const GO: u64 = 88;
/// Words that mean what jobs agree on.
const WORDS: u64 = 512;
/// What the peer prints, from here on; bytes printed before it.
const TEXT_LENGTH: u64 = 1016;
const TEXT: u64 = 1024;

unsafe extern "C" {
    static _start: [u8; 0];
    static __bss_start: [u8; 0];
    static __image_end: [u8; 0];
}

fn base() -> u64 {
    (&raw const _start).expose_provenance() as u64
}

/// The pages of the image that a loader has to copy.
pub fn image() -> impl Iterator<Item = Page> {
    let end = (&raw const __bss_start).expose_provenance() as u64;
    (base()..end).step_by(4096).map(Page::of_image)
}

/// Bytes of the image in memory, with all that it clears itself.
pub fn image_size() -> u64 {
    (&raw const __image_end).expose_provenance() as u64 - base()
}

/// The other end of a mailbox, mapped.
#[derive(Clone, Copy)]
pub struct Mailbox(Page);

impl Mailbox {
    /// The mailbox mapped at `page`.
    pub fn new(page: Page) -> Self {
        Self(page)
    }

    /// Gives vCPU `cpu` a job. It must have none.
    pub fn give(self, cpu: u64, job: Job, args: [u64; 6]) {
        self.hold(cpu, job, args);
        self.go(cpu);
    }

    /// As [`Self::give`], but the vCPU waits for [`Self::go`].
    pub fn hold(self, cpu: u64, job: Job, args: [u64; 6]) {
        let slot = cpu * SLOT;
        self.0.write64(slot + JOB, (job as *const () as u64).wrapping_sub(base()));
        args.iter().zip(0..).for_each(|(arg, n)| self.0.write64(slot + ARGS + n * 8, *arg));
        fence(SeqCst);
        self.0.write64(slot + GIVEN, self.0.read64(slot + GIVEN).wrapping_add(1));
    }

    /// Whether vCPU `cpu` waits at the start of its job.
    pub fn is_ready(self, cpu: u64) -> bool {
        self.0.read64(cpu * SLOT + READY) == self.0.read64(cpu * SLOT + GIVEN)
    }

    /// Lets vCPU `cpu` begin.
    pub fn go(self, cpu: u64) {
        self.0.write64(cpu * SLOT + GO, self.0.read64(cpu * SLOT + GIVEN));
    }

    /// The answer of vCPU `cpu` to its last job, once there is one.
    pub fn answer(self, cpu: u64) -> Option<u64> {
        let slot = cpu * SLOT;
        let done = self.0.read64(slot + DONE) == self.0.read64(slot + GIVEN);
        fence(SeqCst);
        done.then(|| self.0.read64(slot + RESULT))
    }

    /// The page of the mailbox; see [`word`].
    pub fn page(self) -> Page {
        self.0
    }

    /// What the peer printed last.
    pub fn said(self) -> impl Iterator<Item = char> {
        let length = self.0.read64(TEXT_LENGTH).min(4096 - TEXT);
        (0..length).map(move |n| char::from(self.0.read8(TEXT + n)))
    }
}

fn own() -> Page {
    Page::of_peer(MAILBOX_GFN)
}

/// Offset in the mailbox of a word for the use of jobs, of 60.
pub fn word(n: u64) -> u64 {
    assert!(n < 60, "not a word for jobs");
    WORDS + n * 8
}

/// The mailbox, in a peer.
pub fn page() -> Page {
    own()
}

/// Address of the page with which Dom0 gives jobs to its own other vCPUs; 0: none.
static OF_DOM0: AtomicU64 = AtomicU64::new(0);

/// The mailbox of Dom0's own other vCPUs.
pub fn of_dom0() -> Mailbox {
    if OF_DOM0.load(SeqCst) == 0 {
        OF_DOM0.store(Page::take().address(), SeqCst);
    }
    Mailbox(Page::own(OF_DOM0.load(SeqCst)))
}

/// Does the job of this vCPU of Dom0, if it was given one; otherwise sleeps until an interrupt, or a little.
pub(super) fn poll_dom0(cpu: usize) {
    match OF_DOM0.load(SeqCst) {
        0 => yield_cpu(),
        address => {
            if !serve_once(cpu, Page::own(address)) {
                super::timer::doze(2000);
            }
        }
    }
}

/// Does the job of this vCPU of a peer, if it was given one, or soon.
pub(super) fn poll(cpu: usize) {
    if (0..20).all(|_| !serve_once(cpu, own())) {
        super::timer::doze(100);
    }
}

/// Does the job in the slot of this vCPU; false if there is none.
fn serve_once(cpu: usize, page: Page) -> bool {
    let slot = cpu as u64 * SLOT;
    let given = page.read64(slot + GIVEN);
    if given == page.read64(slot + DONE) {
        return false;
    }
    fence(SeqCst);
    page.write64(slot + READY, given);
    let mut spins = 0_u32;
    while page.read64(slot + GO) != given {
        spins += 1;
        if spins.is_multiple_of(4096) {
            yield_cpu();
        }
    }
    fence(SeqCst);
    let at = (base() + page.read64(slot + JOB)) as usize;
    let args = core::array::from_fn(|n| page.read64(slot + ARGS + n as u64 * 8));
    // SAFETY: only `give` writes jobs, and they are functions of this type at that offset of the same image.
    let job: Job = unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(at)) };
    let result = job(args);
    page.write64(slot + RESULT, result);
    fence(SeqCst);
    page.write64(slot + DONE, given);
    true
}

/// The life of a peer's boot CPU.
pub(super) fn serve() -> ! {
    loop {
        super::cpu::interrupts(true);
        super::cpu::interrupts(false);
        poll(0);
    }
}

/// Starts vCPU `args[0]` of a peer: a job.
pub fn start_cpu(args: [u64; 6]) -> u64 {
    smp::start(args[0] as usize).cast_unsigned()
}

/// Lets others have this CPU for a moment.
pub fn yield_cpu() {
    hypercall::raw(SCHED_OP, [SCHEDOP_YIELD.into(), 0, 0, 0, 0]);
}

/// A peer has no console: its last words go where Dom0 finds them.
pub(super) fn write(text: &str) {
    static LENGTH: AtomicU64 = AtomicU64::new(0);
    let page = own();
    for byte in text.bytes() {
        let at = LENGTH.load(Relaxed);
        if at < 4096 - TEXT {
            page.write8(TEXT + at, byte);
            LENGTH.store(at + 1, Relaxed);
            page.write64(TEXT_LENGTH, at + 1);
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailbox at {:#x}", self.0.address())
    }
}
