//! The results as one HTML page that needs nothing else, for screen and paper.

use super::results::{Count, Results};
use super::scenarios::{COUNTED, Scenario, WATCHED};
use super::svg::{self, Axis, Curve, Series, escape};
use super::table::{SYSTEMS, number};
use super::{goals::Goal, scenarios};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");
const MODES: [&str; 2] = ["deterministic", "free-running"];

/// The whole page.
pub fn page(results: &Results) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Xenolith beside Xen</title><style>{STYLE}</style></head><body>{}",
        svg::definitions()
    );
    head(&mut text, results);
    goals(&mut text, &results.goals);
    throughput(&mut text, results);
    exits(&mut text, &results.counts);
    holds(&mut text, results);
    instructions(&mut text, results);
    figures(&mut text, results);
    carries_over(&mut text);
    text + "</body></html>\n"
}

fn head(text: &mut String, results: &Results) {
    *text += "<header><h1>Xenolith beside Xen</h1><p>The same Debian kernel, Dom0 and DomU on Debian’s Xen 4.20, on Xenolith with Linux’s own \
        netfront and netback, and on Xenolith with <i>tx copy</i>. tx is from the DomU to Dom0, rx from Dom0 to the DomU.</p>\
        <p class=\"warn\"><b>These are figures of an emulator, not of hardware.</b> In <i>deterministic</i> mode every instruction takes 2 ns of \
        virtual time, whatever it does: rates and times are instruction counts in disguise, and only their ratios mean something. What carries over \
        to hardware is said <a href=\"#hardware\">at the end</a>.</p><dl>";
    for (name, value) in &results.machine {
        let _ = write!(text, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    *text += "</dl><p>Every number links to its raw record; all of them are in <a href=\"results.json\">results.json</a>.</p></header>";
}

fn goals(text: &mut String, goals: &[Goal]) {
    let (judged, met) = (goals.iter().filter(|goal| goal.met.is_some()), goals.iter().filter(|goal| goal.met == Some(true)));
    let _ = write!(text, "<section><h2>Goals</h2><p>{} of {} that were measured are met.</p>", met.count(), judged.count());
    *text += "<table><thead><tr><th>Goal<th>System<th>Compared with<th class=\"n\">Wanted<th class=\"n\">Measured<th class=\"n\">Limit*<th>Verdict</thead><tbody>";
    for goal in goals {
        let times = if goal.against.is_some() { " ×" } else { "" };
        let relation = if goal.better == "more" { "≥" } else { "≤" };
        let value = goal.value.map_or("–".into(), |value| if times.is_empty() { number(value) } else { format!("{value:.2}{times}") });
        let value = match &goal.raw {
            Some(raw) => format!("<a href=\"{}\">{value}</a>", escape(raw)),
            None => value,
        };
        let (class, verdict) = match goal.met {
            Some(true) => ("met", "✓ met"),
            Some(false) => ("unmet", "✗ not met"),
            None => ("none", "not measured"),
        };
        let _ = write!(
            text,
            "<tr><td>{}<td>{}<td>{}<td class=\"n\">{relation} {}{times}<td class=\"n\">{value}<td class=\"n\">{}<td class=\"{class}\">{verdict}{}",
            escape(&goal.what),
            escape(&goal.system),
            goal.against.as_deref().unwrap_or("–"),
            goal.target,
            goal.limit.map_or(String::new(), |limit| format!("{limit:.2} ×")),
            goal.why.as_ref().map_or(String::new(), |why| format!("<tr class=\"why\"><td colspan=\"7\">{}", escape(why))),
        );
    }
    *text += "</tbody></table><p><small>* What the same guests would reach on a hypervisor that executes no instruction at all, where the hypervisor’s \
        instructions were counted.</small></p></section>";
}

fn throughput(text: &mut String, results: &Results) {
    *text += "<section><h2>Throughput</h2>";
    let bars = |text: &mut String, title: &str, caption: &str, scenarios: &[(&str, &str)]| {
        let systems = systems_of(results.figures.iter().filter(|figure| figure.mode == MODES[0]).map(|figure| figure.system.as_str()));
        let series = systems.into_iter().map(|(style, name)| {
            let value = |(scenario, metric): &(&str, &str)| Some(results.figure(scenario, metric, name, MODES[0])?.value);
            Series { name: name.into(), style, values: scenarios.iter().map(value).collect() }
        });
        let series: Vec<_> = series.filter(|series| series.values.iter().any(Option::is_some)).collect();
        if !series.is_empty() {
            let groups: Vec<_> = scenarios.iter().filter_map(|(name, _)| Some(short(scenarios::by_name(name)?).to_string())).collect();
            figure(text, &svg::bars(title, &groups, &series), caption);
        }
    };
    bars(
        text,
        "Packets per second from the DomU's driver",
        "Packets per second (deterministic) that reach Dom0. <i>Driver</i>: pktgen calls the driver and waits while its queue is full. \
         <i>Egress</i>: through the stack’s egress path, which drops when the queue is full.",
        &[("pktgen_60", "rate"), ("pktgen_1514", "rate"), ("egress_60", "rate"), ("egress_1514", "rate")],
    );
    bars(
        text,
        "TCP throughput",
        "TCP in Mbit/s (deterministic), with the kernel’s segmentation offload and without.",
        &[("tcp_tx", "rate"), ("tcp_rx", "rate"), ("tcp_tx_mtu", "rate"), ("tcp_rx_mtu", "rate")],
    );
    let sizes = [64, 256, 1400, 16384, 65507];
    let curves = systems_of(results.figures.iter().map(|figure| figure.system.as_str())).into_iter().map(|(style, name)| {
        let point = |size: &u32| Some((f64::from(*size), results.figure(&format!("udp_tx_{size}"), "rate", name, MODES[0])?.value));
        Curve { name: name.into(), style, points: sizes.iter().filter_map(point).collect() }
    });
    let curves: Vec<_> = curves.filter(|curve| curve.points.len() > 1).collect();
    if !curves.is_empty() {
        let x = Axis { title: "bytes in a datagram", log: true, ticks: sizes.map(|size| (f64::from(size), size.to_string())).to_vec() };
        let plot = svg::curves("UDP throughput by size", &x, &Axis::log("Mbit/s received"), &curves, true);
        figure(
            text,
            &plot,
            "UDP from the DomU to Dom0 by datagram size, as much as the sender can: what the receiver got (deterministic). Both axes are logarithmic.",
        );
    }
    bars(
        text,
        "Requests and responses",
        "Transactions per second, one byte each way (deterministic).",
        &[("tcp_rr", "rate"), ("udp_rr", "rate")],
    );
    *text += "</section>";
}

fn exits(text: &mut String, counts: &[Count]) {
    if counts.is_empty() {
        return;
    }
    *text += "<section><h2>What enters the hypervisor</h2><p>Counted in QEMU’s log of exceptions, TLB flushes and the hypervisor’s instructions by a plugin of QEMU’s: for any \
        hypervisor, with nothing built into it. Each number is the difference of a long and a short run, for one packet or transaction. These are counts: they carry over to hardware.</p>";
    // The same in each plot, so that each reason looks the same in all.
    let parts: BTreeSet<&String> =
        counts.iter().flat_map(|count| count.exits.iter().filter(|(_, n)| **n >= 0.005).map(|(reason, _)| reason)).collect();
    let parts: Vec<_> = parts.into_iter().cloned().collect();
    for workload in COUNTED {
        let of: Vec<_> = SYSTEMS
            .iter()
            .filter_map(|system| counts.iter().find(|count| count.workload == workload.name && count.system == *system))
            .collect();
        if of.is_empty() {
            continue;
        }
        let rows: Vec<_> = of
            .iter()
            .map(|count| (count.system.clone(), parts.iter().map(|part| count.exits.get(part).copied().unwrap_or_default()).collect()))
            .collect();
        let title = format!("Entries into the hypervisor for one {}: {}", workload.per, workload.title);
        figure(text, &svg::stacks(&title, &rows, &parts), &escape(&title));
    }
    *text += "<table><thead><tr><th>Workload<th>System<th class=\"n\">Entries<th class=\"n\">Instructions<th>TLB flushes<th>Interrupts taken, by domain<th>Hypercalls, by caller and name</thead><tbody>";
    for count in counts {
        let list = |map: &BTreeMap<String, f64>| {
            let mut all: Vec<_> = map.iter().filter(|(_, n)| **n >= 0.001).collect();
            all.sort_by(|a, b| b.1.total_cmp(a.1));
            all.into_iter().map(|(name, n)| format!("{} {}", escape(name), number(*n))).collect::<Vec<_>>().join(", ")
        };
        let title =
            COUNTED.iter().find(|workload| workload.name == count.workload).map_or(count.workload.as_str(), |workload| workload.title);
        let _ = write!(
            text,
            "<tr><td>{}, a {}<td>{}<td class=\"n\"><a href=\"{}\">{}</a><td class=\"n\">{}<td>{}<td>{}<td>{}",
            escape(title),
            count.per,
            escape(&count.system),
            escape(&count.raw),
            number(count.exits.values().sum()),
            count.instructions.map_or("not counted".into(), number),
            flushes(count),
            list(&count.injected),
            list(&count.hypercalls)
        );
    }
    *text += "</tbody></table></section>";
}

/// How many TLB flushes, and of whose TLBs.
fn flushes(count: &Count) -> String {
    let seen: Vec<_> = count.flushes.iter().filter(|(_, n)| **n >= 0.001).map(|(which, n)| format!("{} of {which}", number(*n))).collect();
    if count.flushes.is_empty() {
        "not counted".into()
    } else if seen.is_empty() {
        "0".into()
    } else {
        seen.join(", ")
    }
}

fn holds(text: &mut String, results: &Results) {
    if results.holds.is_empty() {
        return;
    }
    *text += "<section><h2>How long a sent buffer is held</h2><p>From the driver’s start of transmission until the kernel frees the buffer, by the DomU’s \
        own trace events. The events take time themselves, the same on every system.</p>";
    for watched in WATCHED {
        let held = || results.holds.iter().filter(|hold| hold.workload == watched.name);
        let curves: Vec<_> = systems_of(held().map(|hold| hold.system.as_str()))
            .into_iter()
            .filter_map(|(style, name)| {
                let hold = held().find(|hold| hold.system == name)?;
                // A time below the clock's step is shown as half of it: a logarithm has no zero.
                let points = hold.percentiles.iter().enumerate().map(|(p, held)| (p as f64, held.max(0.5))).collect();
                Some(Curve { name: name.into(), style, points })
            })
            .collect();
        if !curves.is_empty() {
            let plot = svg::curves(watched.title, &Axis::linear("percentile"), &Axis::log("µs held (virtual)"), &curves, false);
            let medians: Vec<_> = held()
                .map(|hold| {
                    format!(
                        "{}: half of <a href=\"{}\">{}</a> for less than {} µs",
                        hold.system,
                        escape(&hold.raw),
                        hold.buffers,
                        number(hold.percentiles[50])
                    )
                })
                .collect();
            figure(text, &plot, &format!("{}. {}.", escape(watched.title), medians.join("; ")));
        }
    }
    for watched in WATCHED.iter().filter(|watched| watched.name == "hold_stalled") {
        let occupied = || results.occupancy.iter().filter(|occupancy| occupancy.workload == watched.name);
        let curves: Vec<_> = systems_of(occupied().map(|occupancy| occupancy.system.as_str()))
            .into_iter()
            .filter_map(|(style, name)| {
                Some(Curve { name: name.into(), style, points: occupied().find(|occupancy| occupancy.system == name)?.points.clone() })
            })
            .collect();
        if !curves.is_empty() {
            let plot = svg::curves("Buffers held over time", &Axis::linear("ms (virtual)"), &Axis::linear("buffers held"), &curves, false);
            figure(text, &plot, &format!("Buffers that the DomU’s driver holds, the most in each millisecond. {}.", escape(watched.title)));
        }
    }
    *text += "</section>";
}

fn instructions(text: &mut String, results: &Results) {
    if results.instructions.is_empty() {
        return;
    }
    *text += "<section><h2>Instructions of single operations</h2><p>Measured by a bare-metal domain: from before its hypercall until after it, with some ten \
        instructions of the domain’s own. A count carries over to hardware; what each instruction costs there does not. <i>Taken</i> includes the \
        domain’s interrupt handler, the same on every hypervisor. <i>And back</i>: two domains in turn on one CPU, so two switches of the CPU’s \
        vCPU, with both domains’ loops. Tx copy copies 32 bytes by two instructions. An event to a vCPU on another CPU is missing: counts are the \
        same in each run on one CPU only.</p>";
    let mut operations: Vec<_> = results.instructions.iter().map(|cost| cost.operation.clone()).collect();
    let mut seen = BTreeSet::new();
    operations.retain(|operation| seen.insert(operation.clone()));
    let series: Vec<_> = systems_of(results.instructions.iter().map(|cost| cost.system.as_str()))
        .into_iter()
        .map(|(style, name)| {
            let value = |operation: &String| {
                results.instructions.iter().find(|cost| cost.system == name && cost.operation == *operation).map(|cost| cost.instructions)
            };
            Series { name: name.into(), style, values: operations.iter().map(value).collect() }
        })
        .collect();
    figure(text, &svg::bars("Instructions of one operation", &operations, &series), "Instructions of one operation.");
    *text += "<table><thead><tr><th>Operation";
    for series in &series {
        let _ = write!(text, "<th class=\"n\">{}", escape(&series.name));
    }
    *text += "</thead><tbody>";
    for operation in &operations {
        let _ = write!(text, "<tr><td>{}", escape(operation));
        for series in &series {
            match results.instructions.iter().find(|cost| cost.system == series.name && cost.operation == *operation) {
                Some(cost) => {
                    let _ = write!(text, "<td class=\"n\"><a href=\"{}\">{}</a>", escape(&cost.raw), number(cost.instructions));
                }
                None => *text += "<td class=\"n\">–",
            }
        }
    }
    *text += "</tbody></table>";
    *text += "</section>";
}

fn figures(text: &mut String, results: &Results) {
    for mode in MODES {
        let of_mode = || results.figures.iter().filter(|figure| figure.mode == mode);
        let systems = systems_of(of_mode().map(|figure| figure.system.as_str()));
        if systems.is_empty() {
            continue;
        }
        let _ = write!(text, "<section><h2>All figures, {mode}</h2><table><thead><tr><th>Scenario<th>Unit");
        for (_, name) in &systems {
            let _ = write!(text, "<th class=\"n\">{name}<th class=\"n\">{}", if *name == "xen" { "" } else { "to xen" });
        }
        *text += "</thead><tbody>";
        for scenario in scenarios::ALL {
            for metric in scenario.metrics {
                if !of_mode().any(|figure| figure.scenario == scenario.name && figure.metric == metric.name) {
                    continue;
                }
                let name = if metric.name == "rate" { String::new() } else { format!(", {}", metric.name) };
                let _ = write!(text, "<tr><td title=\"{}\">{}{name}<td>{}", scenario.name, escape(scenario.title), metric.unit);
                let xen = results.figure(scenario.name, metric.name, "xen", mode);
                for (_, system) in &systems {
                    let Some(figure) = results.figure(scenario.name, metric.name, system, mode) else {
                        *text += "<td class=\"n\">–<td>";
                        continue;
                    };
                    let runs: Vec<_> = figure.runs.iter().map(|run| format!("{:.2}", run.value)).collect();
                    let link = figure.runs.first().map_or("results.json", |run| run.raw.as_str());
                    let spread =
                        if figure.runs.len() > 1 { format!(" <small>±{:.1} %</small>", figure.spread * 50.0) } else { String::new() };
                    let ratio = xen.filter(|xen| *system != "xen" && xen.value > 0.0 && figure.unit != "%");
                    let ratio = ratio.map(|xen| format!("{:.2} ×", figure.value / xen.value)).unwrap_or_default();
                    let _ = write!(
                        text,
                        "<td class=\"n\"><a href=\"{}\" title=\"{} run(s): {}\">{}</a>{spread}<td class=\"n\">{ratio}",
                        escape(link),
                        figure.runs.len(),
                        runs.join(", "),
                        number(figure.value)
                    );
                }
            }
        }
        *text += "</tbody></table></section>";
    }
    if !results.missing.is_empty() {
        *text += "<section><h2>Not measured</h2><ul>";
        for line in &results.missing {
            let _ = write!(text, "<li>{}", escape(line));
        }
        *text += "</ul></section>";
    }
}

fn carries_over(text: &mut String) {
    *text += "<section id=\"hardware\"><h2>What carries over to hardware</h2><table><thead><tr><th>Carries over: counts<th>With a model only<th>Does not</thead>\
        <tbody><tr><td>entries into the hypervisor, by reason<br>hypercalls and grant operations<br>interrupts injected<br>bytes copied<br>how many steps of \
        another domain come before a buffer is freed<td>instructions of the hypervisor (times the core’s cycles for one)<br>the copy (bytes over the memory’s bandwidth)\
        <br>ratios of deterministic rates, as far as both sides execute similar code<td>Mbit/s, packets/s, µs<br>misses of caches and TLBs, broadcast \
        invalidation<br>what an interrupt to another core costs<br>work that two cores do at the same time</tbody></table></section>";
}

/// The systems among `names`, in their order, with their place among all.
fn systems_of<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(usize, &'static str)> {
    let names: BTreeSet<_> = names.collect();
    SYSTEMS.into_iter().enumerate().filter(|(_, system)| names.contains(system)).collect()
}

/// A scenario's name beside a bar.
fn short(scenario: &'static Scenario) -> &'static str {
    match scenario.name {
        "tcp_tx" => "TCP tx",
        "tcp_rx" => "TCP rx",
        "tcp_tx_mtu" => "TCP tx, no offload",
        "tcp_rx_mtu" => "TCP rx, no offload",
        "tcp_rr" => "TCP",
        "udp_rr" => "UDP",
        "egress_60" => "egress, 60 B",
        "egress_1514" => "egress, 1514 B",
        "pktgen_60" => "driver, 60 B",
        "pktgen_1514" => "driver, 1514 B",
        _ => scenario.title,
    }
}

fn figure(text: &mut String, plot: &str, caption: &str) {
    let _ = write!(text, "<figure>{plot}<figcaption>{caption}</figcaption></figure>");
}

#[cfg(test)]
mod tests {
    use super::super::results::{Hold, Run};
    use super::*;

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let mut results = Results::default();
        for (scenario, system) in [("tcp_tx", "xen"), ("tcp_tx", "xenolith"), ("udp_tx_64", "xen"), ("udp_tx_1400", "xen")] {
            let run = Run { value: 5.0, raw: "raw/a.txt".into() };
            results.add(scenario, &scenarios::by_name(scenario).unwrap().metrics[0], system, MODES[0], run);
        }
        results.holds.push(Hold {
            workload: "hold_tcp".into(),
            system: "xen".into(),
            buffers: 9,
            percentiles: vec![1.0; 101],
            raw: "raw/b.txt".into(),
        });
        results.goals = super::super::goals::judge(&results);
        let page = page(&results);
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
        assert!(page.contains("href=\"raw/a.txt\"") && page.contains("href=\"raw/b.txt\""));
        for tag in ["section", "table", "figure", "svg"] {
            assert_eq!(page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
