//! Health and capacity.

use crate::capacity::Capacity;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};

const TAG: &str = "host";

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
        .describe("Memory and pools are the host's; sandboxes and runs are counted of your tenant alone.")
        .answers(200, "Memory, sandboxes, pools.", Content::json::<Capacity>()),
        Operation::new(Method::Get, "/metrics", "get_metrics", TAG, "Read the metrics")
            .metrics()
            .describe(
                "The figures of all tenants together, for Prometheus. API keys do not open them. A host that asks nobody \
                 for a key, and has none for this, asks nobody here either.",
            )
            .answers(200, "OpenMetrics text.", Content::Text(METRICS)),
    ]
}
