//! Making sandboxes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::{CreateRequest, Source};
use lifecycle::{Ancestry, EndReason, QuotaRefused};
use pod_types::{ErrorChain, IdError, Limits, SandboxId};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use super::room::Unserved;
use super::turns::Line;
use super::{Host, Marks, NoRoom};
use crate::auth::Tenant;
use crate::budget::Reservation;
use crate::checkpoints::Checkpoints;
use crate::clock;
use crate::happenings::Happening;
use crate::metrics::{Failing, Operation};
use crate::network::WireLink;
use crate::nursery::{Newborn, Nursery};
use crate::replay::Replay;
use crate::sandbox::{
    Beginning, Birth, BootPlan, CreateFailure, Message, Origin, Owner, Sandbox, Spec, Start, Terms, Title,
};
use crate::tenants::{Account, Slot, TurnRefused};
use crate::vm::VmFiles;

/// Messages an owner may have waiting. Senders wait when it is full; there are only a few kinds.
const MAILBOX: usize = 8;

/// Why there is no new sandbox.
#[derive(Debug)]
pub(crate) enum CreateRefused {
    UnknownTemplate {
        name: String,
        known: Vec<String>,
    },
    /// The disk asked for is smaller than the template's own, both in GiB.
    SmallDisk {
        asked: u32,
        least: u32,
    },
    /// The tenant has no secret of this name.
    UnknownSecret(String),
    /// The tenant was removed a moment ago.
    NoTenant,
    Quota(QuotaRefused),
    Turn(TurnRefused),
    NoRoom(NoRoom),
    Stopping,
    NoId(IdError),
    NoDirectory(io::Error),
    /// What it is could not be written down for the daemon after this one.
    NoRecord(io::Error),
    Failed(Box<CreateFailure>),
    /// The owner ended without a word.
    Lost,
}

impl CreateRefused {
    fn failing(&self) -> Failing {
        match self {
            Self::UnknownTemplate { .. }
            | Self::UnknownSecret(_)
            | Self::SmallDisk { .. }
            | Self::Quota(_)
            | Self::Turn(_)
            | Self::NoTenant => Failing::Refused,
            Self::NoRoom(_) => Failing::NoRoom,
            Self::Stopping => Failing::Stopping,
            Self::Failed(_) | Self::Lost => Failing::Vm,
            Self::NoId(_) | Self::NoDirectory(_) | Self::NoRecord(_) => Failing::Internal,
        }
    }
}

impl From<Unserved> for CreateRefused {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::NoRoom(no_room) => Self::NoRoom(no_room),
            Unserved::Turn(refused) => Self::Turn(refused),
        }
    }
}

/// All that is settled about a sandbox before it has a VM.
pub(super) struct Draft {
    pub(super) title: Title,
    pub(super) slot: Option<Slot>,
    pub(super) account: Arc<Account>,
    pub(super) spec: Spec,
    pub(super) origin: Origin,
    pub(super) files: VmFiles,
    pub(super) wire: WireLink,
    pub(super) replay: Arc<Replay>,
    pub(super) checkpoints: Arc<Checkpoints>,
}

/// Where a sandbox is put.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// Under an id of its own.
    New { parent: Option<&'a Sandbox> },
    /// Under the id of another, which nobody knows any more then.
    Of(&'a Arc<Sandbox>),
}

/// Why a sandbox was not put anywhere. Its VM is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdopted {
    Stopping,
    /// The place is not that sandbox's any more.
    Overtaken,
}

impl From<NotAdopted> for CreateRefused {
    fn from(not_adopted: NotAdopted) -> Self {
        match not_adopted {
            NotAdopted::Stopping => Self::Stopping,
            NotAdopted::Overtaken => Self::Lost,
        }
    }
}

impl Host {
    /// Creates a sandbox and waits until it is ready. Dropping this ends the sandbox.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: CreateRequest,
        tenant: Tenant,
    ) -> Result<(Arc<Sandbox>, Marks), CreateRefused> {
        let created = self.create_uncounted(request, tenant).await;
        let metrics = self.metrics();
        match &created {
            Ok((sandbox, marks)) => {
                let took = marks.elapsed();
                let template = &sandbox.spec.template.name;
                metrics.births.created(template, sandbox.origin.source, took);
                metrics.births.stages(Operation::Create, marks.spans());
                metrics.recent.created(took);
            }
            Err(refused) => metrics.births.failed(Operation::Create, refused.failing()),
        }
        created
    }

    async fn create_uncounted(
        self: &Arc<Self>,
        request: CreateRequest,
        tenant: Tenant,
    ) -> Result<(Arc<Sandbox>, Marks), CreateRefused> {
        let mut marks = Marks::begin();
        let account = self.tenants().account(tenant).ok_or(CreateRefused::NoTenant)?;
        let (spec, terms) = self.specify(request, tenant, &account.limits())?;
        if self.is_stopping() {
            return Err(CreateRefused::Stopping);
        }
        self.disk
            .admit()
            .map_err(|full| CreateRefused::NoRoom(NoRoom::Disk(full)))?;
        self.tools.happenings.pace().await;
        let slot = self.admit_one(&account)?;
        let _foreground = self.activity.foreground();
        let Some(nursery) = self.nursery_of(&spec) else {
            let booting = self.boot(spec, terms, slot);
            let sandbox = booting.instrument(tracing::debug_span!("boot")).await?;
            marks.mark("boot");
            sandbox.network_is_ready().await;
            return Ok((sandbox, marks));
        };
        let line = Line::Clone(&spec.template.name);
        let turn = self.turns.enter(line, tenant).await;
        let turn = turn.map_err(CreateRefused::Turn)?;
        marks.mark("turn");
        let waking = nursery.take().instrument(tracing::debug_span!("wake"));
        if let Some(newborn) = waking.await {
            marks.mark("wake");
            let sandbox = self.hand_over(newborn, Source::Pool, spec, terms, slot)?;
            sandbox.network_is_ready().await;
            return Ok((sandbox, marks));
        }
        let need = nursery.estimate_mib();
        let (reservation, turn) = self.room_at_turn(turn, line, need, &account).await?;
        // Without a clone the sandbox is booted; without room there is none.
        let making = nursery
            .make(reservation)
            .instrument(tracing::debug_span!("clone"));
        let sandbox = match making.await {
            Ok(newborn) => {
                drop(turn);
                marks.mark("clone");
                self.hand_over(newborn, Source::Clone, spec, terms, slot)?
            }
            Err(error) => {
                let template = spec.template.name.as_str();
                tracing::warn!(template, error = %ErrorChain(&error), "booting what could not be cloned");
                drop(turn);
                let booting = self.boot(spec, terms, slot);
                let sandbox = booting.instrument(tracing::debug_span!("boot")).await?;
                marks.mark("boot");
                sandbox
            }
        };
        sandbox.network_is_ready().await;
        nursery.missed(marks.elapsed());
        Ok((sandbox, marks))
    }

    fn admit_one(&self, account: &Arc<Account>) -> Result<Slot, CreateRefused> {
        let mut slots = account
            .admit(self.tenants().now(), 1)
            .map_err(CreateRefused::Quota)?;
        slots.pop().ok_or(CreateRefused::NoTenant)
    }

    /// Where VMs of this shape can be had ready-made.
    fn nursery_of(&self, spec: &Spec) -> Option<&Arc<Nursery>> {
        let nursery = self.nurseries.get(&spec.template.name)?;
        let shape = nursery.shape();
        let same =
            (spec.vcpus, spec.ram_mib, spec.rootfs_gb) == (shape.vcpus, shape.ram_mib, shape.rootfs_gb);
        same.then_some(nursery)
    }

    /// Makes a sandbox of a VM that is up.
    fn hand_over(
        self: &Arc<Self>,
        newborn: Newborn,
        source: Source,
        spec: Spec,
        terms: Terms,
        slot: Slot,
    ) -> Result<Arc<Sandbox>, CreateRefused> {
        let Newborn {
            id,
            vm,
            connection,
            reservation,
            born_ms,
        } = newborn;
        let draft = Draft {
            title: Title { id, terms },
            account: Arc::clone(slot.account()),
            slot: Some(slot),
            spec,
            origin: self.origin_of_root(source, born_ms),
            replay: Replay::kept_in(vm.home.files.replay()),
            files: vm.home.files.clone(),
            wire: vm.home.wire_link(),
            checkpoints: Arc::default(),
        };
        let (sandbox, mailbox) = self.draw_up(draft);
        sandbox.open_network();
        sandbox.be_born(&vm.process, Some(connection));
        let recorded = sandbox.begin_record(None, reservation.mib());
        recorded.map_err(CreateRefused::NoRecord)?;
        let place = Place::New { parent: None };
        self.adopt(&sandbox, place, mailbox, reservation, Start::Born(Box::new(vm)))?;
        self.give_secrets(&sandbox);
        self.happened(&sandbox, Happening::Created);
        Ok(sandbox)
    }

    async fn boot(
        self: &Arc<Self>,
        spec: Spec,
        terms: Terms,
        slot: Slot,
    ) -> Result<Arc<Sandbox>, CreateRefused> {
        let account = Arc::clone(slot.account());
        let turn = self.turns.enter(Line::Boot, account.tenant()).await;
        let turn = turn.map_err(CreateRefused::Turn)?;
        let need = u64::from(spec.ram_mib);
        let (reservation, _turn) = self.room_at_turn(turn, Line::Boot, need, &account).await?;
        let id = SandboxId::random().map_err(CreateRefused::NoId)?;
        let home = self.tools.homes.wired().map_err(CreateRefused::NoDirectory)?;
        let draft = Draft {
            title: Title { id, terms },
            account,
            slot: Some(slot),
            spec,
            origin: self.origin_of_root(Source::Boot, terms.created_at_ms),
            replay: Replay::kept_in(home.files.replay()),
            files: home.files.clone(),
            wire: home.wire_link(),
            checkpoints: Arc::default(),
        };
        let (born, birth) = oneshot::channel();
        let plan = BootPlan {
            home,
            tools: self.tools.clone(),
            boots: Arc::clone(&self.boots),
            deadline: self.config.timing.boot_deadline,
        };
        let start = Start::Boot(Box::new(Birth { plan, born }));
        let reserved_mib = reservation.mib();
        let (sandbox, mailbox) = self.draw_up(draft);
        let place = Place::New { parent: None };
        self.adopt(&sandbox, place, mailbox, reservation, start)?;
        match birth.await {
            Ok(Ok(())) => {
                sandbox.begin_slot();
                sandbox.touch();
                sandbox.open_network();
                self.give_secrets(&sandbox);
                match sandbox.begin_record(None, reserved_mib) {
                    Ok(()) => {
                        self.happened(&sandbox, Happening::Created);
                        Ok(sandbox)
                    }
                    Err(error) => {
                        sandbox.tell(Message::End(EndReason::BootFailed)).await;
                        Err(CreateRefused::NoRecord(error))
                    }
                }
            }
            Ok(Err(failure)) => Err(CreateRefused::Failed(Box::new(failure))),
            Err(_) => Err(CreateRefused::Lost),
        }
    }

    fn origin_of_root(&self, source: Source, born_ms: u64) -> Origin {
        Origin {
            source,
            generation: 0,
            ancestry: Ancestry::root(self.next_vm(), born_ms),
        }
    }

    /// A number for a VM that no other has.
    pub(super) fn next_vm(&self) -> u64 {
        self.vms_made.fetch_add(1, Ordering::Relaxed)
    }

    /// What the sandbox will be: what is asked for, silently capped by what its tenant may have.
    fn specify(
        &self,
        request: CreateRequest,
        tenant: Tenant,
        limits: &Limits,
    ) -> Result<(Spec, Terms), CreateRefused> {
        if let Some(name) = self.secrets.missing(tenant, &request.secrets) {
            return Err(CreateRefused::UnknownSecret(name.to_owned()));
        }
        let templates = &self.config.templates;
        let Some(template) = templates.get(request.template.as_deref()) else {
            return Err(CreateRefused::UnknownTemplate {
                name: request.template.unwrap_or_default(),
                known: templates.names().map(str::to_owned).collect(),
            });
        };
        let least = template.rootfs_gb();
        let rootfs_gb = request.rootfs_gb.unwrap_or(least);
        if rootfs_gb < least {
            return Err(CreateRefused::SmallDisk {
                asked: rootfs_gb,
                least,
            });
        }
        let capped = |asked: u32, most: Option<u64>| {
            most.map_or(asked, |most| asked.min(u32::try_from(most).unwrap_or(u32::MAX)))
        };
        let spec = Spec {
            template: template.clone(),
            vcpus: self.config.vcpus,
            ram_mib: capped(request.ram_mib.unwrap_or(self.config.ram_mib), limits.ram_mib),
            // A template's own disk is part of the template.
            rootfs_gb: capped(rootfs_gb, limits.rootfs_gb).max(least),
            egress: request.egress,
            secrets: request.secrets,
        };
        let terms = Terms {
            created_at_ms: clock::now_ms(),
            born_ms: self.scheduler.uptime().now().ms(),
            timeout_seconds: limits.lifetime_s(request.timeout_seconds),
            idle_timeout_seconds: limits.idle_s(request.idle_timeout_seconds),
            persistent: request.persistent && limits.persistent,
        };
        Ok((spec, terms))
    }

    /// A sandbox that nobody knows yet, and its owner's mailbox.
    pub(super) fn draw_up(&self, draft: Draft) -> (Arc<Sandbox>, mpsc::Receiver<Message>) {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let sandbox = Sandbox::new(Beginning {
            title: draft.title,
            slot: draft.slot,
            account: draft.account,
            spec: draft.spec,
            origin: draft.origin,
            files: draft.files,
            wire: draft.wire,
            runs_max: self.config.runs_per_sandbox,
            replay: draft.replay,
            checkpoints: draft.checkpoints,
            mailbox,
            roster: self.tools.homes.roster().clone(),
            activity: Arc::clone(&self.activity),
            uptime: self.scheduler.uptime().clone(),
            metrics: Arc::clone(self.metrics()),
        });
        (Arc::new(sandbox), messages)
    }

    /// Registers a sandbox and starts its owner, which takes it off the list when it ends.
    pub(super) fn adopt(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        place: Place<'_>,
        mailbox: mpsc::Receiver<Message>,
        reservation: Reservation,
        start: Start,
    ) -> Result<(), NotAdopted> {
        let span = tracing::info_span!(parent: None, "sandbox", sandbox_id = %sandbox.id());
        let owner = Owner {
            sandbox: Arc::clone(sandbox),
            mailbox,
            reservation,
            tools: self.tools.clone(),
            start,
        };
        let (host, ended) = (Arc::clone(self), Arc::clone(sandbox));
        let request = tracing::Span::current();
        let mut registry = self.registry();
        // Looked at under the lock: a shutdown empties the list only after it has set this.
        if self.is_stopping() {
            return Err(NotAdopted::Stopping);
        }
        match place {
            Place::New { parent } => registry.add(Arc::clone(sandbox), parent),
            Place::Of(old) => {
                if !registry.replace(old, Arc::clone(sandbox)) {
                    return Err(NotAdopted::Overtaken);
                }
            }
        }
        drop(registry);
        self.watch(sandbox);
        let account = Arc::clone(&sandbox.account);
        account.owner_begins();
        let life = async move {
            owner.run(request).await;
            host.registry().forget(&ended);
            ended.leave_slot();
            account.owner_ends();
        };
        self.owners.spawn(life.instrument(span));
        Ok(())
    }
}
