//! Health and capacity.

use crate::capacity::Capacity;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};

const TAG: &str = "host";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Get, "/v1/healthz", "healthz", TAG, "Is it well")
            .open()
            .answers(200, "The text `ok`.", Content::Text("text/plain; charset=utf-8"))
            .answers(
                503,
                "The text `starting` or `stopping`.",
                Content::Text("text/plain; charset=utf-8"),
            ),
        Operation::new(
            Method::Get,
            "/v1/capacity",
            "get_capacity",
            TAG,
            "Show what is left",
        )
        .answers(200, "Memory, sandboxes, pools.", Content::json::<Capacity>()),
    ]
}
