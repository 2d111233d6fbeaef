//! A guest's memory as its hypercalls name it: by virtual address.
//!
//! A [`GuestPtr`] is a claim. [`GuestMemory`] checks it page by page under the live stage 1 of the running vCPU, accepts only the caller's
//! own RAM (not pages it maps from others, not pages the hypervisor shares with it), and holds a reference while it looks. Every read is by
//! value: no reference ever points into guest memory. [`GuestMemory::pin`] gives a proof whose reads and writes cannot fail, so that an
//! operation can check everything before its first side effect.

use crate::addr::{GuestVa, MachineAddr, Mfn, PAGE_SIZE, Vmid};
use crate::frames::FrameTable;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[cfg(test)]
mod tests;

/// The guest's address cannot be used: unmapped, read-only where it would be written, or not its own RAM. The ABI's `EFAULT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// Stage 1 and 2 of the running vCPU, as the hardware translates.
pub trait Stage1 {
    /// The machine address that the guest's kernel would reach at `va`, if it may read (or `write`) there.
    fn translate(&self, va: GuestVa, write: bool) -> Option<MachineAddr>;
}

/// A guest's claim that a `T` (or an array of them) is at a virtual address. `XEN_GUEST_HANDLE`.
pub struct GuestPtr<T> {
    va: GuestVa,
    of: PhantomData<T>,
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

impl<T> fmt::Debug for GuestPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.va.fmt(f)
    }
}

impl<T> GuestPtr<T> {
    /// The claim that a register or a structure's field makes.
    pub const fn new(va: u64) -> Self {
        Self { va: GuestVa(va), of: PhantomData }
    }

    /// The address claimed.
    pub const fn va(self) -> GuestVa {
        self.va
    }

    /// Whether it is the null handle.
    pub const fn is_null(self) -> bool {
        self.va.0 == 0
    }

    /// The element `index` further on; `None` past the end of the address space.
    pub const fn offset(self, index: u64) -> Option<Self> {
        match index.checked_mul(size_of::<T>() as u64) {
            Some(bytes) => self.cast_at(bytes),
            None => None,
        }
    }

    /// A `U` that lies `bytes` after this address, such as a field; `None` past the end of the address space.
    pub const fn cast_at<U>(self, bytes: u64) -> Option<GuestPtr<U>> {
        match self.va.0.checked_add(bytes) {
            Some(va) => Some(GuestPtr::new(va)),
            None => None,
        }
    }

    /// The same address as a pointer to something else.
    pub const fn cast<U>(self) -> GuestPtr<U> {
        GuestPtr { va: self.va, of: PhantomData }
    }
}

/// The memory of the vCPU that is making a hypercall.
pub struct GuestMemory<'a> {
    frames: &'a FrameTable,
    stage1: &'a dyn Stage1,
    owner: Vmid,
    /// The page last used, referenced: arrays of small structures translate once per page.
    last: Cell<Option<Translated>>,
}

#[derive(Clone, Copy)]
struct Translated {
    /// Virtual page number.
    page: u64,
    mfn: Mfn,
    writable: bool,
}

impl<'a> GuestMemory<'a> {
    /// The memory of a vCPU of the domain `owner`, whose translation is live on this CPU.
    pub fn new(frames: &'a FrameTable, stage1: &'a dyn Stage1, owner: Vmid) -> Self {
        Self { frames, stage1, owner, last: Cell::new(None) }
    }

    /// Reads a `T`, once, by value.
    pub fn read<T: FromBytes + IntoBytes>(&self, ptr: GuestPtr<T>) -> Result<T, Fault> {
        let mut value = T::new_zeroed();
        self.read_bytes(ptr.va, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a `T`: all of it or, on a fault, nothing. At most a page in size.
    pub fn write<T: IntoBytes + Immutable>(&self, ptr: GuestPtr<T>, value: &T) -> Result<(), Fault> {
        self.write_bytes(ptr.va, value.as_bytes())
    }

    /// Reads as many bytes as `into` holds. The caller bounds the length.
    pub fn read_bytes(&self, va: GuestVa, into: &mut [u8]) -> Result<(), Fault> {
        if into.len() <= room(va) {
            if !into.is_empty() {
                let at = self.page(va, false)?;
                self.frames.machine().read(at, into);
            }
            return Ok(());
        }
        let mut va = va;
        let mut rest = into;
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(room(va).min(rest.len()));
            let at = self.page(va, false)?;
            self.frames.machine().read(at, part);
            va = next(va, part.len(), after.is_empty())?;
            rest = after;
        }
        Ok(())
    }

    /// Writes `bytes`. The caller bounds the length. Up to a page, it is all or nothing; beyond, a fault may come after part of it.
    pub fn write_bytes(&self, va: GuestVa, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() <= room(va) {
            if !bytes.is_empty() {
                let at = self.page(va, true)?;
                self.frames.machine().write(at, bytes);
            }
            return Ok(());
        }
        let mut va = va;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (step, after) = rest.split_at(rest.len().min(PAGE_SIZE as usize));
            self.pin_bytes(va, step.len(), true)?.write(0, step);
            va = next(va, step.len(), after.is_empty())?;
            rest = after;
        }
        Ok(())
    }

    /// Proves that the caller may read and write a `T` at `ptr` and holds the page or two that it lies in. At most a page in size.
    pub fn pin<T: FromBytes + IntoBytes + Immutable>(&self, ptr: GuestPtr<T>) -> Result<Pinned<'a, T>, Fault> {
        self.pin_some(ptr, 1)
    }

    /// The same for the first elements of an array of `most`: those that lie in the same page, at least one.
    pub fn pin_some<T: FromBytes + IntoBytes + Immutable>(&self, ptr: GuestPtr<T>, most: u32) -> Result<Pinned<'a, T>, Fault> {
        const { assert!(size_of::<T>() > 0 && size_of::<T>() <= PAGE_SIZE as usize) };
        let in_page = (room(ptr.va) / size_of::<T>()) as u32;
        let count = most.min(in_page).max(1);
        Ok(Pinned { bytes: self.pin_bytes(ptr.va, count as usize * size_of::<T>(), true)?, count, of: PhantomData })
    }

    /// Holds the one or two pages of `len` bytes (at most a page) at `va`.
    // In its caller, or the answer is copied twice.
    #[inline(always)]
    fn pin_bytes(&self, va: GuestVa, len: usize, write: bool) -> Result<PinnedBytes<'a>, Fault> {
        let first = len.min(room(va));
        let mut pinned = PinnedBytes { frames: self.frames, parts: [None, None] };
        let [head, tail] = &mut pinned.parts;
        *head = Some((self.hold(va, write)?, first));
        if first < len {
            *tail = Some((self.hold(next(va, first, false)?, write)?, len - first));
        }
        Ok(pinned)
    }

    /// The machine address of `va`, with a reference of the caller's own.
    #[inline]
    pub fn hold(&self, va: GuestVa, write: bool) -> Result<MachineAddr, Fault> {
        let at = self.stage1.translate(va, write).ok_or(Fault)?;
        if self.get(Mfn::containing(at)) { Ok(at) } else { Err(Fault) }
    }

    /// The machine address of `va`, on a page that the cache holds until it holds another.
    fn page(&self, va: GuestVa, write: bool) -> Result<MachineAddr, Fault> {
        let page = va.0 / PAGE_SIZE;
        if let Some(last) = self.last.get()
            && last.page == page
            && (last.writable || !write)
        {
            return Ok(MachineAddr(last.mfn.address().0 + va.page_offset()));
        }
        let at = self.hold(va, write)?;
        self.forget();
        self.last.set(Some(Translated { page, mfn: Mfn::containing(at), writable: write }));
        Ok(at)
    }

    /// Takes a reference to the domain's RAM, or to a page that the hypervisor shares with it: as in Xen, arguments may lie there.
    fn get(&self, mfn: Mfn) -> bool {
        self.frames.get_ram(mfn, self.owner) || self.frames.get(mfn, self.owner)
    }

    /// Lets go of the page that was translated last.
    pub fn forget(&self) {
        if let Some(last) = self.last.take() {
            self.frames.put(last.mfn);
        }
    }
}

impl Drop for GuestMemory<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Bytes from `va` to the end of its page.
fn room(va: GuestVa) -> usize {
    (PAGE_SIZE - va.page_offset()) as usize
}

/// The address `len` further on; beyond the end of the space only an access that is complete may point.
fn next(va: GuestVa, len: usize, complete: bool) -> Result<GuestVa, Fault> {
    match va.checked_add(len as u64) {
        Some(va) => Ok(va),
        None if complete => Ok(va),
        None => Err(Fault),
    }
}

/// Proof that one or more `T`s of the caller's memory can be read and written; holds their pages until dropped.
pub struct Pinned<'a, T> {
    bytes: PinnedBytes<'a>,
    count: u32,
    of: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Pinned<'_, T> {
    /// How many there are: [`GuestMemory::pin_some`].
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Reads the first, once, by value.
    pub fn read(&self) -> T {
        let mut value = T::new_zeroed();
        self.read_nth(0, &mut value);
        value
    }

    /// Writes the first.
    pub fn write(&self, value: &T) {
        self.write_nth(0, value);
    }

    /// Reads number `n`, which there is, once.
    pub fn read_nth(&self, n: u32, into: &mut T) {
        self.bytes.read(n as usize * size_of::<T>(), into.as_mut_bytes());
    }

    /// Writes number `n`, which there is.
    pub fn write_nth(&self, n: u32, value: &T) {
        self.bytes.write(n as usize * size_of::<T>(), value.as_bytes());
    }
}

/// Up to a page of bytes, in one or two pages: where each part is, and its length.
struct PinnedBytes<'a> {
    frames: &'a FrameTable,
    parts: [Option<(MachineAddr, usize)>; 2],
}

impl PinnedBytes<'_> {
    /// Reads from byte `from` on; what is beyond the end stays as it is.
    fn read(&self, from: usize, into: &mut [u8]) {
        let (mut from, mut rest) = (from, into);
        for &(at, len) in self.parts.iter().flatten() {
            let skip = from.min(len);
            let (part, after) = rest.split_at_mut((len - skip).min(rest.len()));
            self.frames.machine().read(MachineAddr(at.0 + skip as u64), part);
            (from, rest) = (from - skip, after);
        }
    }

    /// Writes from byte `from` on, up to the end.
    fn write(&self, from: usize, bytes: &[u8]) {
        let (mut from, mut rest) = (from, bytes);
        for &(at, len) in self.parts.iter().flatten() {
            let skip = from.min(len);
            let (part, after) = rest.split_at((len - skip).min(rest.len()));
            self.frames.machine().write(MachineAddr(at.0 + skip as u64), part);
            (from, rest) = (from - skip, after);
        }
    }
}

impl Drop for PinnedBytes<'_> {
    fn drop(&mut self) {
        for &(at, _) in self.parts.iter().flatten() {
            self.frames.put(Mfn::containing(at));
        }
    }
}
