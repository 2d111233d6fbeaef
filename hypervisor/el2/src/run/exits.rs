//! What each exit of a guest asks for.

use core::sync::atomic::Ordering;

use xenolith_core::aarch32::{debug_id, is_skipped, past_it};
use xenolith_core::addr::CpuId;
use xenolith_core::console::GUEST;
use xenolith_core::exit::{Exit, RawExit, instruction_bytes};
use xenolith_core::guest_memory::GuestMemory;
use xenolith_core::hypercall::{self, Caller, Outcome};
use xenolith_core::hypervisor::Hypervisor;
use xenolith_core::inject::{Exception, Interrupted, inject};
use xenolith_core::mmio::set_register;
use xenolith_core::vcpu::BLOCKED;
use xenolith_core::vgic::list_register::any_pending;

use super::loaded::Loaded;
use super::{After, Runner};
use crate::gic::list_registers::Hardware;
use crate::sysreg::{read, write};
use crate::translate;
use crate::vectors::{GO_ON, SERVED};

/// Bytes of an instruction.
const INSTRUCTION: u64 = 4;

/// Performs the hypercall that the loaded vCPU has just made, and says whether the guest may go on at once: see [`crate::vectors`], which
/// calls this. The vCPU's context has its x0 to x18, x29, x30, pc and PSTATE; x19 to x28 in there are old.
///
/// A vCPU that may not run any more needs no look of its own: who stops it, itself included, asks the CPU that runs it.
pub extern "C" fn serve_hypercall(runner: &mut Runner) -> u64 {
    let Some(loaded) = &mut runner.loaded else { return SERVED };
    if !hypercall(runner.hv, runner.cpu, loaded) || runner.call.is_asked() {
        return SERVED;
    }
    if loaded.has_interrupts() {
        loaded.fill(runner.hv);
    }
    GO_ON
}

/// Performs the hypercall that the registers ask for. `false`: it is to be made again, pc is at the HVC.
fn hypercall(hv: &Hypervisor, cpu: CpuId, loaded: &mut Loaded) -> bool {
    let (context, domain, vcpu) = loaded.parts();
    let outcome = {
        let stage1 = translate::Loaded(&domain.p2m);
        let memory = GuestMemory::new(&hv.frames, &stage1, vcpu.vmid);
        let caller = Caller { domain, vcpu, memory, cpu };
        let args = context.x.first_chunk().expect("x0 to x4");
        hypercall::dispatch(hv, &caller, context.x[16], args)
    };
    match outcome {
        Outcome::Return(value) => {
            context.x[0] = value as u64;
            true
        }
        Outcome::Again(args) => {
            context.x[..args.len()].copy_from_slice(&args);
            context.pc = context.pc.wrapping_sub(INSTRUCTION);
            false
        }
    }
}

impl Runner {
    pub(super) fn handle(&mut self, raw: RawExit) -> After {
        match Exit::decode(raw) {
            Exit::Interrupt => self.take_interrupts(),
            Exit::Hypercall => {
                if let Some(loaded) = &mut self.loaded {
                    hypercall(self.hv, self.cpu, loaded);
                }
            }
            Exit::Wfi | Exit::Wfe | Exit::SysReg { .. } | Exit::DebugId { .. } | Exit::Fp | Exit::Undefined if self.is_skipped(raw.esr) => {
                self.advance_by(instruction_bytes(raw.esr));
            }
            Exit::Wfi => {
                self.advance_by(instruction_bytes(raw.esr));
                return self.wait();
            }
            Exit::Wfe => {
                self.advance_by(instruction_bytes(raw.esr));
                self.hv.sched.yield_now(self.cpu, self.hv.now());
                return After::Reschedule;
            }
            Exit::Smccc(conduit) => return self.firmware_call(conduit),
            Exit::SysReg { register, rt, read } => self.system_register(register, rt, read),
            Exit::DebugId { rt } => self.debug_id(rt),
            Exit::DataAbort { abort, access } => self.data_abort(abort, access, instruction_bytes(raw.esr)),
            Exit::InstructionAbort(abort) => self.instruction_abort(abort),
            Exit::Undefined | Exit::Fp => self.inject(Exception::Undefined),
            Exit::SError { esr } => self.crash_guest("system error", esr),
            Exit::Unknown { esr } => self.crash_guest("unexpected exception", esr),
        }
        After::Resume
    }

    /// The vCPU has nothing to do until an interrupt is pending, whether it masks it or not.
    pub(super) fn wait(&mut self) -> After {
        let Some(loaded) = &self.loaded else { return After::Reschedule };
        let pending = |loaded: &Loaded| loaded.domain.vgic.has_deliverable(loaded.vcpu.id);
        if pending(loaded) || any_pending(&Hardware) {
            return After::Resume;
        }
        loaded.vcpu.set(BLOCKED);
        // What was raised before that was set is seen here; what is raised after sees it.
        core::sync::atomic::fence(Ordering::SeqCst);
        if pending(loaded) {
            loaded.vcpu.clear(BLOCKED);
            return After::Resume;
        }
        After::Reschedule
    }

    /// Whether the instruction that trapped is one of AArch32 that does nothing, for its condition does not hold.
    fn is_skipped(&mut self, esr: u64) -> bool {
        self.loaded.as_mut().is_some_and(|loaded| is_skipped(esr, loaded.context().pstate))
    }

    fn debug_id(&mut self, rt: u8) {
        let Some(loaded) = &mut self.loaded else { return };
        set_register(loaded.context(), rt, debug_id(read!("midr_el1")));
        self.advance();
    }

    /// Past the instruction that trapped.
    pub(super) fn advance(&mut self) {
        self.advance_by(INSTRUCTION);
    }

    pub(super) fn advance_by(&mut self, bytes: u64) {
        if let Some(loaded) = &mut self.loaded {
            let context = loaded.context();
            context.pc = context.pc.wrapping_add(bytes);
            context.pstate = past_it(context.pstate);
        }
    }

    /// Makes the guest take an exception at EL1.
    pub(super) fn inject(&mut self, exception: Exception) {
        let Some(loaded) = &mut self.loaded else { return };
        let context = loaded.context();
        let at = Interrupted { pc: context.pc, pstate: context.pstate, vbar: read!("vbar_el1"), sctlr: read!("sctlr_el1") };
        let injection = inject(exception, at);
        context.pc = injection.pc;
        context.pstate = injection.pstate;
        // SAFETY: EL1 registers, which no code of EL2 depends on.
        unsafe {
            write!("elr_el1", injection.elr);
            write!("spsr_el1", injection.spsr);
            write!("esr_el1", injection.esr);
            if let Some(far) = injection.far {
                write!("far_el1", far);
            }
        }
    }

    fn crash_guest(&mut self, what: &str, esr: u64) {
        let Some(loaded) = &mut self.loaded else { return };
        let pc = loaded.context().pc;
        log::warn!(target: GUEST, "{:?}v{}: {what}, syndrome {esr:#x}, at {pc:#x}", loaded.domain.id, loaded.vcpu.id);
        self.hv.crash(&loaded.domain, what);
    }
}
