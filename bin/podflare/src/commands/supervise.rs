//! `podflare supervise`: the process that `up` leaves behind. Hidden; people use `up`.
//!
//! Its standard streams are the supervisor's log. It leaves the session of its caller at once, so that neither Ctrl-C nor
//! a closed terminal reaches it, and takes signals itself from then on.

use std::fs;
use std::io;

use nix::unistd::setsid;
use softhost::End;

use crate::artifacts::Request;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::launch::Launch;
use crate::settings::{Directories, SUPERVISOR_LOG};

/// Keep the host described in the run directory running
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stay in the session of the caller
    #[arg(long)]
    foreground: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    if !args.foreground {
        // It fails only for the leader of a process group, which a program started by `up` is not.
        setsid().map_err(|error| Failure::while_doing("session", "cannot leave the session", &error))?;
    }
    let directories = context.directories()?;
    let launch = Launch::read(&directories).ok_or_else(|| {
        Failure::new(
            "no_launch",
            format!("nothing in {} says what to start", directories.run.display()),
        )
        .hint("use `podflare up`")
    })?;
    let request = Request {
        kind: launch.kind,
        directories: &directories,
        binaries: &launch.binaries,
        templates: &launch.options.templates,
        ca_certificates: &launch.options.ca_certificates,
        refresh: false,
        progress: &image::Silent,
    };
    let plan = launch.artifacts.plan(&request, launch.options.memory_mib)?;
    let end = softhost::supervise(&launch.settings(&directories), &plan, &launch.reason)
        .map_err(|error| Failure::because("supervisor", &error))?;
    match end {
        End::Stopped => Ok(Exit::Ok),
        End::Failed(why) => Err(Failure::new("host_failed", why)),
    }
}

/// Makes the log of a new supervisor; that of the one before is kept beside it.
pub(crate) fn new_log(directories: &Directories) -> io::Result<fs::File> {
    let path = directories.run.join(SUPERVISOR_LOG);
    match fs::rename(&path, path.with_extension("log.1")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::File::create(path)
}
