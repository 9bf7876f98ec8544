//! One connection to a network process.
//!
//! Two loops in one task, so that neither waits for the other: one sends what is to be told and asked, with at most a
//! few dozen messages under way, and one reads answers. Either ends the connection when something is wrong with it, and so
//! does an answer that does not come.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use net_proto::{CodecError, Command, NetStats, Outcome, Reply, Request, VERSION, WireId};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::errand::About;
use super::question::Question;
use super::wires::Wires;
use crate::metrics::Metrics;
use crate::vm::send_descriptors;

/// Messages that may wait for their answer.
const UNDER_WAY_MAX: usize = 32;
/// An answer that takes longer than this will not come.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
/// How often it is looked whether an answer is late.
const LOOK: Duration = Duration::from_secs(1);
/// How often all wires are counted.
const COUNT: Duration = Duration::from_secs(5);
/// Between two attempts to connect to a process that is just starting.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);
/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("cannot connect to it")]
    Connect(#[source] io::Error),
    #[error("cannot talk to it")]
    Io(#[source] io::Error),
    #[error("it closed its control socket")]
    Closed,
    #[error("a message to or from it is not valid")]
    Codec(#[source] CodecError),
    #[error("it did not answer within {} s", ANSWER_BOUND.as_secs())]
    Silent,
    #[error("it speaks another version of the protocol: {0}")]
    Version(String),
    #[error("it answered what it was not asked")]
    Unexpected,
    #[error("it would not change what a wire may reach: {0}")]
    Refused(String),
}

/// What an answer is waited for by.
#[derive(Debug)]
enum Waits {
    Wire(WireId, About),
    Question(oneshot::Sender<Outcome>),
    Count,
}

#[derive(Debug)]
struct UnderWay {
    since: Instant,
    waits: Waits,
}

#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    /// Read and not decoded yet.
    buffer: Mutex<Vec<u8>>,
    next_id: AtomicU64,
    under_way: Mutex<BTreeMap<u64, UnderWay>>,
    room: Arc<Semaphore>,
}

impl Link {
    /// Connects as soon as the process listens, and asks which wires it has. The caller bounds the time.
    pub(super) async fn open(socket: &Path) -> Result<(Self, Vec<WireId>), LinkError> {
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error) if is_not_yet(&error) => sleep(CONNECT_PAUSE).await,
                Err(error) => return Err(LinkError::Connect(error)),
            }
        };
        let link = Self {
            stream,
            buffer: Mutex::default(),
            next_id: AtomicU64::new(1),
            under_way: Mutex::default(),
            room: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        };
        link.send(link.new_id(), Command::Hello, None).await?;
        match link.receive().await?.outcome {
            Outcome::Welcome { wires } => Ok((link, wires)),
            Outcome::Failed(why) => Err(LinkError::Version(why)),
            _ => Err(LinkError::Unexpected),
        }
    }

    /// Tells and asks until something goes wrong with the connection.
    pub(super) async fn work(
        &self,
        wires: &Wires,
        asked: &mut mpsc::Receiver<Question>,
        metrics: &Metrics,
    ) -> LinkError {
        tokio::select! {
            error = self.tell(wires, asked) => error,
            error = self.listen(wires, metrics) => error,
            () = self.await_answers() => LinkError::Silent,
        }
    }

    async fn tell(&self, wires: &Wires, asked: &mut mpsc::Receiver<Question>) -> LinkError {
        let mut count = interval(COUNT);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Made room for before it is taken: what is taken is as good as told.
            if let Ok(permit) = Arc::clone(&self.room).acquire_owned().await {
                permit.forget();
            }
            let errand = async {
                loop {
                    if let Some(errand) = wires.errand() {
                        break errand;
                    }
                    wires.work().await;
                }
            };
            let (command, descriptor, waits) = tokio::select! {
                biased;
                errand = errand => {
                    let wire = errand.wire;
                    let (command, descriptor, about) = errand.command();
                    (command, descriptor, Waits::Wire(wire, about))
                }
                question = next(asked) => (question.command, None, Waits::Question(question.answer)),
                _ = count.tick() => (Command::Stats { wire: None }, None, Waits::Count),
            };
            let id = self.new_id();
            let since = Instant::now();
            lock(&self.under_way).insert(id, UnderWay { since, waits });
            if let Err(error) = self.send(id, command, descriptor).await {
                return error;
            }
        }
    }

    async fn listen(&self, wires: &Wires, metrics: &Metrics) -> LinkError {
        loop {
            let Reply { id, outcome } = match self.receive().await {
                Ok(reply) => reply,
                Err(error) => return error,
            };
            let Some(UnderWay { waits, .. }) = lock(&self.under_way).remove(&id) else {
                return LinkError::Unexpected;
            };
            self.room.add_permits(1);
            match waits {
                // Whoever asked may have gone.
                Waits::Question(answer) => drop(answer.send(outcome)),
                Waits::Count => match outcome {
                    Outcome::Stats(stats) => Self::count(wires, metrics, &stats),
                    _ => return LinkError::Unexpected,
                },
                Waits::Wire(wire, about) => {
                    if let Err(error) = heard(wires, wire, about, outcome) {
                        return error;
                    }
                }
            }
        }
    }

    fn count(wires: &Wires, metrics: &Metrics, stats: &NetStats) {
        metrics.network.count(&stats.totals);
        wires.count(stats);
    }

    /// Ends when an answer is late.
    async fn await_answers(&self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let under_way = lock(&self.under_way);
            let oldest = under_way.values().map(|one| one.since).min();
            if oldest.is_some_and(|since| since.elapsed() > ANSWER_BOUND) {
                return;
            }
        }
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    async fn send(&self, id: u64, command: Command, descriptor: Option<OwnedFd>) -> Result<(), LinkError> {
        let request = Request {
            version: VERSION,
            id,
            command,
        };
        let bytes = net_proto::encode(&request).map_err(LinkError::Codec)?;
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|one| one.as_fd()).collect();
        // Sends nothing when there are none.
        let mut sent = send_descriptors(&self.stream, &bytes, &descriptors)
            .await
            .map_err(LinkError::Io)?;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.stream.writable().await.map_err(LinkError::Io)?;
            sent += unless_blocked(self.stream.try_write(rest))?;
        }
        Ok(())
    }

    async fn receive(&self) -> Result<Reply, LinkError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            {
                let mut buffer = lock(&self.buffer);
                if let Some((reply, used)) = net_proto::decode(&buffer).map_err(LinkError::Codec)? {
                    buffer.drain(..used);
                    return Ok(reply);
                }
            }
            self.stream.readable().await.map_err(LinkError::Io)?;
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => lock(&self.buffer).extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
    }
}

/// An answer about a wire.
fn heard(wires: &Wires, wire: WireId, about: About, outcome: Outcome) -> Result<(), LinkError> {
    match outcome {
        Outcome::Done => wires.done(wire, about),
        Outcome::Stats(stats) if about == About::Count => wires.count(&stats),
        Outcome::NoWire => wires.missing(wire, about),
        Outcome::Failed(why) => {
            tracing::error!(
                wire,
                ?about,
                why,
                "the network process refuses what it is told of a wire"
            );
            if wires.refused(wire, about) {
                // What was allowed before may not be any more, so nothing may stay as it is.
                return Err(LinkError::Refused(why));
            }
        }
        Outcome::Welcome { .. } | Outcome::Log(_) | Outcome::Stats(_) => return Err(LinkError::Unexpected),
    }
    Ok(())
}

/// The next question that somebody waits for. Never ends.
async fn next(asked: &mut mpsc::Receiver<Question>) -> Question {
    loop {
        match asked.recv().await {
            Some(question) if !question.answer.is_closed() => return question,
            Some(_) => {}
            None => return std::future::pending().await,
        }
    }
}

/// Bounds the opening of a connection.
pub(super) async fn within<T>(
    bound: Duration,
    opening: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(bound, opening).await.unwrap_or(Err(LinkError::Silent))
}

fn unless_blocked(written: io::Result<usize>) -> Result<usize, LinkError> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other.map_err(LinkError::Io),
    }
}

/// The process has not made its socket yet, or made it and does not listen yet.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
