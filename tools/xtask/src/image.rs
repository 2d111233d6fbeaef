//! `cargo xtask image`: builds the hypervisor and flattens it into the arm64 `Image` that boot loaders take.

use crate::{host, toolchain};
use anyhow::{Context, Result, ensure};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, elf};
use std::fs;
use std::path::{Path, PathBuf};

/// The largest image that Xenolith may become, in bytes.
pub const LIMIT: usize = 1 << 20;

/// Builds the image and returns its path.
pub fn image(debug: bool) -> Result<PathBuf> {
    let (profile, option) = if debug { ("debug", None) } else { ("release", Some("--release")) };
    host::run(toolchain::cargo("build")?.args(["--package", "xenolith"]).args(option)).context("the hypervisor does not build")?;
    let file = fs::read(target_elf(profile)).with_context(|| format!("cargo left no {}", target_elf(profile).display()))?;
    let flat = flatten(&file)?;
    ensure!(flat.get(0x38..0x3c) == Some(b"ARM\x64"), "the hypervisor's ELF file does not begin with an arm64 Image header");
    ensure!(debug || flat.len() <= LIMIT, "the image has {} bytes: more than the limit of {LIMIT}", flat.len());
    let image = host::target_dir().join("xenolith").join(format!("xenolith-{profile}.img"));
    fs::create_dir_all(image.parent().unwrap_or(Path::new(".")))?;
    fs::write(&image, &flat)?;
    eprintln!("image: {} KiB of {} KiB", flat.len().div_ceil(1024), LIMIT / 1024);
    Ok(image)
}

/// The ELF file that cargo builds, with symbols.
pub fn target_elf(profile: &str) -> PathBuf {
    host::target_dir().join(toolchain::TARGET).join(profile).join("xenolith")
}

/// The loadable segments of an ELF file at their physical addresses, from the lowest one on. What only takes memory at run time
/// (.bss at the end) is left out.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>> {
    let elf: ElfFile64<'_, Endianness> = ElfFile64::parse(file).context("cargo built no ELF file")?;
    let endian = elf.endian();
    let loaded = |header: &&elf::ProgramHeader64<Endianness>| header.p_type(endian) == elf::PT_LOAD && header.p_filesz(endian) > 0;
    let segments: Vec<_> = elf.elf_program_headers().iter().filter(loaded).collect();
    let base = segments.iter().map(|header| header.p_paddr(endian)).min().context("the hypervisor's ELF file has nothing to load")?;
    let mut image = Vec::new();
    for header in segments {
        let data = header.data(endian, file).ok().context("a segment lies outside the ELF file")?;
        let start = usize::try_from(header.p_paddr(endian) - base)?;
        ensure!(start <= 64 * LIMIT, "a segment lies {start} bytes behind the first: the linker script must keep them together");
        image.resize(image.len().max(start + data.len()), 0);
        image[start..start + data.len()].copy_from_slice(data);
    }
    Ok(image)
}
