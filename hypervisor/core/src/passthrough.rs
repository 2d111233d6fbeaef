//! Devices of the machine that may be given to domains: whose each shared interrupt is, and which registers and interrupts the control domain
//! may give away without having them itself (nodes with `xen,passthrough`).
//!
//! Without an IOMMU only devices that do no DMA are safe to give away, or those whose guest is trusted: that is for who does it to judge.

use crate::addr::{Mfn, Vmid};
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::lock::Lock;
use crate::vgic::{FIRST_SPI, MAX_SPIS};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU16, Ordering};

/// The line may be given away; below it, the VMID of its owner.
const OFFERED: u16 = 1 << 15;

/// The machine's devices as far as domains own them.
pub struct Passthrough {
    /// For each SPI its owner's VMID (0: nobody), and [`OFFERED`].
    lines: [AtomicU16; MAX_SPIS as usize],
    /// Frames of registers that may be given away, in pieces; fixed at boot.
    frames: Lock<Vec<Range<Mfn>>>,
}

/// Another domain has the line, or there is no such line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken;

impl Default for Passthrough {
    fn default() -> Self {
        Self { lines: [const { AtomicU16::new(0) }; MAX_SPIS as usize], frames: Lock::new(Vec::new()) }
    }
}

impl Passthrough {
    fn line(&self, intid: u32) -> Option<&AtomicU16> {
        self.lines.get(intid.checked_sub(FIRST_SPI)? as usize)
    }

    /// Lets the control domain give SPI `intid` to domains.
    pub fn offer_line(&self, intid: u32) {
        if let Some(line) = self.line(intid) {
            line.fetch_or(OFFERED, Ordering::SeqCst);
        }
    }

    /// Whether the control domain may give SPI `intid` away.
    pub fn is_offered(&self, intid: u32) -> bool {
        self.line(intid).is_some_and(|line| line.load(Ordering::SeqCst) & OFFERED != 0)
    }

    /// Makes SPI `intid` that of `owner`.
    ///
    /// # Errors
    /// It is another domain's.
    pub fn claim_line(&self, intid: u32, owner: Vmid) -> Result<(), Taken> {
        let line = self.line(intid).ok_or(Taken)?;
        let claim = |state: u16| (state & !OFFERED == 0 || state & !OFFERED == owner.0.into()).then_some(state | u16::from(owner.0));
        line.fetch_update(Ordering::SeqCst, Ordering::SeqCst, claim).map(drop).map_err(|_| Taken)
    }

    /// Nobody owns SPI `intid` any more.
    pub fn free_line(&self, intid: u32) {
        if let Some(line) = self.line(intid) {
            line.fetch_and(OFFERED, Ordering::SeqCst);
        }
    }

    /// The domain that SPI `intid` is for.
    pub fn owner(&self, intid: u32) -> Option<Vmid> {
        let owner = self.line(intid)?.load(Ordering::SeqCst) & !OFFERED;
        u8::try_from(owner).ok().filter(|owner| *owner != 0).map(Vmid)
    }

    /// The SPIs of a domain, ascending.
    pub fn lines_of(&self, owner: Vmid) -> impl Iterator<Item = u32> {
        (FIRST_SPI..FIRST_SPI + MAX_SPIS).filter(move |intid| self.owner(*intid) == Some(owner))
    }

    /// Lets the control domain give these frames to domains.
    pub fn offer_frames(&self, frames: Range<Mfn>) {
        self.frames.lock().push(frames);
    }

    /// The first frame behind the piece on offer that holds `mfn`; `None`: it is not on offer.
    pub fn offered_until(&self, mfn: Mfn) -> Option<Mfn> {
        self.frames.lock().iter().find(|piece| piece.contains(&mfn)).map(|piece| piece.end)
    }
}

impl Hypervisor {
    /// Takes the interrupts of a domain that does not run from it: they are quiet from now on, and may be another's.
    pub(crate) fn release_lines(&self, domain: &Domain) {
        for intid in self.passthrough.lines_of(domain.vmid) {
            self.machine.spi_set_enabled(intid, false);
            domain.vgic.link_spi(intid, false);
            // What the guest had not completed.
            self.machine.spi_deactivate(intid);
            self.passthrough.free_line(intid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_domains_at_a_time() {
        let lines = Passthrough::default();
        assert_eq!((lines.owner(34), lines.is_offered(34)), (None, false));
        lines.offer_line(34);
        assert_eq!(lines.claim_line(34, Vmid(2)), Ok(()));
        assert_eq!(lines.claim_line(34, Vmid(2)), Ok(()));
        assert_eq!(lines.claim_line(34, Vmid(3)), Err(Taken));
        assert_eq!((lines.owner(34), lines.is_offered(34)), (Some(Vmid(2)), true));
        assert_eq!(lines.lines_of(Vmid(2)).collect::<Vec<_>>(), [34]);
        lines.free_line(34);
        assert_eq!((lines.owner(34), lines.is_offered(34)), (None, true));
        assert_eq!(lines.claim_line(34, Vmid(3)), Ok(()));
    }

    #[test]
    fn private_interrupts_and_those_beyond_are_nobodys() {
        let lines = Passthrough::default();
        for intid in [0, 27, 31, FIRST_SPI + MAX_SPIS, u32::MAX] {
            lines.offer_line(intid);
            assert_eq!((lines.is_offered(intid), lines.claim_line(intid, Vmid(1)), lines.owner(intid)), (false, Err(Taken), None));
        }
    }

    #[test]
    fn frames_on_offer_are_found_piece_by_piece() {
        let offered = Passthrough::default();
        offered.offer_frames(Mfn(0x9010)..Mfn(0x9012));
        assert_eq!(offered.offered_until(Mfn(0x900f)), None);
        assert_eq!(offered.offered_until(Mfn(0x9010)), Some(Mfn(0x9012)));
        assert_eq!(offered.offered_until(Mfn(0x9012)), None);
    }
}
