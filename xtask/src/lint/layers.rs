//! Who may depend on whom.
//!
//! Crates are in layers; a crate depends only on lower ones. Some crates must also not know some libraries: there is
//! no async runtime below `host` and `net`, and neither the VM process nor the guest nor the policy knows HTTP.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::{cargo, output};

/// From the lowest layer to the highest.
const LAYERS: [&[&str]; 5] = [
    &["pod-types", "egress"],
    &[
        "agent-proto",
        "vmm-proto",
        "net-proto",
        "api",
        "lifecycle",
        "archive",
    ],
    &["image", "client", "settings", "telemetry"],
    &["vmm", "guest", "host", "softhost", "net"],
    &[
        "podflare",
        "podflare-hostd",
        "podflare-vmm",
        "podflare-netd",
        "podflare-agent",
        "xtask",
    ],
];

/// The crates that may use an async runtime.
const ASYNC: [&str; 3] = ["host", "net", "podflare-hostd"];
const ASYNC_LIBRARIES: [&str; 7] = [
    "tokio",
    "tokio-util",
    "tokio-stream",
    "axum",
    "hyper",
    "hyper-util",
    "tower",
];

/// The crates that must not know HTTP.
const NO_HTTP: [&str; 9] = [
    "vmm",
    "guest",
    "lifecycle",
    "agent-proto",
    "vmm-proto",
    "net-proto",
    "egress",
    "pod-types",
    "archive",
];
const HTTP_LIBRARIES: [&str; 6] = ["api", "client", "axum", "hyper", "http", "ureq"];

pub(super) fn check() -> Result<Vec<String>> {
    let text = output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata did not print JSON")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    Ok(packages.iter().flat_map(findings_of).collect())
}

fn findings_of(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(layer) = layer_of(name) else {
        return vec![format!(
            "crate {name} is in no layer; add it to xtask/src/lint/layers.rs"
        )];
    };
    let dependencies = package["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    dependencies
        .iter()
        // Tests may reach across: a daemon is tested with the real agent.
        .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
        .filter_map(|dependency| dependency["name"].as_str())
        .filter_map(|dependency| objection(name, layer, dependency))
        .collect()
}

fn objection(name: &str, layer: usize, dependency: &str) -> Option<String> {
    if layer_of(dependency).is_some_and(|below| below >= layer) {
        return Some(format!(
            "crate {name} may not depend on {dependency}, which is not in a lower layer"
        ));
    }
    if ASYNC_LIBRARIES.contains(&dependency) && !ASYNC.contains(&name) {
        return Some(format!(
            "crate {name} may not use {dependency}: no async runtime below host"
        ));
    }
    if HTTP_LIBRARIES.contains(&dependency) && NO_HTTP.contains(&name) {
        return Some(format!(
            "crate {name} may not use {dependency}: it must not know HTTP"
        ));
    }
    None
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_layer_and_a_side_way_are_refused_and_a_higher_one_may_look_down() {
        assert!(objection("pod-types", 0, "host").is_some());
        assert!(objection("vmm", 3, "guest").is_some());
        assert!(objection("host", 3, "api").is_none());
    }

    #[test]
    fn the_vm_process_knows_neither_tokio_nor_http() {
        assert!(objection("vmm", 3, "tokio").is_some());
        assert!(objection("vmm", 3, "api").is_some());
        assert!(objection("host", 3, "tokio").is_none());
    }
}
