//! From a bare machine to Python running in a microVM, shown with the official client.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::{execute, root, say, step};
use crate::{binaries, host, system, venv};

pub(crate) fn run() -> Result<()> {
    system::ensure()?;
    let folder = binaries::build()?;
    let podflare = folder.join("podflare");
    step("start the host", || execute(Command::new(&podflare).arg("up")))?;
    let url = host::url(&podflare, &[]).context("the host is up but does not say where")?;
    step("demo", || narrate(&url))?;
    say("");
    say(&format!("The host keeps running at {url}. Try:"));
    say(&format!(
        "  {} run -c 'import platform; print(platform.uname())'",
        podflare.display()
    ));
    say(&format!(
        "  PODFLARE_API_URL={url} python3 -c 'from podflare import Sandbox; print(Sandbox().run_code(\"6*7\").stdout)'"
    ));
    say(&format!("Stop it with: {} down", podflare.display()));
    Ok(())
}

fn narrate(url: &str) -> Result<()> {
    let python = venv::python()?;
    execute(Command::new(python).arg(root().join("scripts/demo.py")).arg(url))
}
