//! Starts the binary in an environment of its own, and plays the host.

use std::process::{Child, Command, Output, Stdio};

use client::scripted::{Answer, Ending, Request, Scripted};
use tempfile::TempDir;

pub(crate) const ID: &str = "sbx_0123456789abcdef0123456789abcdef";

/// An empty home directory, and optionally a host to talk to.
pub(crate) struct Cli {
    home: TempDir,
    url: Option<String>,
}

/// How a command ended, and what it said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cli {
    /// On a machine where no host runs.
    pub(crate) fn alone() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            url: None,
        }
    }

    pub(crate) fn with(host: &Scripted) -> Self {
        Self {
            url: Some(host.url()),
            ..Self::alone()
        }
    }

    pub(crate) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    /// The command with nothing of the caller's environment but the search path.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podflare"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .current_dir(self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Nothing listens on port 1, so a test never meets a host that happens to run here.
        command.env(
            "PODFLARE_API_URL",
            self.url.as_deref().unwrap_or("http://127.0.0.1:1"),
        );
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.command(arguments).output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("the command was killed by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A host that makes one sandbox, removes it, and answers runs as told.
pub(crate) fn host(run: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Scripted {
    let info = format!(
        r#"{{"id":"{ID}","state":"ready","template":"default","ram_mib":1024,"rootfs_gb":4,"vcpus":1,
            "created_at_ms":0,"persistent":false,"egress":true,"running_execs":0}}"#
    );
    let exec = format!("POST /v1/sandboxes/{ID}/exec");
    let own = format!("/v1/sandboxes/{ID}");
    Scripted::start(move |request| match request.line() {
        line if line == exec => run(request),
        line if line == "POST /v1/sandboxes" || line == format!("GET {own}") => Answer::new(200, &info),
        line if line == "GET /v1/sandboxes" => Answer::new(200, &format!(r#"{{"sandboxes":[{info}]}}"#)),
        line if line == format!("GET {own}/console") => {
            Answer::new(200, "[    0.000000] Linux version 6.12\n")
        }
        line if line.starts_with("DELETE /v1/sandboxes/") => Answer::new(204, ""),
        _ => Answer::new(404, r#"{"error":"sandbox not found","code":"sandbox_not_found"}"#),
    })
    .unwrap()
}

/// The stream of a run: lines of one kind each, then the exit code.
pub(crate) fn output(lines: &[(&str, &str)], code: i32) -> Answer {
    let mut body = String::from("\n");
    for (kind, data) in lines {
        body += &format!("{{\"type\":\"{kind}\",\"data\":\"{data}\",\"seq\":0,\"ts\":1}}\n");
    }
    body += &format!("{{\"type\":\"exit\",\"data\":{code},\"seq\":1,\"ts\":1}}\n");
    Answer::stream(&body, Ending::Chunked)
}
