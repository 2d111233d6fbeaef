//! The header of an arm64 kernel image (Linux' Documentation/arch/arm64/booting).

use super::BootError;

/// Bytes of the header, and of the PE/COFF header that a kernel with an EFI stub has behind it.
pub const HEADER_SIZE: usize = 4096;
const MAGIC: u32 = 0x644d_5241;
/// Where kernels before 3.17 lie, which do not say how large they are.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;

/// What the header of an arm64 `Image` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelImage {
    /// Bytes from a 2 MiB boundary to where the image is to be loaded. Its first byte is also its entry.
    pub text_offset: u64,
    /// Bytes that the kernel occupies from there on, at least the file's size: its zeroed data follows the file.
    pub memory_size: u64,
}

impl KernelImage {
    /// Reads the header at the start of a file of `file_size` bytes.
    pub fn parse(start: &[u8], file_size: u64) -> Result<Self, BootError> {
        if start.starts_with(&[0x1f, 0x8b]) {
            return Err(BootError::BadKernel("it is compressed with gzip; load the uncompressed Image"));
        }
        let word = |at: usize| start.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let double = |at: usize| start.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let (Some(magic), Some(text_offset), Some(image_size)) = (word(56), double(8), double(16)) else {
            return Err(BootError::BadKernel("it is shorter than the header of an arm64 Image"));
        };
        if magic != MAGIC {
            return Err(BootError::BadKernel("it is not an arm64 Image (no magic number \"ARM\\x64\" at byte 56)"));
        }
        if pe_file_size(start).is_some_and(|size| size > file_size) {
            return Err(BootError::BadKernel("it is cut off: the file is shorter than its sections"));
        }
        let text_offset = if image_size == 0 { OLD_TEXT_OFFSET } else { text_offset };
        // A sane limit, so that sums with addresses cannot overflow.
        if text_offset >= 1 << 40 || image_size >= 1 << 40 {
            return Err(BootError::BadKernel("its header asks for more memory than any machine has"));
        }
        Ok(Self { text_offset, memory_size: image_size.max(file_size) })
    }
}

/// How long the file is at least, by the section table of its PE/COFF header; the arm64 header does not say. `None` without such a header.
///
/// Source: Microsoft PE/COFF, sections 3.3 (file header) and 4 (section table).
fn pe_file_size(start: &[u8]) -> Option<u64> {
    const SECTION: usize = 40;
    let word = |at: usize| start.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes);
    let half = |at: usize| start.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes).map(usize::from);
    let header = usize::try_from(word(0x3c)?).ok().filter(|at| *at < HEADER_SIZE)?;
    if word(header)? != u32::from_le_bytes(*b"PE\0\0") {
        return None;
    }
    let (sections, optional) = (half(header + 6)?, half(header + 20)?);
    let table = header + 24 + optional;
    let end = |n: usize| Some(u64::from(word(table + n * SECTION + 16)?) + u64::from(word(table + n * SECTION + 20)?));
    (0..sections).map_while(end).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn header(text_offset: u64, image_size: u64) -> Vec<u8> {
        let mut bytes = std::vec![0; HEADER_SIZE];
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn a_kernel_needs_what_its_header_says_but_at_least_the_file() {
        let expect = |text_offset, memory_size| Ok(KernelImage { text_offset, memory_size });
        assert_eq!(KernelImage::parse(&header(0, 0x30_0000), 0x20_0000), expect(0, 0x30_0000));
        assert_eq!(KernelImage::parse(&header(0x8_0000, 0x10_0000), 0x20_0000), expect(0x8_0000, 0x20_0000));
        assert_eq!(KernelImage::parse(&header(0, 0), 0x20_0000), expect(0x8_0000, 0x20_0000));
    }

    #[test]
    fn a_kernel_that_was_cut_off_is_told_from_its_sections() {
        let mut kernel = header(0, 0x30_0000);
        kernel.resize(0x200, 0);
        kernel[0x3c] = 0x40;
        kernel[0x40..0x44].copy_from_slice(b"PE\0\0");
        kernel[0x46] = 1;
        // No optional header: the table follows at once. 0x1000 bytes from 0x10000 on.
        kernel[0x58 + 16..0x58 + 20].copy_from_slice(&0x1000_u32.to_le_bytes());
        kernel[0x58 + 20..0x58 + 24].copy_from_slice(&0x1_0000_u32.to_le_bytes());
        assert!(KernelImage::parse(&kernel, 0x1_1000).is_ok());
        let why = std::format!("{}", KernelImage::parse(&kernel, 0x1_0fff).unwrap_err());
        assert!(why.contains("cut off"), "{why}");
        // A header that points nowhere is no PE header.
        kernel[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(KernelImage::parse(&kernel, 1).is_ok());
    }

    #[test]
    fn what_is_no_kernel_says_why() {
        let why = |bytes: &[u8]| std::format!("{}", KernelImage::parse(bytes, bytes.len() as u64).unwrap_err());
        assert!(why(&[0x1f, 0x8b, 8]).contains("gzip"));
        assert!(why(b"MZ").contains("shorter"));
        assert!(why(&[0; 64]).contains("not an arm64 Image"));
        assert!(why(&header(u64::MAX, 1)).contains("more memory"));
    }
}
