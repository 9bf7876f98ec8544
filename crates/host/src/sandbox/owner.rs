//! The task that owns one sandbox.
//!
//! It boots the VM or is given one that is up, has it cloned when somebody forks it, notices when it dies, and gives
//! everything back at the end, whichever way the end came.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::Source;
use lifecycle::EndReason;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Span;
use vmm_proto::Stats;

use super::birth::Birth;
use super::handle::Sandbox;
use crate::budget::Reservation;
use crate::events;
use crate::metrics::{Death, Metrics, Role};
use crate::storage::Reaper;
use crate::vm::{self, Brood, CloneError, Home, Homes, Order, Vm, VmmSpawner};

/// How long a VM process may take to answer a question.
const STATS_BOUND: Duration = Duration::from_secs(2);
/// How long a VM process may take to exit once its VM has ended.
const EXIT_BOUND: Duration = Duration::from_secs(5);

pub(crate) enum Message {
    Stats(oneshot::Sender<Stats>),
    /// Make clones. Those that nobody receives any more are ended.
    Clone(Order, oneshot::Sender<Result<Brood, CloneError>>),
    /// The host takes the VM away, and why.
    Fail(String),
    End(EndReason),
}

/// What every owner works with.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) spawner: Arc<dyn VmmSpawner>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) reaper: Reaper,
    pub(crate) metrics: Arc<Metrics>,
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
            Start::Boot(birth) => birth.boot(&sandbox, &mut mailbox).await,
            Start::Born(vm) => Ok(*vm),
        };
        if up.is_ok() {
            announce(&sandbox, request);
        }
        let (reason, remains) = match up {
            Ok(vm) => live(&sandbox, vm, &mut mailbox, &mut reservation, &tools).await,
            Err(reason) => (reason, Remains::Nothing),
        };
        reservation.end();
        sandbox.advance(|machine| machine.end(reason));
        sandbox.drop_connections();
        if let Remains::Vm(vm) = remains {
            vm.end().await;
        }
        sandbox.vmm_pid.store(0, Ordering::Relaxed);
        drop(sandbox.advance(lifecycle::Machine::gone));
        let (runs, _) = sandbox.tally.runs();
        tracing::info!(
            event = events::SANDBOX_DESTROYED,
            ?reason,
            runs,
            "sandbox destroyed"
        );
    }
}

/// Here and not where it was asked for: nobody waits for this line.
fn announce(sandbox: &Sandbox, request: Span) {
    let _request = request.entered();
    let event = match sandbox.origin.source {
        Source::Fork => events::SANDBOX_FORKED,
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
        let Vm { process, control, .. } = &mut vm;
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
        }
    };
    tools.metrics.vms.died(Role::Sandbox, death);
    let Vm { process, home, .. } = vm;
    let words = vm::console_tail(&home.files.console());
    tracing::warn!(event = events::SANDBOX_FAILED, kind = ?death, why, console = words, "sandbox failed");
    drop(sandbox.last_words.set(words));
    drop(sandbox.advance(|machine| machine.fail(why)));
    sandbox.drop_connections();
    process.end().await;
    sandbox.vmm_pid.store(0, Ordering::Relaxed);
    // Nobody can read the disk any more; the console stays until the sandbox is deleted. A clone's disk has no name.
    drop(std::fs::remove_file(home.files.disk_layer()));
    reservation.shrink();
    (asked_to_end(mailbox).await, Remains::Home(home))
}

async fn clone(vm: &mut Vm, order: Order, tools: &Tools) -> Result<Brood, CloneError> {
    let parent = vm.process.pid();
    let brood = vm::clone_vm(&mut vm.control, parent, order, &tools.homes, &*tools.spawner).await;
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
            Some(Message::Stats(_) | Message::Clone(..) | Message::Fail(_)) => {}
            None => return EndReason::Shutdown,
        }
    }
}
