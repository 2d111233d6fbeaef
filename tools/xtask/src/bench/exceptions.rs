//! QEMU's log of exceptions (`-d int`): what entered the hypervisor and why, for any hypervisor, with nothing built into it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, Result};

/// How often what happened.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
pub struct Sums {
    /// Entries into the hypervisor, by reason.
    pub exits: BTreeMap<String, f64>,
    /// Hypercalls, by name.
    pub hypercalls: BTreeMap<String, f64>,
    /// Virtual interrupts taken, by domain.
    pub injected: BTreeMap<String, f64>,
    /// TLB flushes by the hypervisor, by whose TLB they are of: empty where they cannot be counted.
    #[serde(default)]
    pub flushes: BTreeMap<String, f64>,
    /// Instructions of the hypervisor, where they can be counted.
    #[serde(default)]
    pub instructions: Option<f64>,
    /// Packets that Dom0's interface got from the DomU.
    #[serde(default)]
    pub packets: f64,
}

/// Where a kernel executes HVC: addresses and the names of the functions that begin there, in order.
#[derive(Default, Clone, Debug)]
pub struct Symbols(Vec<(u64, String)>);

/// One exception, as far as the log has told of it.
#[derive(Default)]
struct Exception<'a> {
    name: &'a str,
    from: u8,
    to: u8,
    syndrome: u64,
    elr: u64,
    vector: u64,
}

const HVC: u64 = 0x16;
/// The immediate of Xen's hypercalls on Arm.
const XEN: u64 = 0xea1;

impl Symbols {
    /// Reads lines of `/proc/kallsyms` with the domain before each.
    pub fn read(lines: &str) -> Self {
        let symbol = |line: &str| {
            let mut words = line.split_whitespace();
            let domain = words.next()?;
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let (name, module) = (words.nth(1)?, words.next());
            let call = if module.is_some() { "tx copy" } else { name.strip_prefix("HYPERVISOR_")? };
            Some((address, format!("{domain} {call}")))
        };
        let mut symbols: Vec<_> = lines.lines().filter_map(symbol).collect();
        symbols.sort();
        symbols.dedup_by_key(|(address, _)| *address);
        Self(symbols)
    }

    /// The hypercall whose function contains `address`.
    fn hypercall(&self, address: u64) -> &str {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        match after.checked_sub(1).and_then(|at| self.0.get(at)) {
            // Xen's functions in the kernel are a few instructions long, and those of a module follow each other.
            Some((start, name)) if address - start < 64 || (name.ends_with("tx copy") && address - start < 4096) => name,
            _ => "other",
        }
    }

    /// The domain whose kernel has its vectors there: each kernel is one piece, and Linux puts Dom0's at a random place.
    fn domain(&self, vector: u64) -> &str {
        let near = self.0.iter().min_by_key(|(address, _)| address.abs_diff(vector));
        near.and_then(|(_, name)| name.split(' ').next()).unwrap_or("other")
    }
}

/// Sums up a log.
pub fn sum(log: impl BufRead, symbols: &Symbols) -> Result<Sums> {
    let mut sums = Sums::default();
    // The log is not always UTF-8 in full: its last line may be cut off.
    let mut lines = log.split(b'\n');
    let mut block: Vec<String> = Vec::new();
    loop {
        let line = lines.next().transpose()?.map(|line| String::from_utf8_lossy(&line).into_owned());
        let ended = line.as_ref().is_none_or(|line| !line.starts_with("..."));
        if ended && !block.is_empty() {
            sums.count(&read(&block), symbols);
            block.clear();
        }
        match line {
            None => return Ok(sums),
            Some(line) if line.starts_with("Taking exception") || (line.starts_with("...") && !block.is_empty()) => block.push(line),
            Some(_) => {}
        }
    }
}

fn read(block: &[String]) -> Exception<'_> {
    let mut exception = Exception::default();
    for line in block {
        if let Some(rest) = line.strip_prefix("Taking exception") {
            exception.name = rest.split_once('[').and_then(|(_, rest)| rest.split(']').next()).unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("...from EL") {
            exception.from = level(rest);
            exception.to = rest.split_once("to EL").map_or(0, |(_, rest)| level(rest));
        } else if let Some(rest) = line.strip_prefix("...with ESR ") {
            exception.syndrome = rest.split_once('/').map_or(0, |(_, all)| hex(all));
        } else if let Some(rest) = line.strip_prefix("...with ELR ") {
            exception.elr = hex(rest);
        } else if let Some(rest) = line.strip_prefix("...to EL") {
            exception.vector = rest.split(' ').nth(2).map_or(0, hex);
        }
    }
    exception
}

impl Sums {
    fn count(&mut self, exception: &Exception, symbols: &Symbols) {
        if exception.to == 1 && exception.name == "Virtual IRQ" {
            *self.injected.entry(symbols.domain(exception.vector).into()).or_default() += 1.0;
        }
        if exception.to != 2 {
            return;
        }
        let class = exception.syndrome >> 26;
        let reason = match (exception.name, class) {
            (_, _) if exception.from == 2 => "within the hypervisor",
            ("IRQ" | "FIQ", _) => "interrupt",
            ("Hypervisor Call", _) if exception.syndrome & 0xffff == XEN => {
                *self.hypercalls.entry(symbols.hypercall(exception.elr).into()).or_default() += 1.0;
                "hypercall"
            }
            // Beside PSCI that is the workaround that Linux calls the firmware for on some switches of address spaces.
            ("Hypervisor Call", _) | (_, HVC) => "firmware call",
            (_, 0x01) => "wait (WFI)",
            (_, 0x07) => "floating point",
            (_, 0x18) => "system register",
            (_, 0x20 | 0x24) => "memory or device",
            _ => "other",
        };
        *self.exits.entry(reason.into()).or_default() += 1.0;
    }

    /// What `self` has more than `less`, for one of `operations`. What goes on by itself may also be less: that is noise, not negative.
    pub fn each(&self, less: &Self, operations: f64) -> Self {
        let each = |more: f64, less: f64| ((more - less) / operations).max(0.0);
        let map = |more: &BTreeMap<String, f64>, less: &BTreeMap<String, f64>| {
            more.iter().map(|(name, n)| (name.clone(), each(*n, less.get(name).copied().unwrap_or_default()))).collect()
        };
        Self {
            exits: map(&self.exits, &less.exits),
            hypercalls: map(&self.hypercalls, &less.hypercalls),
            injected: map(&self.injected, &less.injected),
            flushes: map(&self.flushes, &less.flushes),
            instructions: self.instructions.zip(less.instructions).map(|(more, less)| each(more, less)),
            packets: each(self.packets, less.packets),
        }
    }
}

fn level(text: &str) -> u8 {
    text.bytes().next().map_or(0, |digit| digit.wrapping_sub(b'0'))
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
Taking exception 11 [Hypervisor Call] on CPU 0
...from EL1 to EL2
...with ESR 0x16/0x5a000ea1
...with ELR 0xffff800080c40028
...to EL2 PC 0x40000600 PSTATE 0x3c9
Exception return from AArch64 EL2 to AArch64 EL1 PC 0xffff800080c40028
Taking exception 1 [Undefined Instruction] on CPU 0
...from EL1 to EL2
...with ESR 0x1/0x7e00000
...with ELR 0xffff800080000000
...to EL2 PC 0x40000400 PSTATE 0x3c9
Taking exception 5 [IRQ] on CPU 0
...from EL0 to EL2
...with ESR 0x1/0x7e00000
Taking exception 14 [Virtual IRQ] on CPU 0
...from EL0 to EL1
...with ESR 0x1/0x7e00000
...with ELR 0xaaaac0000000
...to EL1 PC 0xffff800080c10680 PSTATE 0x3c5
Taking exception 2 [SVC] on CPU 0
...from EL0 to EL1
...with ESR 0x15/0x56000000
Taking exc";

    #[test]
    fn a_hypercall_has_the_name_of_its_function_or_module() {
        let symbols = Symbols::read(
            "DomU ffff800080c40000 T HYPERVISOR_sched_op\n\
             DomU ffff80007a000100 t front_start_xmit\t[xenolith_tx_front]\nDomU ffff80007a000900 t room [xenolith_tx_front]\n",
        );
        let names =
            [0xffff_8000_80c4_0010, 0xffff_8000_80c4_0040, 0xffff_8000_7a00_08fc, 0xffff_8000_7a00_1000].map(|at| symbols.hypercall(at));
        assert_eq!(names, ["DomU sched_op", "other", "DomU tx copy", "DomU tx copy"]);
    }

    #[test]
    fn each_exception_is_counted_by_its_reason() {
        let symbols = Symbols::read(
            "Dom0 ffff800080c40020 T HYPERVISOR_event_channel_op\n\
                                     Dom0 ffff800080c40000 T HYPERVISOR_sched_op\nDomU ffffc00080c40000 T HYPERVISOR_sched_op\nbad\n",
        );
        let sums = sum(LOG.as_bytes(), &symbols).unwrap();
        let exits: Vec<_> = sums.exits.iter().map(|(reason, n)| (reason.as_str(), *n)).collect();
        assert_eq!(exits, [("hypercall", 1.0), ("interrupt", 1.0), ("wait (WFI)", 1.0)]);
        assert_eq!(sums.hypercalls.keys().collect::<Vec<_>>(), ["Dom0 event_channel_op"]);
        assert_eq!(sums.injected.into_iter().collect::<Vec<_>>(), [("Dom0".to_string(), 1.0)]);
    }

    #[test]
    fn an_unknown_address_is_another_hypercall() {
        assert_eq!(Symbols::default().hypercall(5), "other");
        assert_eq!(Symbols::read("DomU 10 T HYPERVISOR_a").hypercall(0x10 + 64), "other");
    }

    #[test]
    fn the_difference_of_two_runs_is_for_one_operation() {
        let sums = |calls, interrupts| Sums {
            exits: [("hypercall".to_string(), calls)].into(),
            injected: [("DomU".to_string(), interrupts)].into(),
            ..Sums::default()
        };
        let (more, less) = (sums(1000.0, 30.0), sums(500.0, 40.0));
        let each = more.each(&less, 100.0);
        assert_eq!((each.exits["hypercall"], each.injected["DomU"]), (5.0, 0.0));
    }
}
