//! A node of the host's tree, and the ways to read its properties.

use alloc::string::String;
use core::fmt;

use super::{HostTree, NOP, PROP, be32, raw_property};
use crate::boot::BootError;

/// A node of the host's tree. Two are equal if they are the same node.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    pub(super) tree: &'t HostTree<'t>,
    index: usize,
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl<'t> Node<'t> {
    pub(super) fn new(tree: &'t HostTree<'t>, index: usize) -> Self {
        Self { tree, index }
    }

    fn entry(self) -> Option<&'t super::Entry<'t>> {
        self.tree.nodes.get(self.index)
    }

    /// Name with unit address; the root's is empty.
    pub fn name(self) -> &'t str {
        self.entry().map_or("", |entry| entry.name)
    }

    /// The absolute path.
    pub fn path(self) -> String {
        let mut path = self.parent().filter(|parent| parent.index != 0).map(Self::path).unwrap_or_default();
        path.push('/');
        path.push_str(self.name());
        path
    }

    /// The parent; `None` for the root.
    pub fn parent(self) -> Option<Self> {
        let parent = self.entry()?.parent as usize;
        (parent != self.index).then(|| Self::new(self.tree, parent))
    }

    /// How many nodes lie above this one; 0 for the root.
    pub fn depth(self) -> usize {
        self.parent().map_or(0, |parent| 1 + parent.depth())
    }

    /// The nodes directly below, in the order of the blob.
    pub fn children(self) -> impl Iterator<Item = Self> {
        let end_of = move |index: usize| self.tree.nodes.get(index).map_or(0, |entry| entry.end as usize);
        let end = end_of(self.index);
        let first = Some(self.index + 1).filter(|&index| index < end);
        core::iter::successors(first, move |&index| Some(end_of(index)).filter(|&next| next > index && next < end))
            .map(move |index| Self::new(self.tree, index))
    }

    /// The child of this name; a unit address may be left out of `name`.
    pub fn child(self, name: &str) -> Option<Self> {
        self.children()
            .find(|child| child.name() == name)
            .or_else(|| self.children().find(|child| child.name().split_once('@').is_some_and(|(base, _)| base == name)))
    }

    /// Names and values of the properties, in the order of the blob.
    pub fn properties(self) -> impl Iterator<Item = (&'t str, &'t [u8])> {
        let (structure, strings) = (self.tree.structure, self.tree.strings);
        let mut offset = self.entry().map_or(usize::MAX, |entry| entry.properties as usize);
        core::iter::from_fn(move || {
            while be32(structure, offset) == Some(NOP) {
                offset += 4;
            }
            be32(structure, offset).filter(|&token| token == PROP)?;
            let property = raw_property(structure, strings, offset)?;
            offset = property.next;
            Some((property.name, property.value))
        })
    }

    /// The value of a property.
    pub fn property(self, name: &str) -> Option<&'t [u8]> {
        self.properties().find(|&(found, _)| found == name).map(|(_, value)| value)
    }

    /// Whether the property exists, whatever its value.
    pub fn has(self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// A property that is one cell.
    pub fn u32(self, name: &str) -> Option<u32> {
        self.property(name).filter(|value| value.len() == 4).and_then(|value| be32(value, 0))
    }

    /// A property that is one or two cells.
    pub fn number(self, name: &str) -> Option<u64> {
        match self.property(name)? {
            value if value.len() == 4 => be32(value, 0).map(u64::from),
            value if value.len() == 8 => super::be64(value, 0),
            _ => None,
        }
    }

    /// The strings of a property; ends at the first that is not UTF-8.
    pub fn texts(self, name: &str) -> impl Iterator<Item = &'t str> {
        let value = self.property(name).unwrap_or_default();
        let value = value.strip_suffix(&[0]).unwrap_or(value);
        let parts = (!value.is_empty()).then(|| value.split(|&byte| byte == 0));
        parts.into_iter().flatten().map_while(|text| core::str::from_utf8(text).ok())
    }

    /// The first string of a property.
    pub fn text(self, name: &str) -> Option<&'t str> {
        self.texts(name).next()
    }

    /// Whether `compatible` lists this string.
    pub fn is_compatible(self, with: &str) -> bool {
        self.texts("compatible").any(|compatible| compatible == with)
    }

    /// Whether `compatible` lists one of these strings.
    pub fn is_any_of(self, compatibles: &[&str]) -> bool {
        self.texts("compatible").any(|compatible| compatibles.contains(&compatible))
    }

    /// Whether the node is to be used: `status` is absent, `ok` or `okay`.
    pub fn is_enabled(self) -> bool {
        match self.property("status") {
            None => true,
            Some(_) => matches!(self.text("status"), Some("ok" | "okay")),
        }
    }

    /// The node's own phandle.
    pub fn phandle(self) -> Option<u32> {
        self.u32("phandle").or_else(|| self.u32("linux,phandle"))
    }

    /// The node that cell number `cell` of a property refers to.
    pub fn phandle_in(self, property: &str, cell: usize) -> Option<Self> {
        self.tree.by_phandle(be32(self.property(property)?, cell.checked_mul(4)?)?)
    }

    /// Error: the property is missing.
    pub fn missing(self, property: &'static str) -> BootError {
        BootError::MissingProperty { node: self.path(), property }
    }

    /// Error: the property cannot be used.
    pub fn bad(self, property: &'static str, why: &'static str) -> BootError {
        BootError::BadProperty { node: self.path(), property, why }
    }
}
