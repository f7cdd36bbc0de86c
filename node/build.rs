//! Compiles the pause program (pause/pause.rs) to a static binary that the node carries in itself.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=pause/pause.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(var("OUT_DIR")).join("pause");
    let status = Command::new(var("RUSTC"))
        .args(["--edition", "2024", "--crate-type", "bin", "--target", &var("TARGET")])
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "strip=symbols"])
        .args(["-C", "relocation-model=static", "-C", "linker-flavor=gcc"])
        .args(["-C", "link-arg=-nostdlib", "-C", "link-arg=-nostartfiles", "-C", "link-arg=-static"])
        .args(["-o"])
        .arg(&out)
        .arg("pause/pause.rs")
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("the pause program does not compile: {other:?}"),
    }
}
