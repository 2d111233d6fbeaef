//! The 2-level ABI: one pending and one mask bit per port in the shared info page, and a selector of 64-port words per vCPU.
//!
//! Xen public header `xen.h`, `struct shared_info`. Only single bits are touched, atomically: guests use their own atomics on the same
//! words at the same time.

use super::Edge;
use crate::addr::MachineAddr;
use crate::machine::Machine;
use core::mem::offset_of;
pub(super) use guest_abi::shared_info::EVTCHN_2L_NR_CHANNELS as PORTS;
use guest_abi::shared_info::{SharedInfo, VcpuInfo};

const PENDING: u64 = offset_of!(SharedInfo, evtchn_pending) as u64;
const MASK: u64 = offset_of!(SharedInfo, evtchn_mask) as u64;
pub(super) const PENDING_SEL: u64 = offset_of!(VcpuInfo, evtchn_pending_sel) as u64;

/// The shared words of a domain that uses the 2-level ABI.
#[derive(Clone, Copy)]
pub(super) struct TwoLevel<'a> {
    pub machine: &'a dyn Machine,
    /// The shared info page.
    pub shared_info: MachineAddr,
}

impl TwoLevel<'_> {
    /// Makes `port` pending; `vcpu_info` is that of the vCPU it notifies, if it has one.
    pub fn set_pending(&self, port: u32, vcpu_info: Option<MachineAddr>) -> Edge {
        let (word, bit) = position(port);
        if port >= PORTS || self.machine.or_u64(self.at(PENDING + word), bit) & bit != 0 {
            return Edge::NONE;
        }
        let masked = self.machine.load_u64(self.at(MASK + word)) & bit != 0;
        Edge { newly_pending: true, signal: !masked && self.select(port, vcpu_info) }
    }

    /// Unmasks `port`; whether its vCPU must be told of a pending event.
    pub fn unmask(&self, port: u32, vcpu_info: Option<MachineAddr>) -> bool {
        let (word, bit) = position(port);
        port < PORTS && self.machine.and_u64(self.at(MASK + word), !bit) & bit != 0 && self.is_pending(port) && self.select(port, vcpu_info)
    }

    /// Forgets a pending event.
    pub fn clear_pending(&self, port: u32) {
        let (word, bit) = position(port);
        if port < PORTS {
            self.machine.and_u64(self.at(PENDING + word), !bit);
        }
    }

    /// Whether `port` is pending, masked or not.
    pub fn is_pending(&self, port: u32) -> bool {
        let (word, bit) = position(port);
        port < PORTS && self.machine.load_u64(self.at(PENDING + word)) & bit != 0
    }

    /// Forgets every pending event.
    pub fn clear_pending_all(&self) {
        for word in 0..u64::from(PORTS / 64) {
            self.machine.store_u64(self.at(PENDING + word * 8), 0);
        }
    }

    /// Sets the selector bit of `port`; whether it was clear.
    fn select(&self, port: u32, vcpu_info: Option<MachineAddr>) -> bool {
        let bit = 1 << (port / 64);
        vcpu_info.is_some_and(|info| self.machine.or_u64(MachineAddr(info.0 + PENDING_SEL), bit) & bit == 0)
    }

    fn at(&self, offset: u64) -> MachineAddr {
        MachineAddr(self.shared_info.0 + offset)
    }
}

/// Byte offset of the word that holds `port`, and its bit.
fn position(port: u32) -> (u64, u64) {
    (u64::from(port / 64) * 8, 1 << (port % 64))
}
