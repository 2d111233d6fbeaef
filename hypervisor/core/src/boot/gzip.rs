//! A kernel that was compressed with gzip (RFC 1952): unpacked in memory before anything else looks at it.

use alloc::boxed::Box;
use alloc::vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::{BootError, Region};
use crate::addr::MachineAddr;
use crate::machine::Machine;

/// Bytes of the fixed part of a member's header, and of its trailer: CRC and length.
const HEADER: u64 = 10;
const TRAILER: u64 = 8;
/// Header flags: a checksum of the header, extra fields, a name, a comment follow.
const CHECKED: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
/// What deflate may refer back to.
const WINDOW: usize = 32 << 10;

const CUT_OFF: BootError = BootError::BadKernel("it is compressed with gzip, and cut off");
const DAMAGED: BootError = BootError::BadKernel("it is compressed with gzip, and damaged");

/// Bytes that a file becomes, as its last word says; `None` if it is not compressed.
pub fn unpacked_size(machine: &dyn Machine, file: Region) -> Option<u64> {
    let mut magic = [0; 3];
    if file.size() < HEADER + TRAILER {
        return None;
    }
    machine.read(file.start(), &mut magic);
    let mut size = [0; 4];
    machine.read(MachineAddr(file.end().0 - 4), &mut size);
    (magic == [0x1f, 0x8b, 8]).then(|| u32::from_le_bytes(size).into())
}

/// Unpacks `file` to `to`, which has as many bytes as [`unpacked_size`] says.
pub fn unpack(machine: &dyn Machine, file: Region, to: Region) -> Result<(), BootError> {
    let mut input = Input { machine, at: file.start().0, end: file.end().0 - TRAILER, bytes: vec![0; WINDOW].into(), filled: 0, used: 0 };
    input.skip_header()?;
    let mut state = Box::<DecompressorOxide>::default();
    let (mut window, mut at, mut crc) = (vec![0; WINDOW], 0, Crc::new());
    let mut next = to.start().0;
    loop {
        input.refill();
        let more = if input.at < input.end { inflate_flags::TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let (status, taken, made) = decompress(&mut state, input.rest(), &mut window, at, more);
        input.used += taken;
        let bytes = window.get(at..at + made).ok_or(DAMAGED)?;
        if made as u64 > to.end().0 - next {
            return Err(DAMAGED);
        }
        machine.write(MachineAddr(next), bytes);
        crc.add(bytes);
        next += made as u64;
        at = (at + made) % WINDOW;
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if taken > 0 || more != 0 => {}
            TINFLStatus::NeedsMoreInput => return Err(CUT_OFF),
            _ => return Err(DAMAGED),
        }
    }
    let mut expected = [0; 4];
    machine.read(MachineAddr(file.end().0 - TRAILER), &mut expected);
    if next != to.end().0 || crc.value() != u32::from_le_bytes(expected) { Err(DAMAGED) } else { Ok(()) }
}

/// The file, read piece by piece.
struct Input<'a> {
    machine: &'a dyn Machine,
    at: u64,
    end: u64,
    bytes: Box<[u8]>,
    filled: usize,
    used: usize,
}

impl Input<'_> {
    /// Reads the next piece if the last one is used up.
    fn refill(&mut self) {
        if self.used < self.filled {
            return;
        }
        let len = self.bytes.len().min(usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(0));
        if let Some(bytes) = self.bytes.get_mut(..len) {
            self.machine.read(MachineAddr(self.at), bytes);
        }
        self.at += len as u64;
        (self.filled, self.used) = (len, 0);
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..self.filled).unwrap_or_default()
    }

    fn byte(&mut self) -> Result<u8, BootError> {
        self.refill();
        let byte = *self.rest().first().ok_or(CUT_OFF)?;
        self.used += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: u64) -> Result<(), BootError> {
        (0..count).try_for_each(|_| self.byte().map(drop))
    }

    fn skip_text(&mut self) -> Result<(), BootError> {
        while self.byte()? != 0 {}
        Ok(())
    }

    fn skip_header(&mut self) -> Result<(), BootError> {
        self.skip(3)?;
        let flags = self.byte()?;
        self.skip(HEADER - 4)?;
        if flags & EXTRA != 0 {
            let len = u64::from(self.byte()?) | u64::from(self.byte()?) << 8;
            self.skip(len)?;
        }
        if flags & NAME != 0 {
            self.skip_text()?;
        }
        if flags & COMMENT != 0 {
            self.skip_text()?;
        }
        self.skip(if flags & CHECKED != 0 { 2 } else { 0 })
    }
}

/// CRC-32 of ISO 3309, by a table.
struct Crc {
    table: [u32; 256],
    value: u32,
}

impl Crc {
    fn new() -> Self {
        let entry = |n: usize| (0..8).fold(n as u32, |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()));
        Self { table: core::array::from_fn(entry), value: !0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let entry = self.table.get(usize::from(self.value as u8 ^ byte)).copied().unwrap_or(0);
            self.value = self.value >> 8 ^ entry;
        }
    }

    fn value(&self) -> u32 {
        !self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::FakeMachine;
    use std::vec::Vec;

    const BASE: u64 = 0x4000_0000;
    const TO: u64 = BASE + (1 << 20);

    /// A file of `gzip --name`.
    fn gzip(content: &[u8], name: Option<&str>) -> Vec<u8> {
        let mut file = std::vec![0x1f, 0x8b, 8, if name.is_some() { NAME } else { 0 }, 0, 0, 0, 0, 0, 3];
        if let Some(name) = name {
            file.extend(name.bytes().chain([0]));
        }
        file.extend(miniz_oxide::deflate::compress_to_vec(content, 6));
        let mut crc = Crc::new();
        crc.add(content);
        file.extend(crc.value().to_le_bytes());
        file.extend((content.len() as u32).to_le_bytes());
        file
    }

    fn unpacked(file: &[u8]) -> Option<Result<Vec<u8>, BootError>> {
        let machine = FakeMachine::leak(BASE, 512);
        machine.write(MachineAddr(BASE), file);
        let file = Region::new(BASE, file.len() as u64)?;
        let size = unpacked_size(machine, file)?;
        let to = Region::new(TO, size)?;
        Some(unpack(machine, file, to).map(|()| {
            let mut content = std::vec![0; size as usize];
            machine.read(to.start(), &mut content);
            content
        }))
    }

    fn content() -> Vec<u8> {
        (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8 & 0x3f).collect()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for name in [None, Some("Image")] {
            assert_eq!(unpacked(&gzip(&content(), name)), Some(Ok(content())));
        }
        assert_eq!(unpacked(b"MZ is no gzip file, whatever follows"), None);
    }

    #[test]
    fn damage_is_found() {
        let good = gzip(&content(), None);
        assert!(unpacked(&good[..good.len() / 2]).unwrap_or(Err(CUT_OFF)).is_err());
        for at in [200, good.len() / 2, good.len() - 6] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(unpacked(&bad).unwrap().is_err(), "byte {at}");
        }
        let mut longer = good.clone();
        let len = longer.len();
        longer[len - 4..].copy_from_slice(&(content().len() as u32 + 1).to_le_bytes());
        assert_eq!(unpacked(&longer), Some(Err(DAMAGED)));
        longer[len - 4..].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(unpacked(&longer), Some(Err(DAMAGED)), "never beyond the place it was given");
    }
}
