//! What this host counts and measures, for Prometheus.
//!
//! ```text
//!  request, run, clone … ──▶ handles resolved at the start: atomic additions only
//!                                   │
//!  GET /metrics ──▶ [state], [process]: read at that moment ──▶ OpenMetrics text
//! ```
//!
//! Every label has a fixed set of values, or one that is fixed at the start (templates) or by the code (routes): nothing a
//! client or a guest says becomes a label. Each name is described in `docs/operations.md`, which a test compares.

mod births;
mod expirations;
mod families;
mod histogram;
mod http;
mod lag;
mod network;
mod process;
mod recent;
mod runs;
mod spaces;
mod state;
mod vms;

use std::fmt::Write as _;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use expirations::Expirations;
use families::Families;

pub(crate) use births::{Births, Failing, Operation};
pub(crate) use histogram::Histogram;
pub(crate) use http::{HttpMetrics, RouteMetrics};
pub(crate) use lag::measure_lag;
pub(crate) use network::NetworkMetrics;
pub(crate) use process::{ProcessState, cpu_time};
pub(crate) use recent::Recent;
pub(crate) use runs::{RunOutcome, Runs};
pub(crate) use spaces::SpaceMetrics;
pub(crate) use state::HostState;
pub(crate) use vms::{Death, Role, Vms};

/// In front of every name that is about Podflare.
const PREFIX: &str = "podflare";

/// Of the answer to `GET /metrics`.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted as it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) http: HttpMetrics,
    pub(crate) births: Births,
    pub(crate) runs: Runs,
    pub(crate) vms: Vms,
    pub(crate) spaces: SpaceMetrics,
    pub(crate) network: NetworkMetrics,
    pub(crate) expirations: Expirations,
    /// How late timers of the runtime fire.
    pub(crate) lag: Histogram,
    /// Lines a guest would have put into the log, above its allowance.
    pub(crate) log_lines_left_out: Counter,
    /// The last minute, for `/v1/capacity`.
    pub(crate) recent: Recent,
}

impl Metrics {
    /// For a host with these templates.
    pub(crate) fn new<'a>(templates: impl Iterator<Item = &'a str>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let templates: Vec<&str> = templates.collect();
        let mut families = Families(&mut registry);
        Self {
            http: HttpMetrics::new(&mut families),
            births: Births::new(&mut families, &templates),
            runs: Runs::new(&mut families),
            vms: Vms::new(&mut families),
            spaces: SpaceMetrics::new(&mut families),
            network: NetworkMetrics::new(&mut families),
            expirations: Expirations::new(&mut families),
            lag: families.histogram(
                "event_loop_lag_seconds",
                "How late the daemon's timers fire",
                histogram::LAG,
            ),
            log_lines_left_out: families.counter(
                "log_lines_left_out",
                "Log lines that guests would have caused above their allowance",
            ),
            recent: Recent::default(),
            registry,
        }
    }

    /// The text of all metrics, with what is read at this moment.
    pub(crate) fn render(&self, state: &HostState, process: &ProcessState) -> String {
        let mut now = Registry::with_prefix(PREFIX);
        state.register(&mut Families(&mut now));
        // Its names are those that every exporter uses, without our prefix.
        let mut usual = Registry::default();
        process.register(&mut Families(&mut usual));
        let mut text = String::new();
        let encoded = [&self.registry, &now, &usual]
            .into_iter()
            .try_for_each(|registry| encode_registry(&mut text, registry))
            .and_then(|()| encode_eof(&mut text));
        if encoded.is_err() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# the rest could not be encoded");
        }
        text
    }
}
