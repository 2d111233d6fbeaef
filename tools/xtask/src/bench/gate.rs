//! The regression gate: instruction counts are exact, so an operation that became dearer is seen at once.

use super::cost;
use super::results::Results;
use super::run::{self, Boot, Mode, System};
use super::take::take;
use crate::{guests, qemu};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// Whether no operation of Xenolith's has become dearer, as CI asks.
pub fn check() -> Result<Option<String>> {
    gate(None, false).map(Some)
}

/// Measures single operations on Xenolith, or on `image`, and compares them with the stored figures, or stores them.
pub fn gate(image: Option<&Path>, store: bool) -> Result<String> {
    let folder = run::folder();
    fs::create_dir_all(folder.join("raw"))?;
    let guests = guests::guests()?;
    let boot = Boot {
        system: System::Xenolith,
        mode: Mode::Deterministic,
        hypervisor: image.map_or_else(|| qemu::hypervisor("xenolith", &guests), |image| Ok(image.into()))?,
        base: qemu::Modules::of(&guests),
        raw: folder.join("raw/gate"),
        plan: run::Plan { cost: Some(cost::build()?), ..run::Plan::default() },
    };
    let results = Mutex::new(Results::default());
    boot.run(&|told, _| drop(results.lock().map(|mut results| take(&mut results, &boot, &told))))?;
    let results = results.into_inner().unwrap_or_default();
    if store {
        cost::store(&results)?;
        return Ok(format!("stored in {}", cost::file().display()));
    }
    let (stored, now) = (cost::stored()?, cost::ours(&results));
    let lines = cost::dearer(&stored, &now);
    ensure!(lines.is_empty(), "dearer than the stored figures (cargo xtask bench --store accepts them):\n  {}", lines.join("\n  "));
    Ok(format!("{} operations, none dearer by more than {} %", stored.len(), cost::LIMIT * 100.0))
}
