//! Ports: what one end of an event channel is, and the table of all ports of a domain.
//!
//! The table grows by buckets when a port beyond the last bucket is first needed and never shrinks while the domain lives. The lowest
//! free port is always taken first, as guests (and Xen's tests) expect.

use super::EventError;
use crate::addr::DomainId;
use alloc::vec::Vec;

/// Ports per bucket. Visible to guests: `EVTCHNOP_status` refuses ports beyond the last bucket.
const BUCKET: usize = 64;

/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binding {
    /// Not in use.
    Free,
    /// Port 0: never allocated.
    Reserved,
    /// Waiting for `remote` to bind its end.
    Unbound {
        /// The domain that may bind.
        remote: DomainId,
    },
    /// Connected to `port` of `domain`.
    Interdomain {
        /// The domain of the other end.
        domain: DomainId,
        /// The port of the other end, in its domain.
        port: u32,
    },
    /// Bound to a virtual interrupt of the hypervisor.
    Virq(u8),
    /// Sends to its own domain.
    Ipi,
}

/// One port and all that is remembered about it.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub binding: Binding,
    /// The vCPU that is notified.
    pub vcpu: u8,
    /// FIFO priority, 0 (highest) to 15; takes effect when the event is next linked.
    pub priority: u8,
    /// FIFO: the queue the event was last linked on. Outlives the binding: the event may still be the tail of that queue.
    pub last_vcpu: u8,
    /// FIFO: see `last_vcpu`.
    pub last_priority: u8,
    /// FIFO: pending, but the guest has not yet given the page of the event array that would hold it.
    pub remembered: bool,
    /// The hypervisor itself consumes the events of this port; the guest cannot touch it.
    pub xen_consumer: bool,
}

impl Channel {
    const FREE: Self = Self {
        binding: Binding::Free,
        vcpu: 0,
        priority: super::fifo::PRIORITY_DEFAULT,
        last_vcpu: 0,
        last_priority: super::fifo::PRIORITY_DEFAULT,
        remembered: false,
        xen_consumer: false,
    };

    /// Whether the port is bound to something (`evtchn_usable` in Xen's words).
    pub fn is_usable(&self) -> bool {
        !matches!(self.binding, Binding::Free | Binding::Reserved)
    }
}

/// The ports of one domain.
#[derive(Debug)]
pub(super) struct PortTable {
    buckets: Vec<Vec<Channel>>,
    /// The highest port number that may be allocated, whatever the ABI.
    max_port: u32,
    /// No port below this one is free.
    lowest_free: u32,
    /// Ports in use, without port 0.
    pub open: u32,
    /// Those of them that the hypervisor consumes.
    pub open_xen: u32,
}

impl PortTable {
    /// A table of one bucket, with port 0 reserved.
    pub fn new(max_port: u32) -> Result<Self, EventError> {
        let mut table = Self { buckets: Vec::new(), max_port, lowest_free: 1, open: 0, open_xen: 0 };
        table.grow()?;
        if let Some(zero) = table.get_mut(0) {
            zero.binding = Binding::Reserved;
        }
        Ok(table)
    }

    /// Ports in the buckets allocated so far; all of them and no others are valid.
    pub fn len(&self) -> u32 {
        (self.buckets.len() * BUCKET) as u32
    }

    /// No port below this one is free.
    pub fn lowest_free(&self) -> u32 {
        self.lowest_free
    }

    pub fn get(&self, port: u32) -> Option<&Channel> {
        self.buckets.get(port as usize / BUCKET)?.get(port as usize % BUCKET)
    }

    pub fn get_mut(&mut self, port: u32) -> Option<&mut Channel> {
        self.buckets.get_mut(port as usize / BUCKET)?.get_mut(port as usize % BUCKET)
    }

    /// The lowest port below `abi_limit` that is free and not `busy`. It stays free until [`Self::take`].
    ///
    /// # Errors
    /// `NoSpace` when all are taken, `NoMemory` when a bucket is needed and there is no memory for it.
    pub fn find_free(&mut self, abi_limit: u32, busy: impl Fn(u32) -> bool) -> Result<u32, EventError> {
        let limit = self.max_port.saturating_add(1).min(abi_limit);
        let mut first_free = None;
        for port in self.lowest_free..limit {
            if port >= self.len() {
                self.grow()?;
            }
            if self.get(port).is_some_and(|c| c.binding == Binding::Free) {
                self.lowest_free = *first_free.get_or_insert(port);
                if !busy(port) {
                    return Ok(port);
                }
            }
        }
        if first_free.is_none() {
            self.lowest_free = self.lowest_free.max(limit);
        }
        Err(EventError::NoSpace)
    }

    /// Binds a free port that [`Self::find_free`] returned, with everything else as in a new port.
    pub fn take(&mut self, port: u32, binding: Binding, vcpu: u8) {
        let Some(channel) = self.get_mut(port) else { return };
        debug_assert_eq!(channel.binding, Binding::Free);
        let Channel { last_vcpu, last_priority, .. } = *channel;
        *channel = Channel { binding, vcpu, last_vcpu, last_priority, ..Channel::FREE };
        self.open += 1;
        if self.lowest_free == port {
            self.lowest_free = port + 1;
        }
    }

    /// Frees a port in use.
    pub fn release(&mut self, port: u32) {
        let Some(channel) = self.get_mut(port) else { return };
        debug_assert!(channel.is_usable());
        let was_xen = channel.xen_consumer;
        let Channel { last_vcpu, last_priority, .. } = *channel;
        *channel = Channel { last_vcpu, last_priority, ..Channel::FREE };
        self.open -= 1;
        self.open_xen -= u32::from(was_xen);
        self.lowest_free = self.lowest_free.min(port);
    }

    fn grow(&mut self) -> Result<(), EventError> {
        let mut bucket = Vec::new();
        bucket.try_reserve_exact(BUCKET).map_err(|_| EventError::NoMemory)?;
        bucket.resize(BUCKET, Channel::FREE);
        self.buckets.try_reserve(1).map_err(|_| EventError::NoMemory)?;
        self.buckets.push(bucket);
        Ok(())
    }
}
