//! Tx copy: packets of one domain are copied into buffers that another posted. The reasons are in `hypervisor/decisions/tx-copy.md`.
//!
//! A [`TxCopy`] is one domain's part: the *channels* on which it receives and the *attachments* by which it sends. A channel lives in its
//! receiver's table; an attachment names it by receiver, number and generation, so that it never holds a channel that has ended.
//!
//! Sending locks the attachment, then the channel, and nothing else that two channels share; both locks are kept until the call is cut
//! short or done, so whoever ends a channel or an attachment waits until no copy is under way. `P` names a domain and does not keep it
//! alive. Pages are asked for through [`Pages`]; events are left to the caller.
//!
//! Files: [`ring`] what receiver and hypervisor share; [`attachment`] the sender's page of records; [`plan`] one packet, from where to
//! where; [`channel`] taking packets.

mod attachment;
mod audit;
mod channel;
#[cfg(all(test, loom))]
mod memory_order;
mod plan;
mod ring;
#[cfg(test)]
mod tests;

pub use attachment::{Attachment, Batch};
pub use channel::{Attached, Channel, Counters, End, Sent};
pub use ring::Ring;

use crate::addr::{Gfn, Mfn};
use crate::lock::Lock;
use crate::machine::{Machine, SharedPage};
use alloc::vec::Vec;
use guest_abi::errno::Errno;
use guest_abi::txcopy::{TXCOPY_MAX_ATTACHMENTS, TXCOPY_MAX_CHANNELS};

/// A domain's own RAM.
pub trait Pages {
    /// The page at `gfn`, referenced, if it is the domain's own RAM (which it may `write`).
    fn hold(&self, gfn: Gfn, write: bool) -> Option<Mfn>;
    /// Drops a reference that [`Self::hold`] took.
    fn put(&self, mfn: Mfn);
}

/// A page that a guest shares with the hypervisor: of a ring, or of records. Who has this has a reference to the page.
#[derive(Clone, Copy)]
pub struct GuestPage {
    mfn: Mfn,
    words: &'static SharedPage,
}

impl GuestPage {
    /// The page, of which the caller has a reference.
    pub fn new(machine: &dyn Machine, mfn: Mfn) -> Self {
        Self { mfn, words: machine.page(mfn) }
    }

    /// Which page it is.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }
}

/// The channels and attachments of one domain. The tables are allocated when first needed.
pub struct TxCopy<P> {
    channels: spin::Once<Vec<Lock<Slot<P>>>>,
    attachments: spin::Once<Vec<Lock<Option<Attachment<P>>>>>,
}

/// A place for a channel.
struct Slot<P> {
    /// Which of the channels that were here: attachments to an earlier one are void.
    generation: u64,
    /// At most one; a vector because its allocation may fail.
    channel: Vec<Channel<P>>,
}

/// A channel that has ended.
pub struct Ended<P> {
    /// Its pages: the caller drops the references.
    pub ring: Ring,
    /// Its sender, to be told by an event.
    pub attached: Option<(P, Attached)>,
}

impl<P> Default for TxCopy<P> {
    fn default() -> Self {
        Self { channels: spin::Once::new(), attachments: spin::Once::new() }
    }
}

impl<P: Clone> TxCopy<P> {
    /// Makes a channel on which `sender` may send; events go to `port` of this domain. Its number.
    ///
    /// # Errors
    /// `ENOSPC` and `ENOMEM`, with the ring back.
    pub fn create(&self, sender: P, port: u32, ring: Ring) -> Result<u32, (Errno, Ring)> {
        let table = match self.channels.try_call_once(|| table(TXCOPY_MAX_CHANNELS, || Slot { generation: 0, channel: Vec::new() })) {
            Ok(table) => table,
            Err(error) => return Err((error, ring)),
        };
        // A place that another CPU has locked is in use, or was a moment ago.
        let free = (0..).zip(table).find_map(|(n, slot)| slot.try_lock().filter(|s| s.channel.is_empty()).map(|s| (n, s)));
        let Some((number, mut slot)) = free else { return Err((Errno::ENOSPC, ring)) };
        if slot.channel.try_reserve_exact(1).is_err() {
            return Err((Errno::ENOMEM, ring));
        }
        slot.generation += 1;
        slot.channel.push(Channel::new(sender, port, ring));
        Ok(number)
    }

    /// Ends a channel; `None` if there is none of that number.
    pub fn destroy(&self, number: u32) -> Option<Ended<P>> {
        let mut slot = self.slot(number)?.lock();
        let channel = core::mem::take(&mut slot.channel).pop()?;
        Some(Ended { attached: channel.attached.map(|a| (channel.sender.clone(), a)), ring: channel.ring })
    }

    /// Ends the first channel that is left: for a domain that dies.
    pub fn destroy_next(&self) -> Option<Ended<P>> {
        (0..TXCOPY_MAX_CHANNELS).find_map(|number| self.destroy(number))
    }

    /// Makes a sender that `may_send` the one of a channel, whose port there is `port`. The channel's generation.
    ///
    /// # Errors
    /// `ENOENT`: no such channel, or not for this sender. `EBUSY`: it has one.
    pub fn claim(&self, number: u32, port: u32, may_send: impl FnOnce(&P) -> bool) -> Result<u64, Errno> {
        let mut slot = self.slot(number).ok_or(Errno::ENOENT)?.lock();
        let generation = slot.generation;
        let channel = slot.channel.first_mut().filter(|c| may_send(&c.sender)).ok_or(Errno::ENOENT)?;
        if channel.attached.is_some() {
            return Err(Errno::EBUSY);
        }
        channel.attached = Some(Attached { port });
        Ok(generation)
    }

    /// The sender of that channel lets it go. Nothing if the channel has ended.
    pub fn unclaim(&self, number: u32, generation: u64) {
        self.with(number, Some(generation), Channel::detach);
    }

    /// Keeps the attachment that `make` returns. Its handle.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`, or that of `make`.
    pub fn attach(&self, make: impl FnOnce() -> Result<Attachment<P>, Errno>) -> Result<u32, Errno> {
        let table = self.attachments.try_call_once(|| table(TXCOPY_MAX_ATTACHMENTS, || None))?;
        let free = (0..).zip(table).find_map(|(n, slot)| slot.try_lock().filter(|s| s.is_none()).map(|s| (n, s)));
        let (handle, mut slot) = free.ok_or(Errno::ENOSPC)?;
        *slot = Some(make()?);
        Ok(handle)
    }

    /// Takes out an attachment; the caller [unclaims](Self::unclaim) the channel and drops the reference of its page.
    pub fn detach(&self, handle: u32) -> Option<Attachment<P>> {
        self.attachments.get()?.get(handle as usize)?.lock().take()
    }

    /// Takes out the first attachment that is left: for a domain that dies.
    pub fn detach_next(&self) -> Option<Attachment<P>> {
        (0..TXCOPY_MAX_ATTACHMENTS).find_map(|handle| self.detach(handle))
    }

    /// Calls `f` with the attachment, which cannot end meanwhile.
    pub fn with_attachment<R>(&self, handle: u32, f: impl FnOnce(&Attachment<P>) -> R) -> Option<R> {
        self.attachments.get()?.get(handle as usize)?.lock().as_ref().map(f)
    }

    /// Calls `f` with the channel, if there is one (and its generation is `generation`); it cannot end meanwhile.
    pub fn with<R>(&self, number: u32, generation: Option<u64>, f: impl FnOnce(&mut Channel<P>) -> R) -> Option<R> {
        let mut slot = self.slot(number)?.lock();
        if generation.is_some_and(|g| g != slot.generation) {
            return None;
        }
        slot.channel.first_mut().map(f)
    }

    fn slot(&self, number: u32) -> Option<&Lock<Slot<P>>> {
        self.channels.get()?.get(number as usize)
    }
}

fn table<T>(len: u32, empty: impl Fn() -> T) -> Result<Vec<Lock<T>>, Errno> {
    let mut table = Vec::new();
    table.try_reserve_exact(len as usize).map_err(|_| Errno::ENOMEM)?;
    table.resize_with(len as usize, || Lock::new(empty()));
    Ok(table)
}
