//! Stage-2 faults: emulated devices, and addresses where nothing is.

use xenolith_core::addr::{Gfn, GuestVa, Ipa, Mfn};
use xenolith_core::domain::Domain;
use xenolith_core::exit::{Abort, Fault};
use xenolith_core::guest_memory::Stage1;
use xenolith_core::inject::Exception;
use xenolith_core::its::Written;
use xenolith_core::mmio::{Access, decode_post_indexed};
use xenolith_core::p2m::Mapping;

use super::Runner;
use crate::translate;

impl Runner {
    /// `bytes`: those of the instruction.
    pub(super) fn data_abort(&mut self, abort: Abort, access: Option<Access>, bytes: u64) {
        let Some(loaded) = &mut self.loaded else { return };
        let va = abort.va.unwrap_or_default();
        let Some(ipa) = address(&abort) else { return self.refuse_data(va, bytes) };
        if is_spurious(&loaded.domain, &abort, ipa) {
            return;
        }
        if abort.walk || abort.cache_maintenance {
            return self.refuse_data(va, bytes);
        }
        let (access, post) = match access {
            Some(access) => (access, None),
            None => match self.fetch().and_then(decode_post_indexed) {
                Some(decoded) => (decoded.access, Some(decoded)),
                None => return self.refuse_data(va, bytes),
            },
        };
        match self.emulate(ipa, access) {
            Written::Done => {}
            Written::Again => return,
            Written::Refused => return self.refuse_data(va, bytes),
        }
        if let (Some(post), Some(loaded)) = (post, &mut self.loaded) {
            loaded.write_back(&post);
        }
        self.advance_by(bytes);
    }

    pub(super) fn instruction_abort(&mut self, abort: Abort) {
        let Some(loaded) = &mut self.loaded else { return };
        match address(&abort) {
            Some(ipa) if is_spurious(&loaded.domain, &abort, ipa) => {}
            _ => self.inject(Exception::InstructionAbort(abort.va.unwrap_or_default())),
        }
    }

    /// Performs an access to an emulated device, if one is there.
    fn emulate(&mut self, ipa: Ipa, access: Access) -> Written {
        let Some(loaded) = &mut self.loaded else { return Written::Refused };
        let id = loaded.vcpu.id;
        if access.write {
            let value = access.value(loaded.context());
            match loaded.domain.vgic.write(self.hv.machine, id, ipa, access.size, value) {
                Some(Ok(notice)) => {
                    notice.iter().filter_map(|vcpu| loaded.domain.vcpu(vcpu)).for_each(|vcpu| self.hv.notice(vcpu));
                    Written::Done
                }
                Some(Err(_)) => Written::Refused,
                None if self.hv.uart_write(&loaded.domain, ipa, access.size, value) => Written::Done,
                None => self.hv.its_write(&loaded.domain, ipa, access.size, value),
            }
        } else {
            let value = match loaded.domain.vgic.read(id, ipa, access.size) {
                Some(value) => value.ok(),
                None => {
                    let uart = self.hv.uart_read(&loaded.domain, ipa, access.size);
                    uart.or_else(|| self.hv.its_read(&loaded.domain, ipa, access.size))
                }
            };
            let Some(value) = value else { return Written::Refused };
            access.complete(loaded.context(), value);
            Written::Done
        }
    }

    fn refuse_data(&mut self, va: GuestVa, bytes: u64) {
        self.inject(Exception::DataAbort { va, bytes });
    }

    /// The instruction at the program counter.
    fn fetch(&mut self) -> Option<u32> {
        let loaded = self.loaded.as_mut()?;
        const AARCH32: u64 = 1 << 4;
        let context = loaded.context();
        if context.pstate & AARCH32 != 0 {
            return None;
        }
        let pc = GuestVa(context.pc);
        let at = translate::Loaded(&loaded.domain.p2m).translate(pc, false).filter(|at| at.is_aligned(4))?;
        // Only the guest's own RAM is looked at.
        let frame = Mfn::containing(at);
        if !self.hv.frames.get_ram(frame, loaded.vcpu.vmid) {
            return None;
        }
        let instruction = self.hv.machine.load_u32(at);
        self.hv.frames.put(frame);
        Some(instruction)
    }
}

/// Where it happened: as reported, or found by translating.
fn address(abort: &Abort) -> Option<Ipa> {
    abort.ipa.or_else(|| translate::translate_stage1(abort.va?, abort.write))
}

/// Whether the access is allowed after all: another CPU was changing the entry (break before make).
fn is_spurious(domain: &Domain, abort: &Abort, ipa: Ipa) -> bool {
    let allowed = |mapping: Mapping| !abort.write || mapping.kind.write_permitted();
    abort.fault == Fault::Translation && domain.p2m.lookup(Gfn::containing(ipa)).is_some_and(allowed)
}
