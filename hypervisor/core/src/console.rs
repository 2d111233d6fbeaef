//! The console ring: the last bytes that went to the serial console, for `xl dmesg` (sysctl readconsole).
//!
//! Indices count bytes since boot and wrap at 2^32, as in `xen_sysctl_readconsole`.

use crate::addr::DomainId;
use alloc::vec::Vec;
use core::fmt;

pub mod limit;

/// The log target of messages that a guest can cause; they are subject to option `guest_loglvl`.
pub const GUEST: &str = "guest";
/// The same for what guests say, which is told apart by how it begins.
pub const GUEST_LINE: &str = "guest line";

/// Bytes that are kept.
pub const RING_SIZE: usize = 32 * 1024;

/// The ring. Empty until [`ConsoleRing::allocate`]; what is written before is lost to `xl dmesg`.
#[derive(Default)]
pub struct ConsoleRing {
    bytes: Vec<u8>,
    produced: u32,
    /// Where reading starts after a clear.
    cleared: u32,
    /// Bytes received for the control domain and not read yet.
    input: Vec<u8>,
    switch: Switch,
    /// The guest that has the input said the beginning of a line.
    in_line: bool,
}

/// To whom what comes in on the serial console goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputTo {
    /// The hypervisor: its debug keys.
    Hypervisor,
    /// A domain that was built at boot. The control domain reads the bytes from here, the others have an emulated UART.
    Domain(DomainId),
}

impl fmt::Display for InputTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hypervisor => f.write_str("Xen"),
            Self::Domain(id) => write!(f, "DOM{}", id.0),
        }
    }
}

struct Switch {
    /// The letter of the control character that, three times in a row, changes it.
    letter: Option<u8>,
    /// How many of them have come.
    count: u8,
    to: InputTo,
    /// No domain after this one was built at boot.
    last: DomainId,
}

impl Switch {
    const fn new() -> Self {
        Self { letter: None, count: 0, to: InputTo::Domain(DomainId::HARDWARE), last: DomainId::HARDWARE }
    }

    /// The control character itself.
    fn code(&self) -> Option<u8> {
        self.letter.map(|letter| letter & 0x1f)
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a received byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// It waits for the control domain.
    Kept,
    /// It is for this domain, after so many switch characters that were only input.
    For(DomainId, u8),
    /// It is a debug key.
    Key(u8),
    /// It was the third switch character: somebody else is to have the input, see [`ConsoleRing::candidates`].
    Switch,
    /// It may be the first of three switch characters.
    Held,
}

/// Received bytes that are kept while nobody reads.
const INPUT_SIZE: usize = 1024;
/// Switch characters in a row that switch.
const SWITCH_COUNT: u8 = 3;

impl ConsoleRing {
    /// An empty ring without storage.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), produced: 0, cleared: 0, input: Vec::new(), switch: Switch::new(), in_line: false }
    }

    /// Option `conswitch`: the letter of the switch character. `last`: the last domain that was built at boot. Input goes to the
    /// hypervisor until [`Self::give_input`].
    pub fn set_switch(&mut self, letter: Option<u8>, last: DomainId) {
        self.switch = Switch { letter, count: 0, to: InputTo::Hypervisor, last };
    }

    /// The switch character.
    pub fn switch_code(&self) -> Option<u8> {
        self.switch.code()
    }

    /// To whom input goes.
    pub fn input_to(&self) -> InputTo {
        self.switch.to
    }

    /// Who may have the input next, if it exists, in the order of asking: the domains after the one that has it. If none exists, the
    /// hypervisor.
    pub fn candidates(&self) -> impl Iterator<Item = DomainId> + use<> {
        let first = match self.switch.to {
            InputTo::Hypervisor => 0,
            InputTo::Domain(domain) => domain.0.saturating_add(1),
        };
        (first..=self.switch.last.0).map(DomainId)
    }

    /// Lets `to` have the input from now on. Returns the letter of the switch character.
    pub fn give_input(&mut self, to: InputTo) -> Option<u8> {
        self.switch.to = to;
        self.switch.letter
    }

    /// A guest says `piece`: whether that begins a line, which is then marked as a message of the hypervisor's. A piece that is not
    /// `verbatim` always does.
    pub fn begins_line(&mut self, piece: &[u8], verbatim: bool) -> bool {
        let begins = !verbatim || !self.in_line;
        self.in_line = verbatim && piece.last() != Some(&b'\n');
        begins
    }

    /// Gives the ring its storage.
    pub fn allocate(&mut self) {
        if self.bytes.try_reserve_exact(RING_SIZE).is_ok() {
            self.bytes.resize(RING_SIZE, 0);
        }
        // Without it input is dropped.
        let _ = self.input.try_reserve_exact(INPUT_SIZE);
    }

    /// Appends bytes, overwriting the oldest.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(slot) = self.bytes.get_mut(self.produced as usize % RING_SIZE) {
                *slot = byte;
                self.produced = self.produced.wrapping_add(1);
            }
        }
    }

    /// Copies what was produced since `index` (or since the last clear) into `into`; returns bytes copied and the index that follows.
    pub fn read(&self, index: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        let kept = u32::try_from(RING_SIZE).unwrap_or(u32::MAX);
        let mut at = index.unwrap_or(self.cleared);
        if self.produced.wrapping_sub(at) > kept {
            at = if self.produced > kept { self.produced.wrapping_sub(kept) } else { 0 };
        }
        let mut n = 0;
        for slot in into {
            if at == self.produced {
                break;
            }
            let Some(&byte) = self.bytes.get(at as usize % RING_SIZE) else { break };
            *slot = byte;
            at = at.wrapping_add(1);
            n += 1;
        }
        (n, at)
    }

    /// What was written so far is not returned by later reads without an index.
    pub fn clear(&mut self) {
        self.cleared = self.produced;
    }

    /// A byte came in. Switch characters that turn out to be fewer than three in a row are input as any other.
    pub fn received(&mut self, byte: u8) -> Received {
        if self.switch.code() == Some(byte) {
            self.switch.count += 1;
            if self.switch.count < SWITCH_COUNT {
                return Received::Held;
            }
            self.switch.count = 0;
            return Received::Switch;
        }
        let held = core::mem::take(&mut self.switch.count);
        match self.switch.to {
            InputTo::Hypervisor => Received::Key(byte),
            InputTo::Domain(DomainId::HARDWARE) => {
                if let Some(code) = self.switch.code() {
                    (0..held).for_each(|_| self.keep(code));
                }
                self.keep(byte);
                Received::Kept
            }
            InputTo::Domain(domain) => Received::For(domain, held),
        }
    }

    /// Keeps a byte for the control domain; it is dropped when nobody reads.
    fn keep(&mut self, byte: u8) {
        if self.input.len() < self.input.capacity().min(INPUT_SIZE) {
            self.input.push(byte);
        }
    }

    /// Takes up to `into.len()` received bytes.
    pub fn take_input(&mut self, into: &mut [u8]) -> usize {
        let n = self.input.len().min(into.len());
        for (to, from) in into.iter_mut().zip(self.input.drain(..n)) {
            *to = from;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(bytes: &[u8]) -> ConsoleRing {
        let mut ring = ConsoleRing::new();
        ring.allocate();
        ring.write(bytes);
        ring
    }

    #[test]
    fn reads_in_chunks_and_stops_at_the_end() {
        let ring = ring(b"hello");
        let mut buf = [0; 3];
        assert_eq!(ring.read(None, &mut buf), (3, 3));
        assert_eq!(&buf, b"hel");
        assert_eq!(ring.read(Some(3), &mut buf), (2, 5));
        assert_eq!(ring.read(Some(5), &mut buf), (0, 5));
    }

    #[test]
    fn overwrites_the_oldest() {
        let mut ring = ring(&[b'a'; RING_SIZE]);
        ring.write(b"xyz");
        let mut buf = std::vec![0; RING_SIZE + 10];
        let (n, next) = ring.read(None, &mut buf);
        assert_eq!((n, next as usize), (RING_SIZE, RING_SIZE + 3));
        assert_eq!(&buf[RING_SIZE - 3..RING_SIZE], b"xyz");
    }

    #[test]
    fn clear_hides_what_was_before() {
        let mut ring = ring(b"old");
        ring.clear();
        ring.write(b"new");
        let mut buf = [0; 8];
        assert_eq!(ring.read(None, &mut buf).0, 3);
        assert_eq!(&buf[..3], b"new");
    }

    #[test]
    fn an_index_from_nowhere_reads_what_is_kept() {
        let ring = ring(b"abc");
        let mut buf = [0; 8];
        assert_eq!(ring.read(Some(77), &mut buf), (3, 3));
    }

    const CTRL_A: u8 = 1;

    #[test]
    fn three_switch_characters_switch_and_fewer_are_input() {
        let mut ring = ring(b"");
        ring.set_switch(Some(b'a'), DomainId(0));
        ring.give_input(InputTo::Domain(DomainId(0)));
        let feed = |ring: &mut ConsoleRing, bytes: &[u8]| bytes.iter().map(|byte| ring.received(*byte)).last().unwrap();
        assert_eq!(feed(&mut ring, &[b'x', CTRL_A, CTRL_A]), Received::Held);
        assert_eq!(feed(&mut ring, b"y"), Received::Kept);
        assert_eq!(feed(&mut ring, &[CTRL_A; 3]), Received::Switch);
        assert_eq!(ring.candidates().count(), 0);
        assert_eq!(ring.give_input(InputTo::Hypervisor), Some(b'a'));
        assert_eq!(feed(&mut ring, b"q"), Received::Key(b'q'));
        assert_eq!(feed(&mut ring, &[CTRL_A; 3]), Received::Switch);
        assert_eq!(ring.candidates().collect::<Vec<_>>(), [DomainId(0)]);
        ring.give_input(InputTo::Domain(DomainId(0)));
        assert_eq!(feed(&mut ring, b"z"), Received::Kept);
        let mut buf = [0; 8];
        assert_eq!(ring.take_input(&mut buf), 5);
        assert_eq!(buf.get(..5).unwrap(), [b'x', CTRL_A, CTRL_A, b'y', b'z']);
    }

    #[test]
    fn every_domain_of_the_boot_has_its_turn() {
        let mut ring = ring(b"");
        ring.set_switch(Some(b'a'), DomainId(3));
        assert_eq!(ring.candidates().count(), 4);
        ring.give_input(InputTo::Domain(DomainId(1)));
        assert_eq!(ring.candidates().collect::<Vec<_>>(), [DomainId(2), DomainId(3)]);
        assert_eq!([CTRL_A, b'k'].map(|byte| ring.received(byte)), [Received::Held, Received::For(DomainId(1), 1)]);
        assert_eq!(ring.received(b'k'), Received::For(DomainId(1), 0));
        assert_eq!(ring.take_input(&mut [0; 8]), 0);
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_marked_once() {
        let mut ring = ring(b"");
        assert!(ring.begins_line(b"a", true));
        assert!(!ring.begins_line(b"b\n", true));
        assert!(ring.begins_line(b"c", true));
        assert!(ring.begins_line(b"other\n", false));
        assert!(ring.begins_line(b"d", true));
    }

    #[test]
    fn without_a_switch_character_all_is_input() {
        let mut ring = ring(b"");
        ring.set_switch(None, DomainId(0));
        ring.give_input(InputTo::Domain(DomainId(0)));
        assert!((0..=u8::MAX).all(|byte| ring.received(byte) == Received::Kept));
    }

    #[test]
    fn input_is_bounded() {
        let mut ring = ring(b"");
        for _ in 0..INPUT_SIZE + 100 {
            ring.received(b'k');
        }
        let mut buf = std::vec![0; 2 * INPUT_SIZE];
        assert_eq!(ring.take_input(&mut buf), INPUT_SIZE);
        assert_eq!(ring.take_input(&mut buf), 0);
    }
}
