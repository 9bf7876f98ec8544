//! A VM process without a VM: it speaks `vmm-proto` on its control socket and `agent-proto` behind its vsock socket,
//! and runs a script of a few words instead of code.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_proto::{
    Direction, Exit, Failure, FailureCode, HEADER_LEN, Header, Ready, Reply, Request, VERSION, Welcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;
use vmm_proto::{Command, EndCause, EndReport, Event, FromVmm, Outcome, Stats, VmConfig, VmState};

use crate::vm::{VmmProcess, VmmSpawner};

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

/// Starts simulated VM processes, and counts what they see.
#[derive(Debug, Default)]
pub(crate) struct Simulation {
    pub(crate) boot: Mutex<Boot>,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) alive: AtomicU32,
    pub(crate) booting_at_once_max: AtomicU32,
    booting: AtomicU32,
    pub(crate) connections: AtomicU32,
    /// Runs whose connection was closed under them.
    pub(crate) cancelled: AtomicU32,
    pub(crate) configs: Mutex<Vec<VmConfig>>,
}

/// How the process ended; empty while it runs.
type Ending = watch::Sender<String>;

struct Process {
    ended: Arc<Ending>,
    task: tokio::task::JoinHandle<()>,
}

impl VmmSpawner for Simulation {
    fn spawn(&self, dir: &Path) -> io::Result<Box<dyn VmmProcess>> {
        let ended = Arc::new(watch::Sender::new(String::new()));
        let vm = Vm {
            dir: dir.to_owned(),
            boot: *self.boot.lock().unwrap(),
            seen: Arc::clone(&self.seen),
            ended: Arc::clone(&ended),
        };
        self.seen.alive.fetch_add(1, Ordering::SeqCst);
        let task = tokio::spawn(vm.run());
        Ok(Box::new(Process { ended, task }))
    }
}

impl VmmProcess for Process {
    fn pid(&self) -> u32 {
        4_000_000
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

struct Vm {
    dir: PathBuf,
    boot: Boot,
    seen: Arc<Seen>,
    ended: Arc<Ending>,
}

/// Counts the process out, and closes its connections, however it ends.
struct Alive(Arc<Seen>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Vm {
    async fn run(self) {
        let _alive = Alive(Arc::clone(&self.seen));
        if self.boot == Boot::Exits {
            return end(&self.ended, "exited with code 3");
        }
        let control = UnixListener::bind(self.dir.join("control.sock")).unwrap();
        let (mut stream, _) = control.accept().await.unwrap();
        let mut buffer = Vec::new();
        let Some(request) = next_request(&mut stream, &mut buffer).await else {
            return;
        };
        let Command::Start(config) = request.command else {
            panic!("the first command is Start");
        };
        std::fs::write(
            &config.console.log,
            "Linux version 6.12\nKernel panic - not syncing: test\n",
        )
        .unwrap();
        std::fs::write(&config.disk.layer, "layer").unwrap();
        let vsock = UnixListener::bind(&config.vsock.socket).unwrap();
        let ready = config.vsock.socket.with_file_name("vsock.sock_1025");
        self.seen.configs.lock().unwrap().push(*config);
        send(&mut stream, reply(request.id, Outcome::Done)).await;
        let booting = self.seen.booting.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.booting_at_once_max.fetch_max(booting, Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
        self.seen.booting.fetch_sub(1, Ordering::SeqCst);
        // How this VM ends, sent by its guest.
        let cause = watch::Sender::new(None);
        match self.boot {
            Boot::Silent | Boot::Exits => {}
            Boot::Panics => drop(cause.send_replace(Some(End::Reported(EndCause::GuestPanic)))),
            Boot::Garbage => {
                let mut caller = UnixStream::connect(&ready).await.unwrap();
                caller.write_all(&[0xff; 64]).await.unwrap();
            }
            Boot::Normal | Boot::RefusesIdentity => {
                let mut caller = UnixStream::connect(&ready).await.unwrap();
                let word = Reply::Ready(Ready {
                    version: VERSION,
                    uptime_ms: 5,
                });
                caller.write_all(&word.encode().unwrap()).await.unwrap();
            }
        }
        let mut ends = cause.subscribe();
        // Dropped with this future, and with it every connection.
        let mut guests = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = vsock.accept() => {
                    self.seen.connections.fetch_add(1, Ordering::SeqCst);
                    let guest = Guest { boot: self.boot, seen: Arc::clone(&self.seen), cause: cause.clone() };
                    guests.spawn(guest.serve(accepted.unwrap().0));
                }
                request = next_request(&mut stream, &mut buffer) => {
                    let Some(request) = request else { break };
                    send(&mut stream, reply(request.id, Outcome::Stats(stats()))).await;
                }
                end = async { ends.wait_for(Option::is_some).await.unwrap().clone() } => {
                    if let Some(End::Reported(cause)) = end {
                        let report = EndReport { cause, console_tail: String::new(), uptime_ms: 1 };
                        send(&mut stream, FromVmm::Event(Event::Ended(report))).await;
                    }
                    break;
                }
            }
        }
        drop(guests);
        end(&self.ended, "exited with code 1");
    }
}

#[derive(Clone, Debug)]
enum End {
    Reported(EndCause),
    Crash,
}

struct Guest {
    boot: Boot,
    seen: Arc<Seen>,
    cause: watch::Sender<Option<End>>,
}

impl Guest {
    async fn serve(self, mut stream: UnixStream) {
        let mut line = [0; "CONNECT 1024\n".len()];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"CONNECT 1024\n");
        stream.write_all(b"OK 5000\n").await.unwrap();
        while let Some(request) = next_frame(&mut stream).await {
            let replies = match request {
                Request::Hello { .. } => vec![Reply::Welcome(Welcome {
                    version: VERSION,
                    build: "simulation".to_owned(),
                })],
                Request::Identify(_) if self.boot == Boot::RefusesIdentity => {
                    vec![failed(FailureCode::Internal)]
                }
                Request::Identify(_) | Request::Clock { .. } | Request::Ping | Request::PowerOff => {
                    vec![Reply::Done]
                }
                Request::Inventory(_) => vec![Reply::Done],
                Request::Digests { paths } => vec![Reply::Digests(vec![None; paths.len()])],
                Request::Follow => vec![failed(FailureCode::NotFound)],
                Request::Exec(exec) => match self.exec(&mut stream, &exec.code).await {
                    Some(replies) => replies,
                    None => return,
                },
            };
            for reply in replies {
                if stream.write_all(&reply.encode().unwrap()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Runs one word; `None` when the connection is over.
    async fn exec(&self, stream: &mut UnixStream, code: &str) -> Option<Vec<Reply>> {
        let (word, rest) = code.split_once(' ').unwrap_or((code, ""));
        let out = |text: &str| Reply::Stdout(text.as_bytes().to_vec());
        let exit = |code| Reply::Exit(Exit { code });
        match word {
            "echo" => Some(vec![out(rest), exit(0)]),
            "fail" => Some(vec![Reply::Stderr(rest.as_bytes().to_vec()), exit(1)]),
            "len" => Some(vec![out(&rest.len().to_string()), exit(0)]),
            "busy" => Some(vec![failed(FailureCode::Busy)]),
            "broken" => Some(vec![failed(FailureCode::Internal)]),
            "long" => {
                let mut replies = vec![out(&"x".repeat(64 * 1024)); 192];
                replies.push(exit(0));
                Some(replies)
            }
            "sleep" => {
                sleep(Duration::from_millis(rest.parse().unwrap())).await;
                Some(vec![out("slept\n"), exit(0)])
            }
            "flood" => {
                let piece = out(&"flood ".repeat(5000)).encode().unwrap();
                while stream.write_all(&piece).await.is_ok() {}
                self.seen.cancelled.fetch_add(1, Ordering::SeqCst);
                None
            }
            "hang" => {
                stream
                    .write_all(&out("begun\nunfinished").encode().unwrap())
                    .await
                    .unwrap();
                // Nothing more comes from the host during a run but the end of the connection.
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
                self.seen.cancelled.fetch_add(1, Ordering::SeqCst);
                None
            }
            "panic" | "crash" => {
                stream.write_all(&out("last\n").encode().unwrap()).await.unwrap();
                sleep(Duration::from_millis(rest.parse().unwrap_or(0))).await;
                self.cause.send_replace(Some(match word {
                    "panic" => End::Reported(EndCause::GuestPanic),
                    _ => End::Crash,
                }));
                std::future::pending().await
            }
            other => panic!("{other} is no word of the simulation"),
        }
    }
}

fn failed(code: FailureCode) -> Reply {
    let message = "the simulation says no".to_owned();
    Reply::Failed(Failure { code, message })
}

async fn next_frame(stream: &mut UnixStream) -> Option<Request> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.ok()?;
    let header = Header::decode(header, Direction::HostToGuest).unwrap();
    let mut body = vec![0; header.body_len];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request::decode(header.kind, &body).unwrap())
}

async fn next_request(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> Option<vmm_proto::Request> {
    loop {
        if let Some((request, used)) = vmm_proto::decode(buffer).unwrap() {
            buffer.drain(..used);
            return Some(request);
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

async fn send(stream: &mut UnixStream, message: FromVmm) {
    // The other end may have gone.
    drop(stream.write_all(&vmm_proto::encode(&message).unwrap()).await);
}

fn reply(id: u64, outcome: Outcome) -> FromVmm {
    FromVmm::Reply(vmm_proto::Reply { id, outcome })
}

fn stats() -> Stats {
    Stats {
        state: VmState::Running,
        uptime_ms: 77,
        memory_resident_bytes: 1,
        disk_layer_bytes: 2,
        block_reads: 3,
        block_writes: 4,
        block_flushes: 5,
        vsock_rx_bytes: 6,
        vsock_tx_bytes: 7,
        vsock_connections: 8,
        vcpu_exits: 9,
    }
}
