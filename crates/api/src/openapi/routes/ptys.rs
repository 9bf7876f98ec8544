//! Terminals.

use serde_json::json;

use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::openapi::parameters::QueryType;
use crate::pty::{
    PtyCreateObject, PtyInfo, PtyInputRequest, PtyReadAnswer, PtyReadRequest, PtyResizeRequest,
};
use crate::pty_event::PtyEvent;

const TAG: &str = "terminals";

const PTYS: &str = "/v1/sandboxes/{id}/pty";

/// What every route of terminals can answer.
const COMMON: [ErrorCode; 4] = [
    ErrorCode::SandboxNotFound,
    ErrorCode::SandboxNotReady,
    ErrorCode::SandboxFailed,
    ErrorCode::TooManyPtyStreams,
];

pub(super) fn operations() -> Vec<Operation> {
    let mut all = streams();
    all.extend(requests());
    all
}

fn streams() -> Vec<Operation> {
    vec![
        Operation::new(Method::Post, PTYS, "create_pty", TAG, "Start a program on a terminal")
            .describe(
                "It lives in the sandbox until it exits, whoever follows it; going away only detaches. A fork carries it \
                 on in both, under the same id.\n\n\
                 `pty_ready` comes first, `pty_exit` last. A program that cannot be started is a `pty_error` instead, with \
                 status 200. Clients ignore events that they do not know.",
            )
            .json_body::<PtyCreateObject>(true, json!({ "shellCmd": "ls --color /", "cols": 120, "rows": 40 }))
            .answers(200, "The events of the terminal.", Content::lines::<PtyEvent>())
            .fails(&COMMON)
            .fails(&[ErrorCode::Internal]),
        Operation::new(Method::Get, PTYS, "list_ptys", TAG, "List terminals")
            .describe("Oldest first; of those whose program has exited the last 32.")
            .answers(200, "All of them.", Content::json::<Vec<PtyInfo>>())
            .fails(&COMMON)
            .fails(&[ErrorCode::AgentFailed]),
        one(Method::Get, "/v1/sandboxes/{id}/pty/{pty}/attach", "attach_pty", "Follow a terminal")
            .describe(
                "What is kept, the newest 1 MiB, and then what comes. Going away only detaches.\n\n\
                 With `Upgrade: websocket` it is a WebSocket of the subprotocol `podflare.terminal.v1`: binary messages \
                 are the terminal's bytes, both ways; text messages are JSON, `{\"type\":\"resize\",\"cols\":80,\"rows\":24}` \
                 from the client and the events other than data from the host. A browser offers its key as a second \
                 subprotocol, `podflare.key.` and the key in base64url without padding.",
            )
            .query("since_seq", QueryType::Whole(0, u64::MAX), "Number of the first byte wanted; 0 when absent.")
            .answers(200, "The events of the terminal.", Content::lines::<PtyEvent>())
            .answers(101, "From here on it is a WebSocket.", Content::Nothing)
            .fails(&[ErrorCode::InvalidField]),
    ]
}

fn requests() -> Vec<Operation> {
    vec![
        one(Method::Post, "/v1/sandboxes/{id}/pty/{pty}/input", "write_pty", "Type into a terminal")
            .describe("Answers when the terminal has taken all of it.")
            .json_body::<PtyInputRequest>(true, json!({ "data_b64": "bHMK" }))
            .answers(204, "It has taken all.", Content::Nothing)
            .fails(&[ErrorCode::PtyExited, ErrorCode::PtyNotReading]),
        one(Method::Post, "/v1/sandboxes/{id}/pty/{pty}/resize", "resize_pty", "Resize a terminal")
            .describe("Its program gets SIGWINCH.")
            .json_body::<PtyResizeRequest>(true, json!({ "cols": 132, "rows": 50 }))
            .answers(204, "It has the new size.", Content::Nothing),
        one(Method::Post, "/v1/sandboxes/{id}/pty/{pty}/kill", "kill_pty", "Kill what runs on a terminal")
            .describe("All processes of its session. After the program has exited there is nothing to do, which is no error.")
            .answers(204, "It is done.", Content::Nothing)
            .fails(&[ErrorCode::InvalidBody, ErrorCode::BodyTooLarge]),
        one(Method::Post, "/v1/sandboxes/{id}/pty/{pty}/read", "read_pty", "Wait for output of a terminal")
            .describe("Answers at once if there is some, and with nothing when none comes in time.")
            .json_body::<PtyReadRequest>(false, json!({ "since_seq": 0, "timeout_ms": 1000 }))
            .answers(200, "What there is.", Content::json::<PtyReadAnswer>()),
    ]
}

/// About one terminal.
fn one(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, TAG, summary)
        .fails(&COMMON)
        .fails(&[ErrorCode::PtyNotFound, ErrorCode::AgentFailed])
}
