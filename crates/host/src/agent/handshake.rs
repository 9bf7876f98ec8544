//! From a VM's socket to an agent that knows who it is.

use std::path::Path;

use agent_proto::{AGENT_PORT, Identity, Ready, Reply, Request, VERSION};
use pod_types::SandboxId;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::connection::{AgentConnection, AgentError};
use super::time::{Clock, Offset, agree, shown};
use crate::clock;

/// Longest answer of a VM process to `CONNECT`, in bytes: `OK `, a port number, a newline.
const CONNECT_ANSWER_MAX: usize = 32;

/// Hex digits of an id that go into a host name: enough to tell sandboxes apart in a prompt.
const HOSTNAME_DIGITS: usize = 12;

/// Opens a connection to the agent of the VM that listens at `socket` and greets it.
pub(crate) async fn connect(socket: &Path) -> Result<AgentConnection, AgentError> {
    call(socket, &[]).await
}

/// The same, and tells the guest who it is; returns when all of it has taken effect and the guest's clock is right.
pub(crate) async fn introduce(
    socket: &Path,
    id: SandboxId,
    clock: Clock,
) -> Result<AgentConnection, AgentError> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|_| AgentError::Entropy)?;
    let name = id.to_string();
    let digits = name.trim_start_matches("sbx_");
    let sent_ns = clock::now_ns();
    let identity = Identity {
        hostname: format!("sbx-{}", &digits[..HOSTNAME_DIGITS.min(digits.len())]),
        machine_id: id.bytes(),
        wall_clock_ns: (clock == Clock::WasSet).then_some(sent_ns),
        entropy,
    };
    let mut connection = call(socket, &[Request::Identify(identity)]).await?;
    let shown_ns = shown(connection.reply().await?, "Identify")?;
    let offset = Offset::new(sent_ns, shown_ns, clock::now_ns());
    agree(&mut connection, clock, Some(offset)).await?;
    Ok(connection)
}

/// Sees to it that the clock of a VM that stood still for long is right.
pub(crate) async fn check_clock(connection: &mut AgentConnection) -> Result<(), AgentError> {
    agree(connection, Clock::WentOn, None).await
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

fn same_version(theirs: u16) -> Result<(), AgentError> {
    if theirs == VERSION {
        return Ok(());
    }
    Err(AgentError::Version {
        theirs,
        ours: VERSION,
    })
}
