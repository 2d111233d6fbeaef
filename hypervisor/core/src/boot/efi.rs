//! What UEFI firmware says: its memory map, and the configuration file that stands beside the hypervisor.
//!
//! Sources: UEFI specification 2.10, section 7.2 (memory descriptors); Xen's docs/misc/efi.pandoc (the file).

use alloc::vec::Vec;

use super::region::merge;
use super::{BootError, Region};
use crate::addr::PAGE_SIZE;

/// Bytes of a descriptor that are looked at; firmware may use larger ones.
const DESCRIPTOR: usize = 40;
/// `EFI_MEMORY_WB`: memory that may be cached.
const WRITE_BACK: u64 = 1 << 3;
/// Loader and boot services code and data, and what is free: ours after `ExitBootServices`.
const OURS: [u32; 5] = [1, 2, 3, 4, 7];

/// The RAM of a memory map that belongs to the operating system once the firmware has been left.
pub fn ram(map: &[u8], descriptor_size: usize) -> Result<Vec<Region>, BootError> {
    let mut banks = Vec::new();
    for descriptor in map.chunks_exact(descriptor_size.max(DESCRIPTOR)) {
        let double = |at: usize| descriptor.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let (Some(kind), Some(start), Some(pages), Some(attributes)) = (double(0), double(8), double(24), double(32)) else { continue };
        if OURS.contains(&(kind as u32)) && attributes & WRITE_BACK != 0 {
            banks.extend(pages.checked_mul(PAGE_SIZE).and_then(|size| Region::new(start, size)));
        }
    }
    if banks.is_empty() { Err(BootError::NoRam) } else { Ok(merge(banks)) }
}

/// The value of `key` in a `[section]` of a configuration file; of several the first.
pub fn value<'a>(file: &'a [u8], section: &[u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut within = false;
    for line in file.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = line.trim_ascii();
        if let Some(name) = line.strip_prefix(b"[").and_then(|line| line.strip_suffix(b"]")) {
            within = name == section;
        } else if within
            && let Some(rest) = line.strip_prefix(key)
            && let Some(value) = rest.trim_ascii_start().strip_prefix(b"=")
        {
            return Some(value.trim_ascii());
        }
    }
    None
}

/// The first word, and what follows it.
pub fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    (word, rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: u32, start: u64, pages: u64, attributes: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [kind.into(), start, 0, pages, attributes, 0] {
            bytes.extend_from_slice(&u64::to_le_bytes(word));
        }
        bytes
    }

    #[test]
    fn memory_of_the_loader_and_of_boot_services_is_ram() {
        let map = [
            descriptor(7, 0x4000_0000, 0x100, 0xf),
            descriptor(4, 0x4010_0000, 0x10, 0xf),
            descriptor(6, 0x4020_0000, 0x10, 0x8000_0000_0000_000f),
            descriptor(7, 0x5000_0000, 0x10, 1),
            descriptor(11, 0x0900_0000, 1, 0x8000_0000_0000_0001),
            descriptor(2, !0xfff, u64::MAX, 0xf),
        ]
        .concat();
        assert_eq!(ram(&map, 48), Ok(std::vec![Region::new(0x4000_0000, 0x11_0000).unwrap()]));
        assert_eq!(ram(&[], 48), Err(BootError::NoRam));
        assert_eq!(ram(&map[..39], 0), Err(BootError::NoRam));
    }

    #[test]
    fn a_configuration_is_read_by_section_and_key() {
        let file = b"[global]\r\ndefault = debian\n\n[other]\nkernel=no\n[debian]\noptions=dom0_mem=1G \nkernel = vmlinuz console=hvc0\nkernel=second\n";
        assert_eq!(value(file, b"global", b"default"), Some(&b"debian"[..]));
        assert_eq!(value(file, b"debian", b"kernel"), Some(&b"vmlinuz console=hvc0"[..]));
        assert_eq!(value(file, b"debian", b"options"), Some(&b"dom0_mem=1G"[..]));
        assert_eq!(value(file, b"debian", b"ramdisk"), None);
        assert_eq!(value(file, b"nobody", b"kernel"), None);
        assert_eq!(first_word(b"  vmlinuz console=hvc0 x "), (&b"vmlinuz"[..], &b"console=hvc0 x"[..]));
        assert_eq!(first_word(b""), (&b""[..], &b""[..]));
    }
}
