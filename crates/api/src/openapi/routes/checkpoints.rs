//! Checkpoints and rollback.

use serde_json::json;

use crate::checkpoint::{Checkpoint, CheckpointList, CheckpointRequest, RollbackRequest, RolledBack};
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation, SERVER_TIMING};

const TAG: &str = "checkpoints";

/// What both saving and going back can meet.
const FAILURES: [ErrorCode; 7] = [
    ErrorCode::SandboxNotFound,
    ErrorCode::SandboxNotReady,
    ErrorCode::StateConflict,
    ErrorCode::SandboxFailed,
    ErrorCode::CheckpointFailed,
    ErrorCode::NoCapacity,
    ErrorCode::HostBusy,
];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::Post,
            "/v1/sandboxes/{id}/checkpoints",
            "create_checkpoint",
            TAG,
            "Keep what a sandbox is at this moment",
        )
        .describe(
            "Memory, processes and files as they are now, in the host's memory, shared with the sandbox until it \
             writes. It counts as one of the tenant's sandboxes, and ends with its own.",
        )
        .json_body::<CheckpointRequest>(false, json!({ "name": "before-the-upgrade" }))
        .answers(200, "It is kept.", Content::json::<Checkpoint>())
        .with_header(SERVER_TIMING)
        .fails(&FAILURES)
        .fails(&[
            ErrorCode::TooManyCheckpoints,
            ErrorCode::TooManySandboxes,
            ErrorCode::RateLimited,
        ]),
        Operation::new(
            Method::Get,
            "/v1/sandboxes/{id}/checkpoints",
            "list_checkpoints",
            TAG,
            "List a sandbox's checkpoints",
        )
        .answers(200, "All of them, oldest first.", Content::json::<CheckpointList>())
        .fails(&[ErrorCode::SandboxNotFound]),
        Operation::new(
            Method::Delete,
            "/v1/sandboxes/{id}/checkpoints/{checkpoint}",
            "delete_checkpoint",
            TAG,
            "Give up a checkpoint",
        )
        .describe("Giving up what is gone, or never was, is no error.")
        .answers(204, "It is gone.", Content::Nothing),
        Operation::new(
            Method::Post,
            "/v1/sandboxes/{id}/rollback",
            "rollback",
            TAG,
            "Go back to a checkpoint under the same id",
        )
        .describe(
            "The sandbox is again what it was then; its id, its times and its checkpoints stay. Execs in progress end \
             with a word on stderr. One that was in progress at the checkpoint goes on; `replay` shows it. When this \
             fails nothing has changed. A sandbox that has failed can be saved this way.",
        )
        .json_body::<RollbackRequest>(false, json!({ "checkpoint": "before-the-upgrade" }))
        .answers(200, "It is there again.", Content::json::<RolledBack>())
        .with_header(SERVER_TIMING)
        .fails(&FAILURES)
        .fails(&[ErrorCode::CheckpointNotFound, ErrorCode::CheckpointLost]),
    ]
}
