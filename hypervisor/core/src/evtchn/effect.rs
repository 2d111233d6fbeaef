//! What an operation asks of its caller: sets of vCPUs to interrupt or to wake, and the errors.

use guest_abi::errno::Errno;

/// The most vCPUs that a domain may have.
pub const MAX_VCPUS: u32 = 128;

/// A set of vCPUs of one domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuSet(u128);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: Self = Self(0);

    /// The set of one vCPU; of none if there cannot be such a vCPU.
    pub fn of(vcpu: u8) -> Self {
        Self(1u128.checked_shl(u32::from(vcpu)).unwrap_or(0))
    }

    /// Whether the set has no member.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `vcpu` is a member.
    pub fn contains(self, vcpu: u8) -> bool {
        !self.is_empty() && self.0 & Self::of(vcpu).0 != 0
    }

    /// Adds the members of `other`.
    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes out the members of `other`.
    pub fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// The members in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let next = (left != 0).then(|| left.trailing_zeros())?;
            left &= left - 1;
            Some(next)
        })
    }
}

/// What the caller must do for the domain whose ports an operation touched.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Notify {
    /// `evtchn_upcall_pending` of these vCPUs went from 0 to 1: inject the event channel interrupt.
    pub upcall: VcpuSet,
    /// These vCPUs wait in `SCHEDOP_poll` for what has just become pending: unblock them. They no longer count as polling.
    pub wake: VcpuSet,
    /// The hypervisor itself consumes the events of the port: run its handler.
    pub xen_consumer: bool,
}

impl Notify {
    /// Nothing to do.
    pub const NONE: Self = Self { upcall: VcpuSet::EMPTY, wake: VcpuSet::EMPTY, xen_consumer: false };

    /// Whether there is nothing to do.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Why an operation was refused; nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventError {
    /// The vCPU does not exist.
    NoSuchVcpu,
    /// No such port, or it is not in a state for the operation.
    InvalidPort,
    /// The virtual interrupt does not exist, or cannot be bound to that vCPU.
    InvalidVirq,
    /// The virtual interrupt is bound already.
    VirqBound,
    /// All ports are in use, or all pages of the event array are there.
    NoSpace,
    /// The hypervisor has no memory for it.
    NoMemory,
    /// The domain is dying and gets no new ports.
    Dying,
    /// A control block that is misplaced, or the vCPU's second.
    InvalidControlBlock,
    /// An event array for the 2-level ABI.
    NoEventArray,
    /// A priority for the 2-level ABI.
    NoPriorities,
    /// A priority for a port that is not in use.
    NotInUse,
    /// Not a priority.
    InvalidPriority,
    /// The hypervisor consumes the events of this port: its status is not for guests.
    XenConsumer,
    /// A reset is in progress.
    Resetting,
    /// Ports were opened while the domain was being reset.
    PortsOpen,
    /// A `vcpu_info` that is not aligned, or crosses a page.
    MisplacedVcpuInfo,
    /// The vCPU has registered its `vcpu_info` already.
    VcpuInfoRegistered,
}

impl EventError {
    /// What Xen's ABI says of it.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoSuchVcpu => Errno::ENOENT,
            Self::MisplacedVcpuInfo => Errno::ENXIO,
            Self::PortsOpen => Errno::EAGAIN,
            Self::NoMemory => Errno::ENOMEM,
            Self::NotInUse | Self::XenConsumer => Errno::EACCES,
            Self::Resetting | Self::VcpuInfoRegistered => Errno::EBUSY,
            Self::VirqBound => Errno::EEXIST,
            Self::InvalidPort | Self::InvalidVirq | Self::Dying | Self::InvalidControlBlock | Self::InvalidPriority => Errno::EINVAL,
            Self::NoSpace => Errno::ENOSPC,
            Self::NoPriorities => Errno::ENOSYS,
            Self::NoEventArray => Errno::EOPNOTSUPP,
        }
    }
}

impl From<EventError> for Errno {
    fn from(error: EventError) -> Self {
        error.errno()
    }
}
