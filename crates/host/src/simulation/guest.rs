//! The agent of one simulated VM, and what its guest remembers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_proto::files::FileRequest;
use agent_proto::{
    Carried, Direction, Entry, EntryKind, ExecRequest, Exit, Failure, FailureCode, HEADER_LEN, Header,
    PortRequest, Reply, Request, Resume, Resumed, Room, VERSION, Welcome,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::sleep;
use vmm_proto::EndCause;

use super::terminals::Terminals;
use super::{Boot, Simulation};

/// What is copied when a VM is cloned.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// What `keep` was given.
    kept: String,
    hostname: String,
    /// How often the clock was asked or moved.
    clocks: u32,
    /// Runs so far.
    runs: u32,
    /// Files by path: content, and when it was last written.
    files: BTreeMap<String, (String, i64)>,
    pub(super) terminals: Terminals,
    pub(super) panics: bool,
    /// The run in progress, if it is one that a clone carries on.
    counting: Option<Counting>,
}

/// A run that writes `line-0`, `line-1`, … in two pieces each.
#[derive(Clone, Copy, Debug)]
struct Counting {
    name: u64,
    piece: u64,
    pieces: u64,
    pause: Duration,
    written: u64,
    /// Before this piece it waits until it is let go.
    held: u64,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Reported(EndCause),
    Crash,
}

pub(super) struct Guest {
    pub(super) boot: Boot,
    pub(super) simulation: Simulation,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) running: watch::Receiver<bool>,
    pub(super) cause: watch::Sender<Option<End>>,
    pub(super) terminal_news: watch::Sender<()>,
}

impl Memory {
    pub(super) fn snapshot(&self) -> Vec<u8> {
        self.kept.clone().into_bytes()
    }

    pub(super) fn from_snapshot(state: &[u8]) -> Self {
        Self {
            kept: String::from_utf8(state.to_vec()).unwrap(),
            ..Self::default()
        }
    }
}

impl Guest {
    pub(super) async fn serve(mut self, mut stream: UnixStream) {
        let mut line = [0; "CONNECT 1024\n".len()];
        if stream.read_exact(&mut line).await.is_err() {
            return;
        }
        assert_eq!(&line, b"CONNECT 1024\n");
        drop(stream.write_all(b"OK 5000\n").await);
        while let Some(request) = next_frame(&mut stream).await {
            // A VM that stands still answers nothing.
            self.running.wait_for(|running| *running).await.unwrap();
            let replies = match request {
                Request::Hello { .. } => vec![Reply::Welcome(Welcome {
                    version: VERSION,
                    build: "simulation".to_owned(),
                })],
                Request::Identify(identity) => vec![self.identify(identity.hostname)],
                Request::Clock { .. } => {
                    self.memory.lock().unwrap().clocks += 1;
                    vec![the_time()]
                }
                Request::Room { leave_bytes } => {
                    self.simulation
                        .seen
                        .leave_bytes
                        .store(leave_bytes, Ordering::SeqCst);
                    vec![Reply::Room(Room {
                        free_bytes: leave_bytes,
                        held_bytes: 0,
                    })]
                }
                Request::Ping | Request::PowerOff => vec![Reply::Done],
                Request::Inventory(_) => self.inventory(),
                Request::Digests { paths } => vec![self.digests(&paths)],
                Request::Cancel => return,
                Request::Resume(known) => match self.resume(&mut stream, known).await {
                    Some(replies) => replies,
                    None => return,
                },
                Request::Follow => match self.follow(&mut stream).await {
                    Some(replies) => replies,
                    None => return,
                },
                Request::Pty(request) => match self.pty(&mut stream, request).await {
                    Some(replies) => replies,
                    None => return,
                },
                Request::File(request) => match answer_file_request(stream, request).await {
                    Some(again) => {
                        stream = again;
                        continue;
                    }
                    None => return,
                },
                Request::Port(request) => match answer_port_request(stream, request).await {
                    Some(again) => {
                        stream = again;
                        continue;
                    }
                    None => return,
                },
                Request::Exec(exec) => match self.exec(&mut stream, &exec).await {
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

    fn identify(&self, hostname: String) -> Reply {
        let nameless = {
            let mut faults = self.simulation.faults.lock().unwrap();
            let nameless = faults.nameless > 0;
            faults.nameless = faults.nameless.saturating_sub(1);
            nameless
        };
        if nameless || self.boot == Boot::RefusesIdentity {
            return failed(FailureCode::Internal);
        }
        self.memory.lock().unwrap().hostname = hostname;
        the_time()
    }

    fn inventory(&self) -> Vec<Reply> {
        let memory = self.memory.lock().unwrap();
        let entries = memory.files.iter().map(|(path, (content, mtime_ns))| Entry {
            path: path.clone().into_bytes(),
            kind: EntryKind::File,
            mode: 0o644,
            size: content.len() as u64,
            mtime_ns: *mtime_ns,
            ctime_ns: *mtime_ns,
            inode: 1,
        });
        vec![Reply::Entries(entries.collect()), Reply::Done]
    }

    fn digests(&self, paths: &[Vec<u8>]) -> Reply {
        let memory = self.memory.lock().unwrap();
        let digest = |path: &Vec<u8>| {
            let (content, _) = memory.files.get(std::str::from_utf8(path).ok()?)?;
            Some(Sha256::digest(content).into())
        };
        Reply::Digests(paths.iter().map(digest).collect())
    }

    async fn follow(&self, stream: &mut UnixStream) -> Option<Vec<Reply>> {
        let counting = self.memory.lock().unwrap().counting;
        let Some(counting) = counting else {
            return Some(vec![failed(FailureCode::NotFound)]);
        };
        let carried = Carried {
            run: counting.name,
            stdout_bytes: counting.written,
            stderr_bytes: 0,
        };
        let reply = Reply::Carried(carried).encode().unwrap();
        stream.write_all(&reply).await.ok()?;
        self.count(stream).await
    }

    /// The same for a host that comes after one that is gone: what that one has not got comes again.
    async fn resume(&self, stream: &mut UnixStream, known: Resume) -> Option<Vec<Reply>> {
        let counting = self.memory.lock().unwrap().counting;
        let Some(counting) = counting else {
            return Some(vec![failed(FailureCode::NotFound)]);
        };
        let got = if known.run == counting.name {
            known.stdout_bytes
        } else {
            0
        };
        let resumed = Resumed {
            run: counting.name,
            stdout_bytes: got,
            stderr_bytes: 0,
        };
        let all: String = (0..counting.piece).map(piece).collect();
        let rest = all.as_bytes()[usize::try_from(got).unwrap()..].to_vec();
        for reply in [Reply::Resumed(resumed), Reply::Stdout(rest)] {
            stream.write_all(&reply.encode().unwrap()).await.ok()?;
        }
        self.count(stream).await
    }

    /// Goes on with the run in progress, to its end.
    async fn count(&self, stream: &mut UnixStream) -> Option<Vec<Reply>> {
        loop {
            let held = self
                .memory
                .lock()
                .unwrap()
                .counting
                .map(|counting| counting.piece == counting.held);
            if held == Some(true) {
                self.until_let_go(stream).await?;
            }
            let (text, pause) = {
                let mut memory = self.memory.lock().unwrap();
                let Some(counting) = &mut memory.counting else {
                    return Some(vec![]);
                };
                if counting.piece == counting.pieces {
                    memory.counting = None;
                    return Some(vec![Reply::Exit(Exit { code: 0 })]);
                }
                let text = piece(counting.piece);
                counting.piece += 1;
                counting.written += text.len() as u64;
                (text, counting.pause)
            };
            let reply = Reply::Stdout(text.into_bytes()).encode().unwrap();
            stream.write_all(&reply).await.ok()?;
            sleep(pause).await;
        }
    }

    /// `None` when the connection is over, or the run cancelled.
    async fn until_let_go(&self, stream: &mut UnixStream) -> Option<()> {
        let let_go = async {
            while !self.simulation.has_let_go() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = let_go => Some(()),
            _ = next_frame(stream) => None,
        }
    }

    /// Runs one word; `None` when the connection is over.
    async fn exec(&self, stream: &mut UnixStream, exec: &ExecRequest) -> Option<Vec<Reply>> {
        let code = exec.code.as_str();
        let (word, rest) = code.split_once([' ', '(']).unwrap_or((code, ""));
        let out = |text: &str| Reply::Stdout(text.as_bytes().to_vec());
        let exit = |code| Reply::Exit(Exit { code });
        self.memory.lock().unwrap().runs += 1;
        let seen = &self.simulation.seen;
        match word {
            "echo" => Some(vec![out(rest), exit(0)]),
            "trace" => Some(vec![out(exec.traceparent.as_deref().unwrap_or("none")), exit(0)]),
            // An agent that has gone over to the guest.
            "breach" => {
                stream.write_all(&[0xff; 64]).await.unwrap();
                None
            }
            // What the daemon itself lets a VM run, to warm it.
            "print" => Some(vec![out("1\n"), exit(0)]),
            "keep" => {
                rest.clone_into(&mut self.memory.lock().unwrap().kept);
                Some(vec![exit(0)])
            }
            "kept" => Some(vec![out(&self.memory.lock().unwrap().kept), exit(0)]),
            "hostname" => Some(vec![out(&self.memory.lock().unwrap().hostname), exit(0)]),
            "clocks" => Some(vec![
                out(&self.memory.lock().unwrap().clocks.to_string()),
                exit(0),
            ]),
            "write" => {
                let (path, content) = rest.split_once(' ').unwrap();
                let mut memory = self.memory.lock().unwrap();
                let now = i64::from(memory.runs);
                memory.files.insert(path.to_owned(), (content.to_owned(), now));
                Some(vec![exit(0)])
            }
            "remove" => {
                self.memory.lock().unwrap().files.remove(rest);
                Some(vec![exit(0)])
            }
            "fail" => Some(vec![Reply::Stderr(rest.as_bytes().to_vec()), exit(1)]),
            "len" => Some(vec![out(&rest.len().to_string()), exit(0)]),
            "busy" => Some(vec![failed(FailureCode::Busy)]),
            "broken" => Some(vec![failed(FailureCode::Internal)]),
            "long" => {
                let mut replies = vec![out(&"x".repeat(64 * 1024)); 192];
                replies.push(exit(0));
                Some(replies)
            }
            "count" => {
                let (lines, rest) = rest.split_once(' ').unwrap();
                let (pause, held) = rest.split_once(' ').unwrap_or((rest, ""));
                self.memory.lock().unwrap().counting = Some(Counting {
                    name: exec.run,
                    piece: 0,
                    pieces: 2 * lines.parse::<u64>().unwrap(),
                    pause: Duration::from_millis(pause.parse().unwrap()),
                    written: 0,
                    // In the middle of that line.
                    held: held.parse().map_or(u64::MAX, |line: u64| 2 * line + 1),
                });
                self.count(stream).await
            }
            "wait" => {
                self.until_let_go(stream).await?;
                Some(vec![out("waited\n"), exit(0)])
            }
            "sleep" => {
                sleep(Duration::from_millis(rest.parse().unwrap())).await;
                Some(vec![out("slept\n"), exit(0)])
            }
            "flood" => {
                let piece = out(&"flood ".repeat(5000)).encode().unwrap();
                while stream.write_all(&piece).await.is_ok() {}
                seen.cancelled.fetch_add(1, Ordering::SeqCst);
                None
            }
            "hang" => {
                stream
                    .write_all(&out("begun\nunfinished").encode().unwrap())
                    .await
                    .unwrap();
                // Nothing more comes from the host during a run but the word that cancels it.
                let Some(Request::Cancel) = next_frame(stream).await else {
                    return None;
                };
                seen.cancelled.fetch_add(1, Ordering::SeqCst);
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

fn piece(number: u64) -> String {
    match number % 2 {
        0 => "line-".to_owned(),
        _ => format!("{}\n", number / 2),
    }
}

fn the_time() -> Reply {
    Reply::Time {
        wall_clock_ns: crate::clock::now_ns(),
    }
}

fn failed(code: FailureCode) -> Reply {
    let message = "the simulation says no".to_owned();
    Reply::Failed(Failure { code, message })
}

/// The real agent's file services, on the files of the machine that the test runs on.
async fn answer_file_request(stream: UnixStream, request: FileRequest) -> Option<UnixStream> {
    let stream = stream.into_std().unwrap();
    let theirs = stream.try_clone().unwrap();
    let answered = tokio::task::spawn_blocking(move || guest::answer_file_request(theirs, request)).await;
    answered.unwrap().then(|| UnixStream::from_std(stream).unwrap())
}

/// The same for ports: of the machine that the test runs on.
async fn answer_port_request(stream: UnixStream, request: PortRequest) -> Option<UnixStream> {
    let stream = Held(Some(stream.into_std().unwrap()));
    let theirs = stream.0.as_ref()?.try_clone().unwrap();
    let answered = tokio::task::spawn_blocking(move || guest::answer_port_request(theirs, request)).await;
    let stream = answered.unwrap().then_some(stream)?;
    Some(UnixStream::from_std(stream.release()?).unwrap())
}

/// A connection that a thread has, too, and that ends for both when the VM does.
struct Held(Option<std::os::unix::net::UnixStream>);

impl Held {
    fn release(mut self) -> Option<std::os::unix::net::UnixStream> {
        self.0.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

async fn next_frame(stream: &mut UnixStream) -> Option<Request> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.ok()?;
    let header = Header::decode(header, Direction::HostToGuest).unwrap();
    let mut body = vec![0; header.body_len];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request::decode(header.kind, &body).unwrap())
}
