//! Rules of the house that are easy to check and easy to forget.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::shell::{output, root};
use std::process::Command;

/// A longer file holds more than one idea.
const LINES_MAX: usize = 500;

/// The only crates that may contain unsafe code: the VM process, and one module of system calls in the guest.
const UNSAFE: [&str; 2] = ["crates/vmm/", "crates/guest/"];

/// A rule looks at one file and names what it finds.
type Rule = fn(path: &str, text: &str) -> Option<String>;

const RULES: [Rule; 5] = [
    opens_with_its_purpose,
    is_short,
    forbids_unsafe,
    takes_the_workspace_lints,
    names_no_machine,
];

pub(super) fn check() -> Result<Vec<String>> {
    let listing = output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root()),
    )?;
    let mut findings = Vec::new();
    for path in listing.lines().filter(|path| root().join(path).is_file()) {
        // Data files need not be text.
        let Ok(text) = fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
        else {
            continue;
        };
        findings.extend(
            RULES
                .iter()
                .filter_map(|rule| rule(path, &text))
                .map(|finding| format!("{path}: {finding}")),
        );
    }
    findings.extend(dead_links(&listing));
    Ok(findings)
}

fn is_rust(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "rs")
}

fn opens_with_its_purpose(path: &str, text: &str) -> Option<String> {
    (is_rust(path) && !path.contains("/fuzz/") && !text.starts_with("//!"))
        .then(|| "does not open with `//!` and its purpose".to_owned())
}

fn is_short(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (is_rust(path) && lines > LINES_MAX).then(|| format!("{lines} lines; split it (limit {LINES_MAX})"))
}

fn forbids_unsafe(path: &str, text: &str) -> Option<String> {
    let is_crate_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    let exempt = UNSAFE.iter().any(|home| path.starts_with(home)) || path.contains("/fuzz/");
    (is_crate_root && !exempt && !text.contains("#![forbid(unsafe_code)]"))
        .then(|| "does not forbid unsafe code".to_owned())
}

fn takes_the_workspace_lints(path: &str, text: &str) -> Option<String> {
    let is_member = path.ends_with("/Cargo.toml") && !path.contains("/fuzz/");
    (is_member && !text.contains("[lints]\nworkspace = true"))
        .then(|| "does not take the workspace's lints".to_owned())
}

/// A path of one machine in a committed file works on no other.
fn names_no_machine(path: &str, text: &str) -> Option<String> {
    const TELLTALES: [&str; 3] = [
        concat!("/", "work/"),
        concat!("/home", "/"),
        concat!("/tmp/", "bash_jobs"),
    ];
    if path.ends_with(".lock") {
        return None;
    }
    let telltale = TELLTALES.iter().find(|telltale| text.contains(**telltale))?;
    Some(format!("contains `{telltale}`, a path of one machine"))
}

/// Links between our documents must lead somewhere.
fn dead_links(listing: &str) -> Vec<String> {
    let documents = listing.lines().filter(|path| path.ends_with(".md"));
    documents
        .flat_map(|path| dead_links_in(path, &fs::read_to_string(root().join(path)).unwrap_or_default()))
        .collect()
}

fn dead_links_in(path: &str, text: &str) -> Vec<String> {
    let folder = root()
        .join(path)
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '))
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("{path}: links to {target}, which is not there"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_what_it_is_for() {
        assert!(opens_with_its_purpose("a.rs", "fn main() {}").is_some());
        assert!(is_short("a.rs", &"\n".repeat(LINES_MAX + 1)).is_some());
        assert!(forbids_unsafe("crates/api/src/lib.rs", "//! Api.").is_some());
        assert!(takes_the_workspace_lints("crates/api/Cargo.toml", "[package]").is_some());
        assert!(names_no_machine("a.md", concat!("see /", "work/main")).is_some());
    }

    #[test]
    fn the_home_of_unsafe_code_is_exempt() {
        assert!(forbids_unsafe("crates/vmm/src/lib.rs", "//! Monitor.").is_none());
    }
}
