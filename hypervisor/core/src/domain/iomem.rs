//! Which device frames of the machine a domain may have: what the toolstack said by `XEN_DOMCTL_iomem_permission` (Xen's `iomem_caps`).

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::ops::Range;

/// Frames, as ranges that do not touch, ascending.
#[derive(Default)]
pub struct IomemAccess(Vec<Range<u64>>);

impl IomemAccess {
    /// Permits these frames.
    ///
    /// # Errors
    /// No memory; nothing changed.
    pub fn permit(&mut self, frames: Range<u64>) -> Result<(), TryReserveError> {
        self.0.try_reserve(1)?;
        let first = self.0.partition_point(|known| known.end < frames.start);
        let behind = self.0.partition_point(|known| known.start <= frames.end);
        let whole = self.0.drain(first..behind).fold(frames, |all, one| all.start.min(one.start)..all.end.max(one.end));
        self.0.insert(first, whole);
        Ok(())
    }

    /// Denies these frames.
    ///
    /// # Errors
    /// No memory; nothing changed.
    pub fn deny(&mut self, frames: Range<u64>) -> Result<(), TryReserveError> {
        // What is left on each side takes the place of one range at least.
        self.0.try_reserve(1)?;
        let first = self.0.partition_point(|known| known.end <= frames.start);
        let behind = self.0.partition_point(|known| known.start < frames.end);
        let hit = self.0.drain(first..behind).reduce(|all, one| all.start..one.end);
        let left = hit.map(|hit| [hit.start..frames.start, frames.end..hit.end]);
        for (at, piece) in (first..).zip(left.into_iter().flatten().filter(|piece| !piece.is_empty())) {
            self.0.insert(at, piece);
        }
        Ok(())
    }

    /// Whether all of these frames are permitted.
    pub fn is_permitted(&self, frames: Range<u64>) -> bool {
        self.0.iter().any(|known| known.start <= frames.start && frames.end <= known.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_are_what_was_last_said_of_them(steps in prop::collection::vec((any::<bool>(), 0..20_u64, 1..8_u64), 0..30)) {
            let (mut access, mut model) = (IomemAccess::default(), [false; 32]);
            for (allow, start, count) in steps {
                let frames = start..start + count;
                model[start as usize..(start + count) as usize].fill(allow);
                if allow { access.permit(frames).unwrap() } else { access.deny(frames).unwrap() }
                for first in 0..28 {
                    for end in first + 1..28 {
                        prop_assert_eq!(access.is_permitted(first..end), model[first as usize..end as usize].iter().all(|one| *one));
                    }
                }
                prop_assert!(access.0.iter().all(|known| !known.is_empty()));
                prop_assert!(access.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
