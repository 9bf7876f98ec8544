//! All operations. One file for each kind of thing, in the order in which people meet them.

mod admin;
mod admin_keys;
mod checkpoints;
mod documents;
mod egress;
mod execs;
mod files;
mod forks;
mod ports;
mod ptys;
mod sandboxes;
mod secrets;
mod spaces;
mod status;
mod usage;
mod webhooks;

use super::operation::Operation;

/// The chapters, in order.
pub(super) const TAGS: [(&str, &str); 14] = [
    ("sandboxes", "Creating, finding and ending sandboxes."),
    ("execs", "Running code."),
    ("terminals", "Programs on terminals of their own."),
    ("files", "Reading, writing and watching files."),
    ("ports", "Programs that listen in sandboxes, and ways to them."),
    ("forks", "Copies of running sandboxes, and choosing among them."),
    ("webhooks", "Being told what happens to sandboxes."),
    ("secrets", "What sandboxes may use without having it."),
    ("spaces", "Sandboxes on disk: freezing them, and going on."),
    (
        "checkpoints",
        "States of a sandbox to go back to under the same id.",
    ),
    ("usage", "What tenants have used."),
    ("host", "What this host has and how it is."),
    ("documents", "This description, and a terminal for browsers."),
    (
        "admin",
        "Tenants, keys and the audit log, for the operator alone.",
    ),
];

/// Every operation of every route, chapter by chapter.
#[must_use]
pub fn operations() -> Vec<Operation> {
    [
        sandboxes::operations(),
        egress::operations(),
        execs::operations(),
        ptys::operations(),
        files::operations(),
        ports::operations(),
        forks::operations(),
        webhooks::operations(),
        secrets::operations(),
        spaces::operations(),
        checkpoints::operations(),
        usage::operations(),
        status::operations(),
        documents::operations(),
        admin::operations(),
        admin_keys::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
