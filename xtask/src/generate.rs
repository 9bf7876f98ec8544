//! What is made from the code and checked in.
//!
//! Tests compare these files with what the code would make; told to, the same tests write them.

use anyhow::Result;

use crate::shell::{cargo, execute};

/// Crate, and the test that knows the file.
const FILES: [(&str, &str); 2] = [
    (
        "api",
        "openapi::tests::the_checked_in_document_is_the_one_that_is_served",
    ),
    (
        "settings",
        "reference::tests::the_checked_in_file_is_made_from_the_settings",
    ),
];

pub(crate) fn run() -> Result<()> {
    for (package, test) in FILES {
        let mut write = cargo(&[
            "test",
            "--quiet",
            "--package",
            package,
            "--lib",
            "--",
            "--exact",
            test,
        ]);
        execute(write.env("PODFLARE_UPDATE", "1"))?;
    }
    Ok(())
}
