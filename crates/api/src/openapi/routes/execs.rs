//! Runs and their replay.

use serde_json::json;

use crate::error::ErrorCode;
use crate::event::Event;
use crate::exec::ExecRequest;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};

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
    ]
}
