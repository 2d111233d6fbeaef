//! Which domain this is, and what of its address map depends on that.

use super::{hypercall, page, page::Page};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guest_abi::arch_arm::{GUEST_GICC_BASE, GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICR0_BASE};
use guest_abi::version::{FeatureInfo, XENVER_GET_FEATURES};
use guest_abi::xen::hypercall as nr;

/// What the image is started as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// By the toolstack of Linux, or by the hypervisor as its device tree says.
    DomU,
    /// In the place of Linux: it builds domains of the same image itself.
    Dom0,
    /// By the test domain that is Dom0, whose jobs it does.
    Peer,
}

/// x0 of a peer at its start, where others get the address of their device tree.
pub const PEER: u64 = 0x7065_6572;
/// `XENFEAT_dom0`.
const FEATURE_DOM0: u32 = 1 << 11;

/// QEMU's `virt`: Dom0 has its interrupt controller where the machine has it.
const DOM0_GICD: u64 = 0x0800_0000;
const DOM0_GICR: u64 = 0x080a_0000;
const DOM0_GICC: u64 = 0x0801_0000;
/// 64 GiB: far above RAM and devices, within any address width.
const DOM0_WINDOW: u64 = 0x100_0000;
/// The grant window of Xen's guests.
const DOMU_WINDOW: u64 = 0x3_8000;

static ROLE: AtomicU64 = AtomicU64::new(0);
/// Where the device tree is; 0: there is none.
static DEVICE_TREE: AtomicU64 = AtomicU64::new(0);

/// Finds out. `x0` is what the boot CPU was started with.
pub fn init(x0: u64) {
    let mut features = FeatureInfo::default();
    hypercall::with(nr::XEN_VERSION, XENVER_GET_FEATURES.into(), &mut features);
    let role = match (x0 == PEER, features.submap & FEATURE_DOM0 != 0) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    ROLE.store(role, Relaxed);
    DEVICE_TREE.store(if role == 0 { x0 } else { 0 }, Relaxed);
}

/// Whether the domain was started with the argument `subject=NAME`: somewhere in its device tree this text stands alone.
pub fn is_asked_for(name: &str) -> bool {
    is_in_tree("subject=", name)
}

/// Whether the domain has the UART of Xen's guests.
pub fn has_uart() -> bool {
    is_in_tree("", "arm,sbsa-uart")
}

/// Whether this text, in two parts, stands somewhere in the device tree, with nothing behind it.
fn is_in_tree(first: &str, rest: &str) -> bool {
    let start = DEVICE_TREE.load(Relaxed);
    if start == 0 {
        return false;
    }
    let byte = |at: u64| Page::of_image(at & !(page::SIZE - 1)).read8(at % page::SIZE);
    // The second word is its size.
    let size = (4..8).fold(0, |size, n| size << 8 | u64::from(byte(start + n)));
    let text = || first.bytes().chain(rest.bytes()).chain([0]);
    (start..start + size.min(0x1_0000)).any(|at| (at..).zip(text()).all(|(at, wanted)| byte(at) == wanted))
}

/// What this domain is.
pub fn role() -> Role {
    match ROLE.load(Relaxed) {
        0 => Role::DomU,
        1 => Role::Dom0,
        _ => Role::Peer,
    }
}

/// The distributor, which is at the same place for both versions.
pub fn distributor() -> u64 {
    if role() == Role::Dom0 { DOM0_GICD } else { GUEST_GICV3_GICD_BASE }
}

/// The CPU interface of a GICv2.
pub fn cpu_interface() -> u64 {
    if role() == Role::Dom0 { DOM0_GICC } else { GUEST_GICC_BASE }
}

/// The redistributor of a vCPU.
pub fn redistributor(index: usize) -> u64 {
    let base = if role() == Role::Dom0 { DOM0_GICR } else { GUEST_GICV3_GICR0_BASE };
    base + index as u64 * 0x2_0000
}

/// First of 2048 guest frames that hold nothing and are mapped in stage 1, for what the hypervisor maps.
pub fn window() -> u64 {
    if role() == Role::Dom0 { DOM0_WINDOW } else { DOMU_WINDOW }
}
