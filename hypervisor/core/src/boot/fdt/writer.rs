//! Writes a flattened device tree of version 17.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{BEGIN_NODE, END, END_NODE, MAGIC, PROP, VERSION};

const HEADER_SIZE: usize = 40;

/// A device tree in the making: nodes are begun and ended, properties come before subnodes.
#[derive(Default)]
pub struct TreeWriter {
    structure: Vec<u8>,
    strings: Vec<u8>,
    offsets: BTreeMap<String, u32>,
}

impl TreeWriter {
    /// Begins a node; the root's name is empty.
    pub fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.align();
    }

    /// Ends the node begun last.
    pub fn end(&mut self) {
        self.word(END_NODE);
    }

    /// Adds a property to the node begun last.
    pub fn property(&mut self, name: &str, value: &[u8]) {
        let offset = self.name_offset(name);
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(offset);
        self.structure.extend_from_slice(value);
        self.align();
    }

    /// Adds a property of cells.
    pub fn cells(&mut self, name: &str, cells: &[u32]) {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &value);
    }

    /// Adds a property of one string.
    pub fn text(&mut self, name: &str, text: &str) {
        self.texts(name, &[text]);
    }

    /// Adds a property of strings.
    pub fn texts(&mut self, name: &str, texts: &[&str]) {
        let value: Vec<u8> = texts.iter().flat_map(|text| text.bytes().chain([0])).collect();
        self.property(name, &value);
    }

    /// The finished blob. Every node must have been ended.
    pub fn finish(mut self) -> Vec<u8> {
        self.word(END);
        // Header, an empty memory reservation map (its terminator), structure block, strings block.
        let reservations = HEADER_SIZE;
        let structure = reservations + 16;
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let mut blob = Vec::with_capacity(total);
        let header = [MAGIC, total as u32, structure as u32, strings as u32, reservations as u32, VERSION, 16, 0];
        let sizes = [self.strings.len() as u32, self.structure.len() as u32];
        blob.extend(header.iter().chain(&sizes).flat_map(|word| word.to_be_bytes()));
        blob.extend_from_slice(&[0; 16]);
        blob.extend_from_slice(&self.structure);
        blob.extend_from_slice(&self.strings);
        blob
    }

    fn name_offset(&mut self, name: &str) -> u32 {
        if let Some(&offset) = self.offsets.get(name) {
            return offset;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.offsets.insert(name.into(), offset);
        offset
    }

    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn align(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }
}
