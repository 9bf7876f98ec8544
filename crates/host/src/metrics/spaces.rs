//! Freezing and resuming.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::families::Families;
use super::histogram::{Histogram, LATENCY};

const OPERATIONS: [&str; 3] = ["freeze", "resume", "import"];

#[derive(Debug)]
pub(crate) struct SpaceMetrics {
    freeze_duration: Histogram,
    resume_duration: Histogram,
    bytes: Counter,
    imported_bytes: Counter,
    exported_bytes: Counter,
    failures: Vec<Counter>,
}

impl SpaceMetrics {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
            freeze_duration: families.histogram(
                "freeze_duration_seconds",
                "From the decision to freeze a sandbox to its space being on stable storage",
                LATENCY,
            ),
            resume_duration: families.histogram(
                "resume_duration_seconds",
                "From a request to resume a space to its sandbox",
                LATENCY,
            ),
            bytes: families.counter("frozen_bytes", "Bytes written for spaces"),
            imported_bytes: families.counter("imported_bytes", "What imported spaces take on the disk"),
            exported_bytes: families.counter("exported_bytes", "Bytes of files that spaces were exported to"),
            failures: families.counters(
                "space_failures",
                "Sandboxes that were not frozen and spaces that were not resumed or imported",
                ("operation", &OPERATIONS),
            ),
        }
    }

    pub(crate) fn frozen(&self, took: Duration, bytes: u64) {
        self.freeze_duration.observe(took);
        self.bytes.inc_by(bytes);
    }

    pub(crate) fn resumed(&self, took: Duration) {
        self.resume_duration.observe(took);
    }

    pub(crate) fn freeze_failed(&self) {
        self.failures.first().map(Counter::inc);
    }

    pub(crate) fn resume_failed(&self) {
        self.failures.get(1).map(Counter::inc);
    }

    pub(crate) fn imported(&self, bytes: u64) {
        self.imported_bytes.inc_by(bytes);
    }

    pub(crate) fn import_failed(&self) {
        self.failures.last().map(Counter::inc);
    }

    /// So much of a file was handed on.
    pub(crate) fn exported(&self, bytes: u64) {
        self.exported_bytes.inc_by(bytes);
    }
}
