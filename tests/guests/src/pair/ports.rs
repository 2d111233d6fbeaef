//! Operations on event channels, each a line where it is used: the port or 0, or the error.

use crate::runtime::hypercall::event;
use crate::runtime::page::Page;
use guest_abi::event_channel::*;

/// The page of the shared page in the window of either domain, see [`super::ops::map_shared`].
const SHARED: u64 = 0x40;

/// The own shared page.
pub fn shared() -> Page {
    Page::hole(SHARED)
}

/// The 64-bit word of a port in the bitmap of pending ports, and its bit; masks are 512 bytes behind.
pub fn bit(port: u64) -> (u64, u64) {
    (48 + port / 64 * 8, 1 << (port % 64))
}

/// Clears the pending bit of an own port; whether it was set.
pub fn take_pending(port: u64) -> bool {
    let (word, bit) = bit(port);
    shared().clear64(word, bit) != 0
}

fn port_or(rc: i64, port: u32) -> i64 {
    if rc == 0 { port.into() } else { rc }
}

/// Binds a port that domain `remote_dom` offers.
pub fn bind(remote_dom: u16, remote_port: u32) -> i64 {
    let mut op = BindInterdomain { remote_dom, remote_port, ..Default::default() };
    let rc = event(EVTCHNOP_BIND_INTERDOMAIN, &mut op);
    port_or(rc, op.local_port)
}

/// Binds a VIRQ.
pub fn bind_virq(virq: u32, vcpu: u32) -> i64 {
    let mut op = BindVirq { virq, vcpu, port: 0 };
    let rc = event(EVTCHNOP_BIND_VIRQ, &mut op);
    port_or(rc, op.port)
}

/// A port from one vCPU to another.
pub fn bind_ipi(vcpu: u32) -> i64 {
    let mut op = BindIpi { vcpu, port: 0 };
    let rc = event(EVTCHNOP_BIND_IPI, &mut op);
    port_or(rc, op.port)
}

/// Raises.
pub fn send(port: u32) -> i64 {
    event(EVTCHNOP_SEND, &mut Send { port })
}

/// Unmasks, and delivers what is pending.
pub fn unmask(port: u32) -> i64 {
    event(EVTCHNOP_UNMASK, &mut Unmask { port })
}

/// Leads events of a port to a vCPU.
pub fn bind_vcpu(port: u32, vcpu: u32) -> i64 {
    event(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port, vcpu })
}

/// Closes all ports of a domain.
pub fn reset(dom: u16) -> i64 {
    event(EVTCHNOP_RESET, &mut Reset { dom })
}

/// What a port is.
pub fn status(dom: u16, port: u32) -> (i64, Status) {
    let mut op = Status { dom, port, status: 0x77, ..Default::default() };
    (event(EVTCHNOP_STATUS, &mut op), op)
}

/// The control block of a vCPU, for the FIFO ABI.
pub fn init_control(control_gfn: u64, offset: u32, vcpu: u32) -> i64 {
    event(EVTCHNOP_INIT_CONTROL, &mut InitControl { control_gfn, offset, vcpu, ..Default::default() })
}

/// One more page of event words.
pub fn expand(array_gfn: u64) -> i64 {
    event(EVTCHNOP_EXPAND_ARRAY, &mut ExpandArray { array_gfn })
}

/// The queue of a port.
pub fn set_priority(port: u32, priority: u32) -> i64 {
    event(EVTCHNOP_SET_PRIORITY, &mut SetPriority { port, priority })
}
