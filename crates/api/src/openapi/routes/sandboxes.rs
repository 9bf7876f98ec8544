//! `/v1/sandboxes`, one sandbox, and its console.

use serde_json::json;

use crate::change::ChangeRequest;
use crate::create::CreateRequest;
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation, SERVER_TIMING};
use crate::openapi::parameters::QueryType;
use crate::sandbox::{CreatedSandbox, SandboxInfo, SandboxList};

const TAG: &str = "sandboxes";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Post, "/v1/sandboxes", "create_sandbox", TAG, "Create a sandbox")
            .describe(
                "Answers when the sandbox is ready. One of the ordinary size comes out of the template's pool or is \
                 cloned; one with its own `ram_mib` or `rootfs_gb` is booted, which takes longer: the answer may \
                 begin with white space that keeps the connection alive.",
            )
            .json_body::<CreateRequest>(false, json!({ "template": "default", "ram_mib": 512 }))
            .answers(200, "It is ready.", Content::json::<CreatedSandbox>())
            .with_header(SERVER_TIMING)
            .fails(&[
                ErrorCode::UnknownTemplate,
                ErrorCode::StateConflict,
                ErrorCode::TooManySandboxes,
                ErrorCode::RateLimited,
                ErrorCode::NoCapacity,
                ErrorCode::HostBusy,
                ErrorCode::BootFailed,
                ErrorCode::Internal,
            ]),
        Operation::new(Method::Get, "/v1/sandboxes", "list_sandboxes", TAG, "List sandboxes")
            .describe("Yours only, oldest first.")
            .query("usage", QueryType::Word(&["true", "false"]), "Add what each of them uses.")
            .answers(200, "All of them.", Content::json::<SandboxList>())
            .fails(&[ErrorCode::InvalidField]),
        Operation::new(Method::Get, "/v1/sandboxes/{id}", "get_sandbox", TAG, "Show a sandbox")
            .answers(200, "What is known of it.", Content::json::<SandboxInfo>())
            .fails(&[ErrorCode::SandboxNotFound]),
        Operation::new(Method::Patch, "/v1/sandboxes/{id}", "change_sandbox", TAG, "Change a sandbox")
            .describe(
                "A life is counted from the sandbox's creation, also when it is extended. Times are capped without a \
                 word, as when it was created; the answer shows what holds. One that would be over already is refused. \
                 What the sandbox may reach changes as a whole, and is in force when this is answered: connections that \
                 are not allowed any more have been reset by then.",
            )
            .json_body::<ChangeRequest>(false, json!({ "timeout_seconds": 7200, "idle_timeout_seconds": 600 }))
            .answers(200, "It holds from now on.", Content::json::<SandboxInfo>())
            .fails(&[ErrorCode::SandboxNotFound, ErrorCode::NetworkUnavailable]),
        Operation::new(Method::Delete, "/v1/sandboxes/{id}", "delete_sandbox", TAG, "End a sandbox")
            .describe("Its id is unknown from now on. Ending what is gone, or never was, is no error.")
            .answers(204, "It is gone.", Content::Nothing),
        Operation::new(
            Method::Get,
            "/v1/sandboxes/{id}/console",
            "get_console",
            TAG,
            "Read the guest's console",
        )
        .answers(200, "As much as is kept, from the kernel's first line.", Content::Text("text/plain; charset=utf-8"))
        .fails(&[ErrorCode::SandboxNotFound, ErrorCode::Internal]),
    ]
}
