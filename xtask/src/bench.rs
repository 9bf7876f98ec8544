//! What the host's operations cost: a host of its own with release binaries, measured by `scripts/benchmarks`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::host::PrivateHost;
use crate::shell::{execute, root, step, target};
use crate::{binaries, system, venv};

/// Port of the host that is measured, apart from those of other tasks.
const PORT: u16 = 7173;
/// Rows that are also measured on a host without something: what it is called, and the setting that takes it away.
const COMPARED: [Compared; 2] = [
    Compared {
        row: "fork-storm",
        without: "network",
        setting: "PODFLARE_NO_NETWORK",
    },
    Compared {
        row: "working-set",
        without: "working-sets",
        setting: "PODFLARE_NO_WORKING_SETS",
    },
];
/// Measured beside the default one.
const TEMPLATE: &str = "python-datasci";

#[derive(Args)]
pub(crate) struct Options {
    /// A fifth of the samples
    #[arg(long)]
    quick: bool,
    /// Only this row of the table (can be repeated); an unknown one prints all names
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Earlier figures to show beside these [default: the last ones]
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// At most so many samples of anything, for a slow host
    #[arg(long, value_name = "N")]
    count_max: Option<u32>,
    /// Memory of the software host, in MiB
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u32>,
    /// Port of the host that is started
    #[arg(long, default_value_t = PORT)]
    port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Compared {
    row: &'static str,
    without: &'static str,
    setting: &'static str,
}

impl Compared {
    fn is_wanted(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|row| row == self.row)
    }

    fn figures(&self) -> PathBuf {
        target().join("bench").join(format!("without-{}", self.without))
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    system::ensure()?;
    let podflare = binaries::build()?.join("podflare");
    let python = venv::python()?;
    let mut arguments = Vec::new();
    if let Some(mib) = options.memory_mib {
        arguments.extend(["--memory-mib".to_owned(), mib.to_string()]);
    }
    // In one place for both, so the second finds the snapshots of the first.
    let start = |arguments: &[String], variables: &[(&str, &str)]| {
        PrivateHost::start_with(podflare.clone(), "bench", options.port, arguments, variables)
    };
    let compared = COMPARED.iter().filter(|one| one.is_wanted(&options.only));
    let compared: Vec<_> = compared.collect();
    for one in &compared {
        step(&format!("measure a host without {}", one.without), || {
            let host = start(&arguments, &[(one.setting, "1")])?;
            let mut command = measure(options, &host, &python);
            execute(command.args(["--only", one.row]).arg("--out").arg(one.figures()))
        })?;
    }
    arguments.extend(["--template".to_owned(), TEMPLATE.to_owned()]);
    let host = step("start a host to measure", || start(&arguments, &[]))?;
    step("benchmark", || {
        let mut command = measure(options, &host, &python);
        command.arg("--out").arg(target().join("bench"));
        for one in &compared {
            command.arg("--without").arg(one.figures());
        }
        for row in &options.only {
            command.args(["--only", row]);
        }
        if let Some(file) = &options.against {
            command.arg("--against").arg(std::path::absolute(file)?);
        }
        execute(&mut command)
    })
}

/// The benchmark of this host, which rows are to be named for.
fn measure(options: &Options, host: &PrivateHost, python: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-m", "benchmarks", "--url", &host.url, "--kind", &host.kind])
        .env("PYTHONPATH", root().join("scripts"))
        .arg("--cli")
        .arg(&host.podflare)
        .arg("--state-dir")
        .arg(&host.state);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(count) = options.count_max {
        command.args(["--count-max", &count.to_string()]);
    }
    command
}
