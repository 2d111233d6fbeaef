//! Everything that was measured, as `results.json` has it.

use super::scenarios::{self, Better};
use super::table::SYSTEMS;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The whole of `results.json`.
#[derive(Serialize, Deserialize, Default, Clone)]
pub struct Results {
    /// What was measured on: names and versions.
    pub machine: BTreeMap<String, String>,
    /// Every figure.
    pub figures: Vec<Figure>,
    /// The traps and interrupts of one operation.
    pub counts: Vec<Count>,
    /// How long the sender's buffers are held.
    pub holds: Vec<Hold>,
    /// How many of the sender's buffers are held, over time.
    pub occupancy: Vec<Occupancy>,
    /// Instructions of the hypervisor for one operation.
    pub instructions: Vec<Cost>,
    /// The goals and how far they are met.
    pub goals: Vec<super::goals::Goal>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

/// One figure of one system.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Figure {
    /// The scenario's name.
    pub scenario: String,
    /// The figure's name within the scenario.
    pub metric: String,
    /// The system's name.
    pub system: String,
    /// The mode's name.
    pub mode: String,
    /// What one is.
    pub unit: String,
    /// `more` or `less` is better.
    pub better: String,
    /// The median of the runs.
    pub value: f64,
    /// Largest less smallest run, over the median.
    pub spread: f64,
    /// The runs.
    pub runs: Vec<Run>,
}

/// One run of a figure.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Run {
    /// The figure.
    pub value: f64,
    /// The file, beside this one, with what the tools said.
    pub raw: String,
}

/// Traps and interrupts of a workload.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
pub struct Count {
    /// The workload's name.
    pub workload: String,
    /// The system's name.
    pub system: String,
    /// What the counts are for one of: a packet, a transaction.
    pub per: String,
    /// How many of them lie between the two runs whose difference this is.
    pub operations: f64,
    /// Entries into the hypervisor for one, by reason.
    pub exits: BTreeMap<String, f64>,
    /// Hypercalls for one, by name, with the domain that made them.
    pub hypercalls: BTreeMap<String, f64>,
    /// Virtual interrupts that were taken for one, by domain.
    pub injected: BTreeMap<String, f64>,
    /// TLB flushes by the hypervisor for one, by whose TLBs: empty where QEMU cannot count them.
    #[serde(default)]
    pub flushes: BTreeMap<String, f64>,
    /// Instructions of the hypervisor for one: nothing where QEMU cannot count them.
    #[serde(default)]
    pub instructions: Option<f64>,
    /// The file with the log's sums.
    pub raw: String,
}

/// How long a sent buffer is held, in µs of virtual time, from the smallest (0 %) to the largest (100 %).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Hold {
    /// The workload's name.
    pub workload: String,
    /// The system's name.
    pub system: String,
    /// How many buffers were seen.
    pub buffers: u64,
    /// The percentiles 0 to 100.
    pub percentiles: Vec<f64>,
    /// The file with what the guest said.
    pub raw: String,
}

/// How many sent buffers are held, over time.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Occupancy {
    /// The workload's name.
    pub workload: String,
    /// The system's name.
    pub system: String,
    /// Time in ms, and the most held within that ms.
    pub points: Vec<(f64, f64)>,
    /// The file with what the guest said.
    pub raw: String,
}

/// Instructions of the hypervisor for one operation.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Cost {
    /// The operation's name.
    pub operation: String,
    /// The system's name.
    pub system: String,
    /// Instructions at EL2.
    pub instructions: f64,
    /// The file with what the guest said.
    pub raw: String,
}

impl Results {
    /// Reads `results.json`.
    pub fn load(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no result of this benchmark", file.display()))
    }

    /// Writes `results.json`.
    pub fn store(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_vec_pretty(self)?).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Puts everything into the order of the workloads and systems: machines that run at the same time end in any.
    pub fn sort(&mut self) {
        let system = |name: &str| SYSTEMS.iter().position(|system| *system == name);
        let scenario = |name: &str| scenarios::ALL.iter().position(|scenario| scenario.name == name);
        let counted = |name: &str| scenarios::COUNTED.iter().position(|counted| counted.name == name);
        let watched = |name: &str| scenarios::WATCHED.iter().position(|watched| watched.name == name);
        self.figures.sort_by_key(|figure| (scenario(&figure.scenario), figure.metric.clone(), system(&figure.system)));
        self.counts.sort_by_key(|count| (counted(&count.workload), system(&count.system)));
        self.holds.sort_by_key(|hold| (watched(&hold.workload), system(&hold.system)));
        self.occupancy.sort_by_key(|occupancy| (watched(&occupancy.workload), system(&occupancy.system)));
        self.instructions.sort_by_key(|cost| system(&cost.system));
        self.missing.sort();
    }

    /// Drops all that was measured of a system.
    pub fn forget(&mut self, system: &str) {
        self.figures.retain(|figure| figure.system != system);
        self.counts.retain(|count| count.system != system);
        self.holds.retain(|hold| hold.system != system);
        self.occupancy.retain(|occupancy| occupancy.system != system);
        self.instructions.retain(|cost| cost.system != system);
        self.missing.retain(|line| !line.starts_with(&format!("{system}: ")));
    }

    /// The figure of that name in the mode that has it.
    pub fn figure(&self, scenario: &str, metric: &str, system: &str, mode: &str) -> Option<&Figure> {
        let is =
            |figure: &&Figure| figure.scenario == scenario && figure.metric == metric && figure.system == system && figure.mode == mode;
        self.figures.iter().find(is)
    }

    /// Adds one more run of a figure.
    pub fn add(&mut self, scenario: &str, metric: &super::scenarios::Metric, system: &str, mode: &str, run: Run) {
        let known = |figure: &&mut Figure| {
            figure.scenario == scenario && figure.metric == metric.name && figure.system == system && figure.mode == mode
        };
        if let Some(figure) = self.figures.iter_mut().find(known) {
            figure.runs.push(run);
            (figure.value, figure.spread) = middle(&figure.runs);
            return;
        }
        self.figures.push(Figure {
            scenario: scenario.into(),
            metric: metric.name.into(),
            system: system.into(),
            mode: mode.into(),
            unit: metric.unit.into(),
            better: if metric.better == Better::More { "more" } else { "less" }.into(),
            value: run.value,
            spread: 0.0,
            runs: vec![run],
        });
    }
}

/// The median of the runs, and their spread around it.
fn middle(runs: &[Run]) -> (f64, f64) {
    let mut values: Vec<_> = runs.iter().map(|run| run.value).collect();
    values.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return (0.0, 0.0) };
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    let median = f64::midpoint(low, high);
    (median, if median == 0.0 { 0.0 } else { (last - first) / median })
}

/// What differs by more than `limit` between two results of deterministic runs, as lines to read, and how much was compared.
pub fn differences(old: &Results, new: &Results, limit: f64) -> (usize, Vec<String>) {
    let before: BTreeMap<_, _> = old.repeatable().into_iter().map(|(name, value, _)| (name, value)).collect();
    let (mut compared, mut lines) = (0, Vec::new());
    for (name, now, least) in new.repeatable() {
        let Some(before) = before.get(&name) else { continue };
        compared += 1;
        let change = (now - before) / before.abs().max(least);
        if change.abs() > limit {
            lines.push(format!("{name}: {before:.4} before, {now:.4} now ({:+.1} %)", change * 100.0));
        }
    }
    (compared, lines)
}

impl Results {
    /// Everything that repeats, by name, with the value to which a difference relates if the figure itself is smaller.
    fn repeatable(&self) -> Vec<(String, f64, f64)> {
        let mut all = Vec::new();
        for figure in self.figures.iter().filter(|figure| figure.mode == "deterministic") {
            // Losses are percentages themselves: there a difference counts in points.
            let least = if figure.unit == "%" { 100.0 } else { f64::MIN_POSITIVE };
            all.push((format!("{} {} on {}", figure.scenario, figure.metric, figure.system), figure.value, least));
        }
        for count in &self.counts {
            let sums = [
                ("entries", &count.exits),
                ("hypercalls", &count.hypercalls),
                ("interrupts", &count.injected),
                ("flushes", &count.flushes),
            ];
            for (what, map) in sums {
                all.push((format!("{} {what} on {}", count.workload, count.system), map.values().sum(), 1.0));
            }
            if let Some(instructions) = count.instructions {
                all.push((format!("{} instructions on {}", count.workload, count.system), instructions, 50.0));
            }
        }
        for hold in &self.holds {
            // The clock of these has steps of 1 µs.
            let median = hold.percentiles.get(50).copied().unwrap_or_default();
            all.push((format!("{} median on {}", hold.workload, hold.system), median, 50.0));
        }
        for cost in &self.instructions {
            // A tick of the counter is eight instructions: over all repetitions that is less than one.
            all.push((format!("{} on {}", cost.operation, cost.system), cost.instructions, 50.0));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::by_name;
    use super::{Results, Run, differences};

    fn results(values: &[f64]) -> Results {
        let mut results = Results::default();
        for value in values {
            let run = Run { value: *value, raw: "raw".into() };
            results.add("tcp_tx", &by_name("tcp_tx").unwrap().metrics[0], "xen", "deterministic", run);
        }
        results
    }

    #[test]
    fn the_median_and_the_spread_follow_the_runs() {
        let figure = &results(&[10.0, 30.0, 20.0]).figures[0];
        assert_eq!((figure.value, figure.spread, figure.runs.len()), (20.0, 1.0, 3));
        assert_eq!(results(&[10.0, 20.0]).figures[0].value, 15.0);
    }

    #[test]
    fn a_system_is_forgotten_alone() {
        let mut results = results(&[10.0]);
        results.missing = vec!["xen: no costs".into(), "xenolith: no costs".into()];
        results.forget("xenolith");
        assert_eq!((results.figures.len(), results.missing.len()), (1, 1));
        results.forget("xen");
        assert_eq!((results.figures.len(), results.missing.len()), (0, 0));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let results = results(&[10.0]);
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap().figures, results.figures);
    }

    #[test]
    fn a_difference_beyond_the_limit_is_told() {
        assert_eq!(differences(&results(&[100.0]), &results(&[101.9]), 0.02), (1, vec![]));
        let (compared, lines) = differences(&results(&[100.0]), &results(&[97.0]), 0.02);
        assert_eq!((compared, lines.len()), (1, 1));
        assert!(lines[0].contains("tcp_tx rate on xen") && lines[0].contains("-3.0 %"));
        let mut other = results(&[97.0]);
        other.figures[0].mode = "free-running".into();
        assert_eq!(differences(&results(&[100.0]), &other, 0.02).0, 0);
    }
}
