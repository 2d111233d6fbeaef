//! What Xenolith wants to reach, and whether it did.

use super::results::Results;
use serde::{Deserialize, Serialize};

/// A goal and what was measured for it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is wanted, for a reader.
    pub what: String,
    /// Which system is held to it.
    pub system: String,
    /// What it is compared with, if it is a ratio.
    pub against: Option<String>,
    /// At least (`more`) or at most (`less`) `target`.
    pub better: String,
    /// What is wanted.
    pub target: f64,
    /// What was measured, or nothing.
    pub value: Option<f64>,
    /// Whether it is met.
    pub met: Option<bool>,
    /// The file with what was measured.
    #[serde(default)]
    pub raw: Option<String>,
    /// What a hypervisor that executes no instruction would reach with the same guests, where that was counted.
    #[serde(default)]
    pub limit: Option<f64>,
    /// Why it is not met, if so and known.
    #[serde(default)]
    pub why: Option<String>,
}

/// A ratio of a figure to the same one of another system.
struct Ratio(&'static str, &'static str, &'static str, &'static str, &'static str, bool, f64);

const XEN: &str = "xen";
const STOCK: &str = "xenolith";
const TXCOPY: &str = "xenolith+txcopy";
/// Instructions in a second of virtual time in deterministic mode.
const SECOND: f64 = 5e8;
const NULL: &str = "instructions of a hypercall that does nothing";
const EVENT: &str = "instructions of an event sent";
const COPY: &str = "instructions of tx copy of 1514 B, but the copy";
/// Why a goal may be missed, by what it is; what was tried is in the files named.
const WHY: &[(&str, &str)] = &[
    (
        "ddsperf published by the DomU",
        "Nearly all instructions of a packet are the programs’ own: a hypervisor and modules that cost nothing would give 1 % more \
         (hypervisor/decisions/tx-copy.md).",
    ),
    (
        "TCP request and response, stock drivers",
        "A transaction has one wake-up, one interrupt and one wait of each side, the least that these drivers can have; most of its instructions are \
         the guests’ own (hypervisor/decisions/scheduling.md).",
    ),
    (
        "ddsperf ping, stock drivers",
        "The programs and kernels alone take 0.79 of what a round trip takes on Xen, all in all (hypervisor/decisions/scheduling.md).",
    ),
    (
        NULL,
        "40 are the registers that C may change, 24 the table of hypercalls, 52 putting caller and arguments together, 40 what is asked before the \
         guest goes on; some 35 of them can be spared (hypervisor/decisions/hypercall-entry.md).",
    ),
    (
        EVENT,
        "156 are those of a hypercall that does nothing, 144 read the port from the guest’s memory, 71 change words that are shared with the guest \
         (hypervisor/decisions/hypercall-entry.md).",
    ),
    (
        COPY,
        "156 are those of a hypercall that does nothing; holding pages of both domains, finding the sender’s and locking take 230 \
         (hypervisor/decisions/hypercall-entry.md, tx-copy.md).",
    ),
];
/// Two runs agree within this: "not below" cannot be told more exactly.
const SAME: f64 = 0.98;

/// What, scenario, metric, system, the one it is compared with, at least (not at most), and the ratio.
const RATIOS: &[Ratio] = &[
    Ratio("packets of 1514 B from the driver", "pktgen_1514", "rate", TXCOPY, XEN, true, 6.0),
    Ratio("packets of 60 B from the driver", "pktgen_60", "rate", TXCOPY, XEN, true, 4.0),
    Ratio("TCP from the DomU", "tcp_tx", "rate", TXCOPY, XEN, true, 2.3),
    Ratio("UDP of 1400 B from the DomU", "udp_tx_1400", "rate", TXCOPY, XEN, true, 1.3),
    Ratio("ddsperf published by the DomU", "dds_pub", "rate", TXCOPY, XEN, true, 1.07),
    Ratio("TCP to the DomU, not below stock drivers", "tcp_rx", "rate", TXCOPY, STOCK, true, SAME),
    Ratio("TCP request and response, not below stock drivers", "tcp_rr", "rate", TXCOPY, STOCK, true, SAME),
    Ratio("UDP request and response, not below stock drivers", "udp_rr", "rate", TXCOPY, STOCK, true, SAME),
    Ratio("TCP from the DomU, stock drivers", "tcp_tx", "rate", STOCK, XEN, true, 1.15),
    Ratio("TCP to the DomU, stock drivers", "tcp_rx", "rate", STOCK, XEN, true, 1.15),
    Ratio("TCP request and response, stock drivers", "tcp_rr", "rate", STOCK, XEN, true, 1.35),
    Ratio("ddsperf ping, stock drivers", "dds_ping", "mean", STOCK, XEN, false, 0.75),
];

/// The goals as far as `results` tell of them, by the figures of deterministic runs.
pub fn judge(results: &Results) -> Vec<Goal> {
    let find = |scenario: &str, metric: &str, system: &str| results.figure(scenario, metric, system, "deterministic");
    let figure = |scenario: &str, metric: &str, system: &str| {
        let figure = find(scenario, metric, system)?;
        Some((figure.value, figure.runs.first()?.raw.as_str()))
    };
    let ratios = RATIOS.iter().map(|Ratio(what, scenario, metric, system, against, more, target)| {
        let (ours, theirs) = (figure(scenario, metric, system), figure(scenario, metric, against));
        let value = ours.zip(theirs).filter(|(_, theirs)| theirs.0 > 0.0).map(|(ours, theirs)| (ours.0 / theirs.0, ours.1));
        Goal { limit: limit(results, scenario, metric, system, against), ..goal(what, system, Some(against), *more, *target, value) }
    });
    let count = |value: fn(&super::results::Count) -> f64| {
        let count = results.counts.iter().find(|count| count.system == TXCOPY && count.workload == "pktgen_1514")?;
        Some((value(count), count.raw.as_str()))
    };
    let calls = |name: &str, system: &str| {
        let cost = results.instructions.iter().find(|cost| cost.operation == name && cost.system == system)?;
        Some((cost.instructions, cost.raw.as_str()))
    };
    let flushes = count(|count| if count.flushes.is_empty() { f64::NAN } else { count.flushes.values().sum() });
    let others = [
        goal("UDP of 1400 B lost, %", TXCOPY, None, false, 1.0, figure("udp_tx_1400", "lost", TXCOPY)),
        goal("UDP of 64 B from the DomU, Mbit/s", TXCOPY, None, true, 15.0, figure("udp_tx_64", "rate", TXCOPY)),
        goal("hypercalls for a packet of 1514 B", TXCOPY, None, false, 1.0, count(|count| count.hypercalls.values().sum())),
        goal("grant operations for a packet of 1514 B", TXCOPY, None, false, 0.0, count(|count| named(count, "grant_table_op"))),
        goal(
            "interrupts to the DomU for a packet of 1514 B",
            TXCOPY,
            None,
            false,
            0.0,
            count(|count| count.injected.get("DomU").copied().unwrap_or_default()),
        ),
        goal("TLB flushes for a packet of 1514 B", TXCOPY, None, false, 0.0, flushes.filter(|(n, _)| !n.is_nan())),
        goal(NULL, STOCK, None, false, 120.0, calls("null", STOCK)),
        goal(EVENT, STOCK, None, false, 400.0, calls("evtchn_send", STOCK)),
        goal(COPY, STOCK, None, false, 300.0, sending(calls)),
    ];
    ratios.chain(others).collect()
}

/// What sending a packet of 1514 bytes costs without copying them, of which two sizes tell the cost for a byte.
fn sending<'a>(calls: impl Fn(&str, &str) -> Option<(f64, &'a str)>) -> Option<(f64, &'a str)> {
    let (less, packet, more) = (calls("tx copy 60 B", STOCK)?, calls("tx copy 1514 B", STOCK)?, calls("tx copy 4096 B", STOCK)?);
    let byte = (more.0 - less.0) / (4096.0 - 60.0);
    Some((packet.0 - 1514.0 * byte, packet.1))
}

fn named(count: &super::results::Count, call: &str) -> f64 {
    count.hypercalls.iter().filter(|(name, _)| name.contains(call)).map(|(_, n)| n).sum()
}

fn goal(what: &str, system: &str, against: Option<&str>, more: bool, target: f64, measured: Option<(f64, &str)>) -> Goal {
    let (value, raw) = (measured.map(|(value, _)| value), measured.map(|(_, raw)| raw.to_string()));
    // Counts are differences of two runs: the last hundredth is noise of the clock tick.
    let met = value.map(|value| if more { value >= target } else { value <= target + 0.01 });
    let better = if more { "more" } else { "less" };
    let why = WHY.iter().find(|(goal, _)| met == Some(false) && *goal == what).map(|(_, why)| (*why).into());
    Goal {
        what: what.into(),
        system: system.into(),
        against: against.map(Into::into),
        better: better.into(),
        target,
        value,
        met,
        raw,
        limit: None,
        why,
    }
}

/// What the ratio would be if `system`'s hypervisor executed nothing, where its instructions for one operation of the scenario are counted.
fn limit(results: &Results, scenario: &str, metric: &str, system: &str, against: &str) -> Option<f64> {
    let count = results.counts.iter().find(|count| count.workload == scenario && count.system == system)?;
    let all = |system: &str| {
        let figure = results.figure(scenario, metric, system, "deterministic")?;
        match figure.unit.as_str() {
            "1/s" | "packets/s" => Some(SECOND / figure.value),
            // ddsperf tells half of a round trip.
            "µs" => Some(2.0 * figure.value * SECOND / 1e6),
            _ => None,
        }
    };
    let (theirs, guests) = (all(against)?, all(system)? - count.instructions?);
    Some(if metric == "rate" { theirs / guests } else { guests / theirs })
}

#[cfg(test)]
mod tests {
    use super::super::results::{Count, Run};
    use super::super::scenarios::by_name;
    use super::*;

    #[test]
    fn a_limit_is_what_the_guests_alone_would_take() {
        let mut results = Results::default();
        for (system, value) in [(XEN, 5000.0), (STOCK, 6250.0)] {
            let run = Run { value, raw: String::new() };
            results.add("tcp_rr", &by_name("tcp_rr").unwrap().metrics[0], system, "deterministic", run);
        }
        results.counts.push(Count { workload: "tcp_rr".into(), system: STOCK.into(), instructions: Some(30_000.0), ..Count::default() });
        let goals = judge(&results);
        let goal = goals.iter().find(|goal| goal.what == "TCP request and response, stock drivers").unwrap();
        // 100,000 instructions beside 80,000, of which the guests have 50,000.
        assert_eq!((goal.value, goal.limit, goal.why.is_some()), (Some(1.25), Some(2.0), true));
    }

    #[test]
    fn a_ratio_is_judged_by_its_own_direction() {
        let mut results = Results::default();
        for (scenario, system, value) in [
            ("tcp_tx", XEN, 1000.0),
            ("tcp_tx", STOCK, 1200.0),
            ("tcp_tx", TXCOPY, 2000.0),
            ("dds_ping", XEN, 100.0),
            ("dds_ping", STOCK, 80.0),
        ] {
            let run = Run { value, raw: String::new() };
            results.add(scenario, &by_name(scenario).unwrap().metrics[0], system, "deterministic", run);
        }
        let goals = judge(&results);
        let met = |what: &str| goals.iter().find(|goal| goal.what == what).unwrap().met;
        assert_eq!(met("TCP from the DomU, stock drivers"), Some(true));
        assert_eq!(met("TCP from the DomU"), Some(false));
        assert_eq!(met("ddsperf ping, stock drivers"), Some(false));
        assert_eq!(met("UDP of 1400 B lost, %"), None);
    }
}
