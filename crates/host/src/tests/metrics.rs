//! `/metrics`, and what is counted.

use std::collections::BTreeMap;

use super::client::{Connection, Response};
use super::exposition::{Family, parse, value};
use super::{Daemon, Setup, eventually, pool_of};

type Families = BTreeMap<String, Family>;

async fn scrape(daemon: &Daemon) -> Families {
    let response = daemon.get("/metrics").await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(
        response.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    parse(&response.text())
}

/// Does at least once everything that is counted by route or outcome.
async fn exercise(daemon: &Daemon) {
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "echo four").await;
    daemon.run(&sandbox, "fail five!").await;
    daemon.run(&sandbox, "busy").await;
    daemon.run(&sandbox, "breach").await;
    let children = daemon.fork(&sandbox, 2).await;
    let winner = children[0].rsplit('/').next().unwrap();
    let merged = daemon.post(&format!("{sandbox}/merge_into/{winner}"), "").await;
    assert_eq!(merged.status, 204);
    daemon.post("/v1/sandboxes", r#"{"template":"no such"}"#).await;
    daemon.get("/v1/nothing/here").await;
    daemon.post("/v1/capacity", "").await;
    daemon.run(&children[1], "panic").await;
    daemon.delete(&sandbox).await;
}

#[tokio::test]
async fn counters_move_with_what_happens() {
    let setup = Setup {
        pools: pool_of(1),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    eventually("a VM waits", || {
        daemon.host.capacity(None).pools.iter().any(|pool| pool.size == 1)
    })
    .await;
    exercise(&daemon).await;
    let now = scrape(&daemon).await;
    let is = |name: &str, labels: &[(&str, &str)], expected: f64| {
        let found = value(&now, name, labels);
        assert!(
            (found - expected).abs() < 0.5,
            "{name}{labels:?} is {found}, not {expected}"
        );
    };
    let run = |outcome| [("language", "python"), ("outcome", outcome)];
    is("podflare_runs_total", &run("ok"), 1.0);
    is("podflare_runs_total", &run("error"), 1.0);
    is("podflare_runs_total", &run("refused"), 1.0);
    is("podflare_runs_total", &run("lost"), 2.0);
    is(
        "podflare_run_duration_seconds_count",
        &[("language", "python")],
        5.0,
    );
    is("podflare_agent_protocol_errors_total", &[], 1.0);
    is(
        "podflare_run_output_bytes_total",
        &[("stream", "stdout")],
        4.0 + 5.0,
    );
    is("podflare_run_output_bytes_total", &[("stream", "stderr")], 5.0);
    is(
        "podflare_creates_total",
        &[("template", "default"), ("source", "pool")],
        1.0,
    );
    is("podflare_creates_total", &[], 1.0);
    let refused = [("operation", "create"), ("reason", "refused")];
    is("podflare_operation_failures_total", &refused, 1.0);
    is("podflare_forks_total", &[], 1.0);
    is("podflare_fork_children_total", &[], 2.0);
    is("podflare_merges_total", &[], 1.0);
    let stage = [("operation", "fork"), ("stage", "identity")];
    is("podflare_stage_duration_seconds_count", &stage, 1.0);
    let death = [("role", "sandbox"), ("kind", "guest_panic")];
    is("podflare_vm_deaths_total", &death, 1.0);
    is("podflare_pool_hits_total", &[("template", "default")], 1.0);
    let route = [("route", "/v1/sandboxes/{id}/exec"), ("method", "POST")];
    is("podflare_http_request_duration_seconds_count", &route, 5.0);
    is(
        "podflare_http_requests_total",
        &[("route", "unmatched"), ("status", "4xx")],
        1.0,
    );
    is(
        "podflare_http_requests_total",
        &[("route", "/v1/capacity"), ("status", "4xx")],
        1.0,
    );
    is("podflare_sandboxes", &[("state", "failed")], 1.0);
    is("podflare_memory_budget_bytes", &[], 4096.0 * 1024.0 * 1024.0);
    assert!(value(&now, "podflare_http_received_bytes_total", &[]) > 500.0);
    assert!(value(&now, "podflare_http_connections", &[]) >= 1.0);
    assert!(value(&now, "process_resident_memory_bytes", &[]) > 1e6);
    let recent = daemon.get("/v1/capacity").await.json()["recent"].clone();
    assert_eq!(
        (&recent["runs"]["count"], &recent["creates"]["count"]),
        (&5.into(), &1.into())
    );
    assert!(recent["runs"]["p95_ms"].as_f64().unwrap() >= recent["runs"]["p50_ms"].as_f64().unwrap());
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_that_its_client_leaves_and_one_that_waits_are_counted_as_such() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut leaving = Connection::open(daemon.address).await;
    let body = r#"{"code":"hang","language":"bash"}"#;
    leaving.send("POST", &format!("{sandbox}/exec"), "", body).await;
    leaving.read_until("begun").await;
    drop(leaving);
    eventually("the run is cancelled", || daemon.cancelled() == 1).await;
    daemon.run(&sandbox, "echo").await;
    let now = scrape(&daemon).await;
    let cancelled = [("language", "bash"), ("outcome", "cancelled")];
    assert!((value(&now, "podflare_runs_total", &cancelled) - 1.0).abs() < 0.5);
    assert!((value(&now, "podflare_run_queue_seconds_count", &[]) - 2.0).abs() < 0.5);
    daemon.stop().await;
}

#[tokio::test]
async fn nothing_a_client_says_becomes_a_label() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    exercise(&daemon).await;
    invent(&daemon, 0..1).await;
    scrape(&daemon).await;
    let before = series(&scrape(&daemon).await);
    invent(&daemon, 1..50).await;
    let after = scrape(&daemon).await;
    assert_eq!(series(&after), before);
    let text = format!("{after:?}");
    assert!(!text.contains("invented") && !text.contains("BREW") && !text.contains("sbx_"));
    daemon.delete(&sandbox).await;
    daemon.stop().await;
}

/// Says what could become a label.
async fn invent(daemon: &Daemon, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut connection = Connection::open(daemon.address).await;
        for (method, path) in [
            ("GET", format!("/v1/invented-{number}")),
            ("GET", format!("/v1/sandboxes/sbx_{number:032x}")),
            ("GET", format!("/r/region-{number}/v1/sandboxes")),
            ("BREW", "/v1/sandboxes".to_owned()),
        ] {
            let header = format!("x-evil-{number}: \"}} 1\r\n");
            connection.send(method, &path, &header, "").await;
            connection.response().await;
        }
        let body = format!(r#"{{"template":"invented-{number}"}}"#);
        daemon.post("/v1/sandboxes", &body).await;
    }
}

fn series(families: &Families) -> usize {
    families.values().map(|family| family.samples.len()).sum()
}

#[tokio::test]
async fn every_metric_is_described_for_operators_and_nothing_else_is() {
    let daemon = Daemon::start().await;
    exercise(&daemon).await;
    let exported = scrape(&daemon).await;
    daemon.stop().await;
    let described = described();
    // The kernel of the host does not tell its memory in these tests.
    let unknown_here = ["podflare_host_memory_available_bytes"];
    for (name, family) in &exported {
        let shown = if family.kind == "counter" {
            format!("{name}_total")
        } else {
            name.clone()
        };
        let (kind, labels) = described
            .get(&shown)
            .unwrap_or_else(|| panic!("docs/operations.md does not describe {shown}: {}", family.help));
        assert_eq!(kind, &family.kind, "{shown}");
        let used: std::collections::BTreeSet<&str> = family
            .samples
            .iter()
            .flat_map(|sample| sample.labels.keys())
            .map(String::as_str)
            .filter(|label| *label != "le")
            .collect();
        assert_eq!(
            labels.iter().map(String::as_str).collect::<Vec<_>>(),
            used.into_iter().collect::<Vec<_>>(),
            "{shown}"
        );
    }
    for name in described.keys() {
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(
            exported.contains_key(family) || unknown_here.contains(&name.as_str()),
            "docs/operations.md describes {name}, which is not exported"
        );
    }
}

/// Type and sorted labels of each metric in the table of `docs/operations.md`.
fn described() -> BTreeMap<String, (String, Vec<String>)> {
    let text = include_str!("../../../../docs/operations.md");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `podflare_") || line.starts_with("| `process_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else {
            panic!("{line}");
        };
        let mut labels: Vec<String> = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        labels.sort();
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels))
    };
    rows.map(row).collect()
}

#[tokio::test]
async fn a_tenants_key_does_not_open_the_metrics_and_the_operators_does() {
    let ask = async |daemon: &Daemon, headers: &str| -> Response {
        let mut connection = Connection::open(daemon.address).await;
        connection.send("GET", "/metrics", headers, "").await;
        connection.response().await
    };
    let tenants = Daemon::with(Setup {
        keys: Some("tenant"),
        ..Setup::default()
    })
    .await;
    let refused = ask(&tenants, "authorization: Bearer tenant\r\n").await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "invalid_key"));
    assert!(
        refused.json()["hint"]
            .as_str()
            .unwrap()
            .contains("PODFLARE_METRICS_KEY")
    );
    tenants.stop().await;
    let operated = Daemon::with(Setup {
        keys: Some("tenant"),
        metrics_key: Some("operator"),
        ..Setup::default()
    })
    .await;
    for (headers, status) in [
        ("", 401),
        ("authorization: Bearer tenant\r\n", 401),
        ("authorization: Basic operator\r\n", 401),
        ("authorization: Bearer operator\r\n", 200),
    ] {
        assert_eq!(ask(&operated, headers).await.status, status, "{headers}");
    }
    // And the operator's key opens nothing else, nor do tenants see what others do.
    let mut connection = Connection::open(operated.address).await;
    let mut call = async |key: &str| {
        let header = format!("authorization: Bearer {key}\r\n");
        connection.send("GET", "/v1/capacity", &header, "").await;
        connection.response().await
    };
    assert_eq!(call("operator").await.status, 401);
    assert_eq!(call("tenant").await.json().get("recent"), None);
    operated.stop().await;
}

#[tokio::test]
async fn an_address_of_their_own_has_metrics_and_nothing_else() {
    let daemon = Daemon::with(Setup {
        keys: Some("tenant"),
        ..Setup::default()
    })
    .await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let api = std::sync::Arc::clone(&daemon.api);
    let serving = tokio::spawn(crate::serve_metrics(
        listener,
        api,
        Setup::default().timing,
        stop.clone(),
    ));
    let metrics = super::client::get(address, "/metrics").await;
    assert_eq!(metrics.status, 200);
    parse(&metrics.text());
    assert_eq!(super::client::get(address, "/v1/sandboxes").await.status, 404);
    assert_eq!(super::client::get(address, "/v1/healthz").await.status, 404);
    assert_eq!(
        super::client::request(address, "POST", "/metrics", "")
            .await
            .status,
        405
    );
    stop.cancel();
    serving.await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_list_says_what_sandboxes_use_when_it_is_asked() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "sleep 30").await;
    let list = daemon.get("/v1/sandboxes?usage=true").await.json();
    let usage = &list["sandboxes"][0]["usage"];
    assert_eq!(usage["runs"], 1);
    assert!(usage["run_ms"].as_u64().unwrap() >= 30);
    let plain = daemon.get("/v1/sandboxes").await.json();
    assert_eq!(plain["sandboxes"][0].get("usage"), None);
    let wrong = daemon.get("/v1/sandboxes?usage=maybe").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_field"));
    daemon.stop().await;
}
