//! Directories of VMs: made before they are needed, removed after nobody waits for it.
//!
//! Making a directory with its sockets and files takes about as long as cloning a VM, and removing a large disk
//! layer takes longer. Neither may stand between a request and its VM, so a few furnished homes are kept in stock,
//! and homes that are given up are removed by a thread of their own.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use egress::Policy;
use tokio::sync::Notify;

use super::cgroups::{Cgroups, Group};
use super::files::VmFiles;
use super::roster::{Roster, Ticket};
use crate::network::{Wire, WireLink, Wires};
use crate::storage::{self, make_private};

/// Furnished homes kept ready: enough for the clones of one request of the usual size, and a few creations beside it.
const STOCK: usize = 12;
/// Disk layers kept ready for VMs that are cloned and must not write to what their clones now share.
const LAYERS: usize = 4;

/// How often and how long a control group is waited for to be empty.
const LEAVE_TRIES: u32 = 20;
const LEAVE_PAUSE: Duration = Duration::from_millis(50);

/// Longest name of a directory, in bytes: more VMs than anybody starts.
pub(crate) const NAME_BYTES_MAX: usize = 10;

pub(crate) struct Homes {
    vms: PathBuf,
    roster: Roster,
    wires: Arc<Wires>,
    next: AtomicU64,
    stock: Mutex<Stock>,
    taken: Notify,
    /// Where processes of VMs are limited, if the host allows it.
    cgroups: OnceLock<Cgroups>,
    removals: mpsc::Sender<Doomed>,
    /// Directories that wait to be removed.
    doomed: Arc<AtomicU64>,
}

/// A directory to be removed with its control group, and its place on the roster.
type Doomed = (PathBuf, Option<Arc<Group>>, Ticket<OsString>);

#[derive(Default)]
struct Stock {
    homes: Vec<Furnished>,
    layers: Vec<File>,
    closed: bool,
}

/// One VM's directory. Dropping it removes it, soon.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) files: VmFiles,
    /// None for a VM that never runs, or whose guest is nobody's.
    wire: Option<Wire>,
    wires: Arc<Wires>,
    group: Option<Arc<Group>>,
    ticket: Option<Ticket<OsString>>,
    roster: Roster,
    removals: mpsc::Sender<Doomed>,
    doomed: Arc<AtomicU64>,
}

/// A directory with all that a clone is given: see [`vmm_proto::CloneConfig`].
#[derive(Debug)]
pub(crate) struct Furnished {
    pub(crate) home: Home,
    pub(crate) control: UnixListener,
    pub(crate) vsock: UnixListener,
    /// Has no name any more, so its room is free again as soon as the last VM that reads it is gone.
    pub(crate) layer: File,
    pub(crate) console: File,
    /// The VM's end of the home's wire.
    pub(crate) wire: OwnedFd,
}

impl Homes {
    /// Homes under `vms`; those that are there already have names below `first`.
    pub(crate) fn new(vms: PathBuf, roster: Roster, wires: Arc<Wires>, first: u64) -> Arc<Self> {
        let (removals, coming) = mpsc::channel();
        let doomed = Arc::new(AtomicU64::new(0));
        let waiting = Arc::clone(&doomed);
        // Ends when the last home is gone, and the last sender with it.
        let remover = thread::Builder::new()
            .name("remove-homes".to_owned())
            .spawn(move || {
                for one in coming {
                    remove(one);
                    waiting.fetch_sub(1, Ordering::Relaxed);
                }
            });
        if let Err(error) = remover {
            tracing::error!(%error, "cannot start the thread that removes directories of VMs");
        }
        Arc::new(Self {
            vms,
            roster,
            wires,
            next: AtomicU64::new(first),
            stock: Mutex::default(),
            taken: Notify::new(),
            cgroups: OnceLock::new(),
            removals,
            doomed,
        })
    }

    /// From now on processes of VMs are limited.
    pub(crate) fn limit_with(&self, cgroups: Cgroups) {
        drop(self.cgroups.set(cgroups));
    }

    /// Directories that wait to be removed, or are being removed.
    pub(crate) fn doomed(&self) -> u64 {
        self.doomed.load(Ordering::Relaxed)
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// An empty directory, for a VM that is booted or restored and makes its files itself.
    pub(crate) fn empty(&self) -> io::Result<Home> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let home = self.existing(name.into());
        make_private(&home.files.dir)?;
        Ok(home)
    }

    /// The same, for a VM that is to have a network: [`super::connect`] gives it its wire.
    pub(crate) fn wired(&self) -> io::Result<Home> {
        let mut home = self.empty()?;
        home.wire = Some(self.wires.make_lost(Policy::Closed));
        Ok(home)
    }

    pub(crate) fn wires(&self) -> &Arc<Wires> {
        &self.wires
    }

    /// A directory that a daemon before this one has left.
    pub(crate) fn existing(&self, name: OsString) -> Home {
        let dir = self.vms.join(&name);
        let group = self.cgroups.get().and_then(|cgroups| {
            let made = cgroups.group(&name.to_string_lossy());
            made.inspect_err(|error| tracing::warn!(%error, "cannot make a VM's control group"))
                .ok()
        });
        Home {
            files: VmFiles { dir },
            wire: None,
            wires: Arc::clone(&self.wires),
            group: group.map(Arc::new),
            ticket: Some(self.roster.add_dir(name)),
            roster: self.roster.clone(),
            removals: self.removals.clone(),
            doomed: Arc::clone(&self.doomed),
        }
    }

    /// Homes for clones, and the layer their parent goes on with.
    pub(crate) async fn furnished(self: &Arc<Self>, count: usize) -> io::Result<(File, Vec<Furnished>)> {
        let (layer, mut homes) = {
            let mut stock = self.stock();
            let rest = stock.homes.len().saturating_sub(count);
            (stock.layers.pop(), stock.homes.split_off(rest))
        };
        self.taken.notify_one();
        let missing = count - homes.len();
        if missing == 0
            && let Some(layer) = layer
        {
            return Ok((layer, homes));
        }
        let this = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let layer = layer.map_or_else(|| this.layer(), Ok)?;
            let more: io::Result<Vec<_>> = (0..missing).map(|_| this.furnish()).collect();
            Ok::<_, io::Error>((layer, more?))
        });
        let (layer, more) = made.await.map_err(io::Error::other)??;
        homes.extend(more);
        Ok((layer, homes))
    }

    /// Fills the stock up whenever something was taken. Never ends.
    pub(crate) async fn keep_stocked(self: Arc<Self>) {
        loop {
            let this = Arc::clone(&self);
            let filled = tokio::task::spawn_blocking(move || this.fill()).await;
            if let Ok(Err(error)) = filled {
                tracing::error!(%error, "cannot make a directory for a VM");
            }
            self.taken.notified().await;
        }
    }

    /// Gives up the stock, for good.
    pub(crate) fn close(&self) {
        *self.stock() = Stock {
            closed: true,
            ..Stock::default()
        };
    }

    /// Homes that nobody lives in yet.
    #[cfg(test)]
    pub(crate) fn in_stock(&self) -> usize {
        self.stock().homes.len()
    }

    fn fill(&self) -> io::Result<()> {
        loop {
            let (closed, homes, layers) = {
                let stock = self.stock();
                (stock.closed, stock.homes.len(), stock.layers.len())
            };
            if closed {
                return Ok(());
            }
            if layers < LAYERS {
                let layer = self.layer()?;
                self.stock().layers.push(layer);
            } else if homes < STOCK {
                let home = self.furnish()?;
                let mut stock = self.stock();
                if !stock.closed {
                    stock.homes.push(home);
                }
            } else {
                return Ok(());
            }
        }
    }

    fn furnish(&self) -> io::Result<Furnished> {
        let mut home = self.empty()?;
        let (wire, end) = self.wires.make()?;
        home.wire = Some(wire);
        let files = &home.files;
        Ok(Furnished {
            control: UnixListener::bind(files.control_socket())?,
            vsock: UnixListener::bind(files.vsock_socket())?,
            layer: nameless(&files.disk_layer())?,
            console: new_file(&files.console())?,
            wire: end,
            home,
        })
    }

    fn layer(&self) -> io::Result<File> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        nameless(&self.vms.join(format!("{number}.layer")))
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    pub(crate) fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    /// For others who are to see and change what its VM may reach.
    pub(crate) fn wire_link(&self) -> WireLink {
        let of = |wire: &Wire| wire.link().clone();
        self.wire
            .as_ref()
            .map_or_else(|| WireLink::nowhere(&self.wires), of)
    }

    /// Its VM has this wire.
    pub(crate) fn take_wire(&mut self, wire: Wire) {
        self.wire = Some(wire);
    }

    /// Waits until its VM needs another wire. Never ends for one that has none.
    pub(crate) async fn wire_lost(&self) {
        match &self.wire {
            Some(wire) => wire.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Limits the process of this VM from now on. One system call; a VM is not worth less without it.
    pub(crate) fn admit(&self, pid: u32) {
        if let Some(group) = &self.group
            && let Err(error) = group.admit(pid)
        {
            tracing::warn!(pid, %error, "cannot limit a VM's process");
        }
    }

    /// How much memory its guest has. Nobody waits for it.
    pub(crate) fn limit(&self, ram_mib: u32) {
        if let Some(group) = self.group.clone() {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = group.limit(ram_mib) {
                    tracing::warn!(%error, "cannot limit a VM's memory");
                }
            });
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && !self.roster.is_left()
        {
            // Fails only when the thread could not be started, which was said.
            if self
                .removals
                .send((self.files.dir.clone(), self.group.take(), ticket))
                .is_ok()
            {
                self.doomed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The ticket is given back after the directory is gone.
fn remove((dir, group, ticket): Doomed) {
    if let Err(error) = storage::remove(&dir) {
        tracing::error!(%error, dir = %dir.display(), "cannot remove a VM's directory");
    }
    if let Some(group) = group {
        leave(&group);
    }
    drop(ticket);
}

/// A process that was just killed is in its group until the kernel has taken it back.
fn leave(group: &Group) {
    for attempt in 1..=LEAVE_TRIES {
        match group.remove() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < LEAVE_TRIES => {
                thread::sleep(LEAVE_PAUSE);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot remove a VM's control group");
                return;
            }
            Ok(()) => return,
        }
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

fn nameless(path: &Path) -> io::Result<File> {
    let file = new_file(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn furnished_homes_listen_and_are_removed_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::new(dir.path().to_owned(), Roster::default(), Wires::new(), 1);
        homes.fill().unwrap();
        let (_, mut furnished) = homes.furnished(STOCK + 2).await.unwrap();
        assert_eq!(furnished.len(), STOCK + 2);
        let one = furnished.pop().unwrap();
        drop(std::os::unix::net::UnixStream::connect(one.home.files.control_socket()).unwrap());
        assert!(one.home.files.console().exists());
        assert!(!one.home.files.disk_layer().exists());
        let gone = one.home.files.dir.clone();
        drop((one, furnished));
        let started = Instant::now();
        while !homes.roster().has_no_dirs() {
            assert!(
                started.elapsed().as_secs() < 120,
                "waited for directories to be removed"
            );
            thread::sleep(Duration::from_millis(2));
        }
        assert!(!gone.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
