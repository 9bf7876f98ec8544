//! `podflare up`: from nothing to a host that answers, or to knowing why not.
//!
//! ```text
//! decide ──> build ──> compare with what runs ──(same)──────────────────────> say where it is
//!                            │
//!                            └─(nothing, or other)──> stop ──> start ──> wait ──> say where it is
//! ```
//!
//! Deciding and building happen while an older host still serves. What takes long shows its progress.

mod first_key;
mod report;
mod start;

use std::path::PathBuf;

use ::settings::up::Kind;
use softhost::{HostKind, HostSetting, Limits, Observed, QEMU_PACKAGES, Status, Stopped, Verdict};

use crate::artifacts::{Artifacts, Request, templates};
use crate::binaries::Binaries;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::launch::{Launch, Options};
use crate::local;
use crate::operator;
use crate::output::Steps;
use crate::settings::Directories;

use report::Report;

const EXAMPLES: &str = "\
Examples:
  podflare up                       use hardware virtualization if it works, else the software host
  podflare up --memory-mib 6144     more room for sandboxes in the software host
  podflare up --pool default=8      this many sandboxes wait ready to be handed out
  podflare up --port 7171 --state-dir /tmp/second     a second host beside the first
  podflare up --require-keys        callers must show a key; see `podflare key --help`
  podflare up --template python-datasci     a second kind of sandbox, with numpy and pandas loaded
  podflare up --refresh             rebuild the images with today's security updates

Options that are not given stay as they are in a host that runs already. It is started anew when something
has changed, such as an option or a program. Sandboxes do not survive that.";

/// Start a host on this machine
///
/// Sandboxes are microVMs, so they need hardware virtualization. Where there is none, or where it does not work, a
/// small Debian machine with emulated virtualization is started and hosts them: slower, but not different.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    lasting: ::settings::up::Options,

    /// Memory of a sandbox that asks for none, in MiB
    #[arg(long, value_name = "MIB")]
    ram_mib: Option<u32>,

    /// VMs that wait ready for the next sandboxes of a template (can be repeated) [default: depends on the memory]
    #[arg(long, value_name = "TEMPLATE=COUNT", value_parser = pool_size)]
    pool: Vec<String>,

    /// Use hardware virtualization, without checking that it works: --kind hardware
    #[arg(long, conflicts_with = "software")]
    hardware: bool,

    /// Use the software host, even where hardware virtualization works: --kind software
    #[arg(long)]
    software: bool,

    /// Ask callers for an API key, also on this machine [default: only when PODFLARE_API_KEYS is set]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_keys: Option<bool>,

    /// Build the images anew, with today's security updates
    #[arg(long)]
    refresh: bool,

    /// Leave a host that runs as it is, whatever has changed
    #[arg(long)]
    no_restart: bool,

    /// Stay in the foreground; Ctrl-C stops the host
    #[arg(long)]
    foreground: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let directories = context.directories()?;
    let running = find_running(context, &directories)?;
    if let Some(status) = running.as_ref().filter(|_| args.no_restart) {
        context.printer.show(&Report::already(status, context))?;
        return Ok(Exit::Ok);
    }
    let before = running.as_ref().and_then(|_| Launch::read(&directories));
    let options = args.options(before.as_ref())?;
    if running.as_ref().is_none_or(|status| status.port != options.port) {
        softhost::require_free_port(options.port).map_err(|error| Failure::because("port", &error))?;
    }

    let file = context.configuration()?;
    if let Some(file) = &file {
        context
            .printer
            .note(&format!("settings from {}", file.path.display()));
    }
    let from_file = file.map(|file| file.hostd_variables()).unwrap_or_default();
    let steps = Steps::new(context.printer);
    let launch = prepare(context, &directories, &args, options, &from_file, &steps)?;
    if let Some(status) = &running {
        let changes = before.map_or(vec!["how it was started"], |before| launch.differences(&before));
        if changes.is_empty() && local::is_well(status) {
            let report = Report::already(status, context);
            context
                .printer
                .show(&report.with_key(first_key::make(context, &directories, &status.url)))?;
            return Ok(Exit::Ok);
        }
        let why = if changes.is_empty() {
            "does not answer".to_owned()
        } else {
            changed(&changes)
        };
        context
            .printer
            .note(&format!("the host that runs {why}; starting it anew"));
        steps.begin("stopping the host that runs");
        stop(&directories)?;
        steps.finish("stopped the host that ran");
    }
    launch.write(&directories)?;
    if args.foreground {
        return Err(start::in_foreground(context, &directories, &from_file));
    }
    let status = start::detached(context, &directories, &from_file, &steps)?;
    let report = Report::started(&status, context);
    context
        .printer
        .show(&report.with_key(first_key::make(context, &directories, &status.url)))?;
    Ok(Exit::Ok)
}

/// The host that runs. What one without a supervisor has left behind is ended.
fn find_running(context: &Context, directories: &Directories) -> Result<Option<Box<Status>>, Failure> {
    match local::observe(directories)? {
        Observed::Supervised(status) => Ok(Some(status)),
        Observed::NotRunning { .. } => Ok(None),
        Observed::Abandoned { .. } => {
            context.printer.warn("a host has lost its supervisor; ending it");
            stop(directories)?;
            Ok(None)
        }
    }
}

/// Stops whatever runs in this run directory.
pub(crate) fn stop(directories: &Directories) -> Result<Stopped, Failure> {
    softhost::stop(&directories.run, &Limits::default()).map_err(|error| Failure::because("stop", &error))
}

/// Decides where sandboxes will run and makes sure that everything needed for it is there.
fn prepare(
    context: &Context,
    directories: &Directories,
    args: &Args,
    options: Options,
    from_file: &[(String, String)],
    steps: &Steps,
) -> Result<Launch, Failure> {
    let binaries = Binaries::find()?;
    binaries.require_static_agent()?;
    steps.begin("looking for hardware virtualization");
    let verdict = softhost::decide(args.host(), &binaries.vmm, Limits::default().trial);
    steps.abandon();
    let (kind, words) = match &verdict {
        Verdict::Hardware { .. } => (HostKind::Hardware, "hardware virtualization"),
        Verdict::Software { .. } => (HostKind::Software, "software host"),
    };
    context.printer.note(&format!(
        "{}: {}",
        context.printer.err_paint().bold(words),
        verdict.reason()
    ));
    if kind == HostKind::Software {
        binaries.require_static()?;
        image::require_packages(QEMU_PACKAGES, steps).map_err(|error| Failure::because("qemu", &error))?;
    }
    let request = Request {
        kind,
        directories,
        binaries: &binaries,
        templates: &options.templates,
        ca_certificates: &options.ca_certificates,
        refresh: args.refresh,
        progress: steps,
    };
    let artifacts = Artifacts::ensure(&request)?;
    steps.abandon();
    let token = operator::ensure(directories)
        .map_err(|error| Failure::while_doing("operator", "cannot keep the operator's token", &error))?;
    let why = (kind, verdict.reason().to_owned());
    Launch::new(options, why, binaries, artifacts, (from_file, &token))
}

/// Kept as it was written: the daemon reads it again.
fn pool_size(text: &str) -> Result<String, String> {
    let sound = text.split_once('=').is_some_and(|(template, count)| {
        !template.is_empty() && count.parse::<u32>().is_ok_and(|count| count <= 10_000)
    });
    if sound {
        Ok(text.to_owned())
    } else {
        Err("expected a template and a count, as in default=4".to_owned())
    }
}

fn changed(changes: &[&str]) -> String {
    let verb = if changes.len() == 1 { "has" } else { "have" };
    format!("is out of date, because {} {verb} changed", changes.join(" and "))
}

impl Args {
    fn host(&self) -> HostSetting {
        match (self.hardware, self.software) {
            (true, _) => HostSetting::Hardware,
            (_, true) => HostSetting::Software,
            (false, false) => match self.lasting.kind {
                Kind::Auto => HostSetting::Auto,
                Kind::Hardware => HostSetting::Hardware,
                Kind::Software => HostSetting::Software,
            },
        }
    }

    /// What is asked for; where nothing is, what the running host has, then the default.
    fn options(&self, running: Option<&Launch>) -> Result<Options, Failure> {
        let running = running.map(|launch| &launch.options);
        let absolute = |path: &PathBuf| {
            std::path::absolute(path)
                .and_then(|path| path.metadata().map(|_| path))
                .map_err(|error| Failure::while_doing("certificates", &path.display().to_string(), &error))
        };
        let given: Vec<PathBuf> = self
            .lasting
            .ca_certificates
            .iter()
            .map(absolute)
            .collect::<Result<_, _>>()?;
        // A misspelt name is told before anything is built.
        templates(
            &self
                .lasting
                .templates
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        )?;
        Ok(Options {
            port: self
                .lasting
                .port
                .or(running.map(|options| options.port))
                .unwrap_or(softhost::DEFAULT_PORT),
            memory_mib: self
                .lasting
                .memory_mib
                .or(running.and_then(|options| options.memory_mib)),
            ram_mib: self.ram_mib.or(running.and_then(|options| options.ram_mib)),
            pool: match running {
                Some(options) if self.pool.is_empty() => options.pool.clone(),
                Some(_) | None => self.pool.clone(),
            },
            ca_certificates: match running {
                Some(options) if given.is_empty() => options.ca_certificates.clone(),
                Some(_) | None => given,
            },
            require_keys: self
                .require_keys
                .or(running.map(|options| options.require_keys))
                .unwrap_or(false),
            templates: match running {
                Some(options) if self.lasting.templates.is_empty() => options.templates.clone(),
                Some(_) | None => self.lasting.templates.clone(),
            },
        })
    }
}
