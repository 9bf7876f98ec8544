//! Making a template's snapshot, and restoring VMs from it.
//!
//! ```text
//! boot → agent Ready → Clone 1 → Identify, one run → Pause → Snapshot → end both
//! Restore → Clone 1 → Identify, one run → Pause → RecordWorkingSet → end both
//! ```
//!
//! The first half ends with a clone, so that the snapshot is of a guest that knows how to be one. The second half proves that the snapshot can be cloned, and records which pages a fresh clone touches until its first
//! answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent_proto::Language;
use pod_types::ErrorChain;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use vmm_proto::Command;

use super::Supplies;
use super::newborn::{RaiseError, pause, raise, warm};
use super::snapshots::Snapshot;
use crate::agent::{AgentConnection, Clock};
use crate::budget::OverBudget;
use crate::vm::{self, BootError, CloneError, Code, ControlError, Order, Process, Reach, Vm};

/// How long a VM process may take to write a VM to disk: memory of a few GiB on a slow disk.
const SNAPSHOT_BOUND: Duration = Duration::from_secs(180);
/// How long a VM process may take to restore one, checksums included.
const RESTORE_BOUND: Duration = Duration::from_secs(60);
/// How long it may take to write down which pages were touched.
const RECORD_BOUND: Duration = Duration::from_secs(60);
/// What a guest is given to come to rest after its first connection, and to start the next bash.
const SETTLE: Duration = Duration::from_secs(2);
/// A first run of bash.
const WARM_BASH: &str = "echo 1";
/// How long a new process may take to listen.
const REACH_BOUND: Duration = Duration::from_secs(20);

#[derive(Debug, Error)]
pub(super) enum BuildError {
    #[error("cannot work on the snapshot's files")]
    Files(#[source] io::Error),
    #[error("there is no room to boot the template: {} of {} MiB are in use", .0.used_mib, .0.total_mib)]
    NoRoom(OverBudget),
    #[error("cannot make a directory for a VM")]
    Home(#[source] io::Error),
    #[error("cannot start a VM process")]
    Spawn(#[source] io::Error),
    #[error("the template did not boot within {} s", .0.as_secs_f32())]
    BootDeadline(Duration),
    #[error("the template did not boot")]
    Boot(#[source] BootError),
    #[error("the template's VM was not paused")]
    Pause(#[source] RaiseError),
    #[error("the template's VM was not written to disk")]
    Snapshot(#[source] ControlError),
    #[error("a VM process does not listen within {} s", REACH_BOUND.as_secs())]
    Unreachable,
    #[error("a VM process cannot be reached")]
    Reach(#[source] BootError),
    #[error("the snapshot was not restored")]
    Restore(#[source] ControlError),
    #[error("the VM was not cloned")]
    Clone(#[source] CloneError),
    #[error("the VM made no clone")]
    NoClone,
    #[error("a clone of the VM is of no use")]
    Raise(#[source] RaiseError),
}

impl BuildError {
    /// Another snapshot must be made.
    pub(super) fn is_unusable(&self) -> bool {
        matches!(self, Self::Restore(ControlError::Unusable(_)))
    }
}

/// Boots the template and fills `new`.
pub(super) async fn snapshot(supplies: &Supplies, new: &Snapshot) -> Result<(), BuildError> {
    let ram_mib = supplies.shape.ram_mib.into();
    let reserved = supplies.budget.reserve(ram_mib).await;
    let _reservation = reserved.map_err(BuildError::NoRoom)?;
    // The semaphore is never closed.
    let turn = supplies.boots.acquire().await;
    let mut first = boot(supplies).await?;
    drop(turn);
    let mut vm = broken_in(supplies, &mut first).await?;
    pause(&mut vm).await.map_err(BuildError::Pause)?;
    let write = Command::Snapshot { dir: new.vm() };
    let written = vm.control.run_within(SNAPSHOT_BOUND, write).await;
    written.map_err(BuildError::Snapshot)?;
    vm.end().await;
    first.end().await;
    try_out(supplies, new).await
}

/// A clone that has gone through all that every clone goes through. What that allocates, and looks at for the first
/// time, is then in the snapshot, and no clone of it has to do so again.
async fn broken_in(supplies: &Supplies, first: &mut Vm) -> Result<Vm, BuildError> {
    let tools = &supplies.tools;
    let order = (Order { count: 1, run: true }, Reach::Unneeded);
    let parent = first.process.pid();
    let brood = vm::clone_vm(&mut first.control, parent, order, &tools.homes, &*tools.spawner).await;
    let clone = brood.map_err(BuildError::Clone)?.vms.pop();
    let clone = clone.ok_or(BuildError::NoClone)?;
    let (_, clone, mut connection) = raise(clone, Clock::WasSet, 1).await.map_err(BuildError::Raise)?;
    first_runs(supplies, &mut connection).await?;
    // The end of the connection belongs to it too, and what the guest puts off for a moment: another bash in stock.
    drop(connection);
    sleep(SETTLE).await;
    Ok(clone)
}

/// Restores a VM, which stays paused. What its clones will run says whether it is confined.
pub(super) async fn restore(
    supplies: &Supplies,
    snapshot: &Snapshot,
    working_set: Option<PathBuf>,
    code: Code,
) -> Result<Vm, BuildError> {
    let tools = &supplies.tools;
    let home = tools.homes.empty().map_err(BuildError::Home)?;
    let spawned = tools
        .spawner
        .spawn(&home.files.dir, code)
        .map_err(BuildError::Spawn)?;
    let mut process = Process::new(spawned, tools.homes.roster());
    let reached = timeout(REACH_BOUND, vm::reach(&mut process, &home.files)).await;
    let mut control = reached
        .map_err(|_| BuildError::Unreachable)?
        .map_err(BuildError::Reach)?;
    let config = supplies.template.restore(snapshot.vm(), working_set, &home.files);
    let restored = control
        .run_within(RESTORE_BOUND, Command::Restore(Box::new(config)))
        .await;
    restored.map_err(BuildError::Restore)?;
    Ok(Vm {
        process,
        control,
        home,
    })
}

/// What a user is likely to begin with, in either language.
async fn first_runs(supplies: &Supplies, connection: &mut AgentConnection) -> Result<(), BuildError> {
    let python = warm(connection, Language::Python, supplies.template.warm_code()).await;
    python.map_err(BuildError::Raise)?;
    let bash = warm(connection, Language::Bash, WARM_BASH).await;
    bash.map_err(BuildError::Raise)
}

async fn boot(supplies: &Supplies) -> Result<Vm, BuildError> {
    let tools = &supplies.tools;
    let home = tools.homes.empty().map_err(BuildError::Home)?;
    let spawned = tools
        .spawner
        .spawn(&home.files.dir, Code::Template)
        .map_err(BuildError::Spawn)?;
    let mut process = Process::new(spawned, tools.homes.roster());
    let config = supplies.template.instantiate(supplies.shape, &home.files);
    let up = timeout(
        supplies.boot_deadline,
        vm::bring_up(&mut process, &home.files, config),
    );
    let up = match up.await {
        Ok(up) => up.map_err(BuildError::Boot),
        Err(_) => Err(BuildError::BootDeadline(supplies.boot_deadline)),
    };
    let control = up.inspect_err(|error| {
        tracing::warn!(
            template = supplies.template.name,
            why = %ErrorChain(error),
            console = vm::console_tail(&home.files.console()),
            "the template's guest has not come up"
        );
    })?;
    Ok(Vm {
        process,
        control,
        home,
    })
}

/// Clones the snapshot once and records its working set. Without one, clones are slower and otherwise the same.
async fn try_out(supplies: &Supplies, new: &Snapshot) -> Result<(), BuildError> {
    let mut zygote = restore(supplies, new, None, Code::Template).await?;
    let tools = &supplies.tools;
    let order = (Order { count: 1, run: true }, Reach::Unneeded);
    let parent = zygote.process.pid();
    let brood = vm::clone_vm(&mut zygote.control, parent, order, &tools.homes, &*tools.spawner).await;
    for clone in brood.map_err(BuildError::Clone)?.vms {
        let (_, mut clone, mut connection) =
            raise(clone, Clock::WasSet, 1).await.map_err(BuildError::Raise)?;
        first_runs(supplies, &mut connection).await?;
        pause(&mut clone).await.map_err(BuildError::Raise)?;
        let record = Command::RecordWorkingSet {
            file: new.working_set(),
        };
        if let Err(error) = clone.control.run_within(RECORD_BOUND, record).await {
            tracing::warn!(
                template = supplies.template.name,
                error = %ErrorChain(&error),
                "no working set was recorded; the first answers of clones will be slower"
            );
        }
        clone.end().await;
    }
    zygote.end().await;
    Ok(())
}
