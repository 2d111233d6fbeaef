//! `multicall`: lists, unknown calls in them, and lists in lists.

use crate::runtime::{hypercall, unmapped};
use crate::verdict::Test;
use guest_abi::memory::XENMEM_MAXIMUM_GPFN;
use guest_abi::xen::{MulticallEntry, hypercall::*};

pub fn run(test: &mut Test) {
    let entry = |op, args: &[u64]| {
        let mut entry = MulticallEntry { op, result: 0x7777, ..Default::default() };
        entry.args.iter_mut().zip(args).for_each(|(to, from)| *to = *from);
        entry
    };
    let mut inner = [entry(XEN_VERSION, &[0]), entry(XEN_VERSION, &[7])];
    let inner = hypercall::address(&mut inner);
    let mut list = [
        entry(XEN_VERSION, &[0]),
        entry(63, &[]),
        entry(1000, &[]),
        entry(u64::MAX, &[]),
        entry(MULTICALL, &[inner, 2]),
        entry(MULTICALL, &[inner, 0]),
        entry(SCHED_OP, &[0]),
        entry(MEMORY_OP, &[XENMEM_MAXIMUM_GPFN, unmapped()]),
        entry(EVENT_CHANNEL_OP, &[99]),
        entry(HVM_OP, &[99]),
        entry(DOMCTL, &[unmapped()]),
        entry(XEN_VERSION, &[99]),
    ];
    let at = hypercall::address(&mut list);
    test.rc("all", hypercall::raw(MULTICALL, [at, list.len() as u64, 0, 0, 0]));
    for (n, entry) in list.iter().enumerate() {
        test.answer(format_args!("all[{n}]"), format_args!("op={:#x} result={}", entry.op, entry.result.cast_signed()));
    }
    for (name, at, count) in [("none", at, 0), ("null_none", 0, 0), ("null", 0, 1), ("unmapped", unmapped(), 1)] {
        test.rc(name, hypercall::raw(MULTICALL, [at, count, 0, 0, 0]));
    }
    // Whether the upper half of the number of calls counts.
    test.rc("unmapped_2^32", hypercall::raw(MULTICALL, [unmapped(), 1 << 32, 0, 0, 0]));
}
