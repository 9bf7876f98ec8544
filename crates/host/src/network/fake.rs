//! A network process within this one: it does what it is told, remembers it, and sends nothing anywhere.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use egress::Policy;
use net_proto::{
    Command, Counters, LogEntry, LogPage, NetStats, Outcome, Reply, Request, Secret, VERSION, WireId,
    WireStats,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::program::{NetdFiles, NetdSpawner};
use crate::vm::{ProcessName, VmmProcess};

/// Beyond the numbers of real processes.
const FIRST_PID: u32 = 5_000_000;

/// Starts network processes that are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeNetd {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    started: AtomicU32,
    running: Mutex<Option<Running>>,
    state: Mutex<State>,
    /// It takes requests and answers none.
    deaf: AtomicBool,
    /// It cannot be started.
    missing: AtomicBool,
    /// The operator wants none.
    unwanted: AtomicBool,
    runtime: OnceLock<Handle>,
}

#[derive(Clone, Debug)]
struct Running {
    pid: u32,
    ended: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) wires: BTreeMap<WireId, FakeWire>,
    /// What it was told, in words, oldest first.
    pub(crate) told: Vec<String>,
    pub(crate) totals: Counters,
}

#[derive(Debug)]
pub(crate) struct FakeWire {
    pub(crate) policy: Policy,
    pub(crate) clone_of: Option<WireId>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) counters: Counters,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) socket: OwnedFd,
}

struct Process(Running, Arc<Inner>);

impl FakeNetd {
    /// It runs on this runtime from now on: it outlives daemons.
    pub(crate) fn live_here(&self) {
        self.inner.runtime.get_or_init(Handle::current);
    }

    /// How often one was started.
    pub(crate) fn starts(&self) -> u32 {
        self.inner.started.load(Ordering::SeqCst)
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.inner.state.lock().unwrap())
    }

    pub(crate) fn policies(&self) -> Vec<(WireId, Policy)> {
        let of = |(wire, one): (&WireId, &FakeWire)| (*wire, one.policy.clone());
        self.with(|state| state.wires.iter().map(of).collect())
    }

    pub(crate) fn policy(&self, wire: WireId) -> Option<Policy> {
        self.with(|state| state.wires.get(&wire).map(|one| one.policy.clone()))
    }

    /// Does not answer any more, or again.
    pub(crate) fn be_deaf(&self, deaf: bool) {
        self.inner.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Cannot be started any more, or again.
    pub(crate) fn be_missing(&self, missing: bool) {
        self.inner.missing.store(missing, Ordering::SeqCst);
    }

    /// The operator wants none from the next daemon on.
    pub(crate) fn be_unwanted(&self) {
        self.inner.unwanted.store(true, Ordering::SeqCst);
    }

    /// Ends the one that runs, as if from outside.
    pub(crate) fn kill(&self) {
        if let Some(running) = self.inner.running.lock().unwrap().as_ref() {
            end(&self.inner, running);
        }
    }

    /// Those that have come over a wire and were not received before.
    pub(crate) fn frames(&self, wire: WireId) -> Vec<Vec<u8>> {
        self.with(|state| {
            let mut frames = Vec::new();
            let mut frame = [0_u8; 64];
            let Some(one) = state.wires.get(&wire) else {
                return frames;
            };
            while let Ok((bytes, _)) = rustix::net::recv(&one.socket, &mut frame[..], RecvFlags::DONTWAIT) {
                if bytes == 0 {
                    break;
                }
                frames.push(frame[..bytes].to_vec());
            }
            frames
        })
    }
}

fn end(inner: &Inner, running: &Running) {
    running.ended.send_replace(true);
    // The kernel closes what a process had.
    inner.state.lock().unwrap().wires.clear();
}

impl NetdSpawner for FakeNetd {
    fn is_wanted(&self) -> bool {
        !self.inner.unwanted.load(Ordering::SeqCst)
    }

    fn takes_secrets(&self) -> bool {
        true
    }

    fn spawn(&self, files: &NetdFiles) -> io::Result<Box<dyn VmmProcess>> {
        if self.inner.missing.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let runtime = self.inner.runtime.get_or_init(Handle::current);
        let _entered = runtime.enter();
        let listener = UnixListener::bind(&files.socket)?;
        let running = Running {
            pid: FIRST_PID + self.inner.started.fetch_add(1, Ordering::SeqCst),
            ended: Arc::new(watch::Sender::new(false)),
        };
        *self.inner.running.lock().unwrap() = Some(running.clone());
        self.inner.state.lock().unwrap().wires.clear();
        let (inner, mut ended) = (Arc::clone(&self.inner), running.ended.subscribe());
        runtime.spawn(async move {
            tokio::select! {
                () = listen(&inner, listener) => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
        Ok(Box::new(Process(running, Arc::clone(&self.inner))))
    }

    fn running(&self, _: &NetdFiles) -> Option<Box<dyn VmmProcess>> {
        let running = self.inner.running.lock().unwrap().clone()?;
        let alive = !*running.ended.borrow();
        alive.then(|| Box::new(Process(running, Arc::clone(&self.inner))) as Box<dyn VmmProcess>)
    }
}

impl VmmProcess for Process {
    fn name(&self) -> ProcessName {
        ProcessName {
            pid: self.0.pid,
            started: 1,
        }
    }

    fn exited(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            let mut ended = self.0.ended.subscribe();
            drop(ended.wait_for(|ended| *ended).await);
            "was killed by signal 9".to_owned()
        })
    }

    fn kill(&mut self) {
        end(&self.1, &self.0);
    }

    fn give_way(&mut self, _gives: bool) {}
}

async fn listen(inner: &Inner, listener: UnixListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // One daemon at a time.
        serve(inner, stream).await;
    }
}

async fn serve(inner: &Inner, mut stream: UnixStream) {
    let (mut buffer, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        while let Some((request, used)) = net_proto::decode::<Request>(&buffer).unwrap() {
            buffer.drain(..used);
            assert_eq!(request.version, VERSION);
            let outcome = inner
                .state
                .lock()
                .unwrap()
                .obey(request.command, &mut descriptors);
            let reply = Reply {
                id: request.id,
                outcome,
            };
            if inner.deaf.load(Ordering::SeqCst) {
                continue;
            }
            if stream
                .write_all(&net_proto::encode(&reply).unwrap())
                .await
                .is_err()
            {
                return;
            }
        }
        let received = stream.async_io(Interest::READABLE, || {
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let message = recvmsg(
                &stream,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let mut received = Vec::new();
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    received.extend(rights);
                }
            }
            Ok((bytes[..message.bytes].to_vec(), received))
        });
        match received.await {
            Ok((bytes, more)) if !bytes.is_empty() => {
                buffer.extend(bytes);
                descriptors.extend(more);
            }
            _ => return,
        }
    }
}

impl State {
    fn obey(&mut self, command: Command, descriptors: &mut Vec<OwnedFd>) -> Outcome {
        match command {
            Command::Hello => Outcome::Welcome {
                wires: self.wires.keys().copied().collect(),
            },
            Command::Attach(attach) => {
                let policy = serde_json::to_string(&attach.policy).unwrap();
                self.told.push(format!(
                    "attach {} {policy} of {:?}",
                    attach.wire, attach.clone_of
                ));
                assert_eq!(descriptors.len(), 1, "an end comes with each wire");
                let secrets = attach.clone_of.and_then(|parent| self.wires.get(&parent));
                let wire = FakeWire {
                    policy: attach.policy,
                    clone_of: attach.clone_of,
                    secrets: secrets.map(|parent| parent.secrets.clone()).unwrap_or_default(),
                    counters: Counters::default(),
                    log: Vec::new(),
                    socket: descriptors.remove(0),
                };
                self.wires.insert(attach.wire, wire);
                Outcome::Done
            }
            Command::SetPolicy { wire, policy } => {
                let text = serde_json::to_string(&policy).unwrap();
                self.told.push(format!("policy {wire} {text}"));
                self.change(wire, |one| one.policy = policy)
            }
            Command::SetSecrets { wire, secrets } => {
                self.told.push(format!("secrets {wire} {}", secrets.len()));
                self.change(wire, |one| one.secrets = secrets)
            }
            Command::Detach { wire } => {
                self.told.push(format!("detach {wire}"));
                self.wires.remove(&wire);
                Outcome::Done
            }
            Command::Log { wire, after, max } => match self.wires.get(&wire) {
                None => Outcome::NoWire,
                Some(one) => Outcome::Log(LogPage {
                    entries: one
                        .log
                        .iter()
                        .filter(|entry| entry.seq > after)
                        .take(usize::from(max))
                        .cloned()
                        .collect(),
                    oldest: one.log.first().map_or(1, |entry| entry.seq),
                    newest: one.log.last().map_or(0, |entry| entry.seq),
                }),
            },
            Command::Stats { wire } => {
                let wanted = self
                    .wires
                    .iter()
                    .filter(|(id, _)| wire.is_none_or(|wire| wire == **id));
                let wires = wanted.map(|(id, one)| WireStats {
                    wire: *id,
                    counters: one.counters,
                });
                Outcome::Stats(NetStats {
                    totals: self.totals,
                    wires: wires.collect(),
                })
            }
        }
    }

    fn change(&mut self, wire: WireId, change: impl FnOnce(&mut FakeWire)) -> Outcome {
        match self.wires.get_mut(&wire) {
            Some(one) => {
                change(one);
                Outcome::Done
            }
            None => Outcome::NoWire,
        }
    }
}
