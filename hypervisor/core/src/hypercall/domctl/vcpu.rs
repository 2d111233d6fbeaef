//! The toolstack and a vCPU: its registers and where it may run.

use super::{Request, Step};
use crate::addr::GuestVa;
use crate::context::VcpuContext;
use crate::domain::Domain;
use crate::guest_memory::GuestPtr;
use crate::hypercall::Caller;
use crate::sched::Affinity;
use crate::vcpu::{DOWN, INSPECTED, Vcpu};
use alloc::sync::Arc;
use guest_abi::arch_arm as arch;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;
use guest_abi::xen::XenctlBitmap;

/// PSTATE modes a guest may be started in: EL0t, EL1t, EL1h.
const MODES: [u64; 3] = [0, 4, 5];
const MODE_MASK: u64 = 0x1f;
/// PSTATE bits a guest may be started with: flags, masks and mode; never the illegal-state, stepping or reserved bits.
const PSTATE_ALLOWED: u64 = 0xf000_03df;

pub fn set_context(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::VcpuContext = request.payload()?;
    if domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    let vcpu = domain.vcpu(wanted.vcpu).ok_or(Errno::ENOENT)?;
    if wanted.ctxt == 0 {
        vcpu.set_has_registers(false);
        request.hv.stop(vcpu, DOWN);
        return Ok(());
    }
    let given = request.caller.memory.read(GuestPtr::<arch::VcpuGuestContext>::new(wanted.ctxt))?;
    let regs = &given.user_regs;
    if !MODES.contains(&(regs.cpsr & MODE_MASK)) || regs.cpsr & !PSTATE_ALLOWED != 0 {
        return Err(Errno::EINVAL);
    }
    // It does not run: nobody but the toolstack starts it, and a running one is refused.
    let mut context = vcpu.context.try_lock().filter(|_| vcpu.running_on().is_none()).ok_or(Errno::EBUSY)?;
    let mut fresh = VcpuContext { pc: regs.pc64, pstate: regs.cpsr, ..VcpuContext::default() };
    fresh.x = regs.x;
    fresh.sys = context.sys.clone();
    fresh.sys.sp_el0 = regs.sp_el0;
    fresh.sys.sp_el1 = regs.sp_el1;
    fresh.sys.elr_el1 = regs.elr_el1;
    fresh.sys.spsr_el1 = regs.spsr_el1;
    fresh.sys.sctlr_el1 = given.sctlr;
    fresh.sys.tcr_el1 = given.ttbcr;
    fresh.sys.ttbr0_el1 = given.ttbr0;
    fresh.sys.ttbr1_el1 = given.ttbr1;
    *context = fresh;
    drop(context);
    vcpu.set_has_registers(true);
    if given.flags & arch::VGCF_ONLINE != 0 {
        request.hv.start(vcpu, DOWN);
    } else {
        request.hv.stop(vcpu, DOWN);
    }
    Ok(())
}

/// One that runs is stopped until its registers have been read.
pub fn get_context(request: &Request<'_>, domain: &Arc<Domain>) -> Result<Step, Errno> {
    let wanted: abi::VcpuContext = request.payload()?;
    if domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    let vcpu = domain.vcpu(wanted.vcpu).ok_or(Errno::EINVAL)?;
    if !vcpu.has_registers() {
        return Err(Errno::ENODATA);
    }
    let Some(context) = vcpu.context.try_lock().map(|context| context.clone()) else {
        request.hv.stop(vcpu, INSPECTED);
        request.hv.unload(vcpu);
        return Ok(Step::Wait);
    };
    if vcpu.flags() & INSPECTED != 0 {
        request.hv.start(vcpu, INSPECTED);
    }
    let mut given = arch::VcpuGuestContext { flags: if vcpu.online() { arch::VGCF_ONLINE } else { 0 }, ..Default::default() };
    given.user_regs.x = context.x;
    given.user_regs.pc64 = context.pc;
    given.user_regs.cpsr = context.pstate;
    given.user_regs.sp_el0 = context.sys.sp_el0;
    given.user_regs.sp_el1 = context.sys.sp_el1;
    given.user_regs.elr_el1 = context.sys.elr_el1;
    given.user_regs.spsr_el1 = context.sys.spsr_el1;
    given.sctlr = context.sys.sctlr_el1;
    given.ttbcr = context.sys.tcr_el1;
    given.ttbr0 = context.sys.ttbr0_el1;
    given.ttbr1 = context.sys.ttbr1_el1;
    request.caller.memory.write(GuestPtr::new(wanted.ctxt), &given)?;
    request.reply(&wanted).map(|()| Step::Done(0))
}

/// The vCPU that an affinity call names: `-EINVAL` one that cannot be, no flags, or no bitmap for a flag; `-ESRCH` one that is not yet.
fn affinity_of<'a>(domain: &'a Domain, wanted: &abi::VcpuAffinity) -> Result<&'a Arc<Vcpu>, Errno> {
    let missing = |flag: u32, map: &XenctlBitmap| wanted.flags & flag != 0 && map.bitmap == 0;
    if wanted.vcpu >= domain.max_vcpus
        || wanted.flags == 0
        || missing(abi::XEN_VCPUAFFINITY_HARD, &wanted.cpumap_hard)
        || missing(abi::XEN_VCPUAFFINITY_SOFT, &wanted.cpumap_soft)
    {
        return Err(Errno::EINVAL);
    }
    domain.vcpu(wanted.vcpu).ok_or(Errno::ESRCH)
}

pub fn set_affinity(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::VcpuAffinity = request.payload()?;
    let hv = request.hv;
    let vcpu = affinity_of(domain, &wanted)?;
    let online = hv.sched.online();
    let mut affinity = hv.sched.affinity(vcpu.sched).ok_or(Errno::ESRCH)?;
    if wanted.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        affinity.hard = read_bitmap(request.caller, &wanted.cpumap_hard)?;
        if affinity.hard & online == 0 {
            return Err(Errno::EINVAL);
        }
    }
    if wanted.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        // It may be all out of reach: then only the hard affinity counts, and the tools warn.
        affinity.soft = read_bitmap(request.caller, &wanted.cpumap_soft)?;
    }
    let kick = hv.sched.set_affinity(vcpu.sched, affinity, hv.now());
    (0..64_u8).filter(|cpu| kick & 1 << cpu != 0).for_each(|cpu| hv.machine.kick(crate::addr::CpuId(cpu)));
    if wanted.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        write_bitmap(request.caller, &wanted.cpumap_hard, affinity.hard & online)?;
    }
    if wanted.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        write_bitmap(request.caller, &wanted.cpumap_soft, affinity.soft & affinity.hard & online)?;
    }
    Ok(())
}

pub fn get_affinity(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let wanted: abi::VcpuAffinity = request.payload()?;
    let vcpu = affinity_of(domain, &wanted)?;
    let Affinity { hard, soft } = request.hv.sched.affinity(vcpu.sched).ok_or(Errno::ESRCH)?;
    if wanted.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        write_bitmap(request.caller, &wanted.cpumap_hard, hard)?;
    }
    if wanted.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        write_bitmap(request.caller, &wanted.cpumap_soft, soft)?;
    }
    Ok(())
}

/// The one NUMA node there is.
pub fn get_node_affinity(request: &Request<'_>) -> Result<(), Errno> {
    let wanted: abi::NodeAffinity = request.payload()?;
    write_bitmap(request.caller, &wanted.nodemap, 1)
}

/// Bytes of a guest bitmap that are looked at: more CPUs than there can be.
const BITMAP_BYTES: u32 = 16;

/// The first 64 bits of a guest's bitmap.
pub fn read_bitmap(caller: &Caller<'_>, map: &XenctlBitmap) -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    let n = (map.nr_bits.div_ceil(8) as usize).min(bytes.len());
    caller.memory.read_bytes(GuestVa(map.bitmap), bytes.get_mut(..n).unwrap_or_default())?;
    let bits = u64::from_le_bytes(bytes);
    Ok(if map.nr_bits < 64 { bits & ((1 << map.nr_bits) - 1) } else { bits })
}

/// Writes `bits`, and zeros for what the guest's bitmap has beyond, up to the number of CPUs there can be.
pub fn write_bitmap(caller: &Caller<'_>, map: &XenctlBitmap, bits: u64) -> Result<(), Errno> {
    let bits = if map.nr_bits < 64 { bits & ((1 << map.nr_bits) - 1) } else { bits };
    let mut bytes = [0; BITMAP_BYTES as usize];
    for (to, from) in bytes.iter_mut().zip(bits.to_le_bytes()) {
        *to = from;
    }
    let n = (map.nr_bits.div_ceil(8) as usize).min(bytes.len());
    caller.memory.write_bytes(GuestVa(map.bitmap), bytes.get(..n).unwrap_or_default())?;
    Ok(())
}
