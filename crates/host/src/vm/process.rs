//! The process of one VM.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::VmFiles;

/// Starts VM processes. Tests put one in its place that needs no KVM.
pub trait VmmSpawner: Send + Sync + 'static {
    /// Starts the process of one VM, which will listen on `<dir>/control.sock`.
    ///
    /// # Errors
    /// The process cannot be started.
    fn spawn(&self, dir: &Path) -> io::Result<Box<dyn VmmProcess>>;
}

/// A VM process that was started.
pub trait VmmProcess: Send + Sync {
    fn pid(&self) -> u32;

    /// Waits for the end of the process and says how it ended, e.g. `was killed by signal 9`. May be called again.
    fn exited(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;

    /// Ends it at once, with all it started. Does nothing when it has ended already.
    fn kill(&mut self);
}

/// The real thing: `podflare-vmm run --dir DIR`.
#[derive(Clone, Debug)]
pub struct VmmProgram {
    pub path: PathBuf,
}

struct Running {
    child: Child,
    pid: u32,
}

impl VmmSpawner for VmmProgram {
    fn spawn(&self, dir: &Path) -> io::Result<Box<dyn VmmProcess>> {
        let stderr = File::create(VmFiles::stderr(dir))?;
        // No `kill_on_drop` and no parent-death signal: a VM outlives its daemon, and the next one decides.
        let child = Command::new(&self.path)
            .arg("run")
            .arg("--dir")
            .arg(dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        Ok(Box::new(Running { child, pid }))
    }
}

impl VmmProcess for Running {
    fn pid(&self) -> u32 {
        self.pid
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
        if let Err(error) = killpg(Pid::from_raw(pid), Signal::SIGKILL) {
            tracing::warn!(pid, %error, "cannot kill a VM process group");
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
