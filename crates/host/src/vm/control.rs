//! The control socket of one VM process.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use vmm_proto::{
    CloneConfig, CloneReport, CodecError, Command, EndReport, Event, FreezeConfig, FreezeReport, FromVmm,
    Outcome, Request, Stats, VERSION,
};

use super::{describe, descriptors};
use crate::metrics::Death;

/// Between two attempts to connect to a process that is just starting.
const CONNECT_PAUSE: Duration = Duration::from_millis(2);

/// What a process has sent before it exited is there already; this only lets the runtime see it.
const LAST_WORD_BOUND: Duration = Duration::from_millis(200);

pub(crate) struct Control {
    stream: UnixStream,
    /// Read and not decoded yet.
    buffer: Vec<u8>,
    next_id: u64,
    /// Came while a reply was waited for.
    ended: Option<EndReport>,
}

#[derive(Debug, Error)]
pub(crate) enum ControlError {
    #[error("cannot connect to the VM process")]
    Connect(#[source] io::Error),
    #[error("cannot talk to the VM process")]
    Io(#[source] io::Error),
    #[error("the VM process closed its control socket")]
    Closed,
    #[error("a message to or from the VM process is not valid")]
    Codec(#[source] CodecError),
    #[error("the VM process refused: {0}")]
    Refused(String),
    /// The snapshot must be made again.
    #[error("the snapshot is not usable: {0}")]
    Unusable(String),
    #[error("the VM process answered something else than it was asked")]
    Unexpected,
    #[error("the VM process did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
}

impl Control {
    /// Connects as soon as the process listens. The caller bounds the time.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ControlError> {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Ok(Self::new(stream)),
                Err(error) if is_not_yet(&error) => sleep(CONNECT_PAUSE).await,
                Err(error) => return Err(ControlError::Connect(error)),
            }
        }
    }

    /// Connects to a process whose socket was made for it and listens already.
    pub(crate) async fn connect_now(socket: &Path) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(socket).await.map_err(ControlError::Connect)?;
        Ok(Self::new(stream))
    }

    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            next_id: 1,
            ended: None,
        }
    }

    /// Carries out a command that has no answer but that it is done.
    pub(crate) async fn run(&mut self, command: Command) -> Result<(), ControlError> {
        match self.ask(command, &[]).await? {
            Outcome::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }

    /// The same within a time.
    pub(crate) async fn run_within(&mut self, bound: Duration, command: Command) -> Result<(), ControlError> {
        let done = timeout(bound, self.run(command)).await;
        done.unwrap_or(Err(ControlError::Silent(bound)))
    }

    pub(crate) async fn stats(&mut self) -> Result<Stats, ControlError> {
        match self.ask(Command::Stats, &[]).await? {
            Outcome::Stats(stats) => Ok(stats),
            other => Err(refusal(other)),
        }
    }

    pub(crate) async fn clone_vm(
        &mut self,
        config: CloneConfig,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<CloneReport, ControlError> {
        match self.ask(Command::Clone(config), descriptors).await? {
            Outcome::Cloned(report) => Ok(report),
            other => Err(refusal(other)),
        }
    }

    /// Gives the VM this end of a wire, in the place of the one it has.
    pub(crate) async fn wire(&mut self, end: BorrowedFd<'_>) -> Result<(), ControlError> {
        match self.ask(Command::Wire, &[end]).await? {
            Outcome::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }

    pub(crate) async fn freeze(
        &mut self,
        config: FreezeConfig,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<FreezeReport, ControlError> {
        match self.ask(Command::Freeze(config), descriptors).await? {
            Outcome::Frozen(report) => Ok(report),
            other => Err(refusal(other)),
        }
    }

    /// Waits for the VM's end. Safe to drop and call again.
    pub(crate) async fn ended(&mut self) -> Result<EndReport, ControlError> {
        loop {
            if let Some(report) = self.ended.clone() {
                return Ok(report);
            }
            if let FromVmm::Event(Event::Ended(report)) = self.next().await? {
                self.ended = Some(report);
            }
        }
    }

    /// What a process that has exited said last, or else how it exited.
    pub(crate) async fn last_word(&mut self, how: &str) -> (Death, String) {
        match timeout(LAST_WORD_BOUND, self.ended()).await {
            Ok(Ok(report)) => (Death::of(&report.cause), describe(&report.cause)),
            Ok(Err(_)) | Err(_) => (Death::Crash, format!("the VM process {how}")),
        }
    }

    async fn ask(
        &mut self,
        command: Command,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Outcome, ControlError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request {
            version: VERSION,
            id,
            command,
        };
        let bytes = vmm_proto::encode(&request).map_err(ControlError::Codec)?;
        let sent = descriptors::send(&self.stream, &bytes, descriptors)
            .await
            .map_err(ControlError::Io)?;
        let rest = bytes.get(sent..).unwrap_or_default();
        self.stream.write_all(rest).await.map_err(ControlError::Io)?;
        loop {
            match self.next().await? {
                FromVmm::Reply(reply) if reply.id == id => return Ok(reply.outcome),
                // The answer to a question that was given up.
                FromVmm::Reply(_) => {}
                FromVmm::Event(Event::Ended(report)) => {
                    self.ended = Some(report);
                    return Err(ControlError::Closed);
                }
            }
        }
    }

    /// The next message. What has been read stays in the buffer when this is dropped.
    async fn next(&mut self) -> Result<FromVmm, ControlError> {
        loop {
            if let Some((message, used)) = vmm_proto::decode(&self.buffer).map_err(ControlError::Codec)? {
                self.buffer.drain(..used);
                return Ok(message);
            }
            let count = self.stream.read_buf(&mut self.buffer).await;
            if count.map_err(ControlError::Io)? == 0 {
                return Err(ControlError::Closed);
            }
        }
    }
}

/// What an outcome means that is not the one hoped for.
fn refusal(outcome: Outcome) -> ControlError {
    match outcome {
        Outcome::Failed(chain) => ControlError::Refused(chain),
        Outcome::Unusable(chain) => ControlError::Unusable(chain),
        Outcome::Done | Outcome::Stats(_) | Outcome::Cloned(_) | Outcome::Frozen(_) => {
            ControlError::Unexpected
        }
    }
}

/// The process has not made its socket yet, or made it and does not listen yet.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
