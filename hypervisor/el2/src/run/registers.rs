//! Accesses to system registers that trap.

use core::arch::asm;

use xenolith_core::domain::destroy::Progress;
use xenolith_core::exit::SysReg;
use xenolith_core::inject::{Exception, is_user};
use xenolith_core::mmio::{register, set_register};
use xenolith_core::sysreg::{Action, Origin, decide};
use xenolith_core::vtimer::CNTKCTL_EL0PTEN;

use super::Runner;
use crate::sysreg::read;
use crate::timer;

impl Runner {
    pub(super) fn system_register(&mut self, which: SysReg, rt: u8, is_read: bool) {
        let Some(loaded) = &mut self.loaded else { return };
        let context = loaded.context();
        let from = if is_user(context.pstate) {
            Origin::User { physical_timer: read!("cntkctl_el1") & CNTKCTL_EL0PTEN != 0 }
        } else {
            Origin::Kernel
        };
        match decide(which, is_read, from, &host) {
            Action::Undefined => return self.inject(Exception::Undefined),
            Action::Read(value) => set_register(context, rt, value),
            Action::Ignore => {}
            Action::ReadActlr => set_register(context, rt, read!("actlr_el1")),
            Action::PhysicalTimer(timer_register) => {
                let value = register(context, rt);
                let mut timers = loaded.vcpu.timer.lock();
                if is_read {
                    let value = timers.read(timer_register, timer::ticks());
                    drop(timers);
                    set_register(loaded.context(), rt, value);
                } else {
                    timers.write(timer_register, timer::ticks(), value);
                    drop(timers);
                    loaded.expire_physical(self.hv);
                    self.set_deadline();
                }
            }
            Action::SendSgi => {
                let value = register(context, rt);
                let targets = loaded.domain.vgic.send_sgi(loaded.vcpu.id, value);
                targets.iter().filter_map(|vcpu| loaded.domain.vcpu(vcpu)).for_each(|vcpu| self.hv.notice(vcpu));
            }
            Action::FlushCaches => {
                if self.hv.clean_memory(&loaded.domain, &loaded.vcpu) == Progress::More {
                    return;
                }
            }
        }
        self.advance();
    }
}

/// Reads an ID register of this CPU. Encodings other than those that the policy asks for read as zero.
fn host(which: SysReg) -> u64 {
    macro_rules! identification {
        ($($crm:literal: $($op2:literal)+;)+) => {
            match (which.op0, which.op1, which.crn, which.crm, which.op2) {
                $($((3, 0, 0, $crm, $op2) => {
                    let value: u64;
                    // SAFETY: an ID register: reading it has no effect.
                    unsafe {
                        asm!(concat!("mrs {}, s3_0_c0_c", stringify!($crm), "_", stringify!($op2)), out(reg) value,
                            options(nomem, nostack, preserves_flags));
                    }
                    value
                })+)+
                _ => 0,
            }
        };
    }
    identification!(
        1: 0 1 2 3 4 5 6 7;
        2: 0 1 2 3 4 5 6 7;
        3: 0 1 2 3 4 5 6 7;
        4: 0 1 2 3 4 5 6 7;
        5: 0 1 2 3 4 5 6 7;
        6: 0 1 2 3 4 5 6 7;
        7: 0 1 2 3 4 5 6 7;
    )
}
