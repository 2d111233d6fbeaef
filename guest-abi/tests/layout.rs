//! Compares this crate with Xen's own public headers (Debian's `libxen-dev`), as a C compiler for Arm64 sees them.
//!
//! Sizes, offsets, field widths and constants become C expressions whose values the compiler writes into a table in an assembly file:
//! no Arm code runs. Headers are taken from `$XENOLITH_XEN_HEADERS` (a directory with `xen/xen.h` in it), else `/usr/include`. Without
//! headers or compiler the test says so and passes. `domctl` and `sysctl` change with every release of Xen: they are compared only with
//! headers of the same interface version.

#[path = "layout/compiler.rs"]
mod compiler;
#[path = "layout/expectations.rs"]
mod expectations;

use compiler::Headers;
use expectations::{Expectation, Group};

#[test]
fn matches_the_public_headers() {
    let headers = match Headers::find() {
        Ok(headers) => headers,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let same_version = headers.macro_value("XEN_DOMCTL_INTERFACE_VERSION") == Some(guest_abi::domctl::XEN_DOMCTL_INTERFACE_VERSION.into())
        && headers.macro_value("XEN_SYSCTL_INTERFACE_VERSION") == Some(guest_abi::sysctl::XEN_SYSCTL_INTERFACE_VERSION.into());
    let mut missing = Vec::new();
    let mut checks: Vec<(String, u64)> = Vec::new();
    for Expectation { group, expression, value } in expectations::all() {
        if group == Group::Tools && !same_version {
            continue;
        }
        match headers.resolve(&expression) {
            Some(expression) => checks.push((expression, value)),
            None => missing.push(expression),
        }
    }
    if !same_version {
        println!("SKIPPED domctl and sysctl: the headers in {} are not those of Xen 4.20", headers.dir());
        println!("not in these headers: {missing:?}");
    } else {
        assert!(missing.is_empty(), "not in the headers: {missing:?}");
    }
    let expressions: Vec<_> = checks.iter().map(|(expression, _)| expression.as_str()).collect();
    let actual = headers.evaluate(&expressions);
    let wrong: Vec<_> = checks
        .iter()
        .zip(&actual)
        .filter(|((_, expected), actual)| expected != *actual)
        .map(|((expression, expected), actual)| format!("{expression}: {expected:#x} here, {actual:#x} in Xen"))
        .collect();
    assert!(wrong.is_empty(), "differs from Xen:\n{}", wrong.join("\n"));
    println!("{} sizes, offsets and constants compared with {}", actual.len(), headers.dir());
}

/// A constant that nobody compares may be wrong for ever.
#[test]
fn every_constant_is_listed() {
    let list = include_str!("layout/expectations.rs");
    let listed: std::collections::HashSet<&str> = list.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut forgotten = Vec::new();
    for file in rust_files(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        // Ours and Arm's, not in Xen's headers.
        if ["txcopy.rs", "psci.rs", "smccc.rs", "trace/own.rs"].iter().any(|own| file.ends_with(own)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(':'))
            .filter(|(name, _)| !name.starts_with("fn "));
        forgotten.extend(names.map(|(name, _)| name.to_string()).filter(|name| !listed.contains(name.as_str())));
    }
    assert!(forgotten.is_empty(), "compare these in tests/layout/expectations.rs: {forgotten:?}");
}

fn rust_files(dir: std::path::PathBuf) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(path));
        } else {
            files.push(path);
        }
    }
    files
}
