//! Hands the linker the layout of the image.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    // `-pie`: data that holds addresses gets relocations, which head.rs applies, for the image runs wherever it was loaded.
    for argument in ["-pie", "--no-dynamic-linker", "-znotext", "-zmax-page-size=4096", "--no-rosegment", "--hash-style=gnu"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{directory}/image.ld");
    println!("cargo:rerun-if-changed={directory}/image.ld");
}
