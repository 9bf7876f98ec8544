//! The Python environment with the official client, made once and kept while its requirements stay the same.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::{execute, root, step, target};

/// Gives the environment's `python`, after making the environment if need be.
pub(crate) fn python() -> Result<PathBuf> {
    let requirements = root().join("tests/e2e/requirements.txt");
    let wanted = fs::read_to_string(&requirements).context("cannot read the list of Python packages")?;
    let folder = target().join("venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(python);
    }
    step("install the official client and the test tools", || {
        execute(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )?;
        execute(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--requirement"])
                .arg(&requirements),
        )?;
        // Written last: an interrupted installation is made again.
        fs::write(&stamp, wanted).context("cannot mark the environment as complete")
    })?;
    Ok(python)
}
