//! Daemons that vanish, and those that come after them.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::client::{Connection, Response};
use super::{Daemon, Setup, eventually, pool_of};
use crate::simulation::Simulation;

/// A data directory and the VMs of whichever daemon has it.
pub(super) struct House {
    simulation: Simulation,
    dir: Arc<TempDir>,
}

/// A daemon with a runtime of its own, so that it can vanish with all its tasks.
pub(super) struct Tenant {
    daemon: Option<Daemon>,
    runtime: Option<Runtime>,
}

impl House {
    pub(super) fn new() -> Self {
        let simulation = Simulation::default();
        simulation.live_here();
        Self {
            simulation,
            dir: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    pub(super) async fn daemon(&self, setup: Setup) -> Tenant {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (simulation, dir) = (self.simulation.clone(), Arc::clone(&self.dir));
        let daemon = runtime.spawn(async move { Daemon::open_shared(setup, simulation, dir).await });
        Tenant {
            daemon: Some(daemon.await.unwrap()),
            runtime: Some(runtime),
        }
    }

    /// Directories of VMs.
    fn homes(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("data/vms"))
            .unwrap()
            .count()
    }
}

impl Tenant {
    pub(super) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// What `kill -9` does.
    pub(super) async fn vanish(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.host.vanish();
        let lock = daemon.dir.path().join("data/hostd.lock");
        drop(daemon);
        // With its threads, which a process takes along: they make directories.
        let runtime = self.runtime.take().unwrap();
        let ending = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
        ending.await.unwrap();
        // It goes with the last of the daemon's tasks.
        eventually("the daemon's tasks have ended", || {
            File::open(&lock).unwrap().try_lock().is_ok()
        })
        .await;
    }

    pub(super) async fn stop(mut self) {
        let daemon = self.daemon.take().unwrap();
        let runtime = self.runtime.take().unwrap();
        runtime.spawn(async move { daemon.stop().await }).await.unwrap();
        runtime.shutdown_background();
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// VMs in the pool of the default template.
fn waiting(daemon: &Daemon) -> u32 {
    daemon.host.capacity(None).pools[0].size
}

fn id(path: &str) -> String {
    path.trim_start_matches("/v1/sandboxes/").to_owned()
}

/// What is said of a sandbox, but for what moves with the time.
async fn info(daemon: &Daemon, sandbox: &str) -> serde_json::Value {
    let mut info = daemon.get(sandbox).await.json();
    for moving in [
        "stats",
        "network",
        "expires_at_ms",
        "idle_expires_at_ms",
        "last_active_at_ms",
    ] {
        info[moving].take();
    }
    info
}

#[tokio::test]
async fn sandboxes_go_on_under_the_next_daemon_with_all_they_were() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let daemon = first.daemon();
    let body =
        r#"{"ram_mib":256,"rootfs_gb":8,"egress":false,"timeout_seconds":600,"idle_timeout_seconds":60}"#;
    let created = daemon.post("/v1/sandboxes", body).await;
    let parent = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
    daemon.run(&parent, "keep state").await;
    let children = daemon.fork(&parent, 2).await;
    let grandchild = daemon.fork(&children[0], 1).await.remove(0);
    let all = [&parent, &children[0], &children[1], &grandchild];
    let mut before = Vec::new();
    for sandbox in all {
        before.push(info(daemon, sandbox).await);
    }
    let lives_until = daemon.get(&parent).await.json()["expires_at_ms"]
        .as_u64()
        .unwrap();
    let capacity = daemon.get("/v1/capacity").await.json();
    let deleted = daemon.sandbox().await;
    daemon.delete(&deleted).await;
    first.vanish().await;

    let second = house.daemon(Setup::default()).await;
    let daemon = second.daemon();
    // A lifetime counts on from the creation, by the same clock.
    let expires = daemon.get(&parent).await.json()["expires_at_ms"]
        .as_u64()
        .unwrap();
    assert!(expires.abs_diff(lives_until) < 1000, "{expires} {lives_until}");
    for (sandbox, before) in all.into_iter().zip(before) {
        assert_eq!(info(daemon, sandbox).await, before);
        assert_eq!(daemon.says(sandbox, "kept").await, "state");
    }
    assert_eq!(daemon.get(&deleted).await.status, 404);
    let now = daemon.get("/v1/capacity").await.json();
    assert_eq!(now["memory"]["used_mib"], capacity["memory"]["used_mib"]);
    // They are whole: what could be done with them can be done.
    let more = daemon.fork(&grandchild, 1).await.remove(0);
    assert_eq!(info(daemon, &more).await["generation"], 3);
    assert_eq!(daemon.says(&more, "kept").await, "state");
    for sandbox in all {
        assert_eq!(daemon.delete(sandbox).await.status, 204);
    }
    second.stop().await;
    assert_eq!(house.homes(), 0);
}

#[tokio::test]
async fn what_nobody_was_told_of_ends_and_pools_are_filled_anew() {
    let house = House::new();
    let pool = || Setup {
        pools: pool_of(2),
        ..Setup::default()
    };
    let mut first = house.daemon(pool()).await;
    eventually("the pool is full", || waiting(first.daemon()) == 2).await;
    let sandbox = first.daemon().sandbox().await;
    first.daemon().run(&sandbox, "keep me").await;
    // Beside the sandbox two that wait and the zygotes of both templates.
    let all_are_there = || house.simulation.seen.alive.load(Ordering::SeqCst) == 5;
    eventually("the pool is full again", all_are_there).await;
    first.vanish().await;

    let second = house.daemon(pool()).await;
    assert_eq!(second.daemon().says(&sandbox, "kept").await, "me");
    eventually("the pool of the next daemon is full", || {
        waiting(second.daemon()) == 2 && all_are_there()
    })
    .await;
    second.stop().await;
    assert_eq!(house.homes(), 0);
}

#[tokio::test]
async fn a_sandbox_whose_vm_ended_meanwhile_is_known_and_says_so() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let (ended, failed) = (first.daemon().sandbox().await, first.daemon().sandbox().await);
    let pid = |info: Response| u32::try_from(info.json()["vmm_pid"].as_u64().unwrap()).unwrap();
    let pid_ended = pid(first.daemon().get(&ended).await);
    first.daemon().run(&failed, "panic").await;
    let why = first.daemon().get(&failed).await.json()["last_error"].clone();
    first.vanish().await;
    house.simulation.kill(pid_ended);

    let mut second = house.daemon(Setup::default()).await;
    let info = second.daemon().get(&ended).await.json();
    assert_eq!(info["state"], "failed");
    assert_eq!(info["last_error"], "the VM ended while no daemon was running");
    assert_eq!(second.daemon().get(&failed).await.json()["last_error"], why);
    assert_eq!(second.daemon().delete(&failed).await.status, 204);
    second.vanish().await;
    let third = house.daemon(Setup::default()).await;
    assert_eq!(
        third.daemon().get(&ended).await.json()["last_error"],
        info["last_error"]
    );
    assert_eq!(third.daemon().get(&failed).await.status, 404);
    third.daemon().delete(&ended).await;
    third.stop().await;
    assert_eq!(house.homes(), 0);
}

#[tokio::test]
async fn a_merge_holds_and_the_family_is_what_it_was() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let daemon = first.daemon();
    let parent = daemon.sandbox().await;
    let winner = daemon.fork(&parent, 1).await.remove(0);
    let child = daemon.fork(&winner, 1).await.remove(0);
    daemon.run(&winner, "keep won").await;
    let merged = format!("{parent}/merge_into/{}", id(&winner));
    assert_eq!(daemon.post(&merged, "").await.status, 204);
    first.vanish().await;

    let second = house.daemon(Setup::default()).await;
    let daemon = second.daemon();
    assert_eq!(daemon.says(&parent, "kept").await, "won");
    assert_eq!(daemon.get(&winner).await.status, 404);
    assert_eq!(
        daemon.get(&parent).await.json()["parent"],
        serde_json::Value::Null
    );
    assert_eq!(daemon.get(&child).await.json()["parent"], id(&parent));
    assert_eq!(
        daemon.get(&parent).await.json()["children"],
        serde_json::json!([id(&child)])
    );
    second.stop().await;
}

#[tokio::test]
async fn a_daemon_that_hands_over_leaves_its_sandboxes_running() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let sandbox = first.daemon().sandbox().await;
    first.daemon().run(&sandbox, "keep on").await;
    let host = Arc::clone(&first.daemon().host);
    assert_eq!(host.leave_running().await, 1);
    let refused = first.daemon().post("/v1/sandboxes", "{}").await;
    assert_eq!(refused.status, 503);
    drop(host);
    first.vanish().await;
    let second = house.daemon(Setup::default()).await;
    assert_eq!(second.daemon().says(&sandbox, "kept").await, "on");
    second.stop().await;
}

#[tokio::test]
async fn a_full_quota_does_not_keep_what_exists_and_counts_it() {
    let house = House::new();
    let keys = || Setup {
        keys: Some("k1"),
        ..Setup::default()
    };
    let call = async |daemon: &Daemon, method: &str, path: &str| {
        let mut connection = Connection::open(daemon.address).await;
        connection
            .send(method, path, "authorization: Bearer k1\r\n", "")
            .await;
        connection.response().await
    };
    let mut first = house.daemon(keys()).await;
    let made = call(first.daemon(), "POST", "/v1/sandboxes").await;
    let sandbox = format!("/v1/sandboxes/{}", made.json()["id"].as_str().unwrap());
    first.vanish().await;
    let second = house.daemon(keys()).await;
    assert_eq!(call(second.daemon(), "GET", &sandbox).await.status, 200);
    assert_eq!(second.daemon().get(&sandbox).await.status, 401);
    let held: u64 = second
        .daemon()
        .host
        .tenants()
        .accounts()
        .iter()
        .map(|account| account.held())
        .sum();
    assert_eq!(held, 1);
    second.stop().await;
}

#[tokio::test]
async fn a_run_in_progress_goes_on_and_its_replay_is_whole() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let sandbox = first.daemon().sandbox().await;
    first.daemon().run(&sandbox, "echo before").await;
    let mut client = Connection::open(first.daemon().address).await;
    let exec = format!("{sandbox}/exec");
    client
        .send("POST", &exec, "", r#"{"code":"count 60 1 30"}"#)
        .await;
    client.read_until("line-7").await;
    first.vanish().await;

    let mut second = house.daemon(Setup::default()).await;
    let info = second.daemon().get(&sandbox).await.json();
    assert_eq!(info["running_execs"], 1);
    second.vanish().await;

    let third = house.daemon(Setup::default()).await;
    house.simulation.let_go();
    let followed = third.daemon().get(&format!("{sandbox}/replay?follow=true")).await;
    let events: Vec<api::Event> = followed
        .text()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines: Vec<String> = events
        .iter()
        .filter_map(|event| match &event.data {
            api::EventData::Line(line) => Some(line.clone()),
            api::EventData::Code(_) => None,
        })
        .collect();
    let mut expected = vec!["before".to_owned()];
    expected.extend((0..60).map(|number| format!("line-{number}")));
    assert_eq!(lines, expected);
    assert_eq!(events.last().unwrap().data, api::EventData::Code(0));
    // A child of it has the same, under the next daemon, too.
    let child = third.daemon().fork(&sandbox, 1).await.remove(0);
    let replay = third.daemon().get(&format!("{child}/replay")).await.text();
    assert_eq!(
        replay,
        third.daemon().get(&format!("{sandbox}/replay")).await.text()
    );
    let mut third = third;
    third.vanish().await;
    let fourth = house.daemon(Setup::default()).await;
    assert_eq!(
        fourth.daemon().get(&format!("{child}/replay")).await.text(),
        replay
    );
    fourth.stop().await;
}

#[tokio::test]
async fn a_run_that_is_over_in_the_guest_is_closed_in_the_replay() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let sandbox = first.daemon().sandbox().await;
    let mut client = Connection::open(first.daemon().address).await;
    let exec = format!("{sandbox}/exec");
    client.send("POST", &exec, "", r#"{"code":"hang"}"#).await;
    client.read_until("begun").await;
    first.vanish().await;
    let second = house.daemon(Setup::default()).await;
    let replay = second.daemon().get(&format!("{sandbox}/replay")).await.text();
    assert!(
        replay.contains("the end of this run was lost when the host was restarted"),
        "{replay}"
    );
    assert_eq!(second.daemon().get(&sandbox).await.json()["running_execs"], 0);
    second.stop().await;
}

#[tokio::test]
async fn a_rollback_and_other_terms_hold_under_the_next_daemon_and_so_do_checkpoints() {
    let house = House::new();
    let mut first = house.daemon(Setup::default()).await;
    let daemon = first.daemon();
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep early").await;
    let made = daemon
        .post(&format!("{sandbox}/checkpoints"), r#"{"name":"a"}"#)
        .await;
    assert!(made.status < 300, "{}", made.text());
    daemon.run(&sandbox, "keep late").await;
    for name in ["b", "c"] {
        let body = format!(r#"{{"name":"{name}"}}"#);
        let made = daemon.post(&format!("{sandbox}/checkpoints"), &body).await;
        assert_eq!(made.status, 200, "{}", made.text());
    }
    daemon.delete(&format!("{sandbox}/checkpoints/c")).await;
    let checkpoints = daemon.get(&sandbox).await.json()["checkpoints"].clone();
    let alone = daemon.sandbox().await;
    let lost = daemon.post(&format!("{alone}/checkpoints"), "").await;
    assert_eq!(lost.status, 200, "{}", lost.text());
    daemon.delete(&alone).await;
    let back = daemon
        .post(&format!("{sandbox}/rollback"), r#"{"checkpoint":"a"}"#)
        .await;
    assert_eq!(back.status, 200, "{}", back.text());
    let body = r#"{"timeout_seconds":4242}"#;
    let changed = super::client::request(daemon.address, "PATCH", &sandbox, body).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    first.vanish().await;
    let second = house.daemon(Setup::default()).await;
    let daemon = second.daemon();
    assert_eq!(daemon.says(&sandbox, "kept").await, "early");
    let info = daemon.get(&sandbox).await.json();
    assert_eq!(info["timeout_seconds"], 4242);
    assert_eq!(info["checkpoints"], checkpoints);
    assert_eq!(daemon.alive(), 3);
    for (name, said) in [("b", "late"), ("a", "early")] {
        let body = format!(r#"{{"checkpoint":"{name}"}}"#);
        let back = daemon.post(&format!("{sandbox}/rollback"), &body).await;
        assert_eq!(back.status, 200, "{}", back.text());
        assert_eq!(daemon.says(&sandbox, "kept").await, said);
    }
    second.stop().await;
    assert_eq!(house.homes(), 0);
}
