//! Booting the VM of one sandbox while its client waits.
//!
//! A client that goes away meanwhile would never learn the id, so the sandbox ends then.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifecycle::EndReason;
use pod_types::ErrorChain;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::handle::Sandbox;
use super::owner::{Message, Tools, asked_to_end};
use crate::agent::Clock;
use crate::events;
use crate::storage::Shape;
use crate::vm::{self, BootError, Code, Control, Home, Process, Vm};

#[derive(Debug, Error)]
pub(crate) enum CreateError {
    #[error("cannot start a VM process")]
    Spawn(#[source] io::Error),
    #[error("the VM did not become ready within {} s", .0.as_secs_f32())]
    Deadline(Duration),
    #[error("the VM did not become ready")]
    Boot(#[source] BootError),
    #[error("the host is shutting down")]
    Shutdown,
    #[error("the sandbox was deleted while it booted")]
    Deleted,
}

/// A failed create, with what the guest and the VM process last said.
#[derive(Debug)]
pub(crate) struct CreateFailure {
    pub(crate) error: CreateError,
    pub(crate) console: String,
    pub(crate) stderr: String,
}

/// A boot that somebody waits for.
pub(crate) struct Birth {
    pub(crate) plan: BootPlan,
    /// The client that waits for the sandbox.
    pub(crate) born: oneshot::Sender<Result<(), CreateFailure>>,
}

/// What a boot needs.
pub(crate) struct BootPlan {
    pub(crate) home: Home,
    pub(crate) tools: Tools,
    pub(crate) boots: Arc<Semaphore>,
    pub(crate) deadline: Duration,
}

impl Birth {
    /// Boots the VM unless somebody ends the sandbox first. Nothing runs any more when this fails, and whoever waits
    /// for the sandbox has been told.
    pub(super) async fn boot(
        self,
        sandbox: &Sandbox,
        mailbox: &mut mpsc::Receiver<Message>,
    ) -> Result<Vm, EndReason> {
        let started = Instant::now();
        let Self { plan, mut born } = self;
        let mut process = None;
        let outcome = tokio::select! {
            outcome = steps(&plan, sandbox, &mut process) => {
                outcome.map_err(|error| (EndReason::BootFailed, Some(error)))
            }
            () = born.closed() => Err((EndReason::Abandoned, None)),
            reason = asked_to_end(mailbox) => Err((reason, Some(match reason {
                EndReason::Shutdown => CreateError::Shutdown,
                _ => CreateError::Deleted,
            }))),
        };
        let (reason, error) = match (outcome, process.take()) {
            (Ok(control), Some(process)) => {
                let milliseconds = started.elapsed().as_millis();
                tracing::info!(
                    event = events::VM_BOOTED,
                    milliseconds,
                    pid = process.pid(),
                    template = sandbox.spec.template.name,
                    "VM booted"
                );
                let mut vm = Vm {
                    process,
                    control,
                    home: plan.home,
                };
                vm::connect(&mut vm).await;
                // An owner alone moves the phase forward, so it is still booting here.
                drop(sandbox.advance(lifecycle::Machine::booted));
                if born.send(Ok(())).is_ok() {
                    return Ok(vm);
                }
                vm.process.end().await;
                return Err(EndReason::Abandoned);
            }
            (Ok(_), None) => (EndReason::BootFailed, None),
            (Err(why), process) => {
                if let Some(process) = process {
                    process.end().await;
                }
                why
            }
        };
        if let Some(error) = error {
            tracing::warn!(error = %ErrorChain(&error), "sandbox not created");
            let files = &plan.home.files;
            let failure = CreateFailure {
                error,
                console: vm::console_tail(&files.console()),
                stderr: vm::stderr_tail(&files.stderr()),
            };
            drop(born.send(Err(failure)));
        }
        Err(reason)
    }
}

/// Leaves the process with the caller, who must end it when this fails or is dropped.
async fn steps(
    plan: &BootPlan,
    sandbox: &Sandbox,
    process: &mut Option<Process>,
) -> Result<Control, CreateError> {
    // The semaphore is never closed.
    let _turn = plan.boots.acquire().await;
    let files = &plan.home.files;
    let new = plan
        .tools
        .spawner
        .spawn(&files.dir, Code::User)
        .map_err(CreateError::Spawn)?;
    let process = process.insert(Process::new(new, plan.tools.homes.roster()));
    sandbox.runs_as(process);
    plan.home.admit(process.pid());
    let shape = Shape {
        vcpus: sandbox.spec.vcpus,
        ram_mib: sandbox.spec.ram_mib,
        rootfs_gb: sandbox.spec.rootfs_gb,
    };
    let config = sandbox.spec.template.instantiate(shape, files);
    let up = async {
        let mut control = vm::bring_up(process, files, config).await?;
        let connection = vm::introduce(process, &mut control, files, sandbox.id(), Clock::WasSet).await?;
        Ok((control, connection))
    };
    let (control, connection) = timeout(plan.deadline, up)
        .await
        .map_err(|_| CreateError::Deadline(plan.deadline))?
        .map_err(CreateError::Boot)?;
    sandbox.keep_connection(connection);
    Ok(control)
}
