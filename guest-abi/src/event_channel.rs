//! `event_channel_op`: interrupts between domains. Source: xen/include/public/event_channel.h.
//!
//! The shared memory side, with the bits of an event word, is in [`crate::shared_info`].

/// [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = 0;
/// [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = 1;
/// [`BindPirq`]. Not on Arm.
pub const EVTCHNOP_BIND_PIRQ: u32 = 2;
/// [`Close`].
pub const EVTCHNOP_CLOSE: u32 = 3;
/// [`Send`].
pub const EVTCHNOP_SEND: u32 = 4;
/// [`Status`].
pub const EVTCHNOP_STATUS: u32 = 5;
/// [`AllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = 6;
/// [`BindIpi`].
pub const EVTCHNOP_BIND_IPI: u32 = 7;
/// [`BindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u32 = 8;
/// [`Unmask`].
pub const EVTCHNOP_UNMASK: u32 = 9;
/// [`Reset`].
pub const EVTCHNOP_RESET: u32 = 10;
/// [`InitControl`].
pub const EVTCHNOP_INIT_CONTROL: u32 = 11;
/// [`ExpandArray`].
pub const EVTCHNOP_EXPAND_ARRAY: u32 = 12;
/// [`SetPriority`].
pub const EVTCHNOP_SET_PRIORITY: u32 = 13;

/// The port is free.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// It waits for its remote domain to bind.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// It is connected to a port of another domain.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// It is bound to a physical interrupt. Not on Arm.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// It is bound to a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// It is bound to itself.
pub const EVTCHNSTAT_IPI: u32 = 5;

wire! {
    /// `struct evtchn_alloc_unbound`: a new port that `remote_dom` may bind to.
    AllocUnbound, 8 bytes {
        /// In: whose port.
        0 => dom: u16,
        /// In: who may bind.
        2 => remote_dom: u16,
        /// Out.
        4 => port: u32,
    }
}
wire! {
    /// `struct evtchn_bind_interdomain`: a new port, connected to an unbound one of another domain.
    BindInterdomain, 12 bytes {
        /// In: the other domain.
        0 => remote_dom: u16,
        #[doc(hidden)]
        2 => _pad: u16,
        /// In: its port.
        4 => remote_port: u32,
        /// Out: the caller's port.
        8 => local_port: u32,
    }
}
wire! {
    /// `struct evtchn_bind_virq`: a new port for a virtual interrupt.
    BindVirq, 12 bytes {
        /// In: `VIRQ_*`.
        0 => virq: u32,
        /// In: which vCPU gets it; 0 for global ones.
        4 => vcpu: u32,
        /// Out.
        8 => port: u32,
    }
}
wire! {
    /// `struct evtchn_bind_pirq`. Not on Arm.
    BindPirq, 12 bytes {
        /// In: the physical interrupt.
        0 => pirq: u32,
        /// In: 1 if it is shared.
        4 => flags: u32,
        /// Out.
        8 => port: u32,
    }
}
wire! {
    /// `struct evtchn_bind_ipi`: a new port by which a vCPU signals another one of its domain.
    BindIpi, 8 bytes {
        /// In: the vCPU to be signalled.
        0 => vcpu: u32,
        /// Out.
        4 => port: u32,
    }
}
wire! {
    /// `struct evtchn_close`.
    Close, 4 bytes {
        /// In.
        0 => port: u32,
    }
}
wire! {
    /// `struct evtchn_send`: signal the other end.
    Send, 4 bytes {
        /// In: the caller's port.
        0 => port: u32,
    }
}
wire! {
    /// `struct evtchn_status`. The union is two words, `binding` and `remote_port`.
    Status, 24 bytes {
        /// In: whose port.
        0 => dom: u16,
        #[doc(hidden)]
        2 => _pad: u16,
        /// In.
        4 => port: u32,
        /// Out: `EVTCHNSTAT_*`.
        8 => status: u32,
        /// Out: the vCPU that is signalled.
        12 => vcpu: u32,
        /// Out: the remote domain of an unbound (`u.unbound.dom`) or interdomain (`u.interdomain.dom`) port, in the low half;
        /// the number of a virtual interrupt (`u.virq`).
        16 => binding: u32,
        /// Out: the remote port of an interdomain port (`u.interdomain.port`).
        20 => remote_port: u32,
    }
}
wire! {
    /// `struct evtchn_bind_vcpu`: choose the vCPU that is signalled.
    BindVcpu, 8 bytes {
        /// In.
        0 => port: u32,
        /// In.
        4 => vcpu: u32,
    }
}
wire! {
    /// `struct evtchn_unmask`: clear the mask, and signal if it is pending.
    Unmask, 4 bytes {
        /// In.
        0 => port: u32,
    }
}
wire! {
    /// `struct evtchn_reset`: close all ports, back to the two-level ABI.
    Reset, 2 bytes {
        /// In: whose.
        0 => dom: u16,
    }
}
wire! {
    /// `struct evtchn_init_control`: give a vCPU its [`crate::shared_info::FifoControlBlock`].
    /// The first one of a domain switches it to the FIFO ABI.
    InitControl, 24 bytes {
        /// In: guest frame number of the page.
        0 => control_gfn: u64,
        /// In: offset in the page; a multiple of 8.
        8 => offset: u32,
        /// In: whose.
        12 => vcpu: u32,
        /// Out: [`crate::shared_info::EVTCHN_FIFO_LINK_BITS`].
        16 => link_bits: u8,
        #[doc(hidden)]
        17 => _pad: [u8; 7],
    }
}
wire! {
    /// `struct evtchn_expand_array`: give the domain a page of 1024 event words.
    ExpandArray, 8 bytes {
        /// In: guest frame number of the page.
        0 => array_gfn: u64,
    }
}
wire! {
    /// `struct evtchn_set_priority`.
    SetPriority, 8 bytes {
        /// In.
        0 => port: u32,
        /// In: 0 (highest) to 15 (lowest).
        4 => priority: u32,
    }
}
