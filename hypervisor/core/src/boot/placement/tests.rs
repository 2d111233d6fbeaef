use super::*;
use crate::boot::image::KernelImage;
use proptest::prelude::*;
use std::vec;

fn r(start: u64, end: u64) -> Region {
    Region::between(start, end).unwrap()
}

/// QEMU virt with 3 GiB, Xen at 0x40200000, kernel at 0x60000000, ramdisk at 0x68000000.
fn free() -> Vec<Region> {
    vec![r(0x4000_0000, 0x4020_0000), r(0x4040_0000, 0x6000_0000), r(0x62a1_d000, 0x6800_0000), r(0x6a3a_1000, 0x1_0000_0000)]
}

#[test]
fn one_gib_goes_where_xen_puts_it() {
    assert_eq!(place_dom0(&free(), 1 << 30), Ok(vec![r(0x8000_0000, 0xc000_0000)]));
}

#[test]
fn pieces_are_largest_first_and_merged() {
    assert_eq!(place_dom0(&free(), 0x7000_0000), Ok(vec![r(0x5000_0000, 0x6000_0000), r(0x8000_0000, 0xe000_0000)]));
    assert_eq!(place_dom0(&free(), 64 * MIB), Ok(vec![r(0x4400_0000, 0x4800_0000)]));
}

#[test]
fn memory_above_4_gib_is_the_last_resort() {
    let free = [r(0x4000_0000, 0x8000_0000), r(0x1_0000_0000, 0x2_0000_0000)];
    assert_eq!(place_dom0(&free, 0x3000_0000), Ok(vec![r(0x4000_0000, 0x7000_0000)]));
    assert_eq!(place_dom0(&free, 0x6000_0000), Ok(vec![r(0x4000_0000, 0x8000_0000), r(0x1_0000_0000, 0x1_2000_0000)]));
    assert_eq!(place_dom0(&free[1..], 1 << 30), Ok(vec![r(0x1_0000_0000, 0x1_4000_0000)]));
}

#[test]
fn a_small_piece_does_not_become_the_first_bank() {
    let free = [r(0x4000_0000, 0x4400_0000), r(0x8000_0000, 0x9000_0000), r(0x1_0000_0000, 0x1_1000_0000)];
    assert_eq!(place_dom0(&free, 320 * MIB), Ok(vec![r(0x8000_0000, 0x9000_0000), r(0x1_0000_0000, 0x1_0400_0000)]));
}

#[test]
fn too_little_memory_is_an_error() {
    let error = place_dom0(&[r(0x4000_0000, 0x5000_0000)], 1 << 30).unwrap_err();
    assert_eq!(error, BootError::TooLittleMemory { asked: 1 << 30, placed: 256 * MIB });
    assert!(place_dom0(&[], 4096).is_err());
    assert!(place_dom0(&free(), u64::MAX).is_err());
}

#[test]
fn boot_files_go_where_xen_puts_them() {
    let kernel = KernelImage { text_offset: 0, memory_size: 0x2b0_0000 };
    let files = place_boot_files(r(0x8000_0000, 0xc000_0000), kernel, 7500, 0x23a_0a9a).unwrap();
    let expected = BootFiles { kernel: MachineAddr(0x8000_0000), tree: MachineAddr(0x8800_0000), ramdisk: MachineAddr(0x8820_0000) };
    assert_eq!(files, expected);
}

#[test]
fn boot_files_go_to_the_end_of_a_small_bank_or_below_the_kernel() {
    let kernel = KernelImage { text_offset: 0x8_0000, memory_size: 0x100_0000 };
    let files = place_boot_files(r(0x8000_0000, 0x8600_0000), kernel, 7500, 0x10_0000).unwrap();
    assert_eq!((files.kernel, files.tree), (MachineAddr(0x8008_0000), MachineAddr(0x85c0_0000)));
    let kernel = KernelImage { text_offset: 0x100_0000, memory_size: 0x100_0000 };
    let files = place_boot_files(r(0x8000_0000, 0x8200_0000), kernel, 7500, 0x10_0000).unwrap();
    assert_eq!((files.kernel, files.tree), (MachineAddr(0x8100_0000), MachineAddr(0x80c0_0000)));
    let error = place_boot_files(r(0x8000_0000, 0x8100_0000), kernel, 7500, 0).unwrap_err();
    assert!(std::format!("{error}").contains("dom0_mem"));
}

#[test]
fn the_grant_window_lies_on_the_hypervisor() {
    let own = [r(0x4020_0000, 0x4020_4000), r(0x4030_0000, 0x4040_0000)];
    assert_eq!(grant_window(&own, 64), Ok(r(0x4030_0000, 0x4034_0000)));
    assert_eq!(grant_window(&own, 1024), Ok(r(0x4030_0000, 0x4040_0000)));
    assert_eq!(grant_window(&[], 64), Err(BootError::NoGrantWindow));
}

#[test]
fn extended_regions_are_what_is_left_of_ram() {
    let taken = [r(0x8000_0000, 0xc000_0000), r(0x4020_0000, 0x4024_0000)];
    let regions = extended_regions(&[r(0x4000_0000, 0x1_0000_0000)], &taken);
    assert_eq!(regions, [r(0x4040_0000, 0x8000_0000), r(0xc000_0000, 0x1_0000_0000)]);
}

proptest! {
    #[test]
    fn what_is_placed_is_free_and_all_there(
        parts in proptest::collection::vec((0..0x200_u64, 1..0x200_u64), 1..8),
        size in 1..0x400_u64,
    ) {
        let free: Vec<Region> = parts.iter().filter_map(|&(start, size)| Region::new(start * MIB * 16, size * MIB)).collect();
        if let Ok(banks) = place_dom0(&free, size * MIB) {
            prop_assert_eq!(subtract(&banks, &free), vec![]);
            prop_assert_eq!(banks.iter().map(|bank| bank.size()).sum::<u64>(), size * MIB);
            prop_assert!(banks.windows(2).all(|pair| pair[0].end() < pair[1].start()));
            prop_assert!(banks[0].size() >= (size * MIB).min(FIRST_BANK) / 2 || banks[0].start().0 >= LOW_END);
        }
    }
}
