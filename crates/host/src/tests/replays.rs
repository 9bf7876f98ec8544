//! Replay, and what fork and merge make of it.

use std::time::Duration;

use api::EventKind;

use super::client::{self, Connection};
use super::{Daemon, Setup, eventually};

/// A run that stops in the middle of the line `held` until it is let go.
async fn begin_count(daemon: &Daemon, sandbox: &str, lines: u32, held: u32) -> Connection {
    let mut connection = Connection::open(daemon.address).await;
    let body = format!(r#"{{"code":"count {lines} 1 {held}"}}"#);
    connection
        .send("POST", &format!("{sandbox}/exec"), "", &body)
        .await;
    connection
}

fn counted(lines: u32) -> Vec<String> {
    (0..lines).map(|number| format!("line-{number}")).collect()
}

/// What a sandbox's runs have printed, once none is in progress any more.
async fn printed(daemon: &Daemon, sandbox: &str) -> Vec<String> {
    let replay = daemon.get(&format!("{sandbox}/replay?follow=true")).await;
    lines_of(&replay)
}

fn lines_of(replay: &client::Response) -> Vec<String> {
    let text = replay.text();
    let events = text.lines().filter(|line| !line.is_empty());
    let events = events.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events
        .filter(|event| event["type"] == "stdout")
        .map(|event| event["data"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn replay_gives_what_runs_have_said_byte_for_byte() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let path = format!("{sandbox}/replay");
    let nothing = daemon.get(&path).await;
    assert_eq!((nothing.status, nothing.text().as_str()), (200, ""));
    assert_eq!(nothing.header("content-type"), Some("application/x-ndjson"));
    let mut said = String::new();
    for code in ["echo one", "fail two", "echo three"] {
        said += &daemon.run(&sandbox, code).await.text();
    }
    assert_eq!(daemon.get(&path).await.text(), said);
    assert_eq!(daemon.get(&format!("{path}?follow")).await.text(), said);
    let unknown = daemon.get(&format!("{path}?follow=perhaps")).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "invalid_field"));
    daemon.delete(&sandbox).await;
    assert_eq!(daemon.get(&path).await.code(), "sandbox_not_found");
    daemon.stop().await;
}

#[tokio::test]
async fn children_start_with_a_copy_and_a_merge_keeps_the_winners() {
    let daemon = Daemon::start().await;
    let parent = daemon.sandbox().await;
    daemon.run(&parent, "echo before").await;
    let children = daemon.fork(&parent, 2).await;
    daemon.run(&parent, "echo parent").await;
    daemon.run(&children[0], "echo child").await;
    assert_eq!(printed(&daemon, &parent).await, ["before", "parent"]);
    assert_eq!(printed(&daemon, &children[0]).await, ["before", "child"]);
    assert_eq!(printed(&daemon, &children[1]).await, ["before"]);
    let winner = children[0].trim_start_matches("/v1/sandboxes/");
    let merged = daemon.post(&format!("{parent}/merge_into/{winner}"), "").await;
    assert_eq!(merged.status, 204);
    assert_eq!(printed(&daemon, &parent).await, ["before", "child"]);
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_in_progress_goes_on_in_children_and_their_replays_show_it_to_its_end() {
    let daemon = Daemon::start().await;
    let parent = daemon.sandbox().await;
    daemon.run(&parent, "echo before").await;
    let mut stream = begin_count(&daemon, &parent, 12, 6).await;
    stream.read_until("line-1").await;
    let children = daemon.fork(&parent, 2).await;
    let info = daemon.get(&children[0]).await.json();
    assert_eq!(info["running_execs"], 1);
    let grandchild = daemon.fork(&children[0], 1).await.remove(0);
    daemon.simulation.let_go();
    let mut expected = vec!["before".to_owned()];
    expected.extend(counted(12));
    for sandbox in children.iter().chain([&grandchild]) {
        let replay = daemon.get(&format!("{sandbox}/replay?follow=1")).await;
        assert_eq!(lines_of(&replay), expected);
        let last = replay.text().lines().last().unwrap().to_owned();
        assert!(last.starts_with(r#"{"type":"exit","data":0,"#), "{last}");
        assert_eq!(daemon.get(sandbox).await.json()["running_execs"], 0);
        assert_eq!(daemon.says(sandbox, "echo after").await, "after");
    }
    // The parent has noticed nothing.
    assert_eq!(stream.response().await.lines(EventKind::Stdout), counted(12));
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_follows_gets_heartbeats_and_interrupts_nothing() {
    let mut setup = Setup::default();
    setup.timing.heartbeat = Duration::from_millis(50);
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    let mut stream = begin_count(&daemon, &sandbox, 3, 1).await;
    stream.read_until("line-0").await;
    let mut impatient = Connection::open(daemon.address).await;
    impatient
        .send("GET", &format!("{sandbox}/replay?follow=1"), "", "")
        .await;
    impatient.read_until("line-0").await;
    drop(impatient);
    let mut patient = Connection::open(daemon.address).await;
    patient
        .send("GET", &format!("{sandbox}/replay?follow=1"), "", "")
        .await;
    // A heartbeat.
    patient.read_until("1\r\n\n\r\n").await;
    daemon.simulation.let_go();
    assert_eq!(lines_of(&patient.response().await), counted(3));
    assert_eq!(stream.response().await.lines(EventKind::Stdout), counted(3));
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_whose_client_went_away_ends_in_the_replay_too() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut connection = Connection::open(daemon.address).await;
    connection
        .send("POST", &format!("{sandbox}/exec"), "", r#"{"code":"hang"}"#)
        .await;
    connection.read_until("begun").await;
    drop(connection);
    eventually("the run is cancelled", || daemon.cancelled() == 1).await;
    let replay = daemon.get(&format!("{sandbox}/replay?follow=1")).await;
    assert_eq!(lines_of(&replay), ["begun", "unfinished"]);
    let text = replay.text();
    assert!(text.contains("the client went away"), "{text}");
    assert!(
        text.lines().last().unwrap().contains(r#""exit","data":130"#),
        "{text}"
    );
    daemon.stop().await;
}
