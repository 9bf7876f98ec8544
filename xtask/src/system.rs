//! Programs the tasks need on the machine.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{execute, output, say};

/// A program and the Debian package that brings it.
struct Program {
    name: &'static str,
    package: &'static str,
}

/// What building and testing need beyond Rust; `podflare up` itself sees to what running needs.
const PROGRAMS: [Program; 2] = [
    Program {
        name: "cc",
        package: "gcc",
    },
    Program {
        name: "python3",
        package: "python3",
    },
];

/// Names of the browser that the tests of pages drive.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Installs what is missing where that is possible, and says how where it is not.
pub(crate) fn ensure() -> Result<()> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|program| !is_on_path(program.name))
        .map(|program| program.package)
        .collect();
    if is_on_path("python3") && !python_can_make_environments() {
        packages.push("python3-venv");
    }
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_root() || !is_on_path("apt-get") {
        bail!("missing: {list}. Install with: sudo apt-get install -y --no-install-recommends {list}");
    }
    install(&packages)
}

/// For the tests of pages. Where no browser can be installed they are skipped, and say so.
pub(crate) fn ensure_browser() -> Result<()> {
    if BROWSERS.iter().any(|browser| is_on_path(browser)) {
        return Ok(());
    }
    if !is_root() || !is_on_path("apt-get") {
        say("no Chromium here; tests of pages are skipped. Install with: sudo apt-get install -y chromium");
        return Ok(());
    }
    install(&["chromium"])
}

fn install(packages: &[&str]) -> Result<()> {
    say(&format!("installing what is missing: {}", packages.join(" ")));
    execute(Command::new("apt-get").args(["update", "-qq"]))?;
    execute(
        Command::new("apt-get")
            .args(["install", "-qq", "-y", "--no-install-recommends"])
            .args(packages),
    )
}

fn is_on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Debian splits `ensurepip` off from Python.
fn python_can_make_environments() -> bool {
    Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    Path::new("/proc/self").exists() && output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
