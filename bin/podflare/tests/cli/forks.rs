//! `podflare sandbox fork`, `merge` and `tree`.

use client::scripted::{Answer, Scripted};
use serde_json::{Value, json};

use crate::support::{Cli, ID};

const CHILD: &str = "sbx_11111111111111111111111111111111";
const GRANDCHILD: &str = "sbx_22222222222222222222222222222222";
const SIBLING: &str = "sbx_33333333333333333333333333333333";
const STRANGER: &str = "sbx_44444444444444444444444444444444";

fn kept(name: &str, state: &str) -> Value {
    json!({"id": "ckp_0123456789abcdef0123456789abcdef", "name": name, "state": state, "created_at_ms": 0})
}

/// A host with a small family; the stranger's parent is gone.
fn family() -> Scripted {
    let info = |id: &str, parent: Option<&str>| {
        json!({"id": id, "state": "ready", "template": "default", "ram_mib": 1024, "rootfs_gb": 4, "vcpus": 1,
               "created_at_ms": 0, "persistent": false, "egress": true, "running_execs": 0, "parent": parent})
    };
    let mut with_checkpoints = info(ID, None);
    with_checkpoints["checkpoints"] = json!([kept("before", "ready"), kept("gone", "lost")]);
    let sandboxes = json!({"sandboxes": [
        with_checkpoints,
        info(GRANDCHILD, Some(CHILD)),
        info(CHILD, Some(ID)),
        info(SIBLING, Some(ID)),
        info(STRANGER, Some("sbx_ffffffffffffffffffffffffffffffff")),
    ]})
    .to_string();
    Scripted::start(move |request| match request.line() {
        line if line == "GET /v1/sandboxes" => Answer::new(200, &sandboxes),
        line if line == format!("POST /v1/sandboxes/{ID}/fork") => {
            Answer::new(200, &json!({"children": [CHILD, SIBLING]}).to_string())
        }
        line if line == format!("POST /v1/sandboxes/{ID}/merge_into/{CHILD}") => Answer::new(204, ""),
        line if line == format!("POST /v1/sandboxes/{ID}/checkpoints") => {
            Answer::new(200, &kept("before", "ready").to_string())
        }
        line if line == format!("GET /v1/sandboxes/{ID}/checkpoints") => {
            let list = json!({"checkpoints": [kept("before", "ready"), kept("gone", "lost")]});
            Answer::new(200, &list.to_string())
        }
        line if line == format!("POST /v1/sandboxes/{ID}/rollback") => {
            let done = json!({"checkpoint": kept("before", "ready"), "ended_execs": 2});
            Answer::new(200, &done.to_string())
        }
        line if line.starts_with("DELETE") => Answer::new(204, ""),
        _ => Answer::new(404, r#"{"error":"sandbox not found","code":"sandbox_not_found"}"#),
    })
    .unwrap()
}

#[test]
fn fork_prints_the_ids_of_the_children_one_a_line() {
    let host = family();
    let cli = Cli::with(&host);
    let finished = cli.run(&["sandbox", "fork", ID, "-n", "2"]);
    assert_eq!(
        (finished.status, finished.stdout),
        (0, format!("{CHILD}\n{SIBLING}\n"))
    );
    assert_eq!(host.seen().requests[0].body, r#"{"n":2}"#);
    for count in ["0", "33"] {
        assert_eq!(cli.run(&["sandbox", "fork", ID, "-n", count]).status, 2);
    }
}

#[test]
fn merge_keeps_the_first_id() {
    let host = family();
    let cli = Cli::with(&host);
    let finished = cli.run(&["sandbox", "merge", ID, CHILD]);
    assert_eq!((finished.status, finished.stdout), (0, format!("{ID}\n")));
    let again = cli.run(&["sandbox", "merge", ID, SIBLING]);
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("sandbox not found"), "{again:?}");
}

#[test]
fn tree_draws_who_was_forked_from_whom() {
    let host = family();
    let cli = Cli::with(&host);
    let whole = cli.run(&["sandbox", "tree"]).stdout;
    let rails: Vec<&str> = whole
        .lines()
        .map(|line| line.split("  ready").next().unwrap())
        .collect();
    let expected = [
        ID.to_owned(),
        format!("├─ {CHILD}"),
        format!("│  └─ {GRANDCHILD}"),
        format!("└─ {SIBLING}"),
        STRANGER.to_owned(),
    ];
    assert_eq!(rails, expected);
    let first = whole.lines().next().unwrap();
    assert!(first.ends_with("checkpoints: before, gone (lost)"), "{first}");
    let part: Value = serde_json::from_str(&cli.run(&["sandbox", "tree", CHILD, "--json"]).stdout).unwrap();
    let depths: Vec<_> = part["sandboxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|branch| (branch["id"].as_str().unwrap(), branch["depth"].as_u64().unwrap()))
        .collect();
    assert_eq!(depths, [(CHILD, 0), (GRANDCHILD, 1)]);
}

#[test]
fn a_checkpoint_is_made_listed_gone_back_to_and_given_up() {
    let host = family();
    let cli = Cli::with(&host);
    let made = cli.run(&["sandbox", "checkpoint", ID, "--name", "before"]);
    assert_eq!((made.status, made.stdout.as_str()), (0, "before\n"));
    let back = cli.run(&["sandbox", "rollback", ID]);
    assert_eq!((back.status, back.stdout.as_str()), (0, "before\n"));
    assert!(back.stderr.contains("2 of its runs"), "{back:?}");
    assert_eq!(cli.run(&["sandbox", "rollback", ID, "before"]).status, 0);
    let table = cli.run(&["sandbox", "checkpoints", ID, "--rm", "old"]).stdout;
    assert!(table.lines().nth(2).unwrap().contains("lost"), "{table}");
    let seen = host.seen();
    let bodies: Vec<(String, &str)> = seen
        .requests
        .iter()
        .map(|request| (request.line(), request.body.as_str()))
        .collect();
    let at = |end: &str| format!("/v1/sandboxes/{ID}/{end}");
    let expected = [
        (format!("POST {}", at("checkpoints")), r#"{"name":"before"}"#),
        (format!("POST {}", at("rollback")), "{}"),
        (format!("POST {}", at("rollback")), r#"{"checkpoint":"before"}"#),
        (format!("DELETE {}", at("checkpoints/old")), ""),
        (format!("GET {}", at("checkpoints")), ""),
    ];
    assert_eq!(bodies, expected);
}
