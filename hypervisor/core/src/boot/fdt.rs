//! The host's device tree: the flattened blob (devicetree specification, chapter 5), checked once and indexed.
//!
//! Parsing walks the whole structure block. From then on every node and property is known to lie inside the blob, and reading cannot
//! fail; *values* are still checked where they are used. Names are not checked against the specification's limit of 31 characters: more
//! than half of the trees that Debian ships for Arm64 break it.

use alloc::format;
use alloc::vec::Vec;

use super::{BootError, Region};

mod address;
mod interrupt;
mod node;
mod writer;

pub(in crate::boot) use address::take_cells;
pub use interrupt::Interrupt;
pub use node::Node;
pub use writer::TreeWriter;

const MAGIC: u32 = 0xd00d_feed;
/// The version of the format that this reads and writes.
const VERSION: u32 = 17;
/// Nodes deeper than this are refused: readers and writers recurse.
const MAX_DEPTH: usize = 32;
/// Memory reservations beyond this number are refused.
const MAX_RESERVATIONS: usize = 256;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The host's device tree, checked and indexed. Borrows the blob.
pub struct HostTree<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    nodes: Vec<Entry<'a>>,
    /// Phandles with the index of their node, sorted.
    phandles: Vec<(u32, u32)>,
    reservations: Vec<Region>,
}

/// One node of the index, which is in the order of the blob: a node's subtree follows it directly.
struct Entry<'a> {
    name: &'a str,
    /// Index of the parent; the root's is its own.
    parent: u32,
    /// Index after the last node of the subtree.
    end: u32,
    /// Offset in the structure block of what follows the name: the properties.
    properties: u32,
}

impl<'a> HostTree<'a> {
    /// Bytes in the whole blob, from its first 8 bytes.
    pub fn blob_size(start: &[u8]) -> Result<usize, BootError> {
        match (be32(start, 0), be32(start, 4)) {
            (Some(MAGIC), Some(size)) => Ok(size as usize),
            _ => Err(damaged("it does not begin with the magic number 0xd00dfeed")),
        }
    }

    /// Checks and indexes the blob. Bytes after its end are ignored.
    pub fn parse(blob: &'a [u8]) -> Result<Self, BootError> {
        let blob = blob.get(..Self::blob_size(blob)?).ok_or_else(|| damaged("it is cut short"))?;
        let header = |field: usize| be32(blob, field * 4).ok_or_else(|| damaged("its header is cut short"));
        let (version, last_compatible) = (header(5)?, header(6)?);
        if version < VERSION || last_compatible > VERSION {
            return Err(BootError::DamagedTree(format!("its version {version} is not supported")));
        }
        let structure = block(blob, header(2)?, header(9)?).ok_or_else(|| damaged("its structure block lies outside"))?;
        let strings = block(blob, header(3)?, header(8)?).ok_or_else(|| damaged("its strings block lies outside"))?;
        let reservations = reservations(blob, header(4)? as usize)?;
        let nodes = index(structure, strings)?;
        let mut tree = Self { structure, strings, nodes, phandles: Vec::new(), reservations };
        let mut phandles: Vec<_> = tree.nodes().zip(0..).filter_map(|(node, index)| Some((node.phandle()?, index))).collect();
        phandles.sort_unstable();
        tree.phandles = phandles;
        Ok(tree)
    }

    /// The root node.
    pub fn root(&self) -> Node<'_> {
        Node::new(self, 0)
    }

    /// All nodes, the root first, each before its children.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (0..self.nodes.len()).map(|index| Node::new(self, index))
    }

    /// The node at `path`: absolute, or beginning with an alias of `/aliases`. A unit address may be left out.
    pub fn find(&self, path: &str) -> Option<Node<'_>> {
        if let Some(path) = path.strip_prefix('/') {
            return path.split('/').filter(|part| !part.is_empty()).try_fold(self.root(), |node, part| node.child(part));
        }
        let (alias, rest) = path.split_once('/').unwrap_or((path, ""));
        // An alias is an absolute path, so that this recurses once.
        let target = self.root().child("aliases")?.text(alias).filter(|target| target.starts_with('/'))?;
        rest.split('/').filter(|part| !part.is_empty()).try_fold(self.find(target)?, |node, part| node.child(part))
    }

    /// The node with this phandle.
    pub fn by_phandle(&self, phandle: u32) -> Option<Node<'_>> {
        let at = self.phandles.partition_point(|&(known, _)| known < phandle);
        let (known, index) = self.phandles.get(at).copied()?;
        (known == phandle).then(|| Node::new(self, index as usize))
    }

    /// The memory reservation map, empty entries left out.
    pub fn reservations(&self) -> &[Region] {
        &self.reservations
    }
}

/// Reads the big-endian word at byte `at`.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(be32(bytes, at)?) << 32 | u64::from(be32(bytes, at.checked_add(4)?)?))
}

fn block(blob: &[u8], offset: u32, size: u32) -> Option<&[u8]> {
    blob.get(offset as usize..(offset as usize).checked_add(size as usize)?)
}

fn damaged(why: &str) -> BootError {
    BootError::DamagedTree(why.into())
}

fn damaged_at(why: &str, offset: usize) -> BootError {
    BootError::DamagedTree(format!("{why} at byte {offset:#x} of its structure block"))
}

/// The string at `offset` up to its NUL.
fn string_at(bytes: &[u8], offset: usize) -> Option<&str> {
    let bytes = bytes.get(offset..)?;
    let length = bytes.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(bytes.get(..length)?).ok()
}

fn reservations(blob: &[u8], mut offset: usize) -> Result<Vec<Region>, BootError> {
    let mut reservations = Vec::new();
    loop {
        let entry = be64(blob, offset).zip(offset.checked_add(8).and_then(|at| be64(blob, at)));
        match entry.ok_or_else(|| damaged("its memory reservation map has no end"))? {
            (0, 0) => return Ok(reservations),
            _ if reservations.len() == MAX_RESERVATIONS => {
                return Err(BootError::TooMany { what: "memory reservations", limit: MAX_RESERVATIONS });
            }
            (_, 0) => {}
            (start, size) => {
                let region = Region::new(start, size);
                reservations.push(region.ok_or_else(|| damaged("a memory reservation wraps the address space"))?);
            }
        }
        offset += 16;
    }
}

/// A property's header, as found at an offset of the structure block that holds [`PROP`].
struct RawProperty<'a> {
    name: &'a str,
    value: &'a [u8],
    /// Offset of the next token.
    next: usize,
}

fn raw_property<'a>(structure: &'a [u8], strings: &'a [u8], offset: usize) -> Option<RawProperty<'a>> {
    let length = be32(structure, offset.checked_add(4)?)? as usize;
    let name = string_at(strings, be32(structure, offset.checked_add(8)?)? as usize)?;
    let start = offset.checked_add(12)?;
    let end = start.checked_add(length)?;
    Some(RawProperty { name, value: structure.get(start..end)?, next: end.checked_next_multiple_of(4)? })
}

/// Walks the structure block: checks every token and lists the nodes.
fn index<'a>(structure: &'a [u8], strings: &'a [u8]) -> Result<Vec<Entry<'a>>, BootError> {
    let mut nodes: Vec<Entry<'a>> = Vec::new();
    let mut open: Vec<u32> = Vec::with_capacity(MAX_DEPTH);
    // Properties come before subnodes: after the first END_NODE or child none may follow.
    let mut properties_allowed = false;
    let mut offset = 0;
    loop {
        let token = be32(structure, offset).ok_or_else(|| damaged_at("it ends without its end token", offset))?;
        match token {
            BEGIN_NODE => {
                if open.is_empty() && !nodes.is_empty() {
                    return Err(damaged_at("there is a second root node", offset));
                }
                if open.len() == MAX_DEPTH {
                    return Err(BootError::TooMany { what: "levels of nodes", limit: MAX_DEPTH });
                }
                let name = string_at(structure, offset + 4).ok_or_else(|| damaged_at("there is a bad node name", offset))?;
                if name.is_empty() != nodes.is_empty() || name.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'/') {
                    return Err(damaged_at("there is a bad node name", offset));
                }
                let index = nodes.len() as u32;
                let parent = open.last().copied().unwrap_or(0);
                offset = (offset + 4 + name.len() + 1).next_multiple_of(4);
                nodes.push(Entry { name, parent, end: 0, properties: offset as u32 });
                open.push(index);
                properties_allowed = true;
            }
            END_NODE => {
                let end = nodes.len() as u32;
                let node = open.pop().and_then(|index| nodes.get_mut(index as usize));
                node.ok_or_else(|| damaged_at("a node ends that did not begin", offset))?.end = end;
                properties_allowed = false;
                offset += 4;
            }
            PROP if properties_allowed => {
                offset = raw_property(structure, strings, offset).ok_or_else(|| damaged_at("there is a bad property", offset))?.next;
            }
            NOP => offset += 4,
            END if open.is_empty() && !nodes.is_empty() => return Ok(nodes),
            _ => return Err(damaged_at("there is an unexpected token", offset)),
        }
    }
}
