//! The process of one simulated VM: its control socket.

use std::fs;
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_proto::{Ready, Reply, VERSION};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;
use vmm_proto::{
    CloneReport, Command, DESCRIPTORS_PER_CLONE, EndCause, EndReport, Event, FreezeConfig, FreezeReport,
    FromVmm, Outcome, Stats, VmConfig, VmState,
};

use super::guest::{End, Guest, Memory};
use super::{Boot, Ending, Simulation, end};

pub(super) struct Vm {
    pub(super) simulation: Simulation,
    pub(super) pid: u32,
    pub(super) boot: Boot,
    pub(super) ended: Arc<Ending>,
}

pub(super) enum Origin {
    /// By the daemon, with this directory.
    Started(PathBuf),
    Cloned(Box<Clone>),
}

/// What a clone gets from its parent.
pub(super) struct Clone {
    control: std::os::unix::net::UnixListener,
    vsock: std::os::unix::net::UnixListener,
    memory: Memory,
    runs: bool,
}

/// A VM that has been built.
struct Machine {
    control: UnixStream,
    /// For the daemon after this one.
    daemons: UnixListener,
    vsock: UnixListener,
    memory: Arc<Mutex<Memory>>,
    running: watch::Sender<bool>,
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Vm {
    pub(super) async fn run(self, origin: Origin) {
        if self.boot == Boot::Exits {
            return end(&self.ended, "exited with code 3");
        }
        let machine = match origin {
            Origin::Started(dir) => self.start(&dir).await,
            Origin::Cloned(clone) => Some(accept(*clone).await),
        };
        if let Some(machine) = machine {
            self.live(machine).await;
        }
        end(&self.ended, "exited with code 1");
    }

    /// Waits for the command that makes a VM of the process.
    async fn start(&self, dir: &std::path::Path) -> Option<Machine> {
        let control = UnixListener::bind(dir.join("control.sock")).unwrap();
        let (mut stream, _) = control.accept().await.unwrap();
        let (mut buffer, mut descriptors) = (Vec::new(), Vec::new());
        let request = next_request(&mut stream, &mut buffer, &mut descriptors).await?;
        let (memory, vsock, runs) = match request.command {
            Command::Start(config) => {
                self.write_files(&config);
                let vsock = config.vsock.socket.clone();
                self.simulation.seen.configs.lock().unwrap().push(*config);
                (Memory::default(), vsock, true)
            }
            Command::Restore(config) => {
                let unusable = {
                    let mut faults = self.simulation.faults.lock().unwrap();
                    let unusable = faults.unusable > 0;
                    faults.unusable = faults.unusable.saturating_sub(1);
                    unusable
                };
                if unusable {
                    let why = Outcome::Unusable("made by another version".to_owned());
                    send(&mut stream, reply(request.id, why)).await;
                    return None;
                }
                let state = fs::read(config.snapshot.join("state")).unwrap();
                let vsock = config.vsock.socket.clone();
                fs::write(&config.console.log, "").unwrap();
                if let Some(file) = &config.working_set {
                    assert_eq!(fs::read(file).unwrap(), b"pages");
                }
                self.simulation.seen.restores.lock().unwrap().push(*config);
                (Memory::from_snapshot(&state), vsock, false)
            }
            Command::Thaw(config) => {
                self.simulation.seen.thaws.fetch_add(1, Ordering::SeqCst);
                let unfit = {
                    let mut faults = self.simulation.faults.lock().unwrap();
                    let unfit = faults.unthawable > 0;
                    faults.unthawable = faults.unthawable.saturating_sub(1);
                    unfit
                };
                if unfit {
                    let why = Outcome::Unusable("it was made for another CPU".to_owned());
                    send(&mut stream, reply(request.id, why)).await;
                    return None;
                }
                let under = fs::File::open(config.restore.snapshot.join("memory")).ok();
                let under = under.map(|file| {
                    let mut first = [0];
                    file.read_exact_at(&mut first, 0).unwrap();
                    first[0]
                });
                self.simulation.seen.thawed_over.lock().unwrap().push(under);
                let state = fs::read(config.space.join("state")).unwrap();
                fs::write(&config.restore.console.log, "").unwrap();
                (
                    Memory::from_snapshot(&state),
                    config.restore.vsock.socket.clone(),
                    false,
                )
            }
            other => panic!("the first command is not {other:?}"),
        };
        let ready = vsock.with_file_name("vsock_1025");
        let machine = Machine {
            vsock: UnixListener::bind(&vsock).unwrap(),
            control: stream,
            daemons: control,
            memory: Arc::new(Mutex::new(memory)),
            running: watch::Sender::new(runs),
            buffer,
            descriptors,
        };
        let mut machine = machine;
        send(&mut machine.control, reply(request.id, Outcome::Done)).await;
        if runs {
            self.boot(&ready, &mut machine).await;
        }
        Some(machine)
    }

    fn write_files(&self, config: &VmConfig) {
        let console = "Linux version 6.12\nKernel panic - not syncing: test\n";
        fs::write(&config.console.log, console).unwrap();
        fs::write(&config.disk.layer, "layer").unwrap();
    }

    async fn boot(&self, ready: &std::path::Path, machine: &mut Machine) {
        let seen = &self.simulation.seen;
        seen.boots.fetch_add(1, Ordering::SeqCst);
        let booting = seen.booting.fetch_add(1, Ordering::SeqCst) + 1;
        seen.booting_at_once_max.fetch_max(booting, Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
        seen.booting.fetch_sub(1, Ordering::SeqCst);
        match self.boot {
            Boot::Silent | Boot::Exits => {}
            Boot::Panics => machine.memory.lock().unwrap().panics = true,
            Boot::Garbage => {
                let mut caller = UnixStream::connect(ready).await.unwrap();
                caller.write_all(&[0xff; 64]).await.unwrap();
            }
            Boot::Normal | Boot::RefusesIdentity => {
                let mut caller = UnixStream::connect(ready).await.unwrap();
                let word = Reply::Ready(Ready {
                    version: VERSION,
                    uptime_ms: 5,
                });
                caller.write_all(&word.encode().unwrap()).await.unwrap();
            }
        }
    }

    async fn live(&self, mut machine: Machine) {
        // How this VM ends, sent by its guest.
        let panics = std::mem::take(&mut machine.memory.lock().unwrap().panics);
        let cause = watch::Sender::new(panics.then_some(End::Reported(EndCause::GuestPanic)));
        let mut ends = cause.subscribe();
        let terminal_news = watch::Sender::new(());
        // Dropped with this future, and with it every connection.
        let mut guests = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = machine.vsock.accept() => {
                    self.simulation.seen.connections.fetch_add(1, Ordering::SeqCst);
                    let guest = Guest {
                        boot: self.boot,
                        simulation: self.simulation.clone(),
                        memory: Arc::clone(&machine.memory),
                        running: machine.running.subscribe(),
                        cause: cause.clone(),
                        terminal_news: terminal_news.clone(),
                    };
                    guests.spawn(guest.serve(accepted.unwrap().0));
                }
                request = next_request(
                    &mut machine.control, &mut machine.buffer, &mut machine.descriptors
                ) => {
                    let Some(request) = request else {
                        // The daemon is gone. Another may come.
                        (machine.buffer, machine.descriptors) = (Vec::new(), Vec::new());
                        let Ok((control, _)) = machine.daemons.accept().await else { break };
                        machine.control = control;
                        continue;
                    };
                    let outcome = match self.obey(request.command, &mut machine) {
                        Ok(outcome) => outcome,
                        Err(End::Reported(cause)) => {
                            drop(ends.borrow_and_update());
                            self.report(&mut machine, cause).await;
                            break;
                        }
                        Err(End::Crash) => break,
                    };
                    send(&mut machine.control, reply(request.id, outcome)).await;
                }
                end = async { ends.wait_for(Option::is_some).await.unwrap().clone() } => {
                    if let Some(End::Reported(cause)) = end {
                        self.report(&mut machine, cause).await;
                    }
                    break;
                }
            }
        }
    }

    fn obey(&self, command: Command, machine: &mut Machine) -> Result<Outcome, End> {
        Ok(match command {
            Command::Stats => Outcome::Stats(stats(*machine.running.borrow())),
            Command::Pause => {
                machine.running.send_replace(false);
                Outcome::Done
            }
            Command::Resume => {
                machine.running.send_replace(true);
                Outcome::Done
            }
            Command::Stop => return Err(End::Reported(EndCause::Stopped)),
            Command::Snapshot { dir } => {
                assert!(!*machine.running.borrow(), "only a paused VM is snapshot");
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
                if self.simulation.faults.lock().unwrap().no_snapshot {
                    return Ok(Outcome::Failed("no room for a snapshot".to_owned()));
                }
                self.simulation.seen.snapshots.fetch_add(1, Ordering::SeqCst);
                fs::write(dir.join("state"), machine.memory.lock().unwrap().snapshot()).unwrap();
                Outcome::Done
            }
            Command::RecordWorkingSet { file } => {
                assert!(!*machine.running.borrow(), "only a paused VM is looked at");
                let mut file = fs::File::create_new(file).unwrap();
                file.write_all(b"pages").unwrap();
                Outcome::Done
            }
            Command::Clone(config) => {
                let faults = self.simulation.faults.lock().unwrap().clone();
                let given = std::mem::take(&mut machine.descriptors);
                assert_eq!(given.len(), 1 + DESCRIPTORS_PER_CLONE * usize::from(config.count));
                let mut given = given.into_iter().skip(1);
                let mut pids = Vec::new();
                for made in 0..config.count {
                    if faults.fewer && made + 1 == config.count {
                        break;
                    }
                    let mut next = || given.next().unwrap();
                    let clone = Clone {
                        control: next().into(),
                        vsock: next().into(),
                        memory: machine.memory.lock().unwrap().clone(),
                        runs: config.run,
                    };
                    drop((next(), next()));
                    let wire = next();
                    let child = self.simulation.start(self.pid, Origin::Cloned(Box::new(clone)));
                    self.simulation.wires.lock().unwrap().insert(child.pid, wire);
                    self.simulation.seen.clones.fetch_add(1, Ordering::SeqCst);
                    pids.push(child.pid);
                }
                if faults.dies_cloning {
                    return Err(End::Crash);
                }
                Outcome::Cloned(CloneReport {
                    pids,
                    error: faults.fewer.then(|| "no more processes".to_owned()),
                    paused_us: 1000,
                })
            }
            Command::Wire => {
                let mut given = std::mem::take(&mut machine.descriptors);
                assert_eq!(given.len(), 1);
                let wire = given.pop().unwrap();
                self.simulation.wires.lock().unwrap().insert(self.pid, wire);
                Outcome::Done
            }
            Command::Freeze(config) => return self.freeze(config, machine),
            Command::Start(_) | Command::Restore(_) | Command::Thaw(_) => {
                Outcome::Failed("there is a VM already".to_owned())
            }
        })
    }

    fn freeze(&self, config: FreezeConfig, machine: &mut Machine) -> Result<Outcome, End> {
        assert!(!*machine.running.borrow(), "only a paused VM is frozen");
        let given = std::mem::take(&mut machine.descriptors);
        assert_eq!(given.len(), config.descriptors());
        let faults = self.simulation.faults.lock().unwrap().clone();
        self.simulation.seen.freezes.fetch_add(1, Ordering::SeqCst);
        if faults.dies_freezing {
            return Err(End::Crash);
        }
        if let Some(why) = faults.no_freeze {
            return Ok(Outcome::Failed(why.to_owned()));
        }
        let mut files = given.into_iter().map(fs::File::from);
        let mut write = |bytes: &[u8]| {
            let file = files.next().unwrap();
            assert_eq!(file.metadata().unwrap().len(), 0);
            file.write_all_at(bytes, 0).unwrap();
            bytes.len() as u64
        };
        let state = machine.memory.lock().unwrap().snapshot();
        Ok(Outcome::Frozen(FreezeReport {
            base: (faults.lies_over_nothing && !config.whole).then(|| "0".repeat(32)),
            pages_changed: 1,
            runs: 1,
            memory_bytes: write(&[1; 4096]) + u64::from(faults.boasts),
            disk_bytes: write(&[2; 8192]),
            state_bytes: write(&state),
            memory_us: 0,
            disk_us: 0,
        }))
    }

    async fn report(&self, machine: &mut Machine, cause: EndCause) {
        let report = EndReport {
            cause,
            console_tail: String::new(),
            uptime_ms: 1,
        };
        send(&mut machine.control, FromVmm::Event(Event::Ended(report))).await;
    }
}

async fn accept(clone: Clone) -> Machine {
    let tokio = |listener: std::os::unix::net::UnixListener| {
        listener.set_nonblocking(true).unwrap();
        UnixListener::from_std(listener).unwrap()
    };
    let daemons = tokio(clone.control);
    let (control, _) = daemons.accept().await.unwrap();
    Machine {
        control,
        daemons,
        vsock: tokio(clone.vsock),
        memory: Arc::new(Mutex::new(clone.memory)),
        running: watch::Sender::new(clone.runs),
        buffer: Vec::new(),
        descriptors: Vec::new(),
    }
}

async fn next_request(
    stream: &mut UnixStream,
    buffer: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> Option<vmm_proto::Request> {
    loop {
        if let Some((request, used)) = vmm_proto::decode(buffer).unwrap() {
            buffer.drain(..used);
            return Some(request);
        }
        let received = stream.async_io(Interest::READABLE, || {
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let message = recvmsg(
                &*stream,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::empty(),
            )?;
            let mut received = Vec::new();
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    received.extend(rights);
                }
            }
            Ok((bytes[..message.bytes].to_vec(), received))
        });
        let (bytes, received) = received.await.ok()?;
        if bytes.is_empty() {
            return None;
        }
        buffer.extend(bytes);
        descriptors.extend(received);
    }
}

async fn send(stream: &mut UnixStream, message: FromVmm) {
    // The other end may have gone.
    drop(stream.write_all(&vmm_proto::encode(&message).unwrap()).await);
}

fn reply(id: u64, outcome: Outcome) -> FromVmm {
    FromVmm::Reply(vmm_proto::Reply { id, outcome })
}

fn stats(running: bool) -> Stats {
    Stats {
        state: if running {
            VmState::Running
        } else {
            VmState::Paused
        },
        uptime_ms: 77,
        memory_resident_bytes: 1,
        disk_layer_bytes: 2,
        block_reads: 3,
        block_writes: 4,
        block_flushes: 5,
        vsock_rx_bytes: 6,
        vsock_tx_bytes: 7,
        vsock_connections: 8,
        net_rx_packets: 10,
        net_rx_bytes: 11,
        net_rx_dropped: 12,
        net_tx_packets: 13,
        net_tx_bytes: 14,
        net_tx_dropped: 15,
        vcpu_exits: 9,
    }
}
