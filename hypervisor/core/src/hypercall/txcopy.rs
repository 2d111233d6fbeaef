//! Tx copy: Xenolith's own hypercall. Source: `guest-abi/src/txcopy.rs` and `hypervisor/decisions/tx-copy.md`.
//!
//! This layer joins what [`crate::txcopy`] does not know: whose RAM an address is, who the domains are, and how events reach them.

#[cfg(test)]
mod tests;

use super::{Answer, Args, Caller, Outcome};
use crate::addr::{DomainId, Gfn, GuestVa, Mfn};
use crate::domain::Domain;
use crate::evtchn::Binding;
use crate::frames::FrameTable;
use crate::guest_memory::GuestPtr;
use crate::hypervisor::Hypervisor;
use crate::txcopy::{Attachment, Batch, End, Ended, GuestPage, Pages, Ring, Sent};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use guest_abi::errno::Errno;
use guest_abi::trace::own::TRC_XENOLITH_TXCOPY;
use guest_abi::txcopy as abi;
use guest_abi::xen::DOMID_SELF;
use zerocopy::IntoBytes;

/// Where `TXCOPY_SEND` has the packets taken so far in x4, above the bytes of the batch that are done.
const TAKEN_SHIFT: u32 = 16;
/// Bytes of the batch page.
const BATCH: u32 = 4096;
/// What lies in the batch page is aligned to this.
const RECORD_ALIGN: u32 = 16;
/// Bytes of the shortest record: a header and a piece.
const RECORD_MIN: u32 = 32;

/// Performs sub-operation x0. An unknown one answers `-ENOSYS`.
pub fn txcopy_op(hv: &Hypervisor, caller: &Caller<'_>, args: &Args) -> Outcome {
    match *args {
        [abi::TXCOPY_SEND, ..] => send(hv, caller, args),
        [op, x1, ..] => control(hv, caller, op, x1).into(),
    }
}

// Apart from `send`, which is to have the registers for itself.
#[inline(never)]
fn control(hv: &Hypervisor, caller: &Caller<'_>, op: u64, x1: u64) -> Answer {
    match op {
        abi::TXCOPY_POSTED => posted(hv, caller, x1),
        abi::TXCOPY_QUERY => query(caller, x1),
        abi::TXCOPY_CREATE => create(hv, caller, x1),
        abi::TXCOPY_DESTROY => destroy(hv, caller, x1),
        abi::TXCOPY_ATTACH => attach(hv, caller, x1),
        abi::TXCOPY_DETACH => detach(hv, caller, x1),
        abi::TXCOPY_STATS => stats(caller, x1),
        _ => Err(Errno::ENOSYS),
    }
}

/// A domain's own RAM.
struct OwnRam<'a> {
    frames: &'a FrameTable,
    domain: &'a Domain,
}

impl Pages for OwnRam<'_> {
    /// A direct-mapped domain needs no stage 2: a page of that number is its own RAM or it is not, whatever is mapped over it.
    fn hold(&self, gfn: Gfn, write: bool) -> Option<Mfn> {
        if self.domain.direct_mapped {
            let mfn = Mfn(gfn.0);
            self.frames.get_ram(mfn, self.domain.vmid).then_some(mfn)
        } else {
            self.domain.p2m.get_ram(self.frames, gfn, write)
        }
    }

    fn put(&self, mfn: Mfn) {
        self.frames.put(mfn);
    }
}

#[inline(never)]
fn send(hv: &Hypervisor, caller: &Caller<'_>, args: &Args) -> Outcome {
    let [_, handle, bytes, flags, progress] = *args;
    let earlier = progress >> TAKEN_SHIFT;
    match send_some(hv, caller, handle, bytes, flags, progress) {
        // What earlier steps took is told, what ended the call the next one finds.
        Err(Errno::ENOENT | Errno::EPIPE) if earlier > 0 => Outcome::Return(earlier as i64),
        Err(errno) => Err(errno).into(),
        Ok((sent, offset)) => {
            let taken = earlier + u64::from(sent.taken);
            match sent.end {
                End::Budget => Outcome::Again([abi::TXCOPY_SEND, handle, bytes, flags, u64::from(offset) | taken << TAKEN_SHIFT]),
                End::Refused(errno) if taken == 0 => Err(errno).into(),
                End::Done | End::Refused(_) => Outcome::Return(taken as i64),
            }
        }
    }
}

/// One step of sending, and how many bytes of the batch are done.
fn send_some(hv: &Hypervisor, caller: &Caller<'_>, handle: u64, bytes: u64, flags: u64, progress: u64) -> Result<(Sent, u32), Errno> {
    let bytes = batch_bytes(bytes).ok_or(Errno::EINVAL)?;
    let offset = batch_offset(bytes, progress).ok_or(Errno::EINVAL)?;
    if flags & !abi::TXCOPY_SEND_WANT_SPACE != 0 {
        return Err(Errno::EINVAL);
    }
    let handle = u32::try_from(handle).map_err(|_| Errno::ENOENT)?;
    let domain = caller.domain;
    let (receiver, sent, offset) = domain
        .txcopy
        .with_attachment(handle, |attachment| {
            let receiver = attachment.receiver.upgrade().ok_or(Errno::EPIPE)?;
            let mut batch = Batch::new(attachment.batch, bytes, offset);
            let sent = receiver.txcopy.with(attachment.channel, Some(attachment.generation), |channel| {
                if progress == 0 {
                    channel.begin_batch();
                }
                let from = OwnRam { frames: &hv.frames, domain };
                let to = OwnRam { frames: &hv.frames, domain: &receiver };
                channel.send(hv.machine, &from, &to, &mut batch, flags & abi::TXCOPY_SEND_WANT_SPACE != 0)
            });
            let sent = sent.ok_or(Errno::EPIPE)?;
            Ok((receiver, sent, batch.offset()))
        })
        .unwrap_or(Err(Errno::ENOENT))?;
    hv.trace.record(TRC_XENOLITH_TXCOPY, || [u32::from(domain.id.0) << 16 | u32::from(receiver.id.0), sent.taken, offset]);
    if let Some(port) = sent.notify {
        raise(hv, &receiver, port);
    }
    Ok((sent, offset))
}

fn batch_bytes(bytes: u64) -> Option<u32> {
    u32::try_from(bytes).ok().filter(|b| (RECORD_MIN..=BATCH).contains(b) && b.is_multiple_of(RECORD_ALIGN))
}

/// Where a call goes on, if x4 is what an earlier step can have made it.
fn batch_offset(bytes: u32, progress: u64) -> Option<u32> {
    let offset = progress as u32 & ((1 << TAKEN_SHIFT) - 1);
    let right = offset < bytes && offset.is_multiple_of(RECORD_ALIGN) && progress >> TAKEN_SHIFT <= u64::from(offset / RECORD_MIN);
    right.then_some(offset)
}

fn posted(hv: &Hypervisor, caller: &Caller<'_>, channel: u64) -> Answer {
    let wake = caller
        .domain
        .txcopy
        .with(number(channel)?, None, |channel| channel.posted().map(|port| (channel.sender().clone(), port)))
        .ok_or(Errno::ENOENT)?;
    if let Some((sender, port)) = wake
        && let Some(sender) = sender.upgrade()
    {
        raise(hv, &sender, port);
    }
    Ok(0)
}

fn query(caller: &Caller<'_>, at: u64) -> Answer {
    let query = abi::Query {
        version: abi::TXCOPY_VERSION,
        max_slot_pages: abi::TXCOPY_MAX_SLOT_PAGES,
        max_pieces: abi::TXCOPY_MAX_PIECES,
        max_packet: abi::TXCOPY_MAX_PACKET,
        max_channels: abi::TXCOPY_MAX_CHANNELS,
        max_attachments: abi::TXCOPY_MAX_ATTACHMENTS,
        min_buffer: abi::TXCOPY_MIN_BUFFER,
        _reserved: 0,
    };
    caller.memory.write(GuestPtr::new(at), &query)?;
    Ok(0)
}

fn create(hv: &Hypervisor, caller: &Caller<'_>, at: u64) -> Answer {
    let pinned = caller.memory.pin(GuestPtr::<abi::Create>::new(at))?;
    let mut request = pinned.read();
    check_version(request.version)?;
    let pages = request.slot_pages;
    if request._pad != 0 || request.flags != 0 || request._reserved != 0 || !pages.is_power_of_two() || pages > abi::TXCOPY_MAX_SLOT_PAGES {
        return Err(Errno::EINVAL);
    }
    let sender = peer(hv, caller, request.sender)?;
    check_port(caller, request.port)?;
    let ring = hold_ring(hv, caller, request.ring_gfns, pages)?;
    let made = caller.domain.txcopy.create(Arc::downgrade(&sender), request.port, ring);
    request.channel = made.map_err(|(errno, ring)| {
        ring.pages().for_each(|mfn| hv.frames.put(mfn));
        errno
    })?;
    pinned.write(&request);
    Ok(0)
}

fn destroy(hv: &Hypervisor, caller: &Caller<'_>, channel: u64) -> Answer {
    let ended = caller.domain.txcopy.destroy(number(channel)?).ok_or(Errno::ENOENT)?;
    hv.finish_channel(ended);
    Ok(0)
}

fn attach(hv: &Hypervisor, caller: &Caller<'_>, at: u64) -> Answer {
    let pinned = caller.memory.pin(GuestPtr::<abi::Attach>::new(at))?;
    let mut request = pinned.read();
    check_version(request.version)?;
    if request._pad != 0 || request.flags != 0 || request._reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let receiver = peer(hv, caller, request.receiver)?;
    check_port(caller, request.port)?;
    let own = OwnRam { frames: &hv.frames, domain: caller.domain };
    let batch = own.hold(Gfn(request.batch_gfn), false).ok_or(Errno::EINVAL)?;
    let made = caller.domain.txcopy.attach(|| {
        let is_caller = |sender: &Weak<Domain>| core::ptr::eq(sender.as_ptr(), Arc::as_ptr(caller.domain));
        let generation = receiver.txcopy.claim(request.channel, request.port, is_caller)?;
        Ok(Attachment {
            receiver: Arc::downgrade(&receiver),
            channel: request.channel,
            generation,
            batch: GuestPage::new(hv.machine, batch),
        })
    });
    request.handle = made.inspect_err(|_| hv.frames.put(batch))?;
    pinned.write(&request);
    Ok(0)
}

fn detach(hv: &Hypervisor, caller: &Caller<'_>, handle: u64) -> Answer {
    let attachment = caller.domain.txcopy.detach(number(handle)?).ok_or(Errno::ENOENT)?;
    hv.finish_attachment(attachment);
    Ok(0)
}

fn stats(caller: &Caller<'_>, at: u64) -> Answer {
    let pinned = caller.memory.pin(GuestPtr::<abi::Stats>::new(at))?;
    let channel = pinned.read().channel;
    let (counters, attached) =
        caller.domain.txcopy.with(channel, None, |channel| (channel.counters(), channel.is_attached())).ok_or(Errno::ENOENT)?;
    pinned.write(&abi::Stats {
        channel,
        attached: attached.into(),
        packets: counters.packets,
        bytes: counters.bytes,
        batches: counters.batches,
        full: counters.full,
        notified: counters.notified,
        suppressed: counters.suppressed,
        refused: counters.refused,
        unusable: counters.unusable,
        woken: counters.woken,
        _reserved: [0; 2],
    });
    Ok(0)
}

impl Hypervisor {
    /// What remains to be done for a channel that has ended: its pages are let go, its sender is told.
    pub(crate) fn finish_channel(&self, ended: Ended<Weak<Domain>>) {
        ended.ring.pages().for_each(|mfn| self.frames.put(mfn));
        if let Some((sender, attached)) = ended.attached
            && let Some(sender) = sender.upgrade()
        {
            raise(self, &sender, attached.port);
        }
    }

    /// What remains to be done for an attachment that was taken out: the channel is let go, and its page.
    pub(crate) fn finish_attachment(&self, attachment: Attachment<Weak<Domain>>) {
        if let Some(receiver) = attachment.receiver.upgrade() {
            receiver.txcopy.unclaim(attachment.channel, attachment.generation);
        }
        self.frames.put(attachment.batch.mfn());
    }
}

fn raise(hv: &Hypervisor, domain: &Domain, port: u32) {
    let notify = domain.events.raise(hv.machine, port);
    hv.deliver(domain, notify);
}

fn number(register: u64) -> Result<u32, Errno> {
    u32::try_from(register).map_err(|_| Errno::ENOENT)
}

fn check_version(version: u32) -> Result<(), Errno> {
    if version == abi::TXCOPY_VERSION { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// The other domain, if the two may share. The policy is the one for grants.
fn peer(hv: &Hypervisor, caller: &Caller<'_>, id: u16) -> Result<Arc<Domain>, Errno> {
    if id == DOMID_SELF || id == caller.domain.id.0 {
        return Err(Errno::EINVAL);
    }
    let peer = hv.domains.get(DomainId(id)).ok_or(Errno::ESRCH)?;
    if !hv.policy.may_share(caller.domain.subject(), peer.subject()) {
        return Err(Errno::EPERM);
    }
    if peer.is_dying() { Err(Errno::ESRCH) } else { Ok(peer) }
}

/// A port on which the guest itself may expect events.
fn check_port(caller: &Caller<'_>, port: u32) -> Result<(), Errno> {
    match caller.domain.events.status(port).map(|s| s.binding) {
        Ok(Binding::Unbound { .. } | Binding::Interdomain { .. } | Binding::Ipi) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Holds the pages of a ring, each of which must be another one.
fn hold_ring(hv: &Hypervisor, caller: &Caller<'_>, gfns: u64, slot_pages: u32) -> Result<Ring, Errno> {
    let mut wanted = [0_u64; abi::TXCOPY_MAX_SLOT_PAGES as usize + 1];
    let wanted = wanted.get_mut(..=slot_pages as usize).ok_or(Errno::EINVAL)?;
    caller.memory.read_bytes(GuestVa(gfns), wanted.as_mut_bytes())?;
    let mut slots = Vec::new();
    slots.try_reserve_exact(slot_pages as usize).map_err(|_| Errno::ENOMEM)?;
    let own = OwnRam { frames: &hv.frames, domain: caller.domain };
    let mut header: Option<GuestPage> = None;
    for gfn in wanted.iter() {
        let page = own.hold(Gfn(*gfn), true).map(|mfn| GuestPage::new(hv.machine, mfn));
        let is_new = page.is_some_and(|page| header.iter().chain(&slots).all(|other| other.mfn() != page.mfn()));
        match page {
            Some(page) if is_new && header.is_none() => header = Some(page),
            Some(page) if is_new => slots.push(page),
            _ => {
                header.into_iter().chain(slots).chain(page).for_each(|page| hv.frames.put(page.mfn()));
                return Err(Errno::EINVAL);
            }
        }
    }
    let header = header.ok_or(Errno::EINVAL)?;
    Ok(Ring::new(header, slots))
}
