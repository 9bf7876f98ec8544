//! Taking over the sandboxes of a daemon that is gone.
//!
//! ```text
//!  Host::open: look at records and processes ──▶ on the roster; all that nobody can use is ended
//!  take_over:  process, control socket, agent ──▶ a sandbox as it was     (several at once)
//!              the process is gone, or does not answer ──▶ a sandbox that has failed, and says why
//! ```
//!
//! Nothing is refused for want of room, quota or memory: all of it exists already. Calls are answered when all is taken
//! over, so that none meets half of it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use agent_proto::{Reply, Request};
use futures_util::{StreamExt as _, stream};
use lifecycle::Ancestry;
use pod_types::{ErrorChain, SandboxId};
use thiserror::Error;
use tokio::time::timeout;
use tracing::Instrument as _;
use vmm_proto::{Command, VmState};

use super::Host;
use super::creation::{Draft, Place};
use crate::agent::{self, AgentConnection, AgentError};
use crate::auth::Tenant;
use crate::events;
use crate::records::{Bookmark, Found, OriginRecord, Orphan, Record, sort_out};
use crate::replay::{Replay, Scribe};
use crate::sandbox::{Origin, Spec, Start, Title};
use crate::spaces::Spaces;
use crate::storage::{self, DataDir, DataDirError, Spared};
use crate::tenants::Account;
use crate::vm::{self, Control, ControlError, Home, Process, ProcessName, Roster, Ticket, Vm, VmmSpawner};

/// Sandboxes taken over at once: each mostly waits for its guest.
pub(super) const AT_ONCE: usize = 16;

/// How long a VM process may take to answer. One that is in the middle of cloning answers after that.
pub(super) const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Findings {
    orphans: Vec<(Orphan, Tickets)>,
    bookmarks: Vec<(Bookmark, Tickets)>,
    next_home: u64,
}

/// Keep the reaper from a VM that is not taken over yet.
#[derive(Debug)]
pub(super) struct Tickets {
    _process: Option<Ticket<u32>>,
    _home: Ticket<OsString>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Sandboxes that go on.
    pub adopted: usize,
    /// States of them that they can still be rolled back to.
    pub checkpoints: usize,
    /// Those that are known and have failed.
    pub failed: usize,
    /// Those of tenants that are no more.
    pub ended: usize,
}

/// A VM that has answered.
struct Up {
    process: Process,
    control: Control,
    agent: Agent,
}

/// What its guest says of its last run.
enum Agent {
    /// All of it is known.
    Idle(AgentConnection),
    /// It goes on, or its end was not heard of.
    GoesOn(AgentConnection, Scribe),
    /// Nothing. That may be its users' doing, and nothing is taken from them for it.
    Unheard,
}

/// What became of one sandbox.
enum Outcome {
    Adopted,
    Failed,
    Ended,
}

/// Why a VM could not be taken over.
#[derive(Debug, Error)]
pub(super) enum AdoptError {
    #[error("the VM ended while no daemon was running")]
    Gone,
    #[error("its process cannot be watched")]
    Watch(#[source] io::Error),
    #[error("its control socket cannot be reached")]
    Control(#[source] ControlError),
    #[error(
        "its VM process does not understand this version of podflare-hostd; sandboxes do not survive an upgrade that \
         changes the protocol between the two"
    )]
    Protocol(#[source] ControlError),
    #[error("it was still being made")]
    Unstarted,
}

impl Findings {
    /// Ends and removes what nobody can take over.
    pub(super) fn look(
        data: &DataDir,
        spawner: &dyn VmmSpawner,
        roster: &Roster,
        spaces: &Spaces,
    ) -> Result<Self, DataDirError> {
        let vms = data.vms();
        let mut found: Found = sort_out(vms, spawner).map_err(|source| DataDirError::Io {
            path: vms.to_owned(),
            source,
        })?;
        // A daemon that died just after it had frozen them: what is on disk is the sandbox.
        found.orphans.retain(|orphan| !spaces.is_frozen(orphan.record.id));
        let orphans = &found.orphans;
        found.bookmarks.retain(|bookmark| {
            let sandbox = bookmark.record.sandbox;
            orphans
                .iter()
                .any(|orphan| orphan.record.id == sandbox || orphan.record.also.contains(&sandbox))
        });
        let process = |orphan: &Orphan| orphan.process.map(|process| process.pid);
        let keeper = |bookmark: &Bookmark| bookmark.record.process.pid;
        let names = found.orphans.iter().map(|orphan| &orphan.name);
        let spared = Spared {
            pids: found
                .orphans
                .iter()
                .filter_map(process)
                .chain(found.bookmarks.iter().map(keeper))
                .collect(),
            dirs: names
                .chain(found.bookmarks.iter().map(|bookmark| &bookmark.name))
                .cloned()
                .collect(),
        };
        storage::clear(vms, spawner, &spared)?;
        let tickets = |pid: Option<u32>, name: &OsString| Tickets {
            _process: pid.map(|pid| roster.add_pid(pid)),
            _home: roster.add_dir(name.clone()),
        };
        let orphans = found.orphans.into_iter().map(|orphan| {
            let tickets = tickets(process(&orphan), &orphan.name);
            (orphan, tickets)
        });
        let bookmarks = found.bookmarks.into_iter().map(|bookmark| {
            let tickets = tickets(Some(keeper(&bookmark)), &bookmark.name);
            (bookmark, tickets)
        });
        Ok(Self {
            next_home: found.next_home,
            orphans: orphans.collect(),
            bookmarks: bookmarks.collect(),
        })
    }

    /// Whether this sandbox is found with its VM.
    pub(super) fn has(&self, sandbox: SandboxId) -> bool {
        let mut orphans = self.orphans.iter().map(|(orphan, _)| orphan);
        orphans.any(|orphan| orphan.record.id == sandbox && orphan.process.is_some())
    }

    pub(super) fn next_home(&self) -> u64 {
        self.next_home
    }
}

impl Host {
    /// Takes over what [`Self::open`] has found. To be called once, before calls are answered.
    pub async fn take_over(self: &Arc<Self>) -> TakenOver {
        let (orphans, bookmarks) = {
            let mut findings = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let Findings {
                orphans, bookmarks, ..
            } = &mut *findings;
            (std::mem::take(orphans), std::mem::take(bookmarks))
        };
        if orphans.is_empty() {
            self.network.wires.settle();
            return TakenOver::default();
        }
        let started = Instant::now();
        let former = former_ids(&orphans);
        let made = orphans
            .iter()
            .flat_map(|(orphan, _)| &orphan.record.origin.ancestry);
        let next_vm = made.map(|(vm, _)| vm.saturating_add(1)).max();
        self.vms_made.fetch_max(next_vm.unwrap_or(0), Ordering::Relaxed);
        let adopting = orphans.into_iter().map(|(orphan, tickets)| {
            let span = tracing::info_span!("adopt", sandbox_id = %orphan.record.id);
            self.take_over_one(orphan, tickets, &former).instrument(span)
        });
        let outcomes: Vec<_> = stream::iter(adopting).buffer_unordered(AT_ONCE).collect().await;
        self.network.wires.settle();
        let checkpoints = self.take_over_checkpoints(bookmarks, &former).await;
        let count = |what: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| what(outcome)).count();
        let report = TakenOver {
            checkpoints,
            adopted: count(|outcome| matches!(outcome, Outcome::Adopted)),
            failed: count(|outcome| matches!(outcome, Outcome::Failed)),
            ended: count(|outcome| matches!(outcome, Outcome::Ended)),
        };
        let milliseconds = started.elapsed().as_millis();
        tracing::info!(
            ?report,
            milliseconds,
            "sandboxes of the daemon before this one are taken over"
        );
        report
    }

    async fn take_over_one(
        self: &Arc<Self>,
        orphan: Orphan,
        tickets: Tickets,
        former: &HashMap<SandboxId, SandboxId>,
    ) -> Outcome {
        let Orphan {
            name,
            record,
            process,
        } = orphan;
        // From here on each is on the roster in its own right.
        drop(tickets);
        let home = self.tools.homes.existing(name);
        let kept = home.files.replay();
        let recalled = tokio::task::spawn_blocking(move || Replay::recall(kept)).await;
        let replay = recalled.unwrap_or_default();
        let process = process.map(|process| self.open_process(process));
        let Some(account) = self.tenants().account(Tenant(record.tenant)) else {
            tracing::warn!(
                tenant = record.tenant,
                "the tenant of a sandbox is no more; ending it"
            );
            return self.end_unowned(process).await;
        };
        let up = match (&record.failed, process) {
            (Some(failed), _) => Err((failed.why.clone(), failed.words.clone())),
            (None, None) => Err((
                AdoptError::Gone.to_string(),
                vm::console_tail(&home.files.console()),
            )),
            (None, Some(process)) => match reach(process, &home).await {
                Ok((process, control)) => {
                    let agent = ask_for_run(&home, &replay).await;
                    Ok(Up {
                        process,
                        control,
                        agent,
                    })
                }
                Err(error) => {
                    let why = ErrorChain(&error).to_string();
                    Err((why, vm::console_tail(&home.files.console())))
                }
            },
        };
        if !matches!(
            up,
            Ok(Up {
                agent: Agent::GoesOn(..),
                ..
            })
        ) {
            replay.close();
        }
        self.restore_sandbox(&account, record, (home, replay), up, former)
    }

    pub(super) fn open_process(&self, process: ProcessName) -> Result<Process, AdoptError> {
        match self.tools.spawner.adopt(process) {
            Ok(inner) => Ok(Process::new(inner, self.tools.homes.roster())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(AdoptError::Gone),
            Err(error) => Err(AdoptError::Watch(error)),
        }
    }

    async fn end_unowned(&self, process: Option<Result<Process, AdoptError>>) -> Outcome {
        if let Some(Ok(process)) = process {
            process.end().await;
        }
        Outcome::Ended
    }

    /// Makes the sandbox what it was: as far as its clients can tell the daemon was only slow.
    fn restore_sandbox(
        self: &Arc<Self>,
        account: &Arc<Account>,
        record: Record,
        (mut home, replay): (Home, Arc<Replay>),
        up: Result<Up, (String, String)>,
        former: &HashMap<SandboxId, SandboxId>,
    ) -> Outcome {
        let Some((spec, origin)) = self.described(&record) else {
            tracing::error!("the record of a sandbox names no ancestry; ending its VM");
            return Outcome::Ended;
        };
        let wires = &self.network.wires;
        let wire = match record.spec.wire {
            Some(wire) if up.is_ok() => wires.claim(wire, spec.egress.clone()),
            // Also of one without a VM: what it could reach is still shown.
            _ => wires.make_lost(spec.egress.clone()),
        };
        home.take_wire(wire);
        let draft = Draft {
            title: Title {
                id: record.id,
                terms: record.terms,
            },
            slot: Some(account.readmit()),
            account: Arc::clone(account),
            spec,
            origin,
            files: home.files.clone(),
            wire: home.wire_link(),
            replay,
            checkpoints: Arc::default(),
        };
        let parent = record
            .parent
            .map(|parent| former.get(&parent).copied().unwrap_or(parent));
        let (id, reserved_mib) = (record.id, record.reserved_mib);
        let (sandbox, mailbox) = self.draw_up(draft);
        sandbox.take_record(Record { parent, ..record });
        sandbox.inherit_network();
        // Nobody could use it while there was no daemon.
        sandbox.touch();
        let mut goes_on = None;
        let (outcome, start, mib) = match up {
            Ok(Up {
                process,
                control,
                agent,
            }) => {
                let (idle, run) = match agent {
                    Agent::Idle(connection) => (Some(connection), None),
                    Agent::GoesOn(connection, scribe) => (None, Some((connection, scribe))),
                    Agent::Unheard => (None, None),
                };
                sandbox.be_born(&process, idle);
                goes_on = run;
                let vm = Vm {
                    process,
                    control,
                    home,
                };
                (Outcome::Adopted, Start::Adopted(Box::new(vm)), reserved_mib)
            }
            Err((why, words)) => {
                sandbox.be_lost();
                (Outcome::Failed, Start::Failed(home, why, words), 0)
            }
        };
        let reservation = self.budget.take_anyway(mib);
        let place = Place::New { parent: None };
        if self.adopt(&sandbox, place, mailbox, reservation, start).is_err() {
            return Outcome::Ended;
        }
        self.registry().recall(id, parent);
        self.give_secrets(&sandbox);
        self.carry_on(&sandbox, goes_on);
        let pid = sandbox.vmm_pid();
        tracing::info!(event = events::SANDBOX_ADOPTED, pid, "sandbox taken over");
        outcome
    }

    fn described(&self, record: &Record) -> Option<(Spec, Origin)> {
        let template = self.config.templates.of_existing(&record.spec.template)?;
        let spec = Spec {
            template,
            vcpus: record.spec.vcpus,
            ram_mib: record.spec.ram_mib,
            rootfs_gb: record.spec.rootfs_gb,
            egress: record.spec.egress.clone(),
            secrets: record.spec.secrets.clone(),
        };
        Some((spec, origin_of(&record.origin)?))
    }
}

/// Where a VM comes from; nothing when the record names no ancestry.
pub(super) fn origin_of(record: &OriginRecord) -> Option<Origin> {
    Some(Origin {
        source: record.source,
        generation: record.generation,
        ancestry: Ancestry::from_links(&record.ancestry)?,
    })
}

/// Who is known by another id now than what its children may have written down.
fn former_ids(orphans: &[(Orphan, Tickets)]) -> HashMap<SandboxId, SandboxId> {
    let records = orphans.iter().map(|(orphan, _)| &orphan.record);
    records
        .flat_map(|record| record.also.iter().map(|former| (*former, record.id)))
        .collect()
}

/// Speaks to a VM process for the first time since its daemon is gone, and lets its VM run.
async fn reach(process: Result<Process, AdoptError>, home: &Home) -> Result<(Process, Control), AdoptError> {
    let process = process?;
    match timeout(ANSWER_BOUND, converse(home)).await {
        Ok(Ok(control)) => Ok((process, control)),
        Ok(Err(error)) => {
            process.end().await;
            Err(error)
        }
        Err(_) => {
            process.end().await;
            Err(AdoptError::Control(ControlError::Silent(ANSWER_BOUND)))
        }
    }
}

async fn converse(home: &Home) -> Result<Control, AdoptError> {
    let connected = Control::connect_now(&home.files.control_socket()).await;
    let mut control = connected.map_err(AdoptError::Control)?;
    let stats = control.stats().await.map_err(|error| match error {
        ControlError::Refused(_) | ControlError::Codec(_) | ControlError::Unexpected => {
            AdoptError::Protocol(error)
        }
        other => AdoptError::Control(other),
    })?;
    match stats.state {
        VmState::Running => Ok(control),
        // Its daemon died just while it had made it stand still.
        VmState::Paused => {
            let resumed = control.run(Command::Resume).await;
            resumed.map(|()| control).map_err(AdoptError::Control)
        }
        VmState::Unstarted => Err(AdoptError::Unstarted),
    }
}

/// Has the guest go on with a run that the daemon that is gone has not heard the end of.
async fn ask_for_run(home: &Home, replay: &Arc<Replay>) -> Agent {
    let asking = async {
        let mut connection = agent::connect(&home.files.vsock_socket()).await?;
        let reply = connection.ask(&Request::Resume(replay.known())).await?;
        Ok((connection, reply))
    };
    match timeout(ANSWER_BOUND, asking)
        .await
        .unwrap_or(Err(AgentError::Silent))
    {
        Ok((connection, Reply::Resumed(resumed))) => {
            let scribe = replay.resume(&resumed);
            Agent::GoesOn(connection, scribe)
        }
        Ok((connection, Reply::Failed(_))) => Agent::Idle(connection),
        Ok(_) => Agent::Unheard,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "the guest's agent does not answer");
            Agent::Unheard
        }
    }
}
