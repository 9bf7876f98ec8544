//! Creations, forks and merges, and what their time went into.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Source;
use prometheus_client::metrics::counter::Counter;

use super::families::Families;
use super::histogram::{Histogram, LATENCY, STAGE};

/// In the order of [`source_index`].
const SOURCES: [&str; 3] = ["pool", "clone", "boot"];

/// What a client asks for that brings or replaces VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Fork,
    Merge,
    Checkpoint,
    Rollback,
    /// Filling a pool, which no client asks for.
    Refill,
}

/// Why there was no sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// The request asked for what there is not, or its sandbox is unknown or not ready.
    Refused,
    NoRoom,
    Stopping,
    /// A VM did not boot, was not cloned, or did not take on its identity.
    Vm,
    Internal,
}

const OPERATIONS: [&str; 6] = ["create", "fork", "merge", "checkpoint", "rollback", "refill"];
const FAILINGS: [&str; 5] = ["refused", "no_room", "stopping", "vm", "internal"];

/// Every stage that marks are set for: an operation, and the name of the mark as in `Server-Timing`.
const STAGES: [(Operation, &str); 16] = [
    (Operation::Create, "wake"),
    (Operation::Create, "clone"),
    (Operation::Create, "boot"),
    (Operation::Fork, "clone"),
    (Operation::Fork, "paused"),
    (Operation::Fork, "identity"),
    (Operation::Merge, "swap"),
    (Operation::Checkpoint, "clone"),
    (Operation::Checkpoint, "paused"),
    (Operation::Rollback, "clone"),
    (Operation::Rollback, "identity"),
    (Operation::Rollback, "swap"),
    (Operation::Refill, "clone"),
    (Operation::Refill, "identity"),
    (Operation::Refill, "warm"),
    (Operation::Refill, "pause"),
];

#[derive(Debug)]
pub(crate) struct Births {
    /// By template, then by source.
    creates: BTreeMap<String, Vec<Counter>>,
    durations: Vec<Histogram>,
    /// By operation, then by reason.
    failures: Vec<Vec<Counter>>,
    stages: Vec<Histogram>,
    refills: BTreeMap<String, Histogram>,
    forks: Counter,
    children: Counter,
    fork_duration: Histogram,
    merges: Counter,
}

impl Births {
    pub(super) fn new(families: &mut Families<'_>, templates: &[&str]) -> Self {
        let creates = families.counter_grid(
            "creates",
            "Sandboxes created, by template and by where their VM came from",
            ("template", templates),
            ("source", &SOURCES),
        );
        let refills = families.histograms(
            "pool_refill_duration_seconds",
            "Making one VM for a pool: cloned, identified, warmed, paused",
            LATENCY,
            ("template", templates),
        );
        let names = || templates.iter().map(|name| (*name).to_owned());
        Self {
            creates: names().zip(creates).collect(),
            refills: names().zip(refills).collect(),
            durations: families.histograms(
                "create_duration_seconds",
                "From a request to create to its sandbox, by where the VM came from",
                LATENCY,
                ("source", &SOURCES),
            ),
            failures: families.counter_grid(
                "operation_failures",
                "What was asked for, and refills, that failed, by reason",
                ("operation", &OPERATIONS),
                ("reason", &FAILINGS),
            ),
            stages: stages(families),
            forks: families.counter("forks", "Forks that succeeded"),
            children: families.counter("fork_children", "Sandboxes made by forks"),
            fork_duration: families.histogram(
                "fork_duration_seconds",
                "From a request to fork to all of its children",
                LATENCY,
            ),
            merges: families.counter("merges", "Merges that succeeded"),
        }
    }

    pub(crate) fn created(&self, template: &str, source: Source, took: Duration) {
        let Some(index) = source_index(source) else {
            return;
        };
        if let Some(count) = self.creates.get(template).and_then(|counts| counts.get(index)) {
            count.inc();
        }
        if let Some(duration) = self.durations.get(index) {
            duration.observe(took);
        }
    }

    pub(crate) fn forked(&self, children: usize, took: Duration) {
        self.forks.inc();
        self.children.inc_by(children as u64);
        self.fork_duration.observe(took);
    }

    pub(crate) fn merged(&self) {
        self.merges.inc();
    }

    pub(crate) fn refilled(&self, template: &str, took: Duration) {
        if let Some(duration) = self.refills.get(template) {
            duration.observe(took);
        }
    }

    pub(crate) fn failed(&self, operation: Operation, why: Failing) {
        if let Some(count) = self
            .failures
            .get(operation as usize)
            .and_then(|counts| counts.get(why as usize))
        {
            count.inc();
        }
    }

    /// What the time of one operation went into.
    pub(crate) fn stages<'a>(
        &self,
        operation: Operation,
        spans: impl IntoIterator<Item = &'a (&'static str, Duration)>,
    ) {
        for (name, time) in spans {
            let index = STAGES.iter().position(|stage| *stage == (operation, *name));
            if let Some(stage) = index.and_then(|index| self.stages.get(index)) {
                stage.observe(*time);
            }
        }
    }
}

fn stages(families: &mut Families<'_>) -> Vec<Histogram> {
    let family = families.histogram_family(
        "stage_duration_seconds",
        "What creations, forks, merges, checkpoints, rollbacks and refills consist of; the names are those of Server-Timing",
        STAGE,
    );
    let one = |(operation, stage): &(Operation, &str)| {
        let operation = OPERATIONS.get(*operation as usize).copied().unwrap_or_default();
        let labels = vec![
            ("operation", operation.to_owned()),
            ("stage", (*stage).to_owned()),
        ];
        family.get_or_create(&labels).clone()
    };
    STAGES.iter().map(one).collect()
}

/// Forks and resumed spaces are counted by themselves, and rollbacks make no sandbox.
fn source_index(source: Source) -> Option<usize> {
    match source {
        Source::Pool => Some(0),
        Source::Clone => Some(1),
        Source::Boot => Some(2),
        Source::Fork | Source::Space | Source::Rollback => None,
    }
}
