//! `hvm_op`: every parameter read and written, by every name of a domain.

use crate::runtime::{hypercall, unmapped};
use crate::verdict::Test;
use guest_abi::hvm::*;
use guest_abi::xen::{DOMID_SELF, hypercall::HVM_OP};

pub fn run(test: &mut Test) {
    for index in (0..=HVM_NR_PARAMS + 1).chain([u32::MAX]) {
        let mut param = HvmParam { domid: DOMID_SELF, index, value: 0x7777, ..Default::default() };
        let rc = hypercall::with(HVM_OP, HVMOP_GET_PARAM, &mut param);
        test.answer(format_args!("get({index})"), format_args!("rc={rc} value={:#x}", param.value));
        let mut param = HvmParam { domid: DOMID_SELF, index, value: 1, ..Default::default() };
        test.rc(format_args!("set({index})"), hypercall::with(HVM_OP, HVMOP_SET_PARAM, &mut param));
    }
    for domid in [0, 1000, 0x7fef, 0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, 0x8000, 0xffff] {
        let mut param = HvmParam { domid, index: HVM_PARAM_STORE_PFN, ..Default::default() };
        test.rc(format_args!("get(dom={domid:#x})"), hypercall::with(HVM_OP, HVMOP_GET_PARAM, &mut param));
        test.rc(format_args!("set(dom={domid:#x})"), hypercall::with(HVM_OP, HVMOP_SET_PARAM, &mut param));
    }
    for op in 2..=27 {
        let mut param = HvmParam { domid: DOMID_SELF, ..Default::default() };
        // 24 asks a monitor that is not there; the others need none.
        test.rc(format_args!("op({op})"), hypercall::with(HVM_OP, op, &mut param));
    }
    for op in [HVMOP_SET_PARAM, HVMOP_GET_PARAM] {
        test.rc(format_args!("op({op},null)"), hypercall::raw(HVM_OP, [op, 0, 0, 0, 0]));
        test.rc(format_args!("op({op},unmapped)"), hypercall::raw(HVM_OP, [op, unmapped(), 0, 0, 0]));
    }
}
