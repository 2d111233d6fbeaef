//! `cargo xtask coverage`: which lines of the core its own host tests run. Tests and their helpers do not count.

use crate::doctor::{self, Tool};
use crate::host;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Per cent of the lines that must be run.
const GOAL: f64 = 90.0;

/// Lines that were run, and all lines.
#[derive(Clone, Copy, Default)]
struct Lines {
    run: usize,
    all: usize,
}

impl Lines {
    fn percent(self) -> f64 {
        100.0 * self.run as f64 / self.all.max(1) as f64
    }
}

/// Runs the core's tests with counters and shows the files, the least covered first. Fails below [`GOAL`].
pub fn coverage() -> Result<()> {
    let [profdata, cov] = llvm_tools()?;
    let dir = host::target_dir().join("coverage");
    let profiles = dir.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles)?;
    }
    fs::create_dir_all(&profiles)?;
    let program = build(&dir)?;
    eprintln!("coverage: running the tests of the core");
    host::output(Command::new(&program).env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw")))?;
    let merged = dir.join("core.profdata");
    let raw = fs::read_dir(&profiles)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    host::output(Command::new(profdata).args(["merge", "-sparse", "-o"]).arg(&merged).args(raw))?;
    let lcov = host::output(Command::new(cov).args(["export", "-format=lcov", "-instr-profile"]).arg(&merged).arg(&program))?;
    let files = count(&lcov, &host::workspace().join("hypervisor/core/src"));
    ensure!(!files.is_empty(), "llvm-cov names no file of the core");
    let mut rows: Vec<_> = files.iter().collect();
    rows.sort_by(|(_, a), (_, b)| a.percent().total_cmp(&b.percent()));
    for (file, lines) in rows {
        println!("{:>6.1} % {:>5} of {:>5}  {}", lines.percent(), lines.run, lines.all, file.display());
    }
    let total = files.values().fold(Lines::default(), |sum, lines| Lines { run: sum.run + lines.run, all: sum.all + lines.all });
    println!("{:.1} % of {} lines of hypervisor/core are run by its host tests", total.percent(), total.all);
    ensure!(total.percent() >= GOAL, "less than {GOAL} %");
    Ok(())
}

/// The test program of the core, built with counters.
fn build(dir: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::workspace()).args(["test", "--package", "xenolith-core", "--lib", "--no-run", "--message-format=json"]);
    cargo.env("RUSTFLAGS", "-Cinstrument-coverage").env("CARGO_TARGET_DIR", dir).env("LLVM_PROFILE_FILE", "/dev/null");
    let messages = host::output(&mut cargo)?;
    let program = messages.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next()).next_back();
    program.map(PathBuf::from).context("cargo names no test program")
}

/// `llvm-profdata` and `llvm-cov` that read what this rustc writes: the toolchain's own, or Debian's of the same version.
fn llvm_tools() -> Result<[PathBuf; 2]> {
    let facts = host::output(Command::new("rustc").arg("-vV"))?;
    let fact = |name| facts.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("rustc -vV has no `{name}`"));
    let version = fact("LLVM version: ")?.split('.').next().unwrap_or_default().to_owned();
    let sysroot = host::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let own = Path::new(sysroot.trim()).join("lib/rustlib").join(fact("host: ")?).join("bin");
    let names = ["llvm-profdata", "llvm-cov"];
    if names.iter().all(|name| own.join(name).is_file()) {
        return Ok(names.map(|name| own.join(name)));
    }
    // A tool's names live as long as the program.
    let leak = |text: String| &*text.leak();
    let package = leak(format!("llvm-{version}"));
    let needed = names.map(|name| Tool { file: leak(format!("{name}-{version}")), package, purpose: "reads what the tests ran" });
    doctor::need(&needed)?;
    Ok(needed.map(|tool| PathBuf::from(tool.file)))
}

/// The lines of each file below `root`, from llvm-cov's lcov records.
fn count(lcov: &str, root: &Path) -> BTreeMap<PathBuf, Lines> {
    let mut files = BTreeMap::<PathBuf, Lines>::new();
    let mut current = None;
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = Path::new(path);
            let file = path.strip_prefix(root).ok().filter(|file| !is_test(file));
            current = file.map(|file| (file.to_path_buf(), fs::read_to_string(path).map_or(usize::MAX, |source| tests_begin(&source))));
        } else if let (Some((file, end)), Some(record)) = (&current, line.strip_prefix("DA:")) {
            let mut numbers = record.split(',').map_while(|n| n.parse::<usize>().ok());
            if let (Some(number), Some(times)) = (numbers.next(), numbers.next())
                && number < *end
            {
                let lines = files.entry(file.clone()).or_default();
                lines.all += 1;
                lines.run += usize::from(times > 0);
            }
        }
    }
    files
}

/// Whether a file of the core is there for tests alone.
fn is_test(file: &Path) -> bool {
    file.iter().any(|part| part == "tests" || part == "tests.rs")
        || ["testbed.rs", "machine/fake.rs"].iter().any(|name| file == Path::new(name))
}

/// The line at which a file's own module of tests begins.
fn tests_begin(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    lines.windows(2).position(|pair| pair == ["#[cfg(test)]", "mod tests {"]).map_or(usize::MAX, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_file_without_tests() {
        let lcov = "SF:/w/core/src/a.rs\nDA:1,5\nDA:2,0\nend_of_record\nSF:/w/core/src/a/tests.rs\nDA:1,1\nend_of_record\n\
            SF:/elsewhere/b.rs\nDA:1,1\nend_of_record\nSF:/w/core/src/machine/fake.rs\nDA:9,9\n";
        let files = count(lcov, Path::new("/w/core/src"));
        assert_eq!(files.len(), 1);
        assert_eq!(files.get(Path::new("a.rs")).map(|lines| (lines.run, lines.all)), Some((1, 2)));
    }

    #[test]
    fn a_files_own_tests_are_not_counted() {
        assert_eq!(tests_begin("fn f() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 3);
        assert_eq!(tests_begin("#[cfg(test)]\nmod tests;\nfn f() {}\n"), usize::MAX);
    }
}
