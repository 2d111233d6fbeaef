use super::*;
use crate::boot::Region;
use crate::boot::domu::GuestFile;
use crate::boot::host_tree::{BootModule, ModuleKind};
use crate::console::InputTo;
use crate::machine::Machine;
use crate::mmio::Size;
use crate::policy::Policy;
use crate::testbed::{Testbed, heap};
use guest_abi::arch_arm::GUEST_PL011_BASE;
use std::vec;

const UART: Ipa = Ipa(GUEST_PL011_BASE);
const IMSC: Ipa = Ipa(GUEST_PL011_BASE + 0x38);
/// The machine's RAM that stands for boot modules.
const FILE: u64 = 0x8038_0000;

fn plan(memory: u64) -> DomuPlan {
    let file = |at, to| GuestFile { from: Region::new(FILE + at, 0x1800).unwrap(), to: Ipa(to) };
    DomuPlan {
        banks: vec![Region::new(0x4000_0000, memory).unwrap()],
        kernel: file(0, 0x4000_0000),
        ramdisk: Some(file(0x2000, 0x4000_4000)),
        tree_at: Ipa(0x4000_8ffc),
        tree: b"a device tree".to_vec(),
        extended: vec![],
        mmio: vec![],
        interrupts: vec![],
    }
}

fn config(memory: u64, enhanced: Enhanced) -> DomuConfig {
    let region = Region::new(FILE, 0x1800).unwrap();
    let kernel = BootModule { kind: ModuleKind::Kernel, region, bootargs: None, node: "/chosen/d/k".into(), for_domu: true };
    DomuConfig::for_tests("/chosen/d", memory, enhanced, kernel)
}

/// A machine whose last pages hold the files, and a control domain on it.
fn bed() -> Testbed {
    let bed = Testbed::new(Policy::Silo);
    bed.domain(0, 1);
    for page in 0..8 {
        bed.hv.frames.allocate_at(crate::addr::Vmid(0), Mfn((FILE >> 12) + page), 0, FrameKind::Xen).unwrap();
    }
    bed.machine.write(MachineAddr(FILE), b"kernel");
    bed.machine.write(MachineAddr(FILE + 0x3000), b"ramdisk's second page");
    bed
}

fn make(bed: &Testbed, memory: u64, enhanced: Enhanced) -> Result<Arc<Domain>, BootError> {
    build(&bed.hv, DomainId(1), &config(memory, enhanced), &plan(memory), VgicConfig::guest_v3())
}

fn guest_bytes<const N: usize>(bed: &Testbed, domain: &Domain, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (n, byte) in (0..).zip(&mut bytes) {
        let mfn = domain.p2m.lookup(Gfn((at + n) >> 12)).unwrap().mfn;
        let mut one = [0];
        bed.machine.read(MachineAddr(mfn.address().0 + (at + n) % PAGE_SIZE), &mut one);
        [*byte] = one;
    }
    bytes
}

#[test]
fn files_and_registers_are_in_place() {
    let bed = bed();
    let domain = make(&bed, 100 << 12, Enhanced::No).unwrap();
    let account = bed.hv.frames.account(domain.vmid);
    assert_eq!((account.tot_pages(), account.max_pages()), (100, 100));
    assert_eq!(&guest_bytes(&bed, &domain, 0x4000_0000), b"kernel");
    assert_eq!(&guest_bytes(&bed, &domain, 0x4000_5000), b"ramdisk's second page");
    assert_eq!(&guest_bytes(&bed, &domain, 0x4000_8ffc), b"a device tree");
    let first = domain.vcpu(0).unwrap();
    let context = first.context.lock();
    assert_eq!((context.pc, context.x[0]), (0x4000_0000, 0x4000_8ffc));
    assert!(first.online() && !first.runnable());
    assert!(!domain.privileged && domain.is_console);
    assert_eq!(*domain.params.lock(), [0; super::super::PARAMS]);
}

#[test]
fn the_store_is_announced_to_whom_asked_for_it() {
    let bed = bed();
    let domain = make(&bed, 16 << 12, Enhanced::Full).unwrap();
    let param = |index: u32| domain.params.lock()[index as usize];
    assert_eq!((param(HVM_PARAM_STORE_PFN), param(HVM_PARAM_STORE_EVTCHN)), (u64::MAX, 1));
    let dom0 = bed.hv.domains.get(DomainId(0)).unwrap();
    assert!(crate::evtchn::bind_interdomain(bed.machine, &dom0.events, &domain.events, 1).is_ok());
}

#[test]
fn more_memory_than_there_is_is_refused() {
    let bed = bed();
    let why = std::format!("{}", make(&bed, 2000 << 12, Enhanced::No).err().unwrap());
    assert!(why.contains("too little memory for domain /chosen/d: its 7 MiB do not fit"), "{why}");
}

#[test]
fn what_it_says_names_it_unless_it_has_the_input() {
    let bed = bed();
    bed.hv.console.lock().allocate();
    let domain = make(&bed, 16 << 12, Enhanced::No).unwrap();
    let say = |text: &str| text.bytes().for_each(|byte| assert!(bed.hv.uart_write(&domain, UART, Size::Word, byte.into())));
    say("hello\n");
    bed.hv.console.lock().set_switch(Some(b'a'), domain.id);
    [0, 1].into_iter().for_each(|_| bed.hv.switch_input());
    assert_eq!(bed.hv.console.lock().input_to(), InputTo::Domain(domain.id));
    say("# ls\n");
    bed.hv.switch_input();
    assert_eq!(bed.hv.console.lock().input_to(), InputTo::Hypervisor);
    say("bye\n");
    let mut kept = [0; 128];
    let (len, _) = bed.hv.console.lock().read(None, &mut kept);
    assert_eq!(core::str::from_utf8(&kept[..len]).unwrap(), "(XEN) DOM1: hello\n(XEN) # ls\n(XEN) DOM1: bye\n");
    assert!(bed.hv.uart_read(&domain, Ipa(GUEST_PL011_BASE + 0x1000), Size::Word).is_none());
}

#[test]
fn with_a_full_heap_it_is_heard() {
    if !heap::is_ours() {
        return;
    }
    let bed = bed();
    bed.hv.console.lock().allocate();
    let domain = make(&bed, 16 << 12, Enhanced::No).unwrap();
    let line = std::format!("{}\n", "x".repeat(200));
    let taken = heap::full(|| line.bytes().filter(|byte| bed.hv.uart_write(&domain, UART, Size::Word, u64::from(*byte))).count());
    assert_eq!(taken, line.len());
    let mut kept = [0; 512];
    let (len, _) = bed.hv.console.lock().read(None, &mut kept);
    let kept = core::str::from_utf8(&kept[..len]).unwrap();
    assert_eq!(kept.matches('x').count(), 200, "{kept}");
    assert_eq!(kept.matches("(XEN) DOM1: ").count(), 2, "{kept}");
}

#[test]
fn typed_bytes_reach_it_with_its_interrupt() {
    let bed = bed();
    let domain = make(&bed, 16 << 12, Enhanced::No).unwrap();
    bed.hv.console.lock().set_switch(Some(b'a'), domain.id);
    bed.hv.give_input(Some(domain.id));
    assert!(bed.hv.uart_write(&domain, IMSC, Size::Word, 0x50));
    [1, 1, b'x'].into_iter().for_each(|byte| bed.hv.console_input(byte));
    let read = || bed.hv.uart_read(&domain, UART, Size::Word).unwrap();
    assert_eq!([read(), read(), read(), read()], [1, 1, b'x'.into(), 0]);
}
