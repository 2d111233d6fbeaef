//! `event_channel_op` with the FIFO ABI: the switch to it, its refusals (misuse E03, E18), links and priorities.

use crate::runtime::{hypercall, page::Page};
use crate::verdict::Test;
use guest_abi::event_channel::*;
use guest_abi::shared_info::EVTCHN_FIFO_MASKED;
use guest_abi::xen::DOMID_SELF;

pub fn run(test: &mut Test) {
    let init = |control_gfn, offset, vcpu| {
        let mut op = InitControl { control_gfn, offset, vcpu, ..Default::default() };
        (hypercall::event(EVTCHNOP_INIT_CONTROL, &mut op), op.link_bits)
    };
    let expand = |array_gfn| hypercall::event(EVTCHNOP_EXPAND_ARRAY, &mut ExpandArray { array_gfn });
    let (control, array) = (Page::take(), Page::take());
    for offset in [1, 4, 7, 4092, 4032, 4096, u32::MAX] {
        test.rc(format_args!("init_control(offset={offset})"), init(control.gfn(), offset, 0).0);
    }
    for gfn in [u64::MAX - 1, u64::MAX, 0x3001, 0x3_8fff, 1 << 36] {
        test.rc(format_args!("init_control(gfn={gfn:#x})"), init(gfn, 0, 0).0);
        test.rc(format_args!("init_control(gfn={gfn:#x}).expand_array"), expand(array.gfn()));
    }
    for vcpu in [2, 99, u32::MAX] {
        test.rc(format_args!("init_control(vcpu={vcpu})"), init(control.gfn(), 0, vcpu).0);
    }
    let (rc, bits) = init(control.gfn(), 128, 0);
    test.answer("init_control", format_args!("rc={rc} link_bits={bits}"));
    test.rc("init_control(again)", init(control.gfn(), 256, 0).0);
    test.rc("init_control(vcpu=1,same page)", init(control.gfn(), 512, 1).0);
    for gfn in [u64::MAX, 0x3001, 0x3_8fff, 1 << 36] {
        test.rc(format_args!("expand_array(gfn={gfn:#x})"), expand(gfn));
    }
    // Before the array has a page, no port can be bound: it says so, or it is dropped.
    test.rc("expand_array", expand(array.gfn()));
    test.rc("expand_array(same)", expand(array.gfn()));
    let mut ports = [0; 3];
    for (n, port) in ports.iter_mut().enumerate() {
        let mut op = BindIpi { vcpu: 0, port: 0 };
        test.rc(format_args!("bind_ipi({n})"), hypercall::event(EVTCHNOP_BIND_IPI, &mut op));
        *port = op.port;
    }
    for priority in [0, 15, 16, u32::MAX] {
        let mut op = SetPriority { port: ports[0], priority };
        test.rc(format_args!("set_priority({priority})"), hypercall::event(EVTCHNOP_SET_PRIORITY, &mut op));
    }
    let mut op = SetPriority { port: 4000, priority: 3 };
    test.rc("set_priority(closed)", hypercall::event(EVTCHNOP_SET_PRIORITY, &mut op));
    let block = 128;
    let word = |port: u32| array.read32(u64::from(port) * 4);
    let show = |test: &mut Test, name: &str| {
        let words = ports.map(word);
        let heads = [15, 7, 0].map(|queue| control.read32(block + 8 + queue * 4));
        test.answer(name, format_args!("ready={:#x} heads={heads:?} words={words:x?}", control.read32(block)));
    };
    show(test, "fresh");
    for (n, port) in ports.into_iter().enumerate() {
        test.rc(format_args!("send({n},masked?)"), hypercall::event(EVTCHNOP_SEND, &mut Send { port }));
    }
    show(test, "sent");
    for port in ports {
        test.rc("unmask", hypercall::event(EVTCHNOP_UNMASK, &mut Unmask { port }));
    }
    show(test, "unmasked");
    array.write32(u64::from(ports[1]) * 4, 1 << EVTCHN_FIFO_MASKED);
    test.rc("send(cleared,masked)", hypercall::event(EVTCHNOP_SEND, &mut Send { port: ports[1] }));
    show(test, "send(cleared,masked)");
    for port in [4095, 4096, 131_071, 131_072] {
        test.rc(format_args!("send({port})"), hypercall::event(EVTCHNOP_SEND, &mut Send { port }));
    }
    for port in ports {
        test.rc("close", hypercall::event(EVTCHNOP_CLOSE, &mut Close { port }));
    }
    show(test, "closed");
    // Ports up to the limit of the domain, beyond the page of the array.
    let (mut count, mut rc, mut first) = (0_u32, 0, 0);
    while count < 5000 {
        let mut op = AllocUnbound { dom: DOMID_SELF, remote_dom: 0, port: 0 };
        rc = hypercall::event(EVTCHNOP_ALLOC_UNBOUND, &mut op);
        if rc != 0 {
            break;
        }
        first = if count == 0 { op.port } else { first };
        count += 1;
    }
    test.answer("exhaust", format_args!("rc={rc} first={first} ports={count}"));
    let closed = (first..first + count).filter(|port| hypercall::event(EVTCHNOP_CLOSE, &mut Close { port: *port }) == 0).count();
    test.answer("exhaust.close", closed);
}
