//! Exits and interrupts as the trace has them.

use guest_abi::trace::own::{EXIT_IRQ, EXIT_REASONS, EXIT_SERROR};
use guest_abi::trace::{TRC_HVM_VMEXIT64, TRC_HVM_VMMCALL, TRC_HW_IRQ_HANDLED};
use xenolith_core::exit::{Exit, RawExit, Vector};

use super::{After, Runner};

impl Runner {
    /// Records an exit, then does what it asks for.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_traced(&mut self, raw: RawExit) -> After {
        let trace = &self.hv.trace;
        if let Some(loaded) = &mut self.loaded {
            let reason = match raw.vector {
                Vector::Irq | Vector::Fiq => EXIT_IRQ,
                Vector::SError => EXIT_SERROR,
                Vector::Synchronous => Some((raw.esr >> 26) as u32 & 0x3f).filter(|class| *class < EXIT_REASONS).unwrap_or(0),
            };
            let context = loaded.context();
            trace.record(TRC_HVM_VMEXIT64, || [reason, context.pc as u32, (context.pc >> 32) as u32]);
            if Exit::decode(raw) == Exit::Hypercall {
                trace.record(TRC_HVM_VMMCALL, || [context.x[16] as u32, context.x[0] as u32, context.x[1] as u32]);
            }
        }
        let after = self.handle(raw);
        self.hv.tell_of_trace();
        after
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
