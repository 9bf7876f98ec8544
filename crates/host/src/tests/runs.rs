//! Exec streams.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::EventKind;

use super::client::Connection;
use super::{Daemon, Setup, eventually};

async fn start_run(daemon: &Daemon, sandbox: &str, code: &str) -> Connection {
    let mut connection = Connection::open(daemon.address).await;
    let body = format!(r#"{{"code":"{code}"}}"#);
    connection
        .send("POST", &format!("{sandbox}/exec"), "", &body)
        .await;
    connection
}

#[tokio::test]
async fn a_short_run_is_answered_in_one_piece_over_the_warm_connection() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    for _ in 0..3 {
        let response = daemon.run(&sandbox, "echo 42").await;
        assert_eq!(response.lines(EventKind::Stdout), ["42"]);
        assert!(response.header("content-length").is_some());
        assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("x-accel-buffering"), Some("no"));
        assert_eq!(response.header("content-encoding"), None);
    }
    let failed = daemon.run(&sandbox, "fail trace").await;
    assert_eq!(
        (failed.exit(), failed.lines(EventKind::Stderr)),
        (1, vec!["trace".to_owned()])
    );
    // The one that booted it.
    assert_eq!(daemon.simulation.seen.connections.load(Ordering::SeqCst), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_silent_run_gets_heartbeats_after_its_head_was_sent_at_once() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let sent = std::time::Instant::now();
    let mut connection = start_run(&daemon, &sandbox, "wait").await;
    // The head and three heartbeats come while the run says nothing.
    connection.read_until("\r\n\r\n").await;
    let beat = "1\r\n\n\r\n";
    connection.read_until(&beat.repeat(3)).await;
    daemon.simulation.let_go();
    let response = connection.response().await;
    assert_eq!(response.lines(EventKind::Stdout), ["waited"]);
    let beats = response.text().lines().filter(|line| line.is_empty()).count();
    let most = sent.elapsed().as_millis() / 100;
    assert!(beats as u128 <= most, "{beats} heartbeats, one each 100 ms");
    daemon.stop().await;
}

#[tokio::test]
async fn twelve_megabytes_in_one_line_are_one_event() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let response = daemon.run(&sandbox, "long").await;
    let lines = response.lines(EventKind::Stdout);
    assert_eq!((lines.len(), lines[0].len()), (1, 192 * 64 * 1024));
    daemon.stop().await;
}

#[tokio::test]
async fn output_is_sent_as_it_comes_and_a_client_that_goes_away_cancels_its_run() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut connection = start_run(&daemon, &sandbox, "hang").await;
    connection.read_until("begun").await;
    assert_eq!(daemon.cancelled(), 0);
    drop(connection);
    eventually("the run is cancelled", || daemon.cancelled() == 1).await;
    assert_eq!(daemon.run(&sandbox, "echo after").await.exit(), 0);
    assert_eq!(daemon.get(&sandbox).await.json()["running_execs"], 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_waited_for_and_then_given_up() {
    let mut setup = Setup::default();
    setup.timing.client_stall = Duration::from_millis(300);
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    let stuck = start_run(&daemon, &sandbox, "flood").await;
    assert_eq!(daemon.run(&sandbox, "echo meanwhile").await.exit(), 0);
    eventually("the run is cancelled", || daemon.cancelled() == 1).await;
    drop(stuck);
    daemon.stop().await;
}

#[tokio::test]
async fn runs_at_once_are_bounded_and_the_bound_is_per_sandbox() {
    let daemon = Daemon::start().await;
    let (sandbox, other) = (daemon.sandbox().await, daemon.sandbox().await);
    let mut hanging = Vec::new();
    for _ in 0..4 {
        let mut connection = start_run(&daemon, &sandbox, "hang").await;
        connection.read_until("begun").await;
        hanging.push(connection);
    }
    let refused = daemon.run(&sandbox, "echo").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_execs"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(daemon.run(&other, "echo").await.exit(), 0);
    drop(hanging);
    eventually("all are cancelled", || daemon.cancelled() == 4).await;
    assert_eq!(daemon.run(&sandbox, "echo").await.exit(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn what_the_agent_refuses_at_once_is_a_status() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let busy = daemon.run(&sandbox, "busy").await;
    assert_eq!((busy.status, busy.code().as_str()), (429, "too_many_execs"));
    let broken = daemon.run(&sandbox, "broken").await;
    assert_eq!((broken.status, broken.code().as_str()), (500, "agent_failed"));
    assert_eq!(daemon.run(&sandbox, "echo").await.exit(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn many_runs_in_many_sandboxes_do_not_mix() {
    let daemon = Daemon::start().await;
    let sandboxes = [
        daemon.sandbox().await,
        daemon.sandbox().await,
        daemon.sandbox().await,
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (number, sandbox) in sandboxes.iter().enumerate() {
        let (address, path) = (daemon.address, format!("{sandbox}/exec"));
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await;
            for round in 0..100 {
                let body = format!(r#"{{"code":"echo {number}-{round}"}}"#);
                connection.send("POST", &path, "", &body).await;
                let response = connection.response().await;
                assert_eq!(response.lines(EventKind::Stdout), [format!("{number}-{round}")]);
            }
        });
    }
    tasks.join_all().await;
    daemon.stop().await;
}
