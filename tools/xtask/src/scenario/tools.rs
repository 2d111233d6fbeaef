//! Debian's tools answer as on Debian's Xen: what they print, its numbers aside, is compared with a record of that.

use super::Scenario;
use crate::console::Machine;
use crate::{host, xl};
use anyhow::{Context, Result, bail, ensure};
use std::fs;

pub const ALL: &[Scenario] = &[Scenario::new("xl-tools", tools)];

/// The record: for each command a line `== COMMAND`, then what it printed.
const RECORD: &str = "tests/system/xl-tools.txt";

const COMMANDS: &[&str] = &[
    "xl info",
    "xl info -n",
    "xl list",
    "xl list -v",
    "xl list -c",
    "xl list -n",
    "xl vcpu-list",
    "xl sched-credit2",
    "xl sched-credit2 -s",
    "xl sched-credit2 -d domu1 -w 512 -c 50",
    "xl sched-credit2 -d domu1",
    "xl uptime",
    "xl cpupool-list",
    "xl cpupool-list -c",
    "xl network-list domu1",
    "xl block-list domu1",
    "xl channel-list domu1",
    "xentop -b -i1",
    "xl domid domu1",
    "xl domname 1",
    "xl claims",
    "xl debug-keys h | wc -l",
    "xl dmesg | grep -c . | grep -v '^0$'",
    "xl dmesg -c >/dev/null; xl dmesg | wc -l",
    "xl vcpu-pin domu1 0 1",
    "xl vcpu-pin domu1 0 9",
    "xl vcpu-list domu1",
    "xl mem-max domu1 200",
    "xl trigger domu1 reset",
    "xl sysrq domu1 h",
    "xl set-parameters x=y",
    "xl destroy 77",
    "xl pause 77",
    "xl getenforce",
    "xl rename domu1 other",
    "xl domname 1",
    "xl rename other domu1",
    "xenperf",
    "xenlockprof",
    "xencov read",
    "xen-livepatch list",
    "flask-getenforce",
    "xenpm get-cpu-topology",
    "xenpm get-cpufreq-para",
    "xen-diag gnttab_query_size 0",
    "xen-diag gnttab_query_size 1",
    "test-paging-mempool",
];

/// Lines of `xl info` that tell of one build or one machine, not of the ABI.
const OWN: [&str; 11] = [
    "xen_extra",
    "xen_version",
    "xen_changeset",
    "xen_commandline",
    "cc_compiler",
    "cc_compile_by",
    "cc_compile_domain",
    "cc_compile_date",
    "build_id",
    "release",
    "version",
];

/// Lines of `xl info` whose numbers are the ABI's.
const EXACT: [&str; 6] = ["virt_caps", "xen_caps", "xen_major", "xen_minor", "xen_scheduler", "xen_pagesize"];

/// Where Xenolith says on purpose what Debian's Xen does not: it has no virtual PMU, no 32-bit guests and no hypfs.
const ON_PURPOSE: [(&str, &str); 3] = [
    ("virt_caps : hvm hap vpmu gnttab-v1", "virt_caps : hvm hap gnttab-v1"),
    ("xen_caps : xen-3.0-aarch64 xen-3.0-armv7l", "xen_caps : xen-3.0-aarch64"),
    (
        "libxl: error: libxl.c:N:libxl_set_parameters: setting parameters: No such file or directory",
        "libxl: error: libxl.c:N:libxl_set_parameters: opening Xen hypfs: Function not implemented",
    ),
];

fn tools(machine: &mut Machine) -> Result<String> {
    super::boot_with_domu(machine, "vcpus=2")?;
    let mut answers = Vec::new();
    for command in COMMANDS {
        let (status, printed) = machine.status(&format!("timeout 20 sh -c '{}' 2>&1", command.replace('\'', "'\\''")), 40)?;
        let lines: Vec<_> = printed.lines().map(normal).filter(|line| !line.is_empty()).collect();
        answers.push(format!("== {command}\n{}\nstatus {status}\n", lines.join("\n")));
    }
    let info = machine.sh("xl info", 30)?;
    let version = format!("{}.{}{}", xl::field(&info, "xen_major")?, xl::field(&info, "xen_minor")?, xl::field(&info, "xen_extra")?);
    ensure!(xl::field(&info, "xen_version")? == version && version.starts_with("4.20"), "the version is {version}");

    let record = host::workspace().join(RECORD);
    if std::env::var_os("XENOLITH_RECORD").is_some() {
        fs::write(&record, answers.concat())?;
        return Ok(format!("recorded in {}", record.display()));
    }
    let record = fs::read_to_string(&record).with_context(|| format!("no {RECORD}"))?;
    let expected = record.split_inclusive("\n== ").map(|part| part.trim_start_matches("== ").trim_end_matches("\n== "));
    let differing: Vec<_> = expected.zip(&answers).filter_map(|(expected, answer)| differences(expected, answer)).collect();
    if !differing.is_empty() {
        bail!("{} of {} answers differ:\n{}", differing.len(), answers.len(), differing.join("\n"));
    }
    Ok(format!("{} answers as on Debian's Xen", answers.len()))
}

/// The lines that only Debian's Xen says (-) and that only this hypervisor says (+), if there are any.
fn differences(expected: &str, answer: &str) -> Option<String> {
    let expected: Vec<_> = expected.lines().filter(|line| !line.is_empty()).collect();
    let answer: Vec<_> = answer.trim_start_matches("== ").lines().filter(|line| !line.is_empty()).collect();
    let on_purpose = |line: &str, other: &str| line == other || ON_PURPOSE.contains(&(line, other));
    if expected.len() == answer.len() && expected.iter().zip(&answer).all(|(line, other)| on_purpose(line, other)) {
        return None;
    }
    let command = *answer.first()?;
    let missing = expected.iter().filter(|line| !answer.contains(*line)).map(|line| format!("\n    - {line}"));
    let new = answer.iter().filter(|line| !expected.contains(*line)).map(|line| format!("\n    + {line}"));
    Some(format!("  {command}{}", missing.chain(new).collect::<String>()))
}

/// A line with its numbers, states and spacing made equal, so that only its form is compared.
fn normal(line: &str) -> String {
    let key = line.split(':').next().unwrap_or_default().trim();
    if OWN.contains(&key) {
        return format!("{key} : *");
    }
    if EXACT.contains(&key) {
        return line.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn word(word: &str) -> String {
    let state = word.len() >= 3 && word.chars().all(|c| "-rbpscd".contains(c));
    if state {
        return "STATE".into();
    }
    let hex = |part: &str| part.len() >= 4 && part.chars().all(|c| c.is_ascii_hexdigit());
    if word.split('-').count() == 5 && word.split('-').all(hex) {
        return "UUID".into();
    }
    let mut normal = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if normal.ends_with('N') => {}
            '0'..='9' => normal.push('N'),
            c => normal.push(c),
        }
    }
    // A vCPU that is not running has no CPU, and a connection not yet made has no number: both are numbers at another moment.
    match normal.as_str() {
        "-" | "-N" | "N.N" => "N".into(),
        _ => normal,
    }
}

#[cfg(test)]
mod tests {
    use super::{differences, normal};

    #[test]
    fn only_what_differs_is_told() {
        let debian = "xl info\nvirt_caps : hvm hap vpmu gnttab-v1\nstatus N";
        assert_eq!(differences(debian, &format!("== {debian}\n")), None);
        assert_eq!(differences(debian, "== xl info\nvirt_caps : hvm hap gnttab-v1\nstatus N\n"), None);
        assert_eq!(differences(debian, "== xl info\nstatus N\n").unwrap(), "  xl info\n    - virt_caps : hvm hap vpmu gnttab-v1");
    }

    #[test]
    fn only_the_form_is_compared() {
        let line = "Domain-0                             0     1    -   -b-      11.4  all / all";
        assert_eq!(normal(line), "Domain-N N N N STATE N all / all");
        assert_eq!(normal("xen_version            : 4.20.4-pre"), "xen_version : *");
        assert_eq!(normal("domu1 1 d2e913bd-24e0-4f67-bca3-66ed24c6c242"), "domuN N UUID");
    }
}
