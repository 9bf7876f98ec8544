//! Freezing sandboxes, and what becomes of them.

use serde_json::json;

use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Header, Method, Operation, SERVER_TIMING};
use crate::sandbox::CreatedSandbox;
use crate::space::{FreezeRequest, ResumeRequest, SPACE_MEDIA_TYPE, SpaceInfo, SpaceList};

const TAG: &str = "spaces";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::Post,
            "/v1/sandboxes/{id}/freeze",
            "freeze_sandbox",
            TAG,
            "Freeze a sandbox to disk",
        )
        .describe(
            "Memory, disk, processes and terminals are kept as a space; the sandbox's id is unknown from then on. Answers \
             when all of it is on stable storage. A run in progress goes on when the space is resumed. A sandbox that could \
             not be frozen goes on as if nothing had been asked.",
        )
        .json_body::<FreezeRequest>(false, json!({ "whole": false }))
        .answers(200, "The space.", Content::json::<SpaceInfo>())
        .fails(&[
            ErrorCode::SandboxNotFound,
            ErrorCode::SandboxNotReady,
            ErrorCode::StateConflict,
            ErrorCode::SandboxFailed,
            ErrorCode::SpaceQuota,
            ErrorCode::FreezeFailed,
            ErrorCode::HostDiskFull,
        ]),
        Operation::new(Method::Get, "/v1/spaces", "list_spaces", TAG, "List spaces")
            .describe("Yours only, oldest first.")
            .answers(200, "All of them.", Content::json::<SpaceList>()),
        Operation::new(Method::Get, "/v1/spaces/{space}", "get_space", TAG, "Show a space")
            .answers(200, "What is known of it.", Content::json::<SpaceInfo>())
            .fails(&[ErrorCode::SpaceNotFound]),
        Operation::new(
            Method::Post,
            "/v1/spaces/{space}/resume",
            "resume_space",
            TAG,
            "Go on with what was frozen",
        )
        .describe(
            "The sandbox gets a new id. The space is used up by it, unless `keep` is true; one that could not be resumed is \
             kept in any case.",
        )
        .json_body::<ResumeRequest>(false, json!({ "timeout_seconds": 3600, "keep": true }))
        .answers(200, "It runs.", Content::json::<CreatedSandbox>())
        .with_header(SERVER_TIMING)
        .fails(&[
            ErrorCode::SpaceNotFound,
            ErrorCode::StateConflict,
            ErrorCode::SpaceUnusable,
            ErrorCode::ResumeFailed,
            ErrorCode::TooManySandboxes,
            ErrorCode::RateLimited,
            ErrorCode::NoCapacity,
            ErrorCode::HostBusy,
        ]),
        Operation::new(
            Method::Get,
            "/v1/spaces/{space}/export",
            "export_space",
            TAG,
            "A space as one file",
        )
        .describe(
            "All that is needed to go on with it on another host that has the same kind of CPU and the same disk image of \
             its template: `POST /v1/spaces/import` takes it there. The space stays, and may be resumed or deleted while \
             the file is still being sent. A file that is not whole is refused at its import.",
        )
        .answers(200, "The file.", Content::Bytes(&[SPACE_MEDIA_TYPE]))
        .with_header(Header {
            name: "Content-Disposition",
            description: "A name for the file.",
        })
        .fails(&[
            ErrorCode::SpaceNotFound,
            ErrorCode::StateConflict,
            ErrorCode::SpaceUnusable,
            ErrorCode::TooManyTransfers,
            ErrorCode::Internal,
        ]),
        Operation::new(
            Method::Post,
            "/v1/spaces/import",
            "import_space",
            TAG,
            "Make a space of a file",
        )
        .describe(
            "Takes what `GET /v1/spaces/{space}/export` gave, here or on another host. The space is yours, counts in your \
             quota, and has a new id. The file is checked whole, and built into a VM that does not run, before the space is \
             there: what is damaged, or cannot go on here, is refused with the reason.",
        )
        .bytes_body(&[SPACE_MEDIA_TYPE])
        .answers(200, "The space.", Content::json::<SpaceInfo>())
        .fails(&[
            ErrorCode::InvalidBody,
            ErrorCode::InvalidSpaceFile,
            ErrorCode::SpaceUnusable,
            ErrorCode::SpaceQuota,
            ErrorCode::TooManyTransfers,
            ErrorCode::HostDiskFull,
            ErrorCode::Internal,
        ]),
        Operation::new(Method::Delete, "/v1/spaces/{space}", "delete_space", TAG, "Remove a space")
            .describe("Removing what is gone, or never was, is no error.")
            .answers(204, "It is gone.", Content::Nothing)
            .fails(&[ErrorCode::StateConflict]),
    ]
}
