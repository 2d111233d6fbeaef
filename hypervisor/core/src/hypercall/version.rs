//! `xen_version`: what this hypervisor says it is: Xen 4.20, as the tools demand. Source: public/version.h, features.h.

use super::{Answer, Caller};
use crate::addr::GuestVa;
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use guest_abi::errno::Errno;
use guest_abi::version::{self as abi, CompileInfo, FeatureInfo, Features};

/// 4.20.
const VERSION: i64 = 4 << 16 | 20;
/// What follows 4.20.
const EXTRAVERSION: &str = ".4-xenolith";
const CAPABILITIES: &str = "xen-3.0-aarch64 ";
const CHANGESET: &str = "";
/// What an unprivileged domain gets for what is not its business.
const DENIED: &str = "<denied>";

/// Unknown commands answer `-ENOSYS`; a submap other than 0 `-EINVAL`.
pub fn xen_version(hv: &Hypervisor, caller: &Caller<'_>, cmd: u32, arg: u64) -> Answer {
    match cmd {
        abi::XENVER_VERSION => Ok(VERSION),
        _ => in_memory(hv, caller, cmd, arg),
    }
}

// Apart from the version, which needs no registers: guests ask it when they want nothing but a hypercall.
#[inline(never)]
fn in_memory(hv: &Hypervisor, caller: &Caller<'_>, cmd: u32, arg: u64) -> Answer {
    let privileged = caller.domain.privileged;
    match cmd {
        abi::XENVER_EXTRAVERSION => string::<16>(caller, arg, EXTRAVERSION),
        abi::XENVER_COMPILE_INFO => {
            let b = &hv.fixed.build;
            let show = |s: &'static str| if privileged { s } else { DENIED };
            let info = CompileInfo {
                compiler: padded(show(b.compiler)),
                compile_by: padded(show(b.by)),
                compile_domain: padded(show(b.domain)),
                compile_date: padded(show(b.date)),
            };
            caller.memory.write(GuestPtr::new(arg), &info)?;
            Ok(0)
        }
        abi::XENVER_CAPABILITIES => string::<1024>(caller, arg, CAPABILITIES),
        abi::XENVER_CHANGESET => string::<64>(caller, arg, CHANGESET),
        abi::XENVER_PLATFORM_PARAMETERS => {
            caller.memory.write(GuestPtr::new(arg), &0_u64)?;
            Ok(0)
        }
        abi::XENVER_GET_FEATURES => {
            let at = GuestPtr::<FeatureInfo>::new(arg);
            let mut info = caller.memory.read(at)?;
            if info.submap_idx != 0 {
                return Err(Errno::EINVAL);
            }
            info.submap = features(caller).bits();
            caller.memory.write(at, &info)?;
            Ok(0)
        }
        abi::XENVER_PAGESIZE if arg == 0 => Ok(4096),
        abi::XENVER_PAGESIZE => Err(Errno::EINVAL),
        abi::XENVER_GUEST_HANDLE => {
            let handle = *caller.domain.handle.lock();
            caller.memory.write_bytes(GuestVa(arg), &handle)?;
            Ok(0)
        }
        abi::XENVER_COMMANDLINE if privileged => string::<1024>(caller, arg, &hv.fixed.command_line),
        // As in Xen, not the whole field.
        abi::XENVER_COMMANDLINE => string::<{ DENIED.len() + 1 }>(caller, arg, DENIED),
        abi::XENVER_BUILD_ID if !privileged => Err(Errno::EPERM),
        abi::XENVER_BUILD_ID => Err(Errno::ENODATA),
        abi::XENVER_EXTRAVERSION2 => varbuf(caller, arg, EXTRAVERSION),
        abi::XENVER_CAPABILITIES2 => varbuf(caller, arg, CAPABILITIES),
        abi::XENVER_CHANGESET2 => varbuf(caller, arg, CHANGESET),
        abi::XENVER_COMMANDLINE2 if !privileged => Err(Errno::EPERM),
        abi::XENVER_COMMANDLINE2 => varbuf(caller, arg, &hv.fixed.command_line),
        _ => Err(Errno::ENOSYS),
    }
}

fn features(caller: &Caller<'_>) -> Features {
    let common = Features::WRITABLE_PAGE_TABLES
        | Features::AUTO_TRANSLATED_PHYSMAP
        | Features::MEMORY_OP_VNODE_SUPPORTED
        | Features::ARM_SMCCC_SUPPORTED
        | Features::RUNSTATE_PHYS_AREA;
    let role = if caller.domain.privileged { Features::DOM0 } else { Features::empty() };
    common | role | if caller.domain.direct_mapped { Features::DIRECT_MAPPED } else { Features::NOT_DIRECT_MAPPED }
}

/// `text` in a field of `N` bytes, cut to leave a final NUL.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = from;
    }
    field
}

fn string<const N: usize>(caller: &Caller<'_>, arg: u64, text: &str) -> Answer {
    caller.memory.write_bytes(GuestVa(arg), &padded::<N>(text))?;
    Ok(0)
}

/// `xen_varbuf_t`: a length, then as many bytes. Without a buffer the answer is the length needed.
fn varbuf(caller: &Caller<'_>, arg: u64, text: &str) -> Answer {
    let needed = text.len() as i64;
    if arg == 0 {
        return Ok(needed);
    }
    let room = caller.memory.read(GuestPtr::<u32>::new(arg))?;
    if (room as usize) < text.len() {
        return Err(Errno::ENOBUFS);
    }
    let body = GuestVa(arg).checked_add(4).ok_or(Errno::EFAULT)?;
    caller.memory.write_bytes(body, text.as_bytes())?;
    Ok(needed)
}
