//! Runs the tools that build things: output goes to a log file, and its end into the error.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

/// Lines of output that an error shows.
const TAIL_LINES: usize = 15;
/// Where system tools are although they may be missing from an ordinary user's PATH.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Why a tool did not do its work.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("cannot write the log {}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot follow {program}")]
    Follow { program: String, source: io::Error },
    #[error("{program} failed ({status}); its last lines (all in {}):\n{tail}", log.display())]
    Failed {
        program: String,
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
}

/// A tool's run with its output, both streams together, written to `log`.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    program: &'a str,
    arguments: Vec<OsString>,
    variables: Vec<(&'a str, OsString)>,
    log: &'a Path,
}

impl<'a> Tool<'a> {
    pub(crate) fn new(program: &'a str, log: &'a Path) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            variables: Vec::new(),
            log,
        }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &'a str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs the tool to its end, showing each line of output to `on_line`.
    pub(crate) fn run(self, mut on_line: impl FnMut(&str)) -> Result<(), CommandError> {
        let program = self.program.to_owned();
        let log_failed = |source| CommandError::Log {
            path: self.log.to_owned(),
            source,
        };
        let follow_failed = |source| CommandError::Follow {
            program: program.clone(),
            source,
        };
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(self.log)
            .map_err(log_failed)?;
        let (reader, writer) = io::pipe().map_err(follow_failed)?;

        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(follow_failed)?)
            .stderr(writer);
        let mut child = command.spawn().map_err(|source| CommandError::Start {
            program: program.clone(),
            source,
        })?;
        drop(command); // it holds the pipe's other ends, without which the reader below would never see the end

        let mut tail = VecDeque::with_capacity(TAIL_LINES + 1);
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(follow_failed)? > 0 {
            log.write_all(&line).map_err(log_failed)?;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            on_line(&text);
            tail.push_back(text);
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
            line.clear();
        }
        let status = child.wait().map_err(follow_failed)?;
        if status.success() {
            return Ok(());
        }
        let tail = tail
            .into_iter()
            .map(|line| format!("    {line}"))
            .collect::<Vec<_>>()
            .join("\n");
        Err(CommandError::Failed {
            program,
            status,
            log: self.log.to_owned(),
            tail,
        })
    }

    /// With setpriv(1) at hand, the tool is ended (and cleans up) when we are killed.
    fn command(&self) -> Command {
        let mut command = if find_program("setpriv").is_some() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM", "--", self.program]);
            command
        } else {
            Command::new(self.program)
        };
        command
            .args(&self.arguments)
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Where a program is, looking also where system tools are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|directory| directory.join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for directory in SYSTEM_DIRECTORIES {
        if !path.is_empty() {
            path.push(OsStr::new(":"));
        }
        path.push(directory);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_shown_and_logged() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut lines = Vec::new();
        let tool = Tool::new("sh", &log)
            .args(["-c", "echo one; echo $WORD >&2; printf three"])
            .env("WORD", "two");
        tool.run(|line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\nthree");
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_where_the_rest_is() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let error = Tool::new("sh", &log)
            .args(["-c", "seq 100; exit 3"])
            .run(|_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("    100"),
            "{error}"
        );
        assert!(
            !error.contains("    80\n") && error.contains(log.to_str().unwrap()),
            "{error}"
        );
    }
}
