//! The emulated UART between a domain of the toolstack and xenconsoled.

use super::*;
use crate::addr::{DomainId, Ipa};
use crate::evtchn::bind_interdomain;
use crate::machine::Machine;
use crate::mmio::Size;
use crate::testbed::RAM;
use guest_abi::arch_arm::GUEST_PL011_BASE;
use guest_abi::event_channel::{EVTCHNOP_SEND, Send};
use guest_abi::io::console::XenconsInterface;
use guest_abi::shared_info::SharedInfo;

const UART: Ipa = Ipa(GUEST_PL011_BASE);
const FLAGS: Ipa = Ipa(GUEST_PL011_BASE + 0x18);

fn init(bed: &Testbed, dom0: &Arc<Domain>, change: impl FnOnce(&mut abi::VuartOp)) -> i64 {
    let mut wanted = abi::VuartOp { gfn: RAM + 1, ..Default::default() };
    change(&mut wanted);
    domctl(bed, dom0, abi::XEN_DOMCTL_VUART_OP, 1, &wanted)
}

#[test]
fn a_refused_uart_leaves_no_trace() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 2));
    let refused = [
        (init(&bed, &dom0, |wanted| wanted.cmd = 1), Errno::EINVAL),
        (init(&bed, &dom0, |wanted| wanted.kind = 1), Errno::EOPNOTSUPP),
        (init(&bed, &dom0, |wanted| wanted.gfn = RAM + 2), Errno::EINVAL),
    ];
    refused.into_iter().for_each(|(answer, why)| assert_eq!(answer, why.to_return()));
    assert_eq!((guest.uart.get().is_some(), bed.references(bed.ram(&guest, 1))), (false, 1));
    // A second one, and one for a domain that has run.
    assert_eq!(init(&bed, &dom0, |_| ()), 0);
    assert_eq!((answer::<abi::VuartOp>(&bed, &dom0).evtchn, bed.references(bed.ram(&guest, 1))), (1, 2));
    assert_eq!(init(&bed, &dom0, |_| ()), Errno::EINVAL.to_return());
    bed.hv.unpause(&guest).unwrap();
    assert_eq!(init(&bed, &dom0, |_| ()), Errno::EPERM.to_return());
    assert_eq!(bed.references(bed.ram(&guest, 1)), 2);
}

#[test]
fn bytes_and_events_go_both_ways_until_the_domain_dies() {
    let bed = Testbed::new(Policy::Silo);
    let (dom0, guest) = (bed.domain(0, 1), bed.domain(1, 2));
    assert_eq!(init(&bed, &dom0, |_| ()), 0);
    let (port, _) = bind_interdomain(bed.machine, &dom0.events, &guest.events, 1).unwrap();
    let ring = bed.ram(&guest, 1).address();
    let at = |offset: usize| crate::addr::MachineAddr(ring.0 + offset as u64);
    let pending = crate::addr::MachineAddr(dom0.shared_info.address().0 + core::mem::offset_of!(SharedInfo, evtchn_pending) as u64);
    // A new channel begins with an event.
    bed.machine.store_u64(pending, 0);
    assert!(bed.hv.uart_write(&guest, UART, Size::Byte, b'!'.into()));
    let mut said = [0];
    bed.machine.read(at(core::mem::offset_of!(XenconsInterface, output)), &mut said);
    assert_eq!((said, bed.machine.load_u32(at(core::mem::offset_of!(XenconsInterface, out_prod)))), (*b"!", 1));
    assert_eq!(bed.machine.load_u64(pending), 1 << port, "xenconsoled was told");
    // xenconsoled types, and says so.
    bed.machine.write(at(0), b"y");
    bed.machine.store_u32(at(core::mem::offset_of!(XenconsInterface, in_prod)), 1);
    assert_eq!(bed.hv.uart_read(&guest, FLAGS, Size::Word), Some(0x18), "nothing has come yet");
    bed.poke(&dom0, Testbed::va(0, CALL), &[Send { port }]);
    assert_eq!(bed.hypercall(&dom0, hypercall::EVENT_CHANNEL_OP, [EVTCHNOP_SEND.into(), Testbed::va(0, CALL), 0, 0, 0]).0, 0);
    assert_eq!(bed.hv.uart_read(&guest, FLAGS, Size::Word), Some(0x08));
    assert_eq!(bed.hv.uart_read(&guest, UART, Size::Word), Some(b'y'.into()));
    let page = bed.ram(&guest, 1);
    bed.destroy(&guest);
    assert!(bed.hv.domains.get(DomainId(1)).is_none(), "its page came back");
    assert_eq!(bed.hv.frames.info(page).unwrap().references, 0);
}
