//! One record as it is in memory. Source: public/trace.h, `struct t_rec`.

use guest_abi::trace::{TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TRC_HD_CYCLE_FLAG};
use zerocopy::IntoBytes;

/// Words of the longest record.
const WORDS: usize = 3 + TRACE_EXTRA_MAX as usize;

/// A record, encoded.
pub(super) struct Record {
    words: [u32; WORDS],
    len: usize,
}

impl Record {
    /// `event` at this time of the counter, with as much of `data` as fits.
    pub fn new(event: u32, ticks: Option<u64>, data: &[u32]) -> Self {
        let data = data.get(..TRACE_EXTRA_MAX as usize).unwrap_or(data);
        let flag = if ticks.is_some() { TRC_HD_CYCLE_FLAG } else { 0 };
        let header = event | flag | (data.len() as u32) << TRACE_EXTRA_SHIFT;
        let time = ticks.into_iter().flat_map(|ticks| [ticks as u32, (ticks >> 32) as u32]);
        let mut this = Self { words: [0; WORDS], len: 0 };
        for (word, value) in this.words.iter_mut().zip([header].into_iter().chain(time).chain(data.iter().copied())) {
            *word = value;
            this.len += 1;
        }
        this
    }

    /// A record without meaning that is `bytes` long: a word, to less than [`Record::MAX`].
    pub fn filler(event: u32, bytes: u32) -> Self {
        let data = (bytes / 4).saturating_sub(1);
        let (ticks, data) = if data > TRACE_EXTRA_MAX { (Some(0), data.saturating_sub(2)) } else { (None, data) };
        let zeroes = [0; TRACE_EXTRA_MAX as usize];
        Self::new(event, ticks, zeroes.get(..data as usize).unwrap_or(&zeroes))
    }

    /// Bytes of the longest record.
    #[cfg(test)]
    pub const MAX: u32 = 4 * WORDS as u32;

    /// Its bytes, a multiple of 4 of them.
    pub fn bytes(&self) -> &[u8] {
        self.words.get(..self.len).unwrap_or_default().as_bytes()
    }

    /// How many.
    pub fn size(&self) -> u32 {
        4 * self.len as u32
    }
}
