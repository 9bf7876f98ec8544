//! Starting and stopping the host with binaries just built, and the long checks of the software host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::shell::{execute, output, root, say, step, target};
use crate::{binaries, system, venv};

#[derive(Args)]
pub(crate) struct SoakOptions {
    /// Consecutive starts of the software host with every core kept busy
    #[arg(long, default_value_t = 30)]
    starts: u32,
    /// Minutes of self-checking load
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// Sandboxes under load at the same time
    #[arg(long, default_value_t = 3)]
    sandboxes: u32,
}

/// A host of its own: its state, port and processes are apart from those of the person who works here.
pub(crate) struct PrivateHost {
    pub(crate) podflare: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) url: String,
    /// `software` or `hardware`.
    pub(crate) kind: String,
}

pub(crate) fn up(arguments: &[String]) -> Result<()> {
    system::ensure()?;
    let podflare = binaries::build()?.join("podflare");
    execute(Command::new(podflare).arg("up").args(arguments))
}

pub(crate) fn down(arguments: &[String]) -> Result<()> {
    let podflare = binaries::build()?.join("podflare");
    execute(Command::new(podflare).arg("down").args(arguments))
}

/// Where a running host answers.
pub(crate) fn url(podflare: &Path, arguments: &[&str]) -> Result<String> {
    let text = output(Command::new(podflare).args(["status", "--json"]).args(arguments))?;
    let status: serde_json::Value =
        serde_json::from_str(&text).context("`podflare status --json` did not print JSON")?;
    Ok(status["url"]
        .as_str()
        .context("`podflare status --json` names no url")?
        .to_owned())
}

impl PrivateHost {
    pub(crate) fn start(podflare: PathBuf, name: &str, port: u16) -> Result<Self> {
        Self::start_with(podflare, name, port, &[], &[])
    }

    /// With further arguments of `podflare up`, and variables for it and the daemon.
    pub(crate) fn start_with(
        podflare: PathBuf,
        name: &str,
        port: u16,
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let state = target().join(name).join("state");
        let mut host = Self {
            podflare,
            state,
            url: String::new(),
            kind: String::new(),
        };
        // A run that was killed may have left one; it would hold the port.
        drop(output(&mut host.command("down")));
        let mut up = host.command("up");
        if let Some(certificates) = machine_certificates() {
            up.arg("--ca-certificates").arg(certificates);
        }
        up.arg("--ca-certificates").arg(host.test_authority()?);
        up.envs(variables.iter().copied());
        execute(up.args(["--port", &port.to_string()]).args(arguments))?;
        let text = output(host.command("status").arg("--json"))?;
        let status: serde_json::Value =
            serde_json::from_str(&text).context("`podflare status --json` did not print JSON")?;
        let field = |name: &str| {
            let value = status[name].as_str().map(str::to_owned);
            value.with_context(|| format!("`podflare status --json` names no {name}"))
        };
        (host.url, host.kind) = (field("url")?, field("kind")?);
        Ok(host)
    }

    /// An authority that sandboxes of this host trust, whose key tests have: they sign servers of their own with it.
    fn test_authority(&self) -> Result<PathBuf> {
        let dir = self.state.with_file_name("ca");
        let certificate = dir.join("authority.crt");
        if !certificate.exists() {
            std::fs::create_dir_all(&dir)?;
            let netd = self.podflare.with_file_name("podflare-netd");
            execute(Command::new(netd).arg("--make-authority").arg(&dir))?;
        }
        Ok(certificate)
    }

    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.podflare);
        command.arg(verb).arg("--state-dir").arg(&self.state);
        command
    }
}

impl Drop for PrivateHost {
    fn drop(&mut self) {
        if let Err(error) = execute(&mut self.command("down")) {
            say(&format!("warning: {error:#}"));
        }
    }
}

/// Certificates that this machine trusts beyond its distribution's: where there are any, what is reached from here may need
/// them, and so may sandboxes.
fn machine_certificates() -> Option<&'static Path> {
    let directory = Path::new("/usr/local/share/ca-certificates");
    let mut entries = std::fs::read_dir(directory).ok()?.flatten();
    let is_certificate = |entry: std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "crt");
    entries.any(is_certificate).then_some(directory)
}

pub(crate) fn soak(options: &SoakOptions) -> Result<()> {
    system::ensure()?;
    let podflare = binaries::build()?.join("podflare");
    let python = venv::python()?;
    let scripts = root().join("scripts");
    let state = target().join("soak/state");
    step("consecutive starts on a busy machine", || {
        let mut command = Command::new(&python);
        command
            .arg(scripts.join("starts.py"))
            .arg("--cli")
            .arg(&podflare)
            .arg("--state-dir")
            .arg(&state);
        execute(command.args(["--port", "7172", "--count", &options.starts.to_string()]))
    })?;
    let host = PrivateHost::start(podflare, "soak", 7172)?;
    step("self-checking load", || {
        let mut command = Command::new(&python);
        command
            .arg(scripts.join("soak.py"))
            .arg(&host.url)
            .arg("--cli")
            .arg(&host.podflare);
        command.arg("--state-dir").arg(&host.state);
        command.args(["--minutes", &options.minutes.to_string()]);
        execute(command.args(["--sandboxes", &options.sandboxes.to_string()]))
    })
}
