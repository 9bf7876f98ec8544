//! `podflare doctor`: everything that can be wrong with this machine, each with its fix.

mod headroom;

use serde::Serialize;
use softhost::{Check, CheckVerdict, DoctorInput, HostSetting, Limits, Settings};

use crate::binaries::{Binaries, BinariesError};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::launch::Launch;
use crate::output::{Paint, Show, Steps};

/// Check everything that can be wrong, and say how to fix it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port that `up` would use [default: that of the running host, or 7070]
    #[arg(long)]
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing has failed.
    ok: bool,
    checks: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    /// `ok`, `warn` or `fail`.
    verdict: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let directories = context.directories()?;
    let binaries = Binaries::expected()?;
    let launch = Launch::read(&directories);
    let port = args
        .port
        .or(launch.as_ref().map(|launch| launch.options.port))
        .unwrap_or(softhost::DEFAULT_PORT);
    let settings = Settings {
        run_dir: directories.run.clone(),
        port,
        memory_mib: None,
        host: HostSetting::Auto,
        hostd_arguments: Vec::new(),
        hostd_environment: Vec::new(),
        limits: Limits::default(),
    };
    let images = launch.map(|launch| launch.artifacts.files()).unwrap_or_default();
    let images: Vec<_> = ["kernel and root file systems", "initrd of the sandboxes"]
        .into_iter()
        .zip(images.into_iter().map(Some).chain([None, None]))
        .collect();
    let steps = Steps::new(context.printer);
    steps.begin("looking at everything");
    let input = DoctorInput {
        settings: &settings,
        cache_dir: &directories.cache,
        state_dir: &directories.state,
        hostd: &binaries.hostd,
        vmm: &binaries.vmm,
        netd: &binaries.netd,
        images: &images,
    };
    let mut checks: Vec<Finding> = softhost::diagnose(&input).into_iter().map(Finding::of).collect();
    checks.push(Finding::of_linking(&binaries));
    checks.extend(Finding::of_store(context));
    checks.extend(headroom::findings(context));
    steps.abandon();
    let ok = checks.iter().all(|check| check.verdict != FAIL);
    context.printer.show(&Report { ok, checks })?;
    Ok(if ok { Exit::Ok } else { Exit::Failed })
}

const FAIL: &str = "fail";

impl Finding {
    fn of(check: Check) -> Self {
        let verdict = match check.verdict {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Warn => "warn",
            CheckVerdict::Fail => FAIL,
        };
        Self {
            name: check.name,
            verdict,
            found: check.found,
            fix: check.fix,
        }
    }

    /// The database of a host that runs; of one that does not, its start says it.
    fn of_store(context: &Context) -> Option<Self> {
        let name = "tenants and keys";
        let client = context.operator().ok()?;
        let (verdict, found, fix) = match client.check_store() {
            Ok(report) if report.ok => {
                let text = format!("the database is sound ({} KiB)", report.bytes / 1024);
                ("ok", text, None)
            }
            Ok(report) => {
                let text = format!("the database is damaged: {}", report.problems.join("; "));
                (
                    FAIL,
                    text,
                    Some("stop the host and restore podflare.db from a backup".to_owned()),
                )
            }
            // That no host answers is told by others.
            Err(client::ClientError::Unreachable { .. }) => return None,
            Err(error) => (
                "warn",
                format!("the database was not looked at: {error}"),
                error.hint(),
            ),
        };
        Some(Self {
            name,
            verdict,
            found,
            fix,
        })
    }

    /// Programs for the software host and the guest must bring everything along.
    fn of_linking(binaries: &Binaries) -> Self {
        let name = "static programs";
        match binaries
            .require_present()
            .and_then(|()| binaries.require_static())
        {
            Ok(()) => Self {
                name,
                verdict: "ok",
                found: "the programs need no libraries".into(),
                fix: None,
            },
            Err(error @ (BinariesError::Dynamic { .. } | BinariesError::NotElf { .. })) => {
                // On hardware virtualization only the agent has to be static.
                let verdict = if binaries.require_static_agent().is_ok() {
                    "warn"
                } else {
                    FAIL
                };
                Self::failing(name, verdict, error)
            }
            Err(error) => Self::failing(name, FAIL, error),
        }
    }

    fn failing(name: &'static str, verdict: &'static str, error: BinariesError) -> Self {
        let failure = Failure::from(error);
        Self {
            name,
            verdict,
            found: failure.text().to_owned(),
            fix: failure.remedy().map(str::to_owned),
        }
    }
}

impl Show for Report {
    fn words(&self, paint: Paint) -> String {
        let width = self
            .checks
            .iter()
            .map(|check| check.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut lines = Vec::new();
        for Finding {
            name,
            verdict,
            found,
            fix,
        } in &self.checks
        {
            let mark = match *verdict {
                "ok" => paint.green("✓"),
                "warn" => paint.yellow("!"),
                _ => paint.red("✗"),
            };
            lines.push(format!("{mark} {name:width$}  {found}"));
            if let Some(fix) = fix {
                lines.push(format!("  {:width$}  {}", "", paint.dim(&format!("→ {fix}"))));
            }
        }
        lines.push(match self.ok {
            true => paint.green("Nothing stands in the way."),
            false => paint.red("Some things have to be fixed first."),
        });
        lines.join("\n")
    }
}
