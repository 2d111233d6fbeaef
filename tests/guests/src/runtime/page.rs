//! Pages that hypervisor and other domains may change: read and written by value, never under a reference.

use super::platform;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Bytes of a page.
pub const SIZE: u64 = 4096;

unsafe extern "C" {
    static __image_end: [u8; 0];
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A page of guest addresses: the domain's own, or a window where the hypervisor maps something.
#[derive(Clone, Copy)]
pub struct Page(u64);

impl Page {
    /// A fresh page of the domain's memory, zeroed. It is never given back.
    pub fn take() -> Self {
        Self::take_aligned(1)
    }

    /// As many fresh pages in a row, aligned to their number (a power of two); returns the first.
    pub fn take_aligned(pages: u64) -> Self {
        let start = ((&raw const __image_end).expose_provenance() as u64).div_ceil(SIZE);
        let mut first = 0;
        let _ = TAKEN.fetch_update(Relaxed, Relaxed, |taken| {
            first = (start + taken).next_multiple_of(pages);
            Some(first + pages - start)
        });
        // 16 MiB of at least 32: the device tree lies at the end.
        assert!(first - start < 4096, "the test domain has no page left");
        for n in 0..pages {
            let page = Self((first + n) * SIZE);
            (0..512).for_each(|word| page.write64(word * 8, 0));
        }
        Self(first * SIZE)
    }

    /// The page of a guest frame of the grant window or of the magic pages, which are never Rust's.
    pub fn window(gfn: u64) -> Self {
        let window = platform::window();
        assert!((0x3_8000..0x3_a000).contains(&gfn) || (window..window + 0x800).contains(&gfn), "not a window");
        Self(gfn * SIZE)
    }

    /// A page that was [taken](Self::take), by its address.
    pub fn own(address: u64) -> Self {
        let start = ((&raw const __image_end).expose_provenance() as u64).div_ceil(SIZE);
        assert!((start..start + TAKEN.load(Relaxed)).contains(&(address / SIZE)), "not a page that was taken");
        Self(address)
    }

    /// Page `n` of the window of this domain.
    pub fn hole(n: u64) -> Self {
        Self::window(platform::window() + n)
    }

    /// A page of the image, only to be read: what is not code changes under Rust's hands.
    pub(super) fn of_image(address: u64) -> Self {
        Self(address)
    }

    /// A page of a peer behind all that Rust uses.
    pub(super) fn of_peer(gfn: u64) -> Self {
        Self(gfn * SIZE)
    }

    /// The page `n` pages behind this one.
    pub fn offset(self, n: u64) -> Self {
        Self(self.0 + n * SIZE)
    }

    /// Its address.
    pub fn address(self) -> u64 {
        self.0
    }

    /// Its guest frame number.
    pub fn gfn(self) -> u64 {
        self.0 / SIZE
    }

    fn at<T>(self, offset: u64) -> *mut T {
        assert!(offset.is_multiple_of(size_of::<T>() as u64) && offset < SIZE, "not in the page");
        core::ptr::with_exposed_provenance_mut((self.0 + offset) as usize)
    }

    /// Reads a byte.
    pub fn read8(self, offset: u64) -> u8 {
        // SAFETY: `at` checks alignment and bounds; the page is mapped and no Rust object lies in it (see `take`, `window`).
        unsafe { self.at::<u8>(offset).read_volatile() }
    }

    /// Reads 16 bits.
    pub fn read16(self, offset: u64) -> u16 {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u16>(offset).read_volatile() }
    }

    /// Reads 32 bits.
    pub fn read32(self, offset: u64) -> u32 {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    /// Reads 64 bits.
    pub fn read64(self, offset: u64) -> u64 {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u64>(offset).read_volatile() }
    }

    /// Writes a byte.
    pub fn write8(self, offset: u64, value: u8) {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u8>(offset).write_volatile(value) }
    }

    /// Writes 16 bits.
    pub fn write16(self, offset: u64, value: u16) {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u16>(offset).write_volatile(value) }
    }

    /// Writes 32 bits.
    pub fn write32(self, offset: u64, value: u32) {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u32>(offset).write_volatile(value) }
    }

    /// Writes 64 bits.
    pub fn write64(self, offset: u64, value: u64) {
        // SAFETY: as in `read8`.
        unsafe { self.at::<u64>(offset).write_volatile(value) }
    }

    /// Replaces 16 bits if they are `old`; whether they were.
    pub fn replace16(self, offset: u64, old: u16, new: u16) -> bool {
        // SAFETY: as in `read8`; everybody else changes these bits atomically, too.
        unsafe { AtomicU16::from_ptr(self.at(offset)) }.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }

    /// Clears bits of 64; what they were.
    pub fn clear64(self, offset: u64, bits: u64) -> u64 {
        // SAFETY: as in `replace16`.
        unsafe { AtomicU64::from_ptr(self.at(offset)) }.fetch_and(!bits, SeqCst) & bits
    }

    /// Sets bits of 64; what they were.
    pub fn set64(self, offset: u64, bits: u64) -> u64 {
        // SAFETY: as in `replace16`.
        unsafe { AtomicU64::from_ptr(self.at(offset)) }.fetch_or(bits, SeqCst) & bits
    }

    /// Whether all bytes are this one.
    pub fn is_filled(self, byte: u8) -> bool {
        (0..SIZE).all(|offset| self.read8(offset) == byte)
    }

    /// Makes all bytes this one.
    pub fn fill(self, byte: u8) {
        (0..512).for_each(|word| self.write64(word * 8, u64::from_ne_bytes([byte; 8])));
    }
}
