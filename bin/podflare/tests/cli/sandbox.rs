//! `podflare sandbox`: what it prints, in words and as JSON.

use client::scripted::{Answer, Scripted};
use serde_json::{Value, json};

use crate::support::{Cli, ID, host, output};

fn json_of(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[test]
fn create_prints_the_id_alone_so_that_a_shell_can_keep_it() {
    let host = host(|_| output(&[], 0));
    let cli = Cli::with(&host);
    let arguments = [
        "sandbox",
        "create",
        "--template",
        "default",
        "--ram-mib",
        "512",
        "--no-egress",
    ];
    assert_eq!(cli.run(&arguments).stdout, format!("{ID}\n"));
    assert_eq!(
        host.seen().requests[0].body,
        r#"{"template":"default","ram_mib":512,"persistent":false,"egress":false}"#
    );
    let created = json_of(&cli.run(&["--json", "sandbox", "create"]).stdout);
    assert_eq!((&created["id"], &created["state"]), (&json!(ID), &json!("ready")));
}

#[test]
fn ls_is_a_table_a_list_of_ids_or_json() {
    let host = host(|_| output(&[], 0));
    let cli = Cli::with(&host);
    let table = cli.run(&["sandbox", "ls"]).stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["ID", "STATE", "TEMPLATE", "MEMORY", "AGE", "LEFT"]);
    assert_eq!(rows[1][..5], [ID, "ready", "default", "1", "GiB"]);
    assert_eq!(cli.run(&["sandbox", "ls", "-q"]).stdout, format!("{ID}\n"));
    let listing = json_of(&cli.run(&["sandbox", "ls", "--json"]).stdout);
    assert_eq!(listing["sandboxes"][0]["id"], ID);
}

#[test]
fn set_asks_for_what_was_named_and_extend_adds_to_what_there_is() {
    let info = |timeout: u64| {
        json!({"id": ID, "state": "ready", "template": "default", "ram_mib": 1024, "rootfs_gb": 4, "vcpus": 1,
               "created_at_ms": 0, "timeout_seconds": timeout, "persistent": true, "egress": true, "running_execs": 0})
        .to_string()
    };
    let host = Scripted::start(move |request| match request.line() {
        line if line == format!("GET /v1/sandboxes/{ID}") => Answer::new(200, &info(600)),
        _ => Answer::new(200, &info(1000)),
    })
    .unwrap();
    let cli = Cli::with(&host);
    let set = cli.run(&[
        "sandbox",
        "set",
        ID,
        "--timeout",
        "2h",
        "--idle",
        "none",
        "--persistent",
    ]);
    assert_eq!(set.status, 0, "{set:?}");
    assert!(set.stdout.contains("16 min 40 s"), "{set:?}");
    let extended = cli.run(&["sandbox", "extend", ID, "1h"]);
    assert_eq!(extended.status, 0, "{extended:?}");
    assert!(extended.stderr.contains("limit allows no more"), "{extended:?}");
    let seen = host.seen();
    let changes: Vec<&str> = seen
        .requests
        .iter()
        .filter(|request| request.line() == format!("PATCH /v1/sandboxes/{ID}"))
        .map(|request| request.body.as_str())
        .collect();
    assert_eq!(
        changes,
        [
            r#"{"timeout_seconds":7200,"idle_timeout_seconds":null,"persistent":true}"#,
            r#"{"timeout_seconds":4200}"#
        ]
    );
    for wrong in ["soon", "0", "-5m"] {
        assert_eq!(cli.run(&["sandbox", "set", ID, "--timeout", wrong]).status, 2);
    }
}

#[test]
fn exec_runs_in_a_sandbox_and_leaves_it() {
    let host = host(|_| output(&[("stdout", "1")], 4));
    let finished = Cli::with(&host).run(&["sandbox", "exec", ID, "-c", "print(x)"]);
    assert_eq!((finished.status, finished.stdout.as_str()), (4, "1\n"));
    assert_eq!(host.seen().lines(), [format!("POST /v1/sandboxes/{ID}/exec")]);
}

#[test]
fn an_unknown_sandbox_is_named_as_such_with_the_way_to_the_known_ones() {
    let host = host(|_| output(&[], 0));
    let unknown = "sbx_ffffffffffffffffffffffffffffffff";
    let cli = Cli::with(&host);
    for (arguments, status) in [
        (&["sandbox", "inspect", unknown][..], 1),
        (&["sandbox", "exec", unknown, "-c", "1"], 125),
    ] {
        let finished = cli.run(arguments);
        assert_eq!(finished.status, status, "{finished:?}");
        assert!(finished.stderr.contains("sandbox not found"), "{finished:?}");
        assert!(finished.stderr.contains("podflare sandbox ls"), "{finished:?}");
    }
    let failure = json_of(&cli.run(&["--json", "sandbox", "inspect", unknown]).stderr);
    assert_eq!(
        (&failure["code"], &failure["error"]),
        (&json!("sandbox_not_found"), &json!("sandbox not found"))
    );
}

#[test]
fn what_is_no_id_is_a_usage_error() {
    let finished = Cli::alone().run(&["sandbox", "rm", "sbx_1"]);
    assert_eq!(finished.status, 2);
    assert!(
        finished.stderr.contains("32 lowercase hexadecimal digits"),
        "{finished:?}"
    );
}

#[test]
fn rm_removes_what_is_named_or_everything() {
    let host = host(|_| output(&[], 0));
    let cli = Cli::with(&host);
    assert_eq!(cli.run(&["sandbox", "rm", ID]).stdout, format!("{ID}\n"));
    assert_eq!(
        json_of(&cli.run(&["sandbox", "rm", "--all", "--json"]).stdout),
        json!({"removed": [ID]})
    );
    assert_eq!(cli.run(&["sandbox", "rm"]).status, 2);
    let deletes = host
        .seen()
        .lines()
        .iter()
        .filter(|line| line.starts_with("DELETE"))
        .count();
    assert_eq!(deletes, 2);
}

#[test]
fn inspect_shows_what_the_host_knows() {
    let host = host(|_| output(&[], 0));
    let cli = Cli::with(&host);
    let words = cli.run(&["sandbox", "inspect", ID]).stdout;
    assert!(
        words.contains("memory:") && words.contains("1 GiB") && !words.contains("last error"),
        "{words}"
    );
    assert_eq!(
        json_of(&cli.run(&["sandbox", "inspect", ID, "--json"]).stdout)["vcpus"],
        1
    );
}

#[test]
fn a_missing_key_says_where_to_give_it() {
    let host = Scripted::start(|_| {
        Answer::new(
            401,
            r#"{"error":"missing Authorization: Bearer <key>","code":"missing_key"}"#,
        )
    })
    .unwrap();
    let finished = Cli::with(&host).run(&["sandbox", "ls"]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains("PODFLARE_API_KEY"), "{finished:?}");
}
