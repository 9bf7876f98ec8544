//! Runs one piece of shell code in a bash of its own.

mod spare;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use agent_proto::ExecRequest;
use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use crate::children::{Child, Children};
use crate::poll;
use crate::processes::{Tick, signal_started};
use crate::run::{End, Job, Output, Writers};
use crate::services::Config;
pub(crate) use spare::Spares;

/// Code of this length or more is not passed as an argument: the kernel's limit for one is 128 KiB
/// (`MAX_ARG_STRLEN`).
const ARGUMENT_MAX: usize = 100 * 1024;
/// Runs the file that is standard input. Opening it anew starts at its beginning, while the descriptor itself is at
/// the end of the file, so commands in it that read standard input find nothing.
const RUN_STDIN: &str = ". /proc/self/fd/0";

/// A running bash, the leader of its own process group.
#[derive(Debug)]
pub(crate) struct Bash {
    child: Child,
    started: Tick,
    /// Open for as long as it may be read.
    script: Option<File>,
}

impl Bash {
    /// Runs code that must not contain NUL, in the bash that is in stock or in a fresh one.
    pub(crate) fn start(
        children: &Arc<Children>,
        config: &Config,
        spares: &Spares,
        exec: &ExecRequest,
    ) -> io::Result<(Self, Output)> {
        if let Some(begun) = spares.run(config, exec) {
            return Ok(begun);
        }
        let (output, writers) = Output::new()?;
        Ok((Self::fresh(children, config, exec, writers)?, output))
    }

    fn fresh(
        children: &Arc<Children>,
        config: &Config,
        exec: &ExecRequest,
        writers: Writers,
    ) -> io::Result<Self> {
        let started = Tick::now();
        let mut command = config.command(&config.bash);
        command
            .process_group(0)
            .stdout(Stdio::from(writers.stdout))
            .stderr(Stdio::from(writers.stderr));
        if let Some(traceparent) = &exec.traceparent {
            command.env("TRACEPARENT", traceparent);
        }
        pass(&mut command, &exec.code)?;
        let child = children.spawn(&mut command)?;
        Ok(Self {
            child,
            started,
            script: None,
        })
    }
}

fn pass(command: &mut Command, code: &str) -> io::Result<()> {
    if code.len() < ARGUMENT_MAX {
        command.args(["-c", code, "bash"]).stdin(Stdio::null());
        return Ok(());
    }
    let mut file = File::from(memfd_create("code", MemfdFlags::CLOEXEC)?);
    file.write_all(code.as_bytes())?;
    command.args(["-c", RUN_STDIN, "bash"]).stdin(Stdio::from(file));
    Ok(())
}

impl Job for Bash {
    fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.child.as_fd()), None]
    }

    fn ended(&mut self) -> Option<End> {
        let ready = poll::ready_now(&self.child, PollFlags::IN).unwrap_or(PollFlags::empty());
        (!ready.is_empty()).then(|| {
            self.script = None;
            End::Code(self.child.wait().code())
        })
    }

    fn interrupt(&mut self) {
        signal_started(self.child.pid(), self.started, Signal::INT);
        self.child.signal(Signal::INT);
    }

    fn kill_children(&mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        signal_started(self.child.pid(), self.started, Signal::KILL);
        self.child.signal(Signal::KILL);
    }
}
