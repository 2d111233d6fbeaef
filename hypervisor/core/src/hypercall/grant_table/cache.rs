//! `GNTTABOP_cache_flush`: a domain that uses machine addresses for DMA cleans the cache for a page of its own or one granted to it.

use super::{BUDGET, CMD_BITS, Call};
use crate::addr::{MachineAddr, Mfn, PAGE_SIZE, Vmid};
use crate::hypercall::Outcome;
use crate::preempt::steps;
use guest_abi::errno::Errno;
use guest_abi::grant_table::{self as abi, CacheFlush};

/// Entries of a granter's table looked at in one step: progress is kept in the command's upper bits.
const ENTRIES: u32 = 1 << CMD_BITS;

/// Flushes for each operation; the first that is refused ends the list. `progress`: where the search for the first one's grant goes on.
pub(super) fn cache_flush(call: &Call<'_, '_>, progress: u32) -> Outcome {
    let now = call.count.min(steps(BUDGET));
    let mut from = progress;
    for i in 0..now {
        match call.at(i).and_then(|at| Ok(call.caller.memory.read(at)?)).and_then(|op| flush(call, &op, &mut from)) {
            Ok(true) => from = 0,
            Ok(false) => return call.after::<CacheFlush>(i, from),
            Err(error) => return Err(error).into(),
        }
    }
    call.after::<CacheFlush>(now, 0)
}

/// Whether it is done; if not, it goes on at entry `from` of the granter's table.
fn flush(call: &Call<'_, '_>, op: &CacheFlush, from: &mut u32) -> Result<bool, Errno> {
    let (offset, length) = (u64::from(op.offset), u64::from(op.length));
    if offset >= PAGE_SIZE || offset + length > PAGE_SIZE || op.op & !(abi::GNTTAB_CACHE_CLEAN | abi::GNTTAB_CACHE_INVAL) != 0 {
        return Err(Errno::EINVAL);
    }
    if length == 0 || op.op == 0 {
        return if *from == 0 { Ok(true) } else { Err(Errno::EILSEQ) };
    }
    let mfn = Mfn::containing(MachineAddr(op.dev_bus_addr));
    let owner = call.hv.frames.info(mfn).ok_or(Errno::EINVAL)?.owner;
    if owner == Vmid(0) || !call.hv.frames.get(mfn, owner) {
        return Err(Errno::EPERM);
    }
    let result = may_flush(call, mfn, owner, from);
    if result == Ok(true) {
        let at = MachineAddr(mfn.address().0 + offset);
        // Invalidating alone would bring back what another owner of the line has overwritten: clean as well.
        if op.op & abi::GNTTAB_CACHE_INVAL != 0 {
            call.hv.machine.clean_invalidate(at, length as usize);
        } else {
            call.hv.machine.clean(at, length as usize);
        }
    }
    call.hv.frames.put(mfn);
    result
}

/// Whether the page is the caller's own, or in use by it as a grant.
fn may_flush(call: &Call<'_, '_>, mfn: Mfn, owner: Vmid, from: &mut u32) -> Result<bool, Errno> {
    if owner == call.caller.domain.vmid {
        return Ok(true);
    }
    let granter = call.hv.domains.by_vmid(owner).ok_or(Errno::EPERM)?;
    match granter.grants.is_granted(mfn, call.caller.domain.id, from, ENTRIES) {
        Some(true) => Ok(true),
        Some(false) => Err(Errno::EINVAL),
        None => Ok(false),
    }
}
