//! The Rust toolchain for `aarch64-unknown-none-softfloat`, chosen without the user's help.
//!
//! With the target installed (`rustup target add`), plain cargo does. Otherwise core and alloc are built from source: the toolchain's
//! own (`rust-src`), or Debian's `rust-src` of the same version, or at last Debian's own compiler for its browsers, with its source.

use crate::apt::{self, Apt};
use crate::doctor;
use crate::host;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of the hypervisor and of the bare-metal test domains.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// Where the core library of the target comes from.
enum Library {
    /// Installed with the toolchain, compiled.
    Installed,
    /// Built from this source folder.
    Source(PathBuf),
    /// Built by Debian's `rustc-web` from its own source.
    DebianCompiler,
}

/// `cargo VERB` for the bare target, with all it needs to build there.
pub fn cargo(verb: &str) -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::workspace()).arg(verb).args(["--target", TARGET]);
    let source = match library()? {
        Library::Installed => None,
        Library::Source(library) => Some(library),
        Library::DebianCompiler => {
            cargo = Command::new("/usr/bin/cargo");
            cargo.current_dir(host::workspace()).arg(verb).args(["--target", TARGET]).env("RUSTC", "/usr/bin/rustc");
            Some(sysroot_source(Path::new("/usr/bin/rustc")).context("Debian's rust-web-src holds no library")?)
        }
    };
    if let Some(library) = source {
        // Stable cargo builds the library only when told that it may, and looks for the source only inside the toolchain.
        cargo.env("RUSTC_BOOTSTRAP", "1").env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
        cargo.arg("-Zbuild-std=core,alloc,compiler_builtins");
    }
    if !has_rust_lld()? {
        doctor::need(&[doctor::LLD])?;
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER", "ld.lld");
    }
    Ok(cargo)
}

/// Says which way [`cargo`] would take, downloading nothing.
pub fn describe() -> Result<String> {
    Ok(if target_installed()? {
        format!("the toolchain has {TARGET}")
    } else if sysroot_source(&rustc()).is_some() {
        "built from the toolchain's rust-src".into()
    } else {
        format!("built from Debian's rust-src {} (downloaded when first needed)", release()?)
    })
}

fn library() -> Result<Library> {
    if target_installed()? {
        return Ok(Library::Installed);
    }
    if let Some(source) = sysroot_source(&rustc()) {
        return Ok(Library::Source(source));
    }
    doctor::need(&[doctor::APT, doctor::DPKG, doctor::KEYRING])?;
    let release = release()?;
    match debian_source(&release) {
        Ok(source) => Ok(Library::Source(source)),
        Err(_) if host::which("/usr/bin/cargo").is_some() && sysroot_source(Path::new("/usr/bin/rustc")).is_some() => {
            Ok(Library::DebianCompiler)
        }
        Err(error) => {
            eprintln!("no library source for rustc {release} ({error:#}); trying Debian's own compiler");
            let web = |file, package| doctor::Tool { file, package, purpose: "builds the hypervisor" };
            doctor::need(&[
                web("/usr/bin/rustc", "rustc-web"),
                web("/usr/bin/cargo", "cargo-web"),
                web("/usr/src/rustc-web", "rust-web-src"),
            ])
            .with_context(|| format!("rustc {release} cannot build for {TARGET}: run `rustup target add {TARGET}`"))?;
            Ok(Library::DebianCompiler)
        }
    }
}

/// The library of Debian's `rust-src` whose upstream version is `release`, unpacked in the cache.
fn debian_source(release: &str) -> Result<PathBuf> {
    let dir = host::cached(&format!("rust-src-{release}"), |dir| {
        eprintln!("fetching the source of Rust's core library {release} from Debian");
        let apt = Apt::open("rust-src", "amd64", &["trixie-backports", "trixie", "testing", "sid", "bookworm-backports"])?;
        let versions = apt.versions("rust-src")?;
        let version = versions
            .iter()
            .find(|version| version.split(['+', '-']).next() == Some(release))
            .with_context(|| format!("Debian has rust-src {}, not {release}", versions.join(", ")))?;
        apt::unpack(&apt.download(&[format!("rust-src={version}")])?, dir)
    })?;
    let library = dir.join(format!("usr/src/rustc-{release}/library"));
    if !library.join("core/src/lib.rs").exists() {
        bail!("{} is no Rust library source: delete {} and try again", library.display(), dir.display());
    }
    Ok(library)
}

fn rustc() -> PathBuf {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()).into()
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(host::output(Command::new(rustc).args(["--print", "sysroot"]))?.trim().into())
}

fn sysroot_source(rustc: &Path) -> Option<PathBuf> {
    let library = sysroot(rustc).ok()?.join("lib/rustlib/src/rust/library");
    library.join("core/src/lib.rs").exists().then_some(library)
}

fn target_installed() -> Result<bool> {
    let dir = host::output(Command::new(rustc()).args(["--print", "target-libdir", "--target", TARGET]))?;
    Ok(Path::new(dir.trim()).exists())
}

fn release() -> Result<String> {
    let version = host::output(Command::new(rustc()).arg("-vV"))?;
    let release = version.lines().find_map(|line| line.strip_prefix("release: ")).context("rustc -vV names no release")?;
    Ok(release.into())
}

fn has_rust_lld() -> Result<bool> {
    let rustlib = sysroot(&rustc())?.join("lib/rustlib");
    let hosts = std::fs::read_dir(rustlib)?.flatten().map(|entry| entry.path().join("bin/rust-lld"));
    Ok(hosts.chain(host::which("rust-lld")).any(|file| file.exists()))
}
