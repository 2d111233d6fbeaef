//! The serial console: one UART, and the logger that prefixes `(XEN) `, whose lines also go to whoever asked (the console ring).

use alloc::boxed::Box;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use spin::Once;
use xenolith_core::console::limit::RateLimit;
use xenolith_core::console::{GUEST, GUEST_LINE};
use xenolith_core::lock::Lock;

use crate::timer;
use crate::uart::Uart;

/// Receives every byte of the hypervisor's own messages, in order. Called with the console locked: it must not log.
pub type Tap = fn(&[u8]);

static CONSOLE: Lock<Option<Box<dyn Uart>>> = Lock::new(None);
static TAP: Once<Tap> = Once::new();
static THRESHOLDS: Once<Thresholds> = Once::new();
static GUEST_LIMIT: Lock<RateLimit> = Lock::new(RateLimit::new());
/// Set by a dying CPU: the lock may be held by what died.
static PANICKING: AtomicBool = AtomicBool::new(false);

/// Makes `uart` the console, and starts the logger.
pub fn init(uart: Box<dyn Uart>) {
    *CONSOLE.lock() = Some(uart);
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Sets the tap, once, for good.
pub fn set_tap(tap: Tap) {
    TAP.call_once(|| tap);
}

/// Writes bytes of a guest verbatim, but for a carriage return that each line feed gets. As in Xen they are not kept for `xl dmesg`, which
/// would never come to the end of what it prints itself.
pub fn write(bytes: &[u8]) {
    if let Some(uart) = &*CONSOLE.lock() {
        to_uart(&**uart, bytes);
    }
}

/// Writes a message of the hypervisor.
fn write_own(bytes: &[u8]) {
    let guard = CONSOLE.lock();
    if let Some(tap) = TAP.get() {
        tap(bytes);
    }
    if let Some(uart) = &*guard {
        to_uart(&**uart, bytes);
    }
}

/// A received byte, if there is one.
pub fn try_read() -> Option<u8> {
    CONSOLE.lock().as_ref()?.try_read()
}

/// From now on the UART raises its interrupt while bytes wait. The interrupt itself is enabled at the GIC by the caller.
pub fn enable_receive_interrupt() {
    if let Some(uart) = &*CONSOLE.lock() {
        uart.enable_receive_interrupt();
    }
}

/// To be called on the UART's interrupt: hands each byte that waits to `byte`.
pub fn receive(mut byte: impl FnMut(u8)) {
    if let Some(uart) = &*CONSOLE.lock() {
        uart.clear_receive_interrupt();
    }
    while let Some(received) = try_read() {
        byte(received);
    }
}

fn to_uart(uart: &dyn Uart, bytes: &[u8]) {
    for byte in bytes {
        if *byte == b'\n' {
            uart.write(b'\r');
        }
        uart.write(*byte);
    }
}

/// The console of a CPU that panics: waits for the lock only so long, then writes all the same.
pub struct PanicConsole;

impl PanicConsole {
    /// The first CPU that panics gets it; a second one has nothing to add.
    pub fn take() -> Option<Self> {
        (!PANICKING.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Write for PanicConsole {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        const PATIENCE: u32 = 10_000_000;
        if !(0..PATIENCE).any(|_| !CONSOLE.is_locked()) {
            // SAFETY: the holder is this CPU, which never gets back to it, or one that hangs: nobody is inside any more.
            unsafe { CONSOLE.force_unlock() };
        }
        // Not to the tap: what it needs may be locked as well.
        if let Some(uart) = &*CONSOLE.lock() {
            to_uart(&**uart, s.as_bytes());
        }
        Ok(())
    }
}

/// Options `loglvl` and `guest_loglvl`: which messages are printed.
#[derive(Clone, Copy)]
pub struct Thresholds {
    /// The hypervisor's own, up to this level.
    pub own: LevelFilter,
    /// Those that a guest can cause, up to this level always.
    pub guest: LevelFilter,
    /// And up to this level at a limited rate.
    pub guest_limited: LevelFilter,
}

/// Sets what is printed, once; until then it is what is informative.
pub fn set_thresholds(thresholds: Thresholds) {
    THRESHOLDS.call_once(|| thresholds);
    log::set_max_level(thresholds.own.max(thresholds.guest).max(thresholds.guest_limited));
}

/// Whether a message is printed.
fn is_wanted(metadata: &Metadata) -> bool {
    let Some(thresholds) = THRESHOLDS.get() else { return true };
    if metadata.target() != GUEST && metadata.target() != GUEST_LINE {
        return metadata.level() <= thresholds.own;
    }
    if metadata.level() <= thresholds.guest {
        return true;
    }
    if metadata.level() > thresholds.guest_limited {
        return false;
    }
    let allowed = GUEST_LIMIT.lock().allow(timer::ticks() / (timer::frequency() / 1000).max(1));
    if let Some(suppressed @ 1..) = allowed {
        print("(XEN) ", format_args!("{suppressed} messages suppressed"));
    }
    allowed.is_some()
}

/// Writes one line.
fn print(prefix: &str, what: fmt::Arguments) {
    let mut line = Line { bytes: [0; 256], len: 0 };
    // Line never fails; a Display that does leaves what it wrote so far.
    let _ = write!(line, "{prefix}{what}");
    let end = line.len.min(line.bytes.len() - 1);
    line.bytes[end] = b'\n';
    write_own(&line.bytes[..=end]);
}

struct Logger;

/// One line, written whole so that lines of several CPUs do not mix; what is longer is cut.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let n = s.len().min(room.len());
        room[..n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) && is_wanted(record.metadata()) {
            print(if record.target() == GUEST_LINE { "" } else { "(XEN) " }, *record.args());
        }
    }

    fn flush(&self) {}
}
