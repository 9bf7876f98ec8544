//! VM processes without VMs: each speaks `vmm-proto` on its control socket and `agent-proto` behind its vsock socket,
//! and runs a script of a few words instead of code.

mod guest;
mod terminals;
mod vm;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use vmm_proto::{RestoreConfig, VmConfig};

use crate::vm::{Code, ProcessName, VmmProcess, VmmSpawner};

use vm::{Origin, Vm};

/// Number of the first process; beyond those of any real one.
const FIRST_PID: u32 = 4_000_000;

/// How a simulated VM comes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Boot {
    #[default]
    Normal,
    /// The agent never calls.
    Silent,
    /// The guest panics before its agent calls.
    Panics,
    /// The process exits before it answers.
    Exits,
    /// The agent does not take its identity.
    RefusesIdentity,
    /// The agent says something that is no message.
    Garbage,
}

/// What goes wrong with snapshots and clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// So many snapshots turn out to be made by another version.
    pub(crate) unusable: u32,
    /// Snapshots cannot be written.
    pub(crate) no_snapshot: bool,
    /// So many clones do not take their identity.
    pub(crate) nameless: u32,
    /// A VM makes one clone less than it is asked for.
    pub(crate) fewer: bool,
    /// A VM that is asked for clones makes them and dies before it tells.
    pub(crate) dies_cloning: bool,
    /// Why VMs are not frozen.
    pub(crate) no_freeze: Option<&'static str>,
    /// A VM that is frozen dies of it.
    pub(crate) dies_freezing: bool,
    /// A VM tells of more than it has written.
    pub(crate) boasts: bool,
    /// VMs lie over a memory that nobody has kept, unless they are written whole.
    pub(crate) lies_over_nothing: bool,
    /// So many frozen VMs cannot go on here.
    pub(crate) unthawable: u32,
}

/// Starts simulated VM processes, and counts what they see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulation {
    pub(crate) boot: Arc<Mutex<Boot>>,
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) seen: Arc<Seen>,
    processes: Arc<Mutex<HashMap<u32, Known>>>,
    /// Their ends of wires.
    wires: Arc<Mutex<HashMap<u32, OwnedFd>>>,
    spawned: Arc<AtomicU32>,
    /// Where the first process was started: processes outlive a daemon whose runtime ends.
    runtime: Arc<OnceLock<Handle>>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) alive: AtomicU32,
    pub(crate) booting_at_once_max: AtomicU32,
    booting: AtomicU32,
    pub(crate) connections: AtomicU32,
    /// Runs whose connection was closed under them.
    pub(crate) cancelled: AtomicU32,
    /// Runs that wait to be let go have been.
    let_go: AtomicBool,
    pub(crate) boots: AtomicU32,
    pub(crate) clones: AtomicU32,
    pub(crate) snapshots: AtomicU32,
    /// What a guest was last told to leave free of its disk.
    pub(crate) leave_bytes: AtomicU64,
    pub(crate) freezes: AtomicU32,
    pub(crate) thaws: AtomicU32,
    /// How the memory began over which each of them lay.
    pub(crate) thawed_over: Mutex<Vec<Option<u8>>>,
    pub(crate) configs: Mutex<Vec<VmConfig>>,
    pub(crate) restores: Mutex<Vec<RestoreConfig>>,
}

/// How the process ended; empty while it runs.
type Ending = watch::Sender<String>;

#[derive(Debug)]
struct Known {
    parent: u32,
    ended: Arc<Ending>,
    task: AbortHandle,
}

struct Process {
    pid: u32,
    ended: Arc<Ending>,
    task: AbortHandle,
}

impl Simulation {
    fn runtime(&self) -> &Handle {
        self.runtime.get_or_init(Handle::current)
    }

    /// Runs that wait until they are let go go on, those to come too.
    pub(crate) fn let_go(&self) {
        self.seen.let_go.store(true, Ordering::SeqCst);
    }

    fn has_let_go(&self) -> bool {
        self.seen.let_go.load(Ordering::SeqCst)
    }

    /// Processes run on this runtime from now on.
    pub(crate) fn live_here(&self) {
        self.runtime();
    }

    /// Kills a process, as if from outside.
    pub(crate) fn kill(&self, pid: u32) {
        let processes = self.processes.lock().unwrap();
        let known = &processes[&pid];
        known.task.abort();
        end(&known.ended, "was killed by signal 9");
    }

    pub(crate) fn has_ended(&self, pid: u32) -> bool {
        !self.processes.lock().unwrap()[&pid].ended.borrow().is_empty()
    }

    /// Sends a frame from the guest of this process; false when its wire leads nowhere.
    pub(crate) fn send_frame(&self, pid: u32, frame: &[u8]) -> bool {
        let wires = self.wires.lock().unwrap();
        wires
            .get(&pid)
            .is_some_and(|wire| rustix::net::send(wire, frame, rustix::net::SendFlags::NOSIGNAL).is_ok())
    }

    pub(crate) fn children_of(&self, parent: u32) -> Vec<u32> {
        let processes = self.processes.lock().unwrap();
        let children = processes.iter().filter(|(_, known)| known.parent == parent);
        children.map(|(pid, _)| *pid).collect()
    }

    /// Ends processes that nobody knows of, as the reaper would after a while.
    pub(crate) fn kill_all(&self) {
        let pids: Vec<u32> = self.processes.lock().unwrap().keys().copied().collect();
        pids.into_iter().for_each(|pid| self.kill(pid));
    }

    /// The newest process that has made clones, while it lives.
    pub(crate) fn newest_parent(&self) -> Option<u32> {
        let processes = self.processes.lock().unwrap();
        let alive = |pid: &u32| {
            processes
                .get(pid)
                .is_some_and(|known| known.ended.borrow().is_empty())
        };
        processes.values().map(|known| known.parent).filter(alive).max()
    }

    fn start(&self, parent: u32, origin: Origin) -> Process {
        let pid = FIRST_PID + self.spawned.fetch_add(1, Ordering::SeqCst);
        let ended = Arc::new(watch::Sender::new(String::new()));
        let vm = Vm {
            simulation: self.clone(),
            pid,
            boot: *self.boot.lock().unwrap(),
            ended: Arc::clone(&ended),
        };
        self.seen.alive.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(self.clone(), pid);
        let task = self
            .runtime()
            .spawn(async move {
                let _alive = alive;
                vm.run(origin).await;
            })
            .abort_handle();
        let known = Known {
            parent,
            ended: Arc::clone(&ended),
            task: task.clone(),
        };
        self.processes.lock().unwrap().insert(pid, known);
        Process { pid, ended, task }
    }
}

impl VmmSpawner for Simulation {
    fn spawn(&self, dir: &Path, _: Code) -> io::Result<Box<dyn VmmProcess>> {
        Ok(Box::new(self.start(0, Origin::Started(dir.to_owned()))))
    }

    fn program(&self) -> Option<std::path::PathBuf> {
        None
    }

    fn watch(&self, pid: u32, parent: u32) -> io::Result<Box<dyn VmmProcess>> {
        let processes = self.processes.lock().unwrap();
        let known = processes.get(&pid).filter(|known| known.parent == parent);
        let known = known.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(known.process(pid)))
    }

    fn running(&self, _: &Path) -> Vec<ProcessName> {
        let processes = self.processes.lock().unwrap();
        let running = processes
            .iter()
            .filter(|(_, known)| known.ended.borrow().is_empty());
        running.map(|(pid, _)| name(*pid)).collect()
    }

    fn adopt(&self, name: ProcessName) -> io::Result<Box<dyn VmmProcess>> {
        let processes = self.processes.lock().unwrap();
        let known = processes.get(&name.pid);
        let known = known.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(known.process(name.pid)))
    }
}

fn name(pid: u32) -> ProcessName {
    ProcessName { pid, started: 1 }
}

impl Known {
    fn process(&self, pid: u32) -> Process {
        Process {
            pid,
            ended: Arc::clone(&self.ended),
            task: self.task.clone(),
        }
    }
}

impl VmmProcess for Process {
    fn name(&self) -> ProcessName {
        name(self.pid)
    }

    fn exited(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            let mut ended = self.ended.subscribe();
            ended.wait_for(|how| !how.is_empty()).await.unwrap().clone()
        })
    }

    fn kill(&mut self) {
        self.task.abort();
        end(&self.ended, "was killed by signal 9");
    }

    fn give_way(&mut self, _gives: bool) {}
}

fn end(ended: &Ending, how: &str) {
    ended.send_if_modified(|is| {
        let first = is.is_empty();
        if first {
            how.clone_into(is);
        }
        first
    });
}

/// Counts the process out, and closes its connections, however it ends.
struct Alive(Simulation, u32);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.wires.lock().unwrap().remove(&self.1);
        self.0.seen.alive.fetch_sub(1, Ordering::SeqCst);
    }
}
