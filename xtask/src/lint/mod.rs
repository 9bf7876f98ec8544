//! What the compiler does not check by itself: style, layers, the home of unsafe code, and the rules of the house.

mod layers;
mod tidy;

use anyhow::{Result, bail};

use crate::shell::{cargo, execute, say};

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
