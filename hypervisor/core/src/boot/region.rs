//! Ranges of machine addresses, and the few set operations that boot needs on them.

use alloc::vec::Vec;
use core::fmt;

use crate::addr::{MachineAddr, PAGE_SIZE};

/// A range of machine addresses: never empty, never past the end of the address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    start: u64,
    size: u64,
}

impl Region {
    /// `size` bytes from `start`; `None` if that is nothing or wraps.
    pub const fn new(start: u64, size: u64) -> Option<Self> {
        if size == 0 || start.checked_add(size).is_none() { None } else { Some(Self { start, size }) }
    }

    /// From `start` up to, not including, `end`; `None` if that is nothing.
    pub const fn between(start: u64, end: u64) -> Option<Self> {
        if start < end { Some(Self { start, size: end - start }) } else { None }
    }

    /// First byte.
    pub const fn start(self) -> MachineAddr {
        MachineAddr(self.start)
    }

    /// The byte after the last.
    pub const fn end(self) -> MachineAddr {
        MachineAddr(self.start + self.size)
    }

    /// Bytes.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Whether the two share a byte.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end().0 && other.start < self.end().0
    }

    /// The part that both share.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end().0.min(other.end().0))
    }

    /// Grown to whole pages.
    pub fn pages_outward(self) -> Self {
        let start = self.start & !(PAGE_SIZE - 1);
        let end = self.end().0.checked_next_multiple_of(PAGE_SIZE).unwrap_or(!(PAGE_SIZE - 1));
        // Empty only when the region lies in the last page of the space, which cannot be rounded up.
        Self::between(start, end).unwrap_or(self)
    }

    /// Shrunk to whole multiples of `align` (a power of two); `None` if none is left.
    pub fn shrink_to(self, align: u64) -> Option<Self> {
        Self::between(self.start.checked_next_multiple_of(align)?, self.end().0 & !(align - 1))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.start + self.size)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Sorts, and joins what overlaps or touches.
pub fn merge(mut regions: Vec<Region>) -> Vec<Region> {
    regions.sort_unstable();
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len());
    for region in regions {
        match merged.last_mut() {
            Some(last) if region.start <= last.end().0 => last.size = last.end().0.max(region.end().0) - last.start,
            _ => merged.push(region),
        }
    }
    merged
}

/// What is in `from` and in none of `holes`; sorted and merged.
pub fn subtract(from: &[Region], holes: &[Region]) -> Vec<Region> {
    let holes = merge(holes.to_vec());
    let mut left = Vec::new();
    for region in merge(from.to_vec()) {
        let mut start = region.start;
        for hole in holes.iter().filter(|hole| hole.overlaps(region)) {
            left.extend(Region::between(start, hole.start));
            start = hole.end().0;
        }
        left.extend(Region::between(start, region.end().0));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn r(start: u64, end: u64) -> Region {
        Region::between(start, end).unwrap()
    }

    #[test]
    fn empty_or_wrapping_regions_do_not_exist() {
        assert_eq!(Region::new(5, 0), None);
        assert_eq!(Region::new(u64::MAX, 1), None);
        assert_eq!(Region::between(5, 5), None);
    }

    #[test]
    fn merge_joins_overlapping_and_touching() {
        assert_eq!(merge(vec![r(8, 9), r(0, 4), r(4, 6), r(1, 2)]), [r(0, 6), r(8, 9)]);
    }

    #[test]
    fn subtract_cuts_edges_and_middles() {
        assert_eq!(subtract(&[r(0, 10), r(20, 30)], &[r(8, 22), r(3, 4), r(29, 40)]), [r(0, 3), r(4, 8), r(22, 29)]);
        assert_eq!(subtract(&[r(5, 6)], &[r(0, 10)]), []);
    }

    #[test]
    fn rounding_to_pages() {
        assert_eq!(r(0x1001, 0x1fff).pages_outward(), r(0x1000, 0x2000));
        assert_eq!(r(0x1001, 0x3fff).shrink_to(PAGE_SIZE), Some(r(0x2000, 0x3000)));
        assert_eq!(r(0x1001, 0x2fff).shrink_to(PAGE_SIZE), None);
    }
}
