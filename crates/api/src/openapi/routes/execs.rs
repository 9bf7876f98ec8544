//! Runs and their replay.

use serde_json::json;

use crate::error::ErrorCode;
use crate::event::Event;
use crate::exec::ExecRequest;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::openapi::parameters::QueryType;

const TAG: &str = "execs";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Post, "/v1/sandboxes/{id}/exec", "exec", TAG, "Run code")
            .describe(
                "Python runs in the sandbox's one live interpreter, bash in a fresh shell. Runs of one sandbox take \
                 turns; those that wait get heartbeats too. Each event is one line of output without its newline; \
                 exactly one `exit` is the last. Going away interrupts the run.",
            )
            .json_body::<ExecRequest>(true, json!({ "code": "print(6 * 7)", "language": "python" }))
            .answers(200, "The events of the run, up to and including `exit`.", Content::lines::<Event>())
            .fails(&[
                ErrorCode::SandboxNotFound,
                ErrorCode::SandboxNotReady,
                ErrorCode::TooManyExecs,
                ErrorCode::SandboxFailed,
                ErrorCode::AgentFailed,
            ]),
        Operation::new(Method::Get, "/v1/sandboxes/{id}/replay", "replay", TAG, "Read the last events again")
            .describe(
                "The last 1000 events of the sandbox's runs in the schema of `exec`, in their order, with the `seq` they \
                 had: it begins anew with each run. At most 4 MiB are kept; of an event of more than 256 KiB its \
                 beginning and a mark. A forked sandbox starts with its parent's events and, if a run was in progress, \
                 goes on with that run's; a merge keeps the winner's.\n\n\
                 With `follow`, what comes is sent as it comes, until no run is in progress any more. Going away \
                 interrupts nothing.",
            )
            .query("follow", QueryType::Flag, "Go on with what comes.")
            .answers(200, "The events.", Content::lines::<Event>())
            .fails(&[ErrorCode::InvalidField, ErrorCode::SandboxNotFound]),
    ]
}
