//! Records as slices and instants: a track for each physical CPU, with who runs there, and one for each vCPU, with what it does.
//!
//! On a vCPU's track the time on a CPU holds the time in the guest and the exits; an arrow leads from who makes an interrupt pending to the
//! guest that takes it. The format is that of Chrome's trace events.

use super::{Counts, Record};
use anyhow::{Result, ensure};
use guest_abi::trace::own::{
    EXIT_IRQ, EXIT_SERROR, TRC_XENOLITH_EVENT as EVENT, TRC_XENOLITH_INJECT as INJECT, TRC_XENOLITH_TXCOPY as TXCOPY,
};
use guest_abi::trace::{TRC_HVM_VMENTRY as ENTRY, TRC_HVM_VMEXIT64 as EXIT, TRC_HVM_VMMCALL as HYPERCALL, TRC_HW_IRQ_HANDLED as IRQ};
use guest_abi::trace::{
    TRC_LOST_RECORDS as LOST, TRC_SCHED_CONTINUE_RUNNING as CONTINUE, TRC_SCHED_SWITCH as SWITCH, TRC_SCHED_WAKE as WAKE,
};
use guest_abi::xen::DOMID_IDLE;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The process under which physical CPUs are shown; domains are at 1 + their id.
const MACHINE: u32 = 100_000;
const IDLE: u32 = DOMID_IDLE as u32;
/// The reason of an exit that is a hypercall.
const HVC: u32 = 0x16;

/// A process and a thread of the timeline.
type Track = (u32, u32);

struct Slice {
    track: Track,
    name: String,
    start: u64,
    end: u64,
}

/// What a physical CPU is doing.
#[derive(Default)]
struct Cpu {
    /// The vCPU it runs; `None`: not known yet.
    runs: Option<Track>,
    /// Open slices, the outermost first.
    open: Vec<Slice>,
    last: u64,
}

/// The timeline.
pub struct Timeline {
    hz: u64,
    slices: Vec<Slice>,
    /// Track, name, time, what else is known.
    instants: Vec<(Track, String, u64, Vec<u32>)>,
    /// From a track at a time to another.
    arrows: Vec<[(Track, u64); 2]>,
}

impl Timeline {
    /// What `records`, in order, tell, of a counter with `hz` ticks in a second.
    pub fn new(records: &[Record], hz: u64) -> Self {
        let mut this = Self { hz, slices: Vec::new(), instants: Vec::new(), arrows: Vec::new() };
        let mut cpus: BTreeMap<u32, Cpu> = BTreeMap::new();
        let mut waiting: BTreeMap<Track, (Track, u64)> = BTreeMap::new();
        for record in records {
            let cpu = cpus.entry(record.cpu).or_default();
            this.record(record, cpu, &mut waiting);
            cpu.last = record.ticks;
        }
        for cpu in cpus.values_mut() {
            this.close(cpu, 0, cpu.last);
        }
        this
    }

    fn record(&mut self, record: &Record, cpu: &mut Cpu, waiting: &mut BTreeMap<Track, (Track, u64)>) {
        let (now, machine) = (record.ticks, (MACHINE, record.cpu));
        let here = cpu.runs.unwrap_or(machine);
        match (record.event, record.data.as_slice()) {
            (SWITCH, [from_domain, from_id, domain, id]) => {
                if cpu.runs.is_none() && *from_domain != IDLE {
                    self.run(cpu, record.cpu, (*from_domain, *from_id), cpu.last.max(1).min(now));
                }
                self.close(cpu, 0, now);
                self.run(cpu, record.cpu, (*domain, *id), now);
            }
            (CONTINUE, [vcpu]) if cpu.runs.is_none() => self.run(cpu, record.cpu, (vcpu >> 16, vcpu & 0xffff), now),
            (LOST, [count, vcpu, ..]) => {
                let last = cpu.last;
                self.close(cpu, 0, last);
                self.instant(machine, format!("{count} records lost"), now, &[]);
                self.run(cpu, record.cpu, (vcpu & 0xffff, vcpu >> 16), now);
            }
            (ENTRY, _) if cpu.runs.is_some() => {
                self.close(cpu, 2, now);
                cpu.open.push(Slice { track: here, name: "guest".into(), start: now, end: now });
                if let Some(from) = waiting.remove(&here) {
                    self.arrows.push([from, (here, now)]);
                }
            }
            (EXIT, [reason, ..]) if cpu.runs.is_some() => {
                self.close(cpu, 2, now);
                cpu.open.push(Slice { track: here, name: exit_name(*reason).into(), start: now, end: now });
            }
            (HYPERCALL, [number, op, ..]) => {
                if let Some(exit) = cpu.open.get_mut(2) {
                    exit.name = hypercall_name(*number, *op);
                }
            }
            (IRQ, [intid, start, end]) => {
                // The low words of the counter; the record was made at the end.
                let taken = now.saturating_sub(u64::from((now as u32).wrapping_sub(*start)));
                let name = format!("interrupt {intid}");
                let whole = cpu.open.get(2).is_some_and(|exit| exit.start <= taken);
                if whole {
                    let end = taken + u64::from(end.wrapping_sub(*start));
                    self.slices.push(Slice { track: here, name, start: taken, end: end.min(now) });
                } else {
                    self.instant(machine, name, taken, &[]);
                }
            }
            (INJECT, [vcpu, intid]) => {
                let target = (vcpu >> 16, vcpu & 0xffff);
                if here != target {
                    waiting.insert(target, (here, now));
                }
                self.instant(target, format!("interrupt {intid} pending"), now, &[]);
            }
            (EVENT, [domains, port, to]) => {
                self.instant(here, format!("event to d{}", domains & 0xffff), now, &[*port, *to]);
            }
            (TXCOPY, [domains, taken, bytes]) => {
                self.instant(here, format!("tx copy to d{}", domains & 0xffff), now, &[*taken, *bytes]);
            }
            (WAKE, [domain, id]) => self.instant((*domain, *id), "woken".into(), now, &[]),
            _ => {}
        }
    }

    /// `vcpu` runs on `cpu` from now on: the two outermost slices.
    fn run(&mut self, cpu: &mut Cpu, number: u32, vcpu: Track, now: u64) {
        cpu.runs = Some(vcpu);
        if vcpu.0 != IDLE {
            let (domain, id) = vcpu;
            cpu.open.push(Slice { track: (MACHINE, number), name: format!("d{domain}v{id}"), start: now, end: now });
            cpu.open.push(Slice { track: vcpu, name: format!("on CPU {number}"), start: now, end: now });
        } else {
            cpu.runs = Some((MACHINE, number));
        }
    }

    /// Ends all open slices but the outermost `keep`.
    fn close(&mut self, cpu: &mut Cpu, keep: usize, now: u64) {
        while cpu.open.len() > keep {
            self.slices.extend(cpu.open.pop().map(|slice| Slice { end: now.max(slice.start), ..slice }));
        }
    }

    fn instant(&mut self, track: Track, name: String, now: u64, data: &[u32]) {
        self.instants.push((track, name, now, data.to_vec()));
    }

    /// How often each kind of thing is there; numbers in names do not count.
    pub fn counts(&self) -> Counts {
        let names = self.slices.iter().map(|slice| &slice.name).chain(self.instants.iter().map(|(_, name, ..)| name));
        let mut counts = Counts::new();
        for name in names {
            let kind = name.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join(" ");
            *counts.entry(if kind.is_empty() { "vCPU".into() } else { kind }).or_default() += 1;
        }
        counts
    }

    /// The arrows: interrupts that a vCPU took and another CPU or vCPU, or a device, made pending.
    pub fn arrows(&self) -> usize {
        self.arrows.len()
    }

    /// Of each track, two slices are apart or one lies in the other: what a viewer can show.
    pub fn check(&self) -> Result<()> {
        let mut tracks: BTreeMap<Track, Vec<&Slice>> = BTreeMap::new();
        self.slices.iter().for_each(|slice| tracks.entry(slice.track).or_default().push(slice));
        for slices in tracks.values_mut() {
            slices.sort_by_key(|slice| (slice.start, std::cmp::Reverse(slice.end)));
            let mut around: Vec<&Slice> = Vec::new();
            for slice in slices.iter() {
                while around.last().is_some_and(|outer| outer.end <= slice.start) {
                    around.pop();
                }
                let outer = around.last();
                ensure!(
                    outer.is_none_or(|outer| slice.end <= outer.end),
                    "\"{}\" at {} outlasts \"{}\" around it",
                    slice.name,
                    slice.start,
                    outer.map_or("", |outer| &outer.name)
                );
                around.push(slice);
            }
        }
        Ok(())
    }

    /// As Chrome's trace events; times are microseconds since the first record.
    pub fn to_json(&self) -> Result<String> {
        let times = self.slices.iter().map(|slice| slice.start).chain(self.instants.iter().map(|(_, _, at, _)| *at));
        let zero = times.min().unwrap_or(0);
        let micros = |at: u64| at.saturating_sub(zero) as f64 * 1e6 / self.hz as f64;
        let mut events: Vec<Value> = Vec::new();
        let tracks: BTreeSet<Track> =
            self.slices.iter().map(|slice| slice.track).chain(self.instants.iter().map(|(track, ..)| *track)).collect();
        for track in tracks {
            let (pid, tid) = ids(track);
            let (process, thread) = match track {
                (MACHINE, cpu) => ("physical CPUs".into(), format!("CPU {cpu}")),
                (domain, id) => (format!("domain {domain}"), format!("d{domain}v{id}")),
            };
            events.push(json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": process}}));
            events.push(json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": thread}}));
        }
        for slice in &self.slices {
            let (pid, tid) = ids(slice.track);
            let (start, end) = (micros(slice.start), micros(slice.end));
            events.push(json!({"ph": "X", "name": slice.name, "pid": pid, "tid": tid, "ts": start, "dur": end - start}));
        }
        for (track, name, at, data) in &self.instants {
            let (pid, tid) = ids(*track);
            events.push(json!({"ph": "i", "s": "t", "name": name, "pid": pid, "tid": tid, "ts": micros(*at), "args": {"data": data}}));
        }
        for (n, [from, to]) in self.arrows.iter().enumerate() {
            for (phase, (track, at)) in [("s", from), ("f", to)] {
                let (pid, tid) = ids(*track);
                events.push(json!({
                    "ph": phase, "bp": "e", "id": n, "cat": "interrupt", "name": "interrupt", "pid": pid, "tid": tid, "ts": micros(*at)
                }));
            }
        }
        Ok(serde_json::to_string(&json!({"traceEvents": events, "displayTimeUnit": "ns"}))?)
    }
}

/// A viewer takes 0 for nothing.
fn ids((process, thread): Track) -> (u32, u32) {
    (process + 1, thread + 1)
}

/// Exception classes of the Arm ARM (`ESR_EL2.EC`), but for interrupts.
fn exit_name(reason: u32) -> &'static str {
    match reason {
        0x01 => "exit: wfi",
        EXIT_IRQ => "exit: interrupt",
        HVC => "exit: hvc",
        0x17 => "exit: smc",
        0x18 => "exit: system register",
        0x20 => "exit: instruction abort",
        0x24 => "exit: data abort",
        EXIT_SERROR => "exit: system error",
        _ => "exit: other",
    }
}

/// As public/xen.h has them, with the operation where it is one that a packet meets.
fn hypercall_name(number: u32, op: u32) -> String {
    let op_name = match (number, op) {
        (20, 0) | (20, 1) => ["map", "unmap"][op as usize],
        (20, 5) => "copy",
        (29, 0) => "yield",
        (29, 1) => "block",
        (29, 3) => "poll",
        (32, 4) => "send",
        (32, 9) => "unmask",
        _ => "",
    };
    let name = match number {
        7 => "platform_op",
        12 => "memory_op",
        13 => "multicall",
        17 => "xen_version",
        18 => "console_io",
        20 => "grant_table_op",
        21 => "vm_assist",
        24 => "vcpu_op",
        29 => "sched_op",
        32 => "event_channel_op",
        34 => "hvm_op",
        35 => "sysctl",
        36 => "domctl",
        _ if number == guest_abi::txcopy::TXCOPY_OP as u32 => "txcopy_op",
        _ => "hypercall",
    };
    format!("{name} {op_name}").trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cpu: u32, ticks: u64, event: u32, data: &[u32]) -> Record {
        Record { cpu, ticks, event, data: data.to_vec() }
    }

    /// A packet's way: a DomU's hypercall on CPU 1, an event to Dom0, which waits on CPU 0.
    fn packet() -> Vec<Record> {
        vec![
            record(0, 5, SWITCH, &[0, 0, IDLE, 0]),
            record(1, 6, SWITCH, &[IDLE, 1, 1, 0]),
            record(1, 7, ENTRY, &[]),
            record(1, 10, EXIT, &[HVC, 0, 0]),
            record(1, 11, HYPERCALL, &[32, 4, 0]),
            record(1, 12, EVENT, &[1 << 16, 3, 4]),
            record(1, 13, INJECT, &[0, 31]),
            record(1, 14, WAKE, &[0, 0]),
            record(1, 15, ENTRY, &[]),
            record(0, 16, SWITCH, &[IDLE, 0, 0, 0]),
            record(0, 17, ENTRY, &[]),
            record(0, 30, EXIT, &[2, 0, 0]),
            record(0, 33, IRQ, &[27, 31, 32]),
            record(0, 34, ENTRY, &[]),
            record(1, 40, EXIT, &[1, 0, 0]),
            record(1, 41, SWITCH, &[1, 0, IDLE, 1]),
        ]
    }

    #[test]
    fn a_packets_way_is_seen() {
        let timeline = Timeline::new(&packet(), QEMU);
        timeline.check().unwrap();
        let counts = timeline.counts();
        for name in ["event_channel_op send", "event to", "interrupt pending", "woken", "exit: interrupt", "exit: wfi", "interrupt"] {
            assert_eq!(counts.get(name), Some(&1), "{name}: {counts:?}");
        }
        assert_eq!((counts["guest"], counts["on CPU"]), (4, 3));
        assert_eq!(timeline.arrows, [[((1, 0), 13), ((0, 0), 17)]]);
        let json: Value = serde_json::from_str(&timeline.to_json().unwrap()).unwrap();
        assert!(json["traceEvents"].as_array().unwrap().iter().any(|event| event["name"] == "event_channel_op send"));
    }

    const QEMU: u64 = super::super::QEMU_HZ;

    #[test]
    fn slices_that_cross_are_found() {
        let mut timeline = Timeline::new(&packet(), QEMU);
        timeline.slices.push(Slice { track: (0, 0), name: "wrong".into(), start: 20, end: 31 });
        assert!(timeline.check().is_err());
    }

    #[test]
    fn any_records_make_a_timeline() {
        let events = [LOST, CONTINUE, WAKE, SWITCH, ENTRY, EXIT, HYPERCALL, EVENT, INJECT, TXCOPY, IRQ, 0x2_8000];
        let mut state = 1_u32;
        let mut next = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % limit
        };
        let mut now = 0;
        let records: Vec<_> = (0..20_000)
            .map(|_| {
                now += u64::from(next(3));
                let data: Vec<u32> = (0..next(6)).map(|_| next(4) << (16 * next(2))).collect();
                record(next(3), now, events[next(events.len() as u32) as usize], &data)
            })
            .collect();
        Timeline::new(&records, QEMU).to_json().unwrap();
    }
}
