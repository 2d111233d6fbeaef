//! A root file system made in memory: files of unpacked Debian packages and our own scripts, packed as an initrd.

use anyhow::{Context, Result};
use object::Endianness;
use object::read::elf::{Dyn, FileHeader, SectionTable};
use object::{elf, elf::FileHeader64};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";

enum Entry {
    Dir,
    Link(String),
    File { content: Vec<u8>, mode: u32 },
}

/// The files of a root, by path without the leading slash.
#[derive(Default)]
pub struct Root {
    entries: BTreeMap<String, Entry>,
}

impl Root {
    /// Adds a folder and the folders above it.
    pub fn dir(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].into()).or_insert(Entry::Dir);
        }
        self.entries.entry(path.into()).or_insert(Entry::Dir);
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        self.insert(path, Entry::File { content: content.into(), mode });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry::Link(target.into()));
    }

    /// Copies a program, following links, with the shared libraries it needs.
    pub fn program(&mut self, from: &Path, path: &str) -> Result<()> {
        let source = from.join(path);
        let content = fs::read(&source).with_context(|| format!("the Debian packages hold no {path}"))?;
        self.libraries(from, &content);
        self.file(path, content, 0o755);
        Ok(())
    }

    /// Copies what lies at `path`: a file, a link or a whole folder, and the shared libraries needed there.
    pub fn tree(&mut self, from: &Path, path: &str) -> Result<()> {
        let source = from.join(path);
        let meta = source.symlink_metadata().with_context(|| format!("the Debian packages hold no {path}"))?;
        if meta.is_symlink() {
            self.link(path, &fs::read_link(&source)?.to_string_lossy());
        } else if meta.is_dir() {
            self.dir(path);
            for entry in fs::read_dir(&source)? {
                self.tree(from, &format!("{path}/{}", entry?.file_name().display()))?;
            }
        } else {
            let content = fs::read(&source)?;
            self.libraries(from, &content);
            self.file(path, content, meta.permissions().mode() & 0o777);
        }
        Ok(())
    }

    /// The root as a cpio archive, as Linux takes it, in blocks as `cpio` makes it: another one may follow.
    pub fn pack(&self) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        for ((path, entry), ino) in self.entries.iter().zip(1..) {
            let (content, mode) = match entry {
                Entry::Dir => (&[][..], 0o040_755),
                Entry::Link(target) => (target.as_bytes(), 0o120_777),
                Entry::File { content, mode } => (content.as_slice(), 0o100_000 | mode),
            };
            let header = cpio::newc::Builder::new(path).ino(ino).mode(mode);
            let mut writer = header.write(&mut archive, u32::try_from(content.len())?);
            std::io::Write::write_all(&mut writer, content)?;
            writer.finish()?;
        }
        cpio::newc::trailer(&mut archive)?;
        archive.resize(archive.len().next_multiple_of(512), 0);
        Ok(archive)
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.dir(dir);
        }
        self.entries.insert(path.into(), entry);
    }

    /// Adds the shared libraries that an ELF file names, and those they name in turn. One that is nowhere is left to fail in the guest.
    fn libraries(&mut self, from: &Path, file: &[u8]) {
        for name in needed(file).unwrap_or_default() {
            let path = format!("{LIBRARIES}/{name}");
            if self.entries.contains_key(&path) {
                continue;
            }
            if let Ok(content) = fs::read(from.join(&path)) {
                self.file(&path, content.clone(), 0o755);
                self.libraries(from, &content);
            }
        }
    }
}

/// The shared libraries that an ELF file names; `None` if it is no ELF file or is not linked to any.
fn needed(file: &[u8]) -> Option<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let sections: SectionTable<'_, _> = header.sections(endian, file).ok()?;
    let (entries, link) = sections.dynamic(endian, file).ok()??;
    let strings = sections.strings(endian, file, link).ok()?;
    let names = entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED);
    Some(names.filter_map(|entry| Some(String::from_utf8_lossy(entry.string(endian, strings).ok()?).into_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::Root;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut root = Root::default();
        root.file("a/b/c", "text", 0o644);
        root.link("a/l", "b/c");
        let archive = root.pack().unwrap();
        let at = |name: &[u8]| archive.windows(name.len()).position(|bytes| bytes == name).unwrap();
        assert!(at(b"a\0") < at(b"a/b\0") && at(b"a/b\0") < at(b"a/b/c\0") && at(b"a/b/c\0") < at(b"a/l\0"));
        assert!(at(b"a/l\0") < at(b"TRAILER!!!"));
    }
}
