//! From a file to a space, and back.
//!
//! ```text
//!  fits this host and tenant? ─▶ receive, checking ─▶ a VM process builds it, and it is taken down again ─▶ name (it exists)
//!       └────────────────────────────┴──────────────────────┴─ anything fails: what was written is removed
//! ```
//!
//! Whether a VM can go on here only a VM process can say, so one is asked while the client still waits: it reads and
//! checks everything as for a resume, and none of the guest's code runs.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread::available_parallelism;

use api::SpaceInfo;
use bytes::{Buf as _, Bytes};
use pod_types::{ErrorChain, IdError, Limits, SpaceId};
use thiserror::Error;
use tokio::sync::mpsc;

use super::Host;
use super::resuming::BESIDE_MIB;
use crate::auth::Tenant;
use crate::events;
use crate::spaces::{
    Arrival, ArrivalError, Claim, Departure, Manifest, NoSpace, TooMany, Transfer, image_mark,
};
use crate::vm::{self, ThawVmError};

/// Pieces of a body that wait to be written.
pub(crate) const PIECES: usize = 4;

/// A body, as it comes; an error is its client's.
pub(crate) type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Why a space is not sent. It is as it was.
#[derive(Debug, Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Space(NoSpace),
    #[error(transparent)]
    TooMany(TooMany),
    #[error("the memory of its template's snapshot, over which its own lies, is not on this host")]
    NoBase,
    #[error("cannot read the space's files")]
    Files(#[source] io::Error),
}

/// Why a file has not become a space. Nothing has changed.
#[derive(Debug, Error)]
pub(crate) enum ImportError {
    #[error("the host is shutting down")]
    Stopping,
    #[error("the tenant is unknown")]
    NoTenant,
    #[error(transparent)]
    TooMany(TooMany),
    #[error("there is no id for the space")]
    Id(#[source] IdError),
    #[error(transparent)]
    Arrival(ArrivalError),
    #[error("the VM of the space cannot go on here")]
    Thaw(#[source] ThawVmError),
    #[error("the task that imported it ended without a word")]
    Lost,
}

/// A body as a thread reads it.
struct BodyReader {
    pieces: Pieces,
    piece: Bytes,
}

impl Host {
    /// Opens a tenant's space for sending. It is busy only until this returns.
    pub(crate) async fn export_space(
        &self,
        id: SpaceId,
        tenant: Tenant,
    ) -> Result<(Departure, Transfer), ExportError> {
        let transfer = Transfer::export(&self.spaces, tenant).map_err(ExportError::TooMany)?;
        let claim = Claim::take(&self.spaces, id, tenant).map_err(ExportError::Space)?;
        let opened = tokio::task::spawn_blocking(move || Departure::begin(&claim)).await;
        let opened = opened.map_err(io::Error::other).and_then(|opened| opened);
        let departure = opened.map_err(ExportError::Files)?.ok_or(ExportError::NoBase)?;
        Ok((departure, transfer))
    }

    /// Makes a space of a body. Ends soon after `pieces` does.
    pub(crate) async fn import_space(
        self: &Arc<Self>,
        tenant: Tenant,
        pieces: Pieces,
    ) -> Result<SpaceInfo, ImportError> {
        if self.is_stopping() {
            return Err(ImportError::Stopping);
        }
        let host = Arc::clone(self);
        let importing = self.owners.spawn(async move {
            let imported = host.import_for(tenant, pieces).await;
            match &imported {
                Ok(info) => host.metrics().spaces.imported(info.bytes),
                Err(error) => {
                    host.metrics().spaces.import_failed();
                    tracing::warn!(
                        event = events::IMPORT_FAILED,
                        error = %ErrorChain(error),
                        "a space was not imported"
                    );
                }
            }
            imported
        });
        importing.await.unwrap_or(Err(ImportError::Lost))
    }

    async fn import_for(self: &Arc<Self>, tenant: Tenant, pieces: Pieces) -> Result<SpaceInfo, ImportError> {
        let _transfer = Transfer::import(&self.spaces, tenant).map_err(ImportError::TooMany)?;
        let account = self.tenants().account(tenant).ok_or(ImportError::NoTenant)?;
        let limits = account.limits();
        let id = SpaceId::random().map_err(ImportError::Id)?;
        let host = Arc::clone(self);
        let arrival = blocking(move || {
            let piece = Bytes::new();
            let fits = |manifest: &Manifest| host.fits(manifest, &limits);
            let room = |bytes| host.has_room(bytes);
            let body = BodyReader { pieces, piece };
            Arrival::receive((&host.spaces, id), (tenant, &limits), body, fits, room)
        })
        .await?;
        self.try_out(&arrival).await?;
        let meta = blocking(move || arrival.commit(tenant, &limits)).await?;
        tracing::info!(
            event = events::SPACE_IMPORTED,
            space = %id,
            bytes = meta.bytes(),
            own_base = meta.own_base_bytes,
            "space imported"
        );
        self.spaces.find(id, tenant).ok_or(ImportError::Lost)
    }

    /// Whether this host has what a space is made of, and its tenant may have one like it.
    fn fits(&self, manifest: &Manifest, limits: &Limits) -> Result<(), ArrivalError> {
        let unfit = |text: String, hint: &str| {
            let hint = hint.to_owned();
            Err(ArrivalError::Unfit { text, hint })
        };
        let (shape, name) = (&manifest.shape, &manifest.template);
        let Some(template) = self.config.templates.get(Some(name)) else {
            let known: Vec<&str> = self.config.templates.names().collect();
            let text = format!(
                "it was made from the template {name:?}, and this host has {}",
                known.join(", ")
            );
            return unfit(
                text,
                "build that template here, from the same image, and import again",
            );
        };
        let here = image_mark(template.image()).map_err(ArrivalError::Files)?;
        if here != manifest.image {
            let there = &manifest.image;
            let text = format!(
                "the disk image of the template {name} is {there} where it was made, and {here} on this host"
            );
            let hint =
                "its disk holds only what differs from that image: give both hosts the same image file";
            return unfit(text, hint);
        }
        let (ram, disk) = (u64::from(shape.ram_mib), u64::from(shape.rootfs_gb));
        let vcpus = available_parallelism().map_or(1, usize::from);
        let vcpus = vcpus.max(self.config.vcpus.into()) as u64;
        let budget = self.config.memory.budget_mib;
        let bounds = [
            ("MiB of memory", ram, limits.ram_mib.unwrap_or(budget).min(budget)),
            (
                "GiB of disk",
                disk,
                limits.rootfs_gb.unwrap_or(disk).max(template.rootfs_gb().into()),
            ),
            ("virtual CPUs", shape.vcpus.into(), vcpus),
        ];
        match bounds.into_iter().find(|(_, has, most)| has > most) {
            None => Ok(()),
            Some((what, has, most)) => unfit(
                format!("it has {has} {what}, and {most} are the most here"),
                "a larger host or another tier of the tenant would take it",
            ),
        }
    }

    /// Whether the host's disk can take so many bytes more and keep its reserve.
    fn has_room(&self, bytes: u64) -> Result<(), ArrivalError> {
        match self.disk.look_now() {
            Some((available_mib, reserve_mib))
                if available_mib.saturating_sub(bytes.div_ceil(1 << 20)) < reserve_mib =>
            {
                Err(ArrivalError::DiskFull {
                    available_mib,
                    reserve_mib,
                })
            }
            _ => Ok(()),
        }
    }

    /// Has a VM process build what has come. Without room for that now, a resume is going to find out.
    async fn try_out(&self, arrival: &Arrival) -> Result<(), ImportError> {
        let manifest = &arrival.manifest;
        let need = (manifest.lengths.memory >> 20) + BESIDE_MIB;
        let Ok(_reservation) = self.budget.take_now(need) else {
            return Ok(());
        };
        if self.memory.admit(need).is_err() {
            return Ok(());
        }
        let Some(template) = self.config.templates.get(Some(&manifest.template)) else {
            return Ok(());
        };
        let base = arrival.base();
        let (dir, working_set) = base.map_or_else(Default::default, |base| (base.dir, base.working_set));
        let restore = |files: &_| template.restore(dir, working_set, files);
        let files = (arrival.draft().vm(), manifest.shape.size());
        let built = vm::build_vm(files, restore, &self.tools.standby).await;
        built.map(drop).map_err(ImportError::Thaw)
    }
}

/// File system work, and waiting for a client, beside the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArrivalError> + Send + 'static,
) -> Result<T, ImportError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ImportError::Lost)?.map_err(ImportError::Arrival)
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece
            .copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
