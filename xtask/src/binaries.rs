//! The release binaries: static, because they run in guests and in the software host, which have no C library.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{cargo, execute, step, target};

/// Naming the target, even though it is the machine's own, keeps `RUSTFLAGS` away from build scripts and procedural
/// macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

const PACKAGES: [&str; 5] = [
    "podflare",
    "podflare-hostd",
    "podflare-vmm",
    "podflare-netd",
    "podflare-agent",
];

/// Builds them all and gives the folder they are in.
pub(crate) fn build() -> Result<PathBuf> {
    step("build the release binaries", || {
        let mut command = cargo(&["build", "--release", "--locked", "--target", TARGET]);
        command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        execute(command.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
        Ok(target().join(TARGET).join("release"))
    })
}
