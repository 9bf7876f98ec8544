//! The process of one VM.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::files::VmFiles;
use super::kernel;
use super::pidfd::Watched;
use super::roster::{Roster, Ticket};

/// How long a VM process may take to exit once it was killed.
const EXIT_BOUND: Duration = Duration::from_secs(5);
/// How long it lets everybody else run first in that. Taking back the memory of a VM is work, tens of milliseconds for a
/// hundred MiB, and nobody waits for it; but on a host that always has something to do it has to get its turn, too.
const GIVE_WAY: Duration = Duration::from_millis(500);

/// When memory runs out after all, the kernel shall end a VM and not the daemon. Clones inherit it.
const OOM_SCORE: &str = "500";

/// Whose code a VM will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A template's: this host's own, and the VM process has files to write.
    Template,
    /// A user's, in this VM or in clones of it: the process is confined before any of it runs.
    User,
}

/// Starts VM processes, and finds those that a VM has made of itself. Tests put one in its place that needs no KVM.
pub trait VmmSpawner: Send + Sync + 'static {
    /// Starts the process of one VM, which will listen on `<dir>/control.sock`.
    ///
    /// # Errors
    /// The process cannot be started.
    fn spawn(&self, dir: &Path, code: Code) -> io::Result<Box<dyn VmmProcess>>;

    /// The program, when it is a file that snapshots depend on.
    fn program(&self) -> Option<PathBuf>;

    /// Watches a clone, by the number its parent has told.
    ///
    /// # Errors
    /// There is no such process any more, or it is not the parent's child: a VM process may be in the hands of its
    /// guest, and what it names here will be killed one day.
    fn watch(&self, pid: u32, parent: u32) -> io::Result<Box<dyn VmmProcess>>;

    /// VM processes whose directories are, or were, under `vms`, whoever has started them.
    fn running(&self, vms: &Path) -> Vec<ProcessName>;

    /// Takes charge of a process that a daemon before this one has left.
    ///
    /// # Errors
    /// It is gone, or its number is another process's by now.
    fn adopt(&self, name: ProcessName) -> io::Result<Box<dyn VmmProcess>>;
}

/// Which process it is, for as long as the machine is up: a number alone comes around again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessName {
    pub pid: u32,
    /// When it was started, in the kernel's ticks since the machine's start.
    pub started: u64,
}

/// A VM process that was started.
pub trait VmmProcess: Send + Sync {
    fn name(&self) -> ProcessName;

    /// Waits for the end of the process and says how it ended, e.g. `was killed by signal 9`. May be called again.
    fn exited(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;

    /// Ends it at once, with all it started. Does nothing when it has ended already.
    fn kill(&mut self);

    /// Lets everybody else run first, or not any more.
    fn give_way(&mut self, gives: bool);
}

/// The real thing: `podflare-vmm run --dir DIR [--confine-as UID]`.
#[derive(Debug)]
pub struct VmmProgram {
    path: PathBuf,
    confines: bool,
    /// Users given out to VM processes so far.
    users: AtomicU32,
}

/// First of the ids that confined VM processes run under. Far above what distributions and their containers give out.
const USER_FIRST: u32 = 1_900_000_000;
/// The network process's own.
pub const NETWORK_USER: u32 = USER_FIRST - 1;
/// How many there are; then they come around again, long after the processes of the first round have gone.
const USERS: u32 = 100_000_000;

impl VmmProgram {
    /// `confines` is false where the host does not allow it.
    #[must_use]
    pub fn new(path: PathBuf, confines: bool) -> Self {
        Self {
            path,
            confines,
            users: AtomicU32::new(0),
        }
    }
}

/// A VM process that we answer for: dropping it kills it.
pub(crate) struct Process {
    inner: Box<dyn VmmProcess>,
    roster: Roster,
    _ticket: Ticket<u32>,
}

struct Running {
    child: Child,
    name: ProcessName,
}

/// Answers for a program that this daemon has just started, in a process group of its own.
pub(crate) fn spawned(child: Child) -> Box<dyn VmmProcess> {
    let pid = child.id().unwrap_or_default();
    let started = kernel::started(pid).unwrap_or_default();
    let name = ProcessName { pid, started };
    Box::new(Running { child, name })
}

/// Takes charge of a program that was started with this option, whoever has started it.
pub(crate) fn adopt_program(option: &str, value: &Path) -> Option<Box<dyn VmmProcess>> {
    let pid = kernel::programs(option, value).into_iter().next()?;
    let started = kernel::started(pid)?;
    let watched = Watched::named(ProcessName { pid, started }).ok()?;
    Some(Box::new(watched))
}

impl Process {
    pub(crate) fn new(inner: Box<dyn VmmProcess>, roster: &Roster) -> Self {
        let ticket = roster.add_pid(inner.name().pid);
        Self {
            inner,
            roster: roster.clone(),
            _ticket: ticket,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.name().pid
    }

    pub(crate) fn name(&self) -> ProcessName {
        self.inner.name()
    }

    pub(crate) async fn exited(&mut self) -> String {
        self.inner.exited().await
    }

    /// Ends it and waits until the kernel has taken it back.
    pub(crate) async fn end(mut self) {
        self.inner.give_way(true);
        self.inner.kill();
        if timeout(GIVE_WAY, self.inner.exited()).await.is_ok() {
            return;
        }
        self.inner.give_way(false);
        if timeout(EXIT_BOUND, self.inner.exited()).await.is_err() {
            tracing::error!(pid = self.pid(), "a killed VM process does not exit");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.roster.is_left() {
            self.inner.kill();
        }
    }
}

impl VmmSpawner for VmmProgram {
    fn spawn(&self, dir: &Path, code: Code) -> io::Result<Box<dyn VmmProcess>> {
        let files = VmFiles { dir: dir.to_owned() };
        let stderr = File::create(files.stderr())?;
        let mut command = Command::new(&self.path);
        command.arg("run").arg("--dir").arg(dir);
        if self.confines && code == Code::User {
            let user = USER_FIRST + self.users.fetch_add(1, Ordering::Relaxed) % USERS;
            command.arg("--confine-as").arg(user.to_string());
        }
        // No `kill_on_drop` and no parent-death signal: a VM outlives its daemon, and the next one decides.
        let child = command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        if let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE) {
            tracing::debug!(pid, %error, "cannot offer a VM process to the kernel for when memory runs out");
        }
        Ok(spawned(child))
    }

    fn program(&self) -> Option<PathBuf> {
        Some(self.path.clone())
    }

    fn watch(&self, pid: u32, parent: u32) -> io::Result<Box<dyn VmmProcess>> {
        Ok(Box::new(Watched::child_of(parent, pid)?))
    }

    fn running(&self, vms: &Path) -> Vec<ProcessName> {
        let running = kernel::vm_processes(vms).into_iter().filter_map(|pid| {
            // No process started from now on shall have the user of one that runs.
            if let Some(user) = kernel::user(pid)
                && let Some(number) = user.checked_sub(USER_FIRST).filter(|number| *number < USERS)
            {
                self.users.fetch_max(number + 1, Ordering::Relaxed);
            }
            let started = kernel::started(pid)?;
            Some(ProcessName { pid, started })
        });
        running.collect()
    }

    fn adopt(&self, name: ProcessName) -> io::Result<Box<dyn VmmProcess>> {
        Ok(Box::new(Watched::named(name)?))
    }
}

impl VmmProcess for Running {
    fn name(&self) -> ProcessName {
        self.name
    }

    fn exited(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            match self.child.wait().await {
                Ok(status) => say(status),
                Err(error) => format!("cannot be waited for: {error}"),
            }
        })
    }

    fn kill(&mut self) {
        // Once it has been waited for, its number may be somebody else's; then there is no id any more.
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // Clones have groups of their own, so this ends one VM.
        if let Err(error) = killpg(Pid::from_raw(pid), Signal::SIGKILL) {
            tracing::warn!(pid, %error, "cannot kill a VM process group");
        }
    }

    fn give_way(&mut self, gives: bool) {
        if let Some(pid) = self.child.id() {
            kernel::give_way(pid, gives);
        }
    }
}

fn say(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
