//! What the demonstration and the scenarios do with `xl` in Dom0, and how they read its answers.

use crate::console::Machine;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// Creates a DomU at 10.0.0.`n`; `settings` as further quoted words of an xl config.
pub fn create(machine: &mut Machine, name: &str, n: u32, settings: &str) -> Result<String> {
    machine.sh(&format!("domu {name} {n} {settings}"), 60)?;
    Ok(format!("{name} is domain {}", machine.sh(&format!("xl domid {name}"), 20)?.trim()))
}

/// Waits until the DomU has said on its own console that it is up.
pub fn up(machine: &mut Machine, name: &str) -> Result<String> {
    let said = machine.sh(&format!("up {name}"), 120).with_context(|| format!("no DOMU-UP on the console of {name}"))?;
    Ok(format!("its console says {}", said.trim()))
}

/// Pings the DomU at 10.0.0.`n`; no packet may be lost.
pub fn ping(machine: &mut Machine, n: u32) -> Result<String> {
    let answer = machine.sh(&format!("ping -c 3 -W 5 10.0.0.{n}"), 30)?;
    let packets = answer.lines().find(|line| line.contains("packet loss")).context("ping gives no summary")?;
    ensure!(packets.contains(" 0% packet loss"), "{packets}");
    Ok(packets.into())
}

/// The rate of iperf3 with the DomU at 10.0.0.`n`, in words.
pub fn rate(machine: &mut Machine, n: u32, options: &str) -> Result<String> {
    Ok(format!("{} Mbit/s", mbits(machine, n, options)?))
}

/// The rate of iperf3 with the DomU at 10.0.0.`n` in Mbit/s, which must be more than nothing.
pub fn mbits(machine: &mut Machine, n: u32, options: &str) -> Result<f64> {
    let answer = machine.sh(&format!("rate {n} {options}"), 60)?;
    let words: Vec<_> = answer.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Mbits/sec").context("iperf3 gives no rate")?;
    let rate: f64 = words[unit.saturating_sub(1)].parse()?;
    ensure!(rate > 0.0, "nothing came through");
    Ok(rate)
}

/// The value of `key` in an answer of lines `key : value`.
pub fn field<'a>(answer: &'a str, key: &str) -> Result<&'a str> {
    let lines = answer.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
        .with_context(|| format!("no {key} in the answer"))
}

/// Free memory in kB: to the page if the hypervisor answers debug key `m`, else to the MiB as xl says.
pub fn free(machine: &mut Machine) -> Result<u64> {
    let heap = machine.sh("heap", 30)?;
    if let Ok(free) = heap.trim().parse() {
        return Ok(free);
    }
    let info = machine.sh("xl info", 30)?;
    Ok(field(&info, "free_memory")?.parse::<u64>()? * 1024)
}

/// Free memory in kB once it no longer changes: the last pages of a domain come back when its back ends have let go.
pub fn settled(machine: &mut Machine) -> Result<u64> {
    let mut last = free(machine)?;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_secs(1));
        let now = free(machine)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
    bail!("free memory keeps changing, now {last} kB");
}

/// Waits for free memory to be what it was, but for `slack` kB.
pub fn free_is_again(machine: &mut Machine, before: u64, slack: u64) -> Result<()> {
    let now = settled(machine)?;
    ensure!(now.abs_diff(before) <= slack, "{now} kB free, {before} kB before: {} kB lost", before.cast_signed() - now.cast_signed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "xen_version_x : no\nxen_version            : 4.20.4-pre\ndate : 21:59:26\n";
        assert_eq!(field(info, "xen_version").unwrap(), "4.20.4-pre");
        assert_eq!(field(info, "date").unwrap(), "21:59:26");
        assert!(field(info, "version").is_err());
    }
}
