//! What a sandbox reached.

use crate::egress_log::{EGRESS_LOG_LIMIT_MAX, EgressLogPage};
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::openapi::parameters::QueryType;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::Get,
            "/v1/sandboxes/{id}/egress/log",
            "get_egress_log",
            "sandboxes",
            "See what a sandbox reached",
        )
        .describe(
            "Connections, exchanges over UDP and refused questions for names, oldest first, with the name they were for, \
             the address, the bytes each way and the verdict. Entries of what is open change: ask for them again. To \
             follow the log, pass the `seq` of the last entry as `after`.",
        )
        .query(
            "after",
            QueryType::Whole(0, (1 << 53) - 1),
            "Only entries whose `seq` is larger.",
        )
        .query(
            "limit",
            QueryType::Whole(1, EGRESS_LOG_LIMIT_MAX),
            "Most entries to answer with; 100 when absent.",
        )
        .answers(200, "As much as is kept.", Content::json::<EgressLogPage>())
        .fails(&[
            ErrorCode::InvalidField,
            ErrorCode::SandboxNotFound,
            ErrorCode::NetworkUnavailable,
        ]),
    ]
}
