//! From a request to a process on a terminal of its own.
//!
//! The process is the leader of a new session, and the terminal is its controlling terminal because a session leader
//! without one gets the first it opens (Linux, `tty_open_proc_set_tty`). `posix_spawn` does both between fork and
//! exec, and reports what goes wrong there. It knows no working directory, so the calling thread goes there first:
//! it must have unshared its own, see [`unshare_directory`].

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_proto::{PtyCreate, PtyProgram, PtySize};
use nix::fcntl::OFlag;
use nix::libc::POSIX_SPAWN_SETSID;
use nix::sched::{CloneFlags, unshare};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use rustix::fs::{Mode as FileMode, OFlags, open};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use thiserror::Error;

use crate::children::{Child, Children};
use crate::services::Config;

/// What programs on our terminals may expect of them.
const TERM: &str = "xterm-256color";

/// Why a session does not begin.
#[derive(Debug, Error)]
pub(super) enum SpawnError {
    #[error("argv: the first argument names no program")]
    NoProgram,
    #[error("{field}: text with a NUL character cannot be passed to a program")]
    Nul { field: &'static str },
    #[error("env: {name:?} is no name of a variable")]
    Variable { name: String },
    #[error("cwd: cannot enter {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("argv: there is no program {program:?} in PATH")]
    NotFound { program: String },
    #[error("cannot execute {program}")]
    Execute { program: String, source: io::Error },
    #[error("cannot make a terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot make a thread for the terminal")]
    Thread(#[source] io::Error),
}

/// A process and its terminal.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) master: OwnedFd,
    /// Kept open while the process lives: else the terminal would seem hung up whenever nobody has it open.
    pub(super) slave: OwnedFd,
}

/// All that `posix_spawn` is given.
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Gives the calling thread a working directory of its own.
pub(super) fn unshare_directory() -> Result<(), SpawnError> {
    unshare(CloneFlags::CLONE_FS).map_err(|error| SpawnError::Thread(error.into()))
}

/// Starts a program; see the module for what the calling thread must have done.
pub(super) fn spawn(
    children: &Arc<Children>,
    config: &Config,
    create: &PtyCreate,
) -> Result<Spawned, SpawnError> {
    let path = config.home.join(create.directory.as_deref().unwrap_or_default());
    std::env::set_current_dir(&path).map_err(|source| SpawnError::Directory { path, source })?;
    let program = Program::new(config, create)?;
    let (master, name) = open_master().map_err(SpawnError::Terminal)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = open(&name, flags, FileMode::empty()).map_err(|error| SpawnError::Terminal(error.into()))?;
    prepare(&slave, create.size).map_err(SpawnError::Terminal)?;
    let child = children
        .adopt(|| execute(&program, &name))
        .map_err(|source| SpawnError::Execute {
            program: program.path.to_string_lossy().into_owned(),
            source,
        })?;
    Ok(Spawned { child, master, slave })
}

pub(super) fn resize(terminal: &OwnedFd, size: PtySize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

impl Program {
    fn new(config: &Config, create: &PtyCreate) -> Result<Self, SpawnError> {
        let mut environment = config.environment.clone();
        environment.push(("TERM".to_owned(), TERM.to_owned()));
        for (name, value) in &create.environment {
            if name.is_empty() || name.contains('=') {
                return Err(SpawnError::Variable { name: name.clone() });
            }
            environment.retain(|(known, _)| known != name);
            environment.push((name.clone(), value.clone()));
        }
        let (path, arguments) = match &create.program {
            PtyProgram::Shell(command) => {
                let bash = config.bash.display().to_string();
                let arguments = vec![bash.clone(), "-lc".to_owned(), command.clone()];
                (bash, arguments)
            }
            PtyProgram::Arguments(arguments) => {
                let name = arguments.first().filter(|name| !name.is_empty());
                let name = name.ok_or(SpawnError::NoProgram)?;
                (find(name, &environment)?, arguments.clone())
            }
        };
        let strings = |field, texts: Vec<String>| -> Result<Vec<CString>, SpawnError> {
            let string = |text| CString::new(text).map_err(|_| SpawnError::Nul { field });
            texts.into_iter().map(string).collect()
        };
        let field = match create.program {
            PtyProgram::Shell(_) => "shellCmd",
            PtyProgram::Arguments(_) => "argv",
        };
        let environment = environment
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            path: CString::new(path).map_err(|_| SpawnError::Nul { field })?,
            arguments: strings(field, arguments)?,
            environment: strings("env", environment.collect())?,
        })
    }
}

/// The file of a program, looked up as `execvp` does, in the program's own `PATH`.
fn find(name: &str, environment: &[(String, String)]) -> Result<String, SpawnError> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let path = environment.iter().find(|(variable, _)| variable == "PATH");
    let directories = path.map(|(_, value)| value.split(':')).into_iter().flatten();
    let is_program = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    directories
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(name))
        .find(is_program)
        .map(|file| file.display().to_string())
        .ok_or_else(|| SpawnError::NotFound {
            program: name.to_owned(),
        })
}

/// The master's end, and the slave's name.
fn open_master() -> io::Result<(OwnedFd, CString)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, name))
}

/// What the program finds set: its window, and that erasing a character erases all bytes of it.
fn prepare(slave: &OwnedFd, size: PtySize) -> io::Result<()> {
    let mut settings = tcgetattr(slave)?;
    settings.input_modes |= InputModes::IUTF8;
    tcsetattr(slave, OptionalActions::Now, &settings)?;
    resize(slave, size)
}

fn execute(program: &Program, terminal: &CString) -> io::Result<Pid> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::from_bits_retain(i32::from(POSIX_SPAWN_SETSID))
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    // Rust programs ignore SIGPIPE, others must not.
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let mut actions = PosixSpawnFileActions::init()?;
    // Not with O_NOCTTY: this is what makes it the controlling terminal.
    actions.add_open(
        io::stdin().as_raw_fd(),
        terminal.as_c_str(),
        OFlag::O_RDWR,
        Mode::empty(),
    )?;
    actions.add_dup2(io::stdin().as_raw_fd(), io::stdout().as_raw_fd())?;
    actions.add_dup2(io::stdin().as_raw_fd(), io::stderr().as_raw_fd())?;
    let pid = posix_spawn(
        program.path.as_c_str(),
        &actions,
        &attributes,
        &program.arguments,
        &program.environment,
    )?;
    Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("a process without a number"))
}
