//! What the compiler does not check by itself: style, layers, the home of unsafe code, and the rules of the house.

mod layers;
mod tidy;

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{cargo, execute, root, say};
use crate::{system, venv};

pub(crate) fn run() -> Result<()> {
    execute(&mut cargo(&["fmt", "--all", "--check"]))?;
    execute(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    check_python()?;
    let mut findings = layers::check()?;
    findings.extend(tidy::check()?);
    for finding in &findings {
        say(&format!("lint: {finding}"));
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}

/// Python says that a name is missing only once it is used, which in a long test run is late.
fn check_python() -> Result<()> {
    system::ensure()?;
    execute(
        Command::new(venv::python()?)
            .args([
                "-m",
                "ruff",
                "check",
                "--quiet",
                "--no-cache",
                "--select",
                "E9,F",
                ".",
            ])
            .current_dir(root()),
    )
}
