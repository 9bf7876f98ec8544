//! Forking, merging and who comes from whom.

use std::time::Duration;

use api::EventKind;

use super::client::Connection;
use super::{Daemon, Setup, eventually};

fn id(path: &str) -> &str {
    path.trim_start_matches("/v1/sandboxes/")
}

#[tokio::test]
async fn children_have_what_the_parent_had_and_nothing_of_what_came_later() {
    let daemon = Daemon::start().await;
    let created = daemon
        .post(
            "/v1/sandboxes",
            r#"{"ram_mib":256,"rootfs_gb":8,"egress":false,"timeout_seconds":60}"#,
        )
        .await;
    let parent = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
    daemon.run(&parent, "keep before").await;
    let children = daemon.fork(&parent, 3).await;
    daemon.run(&parent, "keep after").await;
    daemon.run(&children[0], "keep mine").await;
    assert_eq!(daemon.says(&parent, "kept").await, "after");
    assert_eq!(daemon.says(&children[0], "kept").await, "mine");
    assert_eq!(daemon.says(&children[1], "kept").await, "before");
    let mut names = Vec::new();
    for sandbox in children.iter().chain([&parent]) {
        let name = daemon.says(sandbox, "hostname").await;
        assert_eq!(name, format!("sbx-{}", &id(sandbox)[4..16]));
        names.push(name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
    // The spec is inherited; one child counts for less than a boot.
    let info = daemon.get(&children[1]).await.json();
    assert_eq!(info["ram_mib"], 256);
    assert_eq!(info["rootfs_gb"], 8);
    assert_eq!(info["egress"], false);
    assert_eq!(info["timeout_seconds"], 60);
    assert_eq!(
        (&info["parent"], &info["generation"]),
        (&id(&parent).into(), &1.into())
    );
    assert_eq!(info["source"], "fork");
    let used = daemon.get("/v1/capacity").await.json()["memory"]["used_mib"].clone();
    assert_eq!(used, 256 + 3 * 64);
    // A child of a child, after both above it are gone.
    let grandchild = daemon.fork(&children[0], 1).await.remove(0);
    daemon.delete(&parent).await;
    daemon.delete(&children[0]).await;
    assert_eq!(daemon.says(&grandchild, "kept").await, "mine");
    let info = daemon.get(&grandchild).await.json();
    assert_eq!(
        (&info["parent"], &info["generation"]),
        (&id(&children[0]).into(), &2.into())
    );
    daemon.stop().await;
}

#[tokio::test]
async fn how_many_is_1_to_32_and_the_sandbox_must_be_there() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let path = format!("{sandbox}/fork");
    for body in [r#"{"n":0}"#, r#"{"n":33}"#, r#"{"n":"2"}"#] {
        let refused = daemon.post(&path, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_field"));
    }
    let one = daemon.post(&path, "").await;
    assert_eq!(one.json()["children"].as_array().unwrap().len(), 1);
    assert!(one.header("server-timing").unwrap().contains("clone;dur="));
    assert_eq!(daemon.fork(&sandbox, 32).await.len(), 32);
    let unknown = "/v1/sandboxes/sbx_00000000000000000000000000000000/fork";
    assert_eq!(daemon.post(unknown, "{}").await.status, 404);
    // Memory is counted: 64 MiB for each of so many clones.
    let too_many = daemon.post(&path, r#"{"n":32}"#).await;
    assert_eq!((too_many.status, too_many.code().as_str()), (503, "no_capacity"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_in_progress_is_not_disturbed_by_a_fork() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut run = Connection::open(daemon.address).await;
    run.send("POST", &format!("{sandbox}/exec"), "", r#"{"code":"wait"}"#)
        .await;
    eventually("it runs", || daemon.host.capacity(None).execs.running == 1).await;
    let children = daemon.fork(&sandbox, 2).await;
    assert_eq!(daemon.says(&children[1], "echo here").await, "here");
    daemon.simulation.let_go();
    assert_eq!(run.response().await.lines(EventKind::Stdout), ["waited"]);
    daemon.stop().await;
}

#[tokio::test]
async fn a_fork_that_goes_wrong_harms_nobody_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let path = format!("{sandbox}/fork");
    daemon.simulation.faults.lock().unwrap().nameless = 1;
    let refused = daemon.post(&path, r#"{"n":3}"#).await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "fork_failed"));
    assert!(
        refused.text().contains("did not take on its identity"),
        "{}",
        refused.text()
    );
    daemon.simulation.faults.lock().unwrap().nameless = 0;
    daemon.simulation.faults.lock().unwrap().fewer = true;
    let refused = daemon.post(&path, r#"{"n":3}"#).await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "fork_failed"));
    assert!(
        refused.text().contains("2 of 3 clones: no more processes"),
        "{}",
        refused.text()
    );
    daemon.simulation.faults.lock().unwrap().fewer = false;
    eventually("the children that were made are gone", || {
        daemon.alive() == 1 && daemon.vm_dirs() == 1
    })
    .await;
    assert_eq!(daemon.get("/v1/capacity").await.json()["memory"]["used_mib"], 512);
    assert_eq!(daemon.says(&sandbox, "echo well").await, "well");
    assert_eq!(daemon.fork(&sandbox, 2).await.len(), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_parent_that_dies_while_it_is_forked_fails_the_call_and_the_sandbox() {
    let daemon = Daemon::start().await;
    let (sandbox, other) = (daemon.sandbox().await, daemon.sandbox().await);
    daemon.simulation.faults.lock().unwrap().dies_cloning = true;
    let refused = daemon.post(&format!("{sandbox}/fork"), "{}").await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "fork_failed"));
    daemon.simulation.faults.lock().unwrap().dies_cloning = false;
    let again = daemon.post(&format!("{sandbox}/fork"), "{}").await;
    assert_eq!((again.status, again.code().as_str()), (500, "sandbox_failed"));
    assert_eq!(daemon.fork(&other, 1).await.len(), 1);
    daemon.stop_with_orphans().await;
}

#[tokio::test]
async fn a_child_is_not_harmed_by_the_death_of_its_parent_or_sibling() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep all").await;
    let children = daemon.fork(&sandbox, 3).await;
    let pid = |info: serde_json::Value| u32::try_from(info["vmm_pid"].as_u64().unwrap()).unwrap();
    for dead in [&sandbox, &children[0]] {
        daemon.simulation.kill(pid(daemon.get(dead).await.json()));
        let failed = async || daemon.get(dead).await.json()["state"] == "failed";
        while !failed().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for alive in &children[1..] {
        assert_eq!(daemon.says(alive, "kept").await, "all");
    }
    assert_eq!(daemon.fork(&children[1], 1).await.len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_merge_puts_the_winner_in_the_place_of_its_parent() {
    let daemon = Daemon::start().await;
    let parent = daemon.sandbox().await;
    let children = daemon.fork(&parent, 3).await;
    daemon.run(&children[1], "keep won").await;
    let winners = daemon.fork(&children[1], 1).await;
    let created = daemon.get(&parent).await.json()["created_at_ms"].clone();
    let mut losing = Connection::open(daemon.address).await;
    losing
        .send("POST", &format!("{parent}/exec"), "", r#"{"code":"hang"}"#)
        .await;
    let mut winning = Connection::open(daemon.address).await;
    winning
        .send("POST", &format!("{}/exec", children[1]), "", r#"{"code":"wait"}"#)
        .await;
    eventually("both run", || daemon.host.capacity(None).execs.running == 2).await;
    let merged = daemon
        .post(&format!("{parent}/merge_into/{}", id(&children[1])), "")
        .await;
    assert_eq!((merged.status, merged.body.len()), (204, 0));
    assert_eq!(daemon.says(&parent, "kept").await, "won");
    assert_eq!(daemon.get(&children[1]).await.status, 404);
    assert_eq!(daemon.run(&children[1], "echo").await.status, 404);
    assert_eq!(daemon.delete(&children[1]).await.status, 204);
    // What ran in the winner goes on, what ran in the loser is told.
    daemon.simulation.let_go();
    assert_eq!(winning.response().await.lines(EventKind::Stdout), ["waited"]);
    let word = "podflare: another sandbox has taken the place of this one";
    assert_eq!(losing.response().await.lines(EventKind::Stderr), [word]);
    // Siblings are untouched, and all are children of the id that stays.
    assert_eq!(daemon.says(&children[0], "echo here").await, "here");
    let info = daemon.get(&parent).await.json();
    let mut expected: Vec<&str> = [&children[0], &children[2], &winners[0]]
        .map(|path| id(path))
        .into();
    expected.sort_unstable();
    assert_eq!(info["children"], serde_json::json!(expected));
    assert_eq!(
        (&info["parent"], &info["created_at_ms"]),
        (&serde_json::Value::Null, &created)
    );
    // A second time, into itself, and with strangers.
    let again = daemon
        .post(&format!("{parent}/merge_into/{}", id(&children[1])), "")
        .await;
    assert_eq!((again.status, again.code().as_str()), (404, "sandbox_not_found"));
    let itself = daemon
        .post(&format!("{parent}/merge_into/{}", id(&parent)), "")
        .await;
    assert_eq!((itself.status, itself.code().as_str()), (400, "invalid_field"));
    let nonsense = daemon.post(&format!("{parent}/merge_into/nobody"), "").await;
    assert_eq!(nonsense.status, 404);
    eventually("the loser's VM is gone", || {
        daemon.alive() == 4 && daemon.vm_dirs() == 4
    })
    .await;
    daemon.delete(&parent).await;
    eventually("the winner's VM too", || daemon.alive() == 3).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_merge_saves_a_sandbox_that_has_failed_and_needs_a_winner_that_has_not() {
    let daemon = Daemon::start().await;
    let parent = daemon.sandbox().await;
    daemon.run(&parent, "keep safe").await;
    let children = daemon.fork(&parent, 2).await;
    daemon.run(&parent, "panic").await;
    let refused = daemon
        .post(&format!("{}/merge_into/{}", children[1], id(&parent)), "")
        .await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "state_conflict"));
    let merged = daemon
        .post(&format!("{parent}/merge_into/{}", id(&children[0])), "")
        .await;
    assert_eq!(merged.status, 204);
    assert_eq!(daemon.says(&parent, "kept").await, "safe");
    daemon.stop().await;
}

#[tokio::test]
async fn ten_levels_of_thought_leave_as_much_as_was_there_before() {
    let daemon = Daemon::start().await;
    let root = daemon.sandbox().await;
    for level in 0..10 {
        let children = daemon.fork(&root, 5).await;
        for (number, child) in children.iter().enumerate() {
            daemon.run(child, &format!("keep {level}.{number}")).await;
        }
        let winner = id(&children[level % 5]);
        assert_eq!(
            daemon
                .post(&format!("{root}/merge_into/{winner}"), "")
                .await
                .status,
            204
        );
        for loser in &children {
            daemon.delete(loser).await;
        }
        assert_eq!(daemon.says(&root, "kept").await, format!("{level}.{}", level % 5));
    }
    assert_eq!(daemon.get(&root).await.json()["generation"], 10);
    eventually("one VM is left", || daemon.alive() == 1 && daemon.vm_dirs() == 1).await;
    eventually("one clone counts", || {
        daemon.host.capacity(None).memory.used_mib == 64
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_fork_whose_client_goes_away_leaves_nothing() {
    let daemon = Daemon::with(Setup::default()).await;
    let sandbox = daemon.sandbox().await;
    for _ in 0..5 {
        let mut connection = Connection::open(daemon.address).await;
        connection
            .send("POST", &format!("{sandbox}/fork"), "", r#"{"n":4}"#)
            .await;
        drop(connection);
    }
    // Those that were made whole are listed and can be deleted; the others are gone.
    eventually("no fork is in progress", || !daemon.host.is_busy()).await;
    let list = daemon.get("/v1/sandboxes").await.json();
    for listed in list["sandboxes"].as_array().unwrap() {
        daemon
            .delete(&format!("/v1/sandboxes/{}", listed["id"].as_str().unwrap()))
            .await;
    }
    eventually("nothing is left", || daemon.alive() == 0 && daemon.vm_dirs() == 0).await;
    daemon.stop().await;
}
