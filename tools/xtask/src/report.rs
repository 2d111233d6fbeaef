//! Steps that are told as they go and end in a table.

use crate::console::Machine;
use anyhow::{Result, bail};
use std::time::Instant;

/// A machine under test and what is remembered from one step to the next.
pub struct Stage {
    /// The machine.
    pub machine: Machine,
    /// Its CPUs.
    pub cpus: u32,
    /// Dom0's vCPUs.
    pub vcpus: u32,
    /// Free memory with no DomU, in kB.
    pub free: u64,
    /// What the DomU sends by the stock drivers: TCP in Mbit/s, and frames of 1514 bytes a second.
    pub stock: (f64, f64),
}

/// One step: its name, and what does it and returns what was seen.
pub type Step = (&'static str, fn(&mut Stage) -> Result<String>);

/// Takes the steps in turn until one fails; tells each with the time, then all in a table.
pub fn perform(stage: &mut Stage, steps: &[Step]) -> Result<()> {
    let start = Instant::now();
    let mut table = Vec::new();
    let mut failed = None;
    for (name, step) in steps {
        if failed.is_some() {
            table.push((name, "not reached".to_string(), "FAILED"));
            continue;
        }
        eprintln!("{:>6.1} s  {name} ...", start.elapsed().as_secs_f32());
        match step(stage) {
            Ok(seen) => {
                eprintln!("{:>6.1} s      {seen}", start.elapsed().as_secs_f32());
                table.push((name, seen, "ok"));
            }
            Err(error) => {
                eprintln!("{:>6.1} s      FAILED: {error:#}\n{}", start.elapsed().as_secs_f32(), stage.machine.tail());
                table.push((name, format!("{error:#}"), "FAILED"));
                failed = Some(name);
            }
        }
    }
    println!();
    for (name, seen, verdict) in table {
        println!("{name:<34} {verdict:<7} {seen}");
    }
    match failed {
        None => Ok(()),
        Some(name) => bail!("\"{name}\" did not happen"),
    }
}
