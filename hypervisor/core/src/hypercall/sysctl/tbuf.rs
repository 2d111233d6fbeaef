//! Trace buffers. Source: public/sysctl.h, `xen_sysctl_tbuf_op`; the answers are those of Debian's Xen 4.20.

use super::Request;
use crate::addr::{CpuId, Mfn, Vmid};
use crate::frames::{FrameKind, MAX_ORDER};
use crate::hypercall::domctl::read_bitmap;
use crate::hypervisor::Hypervisor;
use crate::trace::{MAX_PAGES, Trace};
use alloc::vec::Vec;
use guest_abi::errno::Errno;
use guest_abi::sysctl::{self as abi, TbufOp};

#[cfg(test)]
mod tests;

/// The owner of the pages: the hypervisor, for which `DOMID_XEN` stands.
pub const OWNER: Vmid = Vmid(0);

/// `-EINVAL`: no such operation, nothing to enable, no size or not the one it is. `-EBUSY`: it has that size. `-ENOMEM`, `-EFAULT`.
pub fn tbuf_op(request: &Request<'_>) -> Result<(), Errno> {
    let mut op: TbufOp = request.payload()?;
    let hv = request.hv;
    match op.cmd {
        abi::XEN_SYSCTL_TBUFOP_GET_INFO => {
            let info = hv.trace.info();
            (op.evt_mask, op.buffer_mfn, op.size) = (info.events, info.mfn, info.size);
        }
        abi::XEN_SYSCTL_TBUFOP_SET_CPU_MASK => hv.trace.set_cpus(read_bitmap(request.caller, &op.cpu_mask)?),
        abi::XEN_SYSCTL_TBUFOP_SET_EVT_MASK => hv.trace.set_events(op.evt_mask),
        abi::XEN_SYSCTL_TBUFOP_SET_SIZE => {
            hv.trace.check_size(op.size)?;
            make(hv, op.size)?;
            look(hv);
        }
        abi::XEN_SYSCTL_TBUFOP_ENABLE => {
            hv.trace.enable()?;
            look(hv);
        }
        abi::XEN_SYSCTL_TBUFOP_DISABLE => hv.trace.disable(),
        _ => return Err(Errno::EINVAL),
    }
    request.reply(&op)
}

/// Makes buffers of `pages` pages for each CPU, or of as many as there can be.
fn make(hv: &Hypervisor, pages: u32) -> Result<(), Errno> {
    let cpus = u32::from(hv.fixed.cpus).max(1);
    let limit = MAX_PAGES / cpus;
    if pages > limit {
        log::info!("trace: {pages} pages for each CPU reduced to {limit}");
    }
    let pages = pages.min(limit);
    let order = Trace::info_pages(cpus, pages).next_power_of_two().ilog2();
    let mut taken = Taken { hv, pages: Vec::new() };
    taken.pages.try_reserve_exact((cpus * pages + (1 << order.min(MAX_ORDER))) as usize).map_err(|_| Errno::ENOMEM)?;
    let info = taken.take(order)?;
    let mut rings = Vec::new();
    rings.try_reserve_exact(cpus as usize).map_err(|_| Errno::ENOMEM)?;
    for _ in 0..cpus {
        let mut ring = Vec::new();
        ring.try_reserve_exact(pages as usize).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..pages {
            let page = taken.take(0)?;
            // The description has 32 bits for it.
            u32::try_from(page.0).map_err(|_| Errno::ENOMEM)?;
            ring.push(page);
        }
        rings.push(ring);
    }
    hv.trace.start(info, rings)?;
    taken.pages.clear();
    log::info!("trace: {pages} pages for each of {cpus} CPUs");
    Ok(())
}

/// Pages that go back unless they are used.
struct Taken<'a> {
    hv: &'a Hypervisor,
    pages: Vec<Mfn>,
}

impl Taken<'_> {
    fn take(&mut self, order: u32) -> Result<Mfn, Errno> {
        let first = self.hv.frames.allocate(OWNER, order, FrameKind::Xen).map_err(|_| Errno::ENOMEM)?;
        self.pages.extend((first.0..first.0 + (1 << order)).map(Mfn));
        Ok(first)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.pages.iter().for_each(|page| self.hv.frames.put(*page));
    }
}

/// Lets every CPU see that there is a trace: one that runs a guest looks only when it is asked for something.
fn look(hv: &Hypervisor) {
    for cpu in (0..hv.fixed.cpus).map(CpuId) {
        hv.sched.ask(cpu);
        hv.machine.kick(cpu);
    }
}
