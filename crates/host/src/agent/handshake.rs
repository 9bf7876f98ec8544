//! From a VM's socket to an agent that knows who it is.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_proto::{AGENT_PORT, Identity, Ready, Reply, Request, VERSION};
use pod_types::SandboxId;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::connection::{AgentConnection, AgentError};
use crate::clock;

/// Longest answer of a VM process to `CONNECT`, in bytes: `OK `, a port number, a newline.
const CONNECT_ANSWER_MAX: usize = 32;

/// How late a guest's clock may be; and for how long it is told again, with a pause between, while the host is too busy
/// for that. Trying at once again would only meet the same crowd.
const CLOCK_ERROR_MAX: Duration = Duration::from_millis(4);
const CLOCK_PATIENCE: Duration = Duration::from_millis(400);
const CLOCK_PAUSE: Duration = Duration::from_millis(5);

/// Hex digits of an id that go into a host name: enough to tell sandboxes apart in a prompt.
const HOSTNAME_DIGITS: usize = 12;

/// Opens a connection to the agent of the VM that listens at `socket` and greets it.
pub(crate) async fn connect(socket: &Path) -> Result<AgentConnection, AgentError> {
    call(socket, &[]).await
}

/// The same, and tells the guest who it is; returns when all of it has taken effect.
pub(crate) async fn introduce(socket: &Path, id: SandboxId) -> Result<AgentConnection, AgentError> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|_| AgentError::Entropy)?;
    let name = id.to_string();
    let digits = name.trim_start_matches("sbx_");
    let identity = Identity {
        hostname: format!("sbx-{}", &digits[..HOSTNAME_DIGITS.min(digits.len())]),
        machine_id: id.bytes(),
        wall_clock_ns: clock::now_ns(),
        entropy,
    };
    let mut connection = call(socket, &[Request::Identify(identity)]).await?;
    done(connection.reply().await?, "Identify").map(|()| connection)
}

/// Tells the guest what time it is, again when it took long to hear: the time told is late by as much.
pub(crate) async fn set_clock(connection: &mut AgentConnection) -> Result<(), AgentError> {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let clock = Request::Clock {
            wall_clock_ns: clock::now_ns(),
        };
        done(connection.ask(&clock).await?, "Clock")?;
        if asked.elapsed() <= CLOCK_ERROR_MAX || begun.elapsed() >= CLOCK_PATIENCE {
            return Ok(());
        }
        sleep(CLOCK_PAUSE).await;
    }
}

/// Reads what an agent says on its own connection when it is warm.
pub(crate) async fn read_ready(stream: UnixStream) -> Result<Ready, AgentError> {
    match AgentConnection::new(stream).reply().await? {
        Reply::Ready(ready) => same_version(ready.version).map(|()| ready),
        _ => Err(AgentError::Unexpected {
            expected: "being started",
        }),
    }
}

/// Connects, greets, and asks. All of it is sent at once: each answer that is waited for costs a round trip through
/// the guest, which is most of what it costs to meet a clone. The answers to `requests` are left to the caller.
async fn call(socket: &Path, requests: &[Request]) -> Result<AgentConnection, AgentError> {
    let mut bytes = format!("CONNECT {AGENT_PORT}\n").into_bytes();
    let hello = Request::Hello { version: VERSION };
    for request in [&hello].into_iter().chain(requests) {
        bytes.extend(request.encode().map_err(AgentError::Encode)?);
    }
    let mut stream = UnixStream::connect(socket).await.map_err(AgentError::Connect)?;
    stream.write_all(&bytes).await.map_err(AgentError::Send)?;
    let mut connection = AgentConnection::new(stream);
    if !connection.line(CONNECT_ANSWER_MAX).await?.starts_with("OK ") {
        return Err(AgentError::Refused);
    }
    match connection.reply().await? {
        Reply::Welcome(welcome) => same_version(welcome.version).map(|()| connection),
        Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
        _ => Err(AgentError::Unexpected { expected: "Hello" }),
    }
}

fn done(reply: Reply, asked: &'static str) -> Result<(), AgentError> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
        _ => Err(AgentError::Unexpected { expected: asked }),
    }
}

fn same_version(theirs: u16) -> Result<(), AgentError> {
    if theirs == VERSION {
        return Ok(());
    }
    Err(AgentError::Version {
        theirs,
        ours: VERSION,
    })
}
