//! TLB flushes and instructions of Xen and Xenolith, counted by a plugin of QEMU's.
//!
//! QEMU logs neither. The plugin counts TLBI as it is executed outside of the guests' kernels, and all that is executed where both hypervisors
//! have their code.

use crate::{host, qemu};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("plugin.c");
/// Versions of QEMU that have the plugin's interface.
const QEMU: std::ops::RangeInclusive<u32> = 6..=8;

/// The counters of a running QEMU.
pub struct Counters(PathBuf);

impl Counters {
    /// Makes `qemu` count in `file`; nothing where it cannot, or where there is no C compiler.
    pub fn watch(qemu: &mut Command, file: &Path) -> Result<Option<Self>> {
        if !version()?.is_some_and(|version| QEMU.contains(&version)) || host::which("cc").is_none() {
            return Ok(None);
        }
        let plugin = file.with_extension("so");
        let source = file.with_extension("c");
        fs::write(&source, SOURCE)?;
        host::run(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]).arg(&plugin).arg(&source))
            .context("the plugin does not build")?;
        fs::remove_file(source)?;
        let escaped = |path: &Path| qemu::escape(&path.to_string_lossy());
        qemu.arg("-plugin").arg(format!("{},out={}", escaped(&plugin), escaped(file)));
        Ok(Some(Self(file.into())))
    }

    /// TLB flushes since the start by whose TLBs they were of, and the hypervisor's instructions.
    pub fn read(&self) -> Result<(BTreeMap<String, f64>, f64)> {
        let bytes = fs::read(&self.0).context("QEMU's plugin counts nothing")?;
        let mut counters = bytes.chunks_exact(8).filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?) as f64));
        let flushes = ["all CPUs", "one CPU"].map(String::from).into_iter().zip(counters.by_ref()).collect();
        Ok((flushes, counters.next().unwrap_or_default()))
    }
}

/// The major version of QEMU.
fn version() -> Result<Option<u32>> {
    let said = host::output(qemu::program()?.arg("--version"))?;
    // "QEMU emulator version 7.2.22 (Debian …)"
    Ok(said.split_whitespace().find_map(|word| word.split_once('.')?.0.parse().ok()))
}
