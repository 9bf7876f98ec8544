//! Fork, merge and diff.

use serde_json::json;

use crate::diff::{DIFF_PATHS_MAX, Diff};
use crate::error::ErrorCode;
use crate::fork::{ForkRequest, Forked};
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation, SERVER_TIMING};
use crate::openapi::parameters::QueryType;

const TAG: &str = "forks";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Post, "/v1/sandboxes/{id}/fork", "fork", TAG, "Copy a running sandbox")
            .describe(
                "Each child has the parent's memory, processes and files as they are now, and an identity of its own. \
                 A run in progress goes on in the parent and in every child; a child's `replay` shows it.",
            )
            .json_body::<ForkRequest>(false, json!({ "n": 2 }))
            .answers(200, "All children run.", Content::json::<Forked>())
            .with_header(SERVER_TIMING)
            .fails(&[
                ErrorCode::SandboxNotFound,
                ErrorCode::SandboxNotReady,
                ErrorCode::StateConflict,
                ErrorCode::SandboxFailed,
                ErrorCode::ForkFailed,
                ErrorCode::TooManySandboxes,
                ErrorCode::RateLimited,
                ErrorCode::NoCapacity,
                ErrorCode::HostBusy,
            ]),
        Operation::new(
            Method::Post,
            "/v1/sandboxes/{id}/merge_into/{winner}",
            "merge_into",
            TAG,
            "Put one sandbox in the place of another",
        )
        .describe(
            "From now on `id` is the winner's VM, and the winner's own id is unknown. The VM that `id` was before ends.",
        )
        .answers(204, "It is done.", Content::Nothing)
        .with_header(SERVER_TIMING)
        .fails(&[
            ErrorCode::InvalidField,
            ErrorCode::SandboxNotFound,
            ErrorCode::SandboxNotReady,
            ErrorCode::StateConflict,
        ]),
        Operation::new(
            Method::Get,
            "/v1/sandboxes/{id}/diff/{other}",
            "diff",
            TAG,
            "Files that differ between two sandboxes",
        )
        .describe("A comparison that takes long begins its answer with white space.")
        .query(
            "paths",
            QueryType::Paths(DIFF_PATHS_MAX),
            "Where to look, each in a `paths=` of its own; the whole file system without the kernel's when absent.",
        )
        .answers(200, "What is different in the other one.", Content::json::<Diff>())
        .with_header(SERVER_TIMING)
        .fails(&[
            ErrorCode::InvalidField,
            ErrorCode::SandboxNotFound,
            ErrorCode::SandboxNotReady,
            ErrorCode::SandboxFailed,
            ErrorCode::AgentFailed,
        ]),
    ]
}
