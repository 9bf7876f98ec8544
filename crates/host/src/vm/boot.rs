//! From a process that has just been started to an agent that knows who it is.
//!
//! ```text
//! connect control.sock → Start → agent says Ready on vsock.sock_1025 → CONNECT 1024 → Hello → Identify
//! ```
//!
//! Whatever happens first ends it: ready, the VM reporting its end, the process dying. The caller bounds the time
//! and kills the process when this fails.

use std::io;

use pod_types::SandboxId;
use thiserror::Error;
use tokio::net::UnixListener;
use vmm_proto::{Command, VmConfig};

use super::control::{Control, ControlError};
use super::process::VmmProcess;
use super::{VmFiles, describe};
use crate::agent::{self, AgentConnection, AgentError};

#[derive(Debug, Error)]
pub(crate) enum BootError {
    #[error("cannot listen for the guest's agent")]
    Listen(#[source] io::Error),
    #[error("the VM process cannot be reached")]
    Control(#[source] ControlError),
    #[error("the VM was not started")]
    Start(#[source] ControlError),
    #[error("{0}")]
    Ended(String),
    #[error("the VM process {0}")]
    Died(String),
    #[error("the agent's word that it is ready was not usable")]
    Ready(#[source] AgentError),
    #[error("the agent cannot be reached")]
    Agent(#[source] AgentError),
    #[error("the guest did not take on its identity")]
    Identity(#[source] AgentError),
}

/// A VM that is up.
pub(crate) struct Up {
    pub(crate) control: Control,
    /// The connection on which the identity was given; the first run uses it.
    pub(crate) connection: AgentConnection,
}

pub(crate) async fn bring_up(
    process: &mut dyn VmmProcess,
    files: &VmFiles,
    config: VmConfig,
    id: SandboxId,
) -> Result<Up, BootError> {
    // The order matters: the guest may call before this side gets to run again.
    let listener = UnixListener::bind(files.ready_socket()).map_err(BootError::Listen)?;
    let mut control = None;
    let connection = tokio::select! {
        biased;
        connection = start(&mut control, files, config, id, listener) => connection,
        how = process.exited() => match control.as_mut() {
            Some(control) => Err(BootError::Ended(control.last_word(&how).await)),
            None => Err(BootError::Died(how)),
        },
    }?;
    match control {
        Some(control) => Ok(Up { control, connection }),
        None => Err(BootError::Control(ControlError::Closed)),
    }
}

/// Leaves the control socket with the caller, who may learn more from it when this fails or is dropped.
async fn start(
    control: &mut Option<Control>,
    files: &VmFiles,
    config: VmConfig,
    id: SandboxId,
    listener: UnixListener,
) -> Result<AgentConnection, BootError> {
    let control = Control::connect(&files.control_socket())
        .await
        .map(|new| control.insert(new));
    let control = control.map_err(BootError::Control)?;
    control
        .run(Command::Start(Box::new(config)))
        .await
        .map_err(BootError::Start)?;
    tokio::select! {
        biased;
        report = control.ended() => match report {
            Ok(report) => Err(BootError::Ended(describe(&report.cause))),
            Err(error) => Err(BootError::Control(error)),
        },
        connection = meet_agent(files, id, listener) => connection,
    }
}

async fn meet_agent(
    files: &VmFiles,
    id: SandboxId,
    listener: UnixListener,
) -> Result<AgentConnection, BootError> {
    let (stream, _) = listener.accept().await.map_err(BootError::Listen)?;
    let ready = agent::read_ready(stream).await.map_err(BootError::Ready)?;
    tracing::debug!(guest_uptime_ms = ready.uptime_ms, "the agent is ready");
    let mut connection = agent::connect(&files.vsock_socket())
        .await
        .map_err(BootError::Agent)?;
    agent::identify(&mut connection, id)
        .await
        .map_err(BootError::Identity)?;
    Ok(connection)
}
