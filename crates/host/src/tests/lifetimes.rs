//! Time that runs out, what puts that off, and what is said then. The clock is put ahead; nobody waits.

use api::EventKind;
use pod_types::SandboxId;
use serde_json::{Value, json};

use super::client::{Connection, Response, request};
use super::ptys::{Stream, input};
use super::{Daemon, eventually};
use crate::auth::Tenant;

/// A sandbox with these terms.
async fn sandbox(daemon: &Daemon, terms: &Value) -> String {
    let created = daemon.post("/v1/sandboxes", &terms.to_string()).await;
    assert_eq!(created.status, 200, "{}", created.text());
    format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap())
}

async fn patch(daemon: &Daemon, sandbox: &str, change: &Value) -> Response {
    request(daemon.address, "PATCH", sandbox, &change.to_string()).await
}

impl Daemon {
    fn skip(&self, seconds: u64) {
        self.host.scheduler.skip(seconds);
    }

    /// Waits until no sandbox but so many is left.
    async fn left(&self, count: u32) {
        eventually("the VMs of the others are gone", || self.alive() == count).await;
    }
}

/// What is said of a sandbox that is gone.
#[track_caller]
fn gone(answer: &Response, words: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "sandbox_not_found"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains(words), "{}", answer.text());
}

#[tokio::test]
async fn who_is_idle_too_long_ends_and_a_run_puts_that_off() {
    let daemon = Daemon::start().await;
    let idle = sandbox(&daemon, &json!({"idle_timeout_seconds": 60})).await;
    let used = sandbox(&daemon, &json!({"idle_timeout_seconds": 60})).await;
    daemon.skip(50);
    assert_eq!(daemon.says(&used, "echo here").await, "here");
    daemon.skip(15);
    daemon.left(1).await;
    gone(
        &daemon.run(&idle, "echo").await,
        "not found: it had been idle for 60 s",
    );
    gone(&daemon.get(&format!("{idle}/replay")).await, "idle for 60 s");
    // Whoever looks does not use.
    daemon.skip(40);
    let info = daemon.get(&used).await.json();
    let left = info["idle_expires_at_ms"].as_u64().unwrap() - crate::clock::now_ms();
    assert!((1..=5000).contains(&left), "{left}");
    daemon.skip(10);
    daemon.left(0).await;
    gone(&daemon.get(&used).await, "idle");
    for sandbox in [&idle, &used] {
        assert_eq!(daemon.delete(sandbox).await.status, 204);
    }
    let metrics = daemon.get("/metrics").await.text();
    assert!(
        metrics.contains("podflare_sandbox_expirations_total{which=\"idle\"} 2"),
        "{metrics}"
    );
    assert_eq!(daemon.host.scheduler.len(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_life_that_is_over_ends_a_run_with_a_word_and_a_code() {
    let daemon = Daemon::start().await;
    let busy = sandbox(
        &daemon,
        &json!({"timeout_seconds": 60, "idle_timeout_seconds": 5}),
    )
    .await;
    let mut run = Connection::open(daemon.address).await;
    run.send("POST", &format!("{busy}/exec"), "", r#"{"code":"hang"}"#)
        .await;
    run.read_until("begun").await;
    // Busy is not idle, however long.
    daemon.skip(59);
    assert_eq!(daemon.get(&busy).await.json()["idle_expires_at_ms"], Value::Null);
    daemon.skip(1);
    let ended = run.response().await;
    assert_eq!(ended.exit(), 124);
    let words = ended.lines(EventKind::Stderr);
    assert_eq!(
        words,
        ["podflare: the sandbox has ended: it had reached its lifetime of 60 s"]
    );
    gone(
        &daemon.get(&busy).await,
        "reached its lifetime of 60 s, and ended",
    );
    daemon.left(0).await;
    assert_eq!(daemon.get("/v1/capacity").await.json()["memory"]["used_mib"], 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_in_progress_counts_from_its_end() {
    let daemon = Daemon::start().await;
    let used = sandbox(&daemon, &json!({"idle_timeout_seconds": 10})).await;
    let mut run = Connection::open(daemon.address).await;
    run.send("POST", &format!("{used}/exec"), "", r#"{"code":"count 4 1 2"}"#)
        .await;
    run.read_until("line-1").await;
    daemon.skip(25);
    daemon.simulation.let_go();
    assert_eq!(run.response().await.exit(), 0);
    daemon.skip(8);
    assert_eq!(daemon.says(&used, "echo still").await, "still");
    daemon.skip(10);
    daemon.left(0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_terminal_lives_from_its_traffic_and_ends_with_the_time() {
    let daemon = Daemon::start().await;
    let terms = json!({"idle_timeout_seconds": 60, "timeout_seconds": 3600});
    let sandbox = sandbox(&daemon, &terms).await;
    let body = r#"{"shellCmd":"cat"}"#;
    let mut stream = Stream::open(&daemon, "POST", &format!("{sandbox}/pty"), body).await;
    let ready = stream.event().await;
    let terminal = format!("{sandbox}/pty/{}", ready["session_id"].as_str().unwrap());
    for _ in 0..3 {
        daemon.skip(50);
        let typed = daemon.post(&format!("{terminal}/input"), &input("hello\n")).await;
        assert_eq!(typed.status, 204);
        while stream.event().await["type"] != "pty_data" {}
    }
    // Attached and silent.
    daemon.skip(60);
    loop {
        let event = stream.event().await;
        if event["type"] == "pty_error" {
            let why = event["message"].as_str().unwrap();
            assert!(why.contains("it had been idle for 60 s"), "{why}");
        }
        if event["type"] == "pty_exit" {
            assert_eq!(event["data"], 124);
            break;
        }
    }
    gone(&daemon.get(&format!("{sandbox}/pty")).await, "idle");
    daemon.stop().await;
}

#[tokio::test]
async fn a_change_extends_shortens_and_is_refused_where_it_would_end_at_once() {
    let daemon = Daemon::start().await;
    let sandbox = sandbox(&daemon, &json!({"timeout_seconds": 60})).await;
    daemon.skip(50);
    let extended = patch(&daemon, &sandbox, &json!({"timeout_seconds": 120})).await;
    assert_eq!(extended.status, 200, "{}", extended.text());
    assert_eq!(extended.json()["timeout_seconds"], 120);
    daemon.skip(30);
    assert_eq!(daemon.says(&sandbox, "echo on").await, "on");
    for (change, word) in [
        (
            json!({"timeout_seconds": 70}),
            "timeout_seconds: expected more than 8",
        ),
        (json!({"timeout_seconds": 0}), "timeout_seconds: expected a whole"),
        (
            json!({"idle_timeout_seconds": "2h"}),
            "idle_timeout_seconds: expected a whole",
        ),
        (json!({"persistent": "yes"}), "persistent: expected true or false"),
    ] {
        let refused = patch(&daemon, &sandbox, &change).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_field"));
        assert!(refused.text().contains(word), "{}", refused.text());
    }
    let info = daemon.get(&sandbox).await.json();
    assert_eq!(
        (&info["timeout_seconds"], &info["persistent"]),
        (&json!(120), &json!(false))
    );
    // It is told by the minute of its last use that it counts from then.
    let idle = patch(&daemon, &sandbox, &json!({"idle_timeout_seconds": 5})).await;
    assert_eq!(idle.json()["idle_timeout_seconds"], 5);
    daemon.skip(5);
    daemon.left(0).await;
    gone(&patch(&daemon, &sandbox, &json!({})).await, "idle for 5 s");
    let nobody = "/v1/sandboxes/sbx_00000000000000000000000000000000";
    let unknown = patch(&daemon, nobody, &json!({})).await;
    assert_eq!((unknown.status, unknown.text().contains("idle")), (404, false));
    daemon.stop().await;
}

#[tokio::test]
async fn without_limits_nothing_ends_and_null_lifts_one() {
    let daemon = Daemon::start().await;
    let forever = daemon.sandbox().await;
    let freed = sandbox(
        &daemon,
        &json!({"timeout_seconds": 60, "idle_timeout_seconds": 60}),
    )
    .await;
    let limits = json!({"timeout_seconds": null, "idle_timeout_seconds": null});
    let lifted = patch(&daemon, &freed, &limits).await.json();
    assert_eq!(
        (&lifted["timeout_seconds"], &lifted["expires_at_ms"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(daemon.host.scheduler.len(), 0);
    daemon.skip(10 * 365 * 24 * 3600);
    for sandbox in [&forever, &freed] {
        assert_eq!(daemon.says(sandbox, "echo here").await, "here");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_merged_winner_has_the_losers_time_and_a_child_a_fresh_one() {
    let daemon = Daemon::start().await;
    let parent = sandbox(&daemon, &json!({"timeout_seconds": 100})).await;
    daemon.skip(60);
    let children = daemon.fork(&parent, 2).await;
    let winner = children[1].rsplit('/').next().unwrap();
    let merged = daemon.post(&format!("{parent}/merge_into/{winner}"), "").await;
    assert_eq!(merged.status, 204);
    daemon.skip(40);
    daemon.left(1).await;
    gone(&daemon.get(&parent).await, "lifetime of 100 s");
    assert_eq!(daemon.says(&children[0], "echo young").await, "young");
    daemon.skip(60);
    daemon.left(0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn one_whose_vm_has_died_ends_in_time_too() {
    let daemon = Daemon::start().await;
    let failed = sandbox(&daemon, &json!({"idle_timeout_seconds": 30})).await;
    daemon.run(&failed, "panic").await;
    assert_eq!(daemon.get(&failed).await.json()["state"], "failed");
    daemon.skip(31);
    eventually("nobody knows it", || {
        daemon.host.capacity(None).sandboxes.failed == 0
    })
    .await;
    gone(&daemon.get(&failed).await, "idle");
    daemon.stop().await;
}

#[tokio::test]
async fn one_that_was_deleted_and_is_still_held_is_looked_at_no_more() {
    let daemon = Daemon::start().await;
    let sandbox = sandbox(&daemon, &json!({"idle_timeout_seconds": 30})).await;
    let id: SandboxId = sandbox.rsplit('/').next().unwrap().parse().unwrap();
    let held = (0..9).find_map(|tenant| daemon.host.find(id, Tenant(tenant)));
    let held = held.unwrap();
    daemon.delete(&sandbox).await;
    daemon.left(0).await;
    daemon.skip(31);
    eventually("it is off the agenda", || daemon.host.scheduler.len() == 0).await;
    drop(held);
    let metrics = daemon.get("/metrics").await.text();
    assert!(metrics.contains("podflare_sandbox_expirations_total{which=\"idle\"} 0"));
    daemon.stop().await;
}
