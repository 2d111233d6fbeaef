//! `console_io`: Dom0's hvc console on the serial line, and what domains built at boot say before they have another console. Source: public/xen.h, `CONSOLEIO_*`.

use super::{Caller, Outcome};
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::preempt::steps;
use guest_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use guest_abi::errno::Errno;

/// Bytes moved before the guest may take an interrupt.
const BUDGET: usize = 512;

/// Write: the bytes are printed, those of Dom0 verbatim. Read: returns how many bytes came in on the serial line.
/// `-EPERM` for a domain that does not own the console, `-E2BIG` more than 2 GiB to read, `-ENOSYS` other commands.
#[inline(never)]
pub fn console_io(hv: &Hypervisor, caller: &Caller<'_>, cmd: u32, count: u32, buffer: u64) -> Outcome {
    if !caller.domain.privileged && !caller.domain.is_console {
        return Err(Errno::EPERM).into();
    }
    let buffer = GuestPtr::<u8>::new(buffer);
    let mut bytes = [0; BUDGET];
    let wanted = (count as usize).min(steps(BUDGET));
    match cmd {
        CONSOLEIO_WRITE => {
            let chunk = bytes.get_mut(..wanted).unwrap_or_default();
            if let Err(fault) = caller.memory.read_bytes(buffer.va(), chunk) {
                return Err(Errno::from(fault)).into();
            }
            if caller.domain.privileged {
                hv.print(chunk);
            } else {
                hv.mutter(caller.domain, chunk);
            }
            let left = u64::from(count) - wanted as u64;
            match buffer.offset(wanted as u64) {
                Some(rest) if left > 0 => Outcome::Again([u64::from(cmd), left, rest.va().0, 0, 0]),
                _ => Outcome::Return(0),
            }
        }
        // More cannot be told by what the call returns.
        CONSOLEIO_READ if i32::try_from(count).is_err() => Err(Errno::E2BIG).into(),
        CONSOLEIO_READ => {
            if !caller.domain.privileged {
                return Outcome::Return(0);
            }
            let n = hv.console.lock().take_input(bytes.get_mut(..wanted).unwrap_or_default());
            caller.memory.write_bytes(buffer.va(), bytes.get(..n).unwrap_or_default()).map(|()| n as i64).map_err(Errno::from).into()
        }
        _ => Err(Errno::ENOSYS).into(),
    }
}
