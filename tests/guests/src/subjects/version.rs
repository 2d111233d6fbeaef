//! `xen_version`: every operation, wrong ones, and wrong pointers.

use crate::runtime::{hypercall, unmapped};
use crate::verdict::Test;
use guest_abi::version::*;
use guest_abi::xen::hypercall::XEN_VERSION;

/// What each operation answers to NULL and to a pointer that nothing maps; then what it writes.
pub fn run(test: &mut Test) {
    for cmd in (0..=16).chain([u64::from(u32::MAX), 1 << 32, u64::MAX]) {
        test.rc(format_args!("{cmd:#x}(null)"), hypercall::raw(XEN_VERSION, [cmd, 0, 0, 0, 0]));
        test.rc(format_args!("{cmd:#x}(unmapped)"), hypercall::raw(XEN_VERSION, [cmd, unmapped(), 0, 0, 0]));
    }
    for submap_idx in [0, 1, 2, u32::MAX] {
        let mut info = FeatureInfo { submap_idx, ..Default::default() };
        let rc = hypercall::with(XEN_VERSION, XENVER_GET_FEATURES.into(), &mut info);
        test.answer(format_args!("get_features({submap_idx})"), format_args!("rc={rc} submap={:#x}", info.submap));
    }
}
