//! Why a sandbox was not frozen, and why a space was not resumed, as responses.

use std::io;

use api::{ApiError, ErrorCode};
use lifecycle::FreezeRefused;
use pod_types::ErrorChain;

use super::error::{Failed, host_busy, no_capacity, no_sandbox, over_quota, stopping};
use super::spaces::no_space;
use crate::host::{ExportError, FreezeError, ImportError, ResumeError};
use crate::spaces::{ArrivalError, BaseError, NoSpace, ParcelError};
use crate::vm::{ControlError, ThawVmError};

impl From<FreezeError> for Failed {
    fn from(error: FreezeError) -> Self {
        let text = ErrorChain(&error).to_string();
        if error.is_disk_full() {
            return Self(
                ApiError::new(ErrorCode::HostDiskFull, text)
                    .hint("the sandbox goes on; make room on the host's disk, or delete spaces"),
            );
        }
        Self(match error {
            FreezeError::Stopping => return stopping(),
            FreezeError::Refused(refused) => match refused {
                FreezeRefused::Booting => ApiError::new(ErrorCode::SandboxNotReady, text),
                FreezeRefused::Freezing | FreezeRefused::Forking | FreezeRefused::InUse => {
                    ApiError::new(ErrorCode::StateConflict, text).retry_after(1)
                }
                FreezeRefused::Failed { .. } => ApiError::new(ErrorCode::SandboxFailed, text),
                FreezeRefused::Ended { .. } => return no_sandbox(),
            },
            FreezeError::Checkpoints(_) => ApiError::new(ErrorCode::StateConflict, text)
                .hint("delete them, or freeze with `drop_checkpoints` set to true"),
            FreezeError::Quota(_) => ApiError::new(ErrorCode::SpaceQuota, text).hint(
                "the sandbox goes on; delete a space, or have the limits `spaces` and `spaces_mib` raised",
            ),
            FreezeError::Ended => return no_sandbox(),
            FreezeError::DiskFull { .. }
            | FreezeError::Id(_)
            | FreezeError::Files(_)
            | FreezeError::Vm(_) => {
                ApiError::new(ErrorCode::FreezeFailed, text).hint("the sandbox goes on where it was")
            }
        })
    }
}

impl From<ResumeError> for Failed {
    fn from(error: ResumeError) -> Self {
        let text = ErrorChain(&error).to_string();
        let unfit = |text: String| ApiError::new(ErrorCode::SpaceUnusable, text).hint("the space is kept");
        Self(match error {
            ResumeError::Space(NoSpace::Unknown) => return no_space(),
            ResumeError::Space(NoSpace::Busy) => return space_busy(),
            ResumeError::Stopping => return stopping(),
            ResumeError::NoTenant => ApiError::new(ErrorCode::InvalidKey, "invalid api key"),
            ResumeError::Quota(refused) => over_quota(&refused),
            ResumeError::Turn(refused) => host_busy(refused),
            ResumeError::NoRoom(no_room) => no_capacity(no_room, "delete a sandbox; the space is kept"),
            ResumeError::Unfit(_)
            | ResumeError::Base(BaseError::Damaged { .. })
            | ResumeError::Replay(_)
            | ResumeError::Thaw(ThawVmError::Thaw(ControlError::Unusable(_))) => unfit(text),
            _ => ApiError::new(ErrorCode::ResumeFailed, text).hint("the space is kept; try again"),
        })
    }
}

impl From<ExportError> for Failed {
    fn from(error: ExportError) -> Self {
        let text = ErrorChain(&error).to_string();
        Self(match error {
            ExportError::Space(NoSpace::Unknown) => return no_space(),
            ExportError::Space(NoSpace::Busy) => return space_busy(),
            ExportError::TooMany(_) => ApiError::new(ErrorCode::TooManyTransfers, text).retry_after(1),
            ExportError::NoBase => ApiError::new(ErrorCode::SpaceUnusable, text).hint("the space is kept"),
            ExportError::Files(error) if error.kind() == io::ErrorKind::InvalidData => {
                ApiError::new(ErrorCode::SpaceUnusable, text).hint("the space is kept")
            }
            ExportError::Files(_) => ApiError::new(ErrorCode::Internal, text).hint("the space is kept"),
        })
    }
}

impl From<ImportError> for Failed {
    fn from(error: ImportError) -> Self {
        let text = ErrorChain(&error).to_string();
        let invalid = |text: String| {
            ApiError::new(ErrorCode::InvalidSpaceFile, text)
                .hint("nothing was imported; export the space again")
        };
        let unfit = |text: String| ApiError::new(ErrorCode::SpaceUnusable, text);
        Self(match error {
            ImportError::Stopping => return stopping(),
            ImportError::NoTenant => ApiError::new(ErrorCode::InvalidKey, "invalid api key"),
            ImportError::TooMany(_) => ApiError::new(ErrorCode::TooManyTransfers, text).retry_after(1),
            ImportError::Arrival(refused) => match refused {
                // What a body broke off with is told as it is everywhere.
                ArrivalError::Parcel(ParcelError::Read(_)) => ApiError::new(ErrorCode::InvalidBody, text),
                ArrivalError::Parcel(ParcelError::Version(_)) => {
                    unfit(text).hint("use the same version of Podflare on both hosts")
                }
                ArrivalError::Parcel(_) | ArrivalError::Absurd(_) | ArrivalError::Replay(_) => invalid(text),
                ArrivalError::Unfit { hint, .. } => unfit(text).hint(hint),
                ArrivalError::Quota(_) => ApiError::new(ErrorCode::SpaceQuota, text)
                    .hint("delete a space, or have the limits `spaces` and `spaces_mib` raised"),
                ArrivalError::DiskFull { .. } => ApiError::new(ErrorCode::HostDiskFull, text)
                    .hint("make room on the host's disk, or delete spaces"),
                ArrivalError::Files(error) if error.kind() == io::ErrorKind::StorageFull => {
                    ApiError::new(ErrorCode::HostDiskFull, text).hint("make room on the host's disk")
                }
                ArrivalError::Files(_) => ApiError::new(ErrorCode::Internal, text),
            },
            ImportError::Thaw(ThawVmError::Thaw(ControlError::Unusable(_))) => unfit(text).hint(
                "a space goes on only on the same kind of CPU, with a time-stamp counter of the same frequency",
            ),
            ImportError::Thaw(_) | ImportError::Id(_) | ImportError::Lost => {
                ApiError::new(ErrorCode::Internal, text).hint("nothing was imported; try again")
            }
        })
    }
}

pub(super) fn space_busy() -> Failed {
    let text = NoSpace::Busy.to_string();
    Failed(ApiError::new(ErrorCode::StateConflict, text).retry_after(1))
}
