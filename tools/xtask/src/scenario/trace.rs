//! Debian's xentrace: what it collects becomes a timeline that makes sense.

use super::{Scenario, boot_with_domu};
use crate::console::Machine;
use crate::host;
use crate::trace::{QEMU_HZ, Timeline, read};
use anyhow::{Context, Result, ensure};
use std::fs;

pub const ALL: &[Scenario] = &[Scenario::new("trace", trace).long()];

/// Bytes that are looked at: what the serial console brings in a few seconds.
const BYTES: u32 = 64 << 10;
/// What one packet's way leaves in the trace on Xenolith; Xen on Arm records only what its scheduler does.
const PACKETS_WAY: &[&str] = &["guest", "event_channel_op send", "event to", "interrupt pending", "exit: wfi", "exit: interrupt"];

fn trace(machine: &mut Machine) -> Result<String> {
    boot_with_domu(machine, "")?;
    let ours = machine.status("xl dmesg | grep -q Xenolith", 30)?.0 == 0;
    machine.sh("(ping -i 0.2 10.0.0.2 >/dev/null 2>&1 &)", 20)?;
    // It ends by itself; with nothing to collect yet it would be empty.
    machine
        .sh("i=0; until xentrace -D -e all -T 1 /tmp/t && [ -s /tmp/t ]; do [ $i -lt 5 ] || break; i=$((i+1)); done; [ -s /tmp/t ]", 90)?;
    machine.sh("killall ping", 20)?;
    let complaints = machine.status("xenalyze --dump-all /tmp/t 2>&1 >/dev/null | grep -i -e error -e exit_reason_max | head -3", 60)?.1;
    ensure!(complaints.trim().is_empty(), "xenalyze complains: {complaints}");
    let text = machine.sh(&format!("head -c {BYTES} /tmp/t | hexdump -v -e '32/1 \"%02x\" \"\\n\"'"), 120)?;
    let bytes = unhex(&text).context("the file came garbled")?;
    let kept = host::target_dir().join("xenolith/test/trace.bin");
    fs::write(&kept, &bytes)?;
    let records = read(&bytes)?;
    let timeline = Timeline::new(&records, QEMU_HZ);
    timeline.check()?;
    let counts = timeline.counts();
    fs::write(kept.with_extension("json"), timeline.to_json()?)?;
    ensure!(counts.get("on CPU").is_some_and(|n| *n > 1), "the scheduler has recorded nothing: {counts:?}");
    if ours {
        let missing: Vec<_> = PACKETS_WAY.iter().filter(|name| !counts.contains_key(**name)).collect();
        ensure!(missing.is_empty(), "not in the trace: {missing:?} (but {counts:?})");
        ensure!(timeline.arrows() > 0, "nobody's event woke anybody");
        machine.sh("[ \"$(xl dmesg | grep -c 'trace is off')\" = 0 ]", 30)?;
    }
    Ok(format!("{} records, {} slices of time on a CPU, {} arrows", records.len(), counts["on CPU"], timeline.arrows()))
}

/// The bytes of hexadecimal lines; the last of them may be filled up with spaces.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
