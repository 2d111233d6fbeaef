//! Exits and interrupts as the trace has them.

use guest_abi::trace::own::{EXIT_IRQ, EXIT_REASONS, EXIT_SERROR};
use guest_abi::trace::{TRC_HVM_VMENTRY, TRC_HVM_VMEXIT64, TRC_HVM_VMMCALL, TRC_HW_IRQ_HANDLED};
use xenolith_core::exit::{HYPERCALL_TAG, RawExit, Vector};
use xenolith_core::hypervisor::Hypervisor;

use super::Runner;

/// The exception class of `hvc`, executed in AArch64.
const HVC64: u32 = 0x16;

/// Records that the vCPU is entered.
#[cold]
#[inline(never)]
pub(super) fn entry(hv: &Hypervisor) {
    hv.trace.record(TRC_HVM_VMENTRY, || []);
}

impl Runner {
    /// Records an exit, and tells Dom0 if that is due.
    #[cold]
    #[inline(never)]
    pub(super) fn trace_exit(&mut self, raw: RawExit) {
        let trace = &self.hv.trace;
        if let Some(loaded) = &mut self.loaded {
            let reason = match raw.vector {
                Vector::Irq | Vector::Fiq => EXIT_IRQ,
                Vector::SError => EXIT_SERROR,
                Vector::Synchronous => Some((raw.esr >> 26) as u32 & 0x3f).filter(|class| *class < EXIT_REASONS).unwrap_or(0),
            };
            let context = loaded.context();
            trace.record(TRC_HVM_VMEXIT64, || [reason, context.pc as u32, (context.pc >> 32) as u32]);
            // Not by `Exit::decode`: with a second caller it would not be inlined where it matters.
            if reason == HVC64 && raw.esr & 0xffff == HYPERCALL_TAG {
                trace.record(TRC_HVM_VMMCALL, || [context.x[16] as u32, context.x[0] as u32, context.x[1] as u32]);
            }
        }
        self.hv.tell_of_trace();
    }

    /// Takes a physical interrupt, and records it.
    #[cold]
    #[inline(never)]
    pub(super) fn take_traced(&mut self, intid: u32) {
        let start = self.hv.machine.ticks() as u32;
        self.take(intid);
        let end = self.hv.machine.ticks() as u32;
        self.hv.trace.record(TRC_HW_IRQ_HANDLED, || [intid, start, end]);
    }
}
