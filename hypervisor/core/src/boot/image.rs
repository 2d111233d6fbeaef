//! The header of an arm64 kernel image (Linux' Documentation/arch/arm64/booting).

use super::BootError;

/// Bytes of the header.
pub const HEADER_SIZE: usize = 64;
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
        let text_offset = if image_size == 0 { OLD_TEXT_OFFSET } else { text_offset };
        // A sane limit, so that sums with addresses cannot overflow.
        if text_offset >= 1 << 40 || image_size >= 1 << 40 {
            return Err(BootError::BadKernel("its header asks for more memory than any machine has"));
        }
        Ok(Self { text_offset, memory_size: image_size.max(file_size) })
    }
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
    fn what_is_no_kernel_says_why() {
        let why = |bytes: &[u8]| std::format!("{}", KernelImage::parse(bytes, bytes.len() as u64).unwrap_err());
        assert!(why(&[0x1f, 0x8b, 8]).contains("gzip"));
        assert!(why(b"MZ").contains("shorter"));
        assert!(why(&[0; 64]).contains("not an arm64 Image"));
        assert!(why(&header(u64::MAX, 1)).contains("more memory"));
    }
}
