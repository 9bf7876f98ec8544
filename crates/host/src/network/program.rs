//! The network process: starting it, and finding one that a daemon before this one has started.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ipnet::IpNet;
use tokio::process::Command;

use crate::vm::{VmmProcess, adopt_program, spawned};

/// Where resolvers listen.
const DNS_PORT: u16 = 53;

/// Its files, in a directory of the daemon's.
#[derive(Clone, Debug)]
pub struct NetdFiles {
    /// Where it listens for daemons.
    pub socket: PathBuf,
    /// What it has to say, which the daemon reads and cuts.
    pub output: PathBuf,
}

/// Starts the network process. Tests put one in its place that sends nothing anywhere.
pub trait NetdSpawner: Send + Sync + std::fmt::Debug + 'static {
    /// Whether there is to be one at all. If not, one that an earlier daemon has left is ended.
    fn is_wanted(&self) -> bool;

    /// Starts it; it will listen on its socket.
    ///
    /// # Errors
    /// It cannot be started.
    fn spawn(&self, files: &NetdFiles) -> io::Result<Box<dyn VmmProcess>>;

    /// Whether it can use secrets.
    fn takes_secrets(&self) -> bool;

    /// One that was started on this socket before, and runs.
    fn running(&self, files: &NetdFiles) -> Option<Box<dyn VmmProcess>>;
}

/// What it is told at its start.
#[derive(Clone, Debug, Default)]
pub struct NetdSettings {
    /// It is not started, and sandboxes reach nothing.
    pub off: bool,
    /// Networks that are not public and that sandboxes may reach all the same.
    pub open: Vec<IpNet>,
    /// Networks that no sandbox may reach.
    pub never: Vec<IpNet>,
    /// Whom names are asked of; the machine's own resolvers when empty.
    pub resolvers: Vec<IpAddr>,
    /// Directory of the authority that signs for the hosts of secrets.
    pub authority: Option<PathBuf>,
    /// Whom it becomes, with a group of the same number; it stays who this daemon is when there is none.
    pub user: Option<u32>,
}

/// The real thing: `podflare-netd --control PATH …`.
#[derive(Debug)]
pub struct NetdProgram {
    path: PathBuf,
    settings: NetdSettings,
}

impl NetdFiles {
    pub(super) fn under(dir: &Path) -> Self {
        Self {
            socket: dir.join("netd.sock"),
            output: dir.join("netd.log"),
        }
    }
}

impl NetdProgram {
    #[must_use]
    pub fn new(path: PathBuf, settings: NetdSettings) -> Self {
        Self { path, settings }
    }
}

impl NetdSpawner for NetdProgram {
    fn is_wanted(&self) -> bool {
        !self.settings.off
    }

    fn spawn(&self, files: &NetdFiles) -> io::Result<Box<dyn VmmProcess>> {
        let mut command = Command::new(&self.path);
        command.arg("--control").arg(&files.socket);
        for net in &self.settings.open {
            command.arg("--allow").arg(net.to_string());
        }
        for net in &self.settings.never {
            command.arg("--deny").arg(net.to_string());
        }
        for resolver in &self.settings.resolvers {
            let resolver = SocketAddr::new(*resolver, DNS_PORT);
            command.arg("--resolver").arg(resolver.to_string());
        }
        if let Some(dir) = &self.settings.authority {
            command.arg("--ca-cert").arg(dir.join("authority.crt"));
            command.arg("--ca-key").arg(dir.join("authority.key"));
            let roots = dir.join("roots.pem");
            if roots.exists() {
                command.arg("--roots").arg(roots);
            }
        }
        if let Some(user) = self.settings.user {
            let user = user.to_string();
            command.args(["--uid", &user, "--gid", &user]);
        }
        // As with VMs: it outlives this daemon, and the next one decides.
        let child = command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output(&files.output)?)
            .process_group(0)
            .spawn()?;
        Ok(spawned(child))
    }

    fn takes_secrets(&self) -> bool {
        self.settings.authority.is_some()
    }

    fn running(&self, files: &NetdFiles) -> Option<Box<dyn VmmProcess>> {
        adopt_program("--control", &files.socket)
    }
}

/// Appended to, so that it can be cut while it is written to.
fn output(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}
