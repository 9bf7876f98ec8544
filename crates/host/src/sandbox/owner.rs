//! The task that owns one sandbox.
//!
//! It boots the VM or is given one that is up, has it cloned when somebody forks it, notices when it dies, and gives
//! everything back at the end, whichever way the end came.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::Source;
use lifecycle::EndReason;
use pod_types::ErrorChain;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Span;
use vmm_proto::{FreezeReport, Stats};

use super::birth::Birth;
use super::handle::Sandbox;
use crate::budget::Reservation;
use crate::events;
use crate::happenings::{Happening, Happenings};
use crate::metrics::{Death, Metrics, Role};
use crate::storage::Reaper;
use crate::vm::{
    self, Brood, CloneError, FreezeFiles, FreezeVmError, Home, Homes, Order, Reach, Standby, Vm, VmmSpawner,
};

/// How long a VM process may take to answer a question.
const STATS_BOUND: Duration = Duration::from_secs(2);
/// How long a VM process may take to exit once its VM has ended.
const EXIT_BOUND: Duration = Duration::from_secs(5);

pub(crate) enum Message {
    Stats(oneshot::Sender<Stats>),
    /// Make clones. Those that nobody receives any more are ended.
    Clone(Order, oneshot::Sender<Result<Brood, CloneError>>),
    /// Write the VM to these files. It stands still afterwards, also when that failed, until it ends or goes on.
    Freeze(FreezeFiles, oneshot::Sender<Result<FreezeReport, FreezeVmError>>),
    /// It was not frozen after all.
    GoOn(oneshot::Sender<()>),
    /// The host takes the VM away, and why.
    Fail(String),
    End(EndReason),
}

/// What every owner works with.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) spawner: Arc<dyn VmmSpawner>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) standby: Arc<Standby>,
    pub(crate) reaper: Reaper,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) happenings: Happenings,
}

/// All that the task needs.
pub(crate) struct Owner {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) reservation: Reservation,
    pub(crate) tools: Tools,
    pub(crate) start: Start,
}

/// What the sandbox starts from.
pub(crate) enum Start {
    Boot(Box<Birth>),
    /// The VM is up, knows who it is, and belongs to somebody who knows it too.
    Born(Box<Vm>),
    /// The same, and it has belonged to them under a daemon before this one.
    Adopted(Box<Vm>),
    /// It has failed under a daemon before this one, or without one: why, and the console's last words.
    Failed(Home, String, String),
}

/// How a sandbox begins under this owner.
enum Up {
    Vm(Vm),
    Adopted(Vm),
    Failed(Home, String, String),
}

/// What is left of a VM.
enum Remains {
    Nothing,
    /// It runs.
    Vm(Vm),
    /// Its process is gone; the console can still be read.
    Home(#[expect(dead_code, reason = "held for as long as somebody may ask for the console")] Home),
}

impl Owner {
    /// The sandbox's whole life. When this returns nothing of it is left but a directory that is being removed.
    /// `request` is the span in which it was asked for.
    pub(crate) async fn run(self, request: Span) {
        let Self {
            sandbox,
            mut mailbox,
            mut reservation,
            tools,
            start,
        } = self;
        let up = match start {
            Start::Boot(birth) => birth.boot(&sandbox, &mut mailbox).await.map(Up::Vm),
            Start::Born(vm) => Ok(Up::Vm(*vm)),
            Start::Adopted(vm) => Ok(Up::Adopted(*vm)),
            Start::Failed(home, why, words) => Ok(Up::Failed(home, why, words)),
        };
        if let Ok(Up::Vm(vm)) = &up {
            vm.home.limit(sandbox.spec.ram_mib);
            announce(&sandbox, request);
        }
        let (reason, remains) = match up {
            Ok(Up::Vm(vm) | Up::Adopted(vm)) => {
                live(&sandbox, vm, &mut mailbox, &mut reservation, &tools).await
            }
            Ok(Up::Failed(home, why, words)) => {
                fail(&sandbox, why, words);
                (asked_to_end(&mut mailbox).await, Remains::Home(home))
            }
            Err(reason) => (reason, Remains::Nothing),
        };
        sandbox.forget_record();
        reservation.end();
        sandbox.advance(|machine| machine.end(reason));
        sandbox.drop_connections();
        if let Remains::Vm(vm) = remains {
            vm.end().await;
        }
        sandbox.vmm_pid.store(0, Ordering::Relaxed);
        // After a rollback they are those of the VM that has taken its place.
        if reason != EndReason::RolledBack {
            sandbox.checkpoints.close().await;
        }
        drop(sandbox.advance(lifecycle::Machine::gone));
        let (runs, _) = sandbox.tally.runs();
        tracing::info!(
            event = events::SANDBOX_DESTROYED,
            ?reason,
            runs,
            "sandbox destroyed"
        );
        if let Some(end) = Happening::of_end(reason) {
            tools.happenings.tell(&sandbox, end);
        }
    }
}

/// Here and not where it was asked for: nobody waits for this line.
fn announce(sandbox: &Sandbox, request: Span) {
    let _request = request.entered();
    let event = match sandbox.origin.source {
        Source::Fork => events::SANDBOX_FORKED,
        Source::Space => events::SANDBOX_RESUMED,
        Source::Rollback => events::SANDBOX_ROLLED_BACK,
        Source::Pool | Source::Clone | Source::Boot => events::SANDBOX_CREATED,
    };
    tracing::info!(
        event,
        sandbox_id = %sandbox.id(),
        template = sandbox.spec.template.name,
        source = ?sandbox.origin.source,
        generation = sandbox.origin.generation,
        pid = sandbox.vmm_pid(),
        "sandbox begins"
    );
}

/// From ready until the sandbox is to end: the reason, and what is left of its VM.
async fn live(
    sandbox: &Sandbox,
    mut vm: Vm,
    mailbox: &mut mpsc::Receiver<Message>,
    reservation: &mut Reservation,
    tools: &Tools,
) -> (EndReason, Remains) {
    let (death, why) = loop {
        let Vm {
            process,
            control,
            home,
        } = &mut vm;
        tokio::select! {
            biased;
            message = mailbox.recv() => match message {
                Some(Message::Stats(reply)) => {
                    // A closed control socket shows again below.
                    if let Ok(Ok(stats)) = timeout(STATS_BOUND, control.stats()).await {
                        drop(reply.send(stats));
                    }
                }
                Some(Message::Clone(order, reply)) => {
                    // Waiting for its turn it may have been given up.
                    if !reply.is_closed() {
                        drop(reply.send(clone(&mut vm, order, tools).await));
                    }
                }
                Some(Message::Freeze(files, reply)) => {
                    let frozen = vm::freeze_vm(&mut vm, &files).await;
                    tools.standby.want();
                    let fatal = frozen.as_ref().err().filter(|error| error.is_fatal());
                    let fatal = fatal.map(|error| ErrorChain(error).to_string());
                    drop(reply.send(frozen));
                    if let Some(why) = fatal {
                        break (Death::Silent, format!("the VM process did not freeze its VM: {why}"));
                    }
                }
                Some(Message::GoOn(told)) => {
                    if let Err(error) = vm::go_on(&mut vm).await {
                        let why = ErrorChain(&error).to_string();
                        break (Death::Silent, format!("the VM does not go on after it was not frozen: {why}"));
                    }
                    sandbox.advance(lifecycle::Machine::not_frozen);
                    let _ = told.send(());
                }
                Some(Message::Fail(why)) => break (Death::HostMemory, why),
                Some(Message::End(reason)) => return (reason, Remains::Vm(vm)),
                None => return (EndReason::Shutdown, Remains::Vm(vm)),
            },
            report = control.ended() => match report {
                Ok(report) => break (Death::of(&report.cause), vm::describe(&report.cause)),
                // The process is dying, or broken beyond use: how it exits says more.
                Err(_) => match timeout(EXIT_BOUND, process.exited()).await {
                    Ok(how) => break (Death::Crash, format!("the VM process {how}")),
                    Err(_) => break (Death::Silent, "the VM process does not answer".to_owned()),
                },
            },
            how = process.exited() => break control.last_word(&how).await,
            () = home.wire_lost() => vm::connect(&mut vm).await,
        }
    };
    tools.metrics.vms.died(Role::Sandbox, death);
    let Vm { process, home, .. } = vm;
    let words = vm::console_tail(&home.files.console());
    tracing::warn!(event = events::SANDBOX_FAILED, kind = ?death, why, console = words, "sandbox failed");
    fail(sandbox, why, words);
    sandbox.drop_connections();
    process.end().await;
    sandbox.vmm_pid.store(0, Ordering::Relaxed);
    // Nobody can read the disk any more; the console stays until the sandbox is deleted. A clone's disk has no name.
    drop(std::fs::remove_file(home.files.disk_layer()));
    reservation.shrink();
    (asked_to_end(mailbox).await, Remains::Home(home))
}

fn fail(sandbox: &Sandbox, why: String, words: String) {
    sandbox.record_failure(&why, &words);
    drop(sandbox.last_words.set(words));
    drop(sandbox.advance(|machine| machine.fail(why)));
}

async fn clone(vm: &mut Vm, order: Order, tools: &Tools) -> Result<Brood, CloneError> {
    let parent = vm.process.pid();
    // Those that run believe to be this one until they are told otherwise; those that do not are cloned once more.
    let wire = vm.home.wire_link();
    let reach = if order.run {
        Reach::Of(&wire)
    } else {
        Reach::Unneeded
    };
    let asked = (order, reach);
    let brood = vm::clone_vm(&mut vm.control, parent, asked, &tools.homes, &*tools.spawner).await;
    if brood.is_err() {
        tools.reaper.suspect();
    }
    brood
}

/// Waits for the word to end; questions meanwhile go unanswered.
pub(super) async fn asked_to_end(mailbox: &mut mpsc::Receiver<Message>) -> EndReason {
    loop {
        match mailbox.recv().await {
            Some(Message::End(reason)) => return reason,
            Some(
                Message::Stats(_)
                | Message::Clone(..)
                | Message::Freeze(..)
                | Message::GoOn(_)
                | Message::Fail(_),
            ) => {}
            None => return EndReason::Shutdown,
        }
    }
}
