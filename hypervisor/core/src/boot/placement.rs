//! Where things go: Dom0's memory, its kernel with device tree and ramdisk, the grant table window, the extended regions.
//!
//! Dom0 is mapped 1:1 (guest physical = machine address), so that its devices can reach its memory without an IOMMU.

use alloc::vec::Vec;

use super::region::{merge, subtract};
use super::{BootError, Region};
use crate::addr::{MachineAddr, PAGE_SIZE};

const MIB: u64 = 1 << 20;
/// The first bank is at least so large, if Dom0 is: kernel, device tree and ramdisk lie in it.
const FIRST_BANK: u64 = 128 * MIB;
/// Later pieces are at least so large.
const SMALLEST_PIECE: u64 = 4 * MIB;
/// 32-bit DMA reaches below this.
const LOW_END: u64 = 1 << 32;
/// Extended regions are whole multiples of this …
const EXTENDED_ALIGN: u64 = 2 * MIB;
/// … and at least so large.
const EXTENDED_SMALLEST: u64 = 64 * MIB;
/// More extended regions than this are left out, the smallest first.
const EXTENDED_MAX: usize = 64;

/// Chooses machine memory for Dom0: `size` bytes, rounded up to pages, out of `free`. The result is sorted and merged; its first bank is
/// the one to boot from.
///
/// As Xen's `allocate_memory_11`: pieces are powers of two, naturally aligned (so that stage 2 can use blocks), largest first, below
/// 4 GiB if at all possible; the first one as low as possible.
pub fn place_dom0(free: &[Region], size: u64) -> Result<Vec<Region>, BootError> {
    let size = size.max(PAGE_SIZE).checked_next_multiple_of(PAGE_SIZE).ok_or(BootError::TooLittleMemory { asked: size, placed: 0 })?;
    let mut free = merge(free.to_vec());
    let mut banks: Vec<Region> = Vec::new();
    let mut left = size;
    let smallest_low = power_of_two_below(size.min(FIRST_BANK));
    let mut low = true;
    let mut piece = power_of_two_below(size);
    while left != 0 {
        let limit = if low { LOW_END } else { u64::MAX };
        let smallest = if low { smallest_low } else { SMALLEST_PIECE };
        match find_piece(&free, &banks, piece, limit) {
            Some(found) => {
                free = subtract(&free, &[found]);
                banks.push(found);
                banks = merge(banks);
                left -= piece;
                piece = power_of_two_below(left);
            }
            None if piece / 2 >= smallest => piece /= 2,
            None if low => {
                low = false;
                piece = power_of_two_below(left);
            }
            None => return Err(BootError::TooLittleMemory { asked: size, placed: size - left }),
        }
    }
    Ok(banks)
}

/// The lowest naturally aligned piece that ends at or below `limit`. What comes before the first bank must be large enough to be one.
fn find_piece(free: &[Region], banks: &[Region], piece: u64, limit: u64) -> Option<Region> {
    let may_be_first = |found: Region| found.size() >= FIRST_BANK || banks.first().is_none_or(|first| first.start() < found.start());
    free.iter().find_map(|region| {
        let found = Region::new(region.start().0.checked_next_multiple_of(piece)?, piece)?;
        let fits = found.end().0 <= limit && region.intersection(found) == Some(found);
        (fits && may_be_first(found)).then_some(found)
    })
}

/// The largest power of two not above `size`; 0 for 0.
const fn power_of_two_below(size: u64) -> u64 {
    match size.checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    }
}

/// Where the files that Dom0 boots from go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootFiles {
    /// The kernel, and its entry.
    pub kernel: MachineAddr,
    /// The device tree.
    pub tree: MachineAddr,
    /// The ramdisk, whether there is one or not.
    pub ramdisk: MachineAddr,
}

/// Places kernel, device tree (`tree_size` bytes) and ramdisk (`ramdisk_size` bytes, 0 if there is none) in Dom0's first bank.
///
/// The kernel goes where its header says. Device tree and ramdisk, each rounded to 2 MiB, go 128 MiB into the bank, else to its end,
/// else below the kernel (as Xen; U-Boot and Linux' booting text say why: out of the way of a kernel that moves or unpacks itself).
pub fn place_boot_files(
    bank: Region,
    kernel: super::image::KernelImage,
    tree_size: u64,
    ramdisk_size: u64,
) -> Result<BootFiles, BootError> {
    let (start, end) = (bank.start().0, bank.end().0);
    let round = |size: u64| size.checked_next_multiple_of(2 * MIB);
    let place = || {
        let kernel_start = round(start)?.checked_add(kernel.text_offset)?;
        let kernel_end = round(kernel_start.checked_add(kernel.memory_size)?)?;
        let tree_space = round(tree_size)?;
        let space = tree_space.checked_add(round(ramdisk_size)?)?;
        if kernel_end > end {
            return None;
        }
        let usual = start.checked_add(128 * MIB)?;
        let tree = if kernel_end <= usual && end.saturating_sub(usual) >= space {
            usual
        } else if end - kernel_end >= space {
            (end - space) & !(2 * MIB - 1)
        } else if kernel.text_offset >= space {
            kernel_start - space
        } else {
            return None;
        };
        Some(BootFiles { kernel: MachineAddr(kernel_start), tree: MachineAddr(tree), ramdisk: MachineAddr(tree + tree_space) })
    };
    place().ok_or_else(|| {
        let needed = [kernel.memory_size, tree_size, ramdisk_size].iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
        BootError::BootFilesDoNotFit { needed, bank: bank.size() }
    })
}

/// Chooses the guest physical addresses at which Dom0 maps its grant table: those of the hypervisor's own memory (`own`), which Dom0
/// never has, for `frames` pages or as many as there are.
pub fn grant_window(own: &[Region], frames: u32) -> Result<Region, BootError> {
    let wanted = u64::from(frames) * PAGE_SIZE;
    let whole_pages = || own.iter().filter_map(|region| region.shrink_to(PAGE_SIZE));
    let chosen = whole_pages().find(|region| region.size() >= wanted).or_else(|| whole_pages().max_by_key(|region| region.size()));
    chosen.and_then(|region| Region::new(region.start().0, wanted.min(region.size()))).ok_or(BootError::NoGrantWindow)
}

/// Guest physical address space in which Dom0 may map foreign pages: addresses of RAM (so that no device is there) that is not its own.
/// `taken`: Dom0's banks, reserved memory, the grant table window. Sorted; multiples of 2 MiB, at least 64 MiB each.
pub fn extended_regions(ram: &[Region], taken: &[Region]) -> Vec<Region> {
    let aligned = subtract(ram, taken).into_iter().filter_map(|region| region.shrink_to(EXTENDED_ALIGN));
    let mut regions: Vec<Region> = aligned.filter(|region| region.size() >= EXTENDED_SMALLEST).collect();
    regions.sort_unstable_by_key(|region| core::cmp::Reverse(region.size()));
    regions.truncate(EXTENDED_MAX);
    regions.sort_unstable();
    regions
}

#[cfg(test)]
mod tests;
