//! Every check, from the cheapest to the dearest.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::host::PrivateHost;
use crate::shell::{cargo, execute, root, step, target};
use crate::{binaries, lint, system, venv};

/// Port of the host the end-to-end tests use, apart from the default one.
const PORT: u16 = 7171;

#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the end-to-end tests, which need some minutes and a software host
    #[arg(long)]
    no_e2e: bool,
    /// Run only the end-to-end tests
    #[arg(long, conflicts_with = "no_e2e")]
    only_e2e: bool,
    /// Arguments for pytest, e.g. `-k exec`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pytest: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    system::ensure()?;
    if !options.only_e2e {
        step("lint", lint::run)?;
        step("unit and property tests", || {
            execute(&mut cargo(&["test", "--workspace", "--locked", "--quiet"]))
        })?;
        step("the daemon with the real network process", real_network)?;
    }
    if options.no_e2e {
        return Ok(());
    }
    system::ensure_browser()?;
    let folder = binaries::build()?;
    let python = venv::python()?;
    let host = step("start a host for the tests", || {
        PrivateHost::start(folder.join("podflare"), "e2e", PORT)
    })?;
    step("end-to-end tests", || {
        let mut pytest = Command::new(&python);
        pytest
            .args(["-m", "pytest", "-q", "--durations=25", "tests/e2e"])
            .args(&options.pytest)
            .current_dir(root());
        pytest.env("PODFLARE_TEST_URL", &host.url);
        pytest.env("PODFLARE_TEST_CLI", &host.podflare);
        pytest.env("PODFLARE_TEST_STATE_DIR", &host.state);
        pytest.env("PODFLARE_TEST_BIN_DIR", &folder);
        execute(pytest.env("PODFLARE_TEST_REPORT_DIR", target().join("e2e")))
    })
}

/// A test of the daemon's that needs another program of the workspace, in the profile that tests have.
fn real_network() -> Result<()> {
    execute(&mut cargo(&[
        "build",
        "--workspace",
        "--locked",
        "--quiet",
        "--bin",
        "podflare-netd",
    ]))?;
    let mut test = cargo(&["test", "--workspace", "--locked", "--quiet", "--lib"]);
    test.args(["the_real_network_process", "--", "--ignored"]);
    execute(test.env("PODFLARE_TEST_NETD", target().join("debug/podflare-netd")))
}
