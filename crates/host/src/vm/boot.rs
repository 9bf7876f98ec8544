//! From a process that has just been started, or a clone that has just been made, to an agent that knows who it is.
//!
//! ```text
//! boot:  connect control.sock → Start → agent says Ready on vsock_1025 ─┐
//! clone: ───────────────────────────────────────────────────────────────┴→ CONNECT 1024, Hello, Identify
//! ```
//!
//! Whatever happens first ends it: ready, the VM reporting its end, the process dying. The caller bounds the time
//! and ends the process when this fails.

use std::future::Future;
use std::io;

use pod_types::SandboxId;
use thiserror::Error;
use tokio::net::UnixListener;
use vmm_proto::{Command, VmConfig};

use super::control::{Control, ControlError};
use super::process::Process;
use super::{VmFiles, describe};
use crate::agent::{self, AgentConnection, AgentError, Clock};
use crate::events;

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
    #[error("the guest did not take on its identity")]
    Identity(#[source] AgentError),
}

/// Boots a VM in a new process, until its agent is ready.
pub(crate) async fn bring_up(
    process: &mut Process,
    files: &VmFiles,
    config: VmConfig,
) -> Result<Control, BootError> {
    // The order matters: the guest may call before this side gets to run again.
    let listener = UnixListener::bind(files.ready_socket()).map_err(BootError::Listen)?;
    let mut control = reach(process, files).await?;
    let started = control.run(Command::Start(Box::new(config))).await;
    if let Err(error) = started {
        return Err(explain(process, &mut control, error).await);
    }
    unless_ended(process, &mut control, async {
        let (stream, _) = listener.accept().await.map_err(BootError::Listen)?;
        let ready = agent::read_ready(stream).await.map_err(BootError::Ready)?;
        tracing::info!(
            event = events::AGENT_CONNECTED,
            guest_uptime_ms = ready.uptime_ms,
            "the agent is ready"
        );
        Ok(())
    })
    .await?;
    Ok(control)
}

/// Connects to a process that was just started.
pub(crate) async fn reach(process: &mut Process, files: &VmFiles) -> Result<Control, BootError> {
    let socket = files.control_socket();
    tokio::select! {
        biased;
        control = Control::connect(&socket) => control.map_err(BootError::Control),
        how = process.exited() => Err(BootError::Died(how)),
    }
}

/// Tells the guest who it is. The connection on which that was done serves the first run.
pub(crate) async fn introduce(
    process: &mut Process,
    control: &mut Control,
    files: &VmFiles,
    id: SandboxId,
    clock: Clock,
) -> Result<AgentConnection, BootError> {
    unless_ended(process, control, async {
        agent::introduce(&files.vsock_socket(), id, clock)
            .await
            .map_err(BootError::Identity)
    })
    .await
}

/// Does work that needs the VM; its end is the better explanation when both fail.
async fn unless_ended<T>(
    process: &mut Process,
    control: &mut Control,
    work: impl Future<Output = Result<T, BootError>>,
) -> Result<T, BootError> {
    tokio::select! {
        biased;
        done = work => done,
        report = control.ended() => match report {
            Ok(report) => Err(BootError::Ended(describe(&report.cause))),
            Err(error) => Err(BootError::Control(error)),
        },
        how = process.exited() => Err(BootError::Ended(control.last_word(&how).await.1)),
    }
}

/// A refusal stands for itself; when the process is gone, how it went says more.
async fn explain(process: &mut Process, control: &mut Control, error: ControlError) -> BootError {
    if !matches!(error, ControlError::Closed | ControlError::Io(_)) {
        return BootError::Start(error);
    }
    let how = process.exited().await;
    BootError::Ended(control.last_word(&how).await.1)
}
