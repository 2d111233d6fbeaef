//! Trace records: what the hypervisor tells Dom0's `xentrace`. Source: xen/include/public/trace.h.
//!
//! A record is a header word ([`TRACE_EXTRA_SHIFT`]), the counter in two words if [`TRC_HD_CYCLE_FLAG`] is set, and up to
//! [`TRACE_EXTRA_MAX`] words of data. Records follow each other in the ring of the CPU that made them, behind a [`TBuf`].

pub mod own;

/// Most data words of a record.
pub const TRACE_EXTRA_MAX: u32 = 7;
/// Where a record's header has the number of data words.
pub const TRACE_EXTRA_SHIFT: u32 = 28;
/// In a record's header: the counter follows.
pub const TRC_HD_CYCLE_FLAG: u32 = 1 << 31;
/// The event's class is above this, its subclass (a bit of four) from [`TRC_SUBCLS_SHIFT`] to here.
pub const TRC_CLS_SHIFT: u32 = 16;
/// The lowest bit of an event's subclass.
pub const TRC_SUBCLS_SHIFT: u32 = 12;

/// All events of the trace itself.
pub const TRC_GEN: u32 = 0x0001_f000;
/// All events of the scheduler.
pub const TRC_SCHED: u32 = 0x0002_f000;
/// All events of the toolstack's operations.
pub const TRC_DOM0OP: u32 = 0x0004_f000;
/// All events of guests with hardware virtualisation.
pub const TRC_HVM: u32 = 0x0008_f000;
/// All events of memory management.
pub const TRC_MEM: u32 = 0x0010_f000;
/// All events of the hardware.
pub const TRC_HW: u32 = 0x0080_f000;
/// All events: what is traced until a tool says otherwise.
pub const TRC_ALL: u32 = 0x0fff_f000;

/// Runstates and nothing else.
pub const TRC_SCHED_MIN: u32 = 0x0002_1000;
/// The rest of the scheduler that does not depend on which it is.
pub const TRC_SCHED_VERBOSE: u32 = 0x0002_8000;
/// Exits of guests and entries.
pub const TRC_HVM_ENTRYEXIT: u32 = 0x0008_1000;
/// What is done for a guest between them.
pub const TRC_HVM_HANDLER: u32 = 0x0008_2000;
/// Interrupts.
pub const TRC_HW_IRQ: u32 = 0x0080_2000;
/// Domains come and go.
pub const TRC_DOM0_DOMOPS: u32 = 0x0004_1000;

/// Records were lost: how many, the vCPU that runs (id << 16 | domain), and the counter at the first in two words.
pub const TRC_LOST_RECORDS: u32 = TRC_GEN + 1;
/// Fills the end of a ring where the next record does not fit.
pub const TRC_TRACE_WRAP_BUFFER: u32 = TRC_GEN + 2;
/// Written by `xentrace`, not by the hypervisor: what follows was in the ring of this CPU; so many bytes.
pub const TRC_TRACE_CPU_CHANGE: u32 = TRC_GEN + 3;

/// A vCPU (domain << 16 | id) changes its runstate: bits 11:8 of the event are the old one, bits 7:4 the new.
pub const TRC_SCHED_RUNSTATE_CHANGE: u32 = TRC_SCHED_MIN + 1;
/// A vCPU (domain << 16 | id) keeps its CPU.
pub const TRC_SCHED_CONTINUE_RUNNING: u32 = TRC_SCHED_MIN + 2;
/// A domain is new.
pub const TRC_SCHED_DOM_ADD: u32 = TRC_SCHED_VERBOSE + 1;
/// A domain is gone.
pub const TRC_SCHED_DOM_REM: u32 = TRC_SCHED_VERBOSE + 2;
/// A vCPU (domain, id) is stopped.
pub const TRC_SCHED_SLEEP: u32 = TRC_SCHED_VERBOSE + 3;
/// A vCPU (domain, id) may run.
pub const TRC_SCHED_WAKE: u32 = TRC_SCHED_VERBOSE + 4;
/// A vCPU (domain, id) gives way.
pub const TRC_SCHED_YIELD: u32 = TRC_SCHED_VERBOSE + 5;
/// A vCPU (domain, id) waits for an event.
pub const TRC_SCHED_BLOCK: u32 = TRC_SCHED_VERBOSE + 6;
/// From one vCPU (domain, id) to another (domain, id). An idle CPU runs [`crate::xen::DOMID_IDLE`].
pub const TRC_SCHED_SWITCH: u32 = TRC_SCHED_VERBOSE + 10;
/// The vCPU (domain, id) before a switch, and how many nanoseconds it ran.
pub const TRC_SCHED_SWITCH_INFPREV: u32 = TRC_SCHED_VERBOSE + 14;
/// The vCPU (domain, id) after a switch, how many nanoseconds it waited, and its slice.
pub const TRC_SCHED_SWITCH_INFNEXT: u32 = TRC_SCHED_VERBOSE + 15;
/// A vCPU (domain, id) keeps its CPU: how many nanoseconds it has run, and its slice.
pub const TRC_SCHED_SWITCH_INFCONT: u32 = TRC_SCHED_VERBOSE + 17;

/// A domain was created.
pub const TRC_DOM0_DOM_ADD: u32 = TRC_DOM0_DOMOPS + 1;
/// A domain was destroyed.
pub const TRC_DOM0_DOM_REM: u32 = TRC_DOM0_DOMOPS + 2;

/// A grant of a domain was mapped.
pub const TRC_MEM_PAGE_GRANT_MAP: u32 = TRC_MEM + 1;
/// A mapping of a domain's grant was taken back.
pub const TRC_MEM_PAGE_GRANT_UNMAP: u32 = TRC_MEM + 2;

/// The vCPU is entered.
pub const TRC_HVM_VMENTRY: u32 = TRC_HVM_ENTRYEXIT + 1;
/// In an event's number: its addresses are two words.
pub const TRC_64_FLAG: u32 = 0x100;
/// The vCPU was left: the reason, and the program counter in two words. Xen has no reasons for Arm: they are [`own`]'s.
pub const TRC_HVM_VMEXIT64: u32 = TRC_HVM_ENTRYEXIT + TRC_64_FLAG + 2;
/// A hypercall: its number. Xenolith adds the low words of x0 and x1.
pub const TRC_HVM_VMMCALL: u32 = TRC_HVM_HANDLER + 0x12;

/// A physical interrupt was handled: its number, the low words of the counter before and after.
pub const TRC_HW_IRQ_HANDLED: u32 = TRC_HW_IRQ + 8;

wire! {
    /// `struct t_buf`: the head of a CPU's ring. Both are offsets into what follows, modulo twice its size.
    TBuf, 8 bytes {
        /// Where the tool goes on reading. The tool's.
        0 => cons: u32,
        /// Where the hypervisor goes on writing. The hypervisor's.
        4 => prod: u32,
    }
}
