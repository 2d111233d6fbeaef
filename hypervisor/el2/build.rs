//! Hands the linker the layout of the image.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bins=-T{directory}/image.ld");
    println!("cargo:rustc-link-arg-bins=--no-rosegment");
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo:rerun-if-changed={directory}/image.ld");
    println!("cargo:rustc-env=XENOLITH_RUSTC={}", first_line("RUSTC", &["--version"]));
    println!("cargo:rustc-env=XENOLITH_DATE={}", date());
}

/// What the program named by an environment variable prints first.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = std::env::var(program).ok().and_then(|program| Command::new(program).args(arguments).output().ok());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// Seconds since 1970 of the sources (`SOURCE_DATE_EPOCH`, for reproducible images) or of the build, as a date.
fn date() -> String {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
    // Civil date from days: years begin in March, so that the leap day is the last.
    let days = seconds / 86400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (d, m) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{m:02}-{d:02}", era * 400 + year + u64::from(m <= 2))
}
