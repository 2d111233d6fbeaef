//! `cargo xtask test abi`: the test domain's answers from Xenolith against those of Debian's Xen.
//!
//! Xen's answers are kept in `tests/guests/golden`; `--renew` asks Xen again. A difference fails unless `expected-differences.txt`
//! lists it with our answer and a reason.

use crate::console::Machine;
use crate::guests::{self, Guests};
use crate::initrd::Root;
use crate::qemu::{self, Modules, Options};
use crate::{host, image, toolchain};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CONFIG: &str = "name = 'abi'\nkernel = '/guest/abi.img'\nmemory = 32\nvcpus = 2\n";
/// Runs the domain and shows what it said once it is gone, so that no other voice breaks a line.
const RUN: &str = "xl create /guest/abi.cfg; i=0; while xl domid abi >/dev/null 2>&1 && [ $i -lt 120 ]; do sleep 1; i=$((i+1)); done; \
    cat /var/log/xen/console/guest-abi.log";

/// Answers by operation. An operation that is asked again has the number of the time behind it: `name#2`.
type Answers = BTreeMap<String, String>;

/// What a domain said: its answers, and its own verdicts that are not success.
struct Said {
    answers: Answers,
    complaints: Vec<String>,
}

/// How many answers were the same, different, and different for a listed reason.
pub struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs the suite; the last line it prints is the summary.
pub fn abi(renew: bool) -> Result<()> {
    let Tally { passed, failed, skipped } = run(renew)?;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    std::process::exit(i32::from(failed > 0 || passed == 0));
}

/// Runs the suite as one test among others.
pub fn check() -> Result<Option<String>> {
    let Tally { passed, failed, skipped } = run(false)?;
    ensure!(failed == 0 && passed > 0, "{failed} answers differ from Xen's: cargo xtask test abi");
    Ok(Some(format!("{passed} answers as Xen's, {skipped} explained")))
}

fn run(renew: bool) -> Result<Tally> {
    let guests = guests::guests()?;
    let modules = modules(&guests)?;
    let golden = golden_file(&guests)?;
    if renew || !golden.is_file() {
        eprintln!("abi: asking Debian's Xen");
        let said = ask("xen", &guests, &modules)?;
        ensure!(said.complaints.is_empty(), "the test domain complains about Xen itself:\n{}", said.complaints.join("\n"));
        let lines = said.answers.iter().map(|(name, answer)| format!("{name} {answer}\n"));
        fs::write(&golden, lines.collect::<String>()).context("cannot write Xen's answers")?;
        eprintln!("abi: {} answers in {}", said.answers.len(), golden.display());
    }
    let xen = fs::read_to_string(&golden)?;
    let xen: Answers = xen.lines().filter_map(|line| line.split_once(' ')).map(|(name, answer)| (name.into(), answer.into())).collect();
    eprintln!("abi: asking Xenolith");
    let ours = ask("xenolith", &guests, &modules)?;
    compare(&xen, &ours)
}

fn compare(xen: &Answers, ours: &Said) -> Result<Tally> {
    let listed = fs::read_to_string(folder().join("expected-differences.txt")).unwrap_or_default();
    let expected = expectations(&listed)?;
    let names: BTreeSet<_> = xen.keys().chain(ours.answers.keys()).collect();
    let (mut passed, mut failed, mut skipped, mut table) = (0, ours.complaints.len(), 0, String::new());
    let mut used = BTreeSet::new();
    for name in names {
        let none = String::from("no answer");
        let (theirs, our) = (xen.get(name).unwrap_or(&none), ours.answers.get(name).unwrap_or(&none));
        let listed = expected.iter().find(|listed| matches(listed.name, name) && matches(listed.answer, our));
        let verdict = match listed {
            _ if theirs == our => {
                passed += 1;
                "same".to_string()
            }
            Some(listed) => {
                skipped += 1;
                used.insert(listed.name);
                format!("explained: {}", listed.reason)
            }
            None => {
                failed += 1;
                println!("DIFFERENT {name}\n    Xen:      {theirs}\n    Xenolith: {our}");
                "DIFFERENT".into()
            }
        };
        table += &format!("{name}\n    Xen:      {theirs}\n    Xenolith: {our}\n    {verdict}\n");
    }
    ours.complaints.iter().for_each(|line| println!("{line}"));
    for listed in expected.iter().filter(|listed| !used.contains(listed.name)) {
        println!("expected-differences.txt: nothing differs as listed for {}", listed.name);
    }
    let report = scratch()?.join("report.txt");
    fs::write(&report, table)?;
    println!("every answer of both: {}", report.display());
    Ok(Tally { passed, failed, skipped })
}

/// A line `OPERATION | OUR ANSWER | REASON` of the file of expected differences. In the first two `*` stands for anything.
struct Listed<'a> {
    name: &'a str,
    answer: &'a str,
    reason: &'a str,
}

fn expectations(text: &str) -> Result<Vec<Listed<'_>>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let (name, answer, reason) = (parts.next(), parts.next(), parts.next());
            let whole = name.zip(answer).zip(reason).with_context(|| format!("expected-differences.txt: {line}"));
            whole.map(|((name, answer), reason)| Listed { name, answer, reason })
        })
        .collect()
}

/// Whether `name` fits `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|name| (0..=name.len()).filter(|from| name.is_char_boundary(*from)).any(|from| matches(rest, &name[from..]))),
    }
}

/// Boots a hypervisor and runs the domain there.
fn ask(hypervisor: &str, guests: &Guests, modules: &Modules) -> Result<Said> {
    let options = Options::default();
    let qemu = qemu::command(&options, &qemu::hypervisor(hypervisor, guests)?, modules)?;
    let mut machine = Machine::start(qemu, &scratch()?.join(format!("{hypervisor}.log")))?;
    let said = machine.wait_for_dom0(240).and_then(|()| machine.sh(RUN, 200));
    said.and_then(|said| listen(&said)).with_context(|| format!("{hypervisor}\n{}", machine.tail()))
}

fn listen(said: &str) -> Result<Said> {
    ensure!(
        said.contains("\nSUMMARY "),
        "the test domain did not come to its end: {}",
        said.lines().next_back().unwrap_or("it said nothing")
    );
    let (mut answers, mut times) = (Answers::new(), BTreeMap::<&str, u32>::new());
    for (name, answer) in said.lines().filter_map(|line| line.strip_prefix("ABI ")?.trim_end().split_operation()) {
        let time = times.entry(name).and_modify(|time| *time += 1).or_insert(1);
        let name = name.replace(' ', "_");
        answers.insert(if *time == 1 { name } else { format!("{name}#{time}") }, answer.into());
    }
    let complaint = |line: &&str| ["FAIL ", "ERROR ", "FATAL "].iter().any(|word| line.starts_with(word));
    Ok(Said { answers, complaints: said.lines().filter(complaint).map(String::from).collect() })
}

/// Splitting a line of the domain at the end of its operation: the first blank that is in no bracket.
trait Operation {
    fn split_operation(&self) -> Option<(&str, &str)>;
}

impl Operation for str {
    fn split_operation(&self) -> Option<(&str, &str)> {
        let mut depth = 0_i32;
        let end = self.char_indices().find(|(_, c)| {
            depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
            *c == ' ' && depth == 0
        })?;
        Some((&self[..end.0], &self[end.0 + 1..]))
    }
}

/// Dom0's kernel and its root with the test domain added.
fn modules(guests: &Guests) -> Result<Modules> {
    host::run(toolchain::cargo("build")?.args(["--package", "test-domain", "--release"])).context("the test domain does not build")?;
    let elf = host::target_dir().join(toolchain::TARGET).join("release/test-domain");
    let mut root = Root::default();
    root.file("guest/abi.img", image::flatten(&fs::read(&elf)?)?, 0o644);
    root.file("guest/abi.cfg", CONFIG, 0o644);
    let initrd = scratch()?.join("dom0.cpio");
    guests.initrd_with(&root, &initrd)?;
    Ok(Modules { initrd: Some(initrd), ..Modules::of(guests) })
}

/// Where the answers of this very Xen are kept.
fn golden_file(guests: &Guests) -> Result<PathBuf> {
    let versions = guests.versions()?;
    let package = versions.lines().find(|line| line.starts_with("xen-hypervisor-4")).context("the guests hold no Xen")?;
    let version = package.split('_').nth(1).unwrap_or(package);
    let name: String = version.chars().map(|c| if c.is_ascii_alphanumeric() || "+-.".contains(c) { c } else { '_' }).collect();
    Ok(folder().join("golden").join(format!("xen-{name}.txt")))
}

fn folder() -> PathBuf {
    host::workspace().join("tests/guests")
}

fn scratch() -> Result<PathBuf> {
    let dir: PathBuf = Path::new(&host::target_dir()).join("xenolith/abi");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::{expectations, listen, matches};

    #[test]
    fn answers_are_told_apart() {
        let said = "BEGIN a\nABI a.op(null, 1) rc=-14\nABI a.op rc=0\nABI a.op rc=1\nFAIL a.op why\nSUMMARY 1 success\n";
        let said = listen(said).unwrap();
        let answers: Vec<_> = said.answers.iter().map(|(name, answer)| format!("{name} {answer}")).collect();
        assert_eq!(answers, ["a.op rc=0", "a.op#2 rc=1", "a.op(null,_1) rc=-14"]);
        assert_eq!(said.complaints, ["FAIL a.op why"]);
        assert!(listen("ABI a.op rc=0\n").is_err());
    }

    #[test]
    fn an_expected_difference_names_our_answer() {
        let listed = expectations("# why\na.op(*) | rc=-1 | a | b\n").unwrap();
        assert_eq!(listed.iter().map(|l| (l.name, l.answer, l.reason)).collect::<Vec<_>>(), [("a.op(*)", "rc=-1", "a | b")]);
        assert!(expectations("a.op | because\n").is_err());
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("a.*(1)", "a.b(1)") && matches("a.*", "a.") && matches("*.read*x", "v.read8[x"));
        assert!(!matches("a.*(1)", "a.b(2)") && !matches("a.b", "a.bc"));
    }
}
