//! Hands the linker the layout of the image.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bins=-T{directory}/image.ld");
    println!("cargo:rustc-link-arg-bins=--no-rosegment");
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo:rerun-if-changed={directory}/image.ld");
}
