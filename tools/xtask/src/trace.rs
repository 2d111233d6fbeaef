//! `cargo xtask trace`: a file of Debian's `xentrace` becomes a timeline for <https://ui.perfetto.dev> or `chrome://tracing`.

mod records;
mod timeline;

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use records::{Record, read};
pub use timeline::Timeline;

#[derive(Args)]
pub struct Options {
    /// What `xentrace -D -e all FILE` wrote in Dom0
    file: PathBuf,
    /// Where the timeline goes [default: FILE.json]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Ticks of the counter in a second (QEMU's; `cntfrq_el0` elsewhere)
    #[arg(long, default_value_t = QEMU_HZ)]
    hz: u64,
}

/// The frequency of QEMU's counter.
pub const QEMU_HZ: u64 = 62_500_000;

/// Converts a file, and tells what was in it.
pub fn trace(options: &Options) -> Result<()> {
    ensure!(options.hz > 0, "a counter that stands still tells no time");
    let bytes = fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    let records = read(&bytes).with_context(|| format!("{} is not of xentrace", options.file.display()))?;
    let timeline = Timeline::new(&records, options.hz);
    let output = options.output.clone().unwrap_or_else(|| json_beside(&options.file));
    fs::write(&output, timeline.to_json()?).with_context(|| format!("cannot write {}", output.display()))?;
    for (name, count) in timeline.counts() {
        println!("{count:>8} {name}");
    }
    println!("{}", output.display());
    Ok(())
}

fn json_beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// How often each name occurs.
pub type Counts = BTreeMap<String, usize>;
