//! From a sandbox to a space.
//!
//! ```text
//!  admit ─▶ pause, write ─▶ sync, name (the space exists) ─▶ forget the sandbox, end its VM
//!              └──────────────┴─ anything fails: remove what was written, the VM goes on
//! ```

use std::io;
use std::sync::Arc;
use std::time::Instant;

use api::{FreezeCause, FreezeRequest};
use lifecycle::{EndReason, FreezeRefused, Machine};
use pod_types::{ErrorChain, IdError, SpaceId};
use thiserror::Error;
use tokio::sync::oneshot;
use vmm_proto::FreezeReport;

use super::Host;
use crate::clock;
use crate::events;
use crate::happenings::Happening;
use crate::memory::memory_of;
use crate::replay::Succession;
use crate::sandbox::{Message, Sandbox};
use crate::spaces::{Draft, Meta, OverQuota, SavedTerms, Shape, image_mark};
use crate::vm::{FreezeFiles, FreezeVmError};

/// Left free on the host's disk, in bytes, so that what runs can go on writing.
const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// Why a sandbox was not frozen. It goes on, unless it says that it has failed or ended.
#[derive(Debug, Error)]
pub(crate) enum FreezeError {
    #[error("the host is shutting down")]
    Stopping,
    #[error(transparent)]
    Refused(FreezeRefused),
    #[error("the tenant has no room for another space")]
    Quota(#[source] OverQuota),
    #[error("the host's disk has {available_mib} MiB left, and this may take {need_mib}")]
    DiskFull { need_mib: u64, available_mib: u64 },
    #[error("its checkpoints would be lost: {}", .0.join(", "))]
    Checkpoints(Vec<String>),
    #[error("there is no id for the space")]
    Id(#[source] IdError),
    #[error("cannot work on the space's files")]
    Files(#[source] io::Error),
    #[error("the sandbox's VM was not written")]
    Vm(#[source] FreezeVmError),
    #[error("the sandbox ended while it was frozen")]
    Ended,
}

impl FreezeError {
    /// The host's disk is full, before or while it was written.
    pub(crate) fn is_disk_full(&self) -> bool {
        let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        match self {
            Self::DiskFull { .. } => true,
            Self::Files(error) => full(error),
            // The VM process says it in words.
            Self::Vm(error) => ErrorChain(error).to_string().contains("No space left on device"),
            _ => false,
        }
    }
}

impl Host {
    /// Freezes a sandbox that nobody has asked for it: what it could be rolled back to ends.
    pub(crate) async fn freeze(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        cause: FreezeCause,
    ) -> Result<SpaceId, FreezeError> {
        let wanted = FreezeRequest {
            drop_checkpoints: true,
            whole: false,
        };
        self.freeze_as(sandbox, cause, wanted).await
    }

    /// Freezes a sandbox: it is a space then, and its id is unknown. Goes on when nobody waits for it any more.
    pub(crate) async fn freeze_as(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        cause: FreezeCause,
        wanted: FreezeRequest,
    ) -> Result<SpaceId, FreezeError> {
        if self.is_stopping() && cause != FreezeCause::Shutdown {
            return Err(FreezeError::Stopping);
        }
        let (host, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        let freezing = self.owners.spawn(async move {
            let started = Instant::now();
            let frozen = host.freeze_or_go_on(&sandbox, cause, wanted).await;
            match &frozen {
                Ok(meta) => host.metrics().spaces.frozen(started.elapsed(), meta.bytes()),
                Err(error) => {
                    host.metrics().spaces.freeze_failed();
                    tracing::warn!(
                        event = events::FREEZE_FAILED,
                        sandbox_id = %sandbox.id(),
                        error = %ErrorChain(error),
                        "the sandbox was not frozen"
                    );
                }
            }
            frozen.map(|meta| meta.id)
        });
        freezing.await.unwrap_or(Err(FreezeError::Ended))
    }

    /// A sandbox that was not frozen is ready again when this returns, unless it has ended.
    async fn freeze_or_go_on(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        cause: FreezeCause,
        wanted: FreezeRequest,
    ) -> Result<Arc<Meta>, FreezeError> {
        let checkpoints = sandbox.checkpoints.all();
        if !wanted.drop_checkpoints && !checkpoints.is_empty() {
            let names = checkpoints.iter().map(|checkpoint| checkpoint.name.clone());
            return Err(FreezeError::Checkpoints(names.collect()));
        }
        self.admit_space(sandbox).await?;
        let begin = match cause {
            FreezeCause::Request | FreezeCause::Shutdown | FreezeCause::Import => Machine::begin_freeze,
            // Nobody asked for it, so it is in nobody's way.
            FreezeCause::Idle | FreezeCause::Memory => Machine::begin_freeze_unless_used,
        };
        let refused = sandbox.advance(begin);
        refused.map_err(FreezeError::Refused)?;
        let frozen = self.freeze_to_end(sandbox, cause, wanted.whole).await;
        if frozen.is_err() {
            let (told, goes_on) = oneshot::channel();
            if sandbox.tell(Message::GoOn(told)).await {
                // An owner that ends meanwhile drops the question.
                let _ = goes_on.await;
            }
        }
        frozen
    }

    async fn freeze_to_end(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        cause: FreezeCause,
        whole: bool,
    ) -> Result<Arc<Meta>, FreezeError> {
        let started = Instant::now();
        let id = SpaceId::random().map_err(FreezeError::Id)?;
        let spaces = Arc::clone(&self.spaces);
        let draft = on_disk(move || Draft::begin(&spaces, id)).await?;
        let mut succession = Succession::begin(&sandbox.replay, sandbox.runs() > 0);
        let report = self.write_vm(sandbox, &draft, whole).await?;
        let running = succession.look();
        let image = sandbox.spec.template.image().to_owned();
        let meta = self.describe_space(sandbox, (id, cause, running), &report);
        let written = Instant::now();
        let meta = on_disk(move || {
            let image = image_mark(&image)?;
            draft.commit(Meta { image, ..meta }, &succession.write())
        })
        .await?;
        // From here on it is the space that counts, also for a daemon that comes after this one.
        sandbox.forget_record();
        if !self.registry().forget(sandbox) {
            // Deleted meanwhile, and so is what became of it.
            self.remove_space(id, sandbox.tenant).await;
            return Err(FreezeError::Ended);
        }
        sandbox.leave_slot();
        let happening = Happening::Frozen {
            space: id.to_string(),
        };
        self.happened(sandbox, happening);
        tracing::info!(
            event = events::SANDBOX_FROZEN,
            sandbox_id = %sandbox.id(),
            space = %id,
            ?cause,
            bytes = meta.bytes(),
            pages = report.pages_changed,
            runs = report.runs,
            memory_us = report.memory_us,
            disk_us = report.disk_us,
            sync_ms = written.elapsed().as_millis(),
            milliseconds = started.elapsed().as_millis(),
            "sandbox frozen"
        );
        sandbox.tell(Message::End(EndReason::Frozen)).await;
        Ok(meta)
    }

    /// Whether there is room for what a sandbox would take at most, as far as can be told.
    async fn admit_space(&self, sandbox: &Sandbox) -> Result<(), FreezeError> {
        let pid = sandbox.vmm_pid();
        let spaces = self.data.spaces().to_owned();
        let (memory, available) = on_disk(move || {
            let available = rustix::fs::statvfs(&spaces)?;
            let own = pid.and_then(memory_of).map_or(0, |memory| memory.own_bytes);
            Ok((own, available.f_bavail.saturating_mul(available.f_frsize)))
        })
        .await?;
        let disk = sandbox.stats().await.map_or(0, |stats| stats.disk_layer_bytes);
        let need = memory + disk;
        let limits = sandbox.account.limits();
        self.spaces
            .admit(sandbox.tenant, &limits, need)
            .map_err(FreezeError::Quota)?;
        if available < need + DISK_RESERVE_BYTES {
            return Err(FreezeError::DiskFull {
                need_mib: need.div_ceil(1 << 20),
                available_mib: available >> 20,
            });
        }
        Ok(())
    }

    /// Has the VM written. One whose template's memory is not kept is written whole.
    async fn write_vm(
        &self,
        sandbox: &Sandbox,
        draft: &Draft,
        whole: bool,
    ) -> Result<FreezeReport, FreezeError> {
        let report = ask(sandbox, draft, whole).await?;
        match &report.base {
            Some(base) if self.spaces.template(base).is_none() => {
                draft.again().map_err(FreezeError::Files)?;
                ask(sandbox, draft, true).await
            }
            _ => Ok(report),
        }
    }

    fn describe_space(
        &self,
        sandbox: &Sandbox,
        (id, cause, running): (SpaceId, FreezeCause, bool),
        report: &FreezeReport,
    ) -> Meta {
        let (spec, title) = (&sandbox.spec, sandbox.title());
        Meta {
            version: Meta::VERSION,
            id,
            tenant: sandbox.tenant.0,
            sandbox_id: title.id,
            template: spec.template.name.clone(),
            image: String::new(),
            base: report.base.clone(),
            own_base_bytes: None,
            shape: Shape {
                vcpus: spec.vcpus,
                ram_mib: spec.ram_mib,
                rootfs_gb: spec.rootfs_gb,
                egress: sandbox.egress(),
                secrets: spec.secrets.clone(),
            },
            terms: SavedTerms {
                timeout_seconds: title.terms.timeout_seconds,
                idle_timeout_seconds: title.terms.idle_timeout_seconds,
            },
            generation: sandbox.origin.generation,
            created_at_ms: clock::now_ms(),
            cause,
            running,
            memory_bytes: report.memory_bytes,
            disk_bytes: report.disk_bytes,
            state_bytes: report.state_bytes,
            replay: String::new(),
            replay_bytes: 0,
        }
    }
}

/// Has the owner write the VM.
async fn ask(sandbox: &Sandbox, draft: &Draft, whole: bool) -> Result<FreezeReport, FreezeError> {
    let files = draft.files();
    let copy = || {
        Ok(FreezeFiles {
            memory: files.memory.try_clone()?,
            disk: files.disk.try_clone()?,
            state: files.state.try_clone()?,
            whole,
        })
    };
    let (reply, frozen) = oneshot::channel();
    let order = Message::Freeze(copy().map_err(FreezeError::Files)?, reply);
    if !sandbox.tell(order).await {
        return Err(FreezeError::Ended);
    }
    let frozen = frozen.await.map_err(|_| FreezeError::Ended)?;
    frozen.map_err(FreezeError::Vm)
}

/// File system work beside the runtime's threads.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FreezeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)
        .and_then(|result| result)
        .map_err(FreezeError::Files)
}
