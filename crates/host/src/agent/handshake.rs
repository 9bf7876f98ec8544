//! From a VM's socket to an agent that knows who it is.

use std::path::Path;

use agent_proto::{AGENT_PORT, Identity, Ready, Reply, Request, VERSION};
use pod_types::SandboxId;
use tokio::net::UnixStream;

use super::connection::{AgentConnection, AgentError};
use crate::clock;

/// Longest answer of a VM process to `CONNECT`, in bytes: `OK `, a port number, a newline.
const CONNECT_ANSWER_MAX: usize = 32;

/// Hex digits of an id that go into a host name: enough to tell sandboxes apart in a prompt.
const HOSTNAME_DIGITS: usize = 12;

/// Opens a connection to the agent of the VM that listens at `socket` and greets it.
pub(crate) async fn connect(socket: &Path) -> Result<AgentConnection, AgentError> {
    use tokio::io::AsyncWriteExt as _;

    let mut stream = UnixStream::connect(socket).await.map_err(AgentError::Connect)?;
    let call = format!("CONNECT {AGENT_PORT}\n");
    stream
        .write_all(call.as_bytes())
        .await
        .map_err(AgentError::Send)?;
    let mut connection = AgentConnection::new(stream);
    if !connection.line(CONNECT_ANSWER_MAX).await?.starts_with("OK ") {
        return Err(AgentError::Refused);
    }
    match connection.ask(&Request::Hello { version: VERSION }).await? {
        Reply::Welcome(welcome) => same_version(welcome.version).map(|()| connection),
        Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
        _ => Err(AgentError::Unexpected { expected: "Hello" }),
    }
}

/// Tells the guest who it is and waits until all of it has taken effect.
pub(crate) async fn identify(connection: &mut AgentConnection, id: SandboxId) -> Result<(), AgentError> {
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
    match connection.ask(&Request::Identify(identity)).await? {
        Reply::Done => Ok(()),
        Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
        _ => Err(AgentError::Unexpected { expected: "Identify" }),
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

fn same_version(theirs: u16) -> Result<(), AgentError> {
    if theirs == VERSION {
        return Ok(());
    }
    Err(AgentError::Version {
        theirs,
        ours: VERSION,
    })
}
