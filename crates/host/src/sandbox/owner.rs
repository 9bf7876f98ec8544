//! The task that owns one sandbox.
//!
//! It boots the VM, hands the sandbox to the client that waits for it, notices when the VM dies, and gives
//! everything back at the end, whichever way the end came. A client that goes away while its sandbox boots would
//! never learn the id, so the sandbox ends then.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifecycle::EndReason;
use pod_types::ErrorChain;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use vmm_proto::Stats;

use super::handle::Sandbox;
use crate::budget::Reservation;
use crate::storage::{self, Shape};
use crate::vm::{self, BootError, Control, VmFiles, VmmProcess, VmmSpawner};

/// How long a VM process may take to answer a question.
const STATS_BOUND: Duration = Duration::from_secs(2);
/// How long a VM process may take to exit once its VM has ended or it was killed.
const EXIT_BOUND: Duration = Duration::from_secs(5);

pub(crate) enum Message {
    Stats(oneshot::Sender<Stats>),
    End(EndReason),
}

#[derive(Debug, Error)]
pub(crate) enum CreateError {
    #[error("cannot make the VM's directory")]
    Directory(#[source] io::Error),
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

/// All that the task needs.
pub(crate) struct Owner {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) reservation: Reservation,
    pub(crate) spawner: Arc<dyn VmmSpawner>,
    pub(crate) boots: Arc<Semaphore>,
    pub(crate) boot_deadline: Duration,
    /// The client that waits for the sandbox.
    pub(crate) born: oneshot::Sender<Result<(), CreateFailure>>,
}

struct Machinery {
    process: Box<dyn VmmProcess>,
    control: Control,
}

impl Owner {
    /// The sandbox's whole life. When this returns nothing of it is left.
    pub(crate) async fn run(self) {
        let Self {
            sandbox,
            mut mailbox,
            mut reservation,
            spawner,
            boots,
            boot_deadline,
            mut born,
        } = self;
        let started = Instant::now();
        let booted = {
            let birth = Birth {
                sandbox: &sandbox,
                spawner: &*spawner,
                boots: &boots,
                deadline: boot_deadline,
            };
            birth.boot(&mut mailbox, &mut born).await
        };
        let (reason, machinery) = match booted {
            Ok(machinery) => {
                let milliseconds = started.elapsed().as_millis();
                tracing::info!(milliseconds, pid = machinery.process.pid(), "sandbox ready");
                // An owner alone moves the phase forward, so it is still booting here.
                drop(sandbox.advance(lifecycle::Machine::booted));
                if born.send(Ok(())).is_ok() {
                    live(&sandbox, machinery, &mut mailbox, &mut reservation).await
                } else {
                    (EndReason::Abandoned, Some(machinery))
                }
            }
            Err((reason, failure)) => {
                if let Some(failure) = failure {
                    tracing::warn!(error = %ErrorChain(&failure.error), "sandbox not created");
                    drop(born.send(Err(failure)));
                }
                (reason, None)
            }
        };
        tracing::info!(?reason, "sandbox ends");
        reservation.end();
        sandbox.advance(|machine| machine.end(reason));
        if let Some(machinery) = machinery {
            end(machinery.process).await;
        }
        bury(&sandbox).await;
        drop(reservation);
    }
}

/// What a boot needs.
struct Birth<'a> {
    sandbox: &'a Sandbox,
    spawner: &'a dyn VmmSpawner,
    boots: &'a Semaphore,
    deadline: Duration,
}

impl Birth<'_> {
    /// Boots the VM unless somebody ends the sandbox first. Nothing runs any more when this fails; the failure is
    /// for the client and absent when there is none.
    async fn boot(
        &self,
        mailbox: &mut mpsc::Receiver<Message>,
        born: &mut oneshot::Sender<Result<(), CreateFailure>>,
    ) -> Result<Machinery, (EndReason, Option<CreateFailure>)> {
        let mut process = None;
        let outcome = tokio::select! {
            outcome = self.steps(&mut process) => outcome.map_err(|error| (EndReason::BootFailed, Some(error))),
            () = born.closed() => Err((EndReason::Abandoned, None)),
            reason = asked_to_end(mailbox) => Err((reason, Some(match reason {
                EndReason::Shutdown => CreateError::Shutdown,
                _ => CreateError::Deleted,
            }))),
        };
        match (outcome, process) {
            (Ok(control), Some(process)) => Ok(Machinery { process, control }),
            (Ok(_), None) => Err((EndReason::BootFailed, None)),
            (Err((reason, error)), process) => {
                if let Some(process) = process {
                    end(process).await;
                }
                let files = &self.sandbox.files;
                let failure = error.map(|error| CreateFailure {
                    error,
                    console: vm::console_tail(&files.console()),
                    stderr: vm::stderr_tail(&VmFiles::stderr(&files.dir)),
                });
                Err((reason, failure))
            }
        }
    }

    /// Leaves the process with the caller, who must end it when this fails or is dropped.
    async fn steps(&self, process: &mut Option<Box<dyn VmmProcess>>) -> Result<Control, CreateError> {
        // The semaphore is never closed.
        let _turn = self.boots.acquire().await;
        let sandbox = self.sandbox;
        storage::make_private(&sandbox.files.dir).map_err(CreateError::Directory)?;
        let process = process.insert(
            self.spawner
                .spawn(&sandbox.files.dir)
                .map_err(CreateError::Spawn)?,
        );
        sandbox.vmm_pid.store(process.pid(), Ordering::Relaxed);
        let shape = Shape {
            vcpus: sandbox.spec.vcpus,
            ram_mib: sandbox.spec.ram_mib,
            rootfs_gb: sandbox.spec.rootfs_gb,
        };
        let config = sandbox.spec.template.instantiate(shape, &sandbox.files);
        let up = vm::bring_up(process.as_mut(), &sandbox.files, config, sandbox.id);
        let up = timeout(self.deadline, up)
            .await
            .map_err(|_| CreateError::Deadline(self.deadline))?
            .map_err(CreateError::Boot)?;
        sandbox.keep_connection(up.connection);
        Ok(up.control)
    }
}

/// From ready until the sandbox is to end: the reason, and the VM if it is still there.
async fn live(
    sandbox: &Sandbox,
    mut machinery: Machinery,
    mailbox: &mut mpsc::Receiver<Message>,
    reservation: &mut Reservation,
) -> (EndReason, Option<Machinery>) {
    let why = loop {
        let Machinery { process, control } = &mut machinery;
        tokio::select! {
            biased;
            message = mailbox.recv() => match message {
                Some(Message::Stats(reply)) => {
                    // A closed control socket shows again below.
                    if let Ok(Ok(stats)) = timeout(STATS_BOUND, control.stats()).await {
                        drop(reply.send(stats));
                    }
                }
                Some(Message::End(reason)) => return (reason, Some(machinery)),
                None => return (EndReason::Shutdown, Some(machinery)),
            },
            report = control.ended() => match report {
                Ok(report) => break vm::describe(&report.cause),
                // The process is dying, or broken beyond use: how it exits says more.
                Err(_) => match timeout(EXIT_BOUND, process.exited()).await {
                    Ok(how) => break format!("the VM process {how}"),
                    Err(_) => break "the VM process does not answer".to_owned(),
                },
            },
            how = process.exited() => break control.last_word(&how).await,
        }
    };
    let words = vm::console_tail(&sandbox.files.console());
    tracing::warn!(why, console = words, "sandbox failed");
    drop(sandbox.last_words.set(words));
    drop(sandbox.advance(|machine| machine.fail(why)));
    sandbox.drop_connections();
    end(machinery.process).await;
    sandbox.vmm_pid.store(0, Ordering::Relaxed);
    // Nobody can read the disk any more; the console stays until the sandbox is deleted.
    drop(fs::remove_file(sandbox.files.disk_layer()));
    reservation.shrink();
    (asked_to_end(mailbox).await, None)
}

/// Waits for the word to end; questions meanwhile go unanswered.
async fn asked_to_end(mailbox: &mut mpsc::Receiver<Message>) -> EndReason {
    loop {
        match mailbox.recv().await {
            Some(Message::End(reason)) => return reason,
            Some(Message::Stats(_)) => {}
            None => return EndReason::Shutdown,
        }
    }
}

/// Ends a VM process and waits until the kernel has taken it back.
async fn end(mut process: Box<dyn VmmProcess>) {
    process.kill();
    if timeout(EXIT_BOUND, process.exited()).await.is_err() {
        tracing::error!(pid = process.pid(), "a killed VM process does not exit");
    }
}

async fn bury(sandbox: &Sandbox) {
    sandbox.drop_connections();
    sandbox.vmm_pid.store(0, Ordering::Relaxed);
    let dir = sandbox.files.dir.clone();
    // Large layers take a while to free; other sandboxes must not wait for it.
    let removed = tokio::task::spawn_blocking(move || storage::remove(&dir)).await;
    if let Ok(Err(error)) = removed {
        tracing::error!(%error, dir = %sandbox.files.dir.display(), "cannot remove a VM's directory");
    }
    drop(sandbox.advance(lifecycle::Machine::gone));
}
