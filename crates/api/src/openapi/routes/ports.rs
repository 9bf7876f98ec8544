//! Ports: what listens in a sandbox, and ways to it.

use serde_json::json;

use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::ports::{PortList, ShareRequest, SharedPort};

const TAG: &str = "ports";

const PROXY: &str = "/v1/sandboxes/{id}/ports/{port}/{*path}";
const SHARED: &str = "/v1/shared/{token}/{*path}";

/// What is passed on, with the names of the operations for a key and for a token. HEAD goes with GET.
const METHODS: [(Method, &str, &str); 6] = [
    (Method::Get, "get_port", "get_shared"),
    (Method::Post, "post_port", "post_shared"),
    (Method::Put, "put_port", "put_shared"),
    (Method::Patch, "patch_port", "patch_shared"),
    (Method::Delete, "delete_port", "delete_shared"),
    (Method::Options, "options_port", "options_shared"),
];

/// What every route to a sandbox can answer.
const COMMON: [ErrorCode; 5] = [
    ErrorCode::SandboxNotFound,
    ErrorCode::SandboxNotReady,
    ErrorCode::SandboxFailed,
    ErrorCode::StateConflict,
    ErrorCode::AgentFailed,
];

/// The same of those to a port of it.
const TO_PORTS: [ErrorCode; 4] = [
    ErrorCode::InvalidField,
    ErrorCode::TooManyPortConnections,
    ErrorCode::PortRefused,
    ErrorCode::PortTimeout,
];

pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        Operation::new(Method::Get, "/v1/sandboxes/{id}/ports", "list_ports", TAG, "List what listens")
            .describe("TCP sockets that wait for connections in the sandbox, with the process that has them.")
            .answers(200, "By port and address; at most 256.", Content::json::<PortList>())
            .fails(&COMMON)
            .fails(&[ErrorCode::TooManyPortConnections]),
        Operation::new(Method::Post, "/v1/sandboxes/{id}/share/{port}", "share_port", TAG, "Make a URL for others")
            .describe(
                "Whoever has the URL may use this one port of this one sandbox until its time is over or the sandbox is \
                 gone. It outlives the daemon; forks of the sandbox are not meant. There is no list of them, and none can be \
                 taken back.",
            )
            .json_body::<ShareRequest>(false, json!({ "expires_in_seconds": 3600 }))
            .answers(200, "The URL.", Content::json::<SharedPort>())
            .fails(&[ErrorCode::SandboxNotFound]),
        Operation::new(Method::Get, "/v1/sandboxes/{id}/tunnel/{port}", "tunnel_port", TAG, "Connect to a port")
            .describe(
                "With `Connection: Upgrade` and `Upgrade: podflare-tcp` the connection becomes one to the port: bytes as \
                 they are, both ways, and each direction ends on its own. `podflare forward` uses it.",
            )
            .header("Upgrade", "`podflare-tcp`.")
            .answers(101, "From here on it is the program's.", Content::Nothing)
            .fails(&COMMON)
            .fails(&TO_PORTS)
            .fails(&[ErrorCode::UpgradeRequired]),
    ];
    all.extend(METHODS.map(|(method, id, _)| {
        passed_on(Operation::new(method, PROXY, id, TAG, "Use a port over HTTP")).describe(
            "The request goes to what listens on that port, and its answer comes back: streamed both ways, with WebSockets \
             and other upgrades. The program sees `Host: localhost:<port>`, `X-Forwarded-For`, `-Host`, `-Proto` and \
             `-Prefix`, and neither the `Authorization` header nor cookies of this host's. `Location` and the paths of \
             cookies are put below this path. A page opened from here by a browser is one of no site (`Content-Security-\
             Policy: sandbox`), and where the host has a domain for ports, and asks for no key, it is sent there.",
        )
    }));
    all.extend(METHODS.map(|(method, _, id)| {
        passed_on(Operation::new(method, SHARED, id, TAG, "Use a shared port over HTTP").open())
            .describe("The same with the token of a share, which is all that is asked for. A browser is sent on to the host \
                       name of the port where the host has a domain for them.")
            .fails(&[ErrorCode::ShareExpired, ErrorCode::ShareInvalid, ErrorCode::ShuttingDown])
    }));
    all
}

fn passed_on(operation: Operation) -> Operation {
    operation
        .answers_by_others("Whatever the program on the port answers.")
        .fails(&COMMON)
        .fails(&TO_PORTS)
        .fails(&[ErrorCode::BadPortAnswer])
}
