//! From a clone nobody has spoken to, to a VM that can be handed out.
//!
//! It fails closed: a clone that has not acknowledged its identity within the bound is never given to anybody.

use std::time::{Duration, Instant};

use agent_proto::{ExecRequest, Language, Reply, Request};
use futures_util::FutureExt as _;
use pod_types::{IdError, SandboxId};
use thiserror::Error;
use tokio::time::timeout;
use vmm_proto::Command;

use crate::agent::{self, AgentConnection, AgentError, Clock};
use crate::budget::Reservation;
use crate::network::Wire;
use crate::vm::{self, BootError, ControlError, Vm};

/// How long a clone may take to take on its identity, which takes some milliseconds, and how much longer each of several
/// that are raised at once. 32 of them stay below what the official client waits for a fork.
const IDENTITY_BOUND: Duration = Duration::from_secs(10);
const IDENTITY_BOUND_EACH: Duration = Duration::from_secs(1);
/// How long the run that warms a VM up may take.
const WARM_BOUND: Duration = Duration::from_secs(30);
/// How long a VM process may take to pause or resume its VM, and the guest to set its clock.
/// Long enough for a host that is busy with clones: to give one up means to make another, which keeps it busy.
const WAKE_BOUND: Duration = Duration::from_secs(10);

/// A guest's clock runs on while its VM is paused, and drifts against the host's by some 50 millionths at most: that of one
/// that waited no longer than this is still right to 3 ms, which is no worse than what telling it the time achieves.
const CLOCK_GOOD_FOR: Duration = Duration::from_secs(60);

/// A VM that knows who it is and belongs to nobody yet.
pub(crate) struct Newborn {
    pub(crate) id: SandboxId,
    pub(crate) vm: Vm,
    /// The connection on which the identity was given; the first run uses it.
    pub(crate) connection: AgentConnection,
    pub(crate) reservation: Reservation,
    /// When it went its own way at the earliest, in milliseconds since the Unix epoch.
    pub(crate) born_ms: u64,
}

/// One that waits, paused.
pub(super) struct Waiting {
    newborn: Newborn,
    since: Instant,
}

/// Why a clone is of no use. It is ended.
#[derive(Debug, Error)]
pub(crate) enum RaiseError {
    #[error("there is no id for it")]
    Id(#[source] IdError),
    #[error("it did not take on its identity")]
    Identity(#[source] BootError),
    #[error("it did not take on its identity within {} s", .0.as_secs())]
    IdentityDeadline(Duration),
    #[error("its first run failed")]
    Warm(#[source] AgentError),
    #[error("its first run did not end within {} s", WARM_BOUND.as_secs())]
    WarmDeadline,
    #[error("its first run ended with exit code {0}")]
    WarmExit(i32),
    #[error("it was not paused")]
    Pause(#[source] ControlError),
    #[error("it was not resumed")]
    Resume(#[source] ControlError),
    #[error("its clock was not set")]
    Clock(#[source] AgentError),
}

/// Gives a clone, one of `count` that are raised at once, an identity of its own.
pub(crate) async fn raise(
    vm: Vm,
    clock: Clock,
    count: u8,
) -> Result<(SandboxId, Vm, AgentConnection), RaiseError> {
    let id = SandboxId::random().map_err(RaiseError::Id)?;
    let (vm, connection) = raise_as(vm, id, clock, count).await?;
    Ok((id, vm, connection))
}

/// The same with an id that there is.
pub(crate) async fn raise_as(
    mut vm: Vm,
    id: SandboxId,
    clock: Clock,
    count: u8,
) -> Result<(Vm, AgentConnection), RaiseError> {
    let bound = IDENTITY_BOUND + IDENTITY_BOUND_EACH * u32::from(count);
    let told = vm::introduce(&mut vm.process, &mut vm.control, &vm.home.files, id, clock);
    match timeout(bound, told).await {
        Ok(Ok(connection)) => Ok((vm, connection)),
        Ok(Err(error)) => Err(RaiseError::Identity(error)),
        Err(_) => Err(RaiseError::IdentityDeadline(bound)),
    }
}

/// Runs code whose output nobody wants, so that what every run needs is in memory.
pub(super) async fn warm(
    connection: &mut AgentConnection,
    language: Language,
    code: &str,
) -> Result<(), RaiseError> {
    let exec = Request::Exec(ExecRequest {
        language,
        run: 0,
        timeout_ms: None,
        traceparent: None,
        code: code.to_owned(),
    });
    let run = async {
        let mut reply = connection.ask(&exec).await?;
        loop {
            match reply {
                Reply::Stdout(_) | Reply::Stderr(_) => reply = connection.reply().await?,
                Reply::Exit(exit) => return Ok(exit.code),
                Reply::Failed(failure) => return Err(AgentError::Failed(failure.message)),
                _ => return Err(AgentError::Unexpected { expected: "Exec" }),
            }
        }
    };
    match timeout(WARM_BOUND, run).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(code)) => Err(RaiseError::WarmExit(code)),
        Ok(Err(error)) => Err(RaiseError::Warm(error)),
        Err(_) => Err(RaiseError::WarmDeadline),
    }
}

pub(super) async fn pause(vm: &mut Vm) -> Result<(), RaiseError> {
    let paused = vm.control.run_within(WAKE_BOUND, Command::Pause).await;
    paused.map_err(RaiseError::Pause)
}

impl Waiting {
    /// Pauses a VM that has been warmed.
    pub(super) async fn new(mut newborn: Newborn) -> Result<Self, RaiseError> {
        pause(&mut newborn.vm).await?;
        Ok(Self {
            newborn,
            since: Instant::now(),
        })
    }

    /// Whether its process is still there, as far as the runtime has noticed.
    pub(super) fn is_alive(&mut self) -> bool {
        self.newborn.vm.process.exited().now_or_never().is_none()
    }

    pub(super) fn pid(&self) -> u32 {
        self.newborn.vm.process.pid()
    }

    /// Lets it run again, with the right time of day.
    pub(super) async fn wake(self) -> Result<Newborn, RaiseError> {
        let Self { mut newborn, since } = self;
        if newborn.vm.home.wire().is_some_and(Wire::is_lost) {
            vm::connect(&mut newborn.vm).await;
        }
        let resumed = newborn.vm.control.run_within(WAKE_BOUND, Command::Resume).await;
        resumed.map_err(RaiseError::Resume)?;
        if since.elapsed() > CLOCK_GOOD_FOR {
            let set = timeout(WAKE_BOUND, agent::check_clock(&mut newborn.connection)).await;
            set.unwrap_or(Err(AgentError::Silent))
                .map_err(RaiseError::Clock)?;
        }
        Ok(newborn)
    }
}
