//! `podflare-vmm control`: one request to a running VM process, for people.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use thiserror::Error;
use vmm_proto::{CodecError, Command, Event, FromVmm, Outcome, Request, VERSION};

use crate::clone::{self, CloneArguments, CloneError};

#[derive(Debug, Args)]
pub(crate) struct ControlArguments {
    /// Directory of the VM
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Pause,
    Resume,
    Stats,
    /// End the VM as if the power were cut
    Stop,
    /// Wait for the VM's end and print the report
    Wait,
    /// Make copies of the VM that go on where it is
    Clone(CloneArguments),
}

#[derive(Debug, Error)]
pub(crate) enum ControlError {
    #[error("no VM answers in {}", dir.display())]
    Connect {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the connection to the VM broke")]
    Broken(#[source] io::Error),
    #[error("the VM's words make no sense")]
    Codec(#[source] CodecError),
    #[error("refused: {0}")]
    Refused(String),
    #[error("cannot prepare the clones")]
    Clone(#[source] CloneError),
}

/// Returns what there is to print.
pub(crate) fn run(arguments: &ControlArguments) -> Result<String, ControlError> {
    let mut stream = connect(&arguments.dir)?;
    let mut files = Vec::new();
    let command = match &arguments.action {
        Action::Pause => Command::Pause,
        Action::Resume => Command::Resume,
        Action::Stats => Command::Stats,
        Action::Stop => Command::Stop,
        Action::Wait => return wait(&mut stream),
        Action::Clone(clone) => {
            files = clone.files().map_err(ControlError::Clone)?;
            Command::Clone(clone.config())
        }
    };
    let request = Request {
        version: VERSION,
        id: 1,
        command,
    };
    let bytes = vmm_proto::encode(&request).map_err(ControlError::Codec)?;
    let sent = clone::send(&stream, &bytes, &files).map_err(ControlError::Broken)?;
    stream
        .write_all(bytes.get(sent..).unwrap_or_default())
        .map_err(ControlError::Broken)?;
    loop {
        if let FromVmm::Reply(reply) = receive(&mut stream)? {
            return match reply.outcome {
                Outcome::Done => Ok("done".to_owned()),
                Outcome::Stats(stats) => Ok(format!("{stats:#?}")),
                Outcome::Cloned(report) => Ok(format!("{report:#?}")),
                Outcome::Frozen(report) => Ok(format!("{report:#?}")),
                Outcome::Failed(why) | Outcome::Unusable(why) => Err(ControlError::Refused(why)),
            };
        }
    }
}

fn connect(dir: &Path) -> Result<UnixStream, ControlError> {
    UnixStream::connect(dir.join("control.sock")).map_err(|source| ControlError::Connect {
        dir: dir.to_owned(),
        source,
    })
}

fn wait(stream: &mut UnixStream) -> Result<String, ControlError> {
    loop {
        if let FromVmm::Event(Event::Ended(report)) = receive(stream)? {
            return Ok(format!("{report:#?}"));
        }
    }
}

/// Reads one message: the length first, then what it announces, so that nothing of the next one is taken.
fn receive(stream: &mut UnixStream) -> Result<FromVmm, ControlError> {
    let mut buffer = vec![0; vmm_proto::LEN_BYTES];
    stream.read_exact(&mut buffer).map_err(ControlError::Broken)?;
    loop {
        if let Some((message, _)) = vmm_proto::decode(&buffer).map_err(ControlError::Codec)? {
            return Ok(message);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(ControlError::Broken)?;
        buffer.extend_from_slice(&byte);
    }
}
