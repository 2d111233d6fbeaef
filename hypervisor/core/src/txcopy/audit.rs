//! What tx copy holds and who is connected to whom, for the audit.

use super::{Attachment, Channel, TxCopy};

impl<P> TxCopy<P> {
    /// Calls `each` with every channel, its number and its generation.
    pub fn for_each_channel(&self, mut each: impl FnMut(u32, u64, &Channel<P>)) {
        for (number, slot) in (0..).zip(self.channels.get().into_iter().flatten()) {
            let slot = slot.lock();
            slot.channel.iter().for_each(|channel| each(number, slot.generation, channel));
        }
    }

    /// Calls `each` with every attachment.
    pub fn for_each_attachment(&self, mut each: impl FnMut(&Attachment<P>)) {
        for slot in self.attachments.get().into_iter().flatten() {
            slot.lock().iter().for_each(&mut each);
        }
    }
}
