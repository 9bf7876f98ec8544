//! What goes wrong with files, as errors of the API.

use agent_proto::files::{FileProblem, FileRefusal};
use api::{ApiError, ErrorCode};
use lifecycle::Phase;
use pod_types::ErrorChain;

use super::super::error::{Failed, no_sandbox, sandbox_failed};
use crate::files::FilesError;
use crate::sandbox::Sandbox;

/// Longest text of a guest's that is passed on, in characters.
const TEXT_CHARS_MAX: usize = 8192;

pub(super) fn failed(error: FilesError, sandbox: &Sandbox) -> Failed {
    let text = ErrorChain(&error).to_string();
    Failed(match error {
        FilesError::TooMany => ApiError::new(ErrorCode::TooManyTransfers, text)
            .hint("wait for one of them to end")
            .retry_after(1),
        FilesError::Refused(refusal) => refused(refusal),
        FilesError::Connect(_)
        | FilesError::Lost(_)
        | FilesError::Silent(_)
        | FilesError::Unexpected
        | FilesError::Absurd(_) => match sandbox.phase() {
            Phase::Failed { why } => sandbox_failed(format!("the sandbox has failed: {why}"), sandbox),
            Phase::Ending { .. } | Phase::Gone { .. } => return no_sandbox(),
            Phase::Booting | Phase::Ready | Phase::Freezing => ApiError::new(ErrorCode::AgentFailed, text),
        },
    })
}

fn refused(refusal: FileRefusal) -> ApiError {
    let (code, hint) = match refusal.problem {
        FileProblem::NotFound => (ErrorCode::FileNotFound, None),
        FileProblem::IsDirectory => (ErrorCode::IsADirectory, None),
        FileProblem::NotDirectory => (ErrorCode::NotADirectory, None),
        FileProblem::NotEmpty => (
            ErrorCode::DirectoryNotEmpty,
            Some("recursive=true removes it with all that is in it"),
        ),
        FileProblem::Special => (ErrorCode::SpecialFile, None),
        FileProblem::DiskFull => (
            ErrorCode::DiskFull,
            Some("remove files in the sandbox, or create one with a larger rootfs_gb"),
        ),
        FileProblem::NotPermitted => (ErrorCode::NotPermitted, None),
        FileProblem::NameTooLong => (ErrorCode::NameTooLong, None),
        FileProblem::TooManyLinks => (ErrorCode::TooManyLinks, None),
        FileProblem::NotAsExpected => (ErrorCode::PreconditionFailed, None),
        FileProblem::BadArchive => (
            ErrorCode::InvalidArchive,
            Some("the body is to be an uncompressed tar archive whose entries stay below path"),
        ),
        FileProblem::Changed => (
            ErrorCode::FileChanged,
            Some("try again when nothing writes to it"),
        ),
        FileProblem::TooMany => (ErrorCode::TooManyTransfers, None),
        FileProblem::BadRequest => (ErrorCode::InvalidField, None),
        FileProblem::Internal => (ErrorCode::AgentFailed, None),
    };
    let text: String = refusal.message.chars().take(TEXT_CHARS_MAX).collect();
    let error = ApiError::new(code, text);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
