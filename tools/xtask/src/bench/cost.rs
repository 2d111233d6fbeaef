//! What single operations cost the hypervisor: a bare-metal domain measures itself, and CI holds its figures to stored ones.

use super::results::Results;
use crate::{host, image, toolchain};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// How the domain is created.
pub const CONFIG: &str = "name = 'cost'\nkernel = '/guest/cost.img'\nmemory = 32\nvcpus = 1\n";
/// Runs the domain and shows what it said once it is gone.
pub const COMMANDS: &str = "xl create -q /guest/cost.cfg; gone_quietly cost; grep ^COST /var/log/xen/console/guest-cost.log";
/// Virtual time of an instruction in deterministic mode, in seconds.
const INSTRUCTION: f64 = 2e-9;
/// An operation may become dearer by this much before CI fails.
pub const LIMIT: f64 = 0.02;

/// The domain's image.
pub fn build() -> Result<Vec<u8>> {
    host::run(toolchain::cargo("build")?.args(["--package", "test-domain", "--bin", "cost", "--release"]))
        .context("the cost domain does not build")?;
    image::flatten(&fs::read(host::target_dir().join(toolchain::TARGET).join("release/cost"))?)
}

/// Instructions of each operation, in the order of their measurement.
pub fn read(said: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (rest, ticks) = line.strip_prefix("COST ")?.trim().rsplit_once(' ')?;
        let (name, times) = rest.rsplit_once(' ')?;
        Some((name.to_string(), times.parse::<f64>().ok()?, ticks.parse::<f64>().ok()?))
    };
    let lines: Vec<_> = said.lines().filter_map(line).collect();
    let Some((_, _, frequency)) = lines.iter().find(|(name, ..)| name == "frequency") else { return Vec::new() };
    let costs = lines.iter().filter(|(name, ..)| name != "frequency" && name != "end");
    costs.map(|(name, times, ticks)| (name.clone(), (ticks / frequency / INSTRUCTION / times * 10.0).round() / 10.0)).collect()
}

/// The stored figures: instructions by operation.
pub type Stored = BTreeMap<String, f64>;

/// Where the stored figures are.
pub fn file() -> PathBuf {
    host::workspace().join("tests/system/bench/cost.json")
}

/// The stored figures.
pub fn stored() -> Result<Stored> {
    let file = file();
    let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} holds no figures", file.display()))
}

/// Stores what was measured on Xenolith.
pub fn store(results: &Results) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&ours(results))?;
    text.push('\n');
    fs::write(file(), text).context("cannot store the figures")
}

/// What was measured on Xenolith.
pub fn ours(results: &Results) -> Stored {
    results.instructions.iter().filter(|cost| cost.system == "xenolith").map(|cost| (cost.operation.clone(), cost.instructions)).collect()
}

/// What is wrong with `now` beside the stored figures, as lines to read: dearer than allowed, or not measured.
pub fn dearer(stored: &Stored, now: &Stored) -> Vec<String> {
    let line = |(name, before): (&String, &f64)| match now.get(name) {
        None => Some(format!("{name}: not measured, {before} instructions stored")),
        // A tick of the counter is eight instructions: over all repetitions that is less than one.
        Some(now) if *now > before * (1.0 + LIMIT) + 1.0 => {
            Some(format!("{name}: {now} instructions, {before} stored ({:+.1} %)", (now / before - 1.0) * 100.0))
        }
        Some(_) => None,
    };
    stored.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{dearer, read};

    #[test]
    fn ticks_become_instructions() {
        let said = "COST frequency 1 62500000\nCOST null 100 1250\nCOST grant copy 64 B 10 1000\nCOST end 1 0\nnoise\n";
        assert_eq!(read(said), [("null".into(), 100.0), ("grant copy 64 B".into(), 800.0)]);
        assert!(read("COST null 100 1250\n").is_empty());
    }

    #[test]
    fn only_what_is_dearer_or_missing_is_told() {
        let costs = |list: &[(&str, f64)]| list.iter().map(|(name, cost)| (name.to_string(), *cost)).collect();
        let stored = costs(&[("a", 1000.0), ("b", 1000.0), ("c", 1000.0), ("d", 10.0)]);
        let lines = dearer(&stored, &costs(&[("a", 1021.0), ("b", 1021.1), ("d", 11.0), ("e", 5.0)]));
        assert_eq!(lines, ["b: 1021.1 instructions, 1000 stored (+2.1 %)", "c: not measured, 1000 instructions stored"]);
    }
}
