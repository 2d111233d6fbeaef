//! The machine xtask runs on: its directories, and running a program so that a failure is one clear line.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the checkout this xtask was built from.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    workspace().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The folder for downloads and guests: `$XENOLITH_CACHE`, `$XDG_CACHE_HOME/xenolith` or `~/.cache/xenolith`.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("XENOLITH_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("xenolith")))
        .context("neither HOME nor XENOLITH_CACHE is set: set XENOLITH_CACHE to a folder for downloads")?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot create the cache folder {}", dir.display()))?;
    Ok(dir.canonicalize()?)
}

/// Builds a folder of the cache once: `build` fills a temporary folder, which then takes its name in one step.
/// Another xtask that wants the same folder waits for it.
pub fn cached(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let (done, partial) = (cache.join(name), cache.join(format!("{name}.partial")));
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("cannot lock the cache folder")?;
    if !done.exists() {
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        build(&partial)?;
        fs::rename(&partial, &done)?;
    }
    Ok(done)
}

/// A short name for the content of `parts`, to tell one version of a recipe from another.
pub fn stamp<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    // FNV-1a: the same on every machine and toolchain, which std's hasher does not promise.
    let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// The path of `program`, if it is installed.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps administrators' tools where a user's PATH may not look.
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Runs `command`, its output shown as it comes.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", name(command)))?;
    ensure!(status.success(), "{} failed ({status})", name(command));
    Ok(())
}

/// Runs `command` and returns what it printed; if it fails, its last error line is the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", name(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{} failed ({}): {last}", name(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name(command: &Command) -> String {
    let args = command.get_args().filter(|arg| !arg.as_encoded_bytes().starts_with(b"-")).take(2);
    std::iter::once(command.get_program()).chain(args).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
