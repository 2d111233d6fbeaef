//! The emulated UART of a domain that the toolstack builds (`vuart = "sbsa_uart"`).

use super::Request;
use crate::addr::{DomainId, Gfn};
use crate::domain::Domain;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use guest_abi::domctl as abi;
use guest_abi::errno::Errno;

/// `-EPERM` once the domain has run, `-EOPNOTSUPP` another UART, `-EINVAL` a second one or a page that is not the domain's.
pub fn vuart_op(request: &Request<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    let mut wanted: abi::VuartOp = request.payload()?;
    if wanted.cmd != abi::XEN_DOMCTL_VUART_OP_INIT {
        return Err(Errno::EINVAL);
    }
    if domain.creation_finished.load(Ordering::SeqCst) {
        return Err(Errno::EPERM);
    }
    if wanted.kind != abi::XEN_DOMCTL_VUART_TYPE_VPL011 {
        return Err(Errno::EOPNOTSUPP);
    }
    let frames = &request.hv.frames;
    let page = domain.p2m.get_ram(frames, Gfn(wanted.gfn), true).ok_or(Errno::EINVAL)?;
    let port = request.hv.add_ring_uart(domain, page, DomainId(wanted.console_domid)).inspect_err(|_| frames.put(page))?;
    wanted.evtchn = port;
    request.reply(&wanted)
}
