//! What is measured: each scenario by name, the commands for Dom0, and how its figures are read from what the tools print.

use super::exceptions::Sums;
use super::parse;

/// Which way of two figures is the better one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
}

/// One figure of a scenario: its name there, its unit and the reader of what was printed.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its name within the scenario.
    pub name: &'static str,
    /// What one is.
    pub unit: &'static str,
    /// Which way is up.
    pub better: Better,
    /// Finds it in what the scenario printed.
    pub read: fn(&str) -> Option<f64>,
}

/// One scenario.
pub struct Scenario {
    /// Its name in the results and on the command line.
    pub name: &'static str,
    /// What it is, for a reader.
    pub title: &'static str,
    /// Shell commands for Dom0, made of the words of `tests/system/bench/lib.sh`; `$T` is the length in seconds,
    /// `$R` that of requests and responses, as netperf has it: seconds, or minus their number.
    pub commands: &'static str,
    /// What is read from it.
    pub metrics: &'static [Metric],
    /// Only in the full run.
    pub full: bool,
    /// It needs two sides: plain Linux with its loopback does not have it.
    pub sides: bool,
    /// It makes more DomUs, which stay: what is broadcast reaches them, too, so it comes after all else.
    pub crowd: bool,
}

const fn metric(name: &'static str, unit: &'static str, better: Better, read: fn(&str) -> Option<f64>) -> Metric {
    Metric { name, unit, better, read }
}

const PACKETS: &[Metric] = &[metric("rate", "packets/s", Better::More, parse::pktgen)];
const TCP: &[Metric] = &[metric("rate", "Mbit/s", Better::More, parse::iperf_rate)];
const UDP: &[Metric] = &[metric("rate", "Mbit/s", Better::More, parse::iperf_rate), metric("lost", "%", Better::Less, parse::iperf_lost)];
const SUM: &[Metric] = &[metric("rate", "Mbit/s", Better::More, parse::iperf_sum)];
const TRANSACTIONS: &[Metric] = &[metric("rate", "1/s", Better::More, parse::netperf_rate)];
const SAMPLES: &[Metric] = &[metric("rate", "k samples/s", Better::More, parse::dds_rate)];
const LATENCY: &[Metric] = &[metric("mean", "µs", Better::Less, parse::dds_mean)];

const fn quick(name: &'static str, title: &'static str, commands: &'static str, metrics: &'static [Metric]) -> Scenario {
    Scenario { name, title, commands, metrics, full: false, sides: false, crowd: false }
}

impl Scenario {
    const fn full(self) -> Self {
        Self { full: true, sides: true, ..self }
    }

    const fn crowd(self) -> Self {
        Self { crowd: true, ..self.full() }
    }

    const fn sides(self) -> Self {
        Self { sides: true, ..self }
    }
}

/// All scenarios, in the order in which they run.
pub const ALL: &[Scenario] = &[
    quick("pktgen_60", "driver alone, 60 B", "pktgen start_xmit 60 20000", PACKETS).sides(),
    quick("pktgen_1514", "driver alone, 1514 B", "pktgen start_xmit 1514 15000", PACKETS).sides(),
    quick("egress_60", "stack's egress path, 60 B", "pktgen queue_xmit 60 40000", PACKETS).sides(),
    quick("egress_1514", "stack's egress path, 1514 B", "pktgen queue_xmit 1514 40000", PACKETS).sides(),
    quick("tcp_tx", "TCP, DomU to Dom0", "flow $T -R", TCP),
    quick("tcp_rx", "TCP, Dom0 to DomU", "flow $T", TCP),
    quick("tcp_tx_mtu", "TCP without segmentation offload, DomU to Dom0", "offload off; flow $T -R; offload on", TCP).sides(),
    quick("tcp_rx_mtu", "TCP without segmentation offload, Dom0 to DomU", "offload off; flow $T; offload on", TCP).sides(),
    quick("udp_tx_64", "UDP 64 B, DomU to Dom0", "flow $T -R -u -b 0 -l 64", UDP),
    quick("udp_tx_256", "UDP 256 B, DomU to Dom0", "flow $T -R -u -b 0 -l 256", UDP),
    quick("udp_tx_1400", "UDP 1400 B, DomU to Dom0", "flow $T -R -u -b 0 -l 1400", UDP),
    quick("udp_tx_16384", "UDP 16 KiB, DomU to Dom0", "flow $T -R -u -b 0 -l 16384", UDP),
    quick("udp_tx_65507", "UDP 64 KiB, DomU to Dom0", "flow $T -R -u -b 0 -l 65507", UDP),
    quick("udp_rx_1400", "UDP 1400 B, Dom0 to DomU", "flow $T -u -b 0 -l 1400", UDP),
    quick("tcp_rr", "TCP request and response", "rr TCP_RR $R", TRANSACTIONS),
    quick("udp_rr", "UDP request and response", "rr UDP_RR $R", TRANSACTIONS),
    quick("dds_pub", "ddsperf, published by the DomU", "dds_pub 3", SAMPLES),
    quick("dds_ping", "ddsperf ping from Dom0", "dds_ping 2", LATENCY),
    quick("busy_tcp_tx", "TCP, DomU to Dom0, while a program of Dom0's computes", "spin; flow $T -R; spun", TCP).full(),
    quick(
        "busy_pktgen_1514",
        "driver alone, 1514 B, while a program of Dom0's computes",
        "spin; pktgen start_xmit 1514 10000; spun",
        PACKETS,
    )
    .full(),
    quick("stalled_tcp_tx", "TCP, DomU to Dom0; Dom0 does something else for 100 ms", "busy 100 300; flow $T -R", TCP).full(),
    quick(
        "stalled_pktgen_1514",
        "driver alone, 1514 B; Dom0 does something else for 100 ms",
        "busy 100 300; pktgen start_xmit 1514 15000",
        PACKETS,
    )
    .full(),
    quick("outside_60", "driver to Dom0's network card, 60 B", "outside 60 10000", PACKETS).full(),
    quick("outside_1514", "driver to Dom0's network card, 1514 B", "outside 1514 10000", PACKETS).full(),
    quick("domus_tcp", "TCP, one DomU to another through the bridge", "second; between $T", TCP).crowd(),
    quick("domus_udp_1400", "UDP 1400 B, one DomU to another", "second; between $T -u -b 0 -l 1400", UDP).crowd(),
    quick("three_tcp_tx", "TCP, three DomUs to Dom0 at once, in sum", "second; third; together $T", SUM).crowd(),
];

/// A workload whose buffers are watched in the DomU's driver.
pub struct Watched {
    /// Its name in the results.
    pub name: &'static str,
    /// What it is, for a reader.
    pub title: &'static str,
    /// Shell commands for Dom0.
    pub commands: &'static str,
}

/// All watched workloads. They are short: a guest's trace buffer is small, and slow to read.
pub const WATCHED: &[Watched] = &[
    Watched { name: "hold_tcp", title: "TCP, DomU to Dom0", commands: "held \"iperf3 -c $g -R -n 24M\"" },
    Watched {
        name: "hold_tcp_mtu",
        title: "TCP without segmentation offload, DomU to Dom0",
        commands: "offload off; held \"iperf3 -c $g -R -n 4M\"; offload on",
    },
    Watched {
        name: "hold_stalled",
        title: "TCP without segmentation offload, while Dom0 does something else for 100 ms",
        commands: "offload off; held \"busy 100 50; iperf3 -c $g -R -n 6M\"; offload on",
    },
    Watched { name: "hold_udp", title: "UDP 1400 B at 100 Mbit/s, DomU to Dom0", commands: "held \"flow 1 -R -u -b 100M -l 1400\"" },
];

/// A workload whose traps and interrupts are counted: the difference of two lengths, so that only what is repeated remains.
pub struct Counted {
    /// Its name in the results.
    pub name: &'static str,
    /// What it is, for a reader.
    pub title: &'static str,
    /// What is repeated.
    pub per: &'static str,
    /// Shell commands for Dom0; `$N` is how often or how long.
    pub commands: &'static str,
    /// The two lengths.
    pub lengths: (u32, u32),
    /// The lengths are seconds: how many packets those are, Dom0's interface counts.
    pub timed: bool,
    /// Only in the full run: a log of many exceptions takes long.
    pub full: bool,
}

impl Counted {
    /// What one operation adds, and how many lie between the two lengths.
    pub fn each(&self, short: &Sums, long: &Sums) -> (Sums, f64) {
        let operations = if self.timed { long.packets - short.packets } else { f64::from(self.lengths.1 - self.lengths.0) };
        (long.each(short, operations.max(1.0)), operations)
    }
}

/// All counted workloads.
pub const COUNTED: &[Counted] = &[
    Counted {
        name: "pktgen_60",
        title: "60 B, driver alone",
        per: "packet",
        commands: "pktgen start_xmit 60 $N",
        lengths: (4000, 20000),
        timed: false,
        full: false,
    },
    Counted {
        name: "pktgen_1514",
        title: "1514 B, driver alone",
        per: "packet",
        commands: "pktgen start_xmit 1514 $N",
        lengths: (4000, 20000),
        timed: false,
        full: false,
    },
    Counted {
        name: "udp_1400",
        title: "UDP 1400 B",
        per: "packet",
        commands: "flow $N -R -u -b 0 -l 1400",
        lengths: (1, 2),
        timed: true,
        full: false,
    },
    Counted {
        name: "udp_1400_paced",
        title: "UDP 1400 B, one at a time (10 Mbit/s)",
        per: "packet",
        commands: "flow $N -R -u -b 10M -l 1400",
        lengths: (1, 5),
        timed: true,
        full: false,
    },
    Counted {
        name: "tcp_rr",
        title: "TCP request and response",
        per: "transaction",
        commands: "rr TCP_RR -$N",
        lengths: (500, 1500),
        timed: false,
        full: false,
    },
    Counted {
        name: "dds_ping",
        title: "ddsperf ping from Dom0",
        per: "round trip",
        commands: "dds_ping $N",
        lengths: (1, 2),
        timed: true,
        full: true,
    },
];

/// The scenario of that name.
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::{ALL, WATCHED, by_name};
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names = ALL.iter().map(|scenario| scenario.name).chain(WATCHED.iter().map(|watched| watched.name));
        let (mut names, unique): (Vec<_>, BTreeSet<_>) = (names.clone().collect(), names.collect());
        names.retain(|name| by_name(name).is_some());
        assert_eq!((names.len(), unique.len()), (ALL.len(), ALL.len() + WATCHED.len()));
    }
}
