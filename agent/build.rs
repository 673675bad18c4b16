//! Finds the kernel objects that are put inside the binary. `cargo xtask build` makes them.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=KERNSPAN_OBJECT");
    // Asked at run time: a build script may be reused after the tree has moved.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let built =
        Path::new(&manifest).join("../agent-ebpf/target/bpfel-unknown-none/release/kernspan");
    let object = std::env::var_os("KERNSPAN_OBJECT").map_or(built, PathBuf::from);
    // The same build puts it beside the first.
    let untyped = object.with_file_name("kernspan-untyped");
    for (name, object) in [("KERNSPAN_OBJECT_PATH", object), ("KERNSPAN_UNTYPED_PATH", untyped)] {
        println!("cargo::rerun-if-changed={}", object.display());
        match object.canonicalize() {
            Ok(path) => println!("cargo::rustc-env={name}={}", path.display()),
            Err(error) => println!(
                "cargo::error=the kernel object {} is not there ({error}): run `cargo xtask build`",
                object.display()
            ),
        }
    }
}
