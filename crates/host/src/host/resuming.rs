//! From a space to a sandbox.
//!
//! ```text
//!  claim ─▶ room ─▶ process, check, build ─▶ identity, run in progress ─▶ consume ─▶ known under its id
//!    └────────┴───────────┴────────────────────┴─ anything fails: the VM ends, the space is as it was
//! ```
//!
//! A space is consumed by one renaming, which names the sandbox, just before that is written down and anybody knows it. A
//! daemon that comes after one that died in between puts the space back, unless it has found that sandbox running.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use agent_proto::{FailureCode, Reply, Request};
use api::{ResumeRequest, Source};
use lifecycle::{Ancestry, QuotaRefused};
use pod_types::{ErrorChain, IdError, SandboxId, SpaceId};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use super::creation::{Draft, Place};
use super::room::Unserved;
use super::turns::Line;
use super::{Host, Marks, NoRoom};
use crate::agent::{AgentConnection, AgentError, Clock};
use crate::auth::Tenant;
use crate::clock;
use crate::events;
use crate::happenings::Happening;
use crate::replay::{KeptError, Replay, Scribe, Succession};
use crate::sandbox::{Origin, RunStream, Sandbox, Spec, Start, Terms, Title};
use crate::spaces::{BaseError, Claim, Meta, NoSpace, image_mark};
use crate::storage::Template;
use crate::tenants::TurnRefused;
use crate::vm::{self, BootError, ThawVmError, Vm};

/// How long a resumed guest may take to take on its identity: all it needs has to come from the disk first.
const IDENTITY_BOUND: Duration = Duration::from_secs(30);
/// How long it may take to say whether a run goes on in it.
const FOLLOW_BOUND: Duration = Duration::from_secs(10);
/// What a resumed VM counts for beside what is in its space, in MiB, where clones of its template were never measured.
pub(super) const BESIDE_MIB: u64 = 64;

/// Why there is no sandbox. The space is as it was, if there is one.
#[derive(Debug, Error)]
pub(crate) enum ResumeError {
    #[error(transparent)]
    Space(NoSpace),
    #[error("the host is shutting down")]
    Stopping,
    #[error("the tenant is unknown")]
    NoTenant,
    #[error("the tenant may have no further sandbox")]
    Quota(#[source] QuotaRefused),
    #[error("it is not its turn")]
    Turn(#[source] TurnRefused),
    #[error("there is no room for it")]
    NoRoom(NoRoom),
    #[error("there is no id for the sandbox")]
    Id(#[source] IdError),
    /// It cannot be resumed here as things are.
    #[error("{0}")]
    Unfit(String),
    #[error("cannot work on the space's files")]
    Files(#[source] io::Error),
    #[error("the space lies over what is not there any more as it was")]
    Base(#[source] BaseError),
    #[error("what its runs have said is of no use")]
    Replay(#[source] KeptError),
    #[error("the VM of the space cannot go on here")]
    Thaw(#[source] ThawVmError),
    #[error("its guest did not take on its identity")]
    Identity(#[source] BootError),
    #[error("its guest did not take on its identity within {} s", IDENTITY_BOUND.as_secs())]
    IdentityDeadline,
    #[error("its guest does not say whether the run in progress goes on")]
    Follow(#[source] AgentError),
    #[error("nobody waits for it any more")]
    Abandoned,
    #[error("the task that resumed it ended without a word")]
    Lost,
}

/// A resumed VM that nobody knows yet.
struct Risen {
    id: SandboxId,
    vm: Vm,
    replay: Arc<Replay>,
    /// The connection on which it was told who it is, and what follows its run over it.
    connection: AgentConnection,
    scribe: Option<Scribe>,
}

impl From<Unserved> for ResumeError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::NoRoom(no_room) => Self::NoRoom(no_room),
            Unserved::Turn(refused) => Self::Turn(refused),
        }
    }
}

impl Host {
    /// Resumes a tenant's space, under a new id or a given one. Dropping this leaves the space as it was.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        space: SpaceId,
        tenant: Tenant,
        request: ResumeRequest,
        known_as: Option<SandboxId>,
    ) -> Result<(Arc<Sandbox>, Marks), ResumeError> {
        if self.is_stopping() {
            return Err(ResumeError::Stopping);
        }
        let (mut caller, waits) = oneshot::channel();
        let host = Arc::clone(self);
        // A task of its own: whoever goes away must not stop it between two steps that belong together.
        self.owners.spawn(async move {
            let started = Instant::now();
            let resumed = host
                .resume_for(&mut caller, space, tenant, request, known_as)
                .await;
            match &resumed {
                Ok(_) => host.metrics().spaces.resumed(started.elapsed()),
                Err(error) => {
                    host.metrics().spaces.resume_failed();
                    tracing::warn!(
                        event = events::RESUME_FAILED,
                        space = %space,
                        error = %ErrorChain(error),
                        "the space was not resumed"
                    );
                }
            }
            drop(caller.send(resumed));
        });
        waits.await.unwrap_or(Err(ResumeError::Lost))
    }

    async fn resume_for(
        self: &Arc<Self>,
        caller: &mut oneshot::Sender<Result<(Arc<Sandbox>, Marks), ResumeError>>,
        space: SpaceId,
        tenant: Tenant,
        request: ResumeRequest,
        known_as: Option<SandboxId>,
    ) -> Result<(Arc<Sandbox>, Marks), ResumeError> {
        let mut marks = Marks::begin();
        let account = self.tenants().account(tenant).ok_or(ResumeError::NoTenant)?;
        let claim = Claim::take(&self.spaces, space, tenant).map_err(ResumeError::Space)?;
        let spec = self.spec_of(&claim, &request).await?;
        let slots = account.admit(self.tenants().now(), 1);
        let slot = slots
            .map_err(ResumeError::Quota)?
            .pop()
            .ok_or(ResumeError::NoTenant)?;
        let _foreground = self.activity.foreground();
        let line = Line::Clone(&spec.template.name);
        let turn = self.turns.enter(line, tenant).await.map_err(ResumeError::Turn)?;
        let need = (claim.meta.memory_bytes >> 20) + BESIDE_MIB;
        let need = need.min(u64::from(spec.ram_mib));
        let (reservation, _turn) = self.room_at_turn(turn, line, need, &account).await?;
        marks.mark("turn");
        let raising = self.raise_space(&claim, &spec.template, known_as, &mut marks);
        let (risen, checked) = tokio::join!(raising, self.check_base(&claim));
        let risen = risen?;
        checked?;
        if caller.is_closed() {
            return Err(ResumeError::Abandoned);
        }
        let id = risen.id;
        let terms = self.terms_of(&claim.meta, &request, &account.limits());
        let meta = Arc::clone(&claim.meta);
        let draft = Draft {
            title: Title { id: risen.id, terms },
            account: Arc::clone(slot.account()),
            slot: Some(slot),
            spec,
            origin: Origin {
                source: Source::Space,
                generation: meta.generation,
                ancestry: Ancestry::root(self.next_vm(), clock::now_ms()),
            },
            files: risen.vm.home.files.clone(),
            wire: risen.vm.home.wire_link(),
            replay: risen.replay,
            checkpoints: Arc::default(),
        };
        let (sandbox, mailbox) = self.draw_up(draft);
        let (idle, carried) = match risen.scribe {
            None => (Some(risen.connection), None),
            Some(scribe) => (None, Some((risen.connection, scribe))),
        };
        sandbox.be_born(&risen.vm.process, idle);
        sandbox.open_network();
        // Before the space is used up: a daemon that is killed in between leaves both, and never neither.
        let (recorded, reserved_mib) = (Arc::clone(&sandbox), reservation.mib());
        let recording = tokio::task::spawn_blocking(move || {
            recorded.replay.keep_in(recorded.files.replay());
            recorded.begin_record(None, reserved_mib)
        });
        let recorded = recording.await.map_err(io::Error::other).and_then(|done| done);
        recorded.map_err(ResumeError::Files)?;
        let consumed = if request.keep {
            None
        } else {
            let consumed = tokio::task::spawn_blocking(move || claim.consume(id)).await;
            let consumed = consumed.map_err(|_| ResumeError::Lost)?;
            Some(consumed.map_err(|(_, error)| ResumeError::Files(error))?)
        };
        let start = Start::Born(Box::new(risen.vm));
        let place = Place::New { parent: None };
        if self.adopt(&sandbox, place, mailbox, reservation, start).is_err() {
            if let Some(consumed) = consumed {
                let back = tokio::task::spawn_blocking(move || consumed.put_back()).await;
                if let Ok(Err(error)) = back {
                    tracing::error!(%error, "cannot put a space back; the next start will");
                }
            }
            return Err(ResumeError::Stopping);
        }
        self.give_secrets(&sandbox);
        if let Some((connection, scribe)) = carried
            && let Ok(ticket) = sandbox.begin_run()
        {
            let run = RunStream::following(Arc::clone(&sandbox), ticket, connection, scribe);
            self.background.spawn(run.write_down());
        }
        if let Some(consumed) = consumed {
            tokio::task::spawn_blocking(move || consumed.remove());
        }
        let happening = Happening::Resumed {
            space: space.to_string(),
        };
        self.happened(&sandbox, happening);
        sandbox.network_is_ready().await;
        marks.mark("consume");
        Ok((sandbox, marks))
    }

    /// What the sandbox was and will be, if this host has what it is made of.
    async fn spec_of(&self, claim: &Claim, request: &ResumeRequest) -> Result<Spec, ResumeError> {
        let meta = &claim.meta;
        let Some(template) = self.config.templates.get(Some(&meta.template)) else {
            let name = &meta.template;
            return Err(ResumeError::Unfit(format!(
                "it was made from the template {name}, which this host does not have"
            )));
        };
        let image = template.image().to_owned();
        let marked = tokio::task::spawn_blocking(move || image_mark(&image)).await;
        let marked = marked.map_err(io::Error::other).and_then(|mark| mark);
        if marked.map_err(ResumeError::Files)? != meta.image {
            let name = &meta.template;
            return Err(ResumeError::Unfit(format!(
                "the disk image of the template {name} is not the one it was made from; its disk cannot be put together"
            )));
        }
        if meta.base.is_some() && claim.base().is_none() {
            return Err(ResumeError::Unfit(
                "the memory of its template's snapshot, over which its own lies, is not on this host"
                    .to_owned(),
            ));
        }
        Ok(Spec {
            template: template.clone(),
            vcpus: meta.shape.vcpus,
            ram_mib: meta.shape.ram_mib,
            rootfs_gb: meta.shape.rootfs_gb,
            secrets: meta.shape.secrets.clone(),
            egress: request
                .egress
                .clone()
                .unwrap_or_else(|| meta.shape.egress.clone()),
        })
    }

    /// Whether the memory under a space is what it was: asked while the VM is built over it.
    async fn check_base(&self, claim: &Claim) -> Result<(), ResumeError> {
        let Some(base) = claim.base() else {
            return Ok(());
        };
        let spaces = Arc::clone(&self.spaces);
        let checked = tokio::task::spawn_blocking(move || spaces.check_base(&base)).await;
        checked.map_err(|_| ResumeError::Lost)?.map_err(ResumeError::Base)
    }

    /// Builds the VM, tells it who it is, and finds out whether a run goes on in it.
    async fn raise_space(
        &self,
        claim: &Claim,
        template: &Template,
        known_as: Option<SandboxId>,
        marks: &mut Marks,
    ) -> Result<Risen, ResumeError> {
        let replay = claim.replay().map_err(ResumeError::Files)?;
        let succession = Succession::read(&replay).map_err(ResumeError::Replay)?;
        let id = known_as.map_or_else(SandboxId::random, Ok);
        let id = id.map_err(ResumeError::Id)?;
        let base = claim.base();
        let (dir, working_set) = base.map_or_else(Default::default, |base| (base.dir, base.working_set));
        let restore = |files: &_| template.restore(dir, working_set, files);
        let files = (claim.vm(), claim.meta.shape.size());
        let mut vm = vm::thaw_vm(files, restore, &self.tools.standby)
            .await
            .map_err(ResumeError::Thaw)?;
        marks.mark("thaw");
        let told = vm::introduce(
            &mut vm.process,
            &mut vm.control,
            &vm.home.files,
            id,
            Clock::WasSet,
        );
        let mut connection = timeout(IDENTITY_BOUND, told)
            .await
            .map_err(|_| ResumeError::IdentityDeadline)?
            .map_err(ResumeError::Identity)?;
        marks.mark("identity");
        let (replay, mut scribe) = (succession.heir(), None);
        if claim.meta.running {
            // What was on its way to the host when the VM stood still never came, so it is asked for again.
            let asked = timeout(FOLLOW_BOUND, connection.ask(&Request::Resume(replay.known()))).await;
            match asked
                .unwrap_or(Err(AgentError::Silent))
                .map_err(ResumeError::Follow)?
            {
                Reply::Resumed(resumed) => scribe = Some(replay.resume(&resumed)),
                // It had just ended, and all of it is known.
                Reply::Failed(failure) if failure.code == FailureCode::NotFound => replay.close(),
                Reply::Failed(failure) => {
                    return Err(ResumeError::Follow(AgentError::Failed(failure.message)));
                }
                _ => return Err(ResumeError::Follow(AgentError::Unexpected { expected: "Resume" })),
            }
            marks.mark("follow");
        }
        Ok(Risen {
            id,
            vm,
            replay,
            connection,
            scribe,
        })
    }

    /// Removes a tenant's space; one that is not there is as removed as it can be. False when somebody has it in hand.
    pub(crate) async fn remove_space(&self, id: SpaceId, tenant: Tenant) -> bool {
        let claim = match Claim::take(&self.spaces, id, tenant) {
            Ok(claim) => claim,
            Err(NoSpace::Unknown) => return true,
            Err(NoSpace::Busy) => return false,
        };
        let removed = tokio::task::spawn_blocking(move || claim.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(%error, space = %id, "cannot remove a space");
        }
        true
    }

    /// What is asked for, or what was agreed on before, silently capped.
    fn terms_of(&self, meta: &Meta, request: &ResumeRequest, limits: &pod_types::Limits) -> Terms {
        let timeout = request.timeout_seconds.or(meta.terms.timeout_seconds);
        let idle = request.idle_timeout_seconds.or(meta.terms.idle_timeout_seconds);
        Terms {
            created_at_ms: clock::now_ms(),
            born_ms: self.scheduler.uptime().now().ms(),
            timeout_seconds: limits.lifetime_s(timeout),
            idle_timeout_seconds: limits.idle_s(idle),
            persistent: request.persistent && limits.persistent,
        }
    }
}
