//! Making sandboxes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::{CreateRequest, Source};
use lifecycle::{Ancestry, QuotaRefused};
use pod_types::{ErrorChain, IdError, Limits, SandboxId};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use super::room::Unserved;
use super::turns::Line;
use super::{Host, Marks, NoRoom};
use crate::auth::Tenant;
use crate::budget::Reservation;
use crate::clock;
use crate::metrics::{Failing, Operation};
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
    /// The tenant was removed a moment ago.
    NoTenant,
    Quota(QuotaRefused),
    Turn(TurnRefused),
    NoRoom(NoRoom),
    Stopping,
    NoId(IdError),
    NoDirectory(io::Error),
    Failed(Box<CreateFailure>),
    /// The owner ended without a word.
    Lost,
}

impl CreateRefused {
    fn failing(&self) -> Failing {
        match self {
            Self::UnknownTemplate { .. }
            | Self::SmallDisk { .. }
            | Self::Quota(_)
            | Self::Turn(_)
            | Self::NoTenant => Failing::Refused,
            Self::NoRoom(_) => Failing::NoRoom,
            Self::Stopping => Failing::Stopping,
            Self::Failed(_) | Self::Lost => Failing::Vm,
            Self::NoId(_) | Self::NoDirectory(_) => Failing::Internal,
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
    pub(super) slot: Slot,
    pub(super) spec: Spec,
    pub(super) origin: Origin,
    pub(super) files: VmFiles,
    pub(super) replay: Arc<Replay>,
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
        let (spec, terms) = self.specify(request, &account.limits())?;
        if self.is_stopping() {
            return Err(CreateRefused::Stopping);
        }
        let slot = self.admit_one(&account)?;
        let _foreground = self.activity.foreground();
        let Some(nursery) = self.nursery_of(&spec) else {
            let booting = self.boot(spec, terms, slot);
            let sandbox = booting.instrument(tracing::debug_span!("boot")).await?;
            marks.mark("boot");
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
            slot,
            spec,
            origin: self.origin_of_root(source, born_ms),
            files: vm.home.files.clone(),
            replay: Arc::default(),
        };
        let (sandbox, mailbox) = self.draw_up(draft);
        sandbox.be_born(vm.process.pid(), Some(connection));
        self.adopt(&sandbox, None, mailbox, reservation, Start::Born(Box::new(vm)))?;
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
        let home = self.tools.homes.empty().map_err(CreateRefused::NoDirectory)?;
        let draft = Draft {
            title: Title { id, terms },
            slot,
            spec,
            origin: self.origin_of_root(Source::Boot, terms.created_at_ms),
            files: home.files.clone(),
            replay: Arc::default(),
        };
        let (born, birth) = oneshot::channel();
        let plan = BootPlan {
            home,
            tools: self.tools.clone(),
            boots: Arc::clone(&self.boots),
            deadline: self.config.timing.boot_deadline,
        };
        let start = Start::Boot(Box::new(Birth { plan, born }));
        let (sandbox, mailbox) = self.draw_up(draft);
        self.adopt(&sandbox, None, mailbox, reservation, start)?;
        match birth.await {
            Ok(Ok(())) => {
                sandbox.begin_slot();
                Ok(sandbox)
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
    fn specify(&self, request: CreateRequest, limits: &Limits) -> Result<(Spec, Terms), CreateRefused> {
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
        };
        let terms = Terms {
            created_at_ms: clock::now_ms(),
            timeout_seconds: Some(limits.lifetime_s(request.timeout_seconds)),
            idle_timeout_seconds: Some(limits.idle_s(request.idle_timeout_seconds)),
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
            spec: draft.spec,
            origin: draft.origin,
            files: draft.files,
            runs_max: self.config.runs_per_sandbox,
            replay: draft.replay,
            mailbox,
            activity: Arc::clone(&self.activity),
            metrics: Arc::clone(self.metrics()),
        });
        (Arc::new(sandbox), messages)
    }

    /// Registers a sandbox and starts its owner, which takes it off the list when it ends.
    pub(super) fn adopt(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        parent: Option<&Sandbox>,
        mailbox: mpsc::Receiver<Message>,
        reservation: Reservation,
        start: Start,
    ) -> Result<(), CreateRefused> {
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
            return Err(CreateRefused::Stopping);
        }
        registry.add(Arc::clone(sandbox), parent);
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
