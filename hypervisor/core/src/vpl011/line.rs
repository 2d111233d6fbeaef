//! What a guest says on the serial console, gathered into lines so that the lines of several guests do not mix.

/// Bytes of a line at most; a longer one is broken.
pub const LINE: usize = 128;

/// The beginning of a line, or a piece of output to be printed.
#[derive(Clone, Debug)]
pub struct Line {
    bytes: [u8; LINE],
    len: usize,
    /// The guest has the console's input: printed as it is, without naming the guest.
    pub verbatim: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; LINE], len: 0, verbatim: false }
    }
}

impl Line {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Adds a byte; what is to be printed now, if that makes a whole line, or the guest has the console's input. A line that is broken
    /// gets a line feed.
    pub fn push(&mut self, byte: u8, has_input: bool) -> Option<Self> {
        self.add(byte);
        let is_whole = byte == b'\n' || self.len == LINE - 1;
        if !is_whole && !has_input {
            return None;
        }
        if byte != b'\n' && (!has_input || self.len > 1) {
            self.add(b'\n');
        }
        Some(Self { verbatim: has_input, ..core::mem::take(self) })
    }

    fn add(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }
}
