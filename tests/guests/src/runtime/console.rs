//! Output: the PV console ring that the toolstack set up, else the UART, or console_io where there is neither. Only the boot CPU prints.

use super::platform::{self, Role};
use super::{cpu, hypercall, page::Page, peer, probe};
use core::fmt::{self, Write};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};
use guest_abi::arch_arm::GUEST_PL011_BASE;
use guest_abi::console::CONSOLEIO_WRITE;
use guest_abi::event_channel::{EVTCHNOP_SEND, Send};
use guest_abi::hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVMOP_GET_PARAM, HvmParam};
use guest_abi::io::console::XenconsInterface;
use guest_abi::xen::{DOMID_SELF, hypercall as nr};

/// Guest frame of the ring; 0: none.
static RING: AtomicU64 = AtomicU64::new(0);
static PORT: AtomicU64 = AtomicU64::new(0);
/// Whether there is a UART in its place.
static UART: AtomicBool = AtomicBool::new(false);

const OUTPUT: u64 = offset_of!(XenconsInterface, output) as u64;
const CONS: u64 = offset_of!(XenconsInterface, out_cons) as u64;
const PROD: u64 = offset_of!(XenconsInterface, out_prod) as u64;
const SIZE: u32 = 2048;

/// Finds the ring or the UART.
pub fn init() {
    if platform::role() != Role::DomU {
        return;
    }
    let param = |index| {
        let mut param = HvmParam { domid: DOMID_SELF, index, ..Default::default() };
        if hypercall::with(nr::HVM_OP, HVMOP_GET_PARAM, &mut param) == 0 { param.value } else { 0 }
    };
    PORT.store(param(HVM_PARAM_CONSOLE_EVTCHN), Relaxed);
    RING.store(param(HVM_PARAM_CONSOLE_PFN), Relaxed);
    UART.store(platform::has_uart(), Relaxed);
}

/// Prints a line, in one piece if it is not very long: the hypervisor prints on the same line, also about what is asked for the line's sake.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; 2048], length: 0 };
    let _ = line.write_fmt(text);
    let _ = line.write_str("\n");
    line.flush();
}

struct Line {
    text: [u8; 2048],
    length: usize,
}

impl Line {
    fn flush(&mut self) {
        // Cut only between characters: what is written are whole strings.
        if let Ok(text) = core::str::from_utf8(&self.text[..self.length]) {
            let _ = Output.write_str(text);
        }
        self.length = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.length + text.len() > self.text.len() {
            self.flush();
        }
        if text.len() > self.text.len() {
            return Output.write_str(text);
        }
        self.text[self.length..self.length + text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// Tells the other end that there is something to read. Seldom, for xenconsoled stops listening to a domain that notifies often.
pub fn flush() {
    if RING.load(Relaxed) != 0 {
        hypercall::event(EVTCHNOP_SEND, &mut Send { port: PORT.load(Relaxed) as u32 });
    }
}

/// Waits until all is read, half a minute at most.
pub fn drain() {
    if let Some(ring) = ring() {
        wait(ring, 0);
    }
}

/// Waits until no more than `left` bytes of the ring are unread, half a minute at most. What was told while the channel was not connected is
/// told again.
fn wait(ring: Page, left: u32) {
    for _ in 0..30 {
        let start = cpu::counter();
        while cpu::counter() - start < cpu::frequency() {
            if ring.read32(PROD).wrapping_sub(ring.read32(CONS)) <= left {
                return;
            }
        }
        flush();
    }
}

fn ring() -> Option<Page> {
    let gfn = RING.load(Relaxed);
    (gfn != 0).then(|| Page::window(gfn))
}

/// Sends a byte by the UART, once it has room (bit 5 of the flag register says that it has none).
fn transmit(byte: u8) {
    let is_full = || probe::read(GUEST_PL011_BASE + 0x18, 2).is_ok_and(|flags| flags & 1 << 5 != 0);
    (0..1_000_000).find(|_| !is_full());
    let _ = probe::write(GUEST_PL011_BASE, 2, byte.into());
}

struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if platform::role() == Role::Peer {
            peer::write(text);
            return Ok(());
        }
        let Some(ring) = ring() else {
            if UART.load(Relaxed) {
                text.bytes().for_each(transmit);
                return Ok(());
            }
            let at = text.as_ptr().expose_provenance() as u64;
            hypercall::raw(nr::CONSOLE_IO, [CONSOLEIO_WRITE.into(), text.len() as u64, at, 0, 0]);
            return Ok(());
        };
        for byte in text.bytes() {
            let prod = ring.read32(PROD);
            if prod.wrapping_sub(ring.read32(CONS)) >= SIZE {
                flush();
                wait(ring, SIZE - 1);
            }
            ring.write8(OUTPUT + u64::from(prod % SIZE), byte);
            // The byte before the index that shows it.
            fence(SeqCst);
            ring.write32(PROD, prod.wrapping_add(1));
        }
        Ok(())
    }
}
