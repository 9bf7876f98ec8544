//! `podflare key`, `tenant`, `usage` and `audit`: with whose rights they ask, and what they print.

use client::scripted::{Answer, Ending, Request, Scripted};
use serde_json::{Value, json};

use crate::support::Cli;

const TOKEN: &str = "pf_op_secret";
const KEY: &str = "pf_live_new";

fn answer(value: &Value) -> Answer {
    Answer {
        status: 200,
        body: value.to_string(),
        ending: Ending::Whole,
    }
}

fn key_info() -> Value {
    json!({"id": "key_1", "tenant": "acme", "name": "ci", "state": "valid", "tail": "1234", "created_at_ms": 1})
}

fn tenant() -> Value {
    json!({
        "name": "acme", "tier": "pro", "created_at_ms": 1, "keys": 1, "sandboxes": 2, "runs": 0,
        "overrides": {"sandboxes": 7, "runs": null},
        "limits": {
            "sandboxes": 7, "creates_per_minute": 600, "create_burst": 60, "runs": null, "timeout_seconds": 28800,
            "idle_timeout_seconds": 1800, "ram_mib": 4096, "rootfs_gb": 16, "persistent": true,
        },
    })
}

fn script(request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap();
    let mut new_key = key_info();
    new_key["key"] = KEY.into();
    match (request.method.as_str(), path) {
        ("POST", "/v1/admin/keys" | "/v1/admin/keys/key_1/rotate") => answer(&new_key),
        ("GET", "/v1/admin/keys") => answer(&json!({"keys": [key_info()]})),
        ("GET", "/v1/admin/tenants") => answer(&json!({"tenants": [tenant()]})),
        (_, "/v1/admin/tenants/acme") => answer(&tenant()),
        ("GET", "/v1/usage") => answer(&json!({
            "tenant": "acme",
            "total": {"sandboxes": 1, "sandbox_seconds": 61.5, "execs": 3, "bytes_in": 10, "bytes_out": 2048},
            "days": [],
        })),
        _ => Answer {
            status: 404,
            body: r#"{"error":"not scripted","code":"route_not_found"}"#.to_owned(),
            ending: Ending::Whole,
        },
    }
}

fn run(host: &Scripted, arguments: &[&str]) -> (i32, String, String) {
    let cli = Cli::with(host);
    let mut command = cli.command(arguments);
    let output = command.env("PODFLARE_OPERATOR_TOKEN", TOKEN).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_new_key_is_printed_alone_so_that_a_shell_can_keep_it() {
    let host = Scripted::start(script).unwrap();
    let (status, out, err) = run(&host, &["key", "create", "--tenant", "acme", "--name", "ci"]);
    assert_eq!((status, out), (0, format!("{KEY}\n")), "{err}");
    assert!(err.contains("not shown again"), "{err}");
    let seen = host.seen();
    assert_eq!(seen.requests[0].body, r#"{"tenant":"acme","name":"ci"}"#);
    let authorization = ("authorization".to_owned(), format!("Bearer {TOKEN}"));
    assert!(seen.requests[0].headers.contains(&authorization));
    drop(seen);
    let (_, out, _) = run(&host, &["key", "rotate", "key_1", "--grace", "60"]);
    assert_eq!(out, format!("{KEY}\n"));
    assert_eq!(host.seen().requests[1].body, r#"{"grace_seconds":60}"#);
}

#[test]
fn keys_and_tenants_are_tables_and_json() {
    let host = Scripted::start(script).unwrap();
    let (_, out, _) = run(&host, &["key", "ls"]);
    assert!(out.starts_with("ID") && out.contains("…1234"), "{out}");
    let (_, out, _) = run(&host, &["tenant", "ls"]);
    assert!(
        out.contains("sandboxes=7,runs=none") && out.contains("2 of 7"),
        "{out}"
    );
    let (_, out, _) = run(&host, &["--json", "tenant", "ls"]);
    let listing: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listing["tenants"][0]["limits"]["ram_mib"], 4096);
}

#[test]
fn a_changed_limit_leaves_the_others() {
    let host = Scripted::start(script).unwrap();
    let (status, _, err) = run(&host, &["tenant", "set", "acme", "--limit", "sandboxes=9"]);
    assert_eq!(status, 0, "{err}");
    assert_eq!(
        host.seen().requests[1].body,
        r#"{"limits":{"sandboxes":9,"runs":null}}"#
    );
    let (status, _, err) = run(&host, &["tenant", "set", "acme"]);
    assert_eq!(status, 2, "{err}");
    let (status, _, err) = run(&host, &["tenant", "set", "acme", "--limit", "gold=1"]);
    assert!(status == 2 && err.contains("creates_per_minute"), "{err}");
}

#[test]
fn without_the_token_nothing_is_sent_and_the_way_to_it_is_said() {
    let host = Scripted::start(script).unwrap();
    let finished = Cli::with(&host).run(&["key", "ls"]);
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("operator.token") && finished.stderr.contains("PODFLARE_OPERATOR_TOKEN")
    );
    assert!(host.seen().requests.is_empty());
    let mine = Cli::with(&host).run(&["usage", "--mine"]);
    assert!(
        mine.stdout.contains("1 min 01 s") && mine.stdout.contains("2.0 KiB"),
        "{mine:?}"
    );
}
