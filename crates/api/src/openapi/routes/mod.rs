//! All operations. One file for each kind of thing, in the order in which people meet them.

mod documents;
mod execs;
mod forks;
mod sandboxes;
mod status;

use super::operation::Operation;

/// The chapters, in order.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("sandboxes", "Creating, finding and ending sandboxes."),
    ("execs", "Running code."),
    ("forks", "Copies of running sandboxes, and choosing among them."),
    ("host", "What this host has and how it is."),
    ("documents", "This description."),
];

/// Every operation of every route, chapter by chapter.
#[must_use]
pub fn operations() -> Vec<Operation> {
    [
        sandboxes::operations(),
        execs::operations(),
        forks::operations(),
        status::operations(),
        documents::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
