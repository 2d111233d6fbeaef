//! `cargo xtask loom`: what is lock-free in the core, in every order in which threads may run and loads may see stores.
//!
//! The models are the core's modules `memory_order`. They are built apart, with the core's atomics and locks replaced by loom's.

use crate::host;
use anyhow::{Result, ensure};
use std::process::Command;

/// Runs the models; how many there are.
pub fn loom() -> Result<u32> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::workspace()).args(["test", "--quiet", "--package", "xenolith-core", "--lib", "--", "memory_order"]);
    let output = host::output(cargo.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", host::target_dir().join("loom")))?;
    let passed = output.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().ok()).unwrap_or(0);
    ensure!(passed > 0, "cargo test ran no model");
    Ok(passed)
}
